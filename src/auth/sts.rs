//! What STS is asked, and what its refusals mean.
//!
//! Codes and texts are AWS's own; other stores answer `<Error>` without `<Message>`, or with
//! other words, so the status decides where the code is silent.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::IdentityCache;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::types::Tag;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::code::Code;
use super::identity::{LONGEST_ROLE, Role};
use crate::aws::{Aws, is_aws};
use crate::clock::Clock;

/// How often a request that certainly did not reach STS is sent again.
const CONNECT_ATTEMPTS: u32 = 3;

/// How long connecting to STS may take, and how long its answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(20);

/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What a role's session is called where nobody said how: it shows in CloudTrail.
const SESSION_NAME: &str = "s3mfa-mount";

/// Asks STS, each time with the keys that it is given.
#[derive(Debug, Clone)]
pub(crate) struct Sts(Arc<Aws>);

/// Keys that STS has granted.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    /// The keys and the token.
    pub(crate) credentials: Credentials,
    /// When they end; `None` if STS did not say.
    pub(crate) expires: Option<SystemTime>,
}

/// Whom STS takes somebody for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// `arn:aws:iam::123456789012:user/alice`, or of a role's session.
    pub(crate) arn: String,
    /// Twelve digits.
    pub(crate) account: String,
}

impl Caller {
    /// The name of the user, if it is one; a path before it is not part of it.
    pub(crate) fn user(&self) -> Option<&str> {
        self.arn.split_once(":user/")?.1.rsplit('/').next()
    }
}

/// What STS said instead of a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StsError {
    /// Wrong, already used, or a device out of step: AWS has one text for all three.
    #[error("AWS refused the code: mistyped, or used before. Type it again, or the next one")]
    WrongCode,
    /// No such device, or not this user's.
    #[error(
        "AWS does not know the MFA device {serial} as one of this user's. Check `mfa_serial`: \
         its form is arn:aws:iam::ACCOUNT:mfa/NAME or the number on a hardware device"
    )]
    UnknownDevice {
        /// The serial that was sent.
        serial: String,
    },
    /// The role may not be assumed: by these keys, or without MFA.
    #[error("{0}")]
    RoleDenied(String),
    /// The session that was to assume the role has ended.
    #[error("the session has ended")]
    Ended,
    /// This STS has no such request; the code is unspent.
    #[error("this STS does not know the request ({0})")]
    Unsupported(String),
    /// The access key is unknown: deleted, disabled, or of a session that is gone.
    #[error(
        "AWS does not know the access key: it may be deleted or disabled. Check the profile's \
         aws_access_key_id"
    )]
    UnknownKey,
    /// The keys are temporary, or may not do this.
    #[error("{0}")]
    Refused(String),
    /// STS answered 5xx or throttled. The code may be spent.
    #[error("STS is out of order just now ({0})")]
    Unavailable(String),
    /// STS granted something that is no session. The code is spent.
    #[error("{0}")]
    Useless(String),
    /// Nothing answered.
    #[error("{message}")]
    Unreachable {
        /// Whether the code may have arrived all the same.
        maybe_sent: bool,
        /// Whether it was silence rather than a refusal.
        timed_out: bool,
        /// Where, and what to check.
        message: String,
    },
}

impl StsError {
    /// Whether a code that was sent must not be sent again.
    pub(crate) fn may_have_spent_it(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Useless(_) => true,
            Self::Unreachable { maybe_sent, .. } => *maybe_sent,
            _ => false,
        }
    }
}

/// A device and its code.
pub(crate) type Mfa<'a> = (&'a str, &'a Code);

impl Sts {
    /// Will ask where `aws` says.
    pub(crate) fn new(aws: Arc<Aws>) -> Self {
        Self(aws)
    }

    /// Trades a code for a session of `duration` seconds, STS's default (12 hours) if `None`.
    /// The keys must be long-term ones.
    pub(crate) async fn get_session_token(
        &self,
        keys: &Credentials,
        (serial, code): Mfa<'_>,
        duration: Option<i32>,
    ) -> Result<Issued, StsError> {
        let client = self.client(keys);
        let request = || {
            let request = client.get_session_token().serial_number(serial);
            let request = request.token_code(code.digits());
            request.set_duration_seconds(duration).send()
        };
        let output = self.send(request, Some(serial)).await?;
        self.granted(output.credentials, "GetSessionToken")
    }

    /// A session that no code is given for, which has `aws:MultiFactorAuthPresent` = false.
    pub(crate) async fn session_without_mfa(&self, keys: &Credentials) -> Result<Issued, StsError> {
        let client = self.client(keys);
        let request = || client.get_session_token().duration_seconds(900).send();
        let output = self.send(request, None).await?;
        self.granted(output.credentials, "GetSessionToken")
    }

    /// Assumes a role for `duration` seconds, STS's default (an hour) if `None`.
    pub(crate) async fn assume_role(
        &self,
        keys: &Credentials,
        role: &Role,
        mfa: Option<Mfa<'_>>,
        duration: Option<i32>,
    ) -> Result<Issued, StsError> {
        let client = self.client(keys);
        let serial = mfa.map(|(serial, _)| serial.to_owned());
        // `--duration` may be meant for the session before it.
        let is_aws = self.0.endpoints.urls.sts.as_deref().is_none_or(is_aws);
        let duration = duration.map(|seconds| match is_aws {
            true => seconds.min(LONGEST_ROLE),
            false => seconds,
        });
        let tags = role.tags.iter().map(|(name, value)| {
            let tag = Tag::builder().key(name).value(value).build();
            tag.map_err(|error| StsError::Refused(format!("a tag of the session: {error}")))
        });
        let tags = tags.collect::<Result<Vec<_>, _>>()?;
        let tags = Some(tags).filter(|tags| !tags.is_empty());
        let transitive = Some(role.transitive_tags.clone()).filter(|names| !names.is_empty());
        let request = || {
            let name = role.session_name.as_deref().unwrap_or(SESSION_NAME);
            client
                .assume_role()
                .role_arn(&role.arn)
                .role_session_name(name)
                .set_external_id(role.external_id.clone())
                .set_duration_seconds(duration)
                .set_source_identity(role.source_identity.clone())
                .set_tags(tags.clone())
                .set_transitive_tag_keys(transitive.clone())
                .set_serial_number(serial.clone())
                .set_token_code(mfa.map(|(_, code)| code.digits().to_owned()))
                .send()
        };
        let output = self.send(request, serial.as_deref()).await?;
        self.granted(output.credentials, "AssumeRole")
    }

    /// Assumes a role with the token of an identity provider. Nothing is signed.
    pub(crate) async fn assume_role_with_web_identity(
        &self,
        role: &Role,
        token: &str,
    ) -> Result<Issued, StsError> {
        let client = Client::from_conf(self.config().build());
        let request = || {
            client
                .assume_role_with_web_identity()
                .role_arn(&role.arn)
                .role_session_name(role.session_name.as_deref().unwrap_or(SESSION_NAME))
                .set_duration_seconds(role.duration)
                .web_identity_token(token)
                .send()
        };
        let output = self.send(request, None).await?;
        self.granted(output.credentials, "AssumeRoleWithWebIdentity")
    }

    /// Asks who the keys belong to, which nobody needs a permission for.
    pub(crate) async fn caller(&self, keys: &Credentials) -> Result<Caller, StsError> {
        let client = self.client(keys);
        let output = self
            .send(|| client.get_caller_identity().send(), None)
            .await?;
        Ok(Caller {
            arn: output.arn.unwrap_or_default(),
            account: output.account.unwrap_or_default(),
        })
    }

    /// What STS grants, if it is of use.
    fn granted(
        &self,
        credentials: Option<aws_sdk_sts::types::Credentials>,
        how: &'static str,
    ) -> Result<Issued, StsError> {
        let now = Clock::now(&self.0.clock);
        super::grant::read(credentials, how, &self.0.sts_place(), now)
    }

    fn config(&self) -> aws_sdk_sts::config::Builder {
        let endpoints = &self.0.endpoints;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_timeout(ANSWER)
            .build();
        // A repeated request would present a spent code, and be told that it is wrong.
        let once = RetryConfig::disabled();
        let url = endpoints.urls.sts.as_ref();
        let common = self.0.service(&endpoints.region, url, timeouts, once);
        aws_sdk_sts::config::Builder::from(&common)
            // The clock is corrected for all services at once; doing it twice would undo it.
            .disable_clock_skew_correction(true)
            .interceptor(self.0.timekeeper())
            .identity_cache(IdentityCache::no_cache())
    }

    fn client(&self, keys: &Credentials) -> Client {
        Client::from_conf(self.config().credentials_provider(keys.clone()).build())
    }

    /// Sends once, and again only what certainly never reached STS, or what it refused unread
    /// because of this machine's clock, which the refusal has put right.
    async fn send<T, E, F>(
        &self,
        request: impl Fn() -> F,
        serial: Option<&str>,
    ) -> Result<T, StsError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0;
        let mut corrected = false;
        loop {
            attempt += 1;
            let ahead = self.0.clock.seconds_ahead();
            match request().await {
                Ok(output) => return Ok(output),
                Err(error) if attempt < CONNECT_ATTEMPTS && never_arrived(&error) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error)
                    if !corrected
                        && is_about_time(&error)
                        && self.0.clock.seconds_ahead() != ahead =>
                {
                    corrected = true;
                }
                Err(error) => return Err(self.meaning(serial, &error)),
            }
        }
    }

    fn meaning<E>(&self, serial: Option<&str>, error: &SdkError<E, HttpResponse>) -> StsError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|r| r.status().as_u16());
        let Some(status) = status else {
            let timed_out = matches!(error, SdkError::TimeoutError(_))
                || matches!(error, SdkError::DispatchFailure(f) if f.is_timeout());
            let what = if timed_out {
                "does not answer"
            } else {
                "cannot be reached"
            };
            return StsError::Unreachable {
                maybe_sent: !never_arrived(error) && certificates(error).is_empty(),
                timed_out,
                message: format!(
                    "STS at {} {what}: check the network, the region and --sts-endpoint-url{}",
                    self.0.sts_place(),
                    certificates(error)
                ),
            };
        };
        if (200..300).contains(&status) {
            return super::grant::unreadable(&self.0.sts_place(), error);
        }
        let code = error.code().unwrap_or_default();
        let text = error.message().unwrap_or_default();
        classify(serial.unwrap_or_default(), status, code, text)
    }
}

/// What to do about a certificate that is not trusted, if that is why nothing answers.
fn certificates(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("certificate") {
            return format!(
                ". Its certificate is not trusted ({}): --ca-bundle FILE names one that is",
                crate::words::tame(&text)
            );
        }
        cause = error.source();
    }
    String::new()
}

/// A refusal because of the time of day. To STS a wrong clock is a wrong signature.
fn is_about_time<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let text = error.message().unwrap_or_default();
    match error.code() {
        Some("SignatureDoesNotMatch") => text.starts_with("Signature "),
        Some("RequestTimeTooSkewed" | "RequestExpired" | "InvalidSignatureException") => true,
        _ => false,
    }
}

/// Reads AWS's words (aws-mfa facts: the texts are verbatim and stable for years).
fn classify(serial: &str, status: u16, code: &str, text: &str) -> StsError {
    let text = crate::words::tame(text);
    match (status, code) {
        (_, "AccessDenied") if text.contains("invalid MFA one time pass code") => {
            StsError::WrongCode
        }
        (_, "AccessDenied") if text.contains("unable to validate MFA code") => {
            StsError::UnknownDevice {
                serial: serial.to_owned(),
            }
        }
        (_, "AccessDenied") if text.contains("session credentials") => StsError::Refused(
            "the keys of this profile are temporary, and AWS grants no session to those: \
             name the profile with the long-term keys (`source_profile`, --profile)"
                .to_owned(),
        ),
        (_, "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId") => {
            StsError::UnknownKey
        }
        (_, "SignatureDoesNotMatch") if text.starts_with("Signature ") => {
            StsError::Refused(format!(
                "this machine's clock is wrong by more than AWS allows: set it (timedatectl \
                 set-ntp true) and try again. AWS says: {text}"
            ))
        }
        (_, "SignatureDoesNotMatch") if text.contains("scoped to a valid region") => {
            StsError::Refused(
                "this STS belongs to another region than the one that is said (--region, AWS_REGION, \
                 `region` in the profile): name the one that it is in"
                    .to_owned(),
            )
        }
        (_, "SignatureDoesNotMatch") => StsError::Refused(
            "AWS refuses the signature: the profile's aws_secret_access_key does not belong to \
             its aws_access_key_id"
                .to_owned(),
        ),
        (_, "ExpiredToken" | "ExpiredTokenException") => StsError::Ended,
        (_, "AccessDenied" | "AccessDeniedException") if text.contains("sts:AssumeRole") => {
            StsError::RoleDenied(text)
        }
        (404 | 405 | 501, _) | (_, "InvalidAction" | "NotImplemented" | "MethodNotAllowed") => {
            StsError::Unsupported(named(status, code))
        }
        (400, "ValidationError")
            if text.contains("durationSeconds") || text.contains("DurationSeconds") =>
        {
            StsError::Refused(format!(
                "AWS refuses that duration (--duration, or duration_seconds of the profile): {text}"
            ))
        }
        (500.., _) | (_, "Throttling" | "ThrottlingException") => {
            StsError::Unavailable(named(status, code))
        }
        _ => StsError::Refused(format!(
            "STS refused to grant a session ({}){}{text}",
            named(status, code),
            if text.is_empty() { "" } else { ": " }
        )),
    }
}

fn named(status: u16, code: &str) -> String {
    if code.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("{}, HTTP {status}", crate::words::tame(code))
    }
}

/// Whether the request certainly failed before a byte of it was sent: the SDK's own "io" would
/// also be a connection that broke after STS had taken the code.
fn never_arrived<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: std::error::Error + 'static,
{
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::NetworkDown
                    | ErrorKind::AddrNotAvailable
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_aws_are_told_apart() {
        let meaning = |status, code, text| classify("arn:x", status, code, text);
        assert_eq!(
            meaning(
                403,
                "AccessDenied",
                "MultiFactorAuthentication failed with invalid MFA one time pass code."
            ),
            StsError::WrongCode
        );
        assert_eq!(
            meaning(
                403,
                "AccessDenied",
                "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify \
                 your MFA serial number is valid and associated with this user."
            ),
            StsError::UnknownDevice {
                serial: "arn:x".to_owned()
            }
        );
        assert_eq!(
            meaning(503, "", ""),
            StsError::Unavailable("HTTP 503".to_owned())
        );
        assert_eq!(
            meaning(400, "Throttling", "Rate exceeded"),
            StsError::Unavailable("Throttling, HTTP 400".to_owned())
        );
    }

    #[test]
    fn an_answer_without_code_or_message_is_still_a_sentence() {
        let StsError::Refused(text) = classify("arn:x", 403, "", "") else {
            unreachable!("a 403 is a refusal");
        };
        assert_eq!(text, "STS refused to grant a session (HTTP 403)");
    }
}
