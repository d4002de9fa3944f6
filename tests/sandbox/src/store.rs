//! Buckets and objects, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::attributes::Attributes;
use crate::checksums::{Checksum, md5_hex};
use crate::clock::whole_second;
use crate::conditions::Conditions;
use crate::content::Content;
use crate::history::{Mutation, Signature};
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::uploads::{CompletedUploads, ListedPart, Uploads, no_such_upload};
use crate::versions::{NULL, Version, Versions};

/// The objects of a bucket, in the order of their keys' UTF-8 bytes, which is the order of listings.
pub(crate) type Objects = BTreeMap<String, Arc<Object>>;

/// An object as it was put. It is never changed, only replaced: readers keep what they opened.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) content: Content,
    /// Without the quotes. The MD5 of the bytes in hexadecimal for objects put in one request.
    pub(crate) etag: String,
    /// In whole seconds, as S3 keeps it.
    pub(crate) modified: SystemTime,
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) checksum: Option<Checksum>,
}

impl Object {
    pub(crate) fn new(bytes: Bytes, modified: SystemTime) -> Self {
        Self {
            etag: md5_hex([&bytes]),
            content: Content::from(bytes),
            modified: whole_second(modified),
            attributes: Arc::default(),
            checksum: None,
        }
    }

    pub(crate) fn quoted_etag(&self) -> String {
        format!("\"{}\"", self.etag)
    }
}

/// A bucket.
#[derive(Debug, Default)]
pub(crate) struct BucketState {
    /// The account it belongs to, if that is not the sandbox's.
    other_account: Option<String>,
    shelf: RwLock<Shelf>,
    settings: RwLock<Settings>,
}

/// Everything that requests change. One lock over all of it makes every condition atomic with its
/// write.
#[derive(Debug, Default)]
struct Shelf {
    objects: Objects,
    uploads: Uploads,
    history: Vec<Mutation>,
    versions: Versions,
    /// Whether it keeps versions from now on.
    keeps_versions: bool,
}

/// What the owner says about the bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) policy: Option<Arc<Policy>>,
    /// The text of the policy, as it was set.
    pub(crate) policy_text: Option<Arc<str>>,
    pub(crate) mfa_delete: bool,
    /// The account that requests are to expect; `None` for the one it belongs to.
    pub(crate) owner: Option<String>,
    pub(crate) requester_pays: bool,
    /// Whether what is put is locked for a while.
    pub(crate) object_lock: bool,
}

impl BucketState {
    pub(crate) fn other_account(&self) -> Option<&str> {
        self.other_account.as_deref()
    }

    pub(crate) fn put(&self, key: String, object: Arc<Object>) {
        let mut shelf = self.shelf.write();
        shelf.keep_version(&key, &object);
        shelf.objects.insert(key, object);
    }

    /// What is there already is version `null` of its key from then on.
    pub(crate) fn keep_versions(&self) {
        let mut shelf = self.shelf.write();
        if !std::mem::replace(&mut shelf.keeps_versions, true) {
            let Shelf {
                objects, versions, ..
            } = &mut *shelf;
            for (key, object) in objects.iter() {
                versions.begin_with(key, Arc::clone(object));
            }
        }
    }

    pub(crate) fn keeps_versions(&self) -> bool {
        self.shelf.read().keeps_versions
    }

    /// The id of an object of this key; `None` if the bucket has never kept versions.
    pub(crate) fn version_id(&self, key: &str, object: &Arc<Object>) -> Option<String> {
        self.shelf.read().versions.id(key, object)
    }

    /// The object of a version. Where no versions were ever kept, there is `null` alone.
    pub(crate) fn version(&self, key: &str, id: &str) -> Option<Arc<Object>> {
        let shelf = self.shelf.read();
        if shelf.keeps_versions {
            return shelf.versions.get(key, id);
        }
        shelf.objects.get(key).filter(|_| id == NULL).cloned()
    }

    /// The first versions of the keys with a prefix, at most `limit`, the newest of each key first, and
    /// whether there are more.
    pub(crate) fn versions(&self, prefix: &str, limit: usize) -> (Vec<Version>, bool) {
        let shelf = self.shelf.read();
        let is_latest = |key: &str, object: &Arc<Object>| {
            let now = shelf.objects.get(key);
            now.is_some_and(|now| Arc::ptr_eq(now, object))
        };
        let mut page: Vec<Version> = if shelf.keeps_versions {
            let below = shelf.versions.below(prefix).take(limit + 1);
            let version = |(key, id, object): (&String, &String, &Arc<Object>)| Version {
                is_latest: is_latest(key, object),
                key: key.clone(),
                id: id.clone(),
                object: Arc::clone(object),
            };
            below.map(version).collect()
        } else {
            let below = shelf.objects.range(prefix.to_owned()..);
            let below = below.take_while(|(key, _)| key.starts_with(prefix));
            let version = |(key, object): (&String, &Arc<Object>)| Version {
                is_latest: true,
                key: key.clone(),
                id: NULL.to_owned(),
                object: Arc::clone(object),
            };
            below.take(limit + 1).map(version).collect()
        };
        let is_truncated = page.len() > limit;
        page.truncate(limit);
        (page, is_truncated)
    }

    pub(crate) fn put_many(&self, keys: impl Iterator<Item = String>, object: &Arc<Object>) {
        let mut shelf = self.shelf.write();
        for key in keys {
            shelf.keep_version(&key, object);
            shelf.objects.insert(key, object.clone());
        }
    }

    pub(crate) fn remove(&self, key: &str) -> bool {
        self.shelf.write().objects.remove(key).is_some()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.shelf.read().objects.get(key).cloned()
    }

    /// Reads the objects under the lock; `read` must be quick.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Objects) -> T) -> T {
        read(&self.shelf.read().objects)
    }

    /// Stores an object for a request, if its conditions hold.
    pub(crate) fn store(
        &self,
        key: &str,
        object: Object,
        conditions: &Conditions,
        by: Signature,
    ) -> Result<Arc<Object>, Refusal> {
        let mut shelf = self.shelf.write();
        shelf.store(key, Arc::new(object), conditions, by)
    }

    /// Deletes an object for a request, if its conditions hold. Deleting nothing is no error.
    pub(crate) fn delete(
        &self,
        key: &str,
        conditions: &Conditions,
        by: Signature,
    ) -> Result<(), Refusal> {
        let mut shelf = self.shelf.write();
        conditions.check(key, shelf.objects.get(key).map(Arc::as_ref))?;
        if let Some(removed) = shelf.objects.remove(key) {
            shelf.log(key, &removed, true, by);
        }
        Ok(())
    }

    /// Reads the uploads under the lock; `read` must be quick.
    pub(crate) fn read_uploads<T>(&self, read: impl FnOnce(&Uploads) -> T) -> T {
        read(&self.shelf.read().uploads)
    }

    /// Changes the uploads under the lock; `change` must be quick.
    pub(crate) fn change_uploads<T>(&self, change: impl FnOnce(&mut Uploads) -> T) -> T {
        change(&mut self.shelf.write().uploads)
    }

    /// Makes an object of an upload, if the conditions hold.
    pub(crate) fn complete(
        &self,
        (id, key): (&str, &str),
        listed: Vec<ListedPart>,
        conditions: &Conditions,
        again: CompletedUploads,
        by: Signature,
    ) -> Result<Arc<Object>, Refusal> {
        let mut shelf = self.shelf.write();
        let upload = match shelf.uploads.get(id, key) {
            Ok(upload) => upload,
            Err(_) => {
                let before = shelf.uploads.completed_before(id, key, &listed);
                return match (again, before) {
                    (CompletedUploads::Remembered, Some(object)) => Ok(object),
                    (CompletedUploads::Conditional, Some(object)) => {
                        conditions.check(key, shelf.objects.get(key).map(Arc::as_ref))?;
                        Ok(object)
                    }
                    _ => Err(no_such_upload(id)),
                };
            }
        };
        let object = Arc::new(upload.assemble(id, &listed, by.at)?);
        shelf.store(key, object.clone(), conditions, by)?;
        shelf.uploads.finish(id, listed, object.clone());
        Ok(object)
    }

    pub(crate) fn history(&self) -> Vec<Mutation> {
        self.shelf.read().history.clone()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.read().clone()
    }

    pub(crate) fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings.write());
    }

    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        self.settings.read().policy.clone()
    }
}

impl Shelf {
    fn store(
        &mut self,
        key: &str,
        object: Arc<Object>,
        conditions: &Conditions,
        by: Signature,
    ) -> Result<Arc<Object>, Refusal> {
        conditions.check(key, self.objects.get(key).map(Arc::as_ref))?;
        self.keep_version(key, &object);
        self.objects.insert(key.to_owned(), object.clone());
        self.log(key, &object, false, by);
        Ok(object)
    }

    fn keep_version(&mut self, key: &str, object: &Arc<Object>) {
        if self.keeps_versions {
            self.versions.add(key, Arc::clone(object));
        }
    }

    fn log(&mut self, key: &str, object: &Object, is_delete: bool, by: Signature) {
        self.history.push(Mutation {
            sequence: self.history.len() as u64 + 1,
            operation: by.operation,
            key: key.to_owned(),
            etag: object.quoted_etag(),
            size: object.content.len(),
            is_delete,
            session: by.session,
            at: by.at,
        });
    }
}

/// All buckets.
#[derive(Debug, Default)]
pub(crate) struct Store {
    buckets: RwLock<BTreeMap<String, Arc<BucketState>>>,
}

impl Store {
    /// Creates a bucket, or returns the one that has the name already.
    pub(crate) fn create(&self, name: &str, other_account: Option<&str>) -> Arc<BucketState> {
        let create = || {
            Arc::new(BucketState {
                other_account: other_account.map(str::to_owned),
                ..BucketState::default()
            })
        };
        let mut buckets = self.buckets.write();
        buckets
            .entry(name.to_owned())
            .or_insert_with(create)
            .clone()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.buckets.write().remove(name);
    }

    pub(crate) fn bucket(&self, name: &str) -> Option<Arc<BucketState>> {
        self.buckets.read().get(name).cloned()
    }
}
