//! The descriptors of data files: a bounded number of them, opened again by path when they are
//! needed.
//!
//! Thousands of files may wait to be stored while a process may have a thousand descriptors, and
//! requests to S3 need some too. So a file that nobody reads or writes just now keeps none.
//!
//! Invariant: a path in the spool names one file for as long as somebody has that file. Whoever
//! removes the name first has a descriptor kept for those who use the file still: see
//! [`super::files::Shared::outlive_its_name`].

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;

/// What part of the descriptors that this process may have is for data files.
const SHARE: u64 = 4;

/// The fewest and the most that are kept.
const BOUNDS: (u64, u64) = (16, 4096);

/// The descriptors that are open, by the number of their file.
#[derive(Debug)]
pub(super) struct Descriptors {
    open: Mutex<LruCache<u64, Arc<File>>>,
    next: AtomicU64,
}

impl Descriptors {
    /// A quarter of what this process may have.
    pub(super) fn new() -> Arc<Self> {
        let (least, most) = BOUNDS;
        let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let share = (allowed / SHARE).clamp(least, most);
        Self::with_room_for(usize::try_from(share).unwrap_or(usize::MAX))
    }

    /// No more than `most`, and one at least.
    pub(super) fn with_room_for(most: usize) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::new(LruCache::new(
                NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN),
            )),
            next: AtomicU64::new(0),
        })
    }

    /// A number for one more file.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The descriptor of a file, which `open` opens if there is none.
    pub(super) fn of(
        &self,
        number: u64,
        open: impl Fn() -> io::Result<File>,
    ) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.lock().get(&number) {
            return Ok(Arc::clone(file));
        }
        let opened = Arc::new(self.open_with_room(open)?);
        let mut all = self.open.lock();
        // Somebody else may have been faster.
        if let Some(file) = all.get(&number) {
            return Ok(Arc::clone(file));
        }
        let put_away = all.push(number, Arc::clone(&opened));
        drop(all);
        // Closing a file may take as long as its filesystem likes.
        drop(put_away);
        Ok(opened)
    }

    /// Opens a file; if this process or the machine has no descriptor left, others are closed.
    pub(super) fn open_with_room(&self, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
        let is_out_of_them = |error: &io::Error| {
            let errno = error.raw_os_error().map(Errno::from_raw);
            matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
        };
        match open() {
            Err(error) if is_out_of_them(&error) => {
                let put_away: Vec<_> = {
                    let mut all = self.open.lock();
                    let some = all.len().div_ceil(2);
                    (0..some).filter_map(|_| all.pop_lru()).collect()
                };
                if put_away.is_empty() {
                    return Err(error);
                }
                drop(put_away);
                open()
            }
            outcome => outcome,
        }
    }

    /// Keeps a descriptor that was opened elsewhere.
    pub(super) fn keep(&self, number: u64, file: File) {
        let put_away = self.open.lock().push(number, Arc::new(file));
        drop(put_away);
    }

    /// Nobody has the file any more.
    pub(super) fn forget(&self, number: u64) {
        let put_away = self.open.lock().pop(&number);
        drop(put_away);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.lock().len()
    }
}
