//! Buckets and objects, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use md5::{Digest, Md5};
use parking_lot::RwLock;

use crate::clock::whole_second;
use crate::policy::Policy;

/// The objects of a bucket, in the order of their keys' UTF-8 bytes, which is the order of listings.
pub(crate) type Objects = BTreeMap<String, Arc<Object>>;

/// An object as it was put. It is never changed, only replaced: readers keep what they opened.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    /// Without the quotes. The MD5 of the bytes in hexadecimal, as for objects put in one request.
    pub(crate) etag: String,
    /// In whole seconds, as S3 keeps it.
    pub(crate) modified: SystemTime,
    pub(crate) content_type: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Object {
    pub(crate) fn new(bytes: Bytes, modified: SystemTime) -> Self {
        Self {
            etag: hex(&Md5::digest(&bytes)),
            bytes,
            modified: whole_second(modified),
            content_type: "binary/octet-stream".to_owned(),
            metadata: BTreeMap::new(),
        }
    }
}

/// A bucket.
#[derive(Debug, Default)]
pub(crate) struct BucketState {
    objects: RwLock<Objects>,
    policy: RwLock<Option<Arc<Policy>>>,
}

impl BucketState {
    pub(crate) fn put(&self, key: String, object: Arc<Object>) {
        self.objects.write().insert(key, object);
    }

    pub(crate) fn put_many(&self, keys: impl Iterator<Item = String>, object: &Arc<Object>) {
        let mut objects = self.objects.write();
        for key in keys {
            objects.insert(key, object.clone());
        }
    }

    pub(crate) fn remove(&self, key: &str) -> bool {
        self.objects.write().remove(key).is_some()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.objects.read().get(key).cloned()
    }

    /// Reads the objects under the lock; `read` must be quick.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Objects) -> T) -> T {
        read(&self.objects.read())
    }

    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.read().clone()
    }

    pub(crate) fn set_policy(&self, policy: Option<Arc<Policy>>) {
        *self.policy.write() = policy;
    }
}

/// All buckets of the account.
#[derive(Debug, Default)]
pub(crate) struct Store {
    buckets: RwLock<BTreeMap<String, Arc<BucketState>>>,
}

impl Store {
    /// Creates a bucket, or returns the one that has the name already.
    pub(crate) fn create(&self, name: &str) -> Arc<BucketState> {
        self.buckets
            .write()
            .entry(name.to_owned())
            .or_default()
            .clone()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.buckets.write().remove(name);
    }

    pub(crate) fn bucket(&self, name: &str) -> Option<Arc<BucketState>> {
        self.buckets.read().get(name).cloned()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
