//! IAM Identity Center: people who sign in with a browser, and the roles they may use.

mod directory;
mod oidc;
mod portal;

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http::request::Parts;

use crate::cloud::{Cloud, SharedCloud};
use crate::counts::Kind;
use crate::refusal::Refusal;
use crate::roles::Role;

pub(crate) use directory::Directory;

/// A handle to IAM Identity Center, with one person in it.
///
/// The person signs in by hand: a client that asks for a token gets a user code, which is
/// [pending](Self::pending) until the test [approves](Self::approve) or [denies](Self::deny) it.
#[derive(Clone)]
pub struct Sso {
    cloud: SharedCloud,
}

/// What a client keeps of somebody who signed in: the content of a token file in `~/.aws/sso/cache`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignIn {
    /// The access token.
    pub access_token: String,
    /// When the access token ends.
    pub expires_at: SystemTime,
    /// The token to get the next access token with.
    pub refresh_token: String,
    /// The id of the client.
    pub client_id: String,
    /// The secret of the client.
    pub client_secret: String,
    /// When the registration of the client ends.
    pub registration_expires_at: SystemTime,
}

impl Sso {
    pub(crate) fn new(cloud: SharedCloud) -> Self {
        Self { cloud }
    }

    fn directory(&self) -> &Directory {
        &self.cloud.sso
    }

    /// Returns the start URL. Nothing is there: the person signs in by this handle.
    pub fn start_url(&self) -> &str {
        &self.cloud.sso_start_url
    }

    /// Returns the region.
    pub fn region(&self) -> &str {
        &self.cloud.region
    }

    /// Lets the person use a role, under its account's id and its name, whatever its trust policy says.
    /// The sessions are named `person`, and have no MFA: `aws:MultiFactorAuthPresent` is there, and
    /// false.
    pub fn grant(&self, role: &Role) {
        self.directory().grant(role.name(), role.state());
    }

    /// Returns the user codes that wait for an answer, the oldest first.
    pub fn pending(&self) -> Vec<String> {
        self.directory().pending()
    }

    /// Signs in, for the client that got the user code; tells whether it was pending.
    pub fn approve(&self, user_code: &str) -> bool {
        self.directory().decide(user_code, true)
    }

    /// Turns the client away that got the user code; tells whether it was pending.
    pub fn deny(&self, user_code: &str) -> bool {
        self.directory().decide(user_code, false)
    }

    /// Returns a new access token, as if a client had got it.
    pub fn access_token(&self) -> String {
        self.sign_in().access_token
    }

    /// Returns everything that a client has which was registered and got its tokens.
    pub fn sign_in(&self) -> SignIn {
        self.directory().sign_in(&self.cloud.random)
    }

    /// Expires every access token issued so far: they get no keys any more. Sessions live on.
    pub fn expire_access_tokens(&self) {
        self.directory().expire_access_tokens();
    }

    /// Revokes every refresh token issued so far; they answer 400 `invalid_grant`.
    pub fn revoke_refresh_tokens(&self) {
        self.directory().revoke_refresh_tokens();
    }

    /// Ends every registration of a client; they answer 401 `invalid_client`.
    pub fn expire_clients(&self) {
        self.directory().expire_clients();
    }

    /// Sets how long access tokens are good for that are issued from now on. Without it they are good
    /// for an hour if the client asked for the scope `sso:account:access`, else for 8.
    pub fn set_token_life(&self, life: Duration) {
        self.directory().set_token_life(life);
    }

    /// Sets whether a refresh token is good once, as OAuth recommends. Without this it is good until it
    /// is revoked. AWS does not say which it is; either way, the answer has a new one.
    pub fn rotate_refresh_tokens(&self, rotate: bool) {
        self.directory().rotate_refresh_tokens(rotate);
    }

    /// Returns how many access tokens were issued.
    pub fn issued_tokens(&self) -> u64 {
        self.directory().issued_tokens()
    }

    /// Returns every access token, refresh token and client secret that was issued, for tests that look
    /// for them where they must not be.
    pub fn secrets(&self) -> Vec<String> {
        self.directory().secrets()
    }
}

impl fmt::Debug for Sso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sso")
            .field("start_url", &self.start_url())
            .finish_non_exhaustive()
    }
}

/// Answers a request in JSON.
pub(crate) fn answer(
    cloud: &Cloud,
    kind: Kind,
    parts: &Parts,
    document: &Bytes,
) -> Result<Response<Bytes>, Refusal> {
    let answer = match kind {
        Kind::GetRoleCredentials => portal::get_role_credentials(cloud, parts),
        _ => oidc::answer(cloud, kind, document),
    }?;
    Ok(Response::new(Bytes::from(answer.to_string())))
}
