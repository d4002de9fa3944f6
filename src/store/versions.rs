//! Earlier versions of objects, where the bucket keeps them: what was replaced by somebody else can
//! still be read and copied by its version id.
//!
//! docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html

use std::sync::atomic::Ordering;

use super::bucket::Bucket;
use super::failure::{Failure, Kind};
use super::s3::S3;
use super::verdict::Action;
use super::{Object, StoreError, tag};
use crate::auth::Asker;

/// How many versions are looked at: those of one page, the newest first.
const LOOKED_AT: i32 = 1000;

impl S3 {
    /// The ids of the versions of a key with this tag and size, the newest first.
    async fn versions(&self, key: &str, object: &Object) -> Result<Vec<String>, Failure> {
        let _slot = self.slot().await?;
        let answer = self
            .client
            .list_object_versions()
            .bucket(&*self.bucket)
            .prefix(key)
            .max_keys(LOOKED_AT)
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error))?;
        let versions = answer.versions.unwrap_or_default().into_iter();
        let same = versions.filter(|version| {
            let size = version.size.and_then(|size| u64::try_from(size).ok());
            let etag = tag::read(version.e_tag());
            version.key() == Some(key)
                && size == Some(object.size)
                && etag.as_deref() == Some(object.etag.as_str())
        });
        Ok(same.filter_map(|version| version.version_id).collect())
    }

    /// Whether a version can be read, and is this object.
    async fn is_readable(&self, key: &str, object: &Object, version: &str) -> Result<(), Failure> {
        let range = 0..object.size.min(1);
        self.get(key, object, Some(version), range).await.map(drop)
    }
}

impl Bucket {
    /// The id of the version that an object is, which is not the latest of its key any more; `None`
    /// if the bucket has no such version, or it may not be read.
    ///
    /// Nobody is asked for a code for it: without a session, it fails.
    pub(crate) async fn earlier_version(
        &self,
        key: &str,
        object: &Object,
    ) -> Result<Option<String>, StoreError> {
        // Without a tag nobody knows whether it is the same.
        if object.size == 0 || !tag::is_strong(&object.etag) {
            return Ok(None);
        }
        let nobody = Asker::nobody();
        let told = object.facts.as_ref();
        let told = told.and_then(|facts| facts.version_id.clone());
        if let Some(version) = told
            && self.is_readable(&nobody, key, object, &version).await?
        {
            return Ok(Some(version));
        }
        let mut attempt = self.attempt(&nobody, Action::List, key).await?;
        let versions = loop {
            self.requests().list.fetch_add(1, Ordering::Relaxed);
            match attempt.lease().s3.versions(key, object).await {
                Ok(versions) => break versions,
                Err(failure) if is_no(&failure) => {
                    tracing::debug!("the versions of {key}: {failure}");
                    return Ok(None);
                }
                Err(failure) => attempt.again(failure).await?,
            }
        };
        for version in versions {
            if self.is_readable(&nobody, key, object, &version).await? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    async fn is_readable(
        &self,
        asker: &Asker,
        key: &str,
        object: &Object,
        version: &str,
    ) -> Result<bool, StoreError> {
        let mut attempt = self.attempt(asker, Action::Read, key).await?;
        loop {
            self.requests().get.fetch_add(1, Ordering::Relaxed);
            let readable = attempt.lease().s3.is_readable(key, object, version).await;
            match readable {
                Ok(()) => return Ok(true),
                Err(failure) if is_no(&failure) => {
                    tracing::debug!("version {version} of {key}: {failure}");
                    return Ok(false);
                }
                Err(failure) => attempt.again(failure).await?,
            }
        }
    }
}

/// Whether a store has no such version, or keeps it to itself, or knows no versions.
fn is_no(failure: &Failure) -> bool {
    !matches!(
        failure.kind,
        Kind::Token | Kind::Unreachable(_) | Kind::Busy | Kind::Region(_)
    )
}
