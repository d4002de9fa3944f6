//! How a changed file becomes the parts of one multipart upload.
//!
//! Bytes that did not change are copied on the server, the rest is uploaded. What S3 allows
//! (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html): at most 10,000 parts, numbered 1
//! to 10,000 in the order of their bytes; each 5 MiB to 5 GiB, only the last may be smaller. And a
//! range can be copied only of an object greater than 5 MB
//! (docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html).

use std::ops::Range;

use super::extents::{Extents, From};

/// The largest object that is made, in bytes: what every store and every tool takes.
pub(crate) const LARGEST: u64 = 5 << 40;

/// The most parts of an upload.
const MOST: usize = 10_000;

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
#[error("a file of {0} bytes is larger than S3 takes (5 TiB)")]
pub(crate) struct TooLarge(pub(crate) u64);

/// The bytes of a part of a file that is streamed from its beginning and ends nobody knows
/// where.
///
/// 1,000 parts of `part_size`, so that most files see no other; 1,000 of eight times that; and
/// 8,000 as large as they must be to reach [`LARGEST`]. Whole MiB each. Numbers below 1 count
/// as 1.
pub(crate) fn streamed(part_size: u64, number: i32) -> Range<u64> {
    let sizes = Sizes::new(part_size);
    let before = u64::try_from(number).unwrap_or(1).max(1) - 1;
    sizes.start(before)..sizes.start(before + 1)
}

#[cfg(test)]
/// The part of a streamed file that an offset lies in, with its number.
///
/// The number is 1 to 10,000 for offsets below [`LARGEST`]; beyond, there is no such part.
pub(crate) fn streamed_at(part_size: u64, offset: u64) -> (i32, Range<u64>) {
    let sizes = Sizes::new(part_size);
    let before = sizes.before(offset);
    let number = i32::try_from(before + 1).unwrap_or(i32::MAX);
    (number, sizes.start(before)..sizes.start(before + 1))
}

/// The three sizes of a streamed file's parts.
struct Sizes {
    small: u64,
    middle: u64,
    large: u64,
}

impl Sizes {
    fn new(part_size: u64) -> Self {
        let legal = |size: u64| size.next_multiple_of(MIB).min(LARGEST_PART);
        let small = legal(part_size.clamp(SMALLEST_PART, LARGEST_PART));
        let middle = legal(small * 8);
        let rest = LARGEST.saturating_sub(STEP * (small + middle));
        let large = legal(rest.div_ceil(MOST as u64 - 2 * STEP)).max(middle);
        Self {
            small,
            middle,
            large,
        }
    }

    /// Where the part starts that has so many before it.
    fn start(&self, before: u64) -> u64 {
        let small = before.min(STEP);
        let middle = before.saturating_sub(STEP).min(STEP);
        let large = before.saturating_sub(2 * STEP);
        small * self.small + middle * self.middle + large.saturating_mul(self.large)
    }

    #[cfg(test)]
    /// How many parts end at or in front of an offset.
    fn before(&self, offset: u64) -> u64 {
        let (middle, large) = (self.start(STEP), self.start(2 * STEP));
        if offset < middle {
            offset / self.small
        } else if offset < large {
            STEP + (offset - middle) / self.middle
        } else {
            2 * STEP + (offset - large) / self.large
        }
    }
}

/// The parts of a file whose bytes are known, numbered from 1 without gaps; none for an empty
/// file, which no multipart upload can make.
///
/// Parts of an upload are about `part_size`, copies up to `copy_size`: smaller than they could
/// be, so that several run at once. Both grow where there would be more than 10,000 parts.
/// Around each change, at most some 20 MiB are uploaded that could have been copied, so that
/// every part has a legal size; more only where there are thousands of changes.
pub(crate) fn plan(
    extents: &Extents,
    part_size: u64,
    copy_size: u64,
) -> Result<Vec<Part>, TooLarge> {
    if extents.size() > LARGEST {
        return Err(TooLarge(extents.size()));
    }
    let mut part_size = part_size.clamp(SMALLEST_PART, LARGEST_PART);
    let mut copy_size = copy_size.clamp(SMALLEST_PART, LARGEST_PART);
    // Longer than the smallest part: so is the object, and so a range of it can be copied.
    let mut least_copy = SMALLEST_PART + 1;
    let mut runs = runs(extents, least_copy);
    while runs
        .iter()
        .map(|run| run.parts(part_size, copy_size))
        .sum::<u64>()
        > MOST as u64
    {
        // With half as many runs, parts of 5 GiB are always few enough: 1,024 make 5 TiB.
        if runs.len() > MOST / 2 {
            least_copy *= 2;
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
