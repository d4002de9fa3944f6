//! The log of everything that changed a bucket over the wire.

use std::time::SystemTime;

use crate::counts::Kind;

/// One change of a bucket by a request. What tests do with [`Bucket`](crate::Bucket) is not logged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mutation {
    /// 1 for the first change of this bucket, and so on. It never has a gap.
    pub sequence: u64,
    /// The operation: [`Kind::Put`], [`Kind::Copy`], [`Kind::CompleteMultipartUpload`],
    /// [`Kind::Delete`] or [`Kind::DeleteObjects`].
    pub operation: Kind,
    /// The key that changed.
    pub key: String,
    /// The ETag of the new object, with its quotes; of the removed one after a delete.
    pub etag: String,
    /// The size of the new object; of the removed one after a delete.
    pub size: u64,
    /// Whether the object was removed.
    pub is_delete: bool,
    /// The number of the session that signed the request; `None` for long-term keys.
    pub session: Option<u64>,
    /// When it happened, by the sandbox's clock.
    pub at: SystemTime,
}

/// Who changes a bucket, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature {
    pub(crate) operation: Kind,
    pub(crate) session: Option<u64>,
    pub(crate) at: SystemTime,
}
