//! Looking at a bucket with one set of keys: what is allowed is tried without changing anything, and
//! every answer is told as it is. For `check`, and for what a mount wants to know of its bucket.

use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sdk_s3::types::MfaDeleteStatus;
use tokio::sync::Semaphore;

use super::failure::{Failure, Kind};
use super::listing::Dialect;
use super::s3::{Endpoint, S3};
use super::write::{Condition, Header};
use super::{Lease, Query};
use crate::auth::{Generation, Rung, Session};

/// A secret that nobody has.
const FORGED: &str = "0000000000000000000000000000000000000000";

/// A bucket, and the keys that it is looked at with.
pub(crate) struct Inspector {
    s3: S3,
}

/// What became of something that was tried.
#[derive(Debug, Clone)]
pub(crate) enum Tried {
    /// It is allowed.
    Allowed,
    /// It is denied, and S3's words.
    Denied(String),
    /// Neither: no such bucket, no network.
    Failed(Failure),
}

impl Tried {
    fn of<T>(outcome: Result<T, Failure>) -> Self {
        match outcome {
            Ok(_) => Self::Allowed,
            Err(failure) => match failure.kind {
                Kind::Denied | Kind::Bare => Self::Denied(failure.text),
                // Only who may do it is told what stands in the way.
                Kind::NotFound | Kind::Changed | Kind::Archived => Self::Allowed,
                _ => Self::Failed(failure),
            },
        }
    }

    pub(crate) fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }
}

impl Inspector {
    /// Will sign with these keys, for the region that the bucket is in.
    pub(crate) async fn new(endpoint: &Endpoint, bucket: &str, credentials: &Credentials) -> Self {
        let session = Session {
            generation: Generation::default(),
            credentials: credentials.clone(),
            expires: None,
            authenticated: SystemTime::UNIX_EPOCH,
            code_until: None,
            rung: Rung::Plain,
            is_new: true,
        };
        let slots = Arc::new(Semaphore::new(1));
        let dialect = Arc::new(Dialect::of(endpoint));
        let s3 = |endpoint: &Endpoint| {
            let (slots, dialect) = (Arc::clone(&slots), Arc::clone(&dialect));
            S3::new(endpoint, slots, bucket.into(), &session, dialect)
        };
        let inspector = Self { s3: s3(endpoint) };
        match inspector.list("").await {
            Tried::Failed(Failure {
                kind: Kind::Region(region),
                ..
            }) => {
                let mut endpoint = endpoint.clone();
                endpoint.region = region;
                Self { s3: s3(&endpoint) }
            }
            _ => inspector,
        }
    }

    /// Whether the store says no to these keys as it does to the same access key with a secret that is
    /// certainly another: then nothing shows that theirs is right. Returns what it says.
    ///
    /// Some stores have one `AccessDenied` for both (seen at Garage 2.5 and Ceph). AWS has not, and is
    /// not asked.
    pub(crate) async fn doubt(
        endpoint: &Endpoint,
        bucket: &str,
        keys: &Credentials,
        prefix: &str,
    ) -> Option<String> {
        if endpoint.aws.endpoints.is_s3_of_aws() {
            return None;
        }
        let forged = Credentials::new(
            keys.access_key_id(),
            FORGED,
            keys.session_token().map(str::to_owned),
            None,
            "a secret that is wrong",
        );
        let query = Query {
            prefix: prefix.to_owned(),
            limit: Some(1),
            ..Query::default()
        };
        let answer = async |keys: &Credentials| {
            let inspector = Self::new(endpoint, bucket, keys).await;
            inspector.s3.list(&query).await.err()
        };
        let (ours, theirs) = (answer(keys).await?, answer(&forged).await?);
        let is_no = |failure: &Failure| matches!(failure.kind, Kind::Denied | Kind::Bare);
        (is_no(&ours) && ours.said() == theirs.said()).then(|| ours.said().to_owned())
    }

    /// Will sign with a mount's session.
    pub(crate) fn of(lease: &Lease) -> Self {
        Self {
            s3: lease.s3.clone(),
        }
    }

    /// Lists one key.
    pub(crate) async fn list(&self, prefix: &str) -> Tried {
        let query = Query {
            prefix: prefix.to_owned(),
            limit: Some(1),
            ..Query::default()
        };
        match self.s3.names(&query).await {
            // There is no such bucket.
            Err(failure) if failure.kind == Kind::NotFound => Tried::Failed(failure),
            outcome => Tried::of(outcome),
        }
    }

    /// Reads the head of a key that is not there: who may list is told that, who may only read is
    /// told that listing is what is missing.
    pub(crate) async fn get(&self, absent: &str) -> Tried {
        match self.s3.head(absent).await {
            Err(failure)
                if matches!(failure.kind, Kind::Denied)
                    && failure.text.contains("s3:ListBucket") =>
            {
                Tried::Allowed
            }
            outcome => Tried::of(outcome),
        }
    }

    /// Begins an upload, and aborts it.
    pub(crate) async fn put(&self, absent: &str) -> Tried {
        match self.s3.begin_upload(absent, &Header::default()).await {
            Ok(upload) => {
                let _ = self.s3.abort(absent, &upload).await;
                Tried::Allowed
            }
            outcome => Tried::of(outcome),
        }
    }

    /// Deletes what is not there, and would not be that if it were.
    pub(crate) async fn delete(&self, absent: &str) -> Tried {
        let never = Condition::Is("\"00000000000000000000000000000000\"".to_owned());
        Tried::of(self.s3.delete(absent, &never).await)
    }

    /// The bucket's policy, if it has one.
    pub(crate) async fn policy(&self) -> Result<Option<String>, Failure> {
        let answer = self
            .s3
            .client
            .get_bucket_policy()
            .bucket(&*self.s3.bucket)
            .set_expected_bucket_owner(self.s3.settings.expected_bucket_owner.clone())
            .send()
            .await;
        match answer {
            Ok(output) => Ok(output.policy),
            Err(error) => {
                let failure = Failure::read(self.s3.generation, &error);
                match failure.kind {
                    // NoSuchBucketPolicy.
                    Kind::NotFound => Ok(None),
                    _ => Err(failure),
                }
            }
        }
    }

    /// Whether versions can be deleted with MFA only (MFA Delete); `None` if that is not told.
    pub(crate) async fn mfa_delete(&self) -> Option<bool> {
        let answer = self
            .s3
            .client
            .get_bucket_versioning()
            .bucket(&*self.s3.bucket)
            .send()
            .await;
        let output = answer.ok()?;
        Some(output.mfa_delete == Some(MfaDeleteStatus::from("Enabled")))
    }
}
