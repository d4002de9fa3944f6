//! IAM Identity Center: a person signs in with a browser, and a role is handed out.
//!
//! The token lies where the AWS CLI keeps it ([`cache`]), so that `aws sso login` and this program
//! sign in for each other. It is refreshed before anybody is asked; a dead one is replaced by the
//! device authorization flow ([`device_flow`]; RFC 8628).

mod cache;
mod device_flow;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_sso::config::retry::RetryConfig;
use aws_sdk_sso::config::timeout::TimeoutConfig;
use aws_sdk_sso::error::ProvideErrorMetadata;

use super::AuthError;
use super::conversation::Conversation;
use super::identity::SsoProfile;
use super::shared::Shelf;
use super::sts::Issued;
use crate::aws::Aws;
use crate::clock::Clock;
use crate::words::tame;
use cache::{Cache, Token};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long before its end a token is refreshed, as the SDK for Rust does.
const EARLY: Duration = Duration::from_secs(300);

/// Why the portal hands out no role.
enum Denied {
    /// The token is dead.
    Token,
    /// Anything else.
    Other(AuthError),
}

/// Gets the keys of the profile's role, signing in if need be.
pub(crate) async fn keys(
    aws: &Arc<Aws>,
    shelf: &Arc<Shelf>,
    profile: &SsoProfile,
    conversation: &Conversation<'_>,
) -> Result<Issued, AuthError> {
    let cache = Cache::of(profile)?;
    let mut refused = None;
    loop {
        let token = match usable(aws, profile, &cache, refused.as_deref()).await {
            Some(token) => token,
            None => {
                let request = device_flow::Request {
                    aws,
                    profile,
                    cache: &cache,
                    refused: refused.as_deref(),
                };
                device_flow::sign_in(&request, shelf, conversation).await?
            }
        };
        match role_credentials(aws, profile, &token).await {
            Ok(issued) => return Ok(issued),
            Err(Denied::Token) if refused.is_none() => {
                refused = Some(token.access_token.to_string());
            }
            Err(Denied::Token) => {
                return Err(AuthError::Refused(
                    "IAM Identity Center refuses the token that it has just given: check \
                     sso_region and sso_start_url"
                        .to_owned(),
                ));
            }
            Err(Denied::Other(error)) => return Err(error),
        }
    }
}

/// Whether keys can be got without anybody being asked, as far as the cache tells.
pub(crate) fn is_signed_in(profile: &SsoProfile, now: SystemTime) -> bool {
    let token = Cache::of(profile).ok().and_then(|cache| cache.read());
    token.is_some_and(|token| token.is_alive(now) || token.can_refresh(now))
}

/// The file that the profile's token is kept in, if there is a place for it.
pub(crate) fn token_file(profile: &SsoProfile) -> Option<std::path::PathBuf> {
    Cache::of(profile).ok().map(Cache::into_path)
}

/// A token of the cache that is not the refused one, refreshed if it is about to end.
async fn usable(
    aws: &Arc<Aws>,
    profile: &SsoProfile,
    cache: &Cache,
    refused: Option<&str>,
) -> Option<Token> {
    let now = Clock::now(&aws.clock);
    let token = cache.read()?;
    let is_good = token.is_alive(now) && refused != Some(token.access_token.as_str());
    if is_good && token.is_alive(now + EARLY) {
        return Some(token);
    }
    match device_flow::refresh(aws, profile, cache, &token).await {
        Some(fresh) => {
            cache.write(&fresh);
            Some(fresh)
        }
        None => is_good.then_some(token),
    }
}

/// The portal's GetRoleCredentials.
async fn role_credentials(
    aws: &Arc<Aws>,
    profile: &SsoProfile,
    token: &Token,
) -> Result<Issued, Denied> {
    let patience = TimeoutConfig::builder().operation_timeout(PATIENCE).build();
    let url = aws.endpoints.urls.sso.as_ref();
    let common = aws.service(&profile.region, url, patience, RetryConfig::standard());
    let config = aws_sdk_sso::config::Builder::from(&common).interceptor(aws.timekeeper());
    let answer = aws_sdk_sso::Client::from_conf(config.build())
        .get_role_credentials()
        .account_id(&profile.account_id)
        .role_name(&profile.role_name)
        .access_token(token.access_token.as_str())
        .send()
        .await;
    let keys = match answer {
        Ok(output) => output.role_credentials,
        Err(error) => {
            let Some(response) = error.raw_response() else {
                return Err(Denied::Other(AuthError::Unreachable {
                    timed_out: false,
                    message: format!(
                        "IAM Identity Center in {} cannot be reached: check the network and \
                         sso_region",
                        profile.region
                    ),
                }));
            };
            let status = response.status().as_u16();
            let said = tame(error.message().unwrap_or_default());
            return Err(match status {
                401 => Denied::Token,
                403 => Denied::Other(AuthError::Refused(format!(
                    "IAM Identity Center gives you no role {:?} in the account {}: check \
                     sso_role_name and sso_account_id ({said})",
                    tame(&profile.role_name),
                    tame(&profile.account_id)
                ))),
                429 | 500.. => Denied::Other(AuthError::Unavailable(format!(
                    "IAM Identity Center is out of order just now (HTTP {status})"
                ))),
                _ => Denied::Other(AuthError::Refused(format!(
                    "IAM Identity Center hands out no role (HTTP {status}): {said}"
                ))),
            });
        }
    };
    let keys = keys.and_then(|keys| {
        let expires = u64::try_from(keys.expiration)
            .ok()
            .filter(|millis| *millis > 0);
        let expires = expires.map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        Some(Issued {
            expires,
            credentials: Credentials::new(
                keys.access_key_id?,
                keys.secret_access_key?,
                Some(keys.session_token?),
                expires,
                "IAM Identity Center",
            ),
        })
    });
    keys.ok_or_else(|| {
        Denied::Other(AuthError::Refused(
            "IAM Identity Center answered without keys".to_owned(),
        ))
    })
}
