//! Multipart uploads: the parts that came in, and what becomes of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use crate::attributes::Attributes;
use crate::checksums::{Algorithm, Checksum, multipart_etag};
use crate::content::Content;
use crate::refusal::Refusal;
use crate::store::Object;

/// Amazon S3 user guide, "Amazon S3 multipart upload limits". The last part may be smaller.
pub(crate) const SMALLEST_PART: u64 = 5 * 1024 * 1024;

/// The same page.
pub(crate) const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;

/// How many completed uploads are remembered for requests that complete them again.
const REMEMBERED: usize = 10_000;

/// What CompleteMultipartUpload answers for an upload that was completed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompletedUploads {
    /// 200 with the same ETag when the same parts are listed, whatever the conditions say and whatever
    /// has become of the object since; it is not stored again. So AWS does for a while, although its
    /// reference speaks of `NoSuchUpload` only. How long is not known; here it is for ever.
    #[default]
    Remembered,
    /// As [`Remembered`](Self::Remembered), but the conditions are looked at first, and
    /// `If-None-Match: *` fails with 412 on the object that the upload itself has made.
    Conditional,
    /// 404 `NoSuchUpload`, as AWS's reference says and most other stores do.
    Forgotten,
}

/// An upload in progress.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) initiated: SystemTime,
    /// The ARN of who began it, and the name.
    pub(crate) initiator: Option<(String, String)>,
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) checksum: Option<PartChecksums>,
    pub(crate) parts: BTreeMap<i32, Part>,
}

/// The checksums an upload was announced with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartChecksums {
    pub(crate) algorithm: Algorithm,
    pub(crate) is_composite: bool,
}

/// A part.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) content: Content,
    /// Without the quotes.
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
    pub(crate) checksum: Option<Checksum>,
}

/// A part as CompleteMultipartUpload lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedPart {
    pub(crate) number: i32,
    pub(crate) etag: String,
    /// Of the upload's algorithm.
    pub(crate) checksum: Option<String>,
}

/// An upload that was completed.
#[derive(Clone, Debug)]
struct Completed {
    id: String,
    key: String,
    listed: Vec<ListedPart>,
    object: Arc<Object>,
}

/// The uploads of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    in_progress: BTreeMap<String, Upload>,
    completed: VecDeque<Completed>,
}

impl Uploads {
    pub(crate) fn begin(&mut self, id: String, upload: Upload) {
        self.in_progress.insert(id, upload);
    }

    /// An upload belongs to its key: with another one, it does not exist.
    pub(crate) fn get(&self, id: &str, key: &str) -> Result<&Upload, Refusal> {
        self.in_progress
            .get(id)
            .filter(|upload| upload.key == key)
            .ok_or_else(|| no_such_upload(id))
    }

    /// Adds a part, in place of the one that has the number.
    pub(crate) fn add(
        &mut self,
        id: &str,
        key: &str,
        number: i32,
        part: Part,
    ) -> Result<(), Refusal> {
        self.get(id, key)?;
        if let Some(upload) = self.in_progress.get_mut(id) {
            upload.parts.insert(number, part);
        }
        Ok(())
    }

    pub(crate) fn abort(&mut self, id: &str, key: &str) -> Result<(), Refusal> {
        self.get(id, key)?;
        self.in_progress.remove(id);
        Ok(())
    }

    pub(crate) fn abort_any(&mut self, id: &str) -> bool {
        self.in_progress.remove(id).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Upload)> {
        self.in_progress.iter()
    }

    /// What an earlier request made of the upload, if it listed the same parts.
    pub(crate) fn completed_before(
        &self,
        id: &str,
        key: &str,
        listed: &[ListedPart],
    ) -> Option<Arc<Object>> {
        let same = |completed: &&Completed| {
            completed.id == id && completed.key == key && completed.listed == listed
        };
        let completed = self.completed.iter().rev().find(same)?;
        Some(completed.object.clone())
    }

    pub(crate) fn finish(&mut self, id: &str, listed: Vec<ListedPart>, object: Arc<Object>) {
        if let Some(upload) = self.in_progress.remove(id) {
            if self.completed.len() == REMEMBERED {
                self.completed.pop_front();
            }
            self.completed.push_back(Completed {
                id: id.to_owned(),
                key: upload.key,
                listed,
                object,
            });
        }
    }
}

impl Upload {
    /// Makes the object of the listed parts: Amazon S3 API reference, `CompleteMultipartUpload`.
    pub(crate) fn assemble(
        &self,
        id: &str,
        listed: &[ListedPart],
        modified: SystemTime,
    ) -> Result<Object, Refusal> {
        let ascends = listed
            .windows(2)
            .all(|pair| pair[0].number < pair[1].number);
        if !ascends {
            return Err(Refusal::s3("InvalidPartOrder").with("UploadId", id));
        }
        let mut parts = Vec::with_capacity(listed.len());
        for wanted in listed {
            self.check_listed_checksum(wanted)?;
            let part = self.parts.get(&wanted.number);
            let has_checksum = |part: &Part| match (&wanted.checksum, &part.checksum) {
                (Some(wanted), Some(checksum)) => *wanted == checksum.value,
                (wanted, _) => wanted.is_none(),
            };
            match part.filter(|part| part.etag == wanted.etag && has_checksum(part)) {
                Some(part) => parts.push(part),
                None => {
                    return Err(Refusal::s3("InvalidPart")
                        .with("UploadId", id)
                        .with("PartNumber", wanted.number.to_string())
                        .with("ETag", wanted.etag.clone()));
                }
            }
        }
        let all_but_last = parts.split_last().map_or(&[][..], |(_, rest)| rest);
        for (part, listed) in all_but_last.iter().zip(listed) {
            if part.content.len() < SMALLEST_PART {
                return Err(Refusal::s3("EntityTooSmall")
                    .with("ProposedSize", part.content.len().to_string())
                    .with("MinSizeAllowed", SMALLEST_PART.to_string())
                    .with("PartNumber", listed.number.to_string())
                    .with("ETag", part.etag.clone()));
            }
        }
        let content = Content::join(parts.iter().map(|part| &part.content));
        let checksum = self.checksum.and_then(|announced| {
            if !announced.is_composite {
                return Some(Checksum::of(announced.algorithm, content.pieces()));
            }
            let checksums: Option<Vec<_>> =
                parts.iter().map(|part| part.checksum.as_ref()).collect();
            Some(Checksum::composite(
                announced.algorithm,
                checksums?.into_iter(),
            ))
        });
        Ok(Object {
            etag: multipart_etag(parts.iter().map(|part| part.etag.as_str())),
            content,
            modified: crate::clock::whole_second(modified),
            attributes: self.attributes.clone(),
            checksum,
        })
    }

    /// With composite checksums, the list must hold those of all parts: Amazon S3 user guide,
    /// "Checking object integrity", "Multipart uploads".
    fn check_listed_checksum(&self, listed: &ListedPart) -> Result<(), Refusal> {
        match self.checksum {
            Some(announced) if announced.is_composite && listed.checksum.is_none() => {
                let name = announced.algorithm.name().to_ascii_lowercase();
                Err(Refusal::new(
                    400,
                    "InvalidRequest",
                    format!(
                        "The upload was created using a {name} checksum. The complete request must include the \
                         checksum for each part. It was missing for part {} in the request.",
                        listed.number
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn no_such_upload(id: &str) -> Refusal {
    Refusal::s3("NoSuchUpload").with("UploadId", id)
}
