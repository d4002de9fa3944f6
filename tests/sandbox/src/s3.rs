//! The operations of S3 that are served. All others answer 501 `NotImplemented`.
//!
//! Here is only who does what; the work is in `about`, `reads`, `lists`, `puts`, `copies`, `deletes`,
//! `multipart`, `upload_lists` and `versions`.

use std::sync::Arc;

use http::{Extensions, HeaderName};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketPolicyInput,
    GetBucketPolicyOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput,
    ListObjectVersionsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, PostObjectInput, PostObjectOutput,
    PutObjectInput, PutObjectOutput, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::caller::Caller;
use crate::cloud::SharedCloud;
use crate::exchange::Exchange;
use crate::history::Signature;
use crate::policy::condition::Context;
use crate::refusal::Refusal;
use crate::store::{BucketState, Object};

/// S3 over the cloud's store. The session and the policies were checked before.
pub(crate) struct Operations(pub(crate) SharedCloud);

impl Operations {
    pub(crate) fn bucket(&self, name: &str) -> Result<Arc<BucketState>, Refusal> {
        self.0
            .store
            .bucket(name)
            .ok_or_else(|| Refusal::no_such_bucket(name))
    }

    /// Asks the policies again, for what the check before the operation cannot know.
    pub(crate) fn authorize(
        &self,
        extensions: &Extensions,
        bucket: &str,
        key: Option<&str>,
        action: &str,
    ) -> Result<(), Refusal> {
        let caller = extensions
            .get::<Caller>()
            .cloned()
            .unwrap_or(Caller::Anonymous);
        let resource = match key {
            Some(key) => format!("arn:aws:s3:::{bucket}/{key}"),
            None => format!("arn:aws:s3:::{bucket}"),
        };
        self.0
            .authorize(&caller, Some(bucket), action, &resource, Context::default())
    }

    /// An absent key is 404 for those who may list the bucket, and 403 for all others: Amazon S3 API
    /// reference, `GetObject`, "Permissions".
    pub(crate) fn find(
        &self,
        bucket: &str,
        key: &str,
        extensions: &Extensions,
    ) -> Result<Arc<Object>, Refusal> {
        if let Some(object) = self.bucket(bucket)?.get(key) {
            return Ok(object);
        }
        self.authorize(extensions, bucket, None, "s3:ListBucket")?;
        Err(Refusal::no_such_key(key))
    }

    /// Who changes the bucket now, for the log.
    pub(crate) fn signature(&self, exchange: &Exchange) -> Signature {
        Signature {
            operation: exchange.kind,
            session: exchange.session(),
            at: self.0.clock.now(),
        }
    }

    /// What key ids are put behind to make an ARN.
    pub(crate) fn kms_arn(&self) -> String {
        format!("arn:aws:kms:{}:{}:key/", self.0.region, self.0.account)
    }
}

/// An operation with its input and output types, and the method that does the work.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty = $work:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(async fn $name(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                let exchange = Exchange::of(&req.extensions);
                match self.$work(req, &exchange).await {
                    Ok(output) => Ok(S3Response::new(output)),
                    Err(refusal) => Err(exchange.refuse(refusal)),
                }
            })*
        }
    };
}

operations! {
    get_object(GetObjectInput) -> GetObjectOutput = get;
    head_object(HeadObjectInput) -> HeadObjectOutput = head;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = list;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = list_versions;
    list_objects(ListObjectsInput) -> ListObjectsOutput = list_by_marker;
    head_bucket(HeadBucketInput) -> HeadBucketOutput = find_bucket;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = locate_bucket;
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = policy_of_bucket;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = versioning_of_bucket;
    put_object(PutObjectInput) -> PutObjectOutput = put;
    post_object(PostObjectInput) -> PostObjectOutput = refuse_form;
    copy_object(CopyObjectInput) -> CopyObjectOutput = copy;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput = delete;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = delete_many;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = begin_upload;
    upload_part(UploadPartInput) -> UploadPartOutput = upload;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = upload_copy;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = complete;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = abort;
    list_parts(ListPartsInput) -> ListPartsOutput = list_parts_of;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = list_uploads;
}

impl Operations {
    /// Forms of browsers, which `s3s` would make PutObject of, past its permission.
    async fn refuse_form(
        &self,
        _: S3Request<PostObjectInput>,
        _: &Exchange,
    ) -> Result<PostObjectOutput, Refusal> {
        Err(Refusal::s3("NotImplemented"))
    }
}

/// The header that tells the bucket's region, on refusals for a wrong one too.
pub(crate) const BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");
