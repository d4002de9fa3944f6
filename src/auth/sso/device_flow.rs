//! Signing in: a page in a browser, on this machine or another, and a code to compare.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ssooidc::Client;
use aws_sdk_ssooidc::config::retry::RetryConfig;
use aws_sdk_ssooidc::config::timeout::TimeoutConfig;
use aws_sdk_ssooidc::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssooidc::operation::create_token::CreateTokenError;
use aws_sdk_ssooidc::operation::create_token::CreateTokenOutput;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::time::Instant;

use super::super::AuthError;
use super::super::conversation::{Conversation, DIALOG_LIFE};
use super::super::identity::SsoProfile;
use super::super::prompt::open_browser;
use super::super::shared::{Found, Shelf, Wanted};
use super::PATIENCE;
use super::cache::{Cache, Token, ends_in};
use crate::aws::Aws;
use crate::clock::Clock;
use crate::words::tame;

/// What AWS shows the person as the program that wants in.
const CLIENT: &str = "s3mfa-mount";

/// How much slower to ask when the service says so: RFC 8628, 3.5.
const SLOWER: Duration = Duration::from_secs(5);

/// How often to ask if the service does not say: RFC 8628, 3.2.
const USUAL_INTERVAL: i32 = 5;

/// What somebody signs in for.
pub(super) struct Request<'a> {
    pub(super) aws: &'a Arc<Aws>,
    pub(super) profile: &'a SsoProfile,
    pub(super) cache: &'a Cache,
    /// A token that the portal has refused.
    pub(super) refused: Option<&'a str>,
}

/// A program that AWS knows for three months.
struct Registration {
    client_id: String,
    client_secret: String,
    expires_at: String,
}

/// Gets a token with the refresh token of an older one; `None` if that does not work (any more). One
/// that is refused is forgotten, so that it is not tried at every access.
pub(super) async fn refresh(
    aws: &Arc<Aws>,
    profile: &SsoProfile,
    cache: &Cache,
    token: &Token,
) -> Option<Token> {
    if !token.can_refresh(Clock::now(&aws.clock)) {
        return None;
    }
    let registration = Registration {
        client_id: token.client_id.clone()?,
        client_secret: token.client_secret.as_ref()?.to_string(),
        expires_at: token.registration_expires_at.clone().unwrap_or_default(),
    };
    let answer = client(aws, profile)
        .create_token()
        .client_id(&registration.client_id)
        .client_secret(&registration.client_secret)
        .grant_type("refresh_token")
        .refresh_token(token.refresh_token.as_ref()?.as_str())
        .send()
        .await;
    match answer {
        Ok(output) => {
            let mut fresh = read(aws, profile, registration, output)?;
            // The service may leave the refresh token as it was, and then does not repeat it.
            fresh.refresh_token = fresh.refresh_token.or_else(|| token.refresh_token.clone());
            Some(fresh)
        }
        Err(error) => {
            let code = tame(error.code().unwrap_or("no answer"));
            tracing::info!("the SSO token cannot be refreshed ({code})");
            if error.as_service_error().is_some() && !is_passing(&error) {
                cache.write(&Token {
                    refresh_token: None,
                    ..token.clone()
                });
            }
            None
        }
    }
}

/// Has the person sign in. Of all programs that want the same, one asks; the others wait.
pub(super) async fn sign_in(
    request: &Request<'_>,
    shelf: &Arc<Shelf>,
    conversation: &Conversation<'_>,
) -> Result<Token, AuthError> {
    if !conversation.request.may_ask {
        return Err(AuthError::Unasked);
    }
    let profile = request.profile;
    let name = profile.session.as_ref().unwrap_or(&profile.start_url);
    let slot = shelf.slot(&["sso", &profile.start_url, name]);
    let now = || Clock::now(&request.aws.clock);
    let demand = &conversation.request.demand;
    let wanted = Wanted {
        since: Some(now()),
        insists: demand.insists,
        ..Wanted::default()
    };
    if demand.insists {
        slot.forgive();
    }
    let asked = conversation.request;
    // Somebody who asks at a place of their own does not wait for a dialog elsewhere.
    let _lease = match asked.is_elsewhere {
        true => None,
        false => tokio::select! {
            lease = slot.lease_or_find(&wanted, now) => match lease {
                Err(Found::Refusal(error)) => return Err(error),
                lease => lease.ok(),
            },
            token = request.of_another() => return Ok(token),
            () = asked.panel.joined() => None,
        },
    };
    let outcome = tokio::select! {
        outcome = authorize(request, conversation) => outcome,
        token = request.of_another() => return Ok(token),
    };
    match &outcome {
        Ok(token) => request.cache.write(token),
        // Only a person's no is one for other programs too.
        Err(error) if asked.panel.was_asked() => {
            slot.refuse(error, conversation.cool_down, now());
        }
        Err(_) => {}
    }
    outcome
}

impl Request<'_> {
    /// Returns a token that somebody else has put into the cache: another program, or the person
    /// with `aws sso login`.
    async fn of_another(&self) -> Token {
        loop {
            let now = Clock::now(&self.aws.clock);
            if let Some(token) = self.cache.read()
                && token.is_alive(now)
                && self.refused != Some(token.access_token.as_str())
            {
                return token;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The flow of RFC 8628.
async fn authorize(
    request: &Request<'_>,
    conversation: &Conversation<'_>,
) -> Result<Token, AuthError> {
    let Request { aws, profile, .. } = request;
    let client = client(aws, profile);
    let registration = register(&client, profile).await?;
    let started = client
        .start_device_authorization()
        .client_id(&registration.client_id)
        .client_secret(&registration.client_secret)
        .start_url(&profile.start_url)
        .send()
        .await
        .map_err(|error| failed("begins no sign-in", profile, &error))?;
    let code = tame(started.user_code().unwrap_or_default());
    let page = tame(started.verification_uri().unwrap_or_default());
    let whole = started.verification_uri_complete().unwrap_or(&page);
    let life = u64::try_from(started.expires_in()).unwrap_or(600);
    let deadline = Instant::now() + Duration::from_secs(life).min(DIALOG_LIFE);
    let is_open = open_browser(whole).await;
    let what = format!(
        "Sign in with IAM Identity Center{}\n\nPage: {}\nCode: {code}\n\nCompare the code and allow \
         the access; everything that waits then goes on.",
        match is_open {
            true => ": a browser shows the page.",
            false => ": open the page in a browser, on any machine.",
        },
        tame(whole),
    );
    tracing::info!("waiting for a sign-in at {page} with the code {code}");
    let device_code = started.device_code().unwrap_or_default();
    let interval = match started.interval() {
        seconds @ 1.. => seconds,
        _ => USUAL_INTERVAL,
    };
    let approved = approval(&client, &registration, device_code, interval, deadline);
    let refused = async {
        match conversation.deed(&what).await {
            // It was read: the page decides now.
            Ok(()) => std::future::pending().await,
            // No dialog can be shown, but the page is.
            Err(AuthError::NoPrompt(_)) if is_open => std::future::pending().await,
            // It was shown for a while: the person may be at the page by now.
            Err(AuthError::TimedOut) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let output = tokio::select! {
        output = approved => output?,
        error = refused => return Err(error),
    };
    read(aws, profile, registration, output).ok_or_else(|| {
        AuthError::Refused("IAM Identity Center answered without a token".to_owned())
    })
}

/// Asks whether the person has signed in, as often as the service allows, until the deadline.
async fn approval(
    client: &Client,
    registration: &Registration,
    device_code: &str,
    interval: i32,
    deadline: Instant,
) -> Result<CreateTokenOutput, AuthError> {
    let mut interval = Duration::from_secs(u64::try_from(interval).unwrap_or(5));
    loop {
        tokio::time::sleep_until((Instant::now() + interval).min(deadline)).await;
        let answer = client
            .create_token()
            .client_id(&registration.client_id)
            .client_secret(&registration.client_secret)
            .grant_type("urn:ietf:params:oauth:grant-type:device_code")
            .device_code(device_code)
            .send()
            .await;
        let error = match answer {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(CreateTokenError::AuthorizationPendingException(_)) => {}
            Some(CreateTokenError::SlowDownException(_)) => interval += SLOWER,
            Some(CreateTokenError::ExpiredTokenException(_)) => return Err(AuthError::TimedOut),
            Some(CreateTokenError::AccessDeniedException(_)) => return Err(AuthError::Cancelled),
            Some(_) if is_passing(&error) => {}
            Some(_) => {
                return Err(AuthError::Refused(format!(
                    "IAM Identity Center refuses the sign-in: {}",
                    tame(error.message().or(error.code()).unwrap_or_default())
                )));
            }
            // The network: the person may be at it all the same.
            None => tracing::info!("IAM Identity Center cannot be reached just now"),
        }
        if Instant::now() > deadline {
            return Err(AuthError::TimedOut);
        }
    }
}

/// Whether the service is out of order just now.
fn is_passing<E>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    matches!(status, Some(429 | 500..))
}

async fn register(client: &Client, profile: &SsoProfile) -> Result<Registration, AuthError> {
    let output = client
        .register_client()
        .client_name(CLIENT)
        .client_type("public")
        .set_scopes(Some(profile.scopes.clone()))
        .grant_types("urn:ietf:params:oauth:grant-type:device_code")
        .grant_types("refresh_token")
        .send()
        .await
        .map_err(|error| failed("registers no client", profile, &error))?;
    let ends =
        Duration::from_secs(u64::try_from(output.client_secret_expires_at()).unwrap_or_default());
    let parts = output.client_id.clone().zip(output.client_secret.clone());
    let (client_id, client_secret) = parts.ok_or_else(|| {
        AuthError::Refused("IAM Identity Center registers a client without a name".to_owned())
    })?;
    Ok(Registration {
        client_id,
        client_secret,
        expires_at: crate::clock::rfc3339(std::time::UNIX_EPOCH + ends),
    })
}

fn read(
    aws: &Arc<Aws>,
    profile: &SsoProfile,
    registration: Registration,
    output: CreateTokenOutput,
) -> Option<Token> {
    let now = Clock::now(&aws.clock);
    Some(Token {
        start_url: profile.start_url.clone(),
        region: profile.region.clone(),
        expires_at: ends_in(now, output.expires_in()),
        access_token: output.access_token?.into(),
        client_id: Some(registration.client_id),
        client_secret: Some(registration.client_secret.into()),
        registration_expires_at: Some(registration.expires_at),
        refresh_token: output.refresh_token.map(Into::into),
    })
}

fn client(aws: &Arc<Aws>, profile: &SsoProfile) -> Client {
    let patience = TimeoutConfig::builder().operation_timeout(PATIENCE).build();
    let url = aws.endpoints.urls.sso_oidc.as_ref();
    // A code is traded once.
    let common = aws.service(&profile.region, url, patience, RetryConfig::disabled());
    let config = aws_sdk_ssooidc::config::Builder::from(&common).interceptor(aws.timekeeper());
    Client::from_conf(config.build())
}

fn failed<E, R>(what: &str, profile: &SsoProfile, error: &SdkError<E, R>) -> AuthError
where
    SdkError<E, R>: ProvideErrorMetadata,
{
    match error {
        SdkError::ServiceError(_) => AuthError::Refused(format!(
            "IAM Identity Center {what}: {}. Check sso_start_url and sso_region",
            tame(error.message().or(error.code()).unwrap_or_default())
        )),
        _ => AuthError::Unreachable {
            timed_out: matches!(error, SdkError::TimeoutError(_)),
            message: format!(
                "IAM Identity Center in {} cannot be reached: check the network and sso_region",
                profile.region
            ),
        },
    }
}
