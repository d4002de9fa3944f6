//! What other stores refuse, or send elsewhere, that AWS serves: the habits that answer on sight.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cloud::Cloud;
use crate::counts::Kind;
use crate::habits::Habit;
use crate::refusal::Refusal;
use crate::request::Call;
use crate::s3::BUCKET_REGION;

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
