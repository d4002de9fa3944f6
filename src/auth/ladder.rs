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

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::code::Code;
use super::conversation::{Conversation, Subject};
use super::identity::serial::Serial;
use super::identity::{Asked, Identity, Origin, Profiles, Role, Way, temporary_keys};
use super::memory::Memory;
use super::origin::{self, refused};
use super::prompt::Ask;
use super::session::{Demand, Granted, Login, LoginRequest};
use super::shared::{Found, Kept, Shelf, Slot, Wanted};
use super::spent::SpentCodes;
use super::sts::{Issued, Sts, StsError};
use super::{AuthError, cli_cache, device, sso};
use crate::aws::{Aws, partition_of_region};
use crate::clock::Clock;

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
    /// Where the session comes from that the next login would begin with.
    slot: Option<Slot>,
}

/// Why a rung cannot be stood on.
enum Fall {
    /// The next one may do.
    Higher(AuthError),
    /// None will.
    End(AuthError),
}

impl From<AuthError> for Fall {
    fn from(error: AuthError) -> Self {
        Self::End(error)
    }
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
            let slot = inner.slot(rung, &inner.parts.identity, keys);
            inner.state.lock().slot = slot;
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
            (rung, state.slot.clone(), state.is_locked)
        };
        let wanted = Wanted {
            after: demand.after,
            rejected: demand.rejected.clone(),
            ..Wanted::default()
        };
        match rung {
            Some(Rung::Plain | Rung::Role) => !is_locked,
            Some(Rung::Sso) => match &self.0.parts.identity.origin {
                Origin::Sso(profile) => !is_locked && sso::is_signed_in(profile, self.0.now()),
                _ => false,
            },
            Some(_) => slot
                .is_some_and(|slot| matches!(slot.look(&wanted, self.0.now()), Found::Session(_))),
            None => false,
        }
    }

    fn worked(&self, rung: Rung) {
        let parts = &self.0.parts;
        if let Some(bucket) = &parts.bucket {
            let name = rung.name().to_owned();
            parts.memory.learn(bucket, |known| known.rung = Some(name));
        }
    }

    fn age_limit(&self) -> Option<Duration> {
        let parts = &self.0.parts;
        let learned = || {
            let bucket = parts.memory.bucket(parts.bucket.as_deref()?);
            bucket.age_limit.map(Duration::from_secs)
        };
        parts.max_age.or_else(learned)
    }

    fn learn_age_limit(&self, limit: Duration) -> bool {
        let parts = &self.0.parts;
        if parts.max_age.is_some() {
            return false;
        }
        if let Some(bucket) = &parts.bucket {
            let seconds = limit.as_secs();
            parts
                .memory
                .learn(bucket, |known| known.age_limit = Some(seconds));
        }
        true
    }

    fn forget(&self) {
        let mut state = self.0.state.lock();
        state.is_locked = true;
        if let Some(slot) = &state.slot {
            slot.forget();
        }
    }
}

impl Inner {
    async fn climb_up(&self, request: LoginRequest) -> Result<Granted, AuthError> {
        let identity = match &self.parts.reread {
            Some(asked) => Profiles::load()
                .await
                .and_then(|profiles| Identity::new(asked, &profiles))
                .map_err(|error| AuthError::Refused(error.to_string()))?,
            None => self.parts.identity.clone(),
        };
        let conversation = Conversation {
            subject: &self.parts.subject,
            request: &request,
            clock: &*self.parts.clock,
            spent: &self.spent,
            cool_down: self.parts.cool_down,
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
                Some(shelf.slot(&["role", place, id, &role.arn, external, name]))
            }
            Rung::Plain | Rung::Sso | Rung::Role => None,
        }
    }
}

/// What a code is traded for.
enum Trade<'a> {
    SessionToken,
    Role(&'a Role),
}

/// One login, on one rung after the other.
struct Attempt<'a> {
    inner: &'a Inner,
    identity: &'a Identity,
    keys: &'a Issued,
    conversation: &'a Conversation<'a>,
    began: SystemTime,
}

impl Attempt<'_> {
    async fn stand_on(&self, rung: Rung) -> Result<Granted, Fall> {
        let roles = self.identity.roles.as_slice();
        let demand = &self.conversation.request.demand;
        let (issued, kept) = match rung {
            Rung::Plain => (self.keys.clone(), None),
            Rung::Sso | Rung::Role => (self.assume(self.keys, roles).await?, None),
            Rung::SessionToken => {
                let kept = self.session_token(demand).await?;
                (issued(&kept), Some(kept))
            }
            Rung::SessionTokenThenRole => {
                let (issued, kept) = self.session_token_then_role(roles).await?;
                (issued, Some(kept))
            }
            Rung::RoleWithCode => {
                let (first, rest) = match roles {
                    [first, rest @ ..] => (first, rest),
                    [] => return Err(Fall::End(AuthError::Ending)),
                };
                let kept = self.role_with_code(first).await?;
                let issued = self.assume(&issued(&kept), rest).await?;
                (issued, Some(kept))
            }
        };
        let authenticated = kept.as_ref().map_or(self.began, Kept::authenticated);
        // A role was assumed just now, whenever the code was typed.
        let is_found = matches!(rung, Rung::SessionToken | Rung::RoleWithCode);
        Ok(Granted {
            credentials: issued.credentials,
            expires: issued.expires,
            authenticated,
            code_until: kept.and_then(|kept| kept.expires()),
            rung,
            is_new: !is_found || authenticated >= self.began,
        })
    }

    /// One role after the other, without a code.
    async fn assume(&self, keys: &Issued, roles: &[Role]) -> Result<Issued, Fall> {
        let mut keys = keys.clone();
        for role in roles {
            let assumed = self.assume_one(&keys.credentials, role).await;
            keys = assumed.map_err(|error| match error {
                StsError::RoleDenied(text) => Fall::Higher(AuthError::Refused(format!(
                    "the role {} may not be assumed by these keys, or not without MFA: {text}",
                    role.arn
                ))),
                error => Fall::End(refused(&self.identity.profile, error)),
            })?;
        }
        Ok(keys)
    }

    async fn assume_one(&self, keys: &Credentials, role: &Role) -> Result<Issued, StsError> {
        let is_chained = keys.session_token().is_some();
        let duration = role.duration.map(|seconds| match is_chained {
            true => seconds.min(LONGEST_CHAINED),
            false => seconds,
        });
        let sts = &self.inner.sts;
        sts.assume_role(keys, role, None, duration).await
    }

    async fn session_token_then_role(&self, roles: &[Role]) -> Result<(Issued, Kept), Fall> {
        let request = self.conversation.request;
        // What S3 refused is the role's session; the one behind it may be as good as ever.
        let mut demand = Demand {
            rejected: None,
            ..request.demand.clone()
        };
        loop {
            let kept = self.session_token(&demand).await?;
            let is_new = kept.authenticated() >= self.began;
            let base = issued(&kept);
            let mut keys = base.clone();
            let mut failure = None;
            for role in roles {
                match self.assume_one(&keys.credentials, role).await {
                    Ok(assumed) => keys = assumed,
                    Err(error) => {
                        failure = Some((role, error));
                        break;
                    }
                }
            }
            let Some((role, error)) = failure else {
                return Ok((keys, kept));
            };
            let may_be_its_age = matches!(
                error,
                StsError::Ended
                    | StsError::UnknownKey
                    | StsError::RoleDenied(_)
                    | StsError::Refused(_)
            );
            if !is_new && may_be_its_age {
                // The session is dead, or older than the role's trust policy wants it.
                demand.rejected = Some(base.credentials.access_key_id().to_owned());
                continue;
            }
            return Err(match error {
                StsError::RoleDenied(text) => Fall::Higher(AuthError::Refused(format!(
                    "the role {} may not be assumed with a session of GetSessionToken: {text}",
                    role.arn
                ))),
                error => Fall::End(refused(&self.identity.profile, error)),
            });
        }
    }

    async fn session_token(&self, demand: &Demand) -> Result<Kept, Fall> {
        let keys = &self.keys.credentials;
        let slot = self.inner.slot(Rung::SessionToken, self.identity, keys);
        self.obtain(slot, demand, &Trade::SessionToken).await
    }

    async fn role_with_code(&self, role: &Role) -> Result<Kept, Fall> {
        let keys = &self.keys.credentials;
        let demand = &self.conversation.request.demand;
        let serial = self.identity.serial.as_ref();
        if let Some(kept) = cli_cache::find(role, serial, demand, self.began) {
            tracing::info!("the AWS CLI has a session of {}", role.arn);
            return Ok(kept);
        }
        let slot = self.inner.slot(Rung::RoleWithCode, self.identity, keys);
        self.obtain(slot, demand, &Trade::Role(role)).await
    }

    async fn trade(
        &self,
        trade: &Trade<'_>,
        serial: &Serial,
        code: Code,
    ) -> Result<Issued, StsError> {
        let (sts, keys) = (&self.inner.sts, &self.keys.credentials);
        let mfa = (serial.as_str(), &code);
        match trade {
            Trade::SessionToken => {
                sts.get_session_token(keys, mfa, self.identity.duration)
                    .await
            }
            Trade::Role(role) => sts.assume_role(keys, role, Some(mfa), role.duration).await,
        }
    }

    /// Finds a session in its slot, or asks for one and leaves it there.
    async fn obtain(
        &self,
        slot: Option<Slot>,
        demand: &Demand,
        trade: &Trade<'_>,
    ) -> Result<Kept, Fall> {
        let Some(slot) = slot else {
            return Err(Fall::End(AuthError::Ending));
        };
        self.inner.state.lock().slot = Some(slot.clone());
        let request = self.conversation.request;
        let wanted = Wanted {
            rejected: demand.rejected.clone(),
            after: demand.after,
            since: Some(self.began),
            insists: demand.insists,
        };
        if demand.insists {
            slot.forgive();
        }
        let now = || self.inner.now();
        // Somebody who asks at a place of their own does not wait for a dialog elsewhere.
        let _lease = match request.is_elsewhere {
            true => match slot.look(&wanted, now()) {
                Found::Session(kept) => return Ok(kept),
                _ => None,
            },
            false => tokio::select! {
                lease = slot.lease_or_find(&wanted, now) => match lease {
                    Ok(lease) => Some(lease),
                    Err(Found::Session(kept)) => return Ok(kept),
                    Err(Found::Refusal(error)) => return Err(Fall::End(error)),
                    Err(Found::Nothing) => None,
                },
                () = request.panel.joined() => None,
            },
        };
        let outcome = tokio::select! {
            outcome = self.ask(trade) => outcome,
            kept = slot.session_of_another(&wanted, now) => return Ok(kept),
        };
        match &outcome {
            Ok(kept) => slot.leave(kept),
            Err(Fall::End(error)) => slot.refuse(error, self.inner.parts.cool_down, now()),
            Err(Fall::Higher(_)) => {}
        }
        outcome
    }

    async fn ask(&self, trade: &Trade<'_>) -> Result<Kept, Fall> {
        let (parts, keys) = (&self.inner.parts, &self.keys.credentials);
        let serial = match &self.identity.serial {
            Some(serial) => serial.clone(),
            None => {
                let memory = &parts.memory;
                device::find(&parts.aws, &self.inner.sts, keys, memory, self.conversation).await?
            }
        };
        let outcome = self
            .conversation
            .code(&serial, |code| self.trade(trade, &serial, code));
        match outcome.await? {
            Ok(issued) => Ok(Kept::new(
                &issued.credentials,
                issued.expires,
                self.inner.now(),
            )),
            Err(error @ StsError::UnknownDevice { .. }) => {
                parts.memory.forget_device(keys.access_key_id());
                Err(Fall::End(AuthError::UnknownDevice(error.to_string())))
            }
            Err(StsError::Unsupported(what)) => Err(Fall::Higher(AuthError::Refused(format!(
                "STS at {} does not know this request ({what})",
                parts.aws.sts_place()
            )))),
            Err(error) => Err(Fall::End(refused(&self.identity.profile, error))),
        }
    }
}

fn issued(kept: &Kept) -> Issued {
    Issued {
        credentials: kept.credentials(),
        expires: kept.expires(),
    }
}
