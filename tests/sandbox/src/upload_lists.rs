//! ListParts and ListMultipartUploads.

use s3s::S3Request;
use s3s::dto::{
    ChecksumAlgorithm, CommonPrefix, ETag, Initiator, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Owner,
    Part as ListedPart, StorageClass, Timestamp,
};

use crate::exchange::Exchange;
use crate::listing_habits::encode;
use crate::lists::{LARGEST_PAGE, is_url_encoded};
use crate::multipart::type_of;
use crate::refusal::Refusal;
use crate::s3::Operations;
use crate::uploads::Upload;

/// Where the next page of uploads begins.
#[derive(Clone, Debug, Default)]
struct Marker {
    key: String,
    upload_id: Option<String>,
}

impl Operations {
    /// Amazon S3 API reference, `ListParts`.
    pub(crate) async fn list_parts_of(
        &self,
        req: S3Request<ListPartsInput>,
        _: &Exchange,
    ) -> Result<ListPartsOutput, Refusal> {
        let input = req.input;
        let limit = page_size(input.max_parts, "max-parts")?;
        let after = input.part_number_marker.unwrap_or(0);
        let bucket = self.bucket(&input.bucket)?;
        let (upload, parts, is_truncated) = bucket.read_uploads(|uploads| {
            let upload = uploads.get(&input.upload_id, &input.key)?;
            let behind = || upload.parts.iter().filter(|(number, _)| **number > after);
            let parts: Vec<_> = behind()
                .take(limit)
                .map(|(number, part)| {
                    let mut listed = ListedPart {
                        e_tag: Some(ETag::Strong(part.etag.clone())),
                        last_modified: Some(Timestamp::from(part.modified)),
                        part_number: Some(*number),
                        size: i64::try_from(part.content.len()).ok(),
                        ..ListedPart::default()
                    };
                    if let Some(checksum) = &part.checksum {
                        crate::wire::set_checksum_value!(listed, checksum);
                    }
                    listed
                })
                .collect();
            let is_truncated = behind().count() > parts.len();
            let head = Upload {
                parts: Default::default(),
                ..upload.clone()
            };
            Ok::<_, Refusal>((head, parts, is_truncated))
        })?;
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: algorithm_of(&upload),
            checksum_type: upload
                .checksum
                .map(|announced| type_of(announced.is_composite)),
            initiator: initiator_of(&upload),
            is_truncated: Some(is_truncated),
            key: Some(input.key),
            max_parts: i32::try_from(limit).ok(),
            next_part_number_marker: parts.last().and_then(|part| part.part_number).or(Some(0)),
            owner: Some(self.owner()),
            part_number_marker: Some(after),
            parts: Some(parts),
            storage_class: Some(StorageClass::from(upload.attributes.storage_class.clone())),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        })
    }

    /// Amazon S3 API reference, `ListMultipartUploads`: by key, then by the time they were begun.
    pub(crate) async fn list_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
        _: &Exchange,
    ) -> Result<ListMultipartUploadsOutput, Refusal> {
        let input = req.input;
        let limit = page_size(input.max_uploads, "max-uploads")?;
        let url = is_url_encoded(input.encoding_type.as_ref())?;
        let name = |name: &str| if url { encode(name) } else { name.to_owned() };
        let bucket = self.bucket(&input.bucket)?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let delimiter = input.delimiter.as_deref().unwrap_or_default();
        let marker = input.key_marker.clone().map(|key| Marker {
            key,
            upload_id: input.upload_id_marker.clone().filter(|id| !id.is_empty()),
        });
        let mut all: Vec<(String, Upload)> = bucket.read_uploads(|uploads| {
            uploads
                .iter()
                .filter(|(_, upload)| upload.key.starts_with(prefix))
                .map(|(id, upload)| (id.clone(), upload.clone()))
                .collect()
        });
        all.sort_by(|(one_id, one), (other_id, other)| {
            (&one.key, one.initiated, one_id).cmp(&(&other.key, other.initiated, other_id))
        });
        let (mut uploads, mut common) = (Vec::new(), Vec::<String>::new());
        let (mut next, mut is_truncated) = (Marker::default(), false);
        // Behind the upload that the marker names; behind the key, if it names none.
        let mut is_behind = marker
            .as_ref()
            .and_then(|marker| marker.upload_id.as_ref())
            .is_none();
        for (id, upload) in all {
            if let Some(marker) = &marker {
                let is_marked = upload.key == marker.key;
                if upload.key < marker.key || (is_marked && marker.upload_id.is_none()) {
                    continue;
                }
                if is_marked && !is_behind {
                    is_behind = marker.upload_id.as_ref() == Some(&id);
                    continue;
                }
            }
            let rest = &upload.key[prefix.len()..];
            let split = rest.find(delimiter).filter(|_| !delimiter.is_empty());
            let group =
                split.map(|at| upload.key[..prefix.len() + at + delimiter.len()].to_owned());
            let is_listed = |group: &String| {
                common.last() == Some(group)
                    || marker.as_ref().is_some_and(|marker| marker.key == *group)
            };
            if group.as_ref().is_some_and(is_listed) {
                continue;
            }
            if uploads.len() + common.len() == limit {
                is_truncated = true;
                break;
            }
            match group {
                Some(group) => {
                    next = Marker {
                        key: group.clone(),
                        upload_id: None,
                    };
                    common.push(group);
                }
                None => {
                    next = Marker {
                        key: upload.key.clone(),
                        upload_id: Some(id.clone()),
                    };
                    uploads.push(MultipartUpload {
                        checksum_algorithm: algorithm_of(&upload),
                        checksum_type: upload
                            .checksum
                            .map(|announced| type_of(announced.is_composite)),
                        initiated: Some(Timestamp::from(upload.initiated)),
                        initiator: initiator_of(&upload),
                        key: Some(name(&upload.key)),
                        owner: Some(self.owner()),
                        storage_class: Some(StorageClass::from(
                            upload.attributes.storage_class.clone(),
                        )),
                        upload_id: Some(id),
                    });
                }
            }
        }
        Ok(ListMultipartUploadsOutput {
            common_prefixes: Some(
                common
                    .iter()
                    .map(|prefix| CommonPrefix {
                        prefix: Some(name(prefix)),
                    })
                    .collect(),
            ),
            bucket: Some(input.bucket),
            delimiter: input.delimiter.as_deref().map(name),
            encoding_type: input.encoding_type,
            is_truncated: Some(is_truncated),
            key_marker: Some(name(input.key_marker.as_deref().unwrap_or_default())),
            max_uploads: i32::try_from(limit).ok(),
            next_key_marker: is_truncated.then(|| name(&next.key)),
            next_upload_id_marker: next.upload_id.filter(|_| is_truncated),
            prefix: Some(name(prefix)),
            upload_id_marker: input.upload_id_marker,
            uploads: Some(uploads),
            ..ListMultipartUploadsOutput::default()
        })
    }

    fn owner(&self) -> Owner {
        Owner {
            id: Some(self.0.account.clone()),
            ..Owner::default()
        }
    }
}

fn page_size(asked: Option<i32>, name: &'static str) -> Result<usize, Refusal> {
    let asked = asked.unwrap_or(LARGEST_PAGE).min(LARGEST_PAGE);
    usize::try_from(asked).map_err(|_| {
        Refusal::new(
            400,
            "InvalidArgument",
            format!("Argument {name} must be an integer between 0 and 2147483647"),
        )
        .with("ArgumentName", name)
    })
}

fn algorithm_of(upload: &Upload) -> Option<ChecksumAlgorithm> {
    upload
        .checksum
        .map(|announced| ChecksumAlgorithm::from_static(announced.algorithm.name()))
}

fn initiator_of(upload: &Upload) -> Option<Initiator> {
    let (arn, name) = upload.initiator.clone()?;
    Some(Initiator {
        id: Some(arn),
        display_name: Some(name),
    })
}
