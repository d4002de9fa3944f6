//! CopyObject, and the source of every copy.

use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, HeaderMap};
use s3s::S3Request;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag, ServerSideEncryption,
    Timestamp,
};

use crate::attributes::{Attributes, text};
use crate::checksums::md5_hex;
use crate::clock::whole_second;
use crate::conditions::{Conditions, Write};
use crate::content::Content;
use crate::exchange::Exchange;
use crate::habits::Habit;
use crate::intake::LARGEST_BODY;
use crate::preconditions::Preconditions;
use crate::refusal::Refusal;
use crate::s3::Operations;
use crate::store::Object;

/// Up to here a copy's tag is computed from its bytes. Above, it is made of the source's tag: a tag of
/// gigabytes would take many seconds, and means nothing to a client.
const LARGEST_HASHED: u64 = 256 * 1024 * 1024;

/// Words of AWS.
const TO_ITSELF: &str = "This copy request is illegal because it is trying to copy an object to itself without \
                         changing the object's metadata, storage class, website redirect location or encryption \
                         attributes.";

impl Operations {
    pub(crate) async fn copy(
        &self,
        req: S3Request<CopyObjectInput>,
        exchange: &Exchange,
    ) -> Result<CopyObjectOutput, Refusal> {
        let (input, headers) = (req.input, &req.headers);
        let bucket = self.bucket(&input.bucket)?;
        let conditions = Conditions::read(headers, Write::Copy, exchange)?;
        let preconditions = Preconditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let source = self.source(
            &input.copy_source,
            preconditions,
            (headers, &req.extensions, exchange),
        )?;
        let replaces = |directive: Option<&str>, header: &str| match directive {
            None | Some("COPY") => Ok(false),
            Some("REPLACE") => Ok(true),
            Some(other) => Err(Refusal::new(
                400,
                "InvalidArgument",
                format!("Unknown {} directive.", header.trim_start_matches("x-amz-")),
            )
            .with("ArgumentName", header.to_owned())
            .with("ArgumentValue", other)),
        };
        let directive = text(headers, "x-amz-metadata-directive");
        let replaces_metadata = replaces(directive.as_deref(), "x-amz-metadata-directive")?;
        let directive = text(headers, "x-amz-tagging-directive");
        let replaces_tags = replaces(directive.as_deref(), "x-amz-tagging-directive")?;
        if !replaces_metadata
            && is_same(&input.copy_source, &input.bucket, &input.key)
            && !changes_settings(headers)
        {
            return Err(Refusal::new(400, "InvalidRequest", TO_ITSELF));
        }
        if source.content.len() > LARGEST_BODY {
            return Err(source_too_large());
        }
        let mut attributes = if replaces_metadata {
            Attributes::read(headers, input.metadata, &self.kms_arn())?
        } else {
            Attributes::of_copy(&source.attributes, headers, &self.kms_arn())?
        };
        attributes.tagging = if replaces_tags {
            text(headers, "x-amz-tagging")
        } else {
            source.attributes.tagging.clone()
        };
        let by = self.signature(exchange);
        let object = Object {
            etag: self.etag(&attributes, etag_of_copy(&source)),
            content: source.content.clone(),
            modified: whole_second(by.at),
            attributes: Arc::new(attributes),
            // A copy is one whole: its checksum is not one of parts any more.
            checksum: source
                .checksum
                .clone()
                .filter(|checksum| !checksum.is_composite),
        };
        let object = bucket.store(&input.key, object, &conditions, by)?;
        let encryption = &object.attributes.encryption;
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(Timestamp::from(object.modified)),
            ..CopyObjectResult::default()
        };
        crate::wire::set_checksum!(result, object.checksum.as_ref());
        let is_copy = !self.0.habits.has(Habit::CopiesArePuts);
        Ok(CopyObjectOutput {
            copy_object_result: is_copy.then_some(result),
            ssekms_key_id: encryption.key().map(str::to_owned),
            server_side_encryption: Some(ServerSideEncryption::from(
                encryption.algorithm().to_owned(),
            )),
            ..CopyObjectOutput::default()
        })
    }

    /// Opens the source of a copy: permission, owner, conditions, class. Reading it takes
    /// `s3:GetObject`: Amazon S3 API reference, `CopyObject` and `UploadPartCopy`, "Permissions".
    pub(crate) fn source(
        &self,
        source: &CopySource,
        preconditions: Preconditions,
        (headers, extensions, exchange): (&HeaderMap, &Extensions, &Exchange),
    ) -> Result<Arc<Object>, Refusal> {
        let CopySource::Bucket {
            bucket,
            key,
            version_id,
        } = source
        else {
            return Err(Refusal::s3("NotImplemented").with("Header", "x-amz-copy-source"));
        };
        self.authorize(extensions, bucket, Some(key), "s3:GetObject")?;
        let owner = text(headers, "x-amz-source-expected-bucket-owner");
        crate::access::check_owner(&self.0, bucket, owner.as_deref(), headers, exchange)?;
        let object = match version_id {
            Some(id) => self.find_version(bucket, key, id, extensions)?,
            None => self.find(bucket, key, extensions)?,
        };
        if self.0.habits.has(Habit::CopiesArePuts) {
            return Ok(Arc::new(Object::new(Bytes::new(), self.0.clock.now())));
        }
        if preconditions.if_match.is_some()
            && object.etag.contains('-')
            && self.0.habits.has(Habit::SourcesInPartsUnknown)
        {
            return Err(Refusal::s3("PreconditionFailed"));
        }
        if exchange.conditional_writes.has_copy_sources() {
            preconditions.check_source(&object)?;
        }
        if object.attributes.is_archived() {
            return Err(Refusal::s3("ObjectNotInActiveTierError").with("Key", key.to_string()));
        }
        Ok(object)
    }
}

/// Words of AWS for sources of more than 5 GiB.
pub(crate) fn source_too_large() -> Refusal {
    Refusal::new(
        400,
        "InvalidRequest",
        format!(
            "The specified copy source is larger than the maximum allowable size for a copy source: {LARGEST_BODY}"
        ),
    )
}

/// The tag that copied bytes have as one object, were they not encrypted with keys of KMS.
fn etag_of_copy(source: &Object) -> String {
    let is_md5 = source.attributes.encryption.has_plain_etags() && !source.etag.contains('-');
    if is_md5 {
        source.etag.clone()
    } else {
        etag_of_bytes(&source.content, &source.etag)
    }
}

/// The MD5 of copied bytes; of `instead`, if they are very many.
pub(crate) fn etag_of_bytes(content: &Content, instead: &str) -> String {
    if content.len() <= LARGEST_HASHED {
        md5_hex(content.pieces())
    } else {
        md5_hex([instead])
    }
}

fn is_same(source: &CopySource, bucket: &str, key: &str) -> bool {
    matches!(source, CopySource::Bucket { bucket: b, key: k, .. } if **b == *bucket && **k == *key)
}

/// Whether the request asks for something that a copy in place can change besides metadata.
fn changes_settings(headers: &HeaderMap) -> bool {
    [
        "x-amz-storage-class",
        "x-amz-website-redirect-location",
        "x-amz-server-side-encryption",
    ]
    .iter()
    .any(|name| headers.contains_key(*name))
}
