//! Temporary credentials: issued, alive, expired, revoked.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::random::Random;
use crate::roles::RoleSession;
use crate::users::User;

/// What tokens of AWS start with: base64 of a short binary header and the word `origin_ec`.
const TOKEN_HEAD: &str = "IQoJb3JpZ2luX2VjE";

/// Random bytes of a token. AWS promises no size; with the head this gives 444 characters.
const TOKEN_BYTES: usize = 320;

/// Whom a session acts as.
pub(crate) enum Holder {
    /// The user who asked `GetSessionToken` for it.
    User(User),
    Role(RoleSession),
}

/// One session. Its keys, its token and its MFA stay together: a token is good with its own access
/// key only.
pub(crate) struct Session {
    /// 1 for the first session the sandbox issued, and so on.
    pub(crate) number: u64,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) token: String,
    pub(crate) holder: Holder,
    pub(crate) expiration: SystemTime,
    length: Duration,
    /// The MFA that the session carries: when the code was given.
    pub(crate) mfa_at: Option<SystemTime>,
    ended: AtomicBool,
}

impl Session {
    pub(crate) fn is_expired(&self, now: SystemTime) -> bool {
        self.ended.load(Ordering::SeqCst) || now >= self.expiration
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// A handle to all sessions the sandbox issued.
#[derive(Clone, Debug)]
pub struct Sessions {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_access_key: HashMap<String, Arc<Session>>,
    issued: u64,
    longest: Option<Duration>,
    short_allowed: bool,
}

impl Sessions {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            state: Arc::new(State {
                clock,
                inner: Mutex::default(),
            }),
        }
    }

    /// Expires every session issued so far; S3 answers them as
    /// [`ExpiryStyle`](crate::ExpiryStyle) says, STS with 403 `ExpiredToken`.
    pub fn expire_all(&self) {
        for session in self.state.inner.lock().by_access_key.values() {
            session.ended.store(true, Ordering::SeqCst);
        }
    }

    /// Forgets every session issued so far; their access keys answer 403 `InvalidAccessKeyId`.
    pub fn revoke_all(&self) {
        self.state.inner.lock().by_access_key.clear();
    }

    /// Limits sessions issued from now on to `longest`, even below the 900 s that AWS never goes
    /// below. Whoever asks for more is given less without an error, as with keys of a root user.
    pub fn set_max_session(&self, longest: Duration) {
        self.state.inner.lock().longest = Some(longest);
    }

    /// Lets `DurationSeconds` below 900 through (1 and more), which AWS refuses.
    pub fn allow_short_sessions(&self, allowed: bool) {
        self.state.inner.lock().short_allowed = allowed;
    }

    /// Returns how many sessions are alive.
    pub fn live_count(&self) -> usize {
        let now = self.state.clock.now();
        self.state
            .inner
            .lock()
            .by_access_key
            .values()
            .filter(|session| !session.is_expired(now))
            .count()
    }

    /// Returns how many sessions were issued, dead ones included. It is the number of the latest one,
    /// to which [`RequestRecord::session`](crate::RequestRecord::session) refers.
    pub fn issued_count(&self) -> u64 {
        self.state.inner.lock().issued
    }

    /// Returns whose the latest session is, and how long it lasts; `None` if none was issued, or it is
    /// revoked.
    pub fn latest(&self) -> Option<(String, Duration)> {
        let inner = self.state.inner.lock();
        let mut sessions = inner.by_access_key.values();
        let session = sessions.find(|session| session.number == inner.issued)?;
        let arn = match &session.holder {
            Holder::User(user) => user.arn().to_owned(),
            Holder::Role(role) => role.arn.clone(),
        };
        Some((arn, session.length))
    }

    /// Returns the secret access keys and the tokens of every session that is not revoked, for tests
    /// that look for them where they must not be.
    pub fn secrets(&self) -> Vec<String> {
        let inner = self.state.inner.lock();
        let sessions = inner.by_access_key.values();
        sessions
            .flat_map(|session| [session.secret_access_key.clone(), session.token.clone()])
            .collect()
    }

    pub(crate) fn are_short_allowed(&self) -> bool {
        self.state.inner.lock().short_allowed
    }

    pub(crate) fn issue(
        &self,
        holder: Holder,
        length: Duration,
        mfa_at: Option<SystemTime>,
        random: &Random,
    ) -> Arc<Session> {
        let now = self.state.clock.now();
        let mut inner = self.state.inner.lock();
        inner.issued += 1;
        let length = inner.longest.map_or(length, |longest| length.min(longest));
        let session = Arc::new(Session {
            number: inner.issued,
            access_key_id: format!("ASIA{}", random.base32(16)),
            secret_access_key: random.base64(30),
            token: format!("{TOKEN_HEAD}{}", random.base64(TOKEN_BYTES)),
            holder,
            expiration: now + length,
            length,
            mfa_at,
            ended: AtomicBool::new(false),
        });
        inner
            .by_access_key
            .insert(session.access_key_id.clone(), session.clone());
        session
    }

    pub(crate) fn by_access_key(&self, access_key_id: &str) -> Option<Arc<Session>> {
        self.state
            .inner
            .lock()
            .by_access_key
            .get(access_key_id)
            .cloned()
    }
}
