//! Versions of objects, in buckets that keep them: Amazon S3 user guide, "How S3 Versioning works".
//!
//! Served are reads of a version, copies of one, and the list of them. Deleting one is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use s3s::S3Request;
use s3s::dto::{ETag, ListObjectVersionsInput, ListObjectVersionsOutput, ObjectVersion, Timestamp};

use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::s3::Operations;
use crate::store::Object;

/// Amazon S3 API reference, `ListObjectVersions`, `max-keys`.
const PAGE: usize = 1000;

/// The id of what was put while the bucket kept no versions: Amazon S3 user guide, "How S3 Versioning
/// works".
pub(crate) const NULL: &str = "null";

/// One version of a key.
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) object: Arc<Object>,
    pub(crate) is_latest: bool,
}

/// All versions of all keys of a bucket, the oldest first, with their ids.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    by_key: BTreeMap<String, Vec<(String, Arc<Object>)>>,
    next: u64,
}

impl Versions {
    /// Notes that an object stands under a key from now on.
    pub(crate) fn add(&mut self, key: &str, object: Arc<Object>) {
        self.next += 1;
        let id = format!("version{:024}", self.next);
        let versions = self.by_key.entry(key.to_owned()).or_default();
        versions.push((id, object));
    }

    /// Notes what was there when the bucket began to keep versions.
    pub(crate) fn begin_with(&mut self, key: &str, object: Arc<Object>) {
        let versions = self.by_key.entry(key.to_owned()).or_default();
        versions.push((NULL.to_owned(), object));
    }

    /// The id of an object; `None` if the bucket keeps no versions.
    pub(crate) fn id(&self, key: &str, object: &Arc<Object>) -> Option<String> {
        let mut versions = self.by_key.get(key)?.iter().rev();
        let (id, _) = versions.find(|(_, version)| Arc::ptr_eq(version, object))?;
        Some(id.clone())
    }

    /// The object of an id.
    pub(crate) fn get(&self, key: &str, id: &str) -> Option<Arc<Object>> {
        let mut versions = self.by_key.get(key)?.iter();
        let (_, object) = versions.find(|(version, _)| version == id)?;
        Some(Arc::clone(object))
    }

    pub(crate) fn below(
        &self,
        prefix: &str,
    ) -> impl Iterator<Item = (&String, &String, &Arc<Object>)> {
        let keys = self.by_key.range(prefix.to_owned()..);
        let keys = keys.take_while(move |(key, _)| key.starts_with(prefix));
        // Of one key, the newest comes first.
        keys.flat_map(|(key, versions)| {
            let versions = versions.iter().rev();
            versions.map(move |(id, object)| (key, id, object))
        })
    }
}

impl Operations {
    /// The version of a key that a read asks for. It takes a permission of its own.
    pub(crate) fn find_version(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        extensions: &http::Extensions,
    ) -> Result<Arc<Object>, Refusal> {
        self.authorize(extensions, bucket, Some(key), "s3:GetObjectVersion")?;
        let state = self.bucket(bucket)?;
        state.version(key, id).ok_or_else(|| {
            Refusal::new(
                404,
                "NoSuchVersion",
                "The specified version does not exist.",
            )
            .with("Key", key.to_owned())
            .with("VersionId", id.to_owned())
        })
    }

    /// One page of the versions of the keys with a prefix. What takes a second page is refused.
    pub(crate) async fn list_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
        _: &Exchange,
    ) -> Result<ListObjectVersionsOutput, Refusal> {
        let input = req.input;
        if input.delimiter.is_some() || input.key_marker.is_some() {
            return Err(Refusal::s3("NotImplemented"));
        }
        let bucket = self.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let asked = input.max_keys.and_then(|keys| usize::try_from(keys).ok());
        let limit = asked.map_or(PAGE, |keys| keys.min(PAGE));
        let (versions, is_truncated) = bucket.versions(&prefix, limit);
        let versions = versions.into_iter().map(|version| ObjectVersion {
            is_latest: Some(version.is_latest),
            key: Some(version.key),
            version_id: Some(version.id),
            e_tag: Some(ETag::Strong(version.object.etag.clone())),
            size: i64::try_from(version.object.content.len()).ok(),
            last_modified: Some(Timestamp::from(version.object.modified)),
            ..ObjectVersion::default()
        });
        Ok(ListObjectVersionsOutput {
            name: Some(input.bucket.clone()),
            prefix: input.prefix,
            max_keys: i32::try_from(limit).ok(),
            is_truncated: Some(is_truncated),
            versions: Some(versions.collect()),
            ..ListObjectVersionsOutput::default()
        })
    }
}
