//! The test's own hand in a bucket: no request, no permission, no count.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use s3s::dto::{Timestamp, TimestampFormat};

use crate::attributes::Attributes;
use crate::checksums::{md5_hex, multipart_etag};
use crate::cloud::SharedCloud;
use crate::content::Content;
use crate::history::Mutation;
use crate::policy::{Kind, MalformedPolicy, PolicyJson};
use crate::store::{BucketState, Object};
use crate::uploads::Upload;

/// A handle to a bucket.
#[derive(Clone)]
pub struct Bucket {
    name: String,
    state: Arc<BucketState>,
    cloud: SharedCloud,
}

/// What an object has besides its bytes.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    attributes: Attributes,
    modified: Option<SystemTime>,
}

impl PutOptions {
    /// Returns options that leave everything as S3 sets it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the `Content-Type`; `binary/octet-stream` without it.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.attributes.content_type = content_type.into();
        self
    }

    /// Sets the `Content-Encoding`.
    pub fn content_encoding(mut self, content_encoding: impl Into<String>) -> Self {
        self.attributes.content_encoding = Some(content_encoding.into());
        self
    }

    /// Sets when it expires, which is told as an HTTP date.
    pub fn expires(mut self, expires: SystemTime) -> Self {
        self.attributes.expires = Some(expires.into());
        self
    }

    /// Sets the `x-amz-website-redirect-location`.
    pub fn website_redirect(mut self, location: impl Into<String>) -> Self {
        self.attributes.website_redirect = Some(location.into());
        self
    }

    /// Sets the storage class, such as `GLACIER`; `STANDARD` without it.
    pub fn storage_class(mut self, storage_class: impl Into<String>) -> Self {
        self.attributes.storage_class = storage_class.into();
        self
    }

    /// Adds user metadata: the header `x-amz-meta-NAME`. The name is taken in lower case.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into().to_ascii_lowercase();
        self.attributes.metadata.insert(name, value.into());
        self
    }

    /// Sets the time of the last modification, cut to whole seconds; the sandbox's present without it.
    pub fn modified(mut self, modified: SystemTime) -> Self {
        self.modified = Some(modified);
        self
    }
}

/// What is known of an object besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// The number of bytes.
    pub size: u64,
    /// With its quotes.
    pub etag: String,
    /// In whole seconds.
    pub modified: SystemTime,
    /// The `Content-Type`.
    pub content_type: String,
    /// The `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// The `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// The `Content-Language`.
    pub content_language: Option<String>,
    /// The `Cache-Control`.
    pub cache_control: Option<String>,
    /// The `Expires`, as an HTTP date.
    pub expires: Option<String>,
    /// The `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// User metadata, the names without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// The storage class, `STANDARD` by name too.
    pub storage_class: String,
    /// The `x-amz-server-side-encryption`.
    pub encryption: String,
    /// The ARN of the key, for encryption with KMS.
    pub kms_key: Option<String>,
    /// The canned ACL of the request, if it had one.
    pub acl: Option<String>,
    /// The tags as sent: `name=value&name=value`.
    pub tagging: Option<String>,
}

impl ObjectInfo {
    fn of(object: &Object) -> Self {
        let attributes = Attributes::clone(&object.attributes);
        Self {
            size: object.content.len(),
            etag: object.quoted_etag(),
            modified: object.modified,
            encryption: attributes.encryption.algorithm().to_owned(),
            kms_key: attributes.encryption.key().map(str::to_owned),
            content_type: attributes.content_type,
            content_encoding: attributes.content_encoding,
            content_disposition: attributes.content_disposition,
            content_language: attributes.content_language,
            cache_control: attributes.cache_control,
            expires: attributes.expires.as_ref().and_then(http_date),
            website_redirect: attributes.website_redirect,
            metadata: attributes.metadata,
            storage_class: attributes.storage_class,
            acl: attributes.acl,
            tagging: attributes.tagging,
        }
    }
}

/// A multipart upload in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadInfo {
    /// Its id.
    pub upload_id: String,
    /// The key of the object to be.
    pub key: String,
    /// When it was begun, in whole seconds.
    pub initiated: SystemTime,
    /// The parts that came in, in the order of their numbers.
    pub parts: Vec<PartInfo>,
}

/// A part of a multipart upload in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartInfo {
    /// Its number.
    pub number: i32,
    /// The number of bytes.
    pub size: u64,
    /// With its quotes.
    pub etag: String,
}

impl UploadInfo {
    fn of((id, upload): (&String, &Upload)) -> Self {
        let parts = upload.parts.iter();
        Self {
            upload_id: id.clone(),
            key: upload.key.clone(),
            initiated: upload.initiated,
            parts: parts
                .map(|(number, part)| PartInfo {
                    number: *number,
                    size: part.content.len(),
                    etag: format!("\"{}\"", part.etag),
                })
                .collect(),
        }
    }
}

fn http_date(time: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    time.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

impl Bucket {
    pub(crate) fn new(name: &str, other_account: Option<&str>, cloud: SharedCloud) -> Self {
        Self {
            name: name.to_owned(),
            state: cloud.store.create(name, other_account),
            cloud,
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts an object, over the one that has the key.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.put_with(key, bytes, PutOptions::default());
    }

    /// Puts an object with a content type, metadata or a time of its own.
    pub fn put_with(&self, key: &str, bytes: impl Into<Bytes>, options: PutOptions) {
        let modified = options.modified.unwrap_or_else(|| self.cloud.clock.now());
        let mut object = Object::new(bytes.into(), modified);
        object.attributes = Arc::new(options.attributes);
        self.state.put(key.to_owned(), Arc::new(object));
    }

    /// Puts `count` empty objects `PREFIX000000`, `PREFIX000001` and so on: 100,000 in well under a
    /// second.
    pub fn put_empty_many(&self, prefix: &str, count: usize) {
        let object = Arc::new(Object::new(Bytes::new(), self.cloud.clock.now()));
        self.state
            .put_many((0..count).map(|n| format!("{prefix}{n:06}")), &object);
    }

    /// Puts an object of `times` times the same piece without taking the memory for it, as if uploaded
    /// in that many parts; its ETag is that of such an upload.
    pub fn put_repeated(&self, key: &str, piece: impl Into<Bytes>, times: usize) {
        let piece = piece.into();
        let part = md5_hex([&piece]);
        let mut object = Object::new(Bytes::new(), self.cloud.clock.now());
        object.etag = multipart_etag((0..times).map(|_| part.as_str()));
        object.content = Content::of_pieces((0..times).map(|_| piece.clone()));
        self.state.put(key.to_owned(), Arc::new(object));
    }

    /// Removes an object; tells whether there was one.
    pub fn remove(&self, key: &str) -> bool {
        self.state.remove(key)
    }

    /// Returns the bytes of an object.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.state.get(key).map(|object| object.content.to_bytes())
    }

    /// Returns the ETag of an object with its quotes, as in the header.
    pub fn etag(&self, key: &str) -> Option<String> {
        self.state.get(key).map(|object| object.quoted_etag())
    }

    /// Returns the time of an object's last modification, in whole seconds.
    pub fn modified(&self, key: &str) -> Option<SystemTime> {
        self.state.get(key).map(|object| object.modified)
    }

    /// Returns everything about an object but its bytes.
    pub fn object(&self, key: &str) -> Option<ObjectInfo> {
        self.state.get(key).map(|object| ObjectInfo::of(&object))
    }

    /// Returns the user metadata of an object, the names without `x-amz-meta-`.
    pub fn metadata(&self, key: &str) -> Option<BTreeMap<String, String>> {
        let object = self.state.get(key)?;
        Some(object.attributes.metadata.clone())
    }

    /// Returns the multipart uploads in progress, in the order of their keys, those of one key in the
    /// order they were begun.
    pub fn uploads(&self) -> Vec<UploadInfo> {
        let mut uploads: Vec<_> = self
            .state
            .read_uploads(|uploads| uploads.iter().map(UploadInfo::of).collect());
        uploads.sort_by(|one: &UploadInfo, other| {
            (&one.key, one.initiated).cmp(&(&other.key, other.initiated))
        });
        uploads
    }

    /// Aborts a multipart upload, as somebody else would; tells whether there was one.
    pub fn abort_upload(&self, upload_id: &str) -> bool {
        self.state
            .change_uploads(|uploads| uploads.abort_any(upload_id))
    }

    /// Returns every change of the bucket by a request, the first one first. What tests do with this
    /// handle is not among them.
    pub fn history(&self) -> Vec<Mutation> {
        self.state.history()
    }

    /// Returns the changes of one key, as [`history`](Self::history).
    pub fn history_of(&self, key: &str) -> Vec<Mutation> {
        let mut history = self.state.history();
        history.retain(|mutation| mutation.key == key);
        history
    }

    /// Returns all keys in the order of listings.
    pub fn keys(&self) -> Vec<String> {
        self.state.read(|objects| objects.keys().cloned().collect())
    }

    /// Sets the bucket policy, which every request from now on meets.
    ///
    /// # Errors
    ///
    /// `MalformedPolicy` where AWS refuses the policy, and where the sandbox does not know a condition
    /// operator, a condition key or another element: nothing is ignored silently.
    pub fn set_policy(&self, policy: impl Into<PolicyJson>) -> Result<(), MalformedPolicy> {
        let policy = policy.into();
        let text = Arc::from(policy.text());
        let policy = self.cloud.read_policy(policy, Kind::Bucket(&self.name))?;
        self.state.change_settings(|settings| {
            settings.policy = Some(policy);
            settings.policy_text = Some(text);
        });
        Ok(())
    }

    /// Removes the bucket policy.
    pub fn clear_policy(&self) {
        self.state.change_settings(|settings| {
            settings.policy = None;
            settings.policy_text = None;
        });
    }

    /// Keeps every version of what is put from now on, as a bucket with versioning does.
    pub fn keep_versions(&self) {
        self.state.keep_versions();
    }

    /// Says that versions may be deleted with MFA only. The sandbox deletes no versions, so it changes
    /// nothing but what GetBucketVersioning answers; plain deletes need no MFA in AWS either.
    pub fn set_mfa_delete(&self, mfa_delete: bool) {
        self.state
            .change_settings(|settings| settings.mfa_delete = mfa_delete);
    }

    /// Sets the account that `x-amz-expected-bucket-owner` has to name. It is the one the bucket belongs
    /// to without it. Permissions do not depend on it; for that there is
    /// [`Sandbox::create_bucket_of`](crate::Sandbox::create_bucket_of).
    pub fn set_owner(&self, account: impl Into<String>) {
        let account = account.into();
        self.state
            .change_settings(|settings| settings.owner = Some(account));
    }

    /// Makes requesters pay: without `x-amz-request-payer: requester`, everything is 403
    /// `AccessDenied`. All callers count as requesters, none as the owner.
    pub fn set_requester_pays(&self, requester_pays: bool) {
        self.state
            .change_settings(|settings| settings.requester_pays = requester_pays);
    }

    /// Gives the bucket a default retention of Object Lock: every PutObject and UploadPart must carry
    /// `Content-MD5` or a checksum then. The sandbox keeps no versions, so nothing else is different:
    /// plain deletes and overwrites succeed in AWS too, as they only hide the version that is locked.
    pub fn set_object_lock(&self, object_lock: bool) {
        self.state
            .change_settings(|settings| settings.object_lock = object_lock);
    }

    /// Removes the bucket with everything in it; requests for it answer 404 `NoSuchBucket`.
    pub fn delete(self) {
        self.cloud.store.remove(&self.name);
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
