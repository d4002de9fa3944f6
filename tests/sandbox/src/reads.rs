//! GetObject and HeadObject.

use std::ops::Range;
use std::sync::Arc;

use http::Extensions;
use s3s::S3Request;
use s3s::dto::{
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, Metadata,
    Range as RangeHeader, ServerSideEncryption, StorageClass, Timestamp,
};

use crate::attributes::STANDARD;
use crate::checksums::Checksum;
use crate::exchange::Exchange;
use crate::other_stores::implied;
use crate::preconditions::{Preconditions, etag_of};
use crate::refusal::Refusal;
use crate::s3::Operations;
use crate::store::Object;

/// An object that is about to be answered.
struct Found {
    object: Arc<Object>,
    /// The bytes asked for, and the `Content-Range` if they are a part.
    range: Range<u64>,
    content_range: Option<String>,
    version: Option<String>,
}

impl Found {
    fn length(&self) -> Option<i64> {
        i64::try_from(self.range.end - self.range.start).ok()
    }

    /// The checksum, if it was asked for and is one of the bytes that are answered.
    fn checksum(&self, was_asked: bool) -> Option<&Checksum> {
        let checksum = self.object.checksum.as_ref();
        checksum.filter(|_| was_asked && self.content_range.is_none())
    }
}

/// Sets the fields that GetObject and HeadObject have in common, of a type that has them all.
macro_rules! described {
    ($output:ident, $found:expr, $checksum:expr) => {{
        let object = &$found.object;
        let attributes = &object.attributes;
        let mut output = $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: attributes.cache_control.clone(),
            content_disposition: attributes.content_disposition.clone(),
            content_encoding: attributes.content_encoding.clone(),
            content_language: attributes.content_language.clone(),
            content_length: $found.length(),
            content_range: $found.content_range.clone(),
            content_type: Some(attributes.content_type.clone()),
            e_tag: Some(etag_of(object)),
            expires: attributes.expires.clone(),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: metadata_of(object),
            ssekms_key_id: attributes.encryption.key().map(str::to_owned),
            server_side_encryption: encryption_of(object),
            storage_class: named_class(object),
            version_id: $found.version.clone(),
            website_redirect_location: attributes.website_redirect.clone(),
            ..$output::default()
        };
        crate::wire::set_checksum!(output, $checksum);
        output
    }};
}

impl Operations {
    pub(crate) async fn get(
        &self,
        req: S3Request<GetObjectInput>,
        exchange: &Exchange,
    ) -> Result<GetObjectOutput, Refusal> {
        let input = req.input;
        if input.part_number.is_some() {
            return Err(Refusal::s3("NotImplemented"));
        }
        let preconditions = Preconditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        let key = (input.bucket.as_str(), input.key.as_str());
        let version = input.version_id.as_deref();
        let found = self.open(key, version, &req.extensions, preconditions, input.range)?;
        let attributes = &found.object.attributes;
        if attributes.is_archived() {
            // Amazon S3 API reference, `GetObject`, "Errors".
            return Err(Refusal::s3("InvalidObjectState")
                .with("StorageClass", attributes.storage_class.clone()));
        }
        exchange.set_body(found.object.content.slice(found.range.clone()));
        let checksum = found.checksum(input.checksum_mode.is_some());
        let mut output = described!(GetObjectOutput, found, checksum);
        output.tag_count = attributes
            .tagging
            .as_deref()
            .and_then(|tags| i32::try_from(tags.split('&').count()).ok());
        Ok(output)
    }

    pub(crate) async fn head(
        &self,
        req: S3Request<HeadObjectInput>,
        _: &Exchange,
    ) -> Result<HeadObjectOutput, Refusal> {
        let input = req.input;
        if input.part_number.is_some() {
            return Err(Refusal::s3("NotImplemented"));
        }
        let preconditions = Preconditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        let bucket = self.bucket(&input.bucket)?;
        if bucket.get(&input.key).is_none() && self.is_implied(&bucket, &input.key) {
            return Ok(implied());
        }
        let key = (input.bucket.as_str(), input.key.as_str());
        let version = input.version_id.as_deref();
        let found = self.open(key, version, &req.extensions, preconditions, input.range)?;
        let checksum = found.checksum(input.checksum_mode.is_some());
        Ok(described!(HeadObjectOutput, found, checksum))
    }

    fn open(
        &self,
        (bucket, key): (&str, &str),
        version: Option<&str>,
        extensions: &Extensions,
        preconditions: Preconditions,
        range: Option<RangeHeader>,
    ) -> Result<Found, Refusal> {
        let object = match version {
            Some(id) => self.find_version(bucket, key, id, extensions)?,
            None => self.find(bucket, key, extensions)?,
        };
        let state = self.bucket(bucket)?;
        let version = state.version_id(key, &object);
        preconditions.check(&object)?;
        let length = object.content.len();
        let Some(asked) = range else {
            return Ok(Found {
                object,
                range: 0..length,
                content_range: None,
                version,
            });
        };
        let Ok(satisfied) = asked.check(length) else {
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
                version,
            });
        }
        let content_range = format!("bytes {}-{}/{length}", satisfied.start, satisfied.end - 1);
        Ok(Found {
            object,
            range: satisfied,
            content_range: Some(content_range),
            version,
        })
    }
}

fn metadata_of(object: &Object) -> Option<Metadata> {
    let metadata = &object.attributes.metadata;
    (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect())
}

fn encryption_of(object: &Object) -> Option<ServerSideEncryption> {
    let algorithm = object.attributes.encryption.algorithm().to_owned();
    Some(ServerSideEncryption::from(algorithm))
}

/// STANDARD is not named: Amazon S3 API reference, `HeadObject`, `x-amz-storage-class`.
fn named_class(object: &Object) -> Option<StorageClass> {
    let class = &object.attributes.storage_class;
    (class != STANDARD).then(|| StorageClass::from(class.clone()))
}
