//! One login: on one rung after the other.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use tokio::sync::oneshot;

use super::{Inner, LONGEST_CHAINED, Rung};
use crate::auth::code::Code;
use crate::auth::conversation::Conversation;
use crate::auth::identity::serial::Serial;
use crate::auth::identity::{Identity, Role};
use crate::auth::origin::refused;
use crate::auth::session::{Demand, Granted, Reason};
use crate::auth::shared::{Found, Kept, Slot, Wanted};
use crate::auth::sts::{Issued, StsError};
use crate::auth::{AuthError, cli_cache, device};

/// Why a rung cannot be stood on.
pub(super) enum Fall {
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

/// How young a code is too young for its age to be why something is refused.
const FRESH: Duration = Duration::from_secs(60);

/// A session, and whether a person gave a code for it just now.
struct Obtained {
    kept: Kept,
    is_new: bool,
}

impl Obtained {
    /// Somebody else got it.
    fn found(kept: Kept) -> Self {
        Self {
            kept,
            is_new: false,
        }
    }
}

/// What a code is traded for.
#[derive(Clone)]
enum Trade {
    /// For as many seconds as these, or as STS thinks fit.
    SessionToken(Option<i32>),
    Role(Role),
}

/// One login, on one rung after the other.
pub(super) struct Attempt<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) identity: &'a Identity,
    pub(super) keys: &'a Issued,
    pub(super) conversation: &'a Conversation<'a>,
    pub(super) began: SystemTime,
}

impl Attempt<'_> {
    pub(super) async fn stand_on(&self, rung: Rung) -> Result<Granted, Fall> {
        let roles = self.identity.roles.as_slice();
        let demand = &self.conversation.request.demand;
        // A role is assumed just now, whenever the code was typed.
        let mut is_new = true;
        let (issued, kept) = match rung {
            Rung::Plain => {
                let id = self.keys.credentials.access_key_id();
                let is_rejected = demand.rejected.as_deref() == Some(id);
                if is_rejected && matches!(self.conversation.request.reason, Reason::Rejected(_)) {
                    let error = match self.keys.credentials.session_token() {
                        Some(_) => StsError::Ended,
                        None => StsError::UnknownKey,
                    };
                    return Err(Fall::End(refused(&self.identity.profile, error)));
                }
                (self.keys.clone(), None)
            }
            Rung::Sso | Rung::Role => (self.assume(self.keys, roles).await?, None),
            Rung::SessionToken => {
                let obtained = self.session_token(demand).await?;
                is_new = obtained.is_new;
                (issued(&obtained.kept), Some(obtained.kept))
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
                let mut demand = demand.clone();
                loop {
                    let obtained = self.role_with_code(first, &demand).await?;
                    is_new = obtained.is_new;
                    let base = issued(&obtained.kept);
                    match self.assume_all(&base, rest).await {
                        Ok(issued) => break (issued, Some(obtained.kept)),
                        // What was found may be dead.
                        Err((_, error))
                            if !is_new && self.may_be_its_age(&error, &obtained.kept) =>
                        {
                            let id = base.credentials.access_key_id().to_owned();
                            demand.rejected = Some(id);
                        }
                        Err((role, error)) => return Err(self.not_assumed(role, error)),
                    }
                }
            }
        };
        let authenticated = kept.as_ref().map_or(self.began, Kept::authenticated);
        Ok(Granted {
            credentials: issued.credentials,
            expires: issued.expires,
            authenticated,
            code_until: kept.and_then(|kept| kept.expires()),
            rung,
            is_new,
        })
    }

    /// One role after the other, without a code.
    async fn assume(&self, keys: &Issued, roles: &[Role]) -> Result<Issued, Fall> {
        let assumed = self.assume_all(keys, roles).await;
        assumed.map_err(|(role, error)| self.not_assumed(role, error))
    }

    async fn assume_all<'r>(
        &self,
        keys: &Issued,
        roles: &'r [Role],
    ) -> Result<Issued, (&'r Role, StsError)> {
        let mut keys = keys.clone();
        for role in roles {
            let assumed = self.assume_one(&keys.credentials, role).await;
            keys = assumed.map_err(|error| (role, error))?;
        }
        Ok(keys)
    }

    fn not_assumed(&self, role: &Role, error: StsError) -> Fall {
        match error {
            StsError::RoleDenied(text) => Fall::Higher(AuthError::Refused(format!(
                "the role {} may not be assumed by these keys, or not without MFA: {text}",
                role.arn
            ))),
            error => Fall::End(refused(&self.identity.profile, error)),
        }
    }

    /// Whether a role may have been refused to a session because that is dead, or older than the role's
    /// trust policy wants it.
    fn may_be_its_age(&self, error: &StsError, kept: &Kept) -> bool {
        let age = self.inner.now().duration_since(kept.authenticated());
        match error {
            StsError::Ended | StsError::UnknownKey => true,
            StsError::RoleDenied(_) => age.is_ok_and(|age| age >= FRESH),
            _ => false,
        }
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
            let Obtained { kept, is_new } = self.session_token(&demand).await?;
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
            if !is_new && self.may_be_its_age(&error, &kept) {
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

    async fn session_token(&self, demand: &Demand) -> Result<Obtained, Fall> {
        let keys = &self.keys.credentials;
        let slot = self.inner.slot(Rung::SessionToken, self.identity, keys);
        // What another program has left may be too old for this bucket.
        let limit = self.inner.age_limit();
        let oldest = limit.and_then(|limit| self.inner.now().checked_sub(limit));
        let demand = Demand {
            after: demand.after.max(oldest),
            ..demand.clone()
        };
        self.obtain(slot, &demand, &Trade::SessionToken(self.identity.duration))
            .await
    }

    async fn role_with_code(&self, role: &Role, demand: &Demand) -> Result<Obtained, Fall> {
        let keys = &self.keys.credentials;
        let serial = self.identity.serial.as_ref();
        // The CLI knows no marks, so its sessions have none.
        if !role.is_marked()
            && let Some(kept) = cli_cache::find(role, serial, demand, self.began)
        {
            tracing::info!("the AWS CLI has a session of {}", role.arn);
            return Ok(Obtained {
                kept,
                is_new: false,
            });
        }
        let slot = self.inner.slot(Rung::RoleWithCode, self.identity, keys);
        self.obtain(slot, demand, &Trade::Role(role.clone())).await
    }

    /// Trades a code, and leaves the session in its slot.
    ///
    /// A code that was sent is spent, so this goes on when nobody waits for it any more: whoever
    /// comes next finds the session.
    async fn trade(
        &self,
        trade: &Trade,
        slot: &Slot,
        serial: &Serial,
        code: Code,
    ) -> Result<Kept, StsError> {
        let (inner, keys) = (Arc::clone(self.inner), self.keys.credentials.clone());
        let (trade, slot, serial) = (trade.clone(), slot.clone(), serial.clone());
        let locks = inner.state.lock().locks;
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let mfa = (serial.as_str(), &code);
            let issued = match &trade {
                Trade::SessionToken(duration) => {
                    inner.sts.get_session_token(&keys, mfa, *duration).await
                }
                Trade::Role(role) => {
                    let duration = role.duration;
                    inner
                        .sts
                        .assume_role(&keys, role, Some(mfa), duration)
                        .await
                }
            };
            let kept =
                issued.map(|issued| Kept::new(&issued.credentials, issued.expires, inner.now()));
            if let Ok(kept) = &kept {
                let mut state = inner.state.lock();
                // What is locked meanwhile stays locked.
                if state.locks == locks {
                    state.issued = Some(kept.credentials().access_key_id().to_owned());
                    slot.leave(kept);
                }
            }
            if let Err(Ok(_)) = answer.send(kept) {
                tracing::info!("nobody waits for the session any more: it is kept for the next");
            }
        });
        let gone = |_| StsError::Unavailable("the program is ending".to_owned());
        answered.await.map_err(gone)?
    }

    /// Finds a session in its slot, or asks for one and leaves it there.
    async fn obtain(
        &self,
        slot: Option<Slot>,
        demand: &Demand,
        trade: &Trade,
    ) -> Result<Obtained, Fall> {
        let Some(slot) = slot else {
            return Err(Fall::End(AuthError::Ending));
        };
        self.inner.remember_slot(&slot);
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
                Found::Session(kept) => return Ok(Obtained::found(kept)),
                _ => None,
            },
            false => tokio::select! {
                lease = slot.lease_or_find(&wanted, now) => match lease {
                    Ok(lease) => Some(lease),
                    Err(Found::Session(kept)) => return Ok(Obtained::found(kept)),
                    Err(Found::Refusal(error)) => return Err(Fall::End(error)),
                    Err(Found::Nothing) => None,
                },
                () = request.panel.joined() => None,
            },
        };
        let outcome = tokio::select! {
            outcome = self.ask(trade, &slot) => outcome,
            kept = slot.session_of_another(&wanted, now) => {
                // It may be what was left there just now, by this very login.
                let issued = self.inner.state.lock().issued.clone();
                let is_new = issued.as_deref() == Some(kept.credentials().access_key_id());
                return Ok(Obtained { kept, is_new });
            }
        };
        if let Err(Fall::End(error)) = &outcome {
            slot.refuse(error, self.inner.parts.cool_down, now());
        }
        outcome.map(|kept| Obtained { kept, is_new: true })
    }

    async fn ask(&self, trade: &Trade, slot: &Slot) -> Result<Kept, Fall> {
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
            .code(&serial, |code| self.trade(trade, slot, &serial, code));
        match outcome.await? {
            Ok(kept) => Ok(kept),
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
