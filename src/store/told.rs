//! What one answer tells of an object, which may be less than all.
//!
//! RFC 9110 (8.6) allows an answer to HEAD without Content-Length, and there are stores, gateways and
//! proxies that leave out Content-Length, ETag or Last-Modified, in headers or in listings (rclone's
//! issues 8500, 6533 and 8137 name some). What is left out is unknown: it is asked for in another
//! way, and where no way tells it, the request fails. Nothing is ever taken for zero or empty.

use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::primitives::DateTime;

use super::tag;
use super::{Facts, Object};

/// What an answer tells of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Told {
    /// In bytes.
    pub(super) size: Option<u64>,
    pub(super) modified: Option<SystemTime>,
    /// As [`tag::read`] has it.
    pub(super) etag: Option<String>,
    pub(super) facts: Option<Arc<Facts>>,
}

impl Told {
    /// Takes in the fields as the SDK has read them. A negative size is none.
    pub(super) fn new(
        size: Option<i64>,
        modified: Option<DateTime>,
        etag: Option<&str>,
        facts: Option<Facts>,
    ) -> Self {
        Self {
            size: size.and_then(|size| u64::try_from(size).ok()),
            modified: modified.and_then(in_seconds),
            etag: tag::read(etag),
            facts: facts.map(Arc::new),
        }
    }

    /// Adds what another answer tells that this one does not; `None` if the two speak of different
    /// versions.
    pub(super) fn and(self, other: Self) -> Option<Self> {
        let differ = |a: Option<u64>, b: Option<u64>| a.zip(b).is_some_and(|(a, b)| a != b);
        let second = |time: Option<SystemTime>| {
            let since = time?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(since.as_secs())
        };
        if differ(self.size, other.size) || differ(second(self.modified), second(other.modified)) {
            return None;
        }
        Some(Self {
            size: self.size.or(other.size),
            modified: self.modified.or(other.modified),
            etag: self.etag.or(other.etag),
            facts: self.facts.or(other.facts),
        })
    }

    /// The same where both answers are to reads, which tell one tag of one version.
    pub(super) fn and_of_the_same(self, other: Self) -> Option<Self> {
        match (&self.etag, &other.etag) {
            (Some(one), Some(another)) if !tag::is_same(one, another) => None,
            _ => self.and(other),
        }
    }

    /// The object, if enough is known of it: its size, and an ETag or a time by which its version
    /// is known.
    pub(super) fn object(&self) -> Option<Object> {
        let size = self.size?;
        let etag = match (&self.etag, self.modified) {
            (Some(etag), _) => etag.clone(),
            (None, Some(modified)) => tag::stand_in(modified, size),
            (None, None) => return None,
        };
        Some(Object {
            size,
            modified: self.modified.unwrap_or(Object::UNDATED),
            etag,
            facts: self.facts.clone(),
        })
    }

    /// What is missing, for people.
    pub(super) fn missing(&self) -> &'static str {
        match (self.size, &self.etag) {
            (None, Some(_)) => "its size",
            (None, None) => "its size and its ETag",
            (Some(_), _) => "its ETag and its time",
        }
    }
}

/// A time of the store in whole seconds, which is all that HEAD has (RFC 9110, 5.6.7). Listings of
/// MinIO and Ceph have milliseconds, and one object has one time.
fn in_seconds(moment: DateTime) -> Option<SystemTime> {
    SystemTime::try_from(DateTime::from_secs(moment.secs())).ok()
}

/// The size of the whole object in `bytes 0-0/1234` or `bytes */1234` (RFC 9110, 14.4); `None` if it
/// is `*`, which is unknown, or cannot be read.
pub(super) fn total(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(size: Option<i64>, seconds: Option<i64>, etag: Option<&str>) -> Told {
        Told::new(size, seconds.map(DateTime::from_secs), etag, None)
    }

    #[test]
    fn what_is_not_told_is_not_zero() {
        assert!(told(None, Some(1), Some("\"a\"")).object().is_none());
        assert!(told(Some(-1), Some(1), Some("\"a\"")).object().is_none());
        assert!(told(Some(5), None, None).object().is_none());
        let untagged = told(Some(5), Some(7), None).object().unwrap();
        assert_eq!((untagged.size, &*untagged.etag), (5, "untagged 7 5"));
        let undated = told(Some(5), None, Some("a")).object().unwrap();
        assert_eq!(undated.written(), None);
    }

    #[test]
    fn answers_about_different_versions_are_not_put_together() {
        let head = told(None, Some(7), Some("\"a\""));
        let whole = head.clone().and(told(Some(9), Some(7), None)).unwrap();
        assert_eq!(
            (whole.size, whole.etag.as_deref()),
            (Some(9), Some("\"a\""))
        );
        assert!(head.and(told(Some(9), Some(8), None)).is_none());
        assert!(
            told(Some(1), None, None)
                .and(told(Some(2), None, None))
                .is_none()
        );
        let milliseconds = Told {
            modified: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(7123)),
            ..Told::default()
        };
        assert!(told(None, Some(7), None).and(milliseconds).is_some());
    }

    #[test]
    fn a_total_may_be_unknown() {
        assert_eq!(total("bytes 0-0/1234"), Some(1234));
        assert_eq!(total("bytes */0"), Some(0));
        assert_eq!(total("bytes 0-0/*"), None);
        assert_eq!(total("nonsense"), None);
    }
}
