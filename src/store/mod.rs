//! The bucket, as the filesystem sees it: keys, pages of keys, and bytes.
//!
//! - [`s3`] sends single requests, signed by a given session, and knows no other.
//! - [`told`] is what an answer tells of an object, [`mod@tag`] which version that is, and
//!   [`headers`] puts into form what the SDK could not read.
//! - [`failure`] reads S3's refusals: one small enum out of status, code and silence; [`retry`]
//!   knows which of them pass, and has such requests sent again.
//! - [`verdict`] decides what a refusal means: replay, renew the session, or a real no.
//! - [`bucket`] is the gate: every request of the filesystem passes it, knows the generation it
//!   was signed with, and is sent again when a new session is there.
//! - [`listing`] reads pages of keys, and knows how stores differ in telling them.
//! - [`inspect`] finds out what is allowed, [`policy`] reads what a bucket says of itself.
//! - [`mod@write`] sends the requests that change something, [`changes`] is their gate, and
//!   [`copying`] that of copies on the server; [`support`] knows what the store honours and can do,
//!   and [`probe`] finds it out. [`options`] tries those of the mount, and [`versions`] finds what
//!   was replaced.

pub(crate) mod bucket;
pub(crate) mod changes;
pub(crate) mod copying;
pub(crate) mod failure;
mod headers;
pub(crate) mod inspect;
pub(crate) mod limit;
pub(crate) mod listing;
pub(crate) mod metadata;
pub(crate) mod options;
pub(crate) mod policy;
mod probe;
mod retry;
pub(crate) mod s3;
pub(crate) mod support;
pub(crate) mod tag;
mod told;
pub(crate) mod verdict;
mod versions;
pub(crate) mod write;

use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use bucket::{Bucket, Lease};
pub(crate) use failure::Failure;
pub(crate) use listing::Cursor;

use metadata::Metadata;
use serde::{Deserialize, Serialize};

use crate::auth::AuthError;

/// What one object is, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// When it was last written: see [`Self::written`].
    pub(crate) modified: SystemTime,
    /// Which version of it, as [`mod@tag`] spells it: equal versions, equal bytes. Empty for what is
    /// not stored yet, or only remembered.
    pub(crate) etag: String,
    /// What only HEAD tells; `None` if a listing is all that is known.
    #[serde(with = "shared")]
    pub(crate) facts: Option<Arc<Facts>>,
}

impl Facts {
    /// The storage class that a new version keeps: not an archive, from which it could not be
    /// read back (docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html).
    pub(crate) fn lasting_class(&self) -> Option<String> {
        let class = self.storage_class.as_deref()?;
        (!matches!(class, "GLACIER" | "DEEP_ARCHIVE")).then(|| class.to_owned())
    }
}

impl Object {
    /// The time of an object whose store does not tell one.
    pub(crate) const UNDATED: SystemTime = SystemTime::UNIX_EPOCH;

    /// When it was last written; `None` if the store does not tell.
    pub(crate) fn written(&self) -> Option<SystemTime> {
        (self.modified != Self::UNDATED).then_some(self.modified)
    }

    /// What stands where nothing is stored yet.
    pub(crate) fn nothing() -> Self {
        Self {
            size: 0,
            modified: SystemTime::UNIX_EPOCH,
            etag: String::new(),
            facts: None,
        }
    }
}

/// Facts in the journal.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Facts;

    pub(super) fn serialize<S: Serializer>(
        facts: &Option<Arc<Facts>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        facts.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<Facts>>, D::Error> {
        Ok(Option::<Facts>::deserialize(deserializer)?.map(Arc::new))
    }
}

/// What an object carries besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) content_type: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    /// `Expires`, as whoever wrote it spelled it: S3 takes anything.
    #[serde(default)]
    pub(crate) expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    #[serde(default)]
    pub(crate) website_redirect: Option<String>,
    /// `None` is `STANDARD`.
    pub(crate) storage_class: Option<String>,
    pub(crate) sse: Option<String>,
    pub(crate) sse_kms_key_id: Option<String>,
    pub(crate) version_id: Option<String>,
    /// What the metadata says.
    pub(crate) posix: Metadata,
    /// Whether S3 told all of this, rather than the index, which only knows [`Self::posix`].
    pub(crate) complete: bool,
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
#[derive(Debug)]
pub(crate) struct Page<E = Entry> {
    /// Mostly at most 1,000 entries, each once.
    pub(crate) entries: Vec<E>,
    /// Keys that are there and cannot be named: they are no UTF-8, or the store has written
    /// something else in their place. For people.
    pub(crate) unreadable: Vec<String>,
    /// Whether a name that is missing between the first entry and the last is not there.
    pub(crate) is_sure: bool,
    /// Where the next page starts, if there is one.
    pub(crate) next: Option<Cursor>,
}

impl<E> Page<E> {
    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unreadable.is_empty()
    }
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    /// Only keys that start like this.
    pub(crate) prefix: String,
    /// Whether keys below a further `/` are folded into their prefix.
    pub(crate) folded: bool,
    /// Where the page before has ended.
    pub(crate) after: Option<Cursor>,
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
    /// The secret is not that of the access key.
    #[error(
        "S3 refuses the signature: the aws_secret_access_key does not belong to the \
         aws_access_key_id ({0})"
    )]
    Signature(String),
    /// The object is not the one that was opened.
    #[error("the object was changed by somebody else")]
    Changed,
    /// S3 is busy, and said so after all retries: later it may work.
    #[error("S3 is busy: {0}")]
    Busy(String),
    /// There is no such multipart upload, or not any more.
    #[error(
        "the store has lost the upload, each time that it was sent: {0}. The file is kept on this \
         machine"
    )]
    NoUpload(String),
    /// An upload to this store has no more parts than so many, if it says how many.
    #[error("the store takes no upload of so many parts: {text}")]
    TooManyParts {
        /// The most that it takes, in its words.
        most: Option<u32>,
        /// What it said.
        text: String,
    },
    /// The object or the upload would be larger than S3 allows.
    #[error("too large for S3: {0}")]
    TooLarge(String),
    /// S3 has no keys of more than 1,024 bytes.
    #[error("the path is too long for S3, which has keys of at most 1024 bytes")]
    LongKey,
    /// The store does not know this kind of request or condition.
    #[error("the store does not support this: {0}")]
    Unsupported(String),
    /// The store has answered, and left out or garbled what must be known; a change may have been
    /// made all the same.
    #[error("{0}")]
    Untold(String),
    /// The bytes did not arrive as they were sent.
    #[error("the bytes changed on their way: {0}")]
    Garbled(String),
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
    /// The bucket is in another region each time.
    #[error(
        "the store names another region each time (after {before} now {now}), so nothing can be \
         signed for it: check --endpoint-url, and the proxy before it"
    )]
    NoRegion {
        /// The one that it named before.
        before: String,
        /// The one that it names now.
        now: String,
    },
    /// What the store lists cannot be relied on.
    #[error("{0}; look at it with `aws s3api list-objects-v2`, and try again")]
    Listing(String),
    /// Anything else that S3 said.
    #[error("{0}")]
    Service(String),
}
