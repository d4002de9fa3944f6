//! Which version of an object is meant: its ETag, or what stands in for one that the store does
//! not tell.
//!
//! Three spellings, told apart by their form:
//!
//! | version | where it is from | in a condition |
//! |---|---|---|
//! | `"abc"` | a strong ETag | sent as it is |
//! | `W/"abc"` | a weak ETag, as proxies make them: `If-Match` never finds one true (RFC 9110, 13.1.1) | compared here, by HEAD |
//! | `untagged 1767225600 1234` | no ETag: Last-Modified in seconds, and the size in bytes | compared here, by HEAD |

use std::time::SystemTime;

use super::Object;

/// What a version without an ETag begins with. No ETag does: they have quotes.
const UNTAGGED: &str = "untagged ";

/// An ETag as RFC 9110 (8.8.3) has it; `None` if the store tells none, or an empty one. Ceph leaves
/// the quotes out where it has copied an object or put its parts together.
pub(super) fn read(told: Option<&str>) -> Option<String> {
    let told = told?.trim();
    let (weak, tag) = match told.strip_prefix("W/").or_else(|| told.strip_prefix("w/")) {
        Some(tag) => ("W/", tag),
        None => ("", told),
    };
    let opaque = tag.strip_prefix('"').unwrap_or(tag);
    let opaque = opaque.strip_suffix('"').unwrap_or(opaque);
    (!opaque.is_empty()).then(|| format!("{weak}\"{opaque}\""))
}

/// What stands in for the ETag of an object that has none.
pub(super) fn stand_in(modified: SystemTime, size: u64) -> String {
    format!("{UNTAGGED}{} {size}", seconds(modified))
}

/// Whether this is an ETag that the store has told, weak or strong.
pub(crate) fn is_told(version: &str) -> bool {
    version.ends_with('"')
}

/// Whether a condition with this version can be left to the store.
pub(super) fn is_strong(version: &str) -> bool {
    version.starts_with('"')
}

/// The ETag without its quotes, for people; `None` if the store has told none.
pub(crate) fn plain(version: &str) -> Option<&str> {
    is_told(version).then(|| opaque(version))
}

/// Whether two ETags are of one version: a weak one is the same as the strong one of the same text
/// (RFC 9110, 8.8.3.2), as proxies that compress make one of the other.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    opaque(a) == opaque(b)
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    }
}

impl Object {
    /// Whether this is the version of an object that another answer has told of.
    ///
    /// Where one of the two has no ETag, Last-Modified to the second and the size decide. What is
    /// not stored is no version of anything.
    pub(crate) fn is_version(&self, other: &Self) -> bool {
        if self.etag.is_empty() || other.etag.is_empty() {
            return self.etag == other.etag;
        }
        if is_told(&self.etag) && is_told(&other.etag) {
            return is_same(&self.etag, &other.etag);
        }
        self.dated() == other.dated()
    }

    /// The same for a version that is known by its name alone. One with an ETag is not known in an
    /// answer without.
    pub(crate) fn has_version(&self, version: &str) -> bool {
        match (is_told(&self.etag), is_told(version)) {
            (true, true) => is_same(&self.etag, version),
            (_, false) => self.dated() == version,
            (false, true) => false,
        }
    }

    /// The version that it would have without an ETag.
    fn dated(&self) -> String {
        match self.etag.starts_with(UNTAGGED) {
            true => self.etag.clone(),
            false => stand_in(self.modified, self.size),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn object(etag: &str, modified: u64, size: u64) -> Object {
        Object {
            size,
            modified: SystemTime::UNIX_EPOCH + Duration::from_millis(modified),
            etag: etag.to_owned(),
            facts: None,
        }
    }

    #[test]
    fn tags_are_read_in_every_spelling_that_stores_have() {
        for (told, read_as) in [
            ("\"abc\"", Some("\"abc\"")),
            ("abc", Some("\"abc\"")),
            ("abc-3", Some("\"abc-3\"")),
            ("W/\"abc\"", Some("W/\"abc\"")),
            ("w/abc", Some("W/\"abc\"")),
            (" \"abc\" ", Some("\"abc\"")),
            ("", None),
            ("\"\"", None),
            ("W/\"\"", None),
        ] {
            assert_eq!(read(Some(told)).as_deref(), read_as, "{told}");
        }
        assert_eq!(read(None), None);
    }

    #[test]
    fn a_weak_tag_is_compared_and_never_sent() {
        let (weak, strong) = (object("W/\"a\"", 0, 1), object("\"a\"", 9000, 1));
        assert!(weak.is_version(&strong) && strong.has_version("W/\"a\""));
        assert!(!weak.is_version(&object("\"b\"", 0, 1)));
        assert!(!is_strong(&weak.etag) && is_strong(&strong.etag));
    }

    #[test]
    fn without_a_tag_the_time_and_the_size_decide() {
        let version = stand_in(SystemTime::UNIX_EPOCH + Duration::from_secs(5), 10);
        let bare = object(&version, 5000, 10);
        assert!(bare.is_version(&object(&version, 5900, 10)));
        assert!(object("\"a\"", 5400, 10).has_version(&version));
        assert!(!object("\"a\"", 6000, 10).has_version(&version));
        assert!(!object("\"a\"", 5000, 11).has_version(&version));
        assert!(
            !bare.has_version("\"a\""),
            "which version that is nobody knows"
        );
        assert!(!is_told(&version) && plain(&version).is_none());
    }
}
