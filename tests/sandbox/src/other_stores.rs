//! What other stores refuse, keep or take for there otherwise than AWS.

use std::sync::atomic::{AtomicU64, Ordering};

use s3s::dto::{ETag, HeadObjectOutput, Timestamp};

use crate::attributes::Attributes;
use crate::cloud::Cloud;
use crate::counts::Kind;
use crate::habits::Habit;
use crate::refusal::Refusal;
use crate::request::Call;
use crate::s3::{BUCKET_REGION, Operations};
use crate::store::BucketState;

/// The refusal of a store with the habits of this one.
pub(crate) fn refuse(cloud: &Cloud, call: &Call) -> Option<Refusal> {
    let habits = &cloud.habits;
    if !habits.are_any() {
        return None;
    }
    let is_copy = call.kind == Kind::Copy;
    let is_part_copy = call.kind == Kind::UploadPartCopy;
    let is_part = is_part_copy || call.kind == Kind::UploadPart;
    if is_copy && habits.has(Habit::NoCopies) || is_part_copy && habits.has(Habit::NoPartCopies) {
        let header = "x-amz-copy-source";
        return Some(Refusal::s3("NotImplemented").with("Header", header));
    }
    if is_part && habits.has(Habit::ForgetfulUploads) {
        return Some(Refusal::s3("NoSuchUpload"));
    }
    if let Some(most) = habits.most_parts()
        && is_part
        && let Some(number) = call.part_number.filter(|number| *number > most)
    {
        let message = format!("Part number must be an integer between 1 and {most}, inclusive");
        let refusal = Refusal::new(400, "InvalidArgument", message)
            .with("ArgumentName", "partNumber")
            .with("ArgumentValue", number.to_string());
        return Some(refusal);
    }
    if call.kind == Kind::Get && habits.has(Habit::RegionsThatMove) {
        static TURN: AtomicU64 = AtomicU64::new(0);
        let region = format!("region-{}", TURN.fetch_add(1, Ordering::Relaxed) % 2 + 1);
        let message = "The bucket you are attempting to access must be addressed using the specified endpoint.";
        let refusal = Refusal::new(301, "PermanentRedirect", message);
        return Some(refusal.header(BUCKET_REGION, &region));
    }
    None
}

impl Operations {
    /// Whether a directory is there because something is in it, and for no other reason.
    pub(crate) fn is_implied(&self, bucket: &BucketState, key: &str) -> bool {
        let is_below = |key: &str| {
            bucket.read(|objects| {
                let mut from_here = objects.range(key.to_owned()..);
                let below = from_here.find(|(other, _)| *other != key);
                below.is_some_and(|(other, _)| other.starts_with(key))
            })
        };
        self.0.habits.has(Habit::ImpliedMarkers)
            && key.ends_with('/')
            && bucket.get(key).is_none()
            && is_below(key)
    }

    /// What is kept of the attributes of a key.
    pub(crate) fn kept(&self, mut attributes: Attributes, key: &str) -> Attributes {
        let habits = &self.0.habits;
        if habits.has(Habit::ImpliedMarkers) && key.ends_with('/') {
            attributes.metadata.clear();
        }
        if habits.has(Habit::OverlooksOptions) {
            let plain = Attributes::default();
            attributes.storage_class = plain.storage_class;
            attributes.encryption = plain.encryption;
            attributes.acl = None;
        }
        attributes
    }
}

/// What HEAD tells of such a directory.
pub(crate) fn implied() -> HeadObjectOutput {
    HeadObjectOutput {
        content_length: Some(0),
        content_type: Some("application/x-directory".to_owned()),
        e_tag: Some(ETag::Strong(
            "d41d8cd98f00b204e9800998ecf8427e-0".to_owned(),
        )),
        last_modified: Some(Timestamp::from(std::time::SystemTime::UNIX_EPOCH)),
        ..HeadObjectOutput::default()
    }
}
