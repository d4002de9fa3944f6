//! The test's own hand in a bucket: no request, no permission, no count.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::cloud::SharedCloud;
use crate::policy::{Kind, MalformedPolicy, Policy, PolicyJson};
use crate::store::{BucketState, Object};

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
    content_type: Option<String>,
    metadata: Vec<(String, String)>,
    modified: Option<SystemTime>,
}

impl PutOptions {
    /// Returns options that leave everything as S3 sets it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the `Content-Type`; `binary/octet-stream` without it.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Adds user metadata: the header `x-amz-meta-NAME`. The name is taken in lower case.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata
            .push((name.into().to_ascii_lowercase(), value.into()));
        self
    }

    /// Sets the time of the last modification, cut to whole seconds; the sandbox's present without it.
    pub fn modified(mut self, modified: SystemTime) -> Self {
        self.modified = Some(modified);
        self
    }
}

impl Bucket {
    pub(crate) fn new(name: &str, cloud: SharedCloud) -> Self {
        Self {
            name: name.to_owned(),
            state: cloud.store.create(name),
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
        if let Some(content_type) = options.content_type {
            object.content_type = content_type;
        }
        object.metadata.extend(options.metadata);
        self.state.put(key.to_owned(), Arc::new(object));
    }

    /// Puts `count` empty objects `PREFIX000000`, `PREFIX000001` and so on: 100,000 in well under a
    /// second.
    pub fn put_empty_many(&self, prefix: &str, count: usize) {
        let object = Arc::new(Object::new(Bytes::new(), self.cloud.clock.now()));
        self.state
            .put_many((0..count).map(|n| format!("{prefix}{n:06}")), &object);
    }

    /// Removes an object; tells whether there was one.
    pub fn remove(&self, key: &str) -> bool {
        self.state.remove(key)
    }

    /// Returns the bytes of an object.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.state.get(key).map(|object| object.bytes.clone())
    }

    /// Returns the ETag of an object with its quotes, as in the header.
    pub fn etag(&self, key: &str) -> Option<String> {
        self.state
            .get(key)
            .map(|object| format!("\"{}\"", object.etag))
    }

    /// Returns the time of an object's last modification, in whole seconds.
    pub fn modified(&self, key: &str) -> Option<SystemTime> {
        self.state.get(key).map(|object| object.modified)
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
        let policy = Policy::parse(&policy.into().into_value()?, Kind::Bucket(&self.name))?;
        if policy
            .named_arns()
            .any(|arn| !self.cloud.users.has_arn(arn))
        {
            return Err(MalformedPolicy::new("Invalid principal in policy"));
        }
        self.state.set_policy(Some(Arc::new(policy)));
        Ok(())
    }

    /// Removes the bucket policy.
    pub fn clear_policy(&self) {
        self.state.set_policy(None);
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
