//! The filesystem: inodes over keys, listings over prefixes, pages over objects.
//!
//! - [`fuse`] decodes the kernel's requests, spawns a task for each, and replies. It is the
//!   only file that names fuser's replies.
//! - [`tree`] resolves names: lookup, attributes, open.
//! - [`inodes`] numbers files and directories; [`names`] says which keys can be paths.
//! - [`listing`] streams directories in pages; [`known`] remembers them.
//! - [`mod@file`] reads; [`pages`] holds what was read; [`ahead`] says what to read next.
//! - [`kernel`] takes back what the kernel has cached.
//! - [`caller`] knows who asks, and whether somebody wants that program to stop.
//!
//! Nothing in here sees a credential: the bucket is a [`crate::store::Bucket`].

pub(crate) mod ahead;
pub(crate) mod caller;
pub(crate) mod file;
pub(crate) mod fuse;
pub(crate) mod inodes;
pub(crate) mod kernel;
pub(crate) mod known;
pub(crate) mod listing;
pub(crate) mod names;
pub(crate) mod pages;
pub(crate) mod tree;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::store::{Bucket, StoreError};

pub(crate) use caller::Caller;

/// Why an operation failed. [`crate::error`] turns it into an errno.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FsError {
    /// No such name, or the inode is gone.
    #[error("not found")]
    NotFound,
    /// A component of more than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// A directory was expected.
    #[error("not a directory")]
    NotADirectory,
    /// A file was expected.
    #[error("is a directory")]
    IsADirectory,
    /// The mount does not write.
    #[error("the mount is read-only")]
    ReadOnly,
    /// It would have taken longer than the kernel waits.
    #[error("it took too long")]
    TookTooLong,
    /// The kernel named a handle that is not open.
    #[error("no such handle")]
    BadHandle,
    /// Somebody stopped the program that asked.
    #[error("the waiting program was stopped")]
    Interrupted,
    /// The bucket said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the mount shows besides the bucket's content.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Owner of everything.
    pub(crate) uid: u32,
    /// Group of everything.
    pub(crate) gid: u32,
    /// Permission bits of files.
    pub(crate) file_mode: u16,
    /// Permission bits of directories.
    pub(crate) dir_mode: u16,
    /// How long what S3 said is believed.
    pub(crate) ttl: Duration,
    /// How long one request of the kernel may take, with everything that it waits for.
    pub(crate) longest_request: Duration,
    /// When the mount started: the time of directories.
    pub(crate) born: SystemTime,
    /// Whether the user asked for a mount that cannot write.
    pub(crate) read_only: bool,
    /// Whether cached bytes are served without a session.
    pub(crate) serve_when_locked: bool,
}

/// How the mount reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// The most bytes that pages may take.
    pub(crate) memory: u64,
    /// How many bytes one request of read-ahead asks for.
    pub(crate) part: u64,
}

/// One mounted bucket.
pub(crate) struct FileSystem {
    bucket: Arc<Bucket>,
    /// What stands before every key; empty, or ends with `/`.
    prefix: String,
    look: Look,
    budget: Budget,
    inodes: Mutex<inodes::Inodes>,
    listings: Mutex<known::Known>,
    streams: Mutex<Handles<Arc<listing::Stream>>>,
    files: Mutex<Handles<Arc<file::OpenFile>>>,
    pages: Arc<pages::Pages>,
    skipped: names::Skipped,
}

impl FileSystem {
    /// Shows the keys of `bucket` that start with `prefix`.
    pub(crate) fn new(bucket: Arc<Bucket>, prefix: String, look: Look, budget: Budget) -> Self {
        Self {
            bucket,
            prefix,
            look,
            budget,
            inodes: Mutex::default(),
            listings: Mutex::default(),
            streams: Mutex::default(),
            files: Mutex::default(),
            pages: pages::Pages::new(budget.memory),
            skipped: names::Skipped::default(),
        }
    }

    /// What the mount shows besides the bucket's content.
    pub(crate) fn look(&self) -> &Look {
        &self.look
    }

    /// Runs `serve` if content may be served: see [`crate::auth::Sessions::while_live`].
    pub(crate) fn while_live<R>(&self, serve: impl FnOnce() -> R) -> Option<R> {
        self.bucket.while_live(serve)
    }

    /// The page cache's use, in bytes: now, and at most.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.pages.used(), self.budget.memory)
    }

    /// How many keys could not be shown as paths.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.count()
    }

    /// The inodes of which the kernel may hold pages; from now on it counts as holding none.
    pub(crate) fn take_cached(&self) -> Vec<u64> {
        self.inodes.lock().take_cached()
    }

    /// Forgets every byte and every name that was learned from the bucket.
    pub(crate) fn forget_content(&self) {
        self.pages.clear();
        self.listings.lock().clear();
    }
}

/// Open handles by number. Numbers are never used twice.
struct Handles<T> {
    next: u64,
    open: std::collections::HashMap<u64, T>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self {
            next: 1,
            open: std::collections::HashMap::new(),
        }
    }
}

impl<T: Clone> Handles<T> {
    fn open(&mut self, value: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, value);
        number
    }

    fn get(&self, number: u64) -> Result<T, FsError> {
        self.open.get(&number).cloned().ok_or(FsError::BadHandle)
    }

    fn any(&self, is_it: impl Fn(&T) -> bool) -> bool {
        self.open.values().any(is_it)
    }

    fn close(&mut self, number: u64) {
        self.open.remove(&number);
    }
}
