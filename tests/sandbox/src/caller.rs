//! Who signed a request: nobody, a user, or a session of a user or a role.

use std::sync::Arc;

use http::{HeaderMap, Uri};

use crate::clock::unix_seconds;
use crate::cloud::Cloud;
use crate::policy::condition::Context;
use crate::policy::{Policy, Principal};
use crate::refusal::Refusal;
use crate::roles::RoleSession;
use crate::sessions::{Holder, Session};
use crate::sts::marks::Marks;
use crate::users::User;

/// A caller whose signature was verified.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Anonymous,
    User(User),
    Session(Arc<Session>),
}

/// Why credentials are no good, a right signature or not.
#[derive(Debug)]
pub(crate) enum BadCredentials {
    /// The access key is unknown, or a session's key came without its token.
    Unknown(String),
    /// The token is not the one issued with the access key.
    WrongToken(String),
    Expired(Arc<Session>),
}

impl Caller {
    /// Looks the credentials up, and their session token.
    pub(crate) fn identify(
        cloud: &Cloud,
        access_key_id: Option<&str>,
        token: Option<String>,
    ) -> Result<Self, BadCredentials> {
        let Some(access_key_id) = access_key_id else {
            return Ok(Self::Anonymous);
        };
        if let Some(user) = cloud.users.by_access_key(access_key_id) {
            return match token {
                None => Ok(Self::User(user)),
                Some(token) => Err(BadCredentials::WrongToken(token)),
            };
        }
        let Some(session) = cloud.sessions.by_access_key(access_key_id) else {
            return Err(BadCredentials::Unknown(access_key_id.to_owned()));
        };
        match token {
            None => Err(BadCredentials::Unknown(access_key_id.to_owned())),
            Some(token) if token != session.token => Err(BadCredentials::WrongToken(token)),
            Some(_) if session.is_expired(cloud.clock.now()) => {
                Err(BadCredentials::Expired(session))
            }
            Some(_) => Ok(Self::Session(session)),
        }
    }

    /// The caller, if it is anybody.
    pub(crate) fn signed(&self) -> Result<&Self, Refusal> {
        match self {
            Self::Anonymous => Err(Refusal::missing_client_token()),
            signed => Ok(signed),
        }
    }

    /// The user behind the caller; a session of `GetSessionToken` acts as its user.
    pub(crate) fn user(&self) -> Option<&User> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(user),
            Self::Session(session) => match &session.holder {
                Holder::User(user) => Some(user),
                Holder::Role(_) => None,
            },
        }
    }

    fn role(&self) -> Option<&RoleSession> {
        match self {
            Self::Session(session) => match &session.holder {
                Holder::Role(role) => Some(role),
                Holder::User(_) => None,
            },
            Self::Anonymous | Self::User(_) => None,
        }
    }

    /// What the caller's session is marked with.
    pub(crate) fn marks(&self) -> Marks {
        self.role()
            .map_or_else(Marks::default, |session| session.marks.clone())
    }

    /// The ARN that refusals call the caller by: of a session of a role, the session's.
    pub(crate) fn arn(&self) -> Option<&str> {
        match self.role() {
            Some(session) => Some(&session.arn),
            None => self.user().map(User::arn),
        }
    }

    /// `aws:userid`.
    pub(crate) fn id(&self) -> Option<&str> {
        match self.role() {
            Some(session) => Some(&session.id),
            None => self.user().map(User::id),
        }
    }

    pub(crate) fn principal<'a>(&'a self, account: &'a str) -> Principal<'a> {
        match (self.role(), self.user()) {
            (Some(session), _) => Principal::RoleSession {
                role: &session.role.arn,
                session: &session.arn,
                account,
            },
            (None, Some(user)) => Principal::User {
                arn: user.arn(),
                account,
            },
            (None, None) => Principal::Anonymous,
        }
    }

    pub(crate) fn policies(&self) -> Vec<Arc<Policy>> {
        match self.role() {
            Some(session) => session.role.policies(),
            None => self.user().map(User::policies).unwrap_or_default(),
        }
    }

    /// Adds what policies can ask about the caller. The MFA keys are absent for long-term keys, and
    /// the age is absent for sessions without MFA: IAM guide, "AWS global condition context keys".
    pub(crate) fn describe(&self, cloud: &Cloud, context: &mut Context) {
        let now = cloud.clock.now();
        context.set("aws:SecureTransport", cloud.is_secure.to_string());
        context.set("aws:EpochTime", unix_seconds(now).to_string());
        context.set("aws:RequestedRegion", cloud.region.clone());
        context.set("s3:ResourceAccount", cloud.account.clone());
        if let Some(id) = self.id() {
            context.set("aws:userid", id);
            context.set("aws:PrincipalAccount", cloud.account.clone());
        }
        // IAM guide, "AWS global condition context keys": of a session of a role, the ARN is the
        // role's, and there is no user name.
        match (self.role(), self.user()) {
            (Some(session), _) => {
                context.set("aws:PrincipalArn", &session.role.arn);
                context.set("aws:PrincipalType", "AssumedRole");
                session.marks.describe_principal(context);
            }
            (None, Some(user)) => {
                context.set("aws:username", user.name());
                context.set("aws:PrincipalArn", user.arn());
                context.set("aws:PrincipalType", "User");
            }
            (None, None) => context.set("aws:PrincipalType", "Anonymous"),
        }
        if let Self::Session(session) = self {
            context.set(
                "aws:MultiFactorAuthPresent",
                session.mfa_at.is_some().to_string(),
            );
            if let Some(at) = session.mfa_at {
                let age = now.duration_since(at).unwrap_or_default().as_secs();
                context.set("aws:MultiFactorAuthAge", age.to_string());
            }
        }
    }
}

/// The session token that came with a request.
pub(crate) fn token_of(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    if let Some(token) = headers.get("x-amz-security-token") {
        return Some(String::from_utf8_lossy(token.as_bytes()).into_owned());
    }
    let query = uri.query()?.as_bytes();
    let mut pairs = form_urlencoded::parse(query);
    pairs
        .find(|(name, _)| name == "X-Amz-Security-Token")
        .map(|(_, token)| token.into_owned())
}
