//! A lock file: what mounts of one bucket have in common for the locks of one file.
//!
//! It has no bytes. Each owner of locks (a process, or an open file of one) has an open file
//! description of its own on it, with the same byte ranges locked as the owner has (fcntl_locking(2),
//! "open file description locks"). So the kernel decides between owners of all mounts, and whatever
//! dies, its locks die with its descriptors.
//!
//! Files go when nobody needs them: everybody who has one open holds it shared by flock(2), which is
//! independent of those locks, and whoever removes it holds it exclusively for that moment. So who
//! has opened a file and locked it shared looks whether the path still leads to it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

/// How often it is tried to get a file that others remove at the same time.
const TRIES: u32 = 100;

/// The last byte that a lock can cover: `OFFSET_MAX`, which stands for "to the end".
const LAST: u64 = i64::MAX as u64;

/// What an owner wants of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To share it: others may too.
    Shared,
    /// To have it alone.
    Exclusive,
    /// Nothing any more.
    Unlocked,
}

impl Mode {
    /// From `l_type` of fcntl_locking(2).
    pub(crate) fn of(number: i32) -> Option<Self> {
        match number {
            libc::F_RDLCK => Some(Self::Shared),
            libc::F_WRLCK => Some(Self::Exclusive),
            libc::F_UNLCK => Some(Self::Unlocked),
            _ => None,
        }
    }

    /// As `l_type`.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Shared => libc::F_RDLCK,
            Self::Exclusive => libc::F_WRLCK,
            Self::Unlocked => libc::F_UNLCK,
        }
    }
}

/// A range, from its first to its last byte, and what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) mode: Mode,
}

impl Lock {
    /// Nothing any more, of all that there is.
    pub(super) const ALL_UNLOCKED: Self = Self {
        first: 0,
        last: LAST,
        mode: Mode::Unlocked,
    };

    fn as_flock(self) -> libc::flock {
        let length = match self.last {
            LAST.. => 0,
            last => last.saturating_sub(self.first).saturating_add(1),
        };
        let short = |number: i32| i16::try_from(number).unwrap_or_default();
        libc::flock {
            l_type: short(self.mode.number()),
            l_whence: short(libc::SEEK_SET),
            l_start: i64::try_from(self.first).unwrap_or(i64::MAX),
            l_len: i64::try_from(length).unwrap_or_default(),
            l_pid: 0,
        }
    }

    fn of(found: &libc::flock) -> Option<Self> {
        let mode = Mode::of(i32::from(found.l_type)).filter(|mode| *mode != Mode::Unlocked)?;
        let first = u64::try_from(found.l_start).ok()?;
        let last = match u64::try_from(found.l_len).ok()? {
            0 => LAST,
            length => first.saturating_add(length - 1),
        };
        Some(Self { first, last, mode })
    }
}

/// A lock file that this process needs.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    pub(super) path: PathBuf,
}

impl LockFile {
    /// Opens the file at a path, made if need be; `shared` lets other users open it.
    pub(super) fn open(path: PathBuf, shared: bool) -> io::Result<Self> {
        for _ in 0..TRIES {
            let file = match options().open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match options().create_new(true).mode(0o600).open(&path) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                        made => made?,
                    }
                }
                found => found?,
            };
            if shared {
                // Its maker's alone to set, and the others need nothing of the kind.
                let _ = file.set_permissions(std::fs::Permissions::from_mode(0o666));
            }
            match file.try_lock_shared() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { file, path }),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(Errno::ENOLCK.into())
    }

    /// A description of its own for one owner of locks.
    pub(super) fn description(&self) -> io::Result<File> {
        // Not by its path, which may lead to another one by now.
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        OpenOptions::new().read(true).write(true).open(own)
    }

    /// Where to watch it.
    pub(super) fn own_path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// Tells those in other processes who wait that something was unlocked.
    pub(super) fn touch(&self) {
        let _ = futimens(&self.file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW);
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        remove_if_unused(&self.file, &self.path);
    }
}

/// Removes what earlier processes have left in a directory and nobody needs.
pub(super) fn sweep(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Ok(file) = options().open(&path) {
            remove_if_unused(&file, &path);
        }
    }
}

fn remove_if_unused(file: &File, path: &Path) {
    if file.try_lock().is_ok() && is_at(file, path) {
        let _ = std::fs::remove_file(path);
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // What stands there may be somebody else's pipe, in a directory for all users.
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(this), Ok(there)) = (file.metadata(), path.symlink_metadata()) else {
        return false;
    };
    (this.dev(), this.ino()) == (there.dev(), there.ino())
}

/// Locks or unlocks a range for the owner of a description, at once; tells whether that was
/// possible.
pub(super) fn set(description: &File, lock: Lock) -> io::Result<bool> {
    match fcntl(description, FcntlArg::F_OFD_SETLK(&lock.as_flock())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What another owner has that is in the way.
pub(super) fn in_the_way(description: &File, lock: Lock) -> io::Result<Option<Lock>> {
    let mut found = lock.as_flock();
    fcntl(description, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(Lock::of(&found))
}
