//! Which refusals pass by themselves, how often such a request is sent again, and when.
//!
//! This is the one place for all operations alike. The SDK knows AWS's codes and four statuses
//! (500, 502, 503, 504), and most of its codes stand in bodies, which HEAD does not have. Stores
//! and the proxies before them say the same with others: 429 and 408 of any rate limit
//! (RFC 6585 section 4, RFC 9110 section 15.5.9), 520 to 530 of Cloudflare, 409 of AWS and of
//! Ceph for two writes at once.
//!
//! Whoever waits longer than the attempts here last (the upload of a closed file, what the
//! journal knows) tries again at a slower pace: see [`super::Failure`] of the kind `Busy`.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::retry::RetryConfig;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::date_time::Format;
use aws_smithy_types::retry::ErrorKind;

/// How often a request is sent at most, the first time included: with pauses of up to 1, 2, 4, 8
/// and 16 seconds between them, of which each is a random part.
const ATTEMPTS: u32 = 6;

/// The longest pause, also if the server asks for a longer one: somebody waits.
const LONGEST: Duration = Duration::from_secs(20);

/// Codes of refusals that pass, whatever their status. AWS has them in the "List of error codes"
/// of its S3 API reference; the longer ones are those of its other services, which gateways in
/// front of other stores use.
const PASSING: [&str; 22] = [
    "BandwidthLimitExceeded",
    "ConcurrentModification",
    "ConditionalRequestConflict",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
];

/// Whether a refusal may be over a moment later, without anybody doing anything.
pub(super) fn passes(status: u16, code: &str) -> bool {
    match status {
        _ if PASSING.contains(&code) => true,
        // Without a body they are answers to HEAD. Most of those with one say what is there, and say
        // it again.
        409 => code.is_empty() || code.contains("Conflict") || code.contains("Aborted"),
        408 | 425 | 429 => true,
        // Not implemented, not this version of HTTP: those do not pass.
        501 | 505 => false,
        500..=599 => code != "NotImplemented",
        _ => false,
    }
}

/// Whether it is worth asking again within seconds: a full disk, for one, is not.
fn passes_soon(status: u16, code: &str) -> bool {
    passes(status, code) && status != 507
}

/// How the SDK is to send again what [`Passing`] says passes.
pub(super) fn config(pause: Duration) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(pause)
        .with_max_backoff(LONGEST)
}

/// Tells the SDK which refusals pass: those above, and what was refused because of this
/// machine's clock, which the refusal has put right.
#[derive(Debug)]
pub(super) struct Passing;

impl ClassifyRetry for Passing {
    fn name(&self) -> &'static str {
        "Passing"
    }

    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(response) = context.response() else {
            return RetryAction::NoActionIndicated;
        };
        let status = response.status().as_u16();
        if status < 400 {
            // An error in the body of a 200 is the SDK's to see.
            return RetryAction::NoActionIndicated;
        }
        let code = response.body().bytes().and_then(code).unwrap_or_default();
        if code == "RequestTimeTooSkewed" {
            return RetryAction::transient_error();
        }
        if !passes_soon(status, code) {
            return RetryAction::NoActionIndicated;
        }
        match wanted_pause(response) {
            Some(pause) => RetryAction::retryable_error_with_explicit_delay(
                ErrorKind::TransientError,
                pause.min(LONGEST),
            ),
            None => RetryAction::transient_error(),
        }
    }
}

/// The code in an error's document, which the SDK has read whole before it asks.
fn code(document: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(document).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code.trim())
}

/// The pause that a server asks for: `Retry-After` in seconds or as a date (RFC 9110 section
/// 10.2.3), or AWS's own header in milliseconds.
fn wanted_pause(response: &HttpResponse) -> Option<Duration> {
    let headers = response.headers();
    if let Some(milliseconds) = headers.get("x-amz-retry-after") {
        return milliseconds.trim().parse().ok().map(Duration::from_millis);
    }
    let wanted = headers.get("retry-after")?.trim();
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| {
        let date = aws_smithy_types::DateTime::from_str(text, Format::HttpDate).ok()?;
        SystemTime::try_from(date).ok()
    };
    // By the server's own clock, if it tells the time.
    let now = headers.get("date").and_then(date);
    let now = now.unwrap_or_else(SystemTime::now);
    date(wanted)?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for status in [
            408, 409, 425, 429, 500, 502, 503, 504, 507, 509, 520, 524, 530,
        ] {
            assert!(passes(status, ""), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 411, 412, 416, 501, 505] {
            assert!(!passes(status, ""), "{status}");
        }
        for (status, code) in [
            (400, "RequestTimeout"),
            (400, "ThrottlingException"),
            (403, "SlowDown"),
            (409, "OperationAborted"),
            (409, "ConditionalRequestConflict"),
            (503, "SlowDown"),
        ] {
            assert!(passes(status, code), "{status} {code}");
        }
        for (status, code) in [
            (409, "InvalidBucketState"),
            (409, "XMinioObjectExistsAsDirectory"),
            (500, "NotImplemented"),
            (400, "InvalidRequest"),
        ] {
            assert!(!passes(status, code), "{status} {code}");
        }
    }

    #[test]
    fn a_full_disk_is_not_asked_again_at_once() {
        assert!(passes(507, "XMinioStorageFull"));
        assert!(!passes_soon(507, "XMinioStorageFull"));
    }

    #[test]
    fn the_pause_that_is_asked_for_is_read_in_each_of_its_forms() {
        let with = |pairs: &[(&'static str, &'static str)]| {
            let mut response = HttpResponse::new(
                429.try_into().unwrap(),
                aws_smithy_types::body::SdkBody::empty(),
            );
            for (name, value) in pairs {
                response.headers_mut().insert(*name, *value);
            }
            wanted_pause(&response)
        };
        let seconds = Duration::from_secs;
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("retry-after", "3")]), Some(seconds(3)));
        assert_eq!(with(&[("retry-after", "soon")]), None);
        assert_eq!(
            with(&[("x-amz-retry-after", "1500")]),
            Some(Duration::from_millis(1500))
        );
        let dates = [
            ("date", "Fri, 27 Nov 2026 11:00:00 GMT"),
            ("retry-after", "Fri, 27 Nov 2026 11:00:07 GMT"),
        ];
        assert_eq!(with(&dates), Some(seconds(7)));
    }

    #[test]
    fn the_code_is_found_in_any_error_document() {
        let text =
            b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>m</Message></Error>";
        assert_eq!(code(text), Some("SlowDown"));
        assert_eq!(code(b"<html>Too many requests</html>"), None);
        assert_eq!(code(b"\xff"), None);
    }
}
