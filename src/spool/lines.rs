//! What the journal looks like as text.
//!
//! The first line tells the format: `s3mfa-mount journal 1`. Each other line is a record:
//! CRC-32 over the JSON in 8 hex digits, a space, and one of
//!
//! ```text
//! {"put":[ENTRY,PART,VALUE]}    this is now the value
//! {"remove":ENTRY}              the entry is gone, with all its parts
//! {"highest":ENTRY}             ids up to this one were in use
//! ```
//!
//! Invariant: a record is one line and no line needs another one, so damage to one line costs
//! that line only.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::SpoolError;
use super::journal::RecordId;

/// What every version's first line starts with.
const MAGIC: &str = "s3mfa-mount journal ";

/// The version of the format.
const VERSION: &str = "1";

/// The first line.
pub(super) fn header() -> String {
    format!("{MAGIC}{VERSION}\n")
}

/// A record as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Put(u64, u32, #[serde(borrow)] &'a RawValue),
    Remove(u64),
    Highest(u64),
}

/// The line that gives a record a value.
pub(super) fn put<T: Serialize + ?Sized>(id: RecordId, value: &T) -> Result<String, SpoolError> {
    #[derive(Serialize)]
    struct Put<'a, T: ?Sized> {
        put: (u64, u32, &'a T),
    }
    let json = serde_json::to_string(&Put {
        put: (id.entry, id.part, value),
    })
    .map_err(|error| SpoolError::Record(error.to_string()))?;
    Ok(line(&json))
}

/// The line that removes an entry with all its parts.
pub(super) fn remove(entry: u64) -> String {
    line(&format!(r#"{{"remove":{entry}}}"#))
}

/// The line that keeps ids from being used again.
pub(super) fn highest(entry: u64) -> String {
    line(&format!(r#"{{"highest":{entry}}}"#))
}

fn line(json: &str) -> String {
    // serde_json writes no line breaks, but a `RawValue` may bring some along: between tokens,
    // as JSON has none within strings, where a space means the same.
    let json = json.replace(['\n', '\r'], " ");
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

/// What a journal says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The last value of each record, as JSON.
    pub(super) records: BTreeMap<RecordId, String>,
    /// The highest id of an entry that was ever in use.
    pub(super) highest: u64,
    /// Lines that do not check out, other than the last one.
    pub(super) skipped: usize,
    /// Whether the last line does not check out: somebody died while writing it.
    pub(super) torn: bool,
    /// The length up to the last line that checks out or is skipped.
    pub(super) length: usize,
}

impl Contents {
    /// Reads a journal, as far as it checks out. Fails only for a version that it does not know.
    pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Self, SpoolError> {
        let mut contents = Self::default();
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let Some(first) = lines.next() else {
            return Ok(contents);
        };
        contents.length = first.len();
        match version(first) {
            Some(VERSION) => {}
            Some(_) => {
                return Err(SpoolError::Version {
                    path: path.to_path_buf(),
                });
            }
            // The header is written before the journal gets its name, so it was never torn.
            None => contents.skipped += 1,
        }
        for text in lines {
            // What looked like the torn end has something behind it.
            contents.skipped += usize::from(std::mem::take(&mut contents.torn));
            contents.torn = contents.apply(text).is_none();
            contents.length += text.len();
            if contents.torn && contents.length == bytes.len() {
                contents.length -= text.len();
            }
        }
        Ok(contents)
    }

    /// Whether everything checks out.
    pub(super) fn is_sound(&self) -> bool {
        self.skipped == 0 && !self.torn
    }

    fn apply(&mut self, text: &[u8]) -> Option<()> {
        let text = std::str::from_utf8(text.strip_suffix(b"\n")?).ok()?;
        let (crc, json) = text.split_once(' ')?;
        if crc != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
            return None;
        }
        match serde_json::from_str(json).ok()? {
            Line::Put(entry, part, value) => {
                self.highest = self.highest.max(entry);
                self.records
                    .insert(RecordId { entry, part }, value.get().to_owned());
            }
            Line::Remove(entry) => {
                self.highest = self.highest.max(entry);
                for id in parts_of(&self.records, entry) {
                    self.records.remove(&id);
                }
            }
            Line::Highest(entry) => self.highest = self.highest.max(entry),
        }
        Some(())
    }
}

/// The records of an entry.
pub(super) fn parts_of<T>(records: &BTreeMap<RecordId, T>, entry: u64) -> Vec<RecordId> {
    let all = RecordId { entry, part: 0 }..=RecordId {
        entry,
        part: u32::MAX,
    };
    records.range(all).map(|(id, _)| *id).collect()
}

fn version(first: &[u8]) -> Option<&str> {
    let version = std::str::from_utf8(first.strip_suffix(b"\n")?)
        .ok()?
        .strip_prefix(MAGIC)?;
    version
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then_some(version)
}
