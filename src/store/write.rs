//! Single requests that change the bucket, each signed by the session it is given.
//!
//! Each carries the condition under which it may act, so that nothing of somebody else's is
//! ever replaced: docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::list_parts::ListPartsError;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, MetadataDirective, Part, ServerSideEncryption,
    StorageClass,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::failure::{Failure, Kind};
use super::s3::{REQUEST, S3};
use super::{Facts, tag};

/// How slow an upload may be before it is given up, in bytes per second.
const SLOWEST: u64 = 32 << 10;

/// How long S3 may take to copy or to put parts together: it answers when it is done.
const ON_THE_SERVER: Duration = Duration::from_secs(600);

/// What need not be encoded in `x-amz-copy-source`.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// When a request may change what is under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Always.
    Always,
    /// If nothing is there: `If-None-Match: *`.
    Absent,
    /// If this version is there, as [`mod@tag`] spells it: `If-Match`.
    Is(String),
}

impl Condition {
    /// Whether it can be left to a store that knows conditions: not one with a version that has no
    /// strong ETag.
    pub(super) fn can_be_sent(&self) -> bool {
        match self {
            Self::Is(version) => tag::is_strong(version),
            Self::Always | Self::Absent => true,
        }
    }

    fn if_match(&self) -> Option<String> {
        match self {
            Self::Is(etag) => Some(etag.clone()),
            Self::Always | Self::Absent => None,
        }
    }

    fn if_none_match(&self) -> Option<String> {
        (*self == Self::Absent).then(|| "*".to_owned())
    }
}

/// What an object carries besides its bytes, when it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) content_type: String,
    /// Names without `x-amz-meta-`.
    pub(crate) metadata: HashMap<String, String>,
    /// What the object had before, and keeps.
    pub(crate) kept: Option<std::sync::Arc<Facts>>,
}

/// Bytes to send: they can be sent again.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// From memory.
    Bytes(Bytes),
    /// A range of a file. Bytes that change meanwhile are refused by S3, because they no longer
    /// have the digest.
    File {
        path: PathBuf,
        range: Range<u64>,
        /// MD5, as RFC 1864 has it.
        md5: [u8; 16],
    },
}

impl Payload {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { range, .. } => range.end - range.start,
        }
    }

    async fn stream(&self) -> Result<ByteStream, String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone().into()),
            Self::File { path, range, .. } => ByteStream::read_from()
                .path(path)
                .offset(range.start)
                .length(Length::Exact(range.end - range.start))
                .buffer_size(128 << 10)
                .build()
                .await
                .map_err(|error| format!("the spool file {} : {error}", path.display())),
        }
    }

    /// The digest that a bucket with Object Lock demands of every PUT, even of no bytes: AWS's
    /// pages of PutObject and UploadPart, `Content-MD5`.
    fn md5(&self) -> String {
        match self {
            Self::Bytes(bytes) => BASE64_STANDARD.encode(Md5::digest(bytes)),
            Self::File { md5, .. } => BASE64_STANDARD.encode(md5),
        }
    }

    /// What an upload of so many bytes may take.
    fn timeouts(&self) -> TimeoutConfig {
        let one = Duration::from_secs(30 + self.len() / SLOWEST);
        TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(one)
            .operation_timeout(one.max(REQUEST))
            .build()
    }
}

fn on_the_server() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(ON_THE_SERVER)
        .operation_timeout(2 * ON_THE_SERVER)
        .build()
}

/// Says that there is no body, without which Ceph refuses to copy a part (411).
fn without_body(request: &mut HttpRequest) {
    request.headers_mut().insert("content-length", "0");
}

/// Says when the object expires, in the words that it had: the SDK takes nothing but dates, and
/// S3 takes anything.
fn with_expires(header: &Header) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
    let kept = header.kept.as_deref();
    let expires = kept.and_then(|facts| facts.expires.clone());
    move |request| {
        if let Some(expires) = &expires
            && let Err(error) = request.headers_mut().try_insert("expires", expires.clone())
        {
            tracing::warn!("Expires cannot be kept: {error}");
        }
    }
}

/// What is copied, if it still is what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) key: String,
    pub(crate) etag: String,
    /// The id of an earlier version, if it is one.
    pub(crate) version: Option<String>,
}

impl Source {
    /// The condition that the store is told; `None` for a version that it would not know.
    fn condition(&self) -> Option<String> {
        tag::is_strong(&self.etag).then(|| self.etag.clone())
    }

    /// What has to be checked by HEAD, before the store copies and after, if it is told the condition
    /// or not. An earlier version does not change.
    pub(super) fn unsent(&self, is_sent: bool) -> Condition {
        match self.condition().filter(|_| is_sent) {
            Some(_) => Condition::Always,
            None if self.version.is_some() => Condition::Always,
            None => Condition::Is(self.etag.clone()),
        }
    }
}

/// A part that S3 has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// 1 to 10,000.
    pub(crate) number: i32,
    pub(crate) etag: String,
}

/// How objects of this mount are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) sse: Option<String>,
    pub(crate) sse_kms_key_id: Option<String>,
    pub(crate) storage_class: Option<String>,
    pub(crate) acl: Option<String>,
    pub(crate) requester_pays: bool,
    pub(crate) expected_bucket_owner: Option<String>,
}

/// The options that every request that creates an object takes, in the same words.
macro_rules! creating {
    ($request:expr, $settings:expr, $header:expr) => {{
        let (settings, header) = (&$settings, $header);
        let kept = header.kept.as_deref();
        let class = settings.storage_class.clone();
        let class = class.or_else(|| kept.and_then(|facts| facts.lasting_class()));
        let sse = settings.sse.clone();
        let sse = sse.or_else(|| kept.and_then(|facts| facts.sse.clone()));
        let kms = settings.sse_kms_key_id.clone();
        let kms = kms.or_else(|| kept.and_then(|facts| facts.sse_kms_key_id.clone()));
        $request
            .content_type(&header.content_type)
            .set_metadata(Some(header.metadata.clone()))
            .set_cache_control(kept.and_then(|facts| facts.cache_control.clone()))
            .set_content_disposition(kept.and_then(|facts| facts.content_disposition.clone()))
            .set_content_encoding(kept.and_then(|facts| facts.content_encoding.clone()))
            .set_content_language(kept.and_then(|facts| facts.content_language.clone()))
            .set_storage_class(class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(sse.as_deref().map(ServerSideEncryption::from))
            .set_website_redirect_location(kept.and_then(|facts| facts.website_redirect.clone()))
            .set_ssekms_key_id(kms.filter(|_| sse.as_deref() != Some("AES256")))
            .set_acl(settings.acl.as_deref().map(Into::into))
    }};
}

impl S3 {
    /// Writes a whole object. Returns its tag.
    pub(crate) async fn put(
        &self,
        key: &str,
        payload: &Payload,
        header: &Header,
        condition: &Condition,
    ) -> Result<String, Failure> {
        let _slot = self.slot().await?;
        let body = payload.stream().await.map_err(|text| self.local(text))?;
        let request = self.client.put_object().bucket(&*self.bucket).key(key);
        let request = creating!(request, self.settings, header)
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .set_if_match(condition.if_match())
            .set_if_none_match(condition.if_none_match())
            .content_md5(payload.md5())
            .content_length(i64::try_from(payload.len()).unwrap_or(i64::MAX))
            .body(body);
        let answer = request
            .customize()
            .mutate_request(with_expires(header))
            .config_override(self.timing(payload.timeouts()))
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error))?;
        self.tagged(answer.e_tag)
    }

    /// Begins a multipart upload. Returns its id.
    pub(crate) async fn begin_upload(&self, key: &str, header: &Header) -> Result<String, Failure> {
        let _slot = self.slot().await?;
        let request = self.client.create_multipart_upload();
        let request = request.bucket(&*self.bucket).key(key);
        let answer = creating!(request, self.settings, header)
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .customize()
            .mutate_request(with_expires(header))
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error))?;
        match answer.upload_id {
            Some(id) if !id.is_empty() => Ok(id),
            _ => Err(self.local("S3 began an upload without telling its id".to_owned())),
        }
    }

    /// Sends a part. Returns its tag.
    pub(crate) async fn put_part(
        &self,
        key: &str,
        upload: &str,
        number: i32,
        payload: &Payload,
    ) -> Result<String, Failure> {
        let _slot = self.slot().await?;
        let body = payload.stream().await.map_err(|text| self.local(text))?;
        let answer = self
            .client
            .upload_part()
            .bucket(&*self.bucket)
            .key(key)
            .upload_id(upload)
            .part_number(number)
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .content_md5(payload.md5())
            .content_length(i64::try_from(payload.len()).unwrap_or(i64::MAX))
            .body(body)
            .customize()
            .config_override(self.timing(payload.timeouts()))
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error).of_part(number, &error))?;
        match self.part_tagged(number, answer.e_tag) {
            Err(untold) => {
                self.listed_part(key, upload, number, payload.len(), untold)
                    .await
            }
            told => told,
        }
    }

    /// The tag of a part that the answer to its sending did not tell, from the list of parts: if that
    /// has as many bytes as were sent.
    async fn listed_part(
        &self,
        key: &str,
        upload: &str,
        number: i32,
        size: u64,
        untold: Failure,
    ) -> Result<String, Failure> {
        let Ok(parts) = self.parts_from(key, upload, number).await else {
            return Err(untold);
        };
        let is_it = |part: &Part| {
            part.part_number == Some(number)
                && part.size.and_then(|size| u64::try_from(size).ok()) == Some(size)
        };
        let part = parts.into_iter().find(is_it);
        let told = part.and_then(|part| part.e_tag);
        told.filter(|etag| tag::read(Some(etag)).is_some())
            .ok_or(untold)
    }

    /// Has S3 copy a range of an object into a part, if `is_sent` under the condition that the source
    /// is what it was. Returns the part's tag.
    pub(crate) async fn copy_part(
        &self,
        key: &str,
        upload: &str,
        number: i32,
        (source, is_sent): (&Source, bool),
        range: &Range<u64>,
    ) -> Result<String, Failure> {
        let _slot = self.slot().await?;
        let answer = self
            .client
            .upload_part_copy()
            .bucket(&*self.bucket)
            .key(key)
            .upload_id(upload)
            .part_number(number)
            .copy_source(self.copy_source(source))
            .set_copy_source_if_match(source.condition().filter(|_| is_sent))
            .copy_source_range(format!(
                "bytes={}-{}",
                range.start,
                range.end.saturating_sub(1)
            ))
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .set_expected_source_bucket_owner(self.settings.expected_bucket_owner.clone())
            .customize()
            .mutate_request(without_body)
            .config_override(self.timing(on_the_server()))
            .send()
            .await
            .map_err(|error| Failure::read_copy(self.generation, &error).of_part(number, &error));
        // A store that overlooks what is to be copied has taken a part without bytes.
        let no_copy = |failure: Failure| match failure.kind {
            Kind::Untold => Failure {
                kind: Kind::Unsupported,
                ..failure
            },
            _ => failure,
        };
        let told = answer.map_err(no_copy)?.copy_part_result;
        let tag = self.part_tagged(number, told.and_then(|part| part.e_tag));
        tag.map_err(no_copy)
    }

    /// How many bytes a part has by the list of parts; `None` if that does not say.
    ///
    /// Errors: [`Kind::NoUpload`] if the upload is gone.
    pub(crate) async fn part_size(
        &self,
        key: &str,
        upload: &str,
        number: i32,
    ) -> Result<Option<u64>, Failure> {
        let parts = self.parts_from(key, upload, number).await;
        let parts = parts.map_err(|error| Failure::read(self.generation, &error))?;
        let part = parts
            .into_iter()
            .find(|part| part.part_number == Some(number));
        Ok(part.and_then(|part| part.size.and_then(|size| u64::try_from(size).ok())))
    }

    async fn parts_from(
        &self,
        key: &str,
        upload: &str,
        number: i32,
    ) -> Result<Vec<Part>, SdkError<ListPartsError, HttpResponse>> {
        let request = self.client.list_parts().bucket(&*self.bucket).key(key);
        let answer = request
            .upload_id(upload)
            .part_number_marker((number - 1).to_string())
            .max_parts(1)
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .send()
            .await?;
        Ok(answer.parts.unwrap_or_default())
    }

    /// Puts the parts together. Returns the object's tag.
    pub(crate) async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[Stored],
        condition: &Condition,
    ) -> Result<String, Failure> {
        let _slot = self.slot().await?;
        let last = parts.last().map_or(0, |part| part.number);
        let parts = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number)
                .e_tag(&part.etag)
                .build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect()));
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&*self.bucket)
            .key(key)
            .upload_id(upload)
            .multipart_upload(parts.build())
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .set_if_match(condition.if_match())
            .set_if_none_match(condition.if_none_match())
            .customize()
            .config_override(self.timing(on_the_server()))
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error).of_part(last, &error))?;
        self.tagged(answer.e_tag)
    }

    /// Throws an upload away; one that is gone already is thrown away.
    pub(crate) async fn abort(&self, key: &str, upload: &str) -> Result<(), Failure> {
        let _slot = self.slot().await?;
        let answer = self
            .client
            .abort_multipart_upload()
            .bucket(&*self.bucket)
            .key(key)
            .upload_id(upload)
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .send()
            .await;
        match answer.map_err(|error| Failure::read(self.generation, &error)) {
            Err(failure) if failure.kind == Kind::NoUpload || failure.kind == Kind::NotFound => {
                Ok(())
            }
            Err(failure) => Err(failure),
            Ok(_) => Ok(()),
        }
    }

    /// Has S3 copy a whole object of at most 5 GiB, with another header, if `is_sent` under the
    /// condition that the source is what it was. Returns the tag.
    pub(crate) async fn copy(
        &self,
        (source, is_sent): (&Source, bool),
        key: &str,
        header: &Header,
        condition: &Condition,
    ) -> Result<String, Failure> {
        let _slot = self.slot().await?;
        let request = self.client.copy_object().bucket(&*self.bucket).key(key);
        let answer = creating!(request, self.settings, header)
            .metadata_directive(MetadataDirective::Replace)
            .copy_source(self.copy_source(source))
            .set_copy_source_if_match(source.condition().filter(|_| is_sent))
            .set_if_match(condition.if_match())
            .set_if_none_match(condition.if_none_match())
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .set_expected_source_bucket_owner(self.settings.expected_bucket_owner.clone())
            .customize()
            .mutate_request(without_body)
            .mutate_request(with_expires(header))
            .config_override(self.timing(on_the_server()))
            .send()
            .await
            .map_err(|error| Failure::read_copy(self.generation, &error))?;
        let result = answer.copy_object_result;
        self.tagged(result.and_then(|copied| copied.e_tag))
    }

    /// Deletes an object. Without a condition, one that is not there is deleted already.
    pub(crate) async fn delete(&self, key: &str, condition: &Condition) -> Result<(), Failure> {
        let _slot = self.slot().await?;
        self.client
            .delete_object()
            .bucket(&*self.bucket)
            .key(key)
            .set_if_match(condition.if_match())
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error))?;
        Ok(())
    }

    /// The tag of what was stored. Without one, whoever stored it has to look at what is there.
    fn tagged(&self, told: Option<String>) -> Result<String, Failure> {
        tag::read(told.as_deref()).ok_or_else(|| {
            let text = "stored, and the store does not tell its ETag";
            Failure::new(Kind::Untold, self.generation, text)
        })
    }

    /// The tag of a part, without which an upload cannot be completed.
    fn part_tagged(&self, number: i32, told: Option<String>) -> Result<String, Failure> {
        told.filter(|etag| tag::read(Some(etag)).is_some())
            .ok_or_else(|| {
                let text = format!(
                    "the store has taken part {number} and does not tell its ETag, so the upload \
                     cannot be completed"
                );
                Failure::new(Kind::Untold, self.generation, text)
            })
    }

    fn copy_source(&self, source: &Source) -> String {
        let path = format!("{}/{}", self.bucket, source.key);
        let path = percent_encode(path.as_bytes(), COPY_SOURCE);
        match &source.version {
            Some(version) => {
                let version = percent_encode(version.as_bytes(), COPY_SOURCE);
                format!("{path}?versionId={version}")
            }
            None => path.to_string(),
        }
    }

    fn timing(&self, timeouts: TimeoutConfig) -> aws_sdk_s3::config::Builder {
        aws_sdk_s3::Config::builder().timeout_config(timeouts)
    }

    fn local(&self, text: String) -> Failure {
        Failure::new(Kind::Other, self.generation, text)
    }
}
