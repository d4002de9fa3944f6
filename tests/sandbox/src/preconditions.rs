//! Conditional reads, in the order of RFC 9110 section 13.2.2.

use std::time::SystemTime;

use http::header;
use s3s::dto::{ETag, ETagCondition, Timestamp};

use crate::refusal::Refusal;
use crate::store::Object;

/// The conditional headers of a GET or HEAD.
#[derive(Debug, Default)]
pub(crate) struct Preconditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
    pub(crate) if_modified_since: Option<Timestamp>,
    pub(crate) if_unmodified_since: Option<Timestamp>,
}

impl Preconditions {
    pub(crate) fn check(self, object: &Object) -> Result<(), Refusal> {
        match (self.if_match, self.if_unmodified_since) {
            // Where both are given, the tag decides alone.
            (Some(condition), _) if !names(&condition, object) => return Err(failed("If-Match")),
            (None, Some(since)) if is_newer(object, &since) => {
                return Err(failed("If-Unmodified-Since"));
            }
            _ => {}
        }
        match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) if names(&condition, object) => Err(not_modified(object)),
            (None, Some(since)) if !is_newer(object, &since) => Err(not_modified(object)),
            _ => Ok(()),
        }
    }
}

impl Preconditions {
    /// As [`check`](Self::check), for the source of a copy: every failure is 412, "not modified" too.
    /// Amazon S3 API reference, `CopyObject`, `x-amz-copy-source-if-none-match`.
    pub(crate) fn check_source(self, object: &Object) -> Result<(), Refusal> {
        self.check(object).map_err(|refusal| match refusal.status {
            304 => failed("x-amz-copy-source-If-None-Match"),
            _ => refusal,
        })
    }
}

fn names(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

fn is_newer(object: &Object, since: &Timestamp) -> bool {
    let modified = Timestamp::from(object.modified);
    modified > *since
}

fn failed(condition: &str) -> Refusal {
    Refusal::s3("PreconditionFailed").with("Condition", condition)
}

fn not_modified(object: &Object) -> Refusal {
    Refusal::s3("NotModified")
        .header(header::ETAG, &format!("\"{}\"", object.etag))
        .header(header::LAST_MODIFIED, &http_date(object.modified))
}

/// `Sat, 22 Aug 2026 10:00:00 GMT`.
pub(crate) fn http_date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

/// The quoted form of an object's tag.
pub(crate) fn etag_of(object: &Object) -> ETag {
    ETag::Strong(object.etag.clone())
}
