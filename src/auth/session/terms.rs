//! What is said about sessions: what one is, what a better one must be, and why one is needed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;

use crate::auth::Rung;
use crate::clock::wall_time;

/// How long before its end a session's renewal is offered, if it lives long enough.
const LEAD: Duration = Duration::from_secs(600);

/// Counts the sessions of a mount; each renewal makes the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Generation(pub(crate) u64);

/// What a login hands over.
pub(crate) struct Granted {
    /// The keys and the token.
    pub(crate) credentials: Credentials,
    /// When they end; `None` for keys that do not.
    pub(crate) expires: Option<SystemTime>,
    /// When a person gave a code for them, or else when they were got.
    pub(crate) authenticated: SystemTime,
    /// Until when the next session needs no further code, if that ends.
    pub(crate) code_until: Option<SystemTime>,
    /// How they were got.
    pub(crate) rung: Rung,
    /// Whether they were issued just now, rather than found where another program has left them.
    pub(crate) is_new: bool,
}

/// A session that S3 accepted, or at least STS granted.
pub(crate) struct Session {
    /// Which one of this mount's sessions it is.
    pub(crate) generation: Generation,
    /// The keys and the token. Only the store signs with them.
    pub(crate) credentials: Credentials,
    /// When it ends; `None` for keys that do not.
    pub(crate) expires: Option<SystemTime>,
    /// When the code was accepted: `aws:MultiFactorAuthAge` counts from here. Without a code,
    /// when the keys were got.
    pub(crate) authenticated: SystemTime,
    /// Until when the next session needs no further code, if that ends.
    pub(crate) code_until: Option<SystemTime>,
    /// How it was got.
    pub(crate) rung: Rung,
    /// Whether it was issued to this mount just when it was got.
    pub(crate) is_new: bool,
}

impl Session {
    /// When it ends under an age limit, and what it has died of then.
    pub(super) fn end(&self, age_limit: Option<Duration>) -> Option<(SystemTime, Reason)> {
        let too_old = age_limit
            .filter(|_| self.rung.has_mfa())
            .map(|limit| (self.authenticated + limit, Reason::TooOld(limit)));
        let expired = self.expires.map(|end| (end, Reason::Expired(end)));
        [too_old, expired]
            .into_iter()
            .flatten()
            .min_by_key(|(end, _)| *end)
    }

    /// When a new code will be needed, and how long before that it is worth saying.
    pub(super) fn code_end(&self, age_limit: Option<Duration>) -> Option<(SystemTime, Duration)> {
        let too_old = age_limit
            .filter(|_| self.rung.has_mfa())
            .map(|limit| self.authenticated + limit);
        let end = [too_old, self.code_until].into_iter().flatten().min()?;
        let life = end.duration_since(self.authenticated).unwrap_or_default();
        Some((end, LEAD.min(life / 6)))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("generation", &self.generation)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why a code is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The mount's first session.
    FirstLogin,
    /// The session reached its end.
    Expired(SystemTime),
    /// S3 called the session expired or invalid.
    Rejected(SystemTime),
    /// S3 denies what it allowed before: the policy's MFA age limit. The age reached.
    TooOld(Duration),
    /// S3 denies it to keys without MFA.
    WithoutMfa,
    /// Somebody locked the mount.
    Locked(SystemTime),
    /// The person logged out of this machine.
    LoggedOut(SystemTime),
    /// Somebody asked for a new session.
    Requested,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstLogin => write!(f, "the bucket demands MFA"),
            Self::Expired(at) => write!(f, "the session expired at {}", wall_time(*at)),
            Self::Rejected(at) => write!(f, "the session ended at {}", wall_time(*at)),
            Self::TooOld(age) => write!(
                f,
                "the bucket's policy wants a fresher code than one of {} s ago",
                age.as_secs()
            ),
            Self::WithoutMfa => write!(f, "S3 denies it without MFA"),
            Self::Locked(at) => write!(f, "the mount was locked at {}", wall_time(*at)),
            Self::LoggedOut(at) => write!(f, "you logged out at {}", wall_time(*at)),
            Self::Requested => write!(f, "a new session was asked for"),
        }
    }
}

/// What a new session must be, to be better than the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Not that of this access key: S3 refuses it.
    pub(crate) rejected: Option<String>,
    /// With a code that was accepted after this.
    pub(crate) after: Option<SystemTime>,
    /// Somebody wants it now, whatever was refused.
    pub(crate) insists: bool,
}

impl Demand {
    /// What a session must be that takes the place of one that was lost for a reason.
    pub(super) fn better_than(session: &Session, reason: Reason) -> Self {
        let id = || Some(session.credentials.access_key_id().to_owned());
        match reason {
            Reason::Rejected(_) => Self {
                rejected: id(),
                ..Self::default()
            },
            Reason::TooOld(_) => Self {
                rejected: id(),
                after: Some(session.authenticated),
                ..Self::default()
            },
            Reason::Locked(at) | Reason::LoggedOut(at) => Self {
                after: Some(at),
                ..Self::default()
            },
            Reason::FirstLogin | Reason::Expired(_) | Reason::WithoutMfa | Reason::Requested => {
                Self::default()
            }
        }
    }
}

/// What the outside may know of the session.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// No session, and nobody is being asked.
    Locked(Reason),
    /// Somebody is being asked for a code.
    Asking(Reason),
    /// Requests are served.
    Live(Arc<Session>),
}

/// How long requests wait, and how long nobody is asked again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// `--prompt-timeout`.
    pub(crate) wait: Duration,
    /// `--prompt-cooldown`, the first of the three.
    pub(crate) cool_down: Duration,
}
