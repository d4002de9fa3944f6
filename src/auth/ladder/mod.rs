//! The ways to a session, from the one that asks least of the person upwards.
//!
//! | rung | what it does | carries MFA to S3 |
//! |---|---|---|
//! | plain | the keys as they are | no |
//! | sso | the role of IAM Identity Center | no: `MultiFactorAuthPresent` is false |
//! | role | AssumeRole, with a code if the trust policy wants one | no |
//! | session-token | GetSessionToken with a code | yes |
//! | session-token-then-role | the same, then AssumeRole for an hour at a time without a code | yes |
//!
//! Sources: IAM user guide, "Configuring MFA-protected API access"; that a role which is assumed
//! with a session of GetSessionToken carries its MFA is the experience of aws-vault and others.
//!
//! A login begins on the lowest rung that the profile speaks for, or on the one that opened this
//! bucket before, and goes on where STS says that a rung cannot be stood on. When S3 denies
//! something to a session without MFA, the store climbs: [`Ladder::climb`](super::session::Login).

mod attempt;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::conversation::{Conversation, Subject};
use super::identity::{Asked, Identity, Origin, Profiles, Way, temporary_keys};
use super::memory::Memory;
use super::prompt::Ask;
use super::session::{Demand, Granted, Login, LoginRequest};
use super::shared::{Found, Shelf, Slot, Wanted};
use super::sources::Sources;
use super::spent::SpentCodes;
use super::sts::Sts;
use super::{AuthError, MARGIN, origin, sso};
use crate::aws::{Aws, partition_of_region};
use crate::clock::{Clock, rfc3339};
use attempt::{Attempt, Fall};

/// The longest session of a role that is assumed with temporary keys, in seconds: IAM user guide,
/// "Role chaining".
const LONGEST_CHAINED: i32 = 3600;

/// How a session was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rung {
    /// The keys as they are.
    Plain,
    /// IAM Identity Center.
    Sso,
    /// AssumeRole without a code.
    Role,
    /// AssumeRole with a code.
    RoleWithCode,
    /// GetSessionToken with a code.
    SessionToken,
    /// GetSessionToken with a code, then AssumeRole.
    SessionTokenThenRole,
}

impl Rung {
    /// As `--credentials` and `status` call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Sso => "sso",
            Self::Role | Self::RoleWithCode => "role",
            Self::SessionToken => "session-token",
            Self::SessionTokenThenRole => "session-token-then-role",
        }
    }

    /// Whether `aws:MultiFactorAuthPresent` is true for S3.
    pub(crate) fn has_mfa(self) -> bool {
        matches!(self, Self::SessionToken | Self::SessionTokenThenRole)
    }

    /// Whether a person gave a code for it.
    pub(crate) fn has_code(self) -> bool {
        self.has_mfa() || self == Self::RoleWithCode
    }
}

/// The rungs for an identity, the lowest first.
fn rungs(identity: &Identity, is_long_term: bool) -> Result<Vec<Rung>, AuthError> {
    use Rung::{Plain, RoleWithCode, SessionToken, SessionTokenThenRole};
    let (has_role, has_serial) = (!identity.roles.is_empty(), identity.serial.is_some());
    let refuse = || AuthError::Refused(temporary_keys(&identity.profile));
    Ok(match identity.way {
        Way::Plain => vec![Plain],
        Way::Sso => vec![Rung::Sso],
        Way::SessionToken if is_long_term => vec![SessionToken],
        Way::SessionTokenThenRole if is_long_term => vec![SessionTokenThenRole],
        Way::SessionToken | Way::SessionTokenThenRole => return Err(refuse()),
        Way::Role if has_serial && is_long_term => vec![RoleWithCode],
        Way::Role if is_long_term => vec![Rung::Role, RoleWithCode],
        Way::Role => vec![Rung::Role],
        Way::Auto if matches!(identity.origin, Origin::Sso(_)) => vec![Rung::Sso],
        Way::Auto => match (is_long_term, has_role, has_serial) {
            (true, false, true) => vec![SessionToken],
            (true, false, false) => vec![Plain, SessionToken],
            (true, true, true) => vec![SessionTokenThenRole, RoleWithCode],
            (true, true, false) => vec![Rung::Role, SessionTokenThenRole, RoleWithCode],
            (false, true, _) => vec![Rung::Role],
            (false, false, _) => vec![Plain],
        },
    })
}

/// What a ladder is built of.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    /// What to read the identity with again at each login: keys are rotated, and temporary ones
    /// replaced, while a mount lives.
    pub(crate) reread: Option<Asked>,
    pub(crate) aws: Arc<Aws>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) memory: Arc<Memory>,
    /// Whom to ask.
    pub(crate) ask: Arc<dyn Ask>,
    pub(crate) subject: Subject,
    /// The bucket, as [`Memory`] knows it.
    pub(crate) bucket: Option<String>,
    /// How old a code may become, if that was said.
    pub(crate) max_age: Option<Duration>,
    /// The first cool-down.
    pub(crate) cool_down: Duration,
}

/// One identity's way to sessions.
pub(crate) struct Ladder(Arc<Inner>);

struct Inner {
    parts: Parts,
    sts: Sts,
    spent: SpentCodes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The rungs of the last login.
    rungs: Vec<Rung>,
    /// The rung that the next login begins on, once that is known.
    at: Option<Rung>,
    /// There is no way to a code.
    is_closed: bool,
    /// Somebody has locked the mount, and nobody has opened it since.
    is_locked: bool,
    /// How often it was locked.
    locks: u64,
    /// The access key of the last session that a code was traded for here.
    issued: Option<String>,
    /// Where the sessions of this identity are kept, the last one to be used at the end.
    slots: Vec<Slot>,
}

impl Ladder {
    /// Climbs for the identity of `parts`.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let sts = Sts::new(Arc::clone(&parts.aws));
        let spent = SpentCodes::new(&parts.shelf);
        let mut state = State::default();
        if let Origin::Keys(keys) = &parts.identity.origin {
            let is_long_term = keys.session_token().is_none();
            state.rungs = rungs(&parts.identity, is_long_term).unwrap_or_default();
        }
        let inner = Inner {
            sts,
            spent,
            state: Mutex::new(state),
            parts,
        };
        if let Origin::Keys(keys) = &inner.parts.identity.origin {
            let rung = inner.first_rung();
            if let Some(slot) = inner.slot(rung, &inner.parts.identity, keys) {
                inner.remember_slot(&slot);
            }
        }
        Arc::new(Self(Arc::new(inner)))
    }
}

impl Login for Ladder {
    fn login(&self, request: LoginRequest) -> BoxFuture<'static, Result<Granted, AuthError>> {
        let inner = Arc::clone(&self.0);
        async move { inner.climb_up(request).await }.boxed()
    }

    fn asker(&self) -> Arc<dyn Ask> {
        Arc::clone(&self.0.parts.ask)
    }

    fn climb(&self, from: Rung) -> bool {
        let mut state = self.0.state.lock();
        if state.is_closed || from.has_mfa() {
            return false;
        }
        // Two requests that were denied together climb once.
        if state.at.is_some_and(Rung::has_mfa) {
            return true;
        }
        let higher = state.rungs.iter().copied().find(|rung| rung.has_mfa());
        if higher.is_some() {
            state.at = higher;
        }
        higher.is_some()
    }

    fn is_at_hand(&self, demand: &Demand) -> bool {
        let (rung, slot, is_locked) = {
            let state = self.0.state.lock();
            let rung = state.at.or_else(|| state.rungs.first().copied());
            (rung, state.slots.last().cloned(), state.is_locked)
        };
        let limit = self.age_limit();
        let oldest = limit.and_then(|limit| self.0.now().checked_sub(limit));
        let wanted = Wanted {
            after: demand.after.max(oldest),
            rejected: demand.rejected.clone(),
            ..Wanted::default()
        };
        match rung {
            // A command may ask the person itself.
            Some(Rung::Plain | Rung::Role) => {
                !is_locked && !matches!(self.0.parts.identity.origin, Origin::Process(_))
            }
            Some(Rung::Sso) => match &self.0.parts.identity.origin {
                Origin::Sso(profile) => !is_locked && sso::is_signed_in(profile, self.0.now()),
                _ => false,
            },
            Some(_) => slot
                .is_some_and(|slot| matches!(slot.look(&wanted, self.0.now()), Found::Session(_))),
            None => false,
        }
    }

    fn is_without_device(&self) -> bool {
        self.0.state.lock().is_closed
    }

    fn worked(&self, rung: Rung) {
        let parts = &self.0.parts;
        if let Some(bucket) = &parts.bucket {
            let name = rung.name().to_owned();
            parts.memory.learn(bucket, |known| known.rung = Some(name));
        }
    }

    fn age_limit(&self) -> Option<Duration> {
        self.0.age_limit()
    }

    fn learn_age_limit(&self, limit: Duration) -> bool {
        let parts = &self.0.parts;
        if parts.max_age.is_some() {
            return false;
        }
        if let Some(bucket) = &parts.bucket {
            let now = self.0.now();
            parts
                .memory
                .learn(bucket, |known| known.learn_age_limit(limit, now));
        }
        true
    }

    fn forget(&self) {
        let mut state = self.0.state.lock();
        state.is_locked = true;
        state.locks += 1;
        for slot in &state.slots {
            slot.forget();
        }
    }

    fn sources(&self) -> BoxFuture<'static, Sources> {
        let inner = Arc::clone(&self.0);
        async move { Sources::look(&inner.parts.identity).await }.boxed()
    }
}

impl Inner {
    async fn climb_up(self: &Arc<Self>, request: LoginRequest) -> Result<Granted, AuthError> {
        let identity = match &self.parts.reread {
            Some(asked) => Profiles::load()
                .await
                .and_then(|profiles| Identity::new(asked, &profiles))
                .map_err(|error| AuthError::Refused(error.to_string()))?,
            None => self.parts.identity.clone(),
        };
        if request.demand.insists {
            // Somebody may have got a device meanwhile.
            self.state.lock().is_closed = false;
        }
        let conversation = Conversation {
            subject: &self.parts.subject,
            request: &request,
            clock: &*self.parts.clock,
            spent: &self.spent,
            cool_down: self.parts.cool_down,
            unused: parking_lot::Mutex::default(),
        };
        let parts = &self.parts;
        let keys = origin::keys(
            &parts.aws,
            &self.sts,
            &parts.shelf,
            &identity,
            &conversation,
        )
        .await?;
        let is_long_term = keys.credentials.session_token().is_none();
        self.state.lock().rungs = rungs(&identity, is_long_term)?;
        let mut rung = self.first_rung();
        loop {
            let attempt = Attempt {
                inner: self,
                identity: &identity,
                keys: &keys,
                conversation: &conversation,
                began: self.now(),
            };
            let error = match attempt.stand_on(rung).await {
                Ok(granted) => {
                    self.check_end(&identity, &granted)?;
                    let mut state = self.state.lock();
                    state.at = Some(rung);
                    state.is_locked = false;
                    return Ok(granted);
                }
                Err(Fall::End(error)) => {
                    if matches!(error, AuthError::NoDevice(_)) {
                        self.no_way_up();
                    }
                    return Err(error);
                }
                Err(Fall::Higher(error)) => error,
            };
            let next = {
                let state = self.state.lock();
                let mut rungs = state.rungs.iter().copied();
                rungs.find(|other| *other == rung);
                rungs.next()
            };
            let Some(next) = next else {
                return Err(error);
            };
            tracing::info!("{}: {error}. Trying {} next", rung.name(), next.name());
            rung = next;
        }
    }

    /// Refuses keys that had ended before they were got: every request would get them anew.
    fn check_end(&self, identity: &Identity, granted: &Granted) -> Result<(), AuthError> {
        match granted.expires.filter(|end| *end <= self.now() + MARGIN) {
            Some(end) if !granted.rung.has_code() => Err(AuthError::Refused(format!(
                "the keys of {:?} are temporary and have ended at {}: get new ones, or name the \
                 profile with the long-term keys (`source_profile`, --profile)",
                identity.profile,
                rfc3339(end)
            ))),
            _ => Ok(()),
        }
    }

    /// Nobody can give a code: what is denied without one stays denied.
    fn no_way_up(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.at = state.rungs.first().copied();
    }

    /// Where a login begins.
    fn first_rung(&self) -> Rung {
        let state = self.state.lock();
        let lowest = state.rungs.first().copied().unwrap_or(Rung::Plain);
        if let Some(at) = state.at {
            return at;
        }
        let bucket = self.parts.bucket.as_deref();
        let known = bucket.and_then(|bucket| self.parts.memory.bucket(bucket).rung);
        let opened = |rung: &Rung| Some(rung.name()) == known.as_deref();
        // A rung that was stood on because the lower one did not carry far enough.
        state
            .rungs
            .iter()
            .copied()
            .find(|rung| opened(rung) && rung.has_mfa())
            .unwrap_or(lowest)
    }

    /// How old a code may become, as far as it was said or learned.
    fn age_limit(&self) -> Option<Duration> {
        let learned = || {
            let bucket = self.parts.memory.bucket(self.parts.bucket.as_deref()?);
            bucket.age_limit(self.now())
        };
        self.parts.max_age.or_else(learned)
    }

    /// Remembers where a session is kept, to look there first, and to forget it when it is locked.
    fn remember_slot(&self, slot: &Slot) {
        let mut state = self.state.lock();
        state.slots.retain(|known| !known.is(slot));
        state.slots.push(slot.clone());
    }

    fn now(&self) -> SystemTime {
        self.parts.clock.now()
    }

    /// Where the session of a rung is kept for everything that the user runs. Which device gave the
    /// code does not matter: they are all the same user's.
    fn slot(&self, rung: Rung, identity: &Identity, keys: &Credentials) -> Option<Slot> {
        let endpoints = &self.parts.aws.endpoints;
        // Sessions of one region's STS are good in all of a partition.
        let place = match &endpoints.urls.sts {
            Some(url) => url.as_str(),
            None => partition_of_region(&endpoints.region),
        };
        let id = keys.access_key_id();
        let shelf = &self.parts.shelf;
        match rung {
            Rung::SessionToken | Rung::SessionTokenThenRole => {
                Some(shelf.slot(&["session-token", place, id]))
            }
            Rung::RoleWithCode => {
                let role = identity.roles.first()?;
                let external = role.external_id.as_deref().unwrap_or_default();
                let name = role.session_name.as_deref().unwrap_or_default();
                let marks = role.marks();
                Some(shelf.slot(&["role", place, id, &role.arn, external, name, &marks]))
            }
            Rung::Plain | Rung::Sso | Rung::Role => None,
        }
    }
}
