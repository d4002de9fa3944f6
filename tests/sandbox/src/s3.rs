//! The operations of S3 that are served. All others answer 501 `NotImplemented`.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Extensions, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    BucketLocationConstraint, CommonPrefix, EncodingType, GetBucketLocationInput,
    GetBucketLocationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Metadata,
    Object as ListedObject, ObjectStorageClass, Owner, Range as RangeHeader, Timestamp,
};
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::caller::Caller;
use crate::cloud::SharedCloud;
use crate::exchange::Exchange;
use crate::listing::{self, After, Entry, Query};
use crate::policy::condition::Context;
use crate::preconditions::{Preconditions, etag_of};
use crate::refusal::Refusal;
use crate::store::{BucketState, Object};

/// The most entries of a page: Amazon S3 API reference, `ListObjectsV2`.
const LARGEST_PAGE: i32 = 1000;

/// What `encoding-type=url` leaves as it is. A space becomes `+`.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b' ');

/// S3 over the cloud's store. The session and the policies were checked before.
pub(crate) struct Operations(pub(crate) SharedCloud);

/// An object that is about to be answered.
struct Found {
    object: Arc<Object>,
    /// The bytes asked for, and the `Content-Range` if they are a part.
    range: Range<usize>,
    content_range: Option<String>,
}

impl Operations {
    fn bucket(&self, name: &str) -> Result<Arc<BucketState>, Refusal> {
        self.0
            .store
            .bucket(name)
            .ok_or_else(|| Refusal::no_such_bucket(name))
    }

    /// An absent key is 404 for those who may list the bucket, and 403 for all others: Amazon S3 API
    /// reference, `GetObject`, "Permissions".
    fn find(
        &self,
        bucket: &str,
        key: &str,
        extensions: &Extensions,
    ) -> Result<Arc<Object>, Refusal> {
        if let Some(object) = self.bucket(bucket)?.get(key) {
            return Ok(object);
        }
        let caller = extensions
            .get::<Caller>()
            .cloned()
            .unwrap_or(Caller::Anonymous);
        let resource = format!("arn:aws:s3:::{bucket}");
        self.0.authorize(
            &caller,
            Some(bucket),
            "s3:ListBucket",
            &resource,
            Context::default(),
        )?;
        Err(Refusal::no_such_key(key))
    }

    fn open(
        &self,
        bucket: &str,
        key: &str,
        extensions: &Extensions,
        preconditions: Preconditions,
        range: Option<RangeHeader>,
    ) -> Result<Found, Refusal> {
        let object = self.find(bucket, key, extensions)?;
        preconditions.check(&object)?;
        let length = object.bytes.len();
        let Some(asked) = range else {
            return Ok(Found {
                object,
                range: 0..length,
                content_range: None,
            });
        };
        let Ok(satisfied) = asked.check(length as u64) else {
            return Err(Refusal::s3("InvalidRange")
                .with("RangeRequested", asked.to_header_string())
                .with("ActualObjectSize", length.to_string())
                .header(http::header::CONTENT_RANGE, &format!("bytes */{length}")));
        };
        if satisfied.is_empty() {
            // A suffix of an empty object. There is no way to write an empty Content-Range.
            return Ok(Found {
                object,
                range: 0..0,
                content_range: None,
            });
        }
        let content_range = format!("bytes {}-{}/{length}", satisfied.start, satisfied.end - 1);
        let position = |at: u64| usize::try_from(at).unwrap_or(length);
        let range = position(satisfied.start)..position(satisfied.end);
        Ok(Found {
            object,
            range,
            content_range: Some(content_range),
        })
    }
}

fn metadata_of(object: &Object) -> Option<Metadata> {
    (!object.metadata.is_empty()).then(|| object.metadata.clone().into_iter().collect())
}

fn length_of(range: &Range<usize>) -> Option<i64> {
    i64::try_from(range.len()).ok()
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let exchange = Exchange::of(&req.extensions);
        let input = req.input;
        if input.part_number.is_some() || input.version_id.is_some() {
            return Err(exchange.refuse(Refusal::s3("NotImplemented")));
        }
        let preconditions = Preconditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        let found = self
            .open(
                &input.bucket,
                &input.key,
                &req.extensions,
                preconditions,
                input.range,
            )
            .map_err(|refusal| exchange.refuse(refusal))?;
        let object = &found.object;
        exchange.set_body(object.bytes.slice(found.range.clone()));
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: length_of(&found.range),
            content_range: found.content_range,
            content_type: object.content_type.parse().ok(),
            e_tag: Some(etag_of(object)),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: metadata_of(object),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let exchange = Exchange::of(&req.extensions);
        let input = req.input;
        if input.part_number.is_some() || input.version_id.is_some() {
            return Err(exchange.refuse(Refusal::s3("NotImplemented")));
        }
        let preconditions = Preconditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        let found = self
            .open(
                &input.bucket,
                &input.key,
                &req.extensions,
                preconditions,
                input.range,
            )
            .map_err(|refusal| exchange.refuse(refusal))?;
        let object = &found.object;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: length_of(&found.range),
            content_range: found.content_range,
            content_type: object.content_type.parse().ok(),
            e_tag: Some(etag_of(object)),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: metadata_of(object),
            ..HeadObjectOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let exchange = Exchange::of(&req.extensions);
        let input = req.input;
        let refuse = |refusal| exchange.refuse(refusal);
        let bucket = self.bucket(&input.bucket).map_err(refuse)?;
        let url = match input.encoding_type.as_ref().map(EncodingType::as_str) {
            None => false,
            Some("url") => true,
            Some(other) => {
                let refusal = Refusal::new(
                    400,
                    "InvalidArgument",
                    "Invalid Encoding Method specified in Request",
                );
                return Err(refuse(
                    refusal
                        .with("ArgumentName", "encoding-type")
                        .with("ArgumentValue", other),
                ));
            }
        };
        let max_keys = input.max_keys.unwrap_or(LARGEST_PAGE);
        if max_keys < 0 {
            let refusal = Refusal::new(400, "InvalidArgument", "maxKeys cannot be negative");
            return Err(refuse(refusal.with("ArgumentName", "max-keys")));
        }
        let max_keys = max_keys.min(LARGEST_PAGE);
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => decode_token(token).map_err(refuse)?,
            (None, Some(key)) => After::Key(key.clone()),
            (None, None) => After::Nothing,
        };
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            after,
            limit: usize::try_from(max_keys).unwrap_or(0),
        };
        let page = bucket.read(|objects| listing::page(objects, &query));
        let key_count = i32::try_from(page.entries.len()).ok();
        let name = |name: String| if url { encode(&name) } else { name };
        let owner = input.fetch_owner.unwrap_or(false).then(|| Owner {
            id: Some(self.0.account.clone()),
            ..Owner::default()
        });
        let mut contents = Vec::new();
        let mut common_prefixes = Vec::new();
        for entry in page.entries {
            match entry {
                Entry::CommonPrefix(prefix) => common_prefixes.push(CommonPrefix {
                    prefix: Some(name(prefix)),
                }),
                Entry::Key(key, object) => contents.push(ListedObject {
                    key: Some(name(key)),
                    e_tag: Some(etag_of(&object)),
                    last_modified: Some(Timestamp::from(object.modified)),
                    owner: owner.clone(),
                    size: i64::try_from(object.bytes.len()).ok(),
                    storage_class: Some(ObjectStorageClass::from_static(
                        ObjectStorageClass::STANDARD,
                    )),
                    ..ListedObject::default()
                }),
            }
        }
        Ok(S3Response::new(ListObjectsV2Output {
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_ref().map(encode_token),
            continuation_token: input.continuation_token,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            delimiter: input.delimiter.map(name),
            encoding_type: input.encoding_type,
            key_count,
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            // AWS always prints it, empty if need be.
            prefix: Some(name(input.prefix.unwrap_or_default())),
            start_after: input.start_after.map(name),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let exchange = Exchange::of(&req.extensions);
        self.bucket(&req.input.bucket)
            .map_err(|refusal| exchange.refuse(refusal))?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(self.0.region.clone()),
            ..HeadBucketOutput::default()
        }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let exchange = Exchange::of(&req.extensions);
        self.bucket(&req.input.bucket)
            .map_err(|refusal| exchange.refuse(refusal))?;
        // Buckets in us-east-1 have no constraint.
        let constraint = (self.0.region != "us-east-1")
            .then(|| BucketLocationConstraint::from(self.0.region.clone()));
        Ok(S3Response::new(GetBucketLocationOutput {
            location_constraint: constraint,
        }))
    }
}

/// The header that tells the bucket's region, on refusals for a wrong one too.
pub(crate) const BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

fn encode(text: &str) -> String {
    utf8_percent_encode(text, URL_ENCODED)
        .to_string()
        .replace(' ', "+")
}

/// Tokens are opaque: nothing but the sandbox can make sense of one.
fn encode_token(after: &After) -> String {
    let (tag, text) = match after {
        After::Nothing => ('0', ""),
        After::Key(key) => ('k', key.as_str()),
        After::Prefix(prefix) => ('p', prefix.as_str()),
    };
    URL_SAFE_NO_PAD.encode(format!("{tag}{text}"))
}

fn decode_token(token: &str) -> Result<After, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap_or_default();
    match text.split_at_checked(1) {
        Some(("0", "")) => Ok(After::Nothing),
        Some(("k", key)) => Ok(After::Key(key.to_owned())),
        Some(("p", prefix)) => Ok(After::Prefix(prefix.to_owned())),
        _ => Err(Refusal::new(
            400,
            "InvalidArgument",
            "The continuation token provided is incorrect",
        )
        .with("ArgumentName", "continuation-token")),
    }
}
