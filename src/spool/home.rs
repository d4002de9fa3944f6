//! The directories of spools: who owns them, who is using them, and what is left in them.
//!
//! ```text
//! root/                    0700, one for all mounts of a user
//!   lock                   held while somebody opens a spool or looks around
//!   0123456789abcdef/      0700, a home: the spool of one mount
//!     owner.json           whose unsaved writes these are; without it a home does not count
//!     lock                 held for as long as the mount lives, by flock(2)
//!     journal              see `lines`
//!     17.data              the bytes of entry 17
//!     12.lost              bytes whose entry was lost with a damaged journal
//!     journal.damaged-…    such a journal
//!     journal.unsound      until it is known whose bytes are lost
//! ```
//!
//! Invariant: homes are made, entered and removed only by who holds `root/lock`.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::SpoolError;
use super::journal::{Journal, RecordId};
use super::sync_directory;
use crate::holder::{holder, was_killed};

/// The version of `owner.json` and of the layout.
const VERSION: u64 = 1;

/// How long to wait for another process that is opening a spool.
const PATIENCE: Duration = Duration::from_secs(30);

/// What may be in a home that holds nothing.
const EMPTY: [&str; 6] = [
    "journal",
    "journal.new",
    "journal.unsound",
    "lock",
    "owner.json",
    "owner.json.new",
];

/// Whose unsaved writes they are: nobody else's mount may upload them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The address of the store.
    pub(crate) endpoint: String,
    /// The bucket.
    pub(crate) bucket: String,
    /// The identity that wrote.
    pub(crate) principal: String,
}

/// `owner.json`.
#[derive(Serialize, Deserialize)]
struct Sign {
    version: u64,
    #[serde(flatten)]
    owner: Owner,
}

/// Unsaved writes that another identity left, see [`pending_elsewhere`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// Where they are.
    pub(crate) directory: PathBuf,
    /// Who has to mount the bucket to upload them.
    pub(crate) principal: String,
    /// How many entries there are.
    pub(crate) entries: usize,
}

/// The records of an entry, as JSON.
pub(super) type Parts = BTreeMap<u32, String>;

/// A directory that this process holds.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) directory: PathBuf,
    pub(super) lock: Lock,
    pub(super) journal: Journal,
    pub(super) entries: BTreeMap<u64, Parts>,
    /// The highest id that was ever in use.
    pub(super) highest: u64,
    /// Whether all of the journal was there and checked out.
    sound: bool,
}

impl Home {
    /// Makes a new one. Whoever dies in here leaves a directory that is removed later.
    pub(super) fn create(root: &Path, owner: &Owner) -> Result<Self, SpoolError> {
        let directory = loop {
            // Its keys come from the system's random numbers.
            let name = format!("{:016x}", RandomState::new().build_hasher().finish());
            let directory = root.join(name);
            match DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => break directory,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(SpoolError::io("create", &directory)(error)),
            }
        };
        let lock = try_lock(&directory.join("lock"))?.ok_or_else(|| {
            SpoolError::io("lock", &directory)(io::ErrorKind::ResourceBusy.into())
        })?;
        let sign = Sign {
            version: VERSION,
            owner: owner.clone(),
        };
        let text =
            serde_json::to_string(&sign).map_err(|error| SpoolError::Record(error.to_string()))?;
        write_whole(&directory.join("owner.json"), &text)?;
        let opening = Journal::open(&directory.join("journal"))?;
        opening.journal.settled()?;
        sync_directory(&directory)?;
        sync_directory(root)?;
        Ok(Self {
            directory,
            lock,
            journal: opening.journal,
            entries: BTreeMap::new(),
            highest: 0,
            sound: true,
        })
    }

    /// Enters one that an earlier process left; `None` if somebody lives there.
    fn enter(directory: PathBuf) -> Result<Option<Self>, SpoolError> {
        let Some(lock) = try_lock(&directory.join("lock"))? else {
            return Ok(None);
        };
        let opening = Journal::open(&directory.join("journal"))?;
        Ok(Some(Self {
            directory,
            lock,
            journal: opening.journal,
            entries: entries(opening.records),
            highest: opening.highest,
            sound: opening.sound,
        }))
    }

    /// Deletes what is left of entries that are gone. With a journal that is not sound, nobody
    /// knows whether they should be gone: bytes are kept then, under another name.
    ///
    /// Only when no move to here is half done.
    pub(super) fn tidy(&mut self) -> Result<(), SpoolError> {
        // Parts without a record. If there are bytes, the record is what was lost.
        let headless: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, parts)| !parts.contains_key(&0))
            .map(|(id, _)| *id)
            .collect();
        for name in names(&self.directory)? {
            let Some((id, kind)) = numbered(&name) else {
                continue;
            };
            self.highest = self.highest.max(id);
            let is_headless = headless.contains(&id);
            if kind == "lost" || (self.entries.contains_key(&id) && !is_headless) {
                continue;
            }
            let path = self.directory.join(&name);
            let found = path
                .symlink_metadata()
                .map_err(SpoolError::io("look at", &path))?;
            if found.len() == 0 || (self.sound && !is_headless) {
                std::fs::remove_file(&path).map_err(SpoolError::io("delete", &path))?;
            } else {
                let lost = self.directory.join(format!("{id}.lost"));
                std::fs::rename(&path, &lost).map_err(SpoolError::io("rename", &path))?;
                tracing::warn!(
                    "unsaved bytes whose name is not known any more, as the journal was damaged, \
                     are kept as {}: look into the file, then delete it",
                    lost.display()
                );
            }
        }
        sync_directory(&self.directory)?;
        for id in headless {
            self.journal.remove_entry(id)?;
            self.entries.remove(&id);
        }
        self.journal.settled()
    }

    /// The name of the directory.
    pub(super) fn name(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Removes the directory if it holds nothing that anybody may want.
    pub(super) fn remove(self) -> Result<(), SpoolError> {
        if self.entries.is_empty() {
            remove_empty(&self.directory)?;
        }
        Ok(())
    }
}

/// Groups records by entry.
fn entries(records: BTreeMap<RecordId, String>) -> BTreeMap<u64, Parts> {
    let mut entries: BTreeMap<u64, Parts> = BTreeMap::new();
    for (id, json) in records {
        entries.entry(id.entry).or_default().insert(id.part, json);
    }
    entries
}

/// Where the bytes of an entry are.
pub(super) fn data_path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id}.data"))
}

/// Makes the directory of all spools, or makes sure that it is safe to use.
pub(super) fn prepare_root(root: &Path) -> Result<(), SpoolError> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(root)
        .map_err(SpoolError::io("create", root))?;
    let found = std::fs::metadata(root).map_err(SpoolError::io("look at", root))?;
    let why = if found.uid() != nix::unistd::geteuid().as_raw() {
        format!(
            "it belongs to the user with id {}, who could read and change them; use a directory \
             of your own",
            found.uid()
        )
    } else if found.mode() & 0o022 != 0 {
        "others may write to it, so they could change what you save; run chmod 700 on it".to_owned()
    } else {
        return Ok(());
    };
    Err(SpoolError::Unsafe {
        path: root.to_path_buf(),
        why,
    })
}

/// Waits for its turn to open a spool.
pub(super) fn lock_root(root: &Path) -> Result<Lock, SpoolError> {
    let path = root.join("lock");
    let start = Instant::now();
    loop {
        if let Some(lock) = try_lock(&path)? {
            return Ok(lock);
        }
        if start.elapsed() > PATIENCE {
            return Err(SpoolError::Busy {
                path,
                seconds: PATIENCE.as_secs(),
            });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Enters all homes of an owner in which nobody lives, in a fixed order. Needs the root's lock.
pub(super) fn left_behind(root: &Path, owner: &Owner) -> Result<Vec<Home>, SpoolError> {
    let mut homes = Vec::new();
    for directory in directories(root)? {
        match sign(&directory)? {
            Some(sign) if sign.owner != *owner => {}
            Some(sign) if sign.version != VERSION => {
                return Err(SpoolError::Version {
                    path: directory.join("owner.json"),
                });
            }
            Some(_) => homes.extend(Home::enter(directory)?),
            // Somebody died while making or removing it.
            None => {
                if let Err(error) = remove_empty(&directory) {
                    tracing::warn!("{error}");
                }
            }
        }
    }
    Ok(homes)
}

/// A mount of the same owner that was killed, and whose process cannot end: what it has not saved
/// is out of reach until it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hung {
    /// Where its unsaved writes are.
    pub(crate) directory: PathBuf,
    /// Its process.
    pub(crate) process: u32,
    /// The device number of its mount, `0:57`, if it has told.
    pub(crate) device: Option<String>,
}

/// The mounts of an owner that were killed and have not ended.
pub(crate) fn hung(root: &Path, owner: &Owner) -> Result<Vec<Hung>, SpoolError> {
    let mut found = Vec::new();
    if !root.is_dir() {
        return Ok(found);
    }
    let _opening = lock_root(root)?;
    for directory in directories(root)? {
        if sign(&directory)?.is_none_or(|sign| sign.owner != *owner) {
            continue;
        }
        let lock = directory.join("lock");
        let Some(process) = holder(&lock).filter(|process| was_killed(*process)) else {
            continue;
        };
        let device = std::fs::read_to_string(&lock).ok();
        found.push(Hung {
            directory,
            process,
            device: device.filter(|device| !device.is_empty()),
        });
    }
    Ok(found)
}

/// The unsaved writes in the same bucket that another identity left, and that no mount is
/// uploading.
pub(crate) fn pending_elsewhere(root: &Path, owner: &Owner) -> Result<Vec<Elsewhere>, SpoolError> {
    let mut found = Vec::new();
    if !root.is_dir() {
        return Ok(found);
    }
    let _opening = lock_root(root)?;
    for directory in directories(root)? {
        let Some(Sign { owner: other, .. }) = sign(&directory)? else {
            continue;
        };
        let same_place = other.endpoint == owner.endpoint && other.bucket == owner.bucket;
        if !same_place || other.principal == owner.principal {
            continue;
        }
        let Some(_lock) = try_lock(&directory.join("lock"))? else {
            continue;
        };
        // One that cannot be read is not worth failing for: it is reported to its owner.
        let records = Journal::peek(&directory.join("journal")).unwrap_or_default();
        let entries = entries(records);
        let count = entries.values().filter(|p| p.contains_key(&0)).count();
        if count > 0 {
            found.push(Elsewhere {
                directory,
                principal: other.principal,
                entries: count,
            });
        }
    }
    Ok(found)
}

/// The directories in the root that may be homes, sorted.
fn directories(root: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let mut directories = Vec::new();
    for name in names(root)? {
        let is_home = name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let path = root.join(name);
        let user = nix::unistd::geteuid().as_raw();
        let is_ours = || matches!(path.symlink_metadata(), Ok(found) if found.is_dir() && found.uid() == user);
        if is_home && is_ours() {
            directories.push(path);
        }
    }
    directories.sort();
    Ok(directories)
}

/// Whose home it is; `None` if it says nothing.
fn sign(directory: &Path) -> Result<Option<Sign>, SpoolError> {
    let path = directory.join("owner.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SpoolError::io("read", &path)(error)),
    };
    let sign = serde_json::from_slice(&text);
    if let Err(error) = &sign {
        tracing::warn!(
            "{} does not tell whose unsaved writes are there, so nobody uploads them: {error}",
            path.display()
        );
    }
    Ok(sign.ok())
}

/// Removes a home that holds nothing; one that holds anything stays as it is.
fn remove_empty(directory: &Path) -> Result<(), SpoolError> {
    let names = names(directory)?;
    let has_journal = names.iter().any(|name| name == "journal");
    let is_signed = names.iter().any(|name| name == "owner.json");
    // A journal without an owner is not of our making.
    if names.iter().any(|name| !EMPTY.contains(&name.as_str())) || (has_journal && !is_signed) {
        return Ok(());
    }
    // In this order: the owner's name goes last, as the rest is rubbish without it.
    for name in EMPTY {
        let path = directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SpoolError::io("delete", &path)(error));
            }
            _ => {}
        }
    }
    std::fs::remove_dir(directory).map_err(SpoolError::io("delete", directory))
}

/// The names in a directory. Those that are not UTF-8 are made to fit: they are not ours.
fn names(directory: &Path) -> Result<Vec<String>, SpoolError> {
    std::fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        })
        .map_err(SpoolError::io("list", directory))
}

/// The id and the kind of `17.data` or `17.lost`.
fn numbered(name: &str) -> Option<(u64, &str)> {
    let (id, kind) = name.split_once('.')?;
    let number: u64 = id.parse().ok()?;
    let is_ours = (kind == "data" || kind == "lost") && number.to_string() == id;
    is_ours.then_some((number, kind))
}

/// A lock that ends with this process, however that ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Notes something for whoever finds it held. The file holds nothing else.
    pub(super) fn note(&self, text: &str) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        self.0.set_len(0)?;
        self.0.write_all_at(text.as_bytes(), 0)
    }
}

impl Drop for Lock {
    /// To close it is not enough: a child that is just being started has it open too, until it
    /// becomes another program.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Takes a lock; `None` if somebody else has it.
fn try_lock(path: &Path) -> Result<Option<Lock>, SpoolError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(SpoolError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(SpoolError::io("lock", path)(error)),
    }
}

/// Writes a file that has its name only once it is whole.
fn write_whole(path: &Path, text: &str) -> Result<(), SpoolError> {
    let new = path.with_extension("json.new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(SpoolError::io("write", path))
}

#[cfg(test)]
#[path = "home_tests.rs"]
mod tests;
