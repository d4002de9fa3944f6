//! The filesystem: inodes over keys, listings over prefixes, pages over objects.
//!
//! - [`fuse`] decodes the kernel's requests, spawns a task for each, and replies. It is the
//!   only file that names fuser's replies.
//! - [`tree`] resolves names: lookup, attributes, open.
//! - [`inodes`] numbers files and directories; [`names`] says which keys can be paths.
//! - [`listing`] streams directories in pages; [`known`] remembers them.
//! - [`mod@file`] opens and reads; [`fetch`] brings what is read into [`pages`]; [`ahead`] says
//!   what to read next.
//! - [`draft`] is a file that is being changed, in the spool, from [`attach`] on; [`extents`]
//!   knows where its bytes are, and [`edit`] reads and changes them; [`over`] does while it is
//!   being stored. After [`closing`],
//!   [`publish`] stores it as it was at one moment ([`snapshot`]), [`upload`] sends it ([`plan`]:
//!   in which parts; [`stream_out`]: while it is still being written; [`carry`]: what the store
//!   does not copy), [`aside`] keeps both versions after a conflict ([`salvage`] finds what the
//!   replaced one was made of), [`recover`] takes up what a crash has left, and [`giving_up`]
//!   throws away what nobody wants any more.
//! - [`create`], [`remove`] and [`rename`] change names, [`moving`] those of directories;
//!   [`attributes`] and [`xattr`] what is kept in metadata, which may wait a moment ([`settling`]), and [`index`] remembers over
//!   remounts.
//! - [`closed`] keeps other users out of what is not known yet.
//! - [`locks`] holds what programs lock, among all mounts of the bucket.
//! - [`kernel`] takes back what the kernel has cached.
//! - [`caller`] knows who asks, and whether somebody wants that program to stop.
//!
//! Nothing in here sees a credential: the bucket is a [`crate::store::Bucket`].

pub(crate) mod ahead;
pub(crate) mod aside;
mod attach;
pub(crate) mod attributes;
mod background;
pub(crate) mod beside;
pub(crate) mod caller;
mod carry;
mod closed;
mod closing;
pub(crate) mod create;
pub(crate) mod draft;
mod edit;
pub(crate) mod extents;
pub(crate) mod fetch;
mod file;
pub(crate) mod fuse;
mod giving_up;
pub(crate) mod index;
mod index_file;
pub(crate) mod inodes;
pub(crate) mod kernel;
pub(crate) mod known;
pub(crate) mod listing;
pub(crate) mod locks;
mod moving;
pub(crate) mod names;
mod over;
pub(crate) mod pages;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod range;
pub(crate) mod recover;
pub(crate) mod remove;
pub(crate) mod rename;
mod salvage;
mod settling;
mod snapshot;
mod stream_out;
pub(crate) mod tree;
pub(crate) mod upload;
pub(crate) mod xattr;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::spool;
use crate::store::limit::Limit;
use crate::store::{Bucket, StoreError};

pub(crate) use caller::Caller;

/// How many notices may wait to be shown.
const NOTICES: usize = 16;

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
    /// The name is taken.
    #[error("it exists already")]
    Exists,
    /// The directory has names in it.
    #[error("the directory is not empty")]
    NotEmpty,
    /// No file can be that large.
    #[error("S3 stores no file that large")]
    TooLarge,
    /// Metadata has room for 2 KiB only.
    #[error("S3 keeps no more than 2 KiB of attributes of a file")]
    NoSpaceForMetadata,
    /// The spool is full.
    #[error("{0}")]
    NoSpace(String),
    /// The spool cannot be used.
    #[error("{0}")]
    Spool(String),
    /// There is no such attribute.
    #[error("no such attribute")]
    NoData,
    /// The name is not UTF-8, as keys are.
    #[error("the name is not UTF-8")]
    NotText,
    /// What was asked makes no sense.
    #[error("invalid argument")]
    Invalid,
    /// S3 has nothing like it.
    #[error("S3 has nothing like it")]
    NotPermitted,
    /// This program does not do it.
    #[error("not supported")]
    Unsupported,
    /// The mount does not write.
    #[error("the mount is read-only")]
    ReadOnly,
    /// Storing was given up, because its name is gone or its content was replaced.
    #[error("it is not wanted any more")]
    GivenUp,
    /// It would have taken longer than the kernel waits.
    #[error("it took too long")]
    TookTooLong,
    /// The kernel named a handle that is not open.
    #[error("no such handle")]
    BadHandle,
    /// Somebody else has the lock.
    #[error("somebody else has locked it")]
    LockHeld,
    /// Locks cannot be had.
    #[error("{0}")]
    NoLocks(String),
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
    /// Owner of what does not say whose it is.
    pub(crate) uid: u32,
    /// Group of what does not say.
    pub(crate) gid: u32,
    /// `--uid`: owner of everything, whatever it says.
    pub(crate) all_uid: Option<u32>,
    /// `--gid`.
    pub(crate) all_gid: Option<u32>,
    /// Whose mount it is, if others are let in too: see [`closed`].
    pub(crate) shared_by: Option<u32>,
    /// Whether listings ask for what they do not tell.
    pub(crate) posix_metadata: bool,
    /// The name of this machine, for files that are stored beside others.
    pub(crate) host: String,
    /// Permission bits of files.
    pub(crate) file_mode: u16,
    /// Permission bits of directories.
    pub(crate) dir_mode: u16,
    /// How long what S3 said is believed.
    pub(crate) ttl: Duration,
    /// How long one request of the kernel may take, with everything that it waits for.
    pub(crate) longest_request: Duration,
    /// The same for requests that store something: as long as the kernel waits at all.
    pub(crate) longest_store: Duration,
    /// When the mount started: the time of directories.
    pub(crate) born: SystemTime,
    /// Whether the user asked for a mount that cannot write.
    pub(crate) read_only: bool,
    /// Whether cached bytes are served without a session.
    pub(crate) serve_when_locked: bool,
}

/// The usual first pause before what broke off is tried again.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// How the mount reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// The most bytes that pages may take.
    pub(crate) memory: u64,
    /// How many bytes one request of read-ahead asks for, and how many a part of an upload has.
    pub(crate) part: u64,
    /// Whether closing a file waits for the local disk only.
    pub(crate) write_back: bool,
    /// The first pause before what broke off is tried again; the next ones are longer.
    pub(crate) pause: Duration,
}

/// What a mount keeps on the local disk, and how fast it sends.
pub(crate) struct Keeping {
    /// Unsaved writes; `None` for a mount that cannot write.
    pub(crate) spool: Option<spool::Spool>,
    /// Attributes of objects.
    pub(crate) index: index::Index,
    /// `--upload-limit` in bytes per second.
    pub(crate) upload_limit: Option<u64>,
    /// Where lock files are.
    pub(crate) locks: locks::Place,
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
    /// Files that are being changed, by inode. To be locked before `inodes`, after `files`.
    drafts: Mutex<HashMap<u64, Arc<draft::Draft>>>,
    /// Objects whose names are gone here, by key.
    hidden: Mutex<HashMap<String, remove::Hidden>>,
    /// Directories that are being renamed. To be locked before `inodes`.
    moves: Mutex<moving::Moves>,
    /// Counts what is done with a place in the tree, for those who wait for that.
    places: watch::Sender<u64>,
    /// Uploads that nobody wants any more, by their numbers in the journal.
    given_up: Mutex<HashMap<u64, giving_up::GivenUp>>,
    /// What a crash has torn, and is not stored yet.
    torn: Mutex<Vec<Arc<draft::Draft>>>,
    /// Somebody is storing those.
    storing_torn: AtomicBool,
    /// What was stored beside its name since the mount began.
    asides: Mutex<Vec<aside::SetAside>>,
    /// For whoever tells people.
    notices: broadcast::Sender<aside::Notice>,
    spool: Option<spool::Spool>,
    index: index::Index,
    locks: locks::Locks,
    upload_limit: Limit,
    /// Who has bytes in the spool that the store does not copy.
    turns: carry::Turns,
    /// Counts what was stored, or failed to be.
    stored_something: watch::Sender<u64>,
    /// No more attempts: the mount is being taken down.
    ending: AtomicBool,
    pages: Arc<pages::Pages>,
    skipped: names::Skipped,
}

impl FileSystem {
    /// Shows the keys of `bucket` that start with `prefix`.
    pub(crate) fn new(
        bucket: Arc<Bucket>,
        prefix: String,
        look: Look,
        budget: Budget,
        keeping: Keeping,
    ) -> Self {
        Self {
            drafts: Mutex::default(),
            hidden: Mutex::default(),
            moves: Mutex::default(),
            places: watch::Sender::new(0),
            given_up: Mutex::default(),
            torn: Mutex::default(),
            storing_torn: AtomicBool::new(false),
            asides: Mutex::default(),
            notices: broadcast::Sender::new(NOTICES),
            spool: keeping.spool,
            index: keeping.index,
            locks: locks::Locks::new(keeping.locks),
            upload_limit: Limit::new(keeping.upload_limit),
            turns: carry::Turns::default(),
            stored_something: watch::Sender::new(0),
            ending: AtomicBool::new(false),
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

    /// The mount is being taken down: what cannot be stored at once is left to the journal.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether it is being taken down.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// What was stored beside its name.
    pub(crate) fn asides(&self) -> Vec<aside::SetAside> {
        self.asides.lock().clone()
    }

    /// Whether somebody has a file open here.
    pub(crate) fn has_open_files(&self) -> bool {
        self.files.lock().any(|_| true)
    }

    /// How much is not done yet: files that are not stored as they are now, also those that are
    /// open still, objects that are to be deleted, directories that are to be renamed.
    pub(crate) fn unsaved(&self) -> usize {
        let drafts = self.drafts.lock();
        let is_unsaved = |draft: &&Arc<draft::Draft>| {
            let state = draft.state();
            state.is_pending() && (state.dirty || state.closed)
        };
        let files = drafts.values().filter(is_unsaved).count() + self.torn.lock().len();
        drop(drafts);
        files + self.hidden.lock().len() + self.moves.lock().count()
    }

    /// Hears of each file that is stored beside its name, or cannot be stored.
    pub(crate) fn notices(&self) -> broadcast::Receiver<aside::Notice> {
        self.notices.subscribe()
    }

    /// Writes down what may wait: blocks on the local disk.
    pub(crate) fn tidy(&self) {
        if let Some(spool) = &self.spool
            && let Err(error) = spool.sweep()
        {
            tracing::warn!("the spool: {error}");
        }
        if let Err(error) = self.index.flush() {
            tracing::warn!("{error}");
        }
    }

    /// The kernel's number of the mount is known: see [`spool::Spool::serves`].
    pub(crate) fn serves(&self, device: &str) {
        if let Some(spool) = &self.spool {
            spool.serves(device);
        }
    }

    fn spool(&self) -> Result<&spool::Spool, FsError> {
        self.spool.as_ref().ok_or(FsError::ReadOnly)
    }

    /// What programs have locked.
    pub(crate) fn locks(&self) -> &locks::Locks {
        &self.locks
    }

    /// How many bytes wait in the spool.
    pub(crate) fn spooled(&self) -> u64 {
        self.spool.as_ref().map_or(0, spool::Spool::used)
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
    /// They come with their sizes.
    pub(crate) fn take_cached(&self) -> Vec<(u64, u64)> {
        let cached = self.inodes.lock().take_cached();
        let size = |number| {
            let inode = self.inode(number).ok()?;
            Some(self.attributes_of(&inode).size)
        };
        let sized = cached.into_iter();
        sized
            .map(|number| (number, size(number).unwrap_or(0)))
            .collect()
    }

    /// How inodes are called, for people.
    pub(crate) fn names_of(&self, numbers: &[u64]) -> Vec<String> {
        let inodes = self.inodes.lock();
        let name = |number: &u64| {
            inodes
                .path(*number)
                .unwrap_or_else(|| "a removed file".to_owned())
        };
        numbers.iter().map(name).collect()
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
    open: HashMap<u64, T>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self {
            next: 1,
            open: HashMap::new(),
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

    /// The one that was opened last among those that are meant.
    fn last(&self, is_it: impl Fn(&&T) -> bool) -> Option<&T> {
        let meant = self.open.iter().filter(|(_, value)| is_it(value));
        meant
            .max_by_key(|(number, _)| **number)
            .map(|(_, value)| value)
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.open.values()
    }

    fn close(&mut self, number: u64) {
        self.open.remove(&number);
    }
}

#[cfg(test)]
mod model_tests;

/// Runs what may wait for the local disk.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, FsError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| FsError::Spool(format!("the spool's thread ended: {error}")))
}
