//! Multipart uploads: begin, add parts, complete, abort.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use http::HeaderMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::S3Request;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CopyPartResult,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, ServerSideEncryption, Timestamp,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};

use crate::attributes::{Attributes, text};
use crate::caller::Caller;
use crate::checksums::{Algorithm, Checksum};
use crate::clock::whole_second;
use crate::conditions::{Conditions, Write};
use crate::content::Content;
use crate::copies::{etag_of_bytes, source_too_large};
use crate::exchange::Exchange;
use crate::habits::Habit;
use crate::intake::{LARGEST_BODY, check_announced, receive};
use crate::preconditions::Preconditions;
use crate::refusal::Refusal;
use crate::s3::Operations;
use crate::uploads::{ListedPart, PART_NUMBERS, Part, PartChecksums, Upload};

/// Characters of an upload id. AWS promises nothing; its own are about as long.
const ID_LENGTH: usize = 96;

impl Operations {
    pub(crate) async fn begin_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
        _: &Exchange,
    ) -> Result<CreateMultipartUploadOutput, Refusal> {
        let input = req.input;
        let bucket = self.bucket(&input.bucket)?;
        let attributes = Attributes::read(&req.headers, input.metadata, &self.kms_arn())?;
        let attributes = self.kept(attributes, &input.key);
        let checksum = announced_checksums(&req.headers)?;
        let caller = req.extensions.get::<Caller>().and_then(Caller::user);
        let id = self.0.random.base32(ID_LENGTH);
        let encryption = attributes.encryption.clone();
        let upload = Upload {
            key: input.key.clone(),
            initiated: whole_second(self.0.clock.now()),
            initiator: caller.map(|user| (user.arn().to_owned(), user.name().to_owned())),
            attributes: Arc::new(attributes),
            checksum,
            parts: BTreeMap::new(),
        };
        bucket.change_uploads(|uploads| uploads.begin(id.clone(), upload));
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: checksum
                .map(|announced| ChecksumAlgorithm::from_static(announced.algorithm.name())),
            checksum_type: checksum.map(|announced| type_of(announced.is_composite)),
            key: Some(input.key),
            ssekms_key_id: encryption.key().map(str::to_owned),
            server_side_encryption: Some(ServerSideEncryption::from(
                encryption.algorithm().to_owned(),
            )),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        })
    }

    pub(crate) async fn upload(
        &self,
        req: S3Request<UploadPartInput>,
        _: &Exchange,
    ) -> Result<UploadPartOutput, Refusal> {
        let input = req.input;
        let bucket = self.bucket(&input.bucket)?;
        check_part_number(input.part_number)?;
        let (id, key) = (input.upload_id.as_str(), input.key.as_str());
        let find = || {
            bucket.read_uploads(|uploads| {
                let upload = uploads.get(id, key)?;
                Ok::<_, Refusal>((upload.attributes.clone(), upload.checksum))
            })
        };
        let (attributes, announced) = find()?;
        if bucket.settings().object_lock {
            check_announced(&req.headers, "Put Part")?;
        }
        let received = receive(input.body, &req.headers, req.trailing_headers).await?;
        let checksum = received.verified.checksum;
        check_part_checksum(announced, checksum.as_ref())?;
        let part = Part {
            etag: self.etag(&attributes, received.verified.md5),
            content: received.content,
            modified: whole_second(self.0.clock.now()),
            checksum: checksum.clone(),
        };
        let etag = part.etag.clone();
        // The upload may have ended while the body came in.
        bucket.change_uploads(|uploads| uploads.add(id, key, input.part_number, part))?;
        let encryption = &attributes.encryption;
        let mut output = UploadPartOutput {
            e_tag: Some(ETag::Strong(etag)),
            ssekms_key_id: encryption.key().map(str::to_owned),
            server_side_encryption: Some(ServerSideEncryption::from(
                encryption.algorithm().to_owned(),
            )),
            ..UploadPartOutput::default()
        };
        if let Some(checksum) = &checksum {
            crate::wire::set_checksum_value!(output, checksum);
        }
        Ok(output)
    }

    pub(crate) async fn upload_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
        exchange: &Exchange,
    ) -> Result<UploadPartCopyOutput, Refusal> {
        let input = req.input;
        let bucket = self.bucket(&input.bucket)?;
        check_part_number(input.part_number)?;
        let (id, key) = (input.upload_id.as_str(), input.key.as_str());
        let (attributes, announced) = bucket.read_uploads(|uploads| {
            let upload = uploads.get(id, key)?;
            Ok::<_, Refusal>((upload.attributes.clone(), upload.checksum))
        })?;
        let preconditions = Preconditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let source = self.source(
            &input.copy_source,
            preconditions,
            (&req.headers, &req.extensions, exchange),
        )?;
        let size = source.content.len();
        let is_copy = !self.0.habits.has(Habit::CopiesArePuts);
        let range = match &input.copy_source_range {
            Some(range) if is_copy => source_range(range, size)?,
            _ => 0..size,
        };
        if range.end - range.start > LARGEST_BODY {
            return Err(source_too_large());
        }
        let stand_in = format!("{} {range:?}", source.etag);
        let content = Content::of_pieces(source.content.slice(range));
        let part = Part {
            etag: self.etag(&attributes, etag_of_bytes(&content, &stand_in)),
            modified: whole_second(self.0.clock.now()),
            checksum: announced
                .map(|announced| Checksum::of(announced.algorithm, content.pieces())),
            content,
        };
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.etag.clone())),
            last_modified: Some(Timestamp::from(part.modified)),
            ..CopyPartResult::default()
        };
        if let Some(checksum) = &part.checksum {
            crate::wire::set_checksum_value!(result, checksum);
        }
        bucket.change_uploads(|uploads| uploads.add(id, key, input.part_number, part))?;
        let encryption = &attributes.encryption;
        Ok(UploadPartCopyOutput {
            copy_part_result: is_copy.then_some(result),
            ssekms_key_id: encryption.key().map(str::to_owned),
            server_side_encryption: Some(ServerSideEncryption::from(
                encryption.algorithm().to_owned(),
            )),
            ..UploadPartCopyOutput::default()
        })
    }

    pub(crate) async fn complete(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
        exchange: &Exchange,
    ) -> Result<CompleteMultipartUploadOutput, Refusal> {
        let input = req.input;
        let bucket = self.bucket(&input.bucket)?;
        let conditions = Conditions::read(&req.headers, Write::Complete, exchange)?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts);
        let listed: Vec<_> = parts
            .unwrap_or_default()
            .into_iter()
            .map(listed_part)
            .collect::<Result<_, _>>()?;
        if listed.is_empty() {
            return Err(Refusal::s3("MalformedXML"));
        }
        if let Some(announced) = input.mpu_object_size {
            let size = bucket.read_uploads(|uploads| {
                let upload = uploads.get(&input.upload_id, &input.key).ok()?;
                let parts = listed
                    .iter()
                    .filter_map(|part| upload.parts.get(&part.number));
                Some(parts.map(|part| part.content.len()).sum::<u64>())
            });
            if size.is_some() && size != u64::try_from(announced).ok() {
                let message =
                    "The provided 'x-amz-mp-object-size' header does not match what was computed.";
                return Err(Refusal::new(400, "InvalidRequest", message));
            }
        }
        let object = bucket.complete(
            (&input.upload_id, &input.key),
            listed,
            &conditions,
            exchange.completed_uploads,
            self.signature(exchange),
        )?;
        let encryption = &object.attributes.encryption;
        let mut output = CompleteMultipartUploadOutput {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            location: Some(format!(
                "https://{}.s3.{}.amazonaws.com/{}",
                input.bucket,
                self.0.region,
                utf8_percent_encode(&input.key, NON_ALPHANUMERIC)
            )),
            ssekms_key_id: encryption.key().map(str::to_owned),
            server_side_encryption: Some(ServerSideEncryption::from(
                encryption.algorithm().to_owned(),
            )),
            bucket: Some(input.bucket),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        };
        crate::wire::set_checksum!(output, object.checksum.as_ref());
        Ok(output)
    }

    pub(crate) async fn abort(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
        _: &Exchange,
    ) -> Result<AbortMultipartUploadOutput, Refusal> {
        let input = req.input;
        if input.if_match_initiated_time.is_some() {
            // For directory buckets only: the page of `AbortMultipartUpload`.
            return Err(Refusal::s3("NotImplemented"));
        }
        let bucket = self.bucket(&input.bucket)?;
        bucket.change_uploads(|uploads| uploads.abort(&input.upload_id, &input.key))?;
        Ok(AbortMultipartUploadOutput::default())
    }
}

pub(crate) fn type_of(is_composite: bool) -> ChecksumType {
    ChecksumType::from_static(if is_composite {
        ChecksumType::COMPOSITE
    } else {
        ChecksumType::FULL_OBJECT
    })
}

/// Amazon S3 API reference, `CreateMultipartUpload`, `x-amz-checksum-type`.
fn announced_checksums(headers: &HeaderMap) -> Result<Option<PartChecksums>, Refusal> {
    let Some(name) = text(headers, "x-amz-checksum-algorithm") else {
        return Ok(None);
    };
    let Some(algorithm) = Algorithm::named(&name.to_ascii_uppercase()) else {
        return Err(Refusal::new(
            400,
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, \
             CRC64NVME, SHA1, SHA256]",
        ));
    };
    let is_composite = match text(headers, "x-amz-checksum-type").as_deref() {
        None => algorithm.is_composite_by_default(),
        Some("COMPOSITE") if algorithm != Algorithm::Crc64Nvme => true,
        Some("FULL_OBJECT") if !matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256) => false,
        Some(other) => {
            let name = algorithm.name().to_ascii_lowercase();
            return Err(Refusal::new(
                400,
                "InvalidRequest",
                format!(
                    "The {other} checksum type cannot be used with the {name} checksum algorithm."
                ),
            ));
        }
    };
    Ok(Some(PartChecksums {
        algorithm,
        is_composite,
    }))
}

fn check_part_number(number: i32) -> Result<(), Refusal> {
    if PART_NUMBERS.contains(&number) {
        return Ok(());
    }
    Err(Refusal::new(
        400,
        "InvalidArgument",
        "Part number must be an integer between 1 and 10000, inclusive",
    )
    .with("ArgumentName", "partNumber")
    .with("ArgumentValue", number.to_string()))
}

/// A part may have no other checksum than its upload was announced with, and must have that one if the
/// whole will have a checksum of checksums.
fn check_part_checksum(
    announced: Option<PartChecksums>,
    sent: Option<&Checksum>,
) -> Result<(), Refusal> {
    let Some(announced) = announced else {
        return Ok(());
    };
    let sent = sent.map(|checksum| checksum.algorithm);
    let is_missing = sent.is_none() && announced.is_composite;
    if !is_missing && sent.is_none_or(|sent| sent == announced.algorithm) {
        return Ok(());
    }
    let name = |algorithm: Algorithm| algorithm.name().to_ascii_lowercase();
    Err(Refusal::new(
        400,
        "InvalidRequest",
        format!(
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            name(announced.algorithm),
            sent.map_or_else(|| "null".to_owned(), name)
        ),
    ))
}

fn listed_part(part: CompletedPart) -> Result<ListedPart, Refusal> {
    let number = part
        .part_number
        .ok_or_else(|| Refusal::s3("MalformedXML"))?;
    let etag = part.e_tag.ok_or_else(|| Refusal::s3("MalformedXML"))?;
    Ok(ListedPart {
        number,
        etag: etag.into_value(),
        checksum: part
            .checksum_crc32
            .or(part.checksum_crc32c)
            .or(part.checksum_crc64nvme)
            .or(part.checksum_sha1)
            .or(part.checksum_sha256),
    })
}

/// Reads `bytes=FIRST-LAST`, which must lie within the source.
fn source_range(text: &str, size: u64) -> Result<Range<u64>, Refusal> {
    let refuse = |message: String| {
        Refusal::new(400, "InvalidArgument", message)
            .with("ArgumentName", "x-amz-copy-source-range")
            .with("ArgumentValue", text)
    };
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u64>().ok())
            .flatten()
    };
    let bounds = text
        .strip_prefix("bytes=")
        .and_then(|text| text.split_once('-'))
        .and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let Some((first, last)) = bounds.filter(|(first, last)| first <= last) else {
        return Err(refuse(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy"
                .to_owned(),
        ));
    };
    if last >= size {
        return Err(refuse(format!(
            "Range specified is not valid for source object of size: {size}"
        )));
    }
    Ok(first..last + 1)
}
