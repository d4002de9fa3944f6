//! GetSessionToken, and what STS's refusals mean.
//!
//! Codes and texts are AWS's own; other stores answer `<Error>` without `<Message>`, or with
//! other words, so the status decides where the code is silent.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::get_session_token::GetSessionTokenError;

use super::code::Code;
use super::session::Granted;

/// How often a request that certainly did not reach STS is sent again.
const CONNECT_ATTEMPTS: u32 = 3;

/// How long connecting to STS may take, and how long its answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(20);

/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Calls STS with the long-term keys.
#[derive(Debug, Clone)]
pub(crate) struct Sts {
    client: aws_sdk_sts::Client,
    endpoint: String,
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
    /// The keys are temporary, unknown, disabled, or may not do this.
    #[error("{0}")]
    Refused(String),
    /// STS answered 5xx or throttled. The code may be spent.
    #[error("STS is out of order just now ({0}); the code may be spent. Type the next one")]
    Unavailable(String),
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

impl Sts {
    /// Calls the endpoint of `config`, whose credentials must be long-term keys.
    pub(crate) fn new(config: aws_sdk_sts::Config, endpoint: String) -> Self {
        // A repeated request would present a spent code, and be told that it is wrong.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_timeout(ANSWER)
            .build();
        let config = config
            .to_builder()
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .build();
        Self {
            client: aws_sdk_sts::Client::from_conf(config),
            endpoint,
        }
    }

    /// Trades a code for a session of `duration`, STS's default (12 hours) if `None`.
    ///
    /// Only what certainly never reached STS is tried again.
    pub(crate) async fn get_session_token(
        &self,
        serial: &str,
        code: &Code,
        duration: Option<i32>,
    ) -> Result<Granted, StsError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let answer = self
                .client
                .get_session_token()
                .serial_number(serial)
                .token_code(code.digits())
                .set_duration_seconds(duration)
                .send()
                .await;
            match answer {
                Ok(output) => return granted(output.credentials),
                Err(error) if attempt < CONNECT_ATTEMPTS && never_arrived(&error) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(self.meaning(serial, &error)),
            }
        }
        Err(StsError::Refused("STS was not asked".to_owned()))
    }

    fn meaning(&self, serial: &str, error: &SdkError<GetSessionTokenError>) -> StsError {
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
                maybe_sent: !never_arrived(error),
                timed_out,
                message: format!(
                    "STS at {} {what}: check the network, the region and --sts-endpoint-url",
                    self.endpoint
                ),
            };
        };
        let code = error.code().unwrap_or_default();
        let text = error.message().unwrap_or_default();
        classify(serial, status, code, text)
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
        (_, "InvalidClientTokenId" | "UnrecognizedClientException") => StsError::Refused(
            "AWS does not know the access key: it may be deleted or disabled. \
             Check the profile's aws_access_key_id"
                .to_owned(),
        ),
        (_, "SignatureDoesNotMatch") if text.contains("Signature") && text.contains("is now") => {
            StsError::Refused(format!(
                "this machine's clock is wrong by more than AWS allows: set it (timedatectl \
                 set-ntp true) and try again. AWS says: {text}"
            ))
        }
        (_, "SignatureDoesNotMatch") => StsError::Refused(
            "AWS refuses the signature: the profile's aws_secret_access_key does not belong to \
             its aws_access_key_id"
                .to_owned(),
        ),
        (_, "ExpiredToken" | "ExpiredTokenException") => StsError::Refused(
            "the keys of this profile are temporary and have expired: name the profile with the \
             long-term keys (`source_profile`, --profile)"
                .to_owned(),
        ),
        (400, "ValidationError") if text.contains("durationSeconds") => {
            StsError::Refused(format!("AWS refuses --duration: {text}"))
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
fn never_arrived(error: &SdkError<GetSessionTokenError>) -> bool {
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

fn granted(credentials: Option<aws_sdk_sts::types::Credentials>) -> Result<Granted, StsError> {
    let Some(credentials) = credentials else {
        return Err(StsError::Refused(
            "STS answered without credentials: is --sts-endpoint-url an STS?".to_owned(),
        ));
    };
    let expires = SystemTime::try_from(credentials.expiration).ok();
    Ok(Granted {
        expires,
        credentials: Credentials::new(
            credentials.access_key_id,
            credentials.secret_access_key,
            Some(credentials.session_token),
            expires,
            "GetSessionToken",
        ),
    })
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
