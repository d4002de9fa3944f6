//! What can be asked about a bucket: HeadBucket, GetBucketLocation, GetBucketPolicy and
//! GetBucketVersioning.

use s3s::S3Request;
use s3s::dto::{
    BucketLocationConstraint, BucketVersioningStatus, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketPolicyInput, GetBucketPolicyOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput, MFADeleteStatus,
};

use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::s3::Operations;

impl Operations {
    pub(crate) async fn find_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
        _: &Exchange,
    ) -> Result<HeadBucketOutput, Refusal> {
        self.bucket(&req.input.bucket)?;
        Ok(HeadBucketOutput {
            bucket_region: Some(self.0.region.clone()),
            ..HeadBucketOutput::default()
        })
    }

    pub(crate) async fn locate_bucket(
        &self,
        req: S3Request<GetBucketLocationInput>,
        _: &Exchange,
    ) -> Result<GetBucketLocationOutput, Refusal> {
        self.bucket(&req.input.bucket)?;
        // Buckets in us-east-1 have no constraint.
        let constraint = (self.0.region != "us-east-1")
            .then(|| BucketLocationConstraint::from(self.0.region.clone()));
        Ok(GetBucketLocationOutput {
            location_constraint: constraint,
        })
    }

    pub(crate) async fn policy_of_bucket(
        &self,
        req: S3Request<GetBucketPolicyInput>,
        _: &Exchange,
    ) -> Result<GetBucketPolicyOutput, Refusal> {
        let bucket = &req.input.bucket;
        let state = self.bucket(bucket)?;
        // Amazon S3 API reference, `GetBucketPolicy`: it is for the owner's account alone.
        if state.other_account().is_some() {
            return Err(Refusal::s3("MethodNotAllowed"));
        }
        let none = || Refusal::s3("NoSuchBucketPolicy").with("BucketName", bucket.as_str());
        let text = state.settings().policy_text.ok_or_else(none)?;
        Ok(GetBucketPolicyOutput {
            policy: Some(text.as_ref().to_owned()),
        })
    }

    /// A bucket that never had versions answers nothing at all.
    pub(crate) async fn versioning_of_bucket(
        &self,
        req: S3Request<GetBucketVersioningInput>,
        _: &Exchange,
    ) -> Result<GetBucketVersioningOutput, Refusal> {
        let bucket = self.bucket(&req.input.bucket)?;
        let enabled = bucket.settings().mfa_delete;
        Ok(GetBucketVersioningOutput {
            // Versions come first: MFA delete is a property of theirs.
            status: (enabled || bucket.keeps_versions())
                .then(|| BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
            mfa_delete: enabled.then(|| MFADeleteStatus::from_static(MFADeleteStatus::ENABLED)),
        })
    }
}
