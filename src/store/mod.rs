//! The bucket, as the filesystem sees it: keys, pages of keys, and bytes.
//!
//! - [`s3`] sends single requests, signed by a given session, and knows no other.
//! - [`failure`] reads S3's refusals: one small enum out of status, code and silence.
//! - [`verdict`] decides what a refusal means: replay, renew the session, or a real no.
//! - [`bucket`] is the gate: every request of the filesystem passes it, knows the generation it
//!   was signed with, and is sent again when a new session is there.

pub(crate) mod bucket;
pub(crate) mod failure;
pub(crate) mod s3;
pub(crate) mod verdict;

use std::time::SystemTime;

pub(crate) use bucket::{Bucket, Lease};
pub(crate) use failure::Failure;

use crate::auth::AuthError;

/// What one object is, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// When it was last written.
    pub(crate) modified: SystemTime,
    /// Which version of it: equal tags, equal bytes. As S3 spells it, with quotes.
    pub(crate) etag: String,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An object with this key.
    Object(String, Object),
    /// Keys that share this prefix, which ends with the delimiter.
    Prefix(String),
}

impl Entry {
    /// The key or the prefix, which is what listings are sorted by.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Object(key, _) | Self::Prefix(key) => key,
        }
    }
}

/// One page of a listing, sorted by key.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// At most 1,000 entries.
    pub(crate) entries: Vec<Entry>,
    /// Where the next page starts, if there is one.
    pub(crate) next: Option<String>,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    /// Only keys that start like this.
    pub(crate) prefix: String,
    /// Whether keys below a further `/` are folded into their prefix.
    pub(crate) folded: bool,
    /// The token of the page before.
    pub(crate) token: Option<String>,
    /// At most so many entries; S3 itself sends 1,000 at most.
    pub(crate) limit: Option<i32>,
}

/// Why a request to the bucket failed for good.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    /// There is no such key or bucket.
    #[error("not found")]
    NotFound,
    /// The session lives, and the policy says no all the same.
    #[error("S3 denies it on a live session: {0}")]
    Denied(String),
    /// The object is not the one that was opened.
    #[error("the object was changed by somebody else")]
    Changed,
    /// The object is archived (Glacier) and must be restored before it can be read.
    #[error("the object is archived: restore it (aws s3api restore-object), then read it")]
    Archived,
    /// There is no session.
    #[error(transparent)]
    Session(#[from] AuthError),
    /// Nothing can be reached.
    #[error("S3 cannot be reached: {message}")]
    Unreachable {
        /// Whether it was silence rather than a refusal.
        timed_out: bool,
        /// What was tried.
        message: String,
    },
    /// The bucket is in another region.
    #[error("the bucket is in the region {0}: use --region {0}")]
    Region(String),
    /// Anything else that S3 said.
    #[error("{0}")]
    Service(String),
}
