//! Who asks for a session, and who gets one: a login.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use super::terms::{Demand, Generation, Granted, Reason, Session};
use crate::auth::prompt::{Ask, Panel, Waiters};
use crate::auth::sources::Sources;
use crate::auth::{AuthError, Rung};

/// Who waits for a session, and whether they may have a person asked.
///
/// Almost all requests find a session and need nobody's name, so the name is found out only
/// when somebody is about to be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The thread that waits, 0 if it has none here.
    pub(crate) tid: u32,
    /// Tells who that is.
    pub(crate) identify: fn(u32) -> Identity,
}

/// What a prompt says about its cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    /// The program, as `cat (4711)`; empty for the mount itself.
    pub(crate) program: String,
    /// Whether it may cause a prompt.
    pub(crate) may_prompt: bool,
}

impl Asker {
    /// The mount itself, or the person at its controls.
    pub(crate) fn person() -> Self {
        Self {
            tid: 0,
            identify: |_| Identity {
                program: String::new(),
                may_prompt: true,
            },
        }
    }

    /// Nobody: what the daemon does by itself never causes a prompt.
    pub(crate) fn nobody() -> Self {
        Self {
            tid: 0,
            identify: |_| Identity::default(),
        }
    }
}

/// What a prompt is told about its cause.
#[derive(Clone)]
pub(crate) struct LoginRequest {
    /// Why a code is needed.
    pub(crate) reason: Reason,
    /// Who needs it first.
    pub(crate) program: String,
    /// The threads that wait.
    pub(crate) waiters: Waiters,
    /// Whom to ask.
    pub(crate) panel: Panel,
    /// Whether a person may be asked at all.
    pub(crate) may_ask: bool,
    /// Whether the panel is a place that somebody named, and not where the mount would ask.
    pub(crate) is_elsewhere: bool,
    /// Which session will do.
    pub(crate) demand: Demand,
}

/// Turns a person's code into a session.
pub(crate) trait Login: Send + Sync + 'static {
    /// Asks, as often as it takes, and returns the session or the reason for having none.
    ///
    /// Dropping the future closes the dialog.
    fn login(&self, request: LoginRequest) -> BoxFuture<'static, Result<Granted, AuthError>>;

    /// Whom a login asks if nobody else is named.
    fn asker(&self) -> Arc<dyn Ask>;

    /// Makes the next login stand higher than this; `false` if there is nothing higher.
    fn climb(&self, from: Rung) -> bool;

    /// Whether a login would succeed now without anybody being asked, as far as can be told
    /// without waiting.
    fn is_at_hand(&self, demand: &Demand) -> bool;

    /// Whether it was found out that there is no device to get a code from.
    fn is_without_device(&self) -> bool;

    /// S3 accepted what it denied to a lower rung.
    fn worked(&self, rung: Rung);

    /// How old a code may become, as far as it was said or learned.
    fn age_limit(&self) -> Option<Duration>;

    /// S3 wants a fresher code than one of this age. `false` if that is not to be believed.
    fn learn_age_limit(&self, limit: Duration) -> bool;

    /// Forgets what the next login could use without asking.
    fn forget(&self);

    /// Where a login would read its keys, as it is at this moment.
    fn sources(&self) -> BoxFuture<'static, Sources>;
}

/// What somebody waits for.
pub(super) enum Wish {
    /// A session.
    Any,
    /// One that is newer than this; the present one goes on meanwhile.
    Newer(Generation, Reason),
    /// One whose code is given after a moment, although there may be one; asked here, if somebody
    /// is given.
    Now(SystemTime, Option<Arc<dyn Ask>>),
}

impl Wish {
    /// Whether a session is not the one that was asked for.
    pub(super) fn wants_more_than(&self, session: &Session) -> bool {
        match self {
            Self::Now(after, _) => session.rung.has_code() && session.authenticated < *after,
            Self::Any | Self::Newer(..) => false,
        }
    }
}
