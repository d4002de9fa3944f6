//! How a changed file becomes the parts of one multipart upload.
//!
//! Bytes that did not change are copied on the server, the rest is uploaded. What S3 allows
//! (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html): at most 10,000 parts, numbered 1
//! to 10,000 in the order of their bytes; each 5 MiB to 5 GiB, only the last may be smaller. And a
//! range can be copied only of an object greater than 5 MB
//! (docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html).

use std::ops::Range;

use super::extents::{Extents, From};
use crate::store::support::MOST_PARTS;

/// The largest object that is made, in bytes: what every store and every tool takes.
pub(crate) const LARGEST: u64 = 5 << 40;

/// The smallest part, but for the last, in bytes.
pub(crate) const SMALLEST_PART: u64 = 5 << 20;

/// The largest part in bytes.
pub(crate) const LARGEST_PART: u64 = 5 << 30;

const MIB: u64 = 1 << 20;

/// The parts of the first two sizes of a streamed file.
const STEP: u64 = 1000;

/// How a part comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Its bytes are sent, wherever they are now.
    Upload,
    /// The server copies it.
    Copy {
        /// The object, as [`From::Remote`] numbers it.
        source: u32,
        /// Where the part's first byte is in that object.
        offset: u64,
    },
}

/// One part of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// 1 to 10,000.
    pub(crate) number: i32,
    /// Which bytes of the file.
    pub(crate) range: Range<u64>,
    /// How it comes to be.
    pub(crate) job: Job,
}

/// A file that S3 does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a file of {0} bytes is larger than the store takes in as many parts as it allows")]
pub(crate) struct TooLarge(pub(crate) u64);

/// The bytes of a part of a file that is streamed from its beginning and ends nobody knows
/// where, in an upload of at most `most` parts.
///
/// Of AWS's 10,000, 1,000 have `part_size`, so that most files see no other; 1,000 have eight
/// times that; and 8,000 are as large as they must be to reach [`LARGEST`]. Of fewer, each
/// quarter is eight times as large as the one before: 1,000 of 8 MiB and more reach 1 TiB. Whole
/// MiB each. Numbers below 1 count as 1.
pub(crate) fn streamed(part_size: u64, most: u32, number: i32) -> Range<u64> {
    let sizes = Sizes::new(part_size, most);
    let before = u64::try_from(number).unwrap_or(1).max(1) - 1;
    sizes.start(before)..sizes.start(before + 1)
}

/// The largest file that can be streamed in at most `most` parts, in bytes.
pub(crate) fn reach(part_size: u64, most: u32) -> u64 {
    Sizes::new(part_size, most)
        .start(u64::from(most))
        .min(LARGEST)
}

/// The sizes of a streamed file's parts: so many of each, and of the last as many as there are.
struct Sizes([(u64, u64); 4]);

impl Sizes {
    fn new(part_size: u64, most: u32) -> Self {
        let legal = |size: u64| size.next_multiple_of(MIB).min(LARGEST_PART);
        let small = legal(part_size.clamp(SMALLEST_PART, LARGEST_PART));
        let middle = legal(small * 8);
        if most < MOST_PARTS {
            let quarter = u64::from(most / 4).max(1);
            let large = legal(middle * 8);
            let largest = legal(large * 8);
            return Self([
                (quarter, small),
                (quarter, middle),
                (quarter, large),
                (u64::MAX, largest),
            ]);
        }
        let rest = LARGEST.saturating_sub(STEP * (small + middle));
        let large = legal(rest.div_ceil(u64::from(MOST_PARTS) - 2 * STEP)).max(middle);
        Self([(STEP, small), (STEP, middle), (u64::MAX, large), (0, 0)])
    }

    /// Where the part starts that has so many before it.
    fn start(&self, before: u64) -> u64 {
        let (mut left, mut at) = (before, 0_u64);
        for (count, size) in self.0 {
            let these = left.min(count);
            at = at.saturating_add(these.saturating_mul(size));
            left -= these;
        }
        at
    }
}

/// The parts of a file whose bytes are known, numbered from 1 without gaps; none for an empty
/// file, which no multipart upload can make.
///
/// Parts of an upload are about `part_size`, copies up to `copy_size`: smaller than they could
/// be, so that several run at once. Both grow where there would be more than `most` parts.
/// Around each change, at most some 20 MiB are uploaded that could have been copied, so that
/// every part has a legal size; more only where there are thousands of changes. Without a
/// `copy_size`, nothing is copied.
pub(crate) fn plan(
    extents: &Extents,
    part_size: u64,
    copy_size: Option<u64>,
    most: u32,
) -> Result<Vec<Part>, TooLarge> {
    let most = u64::from(most).max(1);
    if extents.size() > LARGEST.min(most.saturating_mul(LARGEST_PART)) {
        return Err(TooLarge(extents.size()));
    }
    let mut part_size = part_size.clamp(SMALLEST_PART, LARGEST_PART);
    // Longer than the smallest part: so is the object, and so a range of it can be copied.
    let mut least_copy = copy_size.map_or(u64::MAX, |_| SMALLEST_PART + 1);
    let mut copy_size = copy_size.unwrap_or(LARGEST_PART);
    copy_size = copy_size.clamp(SMALLEST_PART, LARGEST_PART);
    let mut runs = runs(extents, least_copy);
    while runs
        .iter()
        .map(|run| run.parts(part_size, copy_size))
        .sum::<u64>()
        > most
    {
        // A single run of parts of 5 GiB is always few enough.
        let are_largest = part_size == LARGEST_PART && copy_size == LARGEST_PART;
        if runs.len() > 1 && (are_largest || runs.len() as u64 > most / 2) {
            least_copy = least_copy.saturating_mul(2);
            runs = self::runs(extents, least_copy);
        } else {
            part_size = (part_size * 2).min(LARGEST_PART);
            copy_size = (copy_size * 2).min(LARGEST_PART);
        }
    }
    let parts = runs
        .iter()
        .flat_map(|run| run.split(run.parts(part_size, copy_size)))
        .zip(1..)
        .map(|((range, job), number)| Part { number, range, job })
        .collect();
    Ok(parts)
}

/// Neighbouring bytes that are all uploaded, or copied from one place.
#[derive(Debug)]
struct Run {
    range: Range<u64>,
    job: Job,
}

impl Run {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn is_upload(&self) -> bool {
        self.job == Job::Upload
    }

    /// How many parts it makes: as near to the wanted size as the smallest part allows.
    fn parts(&self, part_size: u64, copy_size: u64) -> u64 {
        let wanted = if self.is_upload() {
            part_size
        } else {
            copy_size
        };
        let length = self.length();
        length.div_ceil(wanted).min(length / SMALLEST_PART).max(1)
    }

    /// So many parts of one size, give or take a byte.
    fn split(&self, parts: u64) -> impl Iterator<Item = (Range<u64>, Job)> {
        let (size, longer) = (self.length() / parts, self.length() % parts);
        let (start, job) = (self.range.start, self.job);
        (0..parts).map(move |i| {
            let at = i * size + i.min(longer);
            let end = (i + 1) * size + (i + 1).min(longer);
            let job = match job {
                Job::Upload => Job::Upload,
                Job::Copy { source, offset } => Job::Copy {
                    source,
                    offset: offset + at,
                },
            };
            (start + at..start + end, job)
        })
    }

    /// Gives away its first bytes.
    fn lose_head(&mut self, bytes: u64) {
        self.range.start += bytes;
        if let Job::Copy { offset, .. } = &mut self.job {
            *offset += bytes;
        }
    }
}

/// Cuts a file into runs, uploads and copies, that can be parts: copies of at least `least_copy`
/// bytes, uploads of at least [`SMALLEST_PART`], but for the last.
fn runs(extents: &Extents, least_copy: u64) -> Vec<Run> {
    let mut raw = rough(extents, least_copy).into_iter().peekable();
    let mut runs: Vec<Run> = Vec::new();
    while let Some(mut run) = raw.next() {
        while run.is_upload()
            && let Some(next) = raw.peek_mut()
        {
            let missing = SMALLEST_PART.saturating_sub(run.length());
            if next.is_upload() {
                // It followed a copy that is gone.
                run.range.end = next.range.end;
                raw.next();
            } else if missing == 0 {
                break;
            } else if next.length() > SMALLEST_PART + missing {
                next.lose_head(missing);
                run.range.end += missing;
            } else if let Some(previous) = runs.last_mut()
                && previous.length() > SMALLEST_PART + missing
            {
                // A copy, as uploads never follow each other.
                previous.range.end -= missing;
                run.range.start -= missing;
            } else {
                // Too short to give: it is uploaded too.
                run.range.end = next.range.end;
                raw.next();
            }
        }
        runs.push(run);
    }
    runs
}

/// Cuts a file into runs that may be too small, uploads never beside each other.
fn rough(extents: &Extents, least_copy: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for piece in extents.pieces(0..extents.size()) {
        let long = piece.range.end - piece.range.start >= least_copy;
        let job = match piece.from {
            Some(From::Remote { source, offset }) if long => Job::Copy { source, offset },
            _ => Job::Upload,
        };
        match runs.last_mut() {
            Some(last) if last.is_upload() && job == Job::Upload => {
                last.range.end = piece.range.end;
            }
            _ => runs.push(Run {
                range: piece.range,
                job,
            }),
        }
    }
    runs
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
