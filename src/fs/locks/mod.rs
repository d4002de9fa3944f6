//! Locks of flock(2) and fcntl(2): they hold among all mounts of a bucket that have one directory
//! for [lock files](mod@file).
//!
//! The kernel asks the daemon for each lock (`FUSE_POSIX_LOCKS`, `FUSE_FLOCK_LOCKS`), and the daemon
//! does the same to the lock file in the owner's name. As everywhere on Linux but NFS, the two kinds
//! know nothing of each other: they have a lock file each.
//!
//! A lock belongs to the inode while this mount knows it, and to the name when it is first asked for.
//! Nothing of it has to do with sessions: locks are taken and let go while the mount is locked.

mod file;
mod ranges;
mod wake;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use md5::{Digest, Md5};
use nix::sys::inotify::WatchDescriptor;
use parking_lot::Mutex;
use tokio::sync::watch;

use file::LockFile;
pub(crate) use file::{Lock, Mode};
use ranges::Ranges;
use wake::Wake;

use super::FsError;

/// How often it is tried again without anybody having said that it may work.
const RETRY: Duration = Duration::from_secs(1);

/// Where lock files are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// `None`: there is no place, and no locks.
    pub(crate) directory: Option<PathBuf>,
    /// Other users have it too.
    pub(crate) shared: bool,
    /// Which bucket, and where.
    pub(crate) bucket: String,
}

/// The two kinds of locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// fcntl(2)'s, of a process or an open file description.
    Posix,
    /// flock(2)'s.
    Flock,
}

/// Who has or wants a lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    /// The kernel's number for the process or the open file description.
    pub(crate) id: u64,
    /// Through which handle.
    pub(crate) handle: u64,
    /// For people.
    pub(crate) process: u32,
}

/// The locks of one mount.
#[derive(Debug)]
pub(crate) struct Locks {
    place: Place,
    held: Mutex<HashMap<(u64, Kind), Held>>,
    /// Counts what may let somebody get on who waits.
    changed: watch::Sender<u64>,
    /// `None` if the system has none left: then it is tried now and then.
    wake: OnceLock<Option<Wake>>,
}

/// The locks of one kind on one inode.
#[derive(Debug)]
struct Held {
    // Before the file: descriptions go first.
    owners: HashMap<u64, Owned>,
    watched: Option<WatchDescriptor>,
    file: LockFile,
}

/// What one owner has of it.
#[derive(Debug)]
struct Owned {
    description: File,
    ranges: Ranges,
    handle: u64,
    process: u32,
    /// Requests that wait. Until they end the description stays: closing it would wake everybody.
    waiting: u32,
}

impl Owned {
    fn is_unused(&self) -> bool {
        self.waiting == 0 && self.ranges.is_empty()
    }
}

impl Locks {
    /// Nothing is locked. Removes what earlier daemons have left.
    pub(crate) fn new(place: Place) -> Self {
        if let Some(directory) = &place.directory {
            file::sweep(directory);
        }
        Self {
            place,
            held: Mutex::default(),
            changed: watch::Sender::new(0),
            wake: OnceLock::new(),
        }
    }

    /// Locks or unlocks a range of the inode that stands for `key`. If somebody else is in the way,
    /// waits, or fails at once.
    pub(crate) async fn set(
        &self,
        inode: u64,
        kind: Kind,
        key: Option<&str>,
        owner: Owner,
        lock: Lock,
        wait: bool,
    ) -> Result<(), FsError> {
        let mut changed = self.changed.subscribe();
        if self.try_to_set(inode, kind, key, owner, lock)? {
            return Ok(());
        }
        if kind == Kind::Flock {
            // What one had is gone before one waits for another, or gets none (flock(2)): two who
            // share it and want it alone would wait for each other.
            self.let_go(|place, id, _| *place == (inode, kind) && id == owner.id);
        }
        if !wait {
            return Err(FsError::LockHeld);
        }
        let _waiting = Waiting::begin(self, inode, kind, key, owner)?;
        self.watch(inode, kind);
        // Once more, because nobody has watched until now.
        while !self.try_to_set(inode, kind, key, owner, lock)? {
            let _ = tokio::time::timeout(RETRY, changed.changed()).await;
            changed.borrow_and_update();
        }
        Ok(())
    }

    /// What another owner has that would be in the way, and its process if that is known (0 if not).
    pub(crate) fn in_the_way(
        &self,
        inode: u64,
        kind: Kind,
        key: Option<&str>,
        owner: Owner,
        lock: Lock,
    ) -> Result<Option<(Lock, u32)>, FsError> {
        let mut held = self.held.lock();
        let owned = self.owned(&mut held, inode, kind, key, owner)?;
        let found = file::in_the_way(&owned.description, lock).map_err(no_locks)?;
        let known = found.and_then(|found| {
            let owners = &held.get(&(inode, kind))?.owners;
            let mut others = owners.iter().filter(|(id, _)| **id != owner.id);
            let other = others.find(|(_, other)| other.ranges.has(found.first, found.last));
            other.map(|(_, other)| other.process)
        });
        self.tidy(&mut held, inode, kind);
        Ok(found.map(|found| (found, known.unwrap_or_default())))
    }

    /// An owner closes the file: as POSIX wants it, all that it has there is let go.
    pub(crate) fn closed_by(&self, inode: u64, owner: u64) {
        self.let_go(|(number, kind), id, _| {
            *number == inode && *kind == Kind::Posix && id == owner
        });
    }

    /// Nobody has a handle any more: what was locked through it and is left is let go.
    pub(crate) fn close(&self, handle: u64) {
        self.let_go(|_, _, owned| owned.handle == handle);
    }

    /// A name is gone; whoever takes it next begins anew.
    pub(crate) fn forget_name(&self, key: &str) {
        for kind in [Kind::Posix, Kind::Flock] {
            if let Some(path) = self.path(key, kind) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Whether somebody here has or wants a lock on an inode.
    pub(crate) fn has(&self, inode: u64) -> bool {
        let held = self.held.lock();
        [Kind::Posix, Kind::Flock]
            .iter()
            .any(|kind| held.contains_key(&(inode, *kind)))
    }

    /// An inode has another name, in whose place there may have been another file.
    pub(crate) fn renamed(&self, inode: u64, old: &str, new: &str) {
        let mut held = self.held.lock();
        for kind in [Kind::Posix, Kind::Flock] {
            let (Some(from), Some(to)) = (self.path(old, kind), self.path(new, kind)) else {
                continue;
            };
            if std::fs::rename(from, &to).is_err() {
                let _ = std::fs::remove_file(&to);
            }
            if let Some(held) = held.get_mut(&(inode, kind)) {
                held.file.path = to;
            }
        }
    }

    fn let_go(&self, is_meant: impl Fn(&(u64, Kind), u64, &Owned) -> bool) {
        let mut held = self.held.lock();
        if held.is_empty() {
            return;
        }
        let places: Vec<_> = held.keys().copied().collect();
        let mut has_changed = false;
        for place in places {
            let Some(at) = held.get_mut(&place) else {
                continue;
            };
            let mut is_less = false;
            for (id, owned) in &mut at.owners {
                if is_meant(&place, *id, owned) && !owned.ranges.is_empty() {
                    is_less = true;
                    owned.ranges = Ranges::default();
                    // The description may stay, for a thread that waits.
                    let _ = file::set(&owned.description, Lock::ALL_UNLOCKED);
                }
            }
            if is_less {
                has_changed = true;
                at.file.touch();
                self.tidy(&mut held, place.0, place.1);
            }
        }
        drop(held);
        if has_changed {
            self.tell();
        }
    }

    fn try_to_set(
        &self,
        inode: u64,
        kind: Kind,
        key: Option<&str>,
        owner: Owner,
        lock: Lock,
    ) -> Result<bool, FsError> {
        let mut held = self.held.lock();
        if lock.mode == Mode::Unlocked {
            let known = held.get(&(inode, kind));
            if known.is_none_or(|held| !held.owners.contains_key(&owner.id)) {
                return Ok(true);
            }
        }
        let owned = self.owned(&mut held, inode, kind, key, owner)?;
        let outcome = file::set(&owned.description, lock);
        match (&outcome, lock.mode) {
            (Ok(true), Mode::Unlocked) => owned.ranges.remove(lock.first, lock.last),
            (Ok(true), _) => {
                owned.ranges.add(lock.first, lock.last);
                owned.handle = owner.handle;
            }
            _ => {}
        }
        // Sharing what one had alone lets others in as well.
        if matches!(outcome, Ok(true)) && lock.mode != Mode::Exclusive {
            if let Some(held) = held.get(&(inode, kind)) {
                held.file.touch();
            }
            self.tell();
        }
        self.tidy(&mut held, inode, kind);
        outcome.map_err(no_locks)
    }

    fn tell(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn owned<'a>(
        &self,
        held: &'a mut HashMap<(u64, Kind), Held>,
        inode: u64,
        kind: Kind,
        key: Option<&str>,
        owner: Owner,
    ) -> Result<&'a mut Owned, FsError> {
        let at = match held.entry((inode, kind)) {
            std::collections::hash_map::Entry::Occupied(at) => at.into_mut(),
            std::collections::hash_map::Entry::Vacant(at) => {
                // Of a file without a name, nobody else knows.
                let nameless = || format!("\0{}\0{inode}", std::process::id());
                let key = key.map_or_else(nameless, str::to_owned);
                let path = self.path(&key, kind);
                let path = path.ok_or_else(|| FsError::NoLocks(NO_PLACE.to_owned()))?;
                if let Some(directory) = path.parent() {
                    make(directory, self.place.shared).map_err(no_locks)?;
                }
                at.insert(Held {
                    file: LockFile::open(path, self.place.shared).map_err(no_locks)?,
                    watched: None,
                    owners: HashMap::new(),
                })
            }
        };
        match at.owners.entry(owner.id) {
            std::collections::hash_map::Entry::Occupied(owned) => Ok(owned.into_mut()),
            std::collections::hash_map::Entry::Vacant(owned) => Ok(owned.insert(Owned {
                description: at.file.description().map_err(no_locks)?,
                ranges: Ranges::default(),
                handle: owner.handle,
                process: owner.process,
                waiting: 0,
            })),
        }
    }

    /// Drops what nobody needs any more of an inode.
    fn tidy(&self, held: &mut HashMap<(u64, Kind), Held>, inode: u64, kind: Kind) {
        if let Some(at) = held.get_mut(&(inode, kind)) {
            at.owners.retain(|_, owned| !owned.is_unused());
            if at.owners.is_empty() {
                if let (Some(watched), Some(Some(wake))) = (at.watched, self.wake.get()) {
                    wake.forget(watched);
                }
                held.remove(&(inode, kind));
            }
        }
    }

    fn watch(&self, inode: u64, kind: Kind) {
        let wake = self.wake.get_or_init(|| {
            let wake = Wake::new(self.changed.clone());
            wake.inspect_err(|error| tracing::debug!("locks are tried again and again: {error}"))
                .ok()
        });
        let mut held = self.held.lock();
        if let (Some(wake), Some(at)) = (wake, held.get_mut(&(inode, kind)))
            && at.watched.is_none()
        {
            at.watched = wake.watch(&at.file.own_path());
        }
    }

    fn path(&self, key: &str, kind: Kind) -> Option<PathBuf> {
        let mut hasher = Md5::new();
        hasher.update(&self.place.bucket);
        hasher.update("\0");
        hasher.update(key);
        let name: String = hasher
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let kind = match kind {
            Kind::Posix => "posix",
            Kind::Flock => "flock",
        };
        let directory = self.place.directory.as_ref()?;
        Some(directory.join(format!("{name}.{kind}")))
    }
}

/// What to say where there is no directory for lock files.
const NO_PLACE: &str = "there is no place for lock files: set XDG_RUNTIME_DIR";

fn no_locks(error: std::io::Error) -> FsError {
    FsError::NoLocks(format!("lock files cannot be used: {error}"))
}

/// A directory for all users is made by an administrator.
fn make(directory: &Path, shared: bool) -> std::io::Result<()> {
    if shared || directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        crate::runtime::make_private(above)?;
    }
    crate::runtime::make_private(directory)
}

/// A request that waits for a lock.
struct Waiting<'a> {
    locks: &'a Locks,
    inode: u64,
    kind: Kind,
    owner: u64,
}

impl<'a> Waiting<'a> {
    fn begin(
        locks: &'a Locks,
        inode: u64,
        kind: Kind,
        key: Option<&str>,
        owner: Owner,
    ) -> Result<Self, FsError> {
        let mut held = locks.held.lock();
        locks.owned(&mut held, inode, kind, key, owner)?.waiting += 1;
        let owner = owner.id;
        Ok(Self {
            locks,
            inode,
            kind,
            owner,
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held.lock();
        if let Some(at) = held.get_mut(&(self.inode, self.kind))
            && let Some(owned) = at.owners.get_mut(&self.owner)
        {
            owned.waiting -= 1;
        }
        self.locks.tidy(&mut held, self.inode, self.kind);
    }
}

#[cfg(test)]
mod tests;
