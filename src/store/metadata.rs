//! The attributes of a file, kept in the metadata of its object as s3fs keeps them.
//!
//! Names without `x-amz-meta-`, as the SDK has them. What is written (s3fs-fuse 1.97, `src/s3fs.cpp`
//! and `src/metaheader.cpp`):
//!
//! | name | value |
//! |---|---|
//! | `mode` | `st_mode` with its type bits, in decimal |
//! | `uid`, `gid` | decimal |
//! | `mtime`, `atime`, `ctime` | seconds since 1970 in decimal, and `.` with nine digits if there are nanoseconds |
//! | `xattr` | JSON of names to values in base64, percent-encoded but for letters, digits and `.-_~/` |
//!
//! A symlink is an object of mode `S_IFLNK` whose bytes are its target; a directory is an empty
//! object whose key ends with `/`, of type `application/x-directory`.
//!
//! rclone reads and writes the same `mtime`, but drops trailing zeros (`backend/s3/s3.go`,
//! `TimeToFloatString` of github.com/ncw/swift). s3fs would read its `.5` as 5 nanoseconds; nine
//! digits mean the same to both. Times before 1970 are rclone's `-1.5`: s3fs ignores them and
//! falls back to Last-Modified.
//!
//! What cannot be read is ignored, without a word, and kept as it is until it is replaced.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// The most metadata an object can have, in bytes, counted as [`Metadata::size`] does
/// (docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
pub(crate) const LIMIT: usize = 2048;

/// The type of a directory's object.
pub(crate) const DIRECTORY: &str = "application/x-directory";

/// What S3 calls a file of whose type nobody has said anything: Amazon S3 API reference,
/// `PutObject`.
pub(crate) const UNSET: &str = "binary/octet-stream";

/// The type of a file that says nothing of its type.
pub(crate) const UNKNOWN: &str = "application/octet-stream";

/// What precedes every name in a request.
const PREFIX: &str = "x-amz-meta-";

const MODE: &str = "mode";
const UID: &str = "uid";
const GID: &str = "gid";
const MTIME: &str = "mtime";
const ATIME: &str = "atime";
const CTIME: &str = "ctime";
const XATTR: &str = "xattr";
const NONCE: &str = "s3mfa-nonce";

/// Where geesefs keeps the target of a symlink, percent-encoded (`core/cfg/config.go`,
/// `SymlinkAttr`).
const TARGET: &str = "--symlink-target";

/// What tells of the bytes: rclone's MD5 of large objects (`backend/s3/s3.go`, `metaMD5Hash`), and
/// s3cmd's attributes, which have one in them.
const OF_BYTES: [&str; 2] = ["md5chksum", "s3cmd-attrs"];

/// The bits of a mode that tell the type, and types, as in `inode(7)`.
const TYPE: u32 = 0o170_000;
const FIFO: u32 = 0o010_000;
const CHARACTER: u32 = 0o020_000;
const FOLDER: u32 = 0o040_000;
const BLOCK: u32 = 0o060_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const SOCKET: u32 = 0o140_000;

/// As `urlEncodePath` of s3fs does (`src/string_util.cpp`).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Writes padding; reads with and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What the metadata of one object says.
///
/// Serialized as the names and values of its object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub(crate) struct Metadata {
    /// As in `st_mode`. The type bits are 0 if whoever wrote it left them out.
    pub(crate) mode: Option<u32>,
    /// The owner.
    pub(crate) uid: Option<u32>,
    /// The group.
    pub(crate) gid: Option<u32>,
    /// When the bytes changed.
    pub(crate) mtime: Option<SystemTime>,
    /// When they were read.
    pub(crate) atime: Option<SystemTime>,
    /// When the attributes changed.
    pub(crate) ctime: Option<SystemTime>,
    /// Extended attributes, by their whole names (`user.…`).
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    /// Which upload made the object: this program's own mark.
    pub(crate) nonce: Option<String>,
    /// Everything else, by lower-case names: kept through rewrites as it came. Text that is not
    /// US-ASCII comes from S3 as encoded words of RFC 2047, and goes back so.
    pub(crate) other: BTreeMap<String, String>,
}

impl Metadata {
    /// Reads names and values, in any order and any case.
    pub(crate) fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect::<BTreeMap<_, _>>()
            .into()
    }

    /// The names and values to store, sorted by name.
    pub(crate) fn write(&self) -> Vec<(String, String)> {
        BTreeMap::from(self.clone()).into_iter().collect()
    }

    /// Whether it is a symlink: see [`Metadata::target`] for where to.
    pub(crate) fn is_symlink(&self) -> bool {
        self.is(SYMLINK) || self.other.contains_key(TARGET)
    }

    #[cfg(test)]
    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.is(FOLDER)
    }

    /// Where a symlink of geesefs leads. That of any other is in the object's bytes.
    pub(crate) fn target(&self) -> Option<String> {
        let encoded = self.other.get(TARGET)?;
        let target = percent_decode_str(encoded).decode_utf8().ok()?;
        Some(target.into_owned())
    }

    /// Forgets what told of the bytes, which change: who made them, and checksums by which other
    /// tools would call the new ones corrupt.
    pub(crate) fn bytes_change(&mut self) {
        self.nonce = None;
        for name in OF_BYTES {
            self.other.remove(name);
        }
    }

    /// What of it there is room for, on an object that carried `before`.
    ///
    /// What this program adds by itself gives way, in this order, until the rest has room: when
    /// the file was read, when its attributes changed (S3 tells when the object was made), which
    /// upload made it, and when its bytes changed, unless somebody has set that (`timed`). What
    /// was there before is never left out: it has come from others, and others need it.
    pub(crate) fn fitted(&self, before: Option<&Self>, timed: bool) -> Self {
        let mut fitted = self.clone();
        let had = |of: fn(&Self) -> bool| before.is_some_and(of);
        if fitted.size() > LIMIT && !had(|before| before.atime.is_some()) {
            fitted.atime = None;
        }
        if fitted.size() > LIMIT && !had(|before| before.ctime.is_some()) {
            fitted.ctime = None;
        }
        if fitted.size() > LIMIT {
            fitted.nonce = None;
        }
        if fitted.size() > LIMIT && !timed && !had(|before| before.mtime.is_some()) {
            fitted.mtime = None;
        }
        if let Some(before) = before.filter(|_| fitted.size() > LIMIT) {
            // In place of a time that was there, another takes more room if it has a fraction.
            fitted.atime = before.atime;
            fitted.ctime = before.ctime;
            if !timed {
                fitted.mtime = fitted.mtime.map(whole_second);
            }
        }
        fitted
    }

    /// Whether there is room for all of it that cannot give way.
    ///
    /// AWS does not count what precedes the names. Where others have left little room, what there
    /// is counts as AWS counts it: a store that does not will say so.
    pub(crate) fn has_room(&self, before: Option<&Self>, timed: bool) -> bool {
        let fitted = self.fitted(before, timed);
        let counted = || {
            let all = fitted.write();
            let sizes = all.iter().map(|(name, value)| name.len() + value.len());
            sizes.sum::<usize>()
        };
        let beside_others = |before: &Self| {
            !before.other.is_empty() && counted() <= LIMIT || fitted.size() <= before.size()
        };
        fitted.size() <= LIMIT || before.is_some_and(beside_others)
    }

    /// How many of the [`LIMIT`] bytes it takes: all names and values.
    ///
    /// `x-amz-meta-` is counted with each name, as MinIO counts it (`cmd/generic-handlers.go`);
    /// whoever does not has room to spare.
    pub(crate) fn size(&self) -> usize {
        self.write()
            .iter()
            .map(|(name, value)| PREFIX.len() + name.len() + value.len())
            .sum()
    }

    fn is(&self, kind: u32) -> bool {
        self.mode.is_some_and(|mode| mode & TYPE == kind)
    }
}

impl From<BTreeMap<String, String>> for Metadata {
    fn from(mut other: BTreeMap<String, String>) -> Self {
        // s3sync's and gsutil's names are read as s3fs reads them, and left where they are.
        let mode = take(&mut other, MODE, mode)
            .or_else(|| peek(&other, "permissions", mode))
            .or_else(|| peek(&other, "goog-reserved-posix-mode", octal));
        let uid = take(&mut other, UID, number)
            .or_else(|| peek(&other, "owner", number))
            .or_else(|| peek(&other, "goog-reserved-posix-uid", number));
        let gid = take(&mut other, GID, number)
            .or_else(|| peek(&other, "group", number))
            .or_else(|| peek(&other, "goog-reserved-posix-gid", number));
        let mtime = take(&mut other, MTIME, time)
            .or_else(|| peek(&other, "goog-reserved-file-mtime", time));
        Self {
            mode,
            uid,
            gid,
            mtime,
            atime: take(&mut other, ATIME, time),
            ctime: take(&mut other, CTIME, time),
            xattrs: take(&mut other, XATTR, xattrs).unwrap_or_default(),
            nonce: other.remove(NONCE),
            other,
        }
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        let xattrs = Some(&metadata.xattrs)
            .filter(|xattrs| !xattrs.is_empty())
            .and_then(write_xattrs);
        let known = [
            (MODE, metadata.mode.map(|mode| mode.to_string())),
            (UID, metadata.uid.map(|uid| uid.to_string())),
            (GID, metadata.gid.map(|gid| gid.to_string())),
            (MTIME, metadata.mtime.map(write_time)),
            (ATIME, metadata.atime.map(write_time)),
            (CTIME, metadata.ctime.map(write_time)),
            (XATTR, xattrs),
            (NONCE, metadata.nonce),
        ];
        let mut all = metadata.other;
        for (name, value) in known {
            if let Some(value) = value {
                all.insert(name.to_owned(), value);
            }
        }
        all
    }
}

/// Takes a value out, if it can be read.
fn take<T>(
    pairs: &mut BTreeMap<String, String>,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let value = peek(pairs, name, read)?;
    pairs.remove(name);
    Some(value)
}

fn peek<T>(
    pairs: &BTreeMap<String, String>,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    read(pairs.get(name)?.trim())
}

/// A number as s3fs reads it: with `strtoll` of base 0, so `010` is 8 and `0x10` is 16.
fn number(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        u32::from_str_radix(digits, 16).ok()
    } else if let Some(digits) = text.strip_prefix('0')
        && !digits.is_empty()
    {
        u32::from_str_radix(digits, 8).ok()
    } else {
        text.parse().ok()
    }
}

/// A mode, in decimal as s3fs writes it, or in octal as `rclone --metadata` does
/// (`backend/local/metadata_linux.go`).
///
/// They do not collide: the octal 100644 is no mode in decimal, as it has more than 16 bits, and
/// the octal 40755 is none either, as there is no type 0o110000. A mode without any permission
/// and type says nothing, also to s3fs.
fn mode(text: &str) -> Option<u32> {
    number(text)
        .filter(|mode| is_mode(*mode))
        .or_else(|| octal(text).filter(|mode| mode & TYPE != 0))
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| is_mode(*mode))
}

fn is_mode(mode: u32) -> bool {
    let kinds = [0, FIFO, CHARACTER, FOLDER, BLOCK, REGULAR, SYMLINK, SOCKET];
    (1..=TYPE | 0o7777).contains(&mode) && kinds.contains(&(mode & TYPE))
}

/// Seconds since 1970, maybe with a fraction, of which nine digits count; maybe negative.
fn time(text: &str) -> Option<SystemTime> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.len() + fraction.len() == 0 || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let seconds = match seconds {
        "" => 0,
        seconds => seconds.parse().ok()?,
    };
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let since = Duration::new(seconds, nanoseconds);
    if negative {
        SystemTime::UNIX_EPOCH.checked_sub(since)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since)
    }
}

/// Without the fraction of a second.
fn whole_second(time: SystemTime) -> SystemTime {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()),
        Err(before) => {
            let before = before.duration();
            let seconds = before.as_secs() + u64::from(before.subsec_nanos() > 0);
            let whole = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(seconds));
            whole.unwrap_or(time)
        }
    }
}

fn write_time(time: SystemTime) -> String {
    let (sign, since) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => ("", since),
        Err(before) => ("-", before.duration()),
    };
    match (since.as_secs(), since.subsec_nanos()) {
        (seconds, 0) => format!("{sign}{seconds}"),
        (seconds, nanoseconds) => format!("{sign}{seconds}.{nanoseconds:09}"),
    }
}

/// Extended attributes; single ones that cannot be read are left out.
fn xattrs(text: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    let json = percent_decode_str(text).decode_utf8().ok()?;
    let encoded: BTreeMap<String, String> = serde_json::from_str(&json).ok()?;
    let decoded = encoded
        .into_iter()
        .filter_map(|(name, value)| Some((name, BASE64.decode(value).ok()?)));
    Some(decoded.collect())
}

fn write_xattrs(xattrs: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let encoded: BTreeMap<&str, String> = xattrs
        .iter()
        .map(|(name, value)| (name.as_str(), BASE64.encode(value)))
        .collect();
    let json = serde_json::to_string(&encoded).ok()?;
    Some(utf8_percent_encode(&json, ENCODED).to_string())
}

/// The type of a file's bytes, by its name: the last extension, else the one before it, else
/// [`UNKNOWN`], as s3fs tells it (`src/curl.cpp`, `LookupMimeType`).
///
/// The AWS CLI sends no type where it knows none, which S3 turns into `binary/octet-stream`:
/// that is no registered type.
pub(crate) fn content_type(name: &str) -> String {
    if name.ends_with('/') {
        return DIRECTORY.to_owned();
    }
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    let extensions = name.split('.').skip(1).collect::<Vec<_>>();
    extensions
        .iter()
        .rev()
        .take(2)
        .find_map(|extension| new_mime_guess::from_ext(extension).first_raw())
        .unwrap_or(UNKNOWN)
        .to_owned()
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
