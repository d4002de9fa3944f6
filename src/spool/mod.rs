//! The spool: unsaved writes on the local disk, until the store has them.
//!
//! An unsaved write is an entry: a record (JSON, whatever the owner of the spool wants to know
//! again), numbered parts of it (JSON too), and mostly a data file with the same id. [`journal`]
//! holds the records, [`files`] the bytes, [`home`] the directory where both are, and
//! [`takeover`] brings entries that earlier processes left behind into one such directory.
//!
//! # What holds at any time, whoever dies
//!
//! - What was put survives the end of this process at once, and a power cut after
//!   [`Spool::sync`].
//! - A data file is made before its entry is put, and has no bytes until it is. It is deleted
//!   after the entry, once the disk knows that the entry is gone. So a data file without an
//!   entry is rubbish, unless the journal is damaged: then it is kept under another name.
//! - An entry is in one place or, when somebody died while moving it, in two of which one says
//!   where it came from.
//! - An id is never used twice in a directory.

mod descriptors;
mod error;
mod far;
mod files;
mod home;
mod journal;
mod lines;
mod takeover;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

pub(crate) use error::SpoolError;
pub(crate) use far::FAR;
pub(crate) use files::SpoolFile;
pub(crate) use home::{Elsewhere, Owner, hung, pending_elsewhere};

use descriptors::Descriptors;
use files::Shared;
use home::{Home, Lock};
use journal::{Journal, RecordId};
use usage::Usage;

/// A part that the spool keeps for itself: where a moved entry came from.
const ORIGIN: u32 = u32::MAX;

/// The spool of one mount.
///
/// All methods block on the disk, and can be called at once from any thread.
#[derive(Debug)]
pub(crate) struct Spool {
    directory: PathBuf,
    journal: Journal,
    usage: Arc<Usage>,
    descriptors: Arc<Descriptors>,
    /// Whether bytes can lie [`FAR`] behind others.
    takes_far: bool,
    /// The data files of all entries, also of those that nobody has open: they take room.
    files: Mutex<HashMap<u64, Arc<Shared>>>,
    next: AtomicU64,
    /// Ids whose data files are not needed any more.
    rubbish: Mutex<Vec<u64>>,
    /// Something was discarded, and the disk need not know it yet.
    unsynced: AtomicBool,
    /// The directory's, and those of homes that could not be emptied.
    locks: Vec<Lock>,
}

/// A spool with what earlier processes left in it.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The spool.
    pub(crate) spool: Spool,
    /// The entries in it, by id.
    pub(crate) entries: Vec<Found>,
}

/// An entry that an earlier process left.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its id.
    pub(crate) id: u64,
    /// Its record, as JSON.
    pub(crate) record: String,
    /// Its parts, as JSON.
    pub(crate) parts: BTreeMap<u32, String>,
    /// Its data. `None` for entries that never had a file, and for those whose file is gone.
    pub(crate) file: Option<SpoolFile>,
}

impl Spool {
    /// Opens the owner's spool in the directory `root`, both made if need be, and takes over
    /// what earlier processes of the same owner left there.
    ///
    /// With a `limit`, data files take no more than that many bytes together.
    pub(crate) fn open(
        root: &Path,
        owner: &Owner,
        limit: Option<u64>,
    ) -> Result<Opened, SpoolError> {
        home::prepare_root(root)?;
        let _opening = home::lock_root(root)?;
        let homes = home::left_behind(root, owner)?;
        let (home, mut locks) = if homes.is_empty() {
            (Home::create(root, owner)?, Vec::new())
        } else {
            takeover::unite(homes, root)?
        };
        let usage = Usage::new(limit);
        let descriptors = Descriptors::new();
        let mut files = HashMap::new();
        let mut entries = Vec::new();
        let mut next = home.highest;
        for (id, mut parts) in home.entries {
            next = next.max(id);
            parts.remove(&ORIGIN);
            let Some(record) = parts.remove(&0) else {
                continue;
            };
            let path = home::data_path(&home.directory, id);
            let file = if path.symlink_metadata().is_ok() {
                let file = SpoolFile::find(path, &usage, &descriptors)?;
                files.insert(id, Arc::clone(file.shared()));
                Some(file)
            } else {
                None
            };
            entries.push(Found {
                id,
                record,
                parts,
                file,
            });
        }
        locks.push(home.lock);
        let spool = Self {
            takes_far: far::is_taken(&home.directory),
            directory: home.directory,
            journal: home.journal,
            usage,
            descriptors,
            files: Mutex::new(files),
            next: AtomicU64::new(next + 1),
            rubbish: Mutex::default(),
            unsynced: AtomicBool::new(false),
            locks,
        };
        Ok(Opened { spool, entries })
    }

    /// Whether data files can have bytes [`FAR`] behind others, with nothing between.
    pub(crate) fn takes_far(&self) -> bool {
        self.takes_far
    }

    /// Starts an entry with an empty data file.
    ///
    /// The record comes along, so that no data file has bytes before its entry is journalled.
    pub(crate) fn create<T: Serialize + ?Sized>(
        &self,
        record: &T,
    ) -> Result<(u64, SpoolFile), SpoolError> {
        let id = self.new_id();
        let path = home::data_path(&self.directory, id);
        let file = SpoolFile::create(path, &self.usage, &self.descriptors)?;
        if let Err(error) = self.put(id, record) {
            // Otherwise the next opening does it.
            let _ = std::fs::remove_file(file.path());
            return Err(error);
        }
        self.files.lock().insert(id, Arc::clone(file.shared()));
        Ok((id, file))
    }

    #[cfg(test)]
    /// Opens an entry's data file once more; `None` if it has none.
    pub(crate) fn reopen(&self, id: u64) -> Result<Option<SpoolFile>, SpoolError> {
        let Some(shared) = self.files.lock().get(&id).map(Arc::clone) else {
            return Ok(None);
        };
        Ok(Some(SpoolFile::again(shared)))
    }

    /// An id for an entry without a data file.
    pub(crate) fn new_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts an entry's record, in place of the last one.
    pub(crate) fn put<T: Serialize + ?Sized>(&self, id: u64, record: &T) -> Result<(), SpoolError> {
        self.put_part(id, 0, record)
    }

    /// Puts a part of an entry, in place of the last one with that number. Part 0 is the record.
    ///
    /// Parts without a record are gone at the next opening: so one that comes after the entry
    /// was discarded does no harm.
    pub(crate) fn put_part<T: Serialize + ?Sized>(
        &self,
        id: u64,
        part: u32,
        value: &T,
    ) -> Result<(), SpoolError> {
        if part == ORIGIN {
            return Err(SpoolError::Record(format!("part {part} is reserved")));
        }
        self.journal.put(RecordId { entry: id, part }, value)
    }

    /// Forgets an entry. Its data file goes with the next [`Spool::sweep`].
    pub(crate) fn discard(&self, id: u64) -> Result<(), SpoolError> {
        self.journal.remove_entry(id)?;
        self.unsynced.store(true, Ordering::Release);
        if self.files.lock().contains_key(&id) {
            self.rubbish.lock().push(id);
        }
        Ok(())
    }

    /// Deletes the data files of entries that were discarded.
    ///
    /// The disk must not forget a file and remember its entry: the next opening would take it
    /// for a write whose bytes are lost. So the journal is synced before, once for all of them.
    pub(crate) fn sweep(&self) -> Result<(), SpoolError> {
        let rubbish = std::mem::take(&mut *self.rubbish.lock());
        if let Err(error) = self.forget() {
            self.rubbish.lock().extend(rubbish);
            return Err(error);
        }
        let mut rubbish = rubbish.into_iter();
        while let Some(id) = rubbish.next() {
            if let Err(error) = self.delete(id) {
                let mut left = self.rubbish.lock();
                left.push(id);
                left.extend(rubbish);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until what was discarded stays so after a power cut. Before a name is deleted in the
    /// bucket, nothing must be left that would store it again.
    pub(crate) fn forget(&self) -> Result<(), SpoolError> {
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let synced = self.journal.sync();
        if synced.is_err() {
            self.unsynced.store(true, Ordering::Release);
        }
        synced
    }

    fn delete(&self, id: u64) -> Result<(), SpoolError> {
        let path = home::data_path(&self.directory, id);
        let shared = self.files.lock().get(&id).cloned();
        // Besides the map and this function.
        if let Some(shared) = &shared
            && Arc::strong_count(shared) > 2
        {
            shared.outlive_its_name()?;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SpoolError::io("delete", &path)(error));
            }
            _ => {}
        }
        self.files.lock().remove(&id);
        Ok(())
    }

    /// Waits until everything that was put before survives a power cut, and the bytes that were
    /// written to `file` too.
    pub(crate) fn sync(&self, file: Option<&SpoolFile>) -> Result<(), SpoolError> {
        if let Some(file) = file {
            // Data first: an entry must not promise bytes that are not there.
            file.sync()?;
            let named = &file.shared().named;
            if !named.load(Ordering::Acquire) {
                sync_directory(&self.directory)?;
                named.store(true, Ordering::Release);
            }
        }
        self.journal.sync()
    }

    /// Notes the device number of the mount, for whoever has to end its connection: see [`home::Hung`].
    pub(crate) fn serves(&self, device: &str) {
        for lock in &self.locks {
            // Without it, somebody has to look for the number.
            let _ = lock.note(device);
        }
    }

    /// How many bytes data files take, those of discarded entries that are still open included.
    pub(crate) fn used(&self) -> u64 {
        self.usage.used()
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Has the disk take the names in a directory.
fn sync_directory(directory: &Path) -> Result<(), SpoolError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(SpoolError::io("have the disk take", directory))
}

#[cfg(test)]
mod testing;

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
