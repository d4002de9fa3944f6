//! Gets the keys that everything else is made of.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::login::LoginCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_types::region::Region;
use zeroize::Zeroizing;

use super::AuthError;
use super::conversation::Conversation;
use super::identity::{Identity, Origin, WebToken, split};
use super::prompt::is_in_foreground;
use super::shared::Shelf;
use super::sso;
use super::sts::{Issued, Sts, StsError};
use crate::aws::Aws;
use crate::clock::{Clock, moment, rfc3339};
use crate::home;
use crate::shell::{self, Printed};
use crate::words::tame;

/// How long a command may take to print keys: it may ask the person itself.
const COMMAND: Duration = Duration::from_secs(300);

/// How long the metadata of an instance or a container, or `aws login`'s service may take.
const SERVICE: Duration = Duration::from_secs(30);

/// Where an instance's metadata service is:
/// docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html.
const METADATA: &str = "http://169.254.169.254";

/// Gets the keys of an identity, long-term or temporary.
///
/// A person is asked only to sign in with SSO.
pub(crate) async fn keys(
    aws: &Arc<Aws>,
    sts: &Sts,
    shelf: &Arc<Shelf>,
    identity: &Identity,
    conversation: &Conversation<'_>,
) -> Result<Issued, AuthError> {
    match &identity.origin {
        Origin::Keys(keys) => match keys.expiry() {
            Some(end) if end <= Clock::now(&aws.clock) => Err(AuthError::Refused(format!(
                "{} ended at {} (AWS_CREDENTIAL_EXPIRATION): set new ones, or name a profile with \
                 --profile",
                identity.profile,
                rfc3339(end)
            ))),
            expires => Ok(Issued {
                credentials: keys.clone(),
                expires,
            }),
        },
        Origin::Process(command) => {
            let printed = process(command, Clock::now(&aws.clock)).await;
            printed.map_err(AuthError::Refused)
        }
        Origin::Instance => {
            // With an address it does not look into the configuration files.
            let url = aws.endpoints.urls.imds.as_deref().unwrap_or(METADATA);
            let service = imds::Client::builder()
                .configure(&surroundings(aws))
                .endpoint(url)
                .map_err(|error| AuthError::Refused(format!("{url:?} is no address: {error}")))?;
            let provider = ImdsCredentialsProvider::builder()
                .configure(&surroundings(aws))
                .imds_client(service.build())
                .build();
            let hint = "is a role attached to this instance?";
            provided("the instance's metadata service", hint, SERVICE, &provider).await
        }
        Origin::Container => {
            let provider = EcsCredentialsProvider::builder()
                .configure(&surroundings(aws))
                .build();
            let hint = "does the task have a role?";
            provided("the container's credentials", hint, SERVICE, &provider).await
        }
        Origin::Login(arn) => {
            let provider = LoginCredentialsProvider::builder(arn)
                .configure(&surroundings(aws))
                .build();
            let hint = format!("run `aws login --profile {}`", identity.profile);
            provided("the session of `aws login`", &hint, SERVICE, &provider).await
        }
        Origin::WebIdentity { token, role } => {
            let (place, token) = web_identity(token).await.map_err(AuthError::Refused)?;
            sts.assume_role_with_web_identity(role, token.trim())
                .await
                .map_err(|error| match error {
                    StsError::Ended => AuthError::Refused(format!(
                        "the web identity token {place} has expired: have the identity provider \
                         write a new one"
                    )),
                    error => refused(&identity.profile, error),
                })
        }
        Origin::Sso(profile) => sso::keys(aws, shelf, profile, conversation).await,
    }
}

/// What a `credential_process` prints, after
/// docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: u32,
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    /// Empty, null or not there: long-term keys.
    session_token: Option<Zeroizing<String>>,
    /// RFC 3339; empty, null or not there: nobody knows.
    expiration: Option<String>,
}

/// Why a command of the profile gave nothing, and what to do next.
fn gave_nothing(key: &str, why: &str) -> String {
    format!(
        "the profile's {key} gave no keys: it {why}. Next: run it in a terminal to see what it prints"
    )
}

/// What a command of the profile prints, that was started.
async fn printed_by(
    key: &str,
    command: impl Future<Output = std::io::Result<Printed>>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let printed = tokio::time::timeout(COMMAND, command)
        .await
        .map_err(|_| gave_nothing(key, &format!("took more than {} s", COMMAND.as_secs())))?
        .map_err(|error| gave_nothing(key, &format!("cannot be run ({error})")))?;
    match printed.failure() {
        Some(failure) => Err(gave_nothing(key, &failure)),
        None => Ok(printed.output),
    }
}

/// Runs the profile's `credential_process`: a program and its arguments, without a shell, as the AWS CLI
/// does it (botocore, `ProcessProvider`).
///
/// # Errors
///
/// What it did instead, and what to do next.
pub(crate) async fn process(command: &str, now: SystemTime) -> Result<Issued, String> {
    const KEY: &str = "credential_process";
    let words = split(command).map_err(|error| gave_nothing(KEY, &error.to_string()))?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(gave_nothing(KEY, "names no program"));
    };
    let run = async {
        shell::run_program(program, arguments, is_in_foreground())
            .await
            .map_err(|error| {
                let shown = tame(program);
                let hint = "the AWS CLI and this program run it without a shell; what needs one is \
                            written sh -c '...'";
                std::io::Error::new(error.kind(), format!("{shown}: {error}; {hint}"))
            })
    };
    let printed = printed_by(KEY, run).await?;
    // Not the error's text, which may quote a secret.
    let keys: Document = serde_json::from_slice(&printed)
        .map_err(|_| gave_nothing(KEY, "did not print the JSON that AWS describes"))?;
    if keys.version != 1 {
        let why = format!("speaks version {}, not 1", keys.version);
        return Err(gave_nothing(KEY, &why));
    }
    if keys.access_key_id.is_empty() || keys.secret_access_key.is_empty() {
        return Err(gave_nothing(KEY, "printed an empty key"));
    }
    let expires = match keys.expiration.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => Some(moment(text).ok_or_else(|| {
            let why = format!("says {:?}, which is no time of RFC 3339", tame(text));
            gave_nothing(KEY, &why)
        })?),
        None => None,
    };
    if let Some(end) = expires.filter(|end| *end <= now) {
        let why = format!("printed keys that ended at {}", rfc3339(end));
        return Err(gave_nothing(KEY, &why));
    }
    let token = keys.session_token.filter(|token| !token.is_empty());
    Ok(Issued {
        credentials: Credentials::new(
            keys.access_key_id,
            keys.secret_access_key.as_str(),
            token.map(|token| token.as_str().to_owned()),
            expires,
            "credential_process",
        ),
        expires,
    })
}

/// Where the token of an identity provider is, in words, and the token.
async fn web_identity(token: &WebToken) -> Result<(String, Zeroizing<String>), String> {
    match token {
        WebToken::File(path) => {
            let place = format!("in {path}");
            let token = tokio::fs::read_to_string(home::expanded(path)).await;
            let token = token.map_err(|error| {
                format!("the web identity token {place} cannot be read: {error}")
            })?;
            Ok((place, token.into()))
        }
        WebToken::Process(command) => {
            const KEY: &str = "web_identity_token_process";
            let printed = printed_by(KEY, shell::run(command, is_in_foreground())).await?;
            let token = std::str::from_utf8(&printed)
                .map_err(|_| gave_nothing(KEY, "printed something that is not text"))?;
            Ok((format!("of {KEY}"), token.to_owned().into()))
        }
    }
}

/// What a refusal of STS means where no code is at stake.
pub(super) fn refused(profile: &str, error: StsError) -> AuthError {
    match error {
        StsError::Unreachable {
            timed_out, message, ..
        } => AuthError::Unreachable { timed_out, message },
        StsError::Unavailable(what) => {
            AuthError::Unavailable(format!("STS is out of order just now ({what})"))
        }
        StsError::Ended => AuthError::Refused(format!(
            "the keys of {profile:?} are temporary and have ended: get new ones, or name the profile \
             with the long-term keys (`source_profile`, --profile)"
        )),
        error @ StsError::UnknownDevice { .. } => AuthError::UnknownDevice(error.to_string()),
        error => AuthError::Refused(error.to_string()),
    }
}

/// What the SDK's own providers are built with.
fn surroundings(aws: &Arc<Aws>) -> ProviderConfig {
    ProviderConfig::without_region()
        .with_region(Some(Region::new(aws.endpoints.region.clone())))
        .with_use_fips(Some(aws.endpoints.fips))
        .with_use_dual_stack(Some(aws.endpoints.dual_stack))
        .with_http_client(aws.http.clone())
        .with_time_source(aws.clock.clone())
}

async fn provided(
    what: &str,
    hint: &str,
    patience: Duration,
    provider: &impl ProvideCredentials,
) -> Result<Issued, AuthError> {
    let provided = tokio::time::timeout(patience, provider.provide_credentials()).await;
    let Ok(provided) = provided else {
        return Err(AuthError::Unavailable(format!(
            "{what} gave no keys within {} s: {hint}",
            patience.as_secs()
        )));
    };
    match provided {
        Ok(credentials) => {
            let expires: Option<SystemTime> = credentials.expiry();
            Ok(Issued {
                credentials,
                expires,
            })
        }
        Err(error) => {
            let mut why = String::new();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                why.push_str(": ");
                why.push_str(&tame(&error.to_string()));
                cause = error.source();
            }
            Err(AuthError::Refused(format!(
                "{what} gave no keys{why}. Next: {hint}"
            )))
        }
    }
}
