//! Headers that the SDK cannot read would make it throw the whole answer away: they are put into a
//! form that it can read, or taken out, before it looks at them.
//!
//! What is taken out is unknown from then on, as if the store had not told it: see
//! [`told`](super::told).

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::config_bag::ConfigBag;
use jiff::civil::DateTime as CivilTime;
use jiff::fmt::rfc2822;
use jiff::{Timestamp, tz::TimeZone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What precedes the names of metadata.
const METADATA: &str = "x-amz-meta-";

/// Headers of which the SDK reads numbers, dates or truth values, and this program nothing.
const UNUSED: [&str; 11] = [
    "x-amz-delete-marker",
    "x-amz-missing-meta",
    "x-amz-mp-parts-count",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-size",
    "x-amz-replication-status",
    "x-amz-restore",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-tagging-count",
];

/// What the bytes of a header are written as that are not US-ASCII: all but letters and digits, as
/// "Q" encoding has it (RFC 2047, 4.2).
const ENCODED: &AsciiSet = NON_ALPHANUMERIC;

/// Reads the headers of successful answers before the SDK does.
#[derive(Debug)]
pub(super) struct Reader;

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Reader {
    fn name(&self) -> &'static str {
        "HeaderReader"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            make_readable(response.headers_mut());
        }
        Ok(())
    }
}

fn make_readable(headers: &mut Headers) {
    for name in UNUSED {
        headers.remove(name);
    }
    let mut names: Vec<String> = headers
        .iter_bytes()
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let values: Vec<Vec<u8>> = headers.get_all_bytes(&name).map(<[u8]>::to_vec).collect();
        let is_plain = |value: &[u8]| std::str::from_utf8(value).is_ok();
        let value = match (values.as_slice(), name.as_str()) {
            ([value], "last-modified" | "content-length") if is_plain(value) => value.clone(),
            ([value], _) if is_plain(value) => continue,
            // Several fields of one name mean the same as one with commas (RFC 9110, 5.3).
            (values, _) if name.starts_with(METADATA) => values.join(&b","[..]),
            // Which of them holds, nobody knows.
            (values, "content-length" | "last-modified" | "etag") => match one(values) {
                Some(value) => value,
                None => {
                    headers.remove(&name);
                    continue;
                }
            },
            (values, _) => values.first().cloned().unwrap_or_default(),
        };
        let readable = match name.as_str() {
            "last-modified" => std::str::from_utf8(&value).ok().and_then(http_date),
            "content-length" => std::str::from_utf8(&value)
                .ok()
                .filter(|value| value.parse::<u64>().is_ok())
                .map(str::to_owned),
            _ => Some(text(&value)),
        };
        headers.remove(&name);
        if let Some(readable) = readable {
            let _ = headers.try_insert(name, readable);
        }
    }
}

/// The value that all of them are.
fn one(values: &[Vec<u8>]) -> Option<Vec<u8>> {
    let first = values.first()?;
    let is_same = values.iter().all(|value| value == first);
    is_same.then(|| first.clone())
}

/// A value as text. Bytes that are not UTF-8 are read as ISO-8859-1, which RFC 9110 (5.5) says was
/// once allowed, and become an encoded word of RFC 2047 in UTF-8: the form in which S3 itself hands out
/// text that is not US-ASCII (Amazon S3 user guide, "Working with object metadata").
fn text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let text: String = value.iter().map(|byte| char::from(*byte)).collect();
            let encoded = percent_encode(text.as_bytes(), ENCODED).to_string();
            format!("=?UTF-8?Q?{}?=", encoded.replace('%', "="))
        }
    }
}

/// A date in any of the forms that stores have, as RFC 9110 (5.6.7) wants it: its own, that of RFC
/// 2822 with an offset, that of RFC 850, that of asctime, that of ISO 8601, and seconds since 1970.
fn http_date(value: &str) -> Option<String> {
    let value = value.trim();
    if DateTime::from_str(value, DateTimeFormat::HttpDate).is_ok() {
        return Some(value.to_owned());
    }
    let utc = |format: &str| {
        let time = CivilTime::strptime(format, value).ok()?;
        Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let timestamp = rfc2822::DateTimeParser::new()
        .relaxed_weekday(true)
        .parse_timestamp(value)
        .ok()
        .or_else(|| value.parse::<Timestamp>().ok())
        .or_else(|| utc("%Y-%m-%dT%H:%M:%S"))
        .or_else(|| utc("%Y-%m-%d %H:%M:%S"))
        .or_else(|| utc("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|| utc("%a %b %e %H:%M:%S %Y"))
        .or_else(|| Timestamp::from_second(value.parse().ok()?).ok())?;
    DateTime::from_secs(timestamp.as_second())
        .fmt(DateTimeFormat::HttpDate)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&'static str, &[u8])]) -> Headers {
        let mut headers = http::HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_bytes(value).unwrap());
        }
        let mut headers = Headers::try_from(headers).unwrap();
        make_readable(&mut headers);
        headers
    }

    #[test]
    fn dates_of_every_form_are_read() {
        for date in [
            "Thu, 01 Jan 2026 00:00:00 GMT",
            "Thu, 1 Jan 2026 00:00:00 +0000",
            "Thu, 01 Jan 2026 01:00:00 +0100",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00+00:00",
            "2026-01-01 00:00:00",
            "Thursday, 01-Jan-26 00:00:00 GMT",
            "Thu Jan  1 00:00:00 2026",
            "1767225600",
        ] {
            let headers = read(&[("last-modified", date.as_bytes())]);
            let told = headers.get("last-modified");
            assert_eq!(told, Some("Thu, 01 Jan 2026 00:00:00 GMT"), "{date}");
        }
        assert!(
            read(&[("last-modified", b"yesterday")])
                .get("last-modified")
                .is_none()
        );
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_hides_nothing_else() {
        let headers = read(&[
            ("etag", b"\"a\""),
            ("content-length", b"-1"),
            ("x-amz-meta-name", b"gr\xfc\xdfe"),
            ("x-amz-meta-twice", b"a"),
            ("x-amz-meta-twice", b"b"),
            ("content-type", b"text/plain"),
            ("content-type", b"text/html"),
            ("x-amz-object-lock-retain-until-date", b"soon"),
        ]);
        assert_eq!(headers.get("etag"), Some("\"a\""));
        assert_eq!(headers.get("content-length"), None);
        assert_eq!(
            headers.get("x-amz-meta-name"),
            Some("=?UTF-8?Q?gr=C3=BC=C3=9Fe?=")
        );
        assert_eq!(headers.get("x-amz-meta-twice"), Some("a,b"));
        assert_eq!(headers.get("content-type"), Some("text/plain"));
        assert_eq!(headers.get("x-amz-object-lock-retain-until-date"), None);
        let two = read(&[("etag", b"\"a\""), ("etag", b"\"b\"")]);
        assert_eq!(two.get("etag"), None, "which of them holds, nobody knows");
    }
}
