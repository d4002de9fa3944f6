//! Reads S3's refusals.
//!
//! The same thing is said in many ways: an expired session is 400 `ExpiredToken` at AWS, 403
//! `ExpiredToken` or 403 `AccessDenied` elsewhere, and nothing but a bare 400 in answer to HEAD,
//! which has no body. Bodies echo the live session token (`<Token-0>`), so only the code, the
//! message and the request id are ever looked at.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::retry;
use crate::auth::Generation;
use crate::words::tame;

/// What kind of refusal it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The session is expired, revoked or garbled: S3 says so.
    Token,
    /// 403 in any wording, which may mean a session that is too old.
    Denied,
    /// 400 or 403 without a body: anything, until a GET has been asked.
    Bare,
    /// No such key or bucket.
    NotFound,
    /// The object is not the expected one.
    Changed,
    /// The range starts behind the end.
    Range,
    /// Archived.
    Archived,
    /// Another region, which S3 named.
    Region(String),
    /// Nothing answered; `true` if it was silence.
    Unreachable(bool),
    /// What passes by itself ([`retry`]), after the attempts that nobody notices.
    Busy,
    /// No such multipart upload.
    NoUpload,
    /// A part that S3 no longer has, or has otherwise.
    BadPart,
    /// An upload has no more parts than this, if S3 says how many.
    TooManyParts(Option<u32>),
    /// More than S3 takes.
    TooLarge,
    /// A key of more than 1,024 bytes.
    LongKey,
    /// The store does not know this kind of request or condition.
    Unsupported,
    /// The bytes do not have their digest.
    Garbled,
    /// Signed with a secret that does not belong to the access key.
    Signature,
    /// An answer that leaves out, or garbles, what must be known. What was asked for may be done.
    Untold,
    /// A listing that cannot be relied on.
    Listing,
    /// Anything else.
    Other,
}

/// A refusal of S3, or the lack of any answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    /// What it means.
    pub(crate) kind: Kind,
    /// Which session had signed the request.
    pub(crate) generation: Generation,
    /// What S3 said, tamed.
    pub(crate) text: String,
}

impl Failure {
    /// A failure that did not come from S3's error answer, such as a body that broke off.
    pub(crate) fn new(kind: Kind, generation: Generation, text: impl Into<String>) -> Self {
        Self {
            kind,
            generation,
            text: text.into(),
        }
    }

    /// What S3 said, without the number of the request, which is another one each time.
    pub(crate) fn said(&self) -> &str {
        self.text.split(" (request ").next().unwrap_or_default()
    }

    /// Reads what the SDK hands back.
    pub(crate) fn read<E>(generation: Generation, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Some(response) = error.raw_response() else {
            let silent = match error {
                SdkError::TimeoutError(_) => true,
                SdkError::DispatchFailure(failure) => failure.is_timeout(),
                _ => false,
            };
            return Self::new(Kind::Unreachable(silent), generation, causes(error));
        };
        let status = response.status().as_u16();
        let code = error.code().unwrap_or_default();
        if response.status().is_success() && code.is_empty() {
            // Not an error inside of a success, which has a code: the SDK cannot read it.
            let text = format!(
                "HTTP {status}, and an answer that cannot be read ({}){}",
                causes(error),
                request_of(response, None)
            );
            return Self::new(Kind::Untold, generation, text);
        }
        let region = response.headers().get("x-amz-bucket-region");
        let kind = classify(status, code, region);
        let mut text = format!("HTTP {status}");
        for part in [code, error.message().unwrap_or_default()] {
            if !part.is_empty() {
                text.push_str(", ");
                text.push_str(&tame(part));
            }
        }
        let meta = error.meta();
        let request = meta.request_id().or(meta.extended_request_id());
        text.push_str(&request_of(response, request));
        Self::new(kind, generation, text)
    }
}

/// The id by which the store's operator finds a request, for people.
fn request_of(response: &HttpResponse, told: Option<&str>) -> String {
    let id = told.or_else(|| response.headers().get("x-amz-request-id"));
    id.map_or_else(String::new, |id| format!(" (request {})", tame(id)))
}

impl Failure {
    /// Reads the refusal of a copy. Who does not know copies says so in many ways: with 501 or 405,
    /// or with 400 and the code of something wrong with the request, which is right otherwise.
    pub(super) fn read_copy<E>(generation: Generation, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut failure = Self::read(generation, error);
        let status = error.raw_response().map(|response| response.status());
        let message = error.message().unwrap_or_default();
        if let Some(status) = status
            && cannot_copy(status.as_u16(), &failure.kind, message)
        {
            failure.kind = Kind::Unsupported;
        }
        failure
    }

    /// Reads the refusal of a part, or of an upload with a part of that number.
    pub(super) fn of_part<E>(self, number: i32, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (code, message) = (error.code(), error.message());
        let (code, message) = (code.unwrap_or_default(), message.unwrap_or_default());
        let is_refused = !matches!(self.kind, Kind::Busy | Kind::Token | Kind::Denied);
        match most_parts(number, code, message).filter(|_| is_refused) {
            Some(named) => Self {
                kind: Kind::TooManyParts(named),
                ..self
            },
            None => self,
        }
    }
}

/// Whether a copy was refused because the store knows no copies, or none of this kind.
fn cannot_copy(status: u16, kind: &Kind, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let says_so = [
        "not supported",
        "unsupported",
        "not implemented",
        "does not support",
    ]
    .iter()
    .any(|words| message.contains(words));
    match (status, kind) {
        (405, _) => true,
        (400, Kind::Other | Kind::Bare) => true,
        (400..=499, Kind::Other) => says_so,
        _ => false,
    }
}

/// Whether a part was refused because of its number, and the highest one that is named. Swift says
/// what AWS says of 10,000: `InvalidArgument`, "Part number must be an integer between 1 and 1000,
/// inclusive".
fn most_parts(number: i32, code: &str, message: &str) -> Option<Option<u32>> {
    let message = message.to_ascii_lowercase();
    let speaks_of_it = [
        "part number",
        "partnumber",
        "too many parts",
        "number of parts",
    ]
    .iter()
    .any(|words| message.contains(words));
    let is_it = match code {
        "InvalidPartNumber" | "TooManyParts" => true,
        "InvalidArgument" | "InvalidRequest" | "MalformedXML" => speaks_of_it,
        _ => false,
    };
    if !is_it || number < 2 {
        return None;
    }
    let numbers = message.split(|c: char| !c.is_ascii_digit());
    let numbers = numbers.filter_map(|digits| digits.parse::<u32>().ok());
    let below = numbers.filter(|named| *named > 1 && i64::from(*named) < i64::from(number));
    Some(below.max())
}

fn classify(status: u16, code: &str, region: Option<&str>) -> Kind {
    match (status, code) {
        (
            _,
            "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "RequestExpired"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId",
        ) => Kind::Token,
        (301 | 307, _)
        | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            match region {
                Some(region) => Kind::Region(tame(region)),
                None => Kind::Other,
            }
        }
        (_, "NoSuchUpload") => Kind::NoUpload,
        (_, "InvalidPart" | "InvalidPartOrder") => Kind::BadPart,
        (_, "EntityTooLarge" | "MetadataTooLarge") => Kind::TooLarge,
        (_, "KeyTooLongError") => Kind::LongKey,
        (_, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => {
            Kind::Garbled
        }
        (501, _) | (_, "NotImplemented") => Kind::Unsupported,
        _ if retry::passes(status, code) => Kind::Busy,
        (404, _) | (_, "NoSuchKey" | "NoSuchBucket" | "NotFound") => Kind::NotFound,
        (412, _) | (_, "PreconditionFailed") => Kind::Changed,
        (416, _) | (_, "InvalidRange") => Kind::Range,
        (_, "InvalidObjectState") => Kind::Archived,
        (_, "SignatureDoesNotMatch") => Kind::Signature,
        (_, "RequestTimeTooSkewed") => Kind::Other,
        (400 | 403, "" | "BadRequest" | "Bad Request" | "Forbidden") => Kind::Bare,
        (401 | 403, _) => Kind::Denied,
        _ => Kind::Other,
    }
}

/// The chain of causes of an error that never reached S3, for a person.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = tame(&error.to_string());
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_expired_is_heard() {
        assert_eq!(classify(400, "ExpiredToken", None), Kind::Token);
        assert_eq!(classify(403, "ExpiredToken", None), Kind::Token);
        assert_eq!(classify(403, "AccessDenied", None), Kind::Denied);
        assert_eq!(classify(403, "AccessDeniedException", None), Kind::Denied);
        assert_eq!(classify(400, "", None), Kind::Bare);
        assert_eq!(classify(403, "", None), Kind::Bare);
    }

    #[test]
    fn a_broken_signature_or_clock_is_no_reason_to_ask_for_a_code() {
        assert_eq!(
            classify(403, "SignatureDoesNotMatch", None),
            Kind::Signature
        );
        assert_eq!(classify(403, "RequestTimeTooSkewed", None), Kind::Other);
    }

    #[test]
    fn what_passes_is_busy_whatever_it_is_called() {
        for (status, code) in [
            (408, ""),
            (429, ""),
            (503, "SlowDown"),
            (520, ""),
            (400, "RequestTimeout"),
            (409, "OperationAborted"),
        ] {
            assert_eq!(classify(status, code, None), Kind::Busy, "{status} {code}");
        }
        assert_eq!(classify(409, "InvalidBucketState", None), Kind::Other);
        assert_eq!(classify(412, "PreconditionFailed", None), Kind::Changed);
        assert_eq!(classify(501, "", None), Kind::Unsupported);
    }

    #[test]
    fn who_knows_no_copies_is_understood_however_it_is_said() {
        assert!(cannot_copy(
            405,
            &Kind::Other,
            "The specified method is not allowed"
        ));
        assert!(cannot_copy(400, &Kind::Other, "not here"));
        assert!(cannot_copy(400, &Kind::Bare, ""));
        assert!(cannot_copy(422, &Kind::Other, "Copying is not supported"));
        // What is refused for another reason is no reason to fetch and send everything.
        assert!(!cannot_copy(403, &Kind::Denied, "Access Denied"));
        assert!(!cannot_copy(400, &Kind::Token, "expired"));
        assert!(!cannot_copy(404, &Kind::NotFound, "no such key"));
        assert!(!cannot_copy(412, &Kind::Changed, ""));
    }

    #[test]
    fn the_highest_number_of_a_part_is_read_if_it_is_named() {
        let swift = "Part number must be an integer between 1 and 1000, inclusive";
        assert_eq!(most_parts(1001, "InvalidArgument", swift), Some(Some(1000)));
        assert_eq!(
            most_parts(7, "InvalidPartNumber", "7 is no good"),
            Some(None)
        );
        assert_eq!(most_parts(1, "InvalidPartNumber", ""), None);
        assert_eq!(most_parts(7, "InvalidArgument", "Invalid digest"), None);
        let listed = "You have attempted to use too many parts: the limit is 500";
        assert_eq!(most_parts(900, "InvalidRequest", listed), Some(Some(500)));
    }

    #[test]
    fn a_region_counts_only_if_it_is_named() {
        let named = classify(301, "PermanentRedirect", Some("eu-west-1"));
        assert_eq!(named, Kind::Region("eu-west-1".to_owned()));
        assert_eq!(classify(301, "PermanentRedirect", None), Kind::Other);
    }
}
