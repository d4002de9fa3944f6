//! Attributes of objects that outlive a mount, so that listing a directory needs no HEAD for each
//! of its files.
//!
//! A line of a listing says key, ETag and Last-Modified. An object of the same three has the same
//! metadata, so what was once learned stays true; only who rewrites nothing but the metadata,
//! twice in one second, goes unseen. It is kept in [a file](super::index_file), which is a cache
//! and no more: whatever is wrong with it, it is moved aside and begun anew.
//!
//! Only one mount has the file; others of the same bucket remember what they learn in memory
//! alone. So nothing can be written by two, and what the one with the file knows of an object
//! that another changed no longer matches its listing.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use lru::LruCache;
use parking_lot::{Mutex, RwLock};

pub(crate) use super::index_file::IndexError;
use super::index_file::{IndexFile, move_aside};
use crate::store::metadata::Metadata;
use crate::store::tag;

/// The most objects in the file. A common one takes some 500 bytes there.
const MOST: u64 = 1_000_000;

/// How many objects are remembered in memory: around 10 MB.
const RECENT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19_999);

/// The most changes that wait to be written; more are remembered in memory only.
const PENDING: usize = 100_000;

/// The attributes of objects, in a file and in front of it in memory.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    most: u64,
    /// `None` if only memory remembers.
    file: RwLock<Option<IndexFile>>,
    state: Mutex<State>,
    /// Held by the one who writes: the last key that was dropped for want of room.
    writer: Mutex<String>,
}

#[derive(Debug)]
struct State {
    recent: LruCache<String, Arc<Entry>>,
    /// What the file does not say yet; `None` for what it must lose.
    pending: Changes,
    /// What is being written to it.
    writing: Arc<Changes>,
    /// Whether there is a file.
    has_file: bool,
    /// Counts changes: who reads the file without the lock sees whether it missed one.
    changes: u64,
}

type Changes = HashMap<String, Option<Arc<Entry>>>;

/// What is known of one object.
#[derive(Debug)]
struct Entry {
    etag: String,
    /// Last-Modified in seconds since 1970, which is all that S3 says in headers; `None` for what
    /// was stored without hearing it.
    modified: Option<i64>,
    metadata: Metadata,
}

/// What memory knows of a key.
enum Known {
    Entry(Arc<Entry>),
    Removed,
    Nothing,
}

impl Index {
    /// Opens the index in a file, which is made with mode 0600 if there is none.
    ///
    /// A damaged file, or one of another version, is moved aside (to `….damaged`) and begun anew;
    /// beside a mount that has the file, it works in memory only. Both are said once, in the log.
    /// Blocks on the disk: the whole file is read.
    pub(crate) fn open(path: &Path) -> Result<Self, IndexError> {
        Self::open_bounded(path, MOST)
    }

    /// An index without a file, for a mount that has no place for one.
    pub(crate) fn in_memory() -> Self {
        Self::with(PathBuf::new(), MOST, None)
    }

    fn open_bounded(path: &Path, most: u64) -> Result<Self, IndexError> {
        let file = match IndexFile::open(path) {
            Err(error @ IndexError::Damaged { .. }) => {
                tracing::warn!("{error}; it is moved aside and begun anew");
                move_aside(path)?;
                IndexFile::open(path)?
            }
            opened => opened?,
        };
        if file.is_none() {
            tracing::warn!(
                "another mount has the index of known attributes in {}: this one remembers in \
                 memory only",
                path.display()
            );
        }
        Ok(Self::with(path.to_owned(), most, file))
    }

    fn with(path: PathBuf, most: u64, file: Option<IndexFile>) -> Self {
        let state = State {
            recent: LruCache::new(RECENT),
            pending: Changes::new(),
            writing: Arc::default(),
            has_file: file.is_some(),
            changes: 0,
        };
        Self {
            path,
            most,
            file: RwLock::new(file),
            state: Mutex::new(state),
            writer: Mutex::default(),
        }
    }

    /// The metadata of an object, if it is known and still the object's: with this ETag, and
    /// last modified in the same second.
    ///
    /// An object that was put without a time takes this one, and has it from then on.
    pub(crate) fn get(&self, key: &str, etag: &str, modified: SystemTime) -> Option<Metadata> {
        let (known, changes) = {
            let mut state = self.state.lock();
            (state.known(key), state.changes)
        };
        let (entry, is_new) = match known {
            Known::Entry(entry) => (entry, false),
            Known::Removed => return None,
            Known::Nothing => (Arc::new(self.read(key)?), true),
        };
        let matches = entry.is_of(etag, modified);
        let modified = seconds(modified);
        let mut state = self.state.lock();
        let is_current = state.changes == changes;
        if matches && entry.modified.is_none() && is_current {
            let pinned = Entry {
                etag: entry.etag.clone(),
                modified: Some(modified),
                metadata: entry.metadata.clone(),
            };
            state.change(key, Some(Arc::new(pinned)));
        } else if is_new && is_current {
            state.recent.put(key.to_owned(), Arc::clone(&entry));
        }
        drop(state);
        matches.then(|| entry.metadata.clone())
    }

    /// The metadata that an object had when it was last seen, which may have changed since, and
    /// its Last-Modified if that is known.
    pub(crate) fn last(&self, key: &str) -> Option<(Metadata, Option<SystemTime>)> {
        let known = self.state.lock().known(key);
        let told = |entry: &Entry| (entry.metadata.clone(), entry.modified.map(moment));
        match known {
            Known::Entry(entry) => Some(told(&entry)),
            Known::Removed => None,
            Known::Nothing => Some(told(&self.read(key)?)),
        }
    }

    /// Remembers the metadata of an object; `modified` is its Last-Modified, if that is known.
    pub(crate) fn put(
        &self,
        key: &str,
        etag: &str,
        modified: Option<SystemTime>,
        metadata: &Metadata,
    ) {
        let entry = Entry {
            etag: etag.to_owned(),
            modified: modified.map(seconds),
            metadata: metadata.clone(),
        };
        self.state.lock().change(key, Some(Arc::new(entry)));
    }

    /// Forgets an object.
    pub(crate) fn remove(&self, key: &str) {
        self.state.lock().change(key, None);
    }

    /// Writes what has changed since the last time, in one transaction; blocks on the disk.
    ///
    /// After an error, which is returned once, there is only memory.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let mut hand = self.writer.lock();
        let batch = {
            let mut state = self.state.lock();
            if state.pending.is_empty() {
                return Ok(());
            }
            let batch = Arc::new(std::mem::take(&mut state.pending));
            state.writing = Arc::clone(&batch);
            batch
        };
        let changes = batch.iter().map(|(key, entry)| {
            let value = entry.as_ref().and_then(|entry| entry.encode());
            (key, value)
        });
        let written = match &*self.file.read() {
            Some(file) => file.write(changes, self.most, &mut hand),
            None => Ok(()),
        };
        self.state.lock().writing = Arc::default();
        if let Err(error) = &written {
            self.give_up(error);
        }
        written
    }

    /// Reads one object from the file.
    fn read(&self, key: &str) -> Option<Entry> {
        let read = match &*self.file.read() {
            Some(file) => file.read(key),
            None => return None,
        };
        match read {
            Ok(value) => Entry::decode(&value?),
            Err(error) => {
                if self.give_up(&error) {
                    tracing::warn!("{error}; from now on it is in memory only");
                }
                None
            }
        }
    }

    /// Does without the file from now on; whether this is news.
    fn give_up(&self, error: &IndexError) -> bool {
        // Only who takes the file knows that the one of its name is still the same.
        let Some(file) = self.file.write().take() else {
            return false;
        };
        {
            let mut state = self.state.lock();
            state.has_file = false;
            state.pending = Changes::new();
        }
        if matches!(error, IndexError::Damaged { .. })
            && let Err(error) = move_aside(&self.path)
        {
            tracing::warn!("{error}");
        }
        // Locked until here.
        drop(file);
        true
    }
}

impl State {
    fn known(&mut self, key: &str) -> Known {
        match self.pending.get(key).or_else(|| self.writing.get(key)) {
            Some(Some(entry)) => Known::Entry(Arc::clone(entry)),
            Some(None) => Known::Removed,
            None => match self.recent.get(key) {
                Some(entry) => Known::Entry(Arc::clone(entry)),
                None => Known::Nothing,
            },
        }
    }

    fn change(&mut self, key: &str, entry: Option<Arc<Entry>>) {
        self.changes += 1;
        match &entry {
            Some(entry) => {
                self.recent.put(key.to_owned(), Arc::clone(entry));
            }
            None => {
                self.recent.pop(key);
            }
        }
        // What is left out by this bound is in the file as it was, and matches no listing, as its
        // ETag or its time has changed.
        if self.has_file && (self.pending.len() < PENDING || self.pending.contains_key(key)) {
            self.pending.insert(key.to_owned(), entry);
        }
    }
}

impl Entry {
    /// Whether it is of an object with this version and Last-Modified: of one without an ETag the
    /// time decides.
    fn is_of(&self, version: &str, modified: SystemTime) -> bool {
        let modified = seconds(modified);
        match tag::is_told(version) {
            true => self.etag == version && self.modified.is_none_or(|known| known == modified),
            false => self.modified == Some(modified),
        }
    }

    fn encode(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&(&self.etag, self.modified, &self.metadata)).ok()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (etag, modified, metadata) = serde_json::from_slice(value).ok()?;
        Some(Self {
            etag,
            modified,
            metadata,
        })
    }
}

/// A moment in whole seconds since 1970.
fn moment(seconds: i64) -> SystemTime {
    let since = std::time::Duration::from_secs(seconds.unsigned_abs());
    let moment = match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(since),
        _ => SystemTime::UNIX_EPOCH.checked_sub(since),
    };
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Whole seconds since 1970, rounded down.
fn seconds(time: SystemTime) -> i64 {
    let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => whole(since.as_secs()),
        Err(before) => {
            let before = before.duration();
            -whole(before.as_secs()) - i64::from(before.subsec_nanos() > 0)
        }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
