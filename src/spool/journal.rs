//! The journal: a map that survives the end of the process at once, and a power cut after
//! [`Journal::sync`].
//!
//! It is a log: what is put or removed becomes one more line ([`super::lines`]), and once most
//! of the file is history, what still counts is written to a new file that replaces it.
//!
//! Invariants:
//! - Only bytes up to `length` count. Every line is written at `length`, and only a whole line
//!   moves it, so a write that fails half way is overwritten, not appended to.
//! - The file's name always leads to a whole journal: replacements are synced before they get
//!   the name.
//! - `sync` succeeds only if the disk said so. When `fdatasync` fails, the kernel may have
//!   dropped what it could not write and report success the next time (PostgreSQL's "fsyncgate"
//!   of 2018). So the file is distrusted from then on: every sync that has something to do
//!   writes a new file from memory, and that ends the distrust.
//! - A removal needs room too, and on a full disk it is what makes room. So the file has some
//!   allocated in advance, which only removals may use up.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use parking_lot::Mutex;
use serde::Serialize;

use super::error::SpoolError;
use super::lines::{self, Contents, parts_of};

/// A journal that is shorter is never rewritten.
const SMALL: u64 = 1 << 20;

/// How many bytes only removals may use: room for a thousand.
const RESERVE: u64 = 32 << 10;

/// How much is allocated at a time.
const STEP: u64 = 64 << 10;

/// Names a record: (entry, 0) is the entry itself, (entry, n) are its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId {
    /// The entry.
    pub(crate) entry: u64,
    /// 0, or which of its parts.
    pub(crate) part: u32,
}

/// A map from [`RecordId`] to JSON that lives in a file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    state: Mutex<State>,
    /// Whose turn it is to sync. Never taken by somebody who holds `state`.
    syncing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    file: Arc<File>,
    /// The line of each record that counts.
    live: BTreeMap<RecordId, String>,
    /// How long these lines are together.
    live_length: u64,
    /// The highest id of an entry that was ever in use.
    highest: u64,
    /// How much of the file counts.
    length: u64,
    /// Up to where the file has room on the disk for sure.
    allocated: u64,
    /// Counts changes.
    changes: u64,
    /// Up to which change the disk has them.
    synced: u64,
    /// The disk failed to take the file once.
    distrusted: bool,
    /// Not to be replaced before it is longer than this.
    replace_at: u64,
}

/// What was found at opening.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The journal.
    pub(crate) journal: Journal,
    /// Its records, as JSON.
    pub(crate) records: BTreeMap<RecordId, String>,
    /// The highest id of an entry that was ever in use.
    pub(crate) highest: u64,
    /// Whether all of it was there and checked out; if not, entries may be missing.
    pub(crate) sound: bool,
}

impl Journal {
    /// Opens a journal, made if need be.
    ///
    /// A last line that does not check out is cut off: its writer died. When other lines do not
    /// check out, the damaged file is kept beside the journal, and the rest counts.
    pub(crate) fn open(path: &Path) -> Result<Opening, SpoolError> {
        let (bytes, file) = match open(path) {
            Ok(file) => (read(&file, path)?, Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => return Err(SpoolError::io("open", path)(error)),
        };
        let contents = Contents::read(&bytes, path)?;
        let mut live = BTreeMap::new();
        for (id, json) in &contents.records {
            // It is JSON already, and stays as it is.
            let raw: &serde_json::value::RawValue = serde_json::from_str(json)
                .map_err(|error| SpoolError::Record(error.to_string()))?;
            live.insert(*id, lines::put(*id, raw)?);
        }
        let unsound = unsound(path);
        let sound = contents.is_sound() && !bytes.is_empty() && !unsound.exists();
        if !sound && let Err(error) = mark(&unsound) {
            // As good as it gets: only if this process dies soon, it will have been of use.
            tracing::warn!("{error}");
        }
        let (file, length) = match file {
            Some(file) if !bytes.is_empty() && contents.skipped == 0 => {
                if contents.torn {
                    tracing::info!(
                        "the last line of {} was not finished: it does not count",
                        path.display()
                    );
                    file.set_len(contents.length as u64)
                        .map_err(SpoolError::io("cut", path))?;
                }
                (file, contents.length as u64)
            }
            _ => {
                let fresh = write_new(path, &live, contents.highest)?;
                if contents.skipped > 0 {
                    keep_damaged(path, contents.skipped, live.len())?;
                }
                give_name(path)?;
                (fresh.file, fresh.length)
            }
        };
        let live_length = live.values().map(|line| line.len() as u64).sum();
        let journal = Self {
            path: path.to_path_buf(),
            state: Mutex::new(State {
                file: Arc::new(file),
                live,
                live_length,
                highest: contents.highest,
                length,
                allocated: 0,
                // What is in the file need not be on the disk: its writer may have died before.
                changes: 1,
                synced: 0,
                distrusted: false,
                replace_at: SMALL,
            }),
            syncing: Mutex::new(()),
        };
        if let Err(error) = journal.allocate(&mut journal.state.lock(), 0) {
            // Whatever is put says so too; and what is there can be uploaded and removed.
            tracing::warn!("{error}");
        }
        Ok(Opening {
            journal,
            records: contents.records,
            highest: contents.highest,
            sound,
        })
    }

    /// Nothing depends any more on whether it was sound when it was opened. Until this is said,
    /// it is opened as not sound once more.
    pub(crate) fn settled(&self) -> Result<(), SpoolError> {
        let unsound = unsound(&self.path);
        match std::fs::remove_file(&unsound) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(SpoolError::io("delete", &unsound)(error))
            }
            _ => Ok(()),
        }
    }

    /// Reads a journal that may be in use by somebody else, and changes nothing.
    pub(super) fn peek(path: &Path) -> Result<BTreeMap<RecordId, String>, SpoolError> {
        let bytes = std::fs::read(path).map_err(SpoolError::io("read", path))?;
        Ok(Contents::read(&bytes, path)?.records)
    }

    /// Gives a record a value. It survives the end of this process from here on.
    pub(crate) fn put<T: Serialize + ?Sized>(
        &self,
        id: RecordId,
        value: &T,
    ) -> Result<(), SpoolError> {
        let line = lines::put(id, value)?;
        let mut state = self.state.lock();
        self.allocate(&mut state, line.len() as u64)?;
        self.append(&mut state, &line)?;
        state.highest = state.highest.max(id.entry);
        state.live_length += line.len() as u64;
        if let Some(old) = state.live.insert(id, line) {
            state.live_length -= old.len() as u64;
        }
        self.replace_if_worth_it(&mut state);
        Ok(())
    }

    /// Removes an entry with all its parts.
    pub(crate) fn remove_entry(&self, entry: u64) -> Result<(), SpoolError> {
        let mut state = self.state.lock();
        let parts = parts_of(&state.live, entry);
        if parts.is_empty() {
            return Ok(());
        }
        self.append(&mut state, &lines::remove(entry))?;
        for id in parts {
            if let Some(old) = state.live.remove(&id) {
                state.live_length -= old.len() as u64;
            }
        }
        self.replace_if_worth_it(&mut state);
        Ok(())
    }

    /// Waits until everything that was put or removed before survives a power cut.
    ///
    /// Callers that come together share one sync.
    pub(crate) fn sync(&self) -> Result<(), SpoolError> {
        let wanted = self.state.lock().changes;
        let _turn = self.syncing.lock();
        let (file, covered) = {
            let mut state = self.state.lock();
            if state.synced >= wanted {
                return Ok(());
            }
            if state.distrusted {
                return self.replace(&mut state);
            }
            (Arc::clone(&state.file), state.changes)
        };
        // Without `state`, so that nobody waits for the disk to put something.
        let outcome = file.sync_data();
        let mut state = self.state.lock();
        match outcome {
            Ok(()) => {
                state.synced = state.synced.max(covered);
                Ok(())
            }
            // It was replaced meanwhile.
            Err(_) if state.synced >= wanted => Ok(()),
            Err(error) => {
                tracing::warn!(
                    "the disk failed to take {}, which is written anew: {error}",
                    self.path.display()
                );
                state.distrusted = true;
                self.replace(&mut state)
            }
        }
    }

    /// Makes sure that a line of `length` bytes and the reserve have room.
    fn allocate(&self, state: &mut State, length: u64) -> Result<(), SpoolError> {
        let needed = state.length + length + RESERVE;
        if needed > state.allocated {
            let end = needed + STEP;
            let known = reserve(&state.file, state.length, end)
                .map_err(SpoolError::io("allocate room for", &self.path))?;
            state.allocated = if known { end } else { u64::MAX };
        }
        Ok(())
    }

    /// Writes a line behind what counts.
    fn append(&self, state: &mut State, line: &str) -> Result<(), SpoolError> {
        if let Err(error) = state.file.write_all_at(line.as_bytes(), state.length) {
            // What was written of it has no end of line and does not count. If it cannot be cut
            // off, the next line overwrites it, or the next opening cuts it off.
            let _ = state.file.set_len(state.length);
            // That gave the rest of the reserve back too.
            state.allocated = 0;
            return Err(SpoolError::io("write", &self.path)(error));
        }
        state.length += line.len() as u64;
        state.changes += 1;
        Ok(())
    }

    fn replace_if_worth_it(&self, state: &mut State) {
        if state.length <= state.replace_at || state.live_length >= state.length / 2 {
            return;
        }
        if let Err(error) = self.replace(state) {
            // What was asked for is done, and the file is merely longer than it need be.
            tracing::warn!("{} cannot be shortened: {error}", self.path.display());
            state.replace_at = state.length + SMALL;
        }
    }

    /// Writes a new file with what counts. All of it survives a power cut then.
    fn replace(&self, state: &mut State) -> Result<(), SpoolError> {
        let fresh = write_new(&self.path, &state.live, state.highest)?;
        let named = give_name(&self.path);
        if matches!(named, Err(Renamed::No(_))) {
            return named.map_err(SpoolError::from);
        }
        state.file = Arc::new(fresh.file);
        state.length = fresh.length;
        state.allocated = fresh.allocated;
        state.replace_at = SMALL;
        // A new name that is not on the disk can become the old one again.
        state.distrusted = named.is_err();
        named?;
        state.synced = state.changes;
        Ok(())
    }
}

/// A file that is to become the journal.
struct Fresh {
    file: File,
    length: u64,
    allocated: u64,
}

/// Why a new file has not got the journal's name for good.
#[derive(Debug)]
enum Renamed {
    /// It has not got it.
    No(SpoolError),
    /// It has, but a power cut can undo that.
    Unsynced(SpoolError),
}

impl From<Renamed> for SpoolError {
    fn from(renamed: Renamed) -> Self {
        match renamed {
            Renamed::No(error) | Renamed::Unsynced(error) => error,
        }
    }
}

/// Where a new file is until it is whole.
fn new_path(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

fn read(mut file: &File, path: &Path) -> Result<Vec<u8>, SpoolError> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).map_err(SpoolError::io("read", path))?;
    Ok(bytes)
}

/// Writes what counts to a new file, and has the disk take it.
fn write_new(
    path: &Path,
    live: &BTreeMap<RecordId, String>,
    highest: u64,
) -> Result<Fresh, SpoolError> {
    let new = new_path(path);
    let mut text = lines::header();
    text.push_str(&lines::highest(highest));
    text.extend(live.values().map(String::as_str));
    let length = text.len() as u64;
    let end = length + RESERVE + STEP;
    let write = || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new)?;
        let known = reserve(&file, 0, end)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_all()?;
        Ok(Fresh {
            file,
            length,
            allocated: if known { end } else { u64::MAX },
        })
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&new);
        SpoolError::io("write", &new)(error)
    })
}

/// Gives a new file the journal's name.
fn give_name(path: &Path) -> Result<(), Renamed> {
    let new = new_path(path);
    std::fs::rename(&new, path).map_err(|error| {
        let _ = std::fs::remove_file(&new);
        Renamed::No(SpoolError::io("rename", &new)(error))
    })?;
    let directory = path.parent().unwrap_or(Path::new("."));
    super::sync_directory(directory).map_err(Renamed::Unsynced)
}

/// Has the disk keep room for `start..end`; false on a filesystem that does not do that.
fn reserve(file: &File, start: u64, end: u64) -> std::io::Result<bool> {
    let as_offset = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
    loop {
        let length = as_offset(end.saturating_sub(start));
        match fallocate(
            file,
            FallocateFlags::FALLOC_FL_KEEP_SIZE,
            as_offset(start),
            length,
        ) {
            Ok(()) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(error @ (Errno::ENOSPC | Errno::EDQUOT)) => return Err(error.into()),
            Err(_) => return Ok(false),
        }
    }
}

/// The file that says that a journal was not sound.
fn unsound(path: &Path) -> PathBuf {
    path.with_extension("unsound")
}

fn mark(unsound: &Path) -> Result<(), SpoolError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(unsound)
        .map_err(SpoolError::io("create", unsound))?;
    super::sync_directory(unsound.parent().unwrap_or(Path::new(".")))
}

/// Keeps a damaged journal for somebody who wants to look into it.
fn keep_damaged(path: &Path, skipped: usize, good: usize) -> Result<(), SpoolError> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut copy = path.with_extension(format!("damaged-{now}"));
    let mut count = 1;
    while copy.symlink_metadata().is_ok() {
        count += 1;
        copy = path.with_extension(format!("damaged-{now}-{count}"));
    }
    // The file itself: it is about to be replaced, and this needs no room.
    std::fs::hard_link(path, &copy)
        .or_else(|_| std::fs::copy(path, &copy).map(drop))
        .map_err(SpoolError::io("copy the damaged journal to", &copy))?;
    tracing::warn!(
        "{} is damaged: {skipped} of its lines do not count, {good} records are good; it is kept \
         as {}",
        path.display(),
        copy.display()
    );
    Ok(())
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
