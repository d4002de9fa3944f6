//! Data files: the bytes of unsaved writes, in sparse files that only this user can read.
//!
//! Invariant: bytes are counted ([`super::usage`]) before they are written, and for as long as
//! the file is in the spool or somebody has it open.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};
use nix::unistd::{Whence, lseek};

use super::descriptors::Descriptors;
use super::error::SpoolError;
use super::usage::{Account, Usage};

/// How much is copied at a time where the kernel does not do it.
const PIECE: usize = 1 << 20;

/// A data file that somebody uses. It has a descriptor while it is read or written, and mostly for
/// some time afterwards: see [`super::descriptors`].
///
/// All methods can be called at once from anywhere; writes that overlap come in any order. The
/// file stays when this is dropped, see [`super::Spool::discard`]; after that, whoever still has
/// it can use it to the end.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    shared: Arc<Shared>,
}

/// What everybody who uses the same file shares.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    account: Account,
    descriptors: Arc<Descriptors>,
    /// Its number among those.
    number: u64,
    /// Its descriptor, once its name is gone.
    nameless: OnceLock<Arc<File>>,
    /// Its name survives a power cut.
    pub(super) named: AtomicBool,
    /// The disk failed to take it once. See [`super::journal`] for why that is for good.
    broken: AtomicBool,
}

impl Shared {
    fn new(path: PathBuf, usage: &Arc<Usage>, descriptors: &Arc<Descriptors>) -> Arc<Self> {
        Arc::new(Self {
            path,
            account: Account::new(usage),
            number: descriptors.number(),
            descriptors: Arc::clone(descriptors),
            nameless: OnceLock::new(),
            named: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    fn file(&self) -> Result<Arc<File>, SpoolError> {
        if let Some(file) = self.nameless.get() {
            return Ok(Arc::clone(file));
        }
        let opened = self
            .descriptors
            .of(self.number, || options().open(&self.path));
        match (opened, self.nameless.get()) {
            (Ok(file), _) => Ok(file),
            // Its name went between the two.
            (Err(_), Some(file)) => Ok(Arc::clone(file)),
            (Err(error), None) => Err(SpoolError::io("open", &self.path)(error)),
        }
    }

    /// Keeps a descriptor, for good: whoever uses the file can go on when its name is gone.
    pub(super) fn outlive_its_name(&self) -> Result<(), SpoolError> {
        let file = self.file()?;
        self.nameless.get_or_init(|| file);
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.descriptors.forget(self.number);
    }
}

impl SpoolFile {
    /// Makes a file, which must not exist.
    pub(super) fn create(
        path: PathBuf,
        usage: &Arc<Usage>,
        descriptors: &Arc<Descriptors>,
    ) -> Result<Self, SpoolError> {
        let create = || options().create_new(true).mode(0o600).open(&path);
        let file = descriptors
            .open_with_room(create)
            .map_err(SpoolError::io("create", &path))?;
        let shared = Shared::new(path, usage, descriptors);
        descriptors.keep(shared.number, file);
        Ok(Self { shared })
    }

    /// Takes a file that an earlier process left, and counts what is in it.
    pub(super) fn find(
        path: PathBuf,
        usage: &Arc<Usage>,
        descriptors: &Arc<Descriptors>,
    ) -> Result<Self, SpoolError> {
        let shared = Shared::new(path, usage, descriptors);
        let found = Self { shared };
        let length = found.len()?;
        let mut at = 0;
        while let Some(data) = found.next_data(at, length)? {
            at = data.end;
            found.shared.account.found(data);
        }
        // It may wait for long.
        descriptors.forget(found.shared.number);
        Ok(found)
    }

    #[cfg(test)]
    /// Uses a file once more.
    pub(super) fn again(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.shared.path
    }

    fn file(&self) -> Result<Arc<File>, SpoolError> {
        self.shared.file()
    }

    /// Its length in bytes, holes included.
    pub(crate) fn len(&self) -> Result<u64, SpoolError> {
        let found = self.file()?.metadata();
        Ok(found.map_err(self.failed("look at"))?.len())
    }

    /// Writes all bytes.
    ///
    /// When it fails, some of them may be written, and the file be longer.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), SpoolError> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| self.failed("write to")(Errno::EFBIG.into()))?;
        let file = self.file()?;
        let taken = self.shared.account.take(offset..end);
        let Some(taken) = taken else {
            return Err(self.over());
        };
        let mut at = offset;
        while at < end {
            let done = usize::try_from(at - offset).unwrap_or(usize::MAX);
            let error = match file.write_at(&bytes[done..], at) {
                Ok(0) => Errno::EIO.into(),
                Ok(count) => {
                    at += count as u64;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.shared.account.undo(&taken, offset..at);
            return Err(self.failed("write to")(error));
        }
        Ok(())
    }

    /// Reads bytes; fewer than asked for only at the end of the file. Holes are zeros.
    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, SpoolError> {
        let file = self.file()?;
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("read")(error)),
            }
        }
        Ok(done)
    }

    /// Cuts the file off, or makes it longer by a hole.
    pub(crate) fn set_len(&self, length: u64) -> Result<(), SpoolError> {
        self.file()?
            .set_len(length)
            .map_err(self.failed("change the length of"))?;
        self.shared.account.freed(length..u64::MAX);
        Ok(())
    }

    /// Gives the room of a range back, which reads as zeros then.
    ///
    /// Not every filesystem can. Zeros are written then, which give no room back.
    pub(crate) fn punch(&self, range: Range<u64>) -> Result<(), SpoolError> {
        if range.is_empty() {
            return Ok(());
        }
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (start, length) = (offset(range.start), offset(range.end - range.start));
        let file = self.file()?;
        loop {
            match fallocate(&*file, mode, start, length) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return self.write_zeros(range),
                Err(error) => return Err(self.failed("make a hole in")(error.into())),
            }
        }
        self.shared.account.freed(range);
        Ok(())
    }

    fn write_zeros(&self, range: Range<u64>) -> Result<(), SpoolError> {
        const ZEROS: &[u8] = &[0; 64 << 10];
        let end = range.end.min(self.len()?);
        let mut at = range.start;
        while at < end {
            let length =
                usize::try_from(end - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.write_at(at, &ZEROS[..length])?;
            at += length as u64;
        }
        Ok(())
    }

    /// Waits until the bytes survive a power cut; [`super::Spool::sync`] does so for the name
    /// and the entry too.
    ///
    /// Once it has failed it always fails: what the disk did not take may be gone.
    pub(crate) fn sync(&self) -> Result<(), SpoolError> {
        if self.shared.broken.load(Ordering::Acquire) {
            return Err(SpoolError::Unsynced {
                path: self.path().to_owned(),
            });
        }
        self.file()?.sync_data().map_err(|error| {
            self.shared.broken.store(true, Ordering::Release);
            self.failed("have the disk take")(error)
        })
    }

    /// Makes another file the same, holes included.
    ///
    /// Nobody may write to either meanwhile. Where the filesystem can, both share their blocks;
    /// they are counted twice all the same, as either may be overwritten.
    pub(crate) fn copy_to(&self, other: &Self) -> Result<(), SpoolError> {
        let length = self.len()?;
        other.set_len(0)?;
        other.set_len(length)?;
        let mut at = 0;
        let mut by_kernel = true;
        while let Some(data) = self.next_data(at, length)? {
            at = data.end;
            self.copy_range(data, other, &mut by_kernel)?;
        }
        Ok(())
    }

    fn copy_range(
        &self,
        mut data: Range<u64>,
        other: &Self,
        by_kernel: &mut bool,
    ) -> Result<(), SpoolError> {
        let account = &other.shared.account;
        let (ours, theirs) = (self.file()?, other.file()?);
        let taken = account.take(data.clone()).ok_or_else(|| other.over())?;
        let start = data.start;
        // It tries to share blocks first, as FICLONERANGE does, which needs unsafe code.
        while *by_kernel && !data.is_empty() {
            let (mut from, mut to) = (offset(data.start), offset(data.start));
            let length = usize::try_from(data.end - data.start).unwrap_or(usize::MAX);
            match copy_file_range(&*ours, Some(&mut from), &*theirs, Some(&mut to), length) {
                Ok(count) if count > 0 => data.start += count as u64,
                Err(Errno::EINTR) => {}
                Err(error @ (Errno::ENOSPC | Errno::EDQUOT)) => {
                    account.undo(&taken, start..data.start);
                    return Err(other.failed("copy to")(error.into()));
                }
                // It cannot do this, or says it is at the end, which some filesystems do.
                Ok(_) | Err(_) => *by_kernel = false,
            }
        }
        let mut piece = vec![0; if data.is_empty() { 0 } else { PIECE }];
        while !data.is_empty() {
            let length = PIECE.min(usize::try_from(data.end - data.start).unwrap_or(PIECE));
            let copied = self
                .read_at(data.start, &mut piece[..length])
                .and_then(|count| {
                    other.write_at(data.start, &piece[..count])?;
                    Ok(count)
                });
            match copied {
                // It has been cut off meanwhile, against the rules.
                Ok(0) => break,
                Ok(count) => data.start += count as u64,
                Err(error) => {
                    account.undo(&taken, start..data.start);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The next range of bytes that is no hole, at `from` or behind it.
    fn next_data(&self, from: u64, length: u64) -> Result<Option<Range<u64>>, SpoolError> {
        if from >= length {
            return Ok(None);
        }
        let file = self.file()?;
        let seek = |at: u64, whence| {
            lseek(&*file, offset(at), whence).map(|at| u64::try_from(at).unwrap_or(0))
        };
        let start = match seek(from, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => return Ok(None),
            // The filesystem knows no holes.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(from..length)),
            Err(error) => return Err(self.failed("look for holes in")(error.into())),
        };
        if start >= length {
            return Ok(None);
        }
        let end = seek(start, Whence::SeekHole)
            .unwrap_or(length)
            .min(length)
            .max(start + 1);
        Ok(Some(start..end))
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
        SpoolError::io(doing, self.path())
    }

    fn over(&self) -> SpoolError {
        SpoolError::over(self.shared.account.limit())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // The standard library adds O_CLOEXEC.
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW);
    options
}

fn offset(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
