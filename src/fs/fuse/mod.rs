//! The kernel's requests: decoded, run in a task each, and answered.
//!
//! A callback never waits: it spawns a task and returns. A task that takes longer than 200 ms
//! watches the program that waits for it, and gives up when somebody stops that program.
//!
//! [`requests`] has one function for each kind of request.

mod directory;
mod locking;
mod requests;
mod times;
mod unanswered;

use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, FileAttr, FileType, Generation, INodeNo, Request};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::inodes::{Inode, Kind};
use super::{Caller, FileSystem, FsError};
use crate::auth::Asker;
use crate::error::errno;
pub(crate) use unanswered::{Action, Unanswered};

/// The longest the kernel may keep names. A lock must take effect on names at once, and there
/// is no way to take them back that cannot block behind a lookup; the daemon's own memory
/// answers within microseconds anyway.
const NAMES: Duration = Duration::from_secs(1);

/// How many read-ahead requests of the kernel may be on their way. Those that wait for a person
/// are among them, so there must be room for others; and none should queue in the kernel, with
/// its pages locked and without us knowing of it (see [`crate::fs::kernel`]).
const BACKGROUND: u16 = 4096;

/// The largest request of the kernel in bytes: `fs.fuse.max_pages_limit`, 256 pages.
const REQUEST: u32 = 1 << 20;

/// Every path exists in one generation: numbers are never reused for another path.
const GENERATION: Generation = Generation(0);

/// What fuser calls.
pub(crate) struct Fuse {
    fs: Arc<FileSystem>,
    runtime: Handle,
    unanswered: Arc<Unanswered>,
    ended: Option<oneshot::Sender<()>>,
}

impl Fuse {
    /// Serves `fs` with tasks on `runtime`; `ended` hears when the kernel is done.
    pub(crate) fn new(
        fs: Arc<FileSystem>,
        runtime: Handle,
        ended: oneshot::Sender<()>,
    ) -> (Self, Arc<Unanswered>) {
        let unanswered = Arc::<Unanswered>::default();
        let fuse = Self {
            fs,
            runtime,
            unanswered: Arc::clone(&unanswered),
            ended: Some(ended),
        };
        (fuse, unanswered)
    }

    /// Runs `work` until it is done or the program that waits for it is stopped.
    fn spawn<T: Send + 'static>(
        &self,
        request: &Request,
        work: impl Future<Output = Result<T, FsError>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        self.within(self.fs.look().longest_request, request, work, reply);
    }

    /// The same for storing, which takes as long as there is something to be sent.
    fn store<T: Send + 'static>(
        &self,
        request: &Request,
        work: impl Future<Output = Result<T, FsError>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        self.within(self.fs.look().longest_store, request, work, reply);
    }

    fn within<T: Send + 'static>(
        &self,
        longest: Duration,
        request: &Request,
        work: impl Future<Output = Result<T, FsError>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let caller = Caller { tid: request.pid() };
        self.runtime.spawn(async move {
            let result = tokio::select! {
                biased;
                result = work => result,
                () = caller.stopped() => Err(FsError::Interrupted),
                () = tokio::time::sleep(longest) => Err(FsError::TookTooLong),
            };
            reply(result.map_err(|error| told(&error)));
        });
    }

    /// Runs `work`, which changes something, to its end: whoever waits may be stopped and
    /// hears so, but nothing is left half done.
    fn change<T: Send + 'static>(
        &self,
        request: &Request,
        work: impl Future<Output = Result<T, FsError>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        if self.fs.look().read_only {
            return reply(Err(told(&FsError::ReadOnly)));
        }
        let done = self.runtime.spawn(work);
        let waiting = async move {
            let ended = |error| FsError::Spool(format!("the request was given up: {error}"));
            done.await.map_err(ended)?
        };
        self.store(request, waiting, reply);
    }

    /// The file system, and the caller as somebody who may wait for a session.
    fn with(&self, request: &Request) -> (Arc<FileSystem>, Asker) {
        let caller = Caller { tid: request.pid() };
        (Arc::clone(&self.fs), caller.asker())
    }
}

/// A file that was made and opened for a program that may have been stopped meanwhile. Then the
/// kernel does not learn of it, and nobody else would close it.
struct Unheard {
    fs: Arc<FileSystem>,
    number: u64,
    handle: Option<u64>,
}

impl Unheard {
    fn new(fs: Arc<FileSystem>, number: u64, handle: u64) -> Self {
        let handle = Some(handle);
        Self { fs, number, handle }
    }

    /// The kernel is told: it closes the handle.
    fn hear(mut self) -> u64 {
        self.handle.take().unwrap_or_default()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(handle) = self.handle {
            self.fs.release(handle);
            self.fs.forget(self.number, 1);
        }
    }
}

/// Turns an error into what the program hears, and tells the log what no errno can.
fn told(error: &FsError) -> Errno {
    let number = errno(error);
    match number {
        libc::ENOENT | libc::EINTR | libc::EROFS | libc::EAGAIN => {}
        libc::EIO | libc::ENETUNREACH | libc::ETIMEDOUT | libc::ENOLCK => tracing::warn!("{error}"),
        _ => tracing::debug!("{error}"),
    }
    Errno::from_i32(number)
}

fn attributes(fs: &FileSystem, inode: &Inode) -> FileAttr {
    let known = fs.shown_to_all(inode);
    FileAttr {
        ino: INodeNo(inode.number),
        size: known.size,
        blocks: known.size.div_ceil(512),
        atime: known.atime,
        mtime: known.mtime,
        ctime: known.ctime,
        crtime: known.mtime,
        kind: file_type(&inode.kind),
        perm: u16::try_from(known.mode & 0o7777).unwrap_or_default(),
        nlink: known.links,
        uid: known.uid,
        gid: known.gid,
        rdev: 0,
        // One request of the kernel: what programs that honour it should read at once.
        blksize: REQUEST,
        flags: 0,
    }
}

fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::Directory(_) => FileType::Directory,
        Kind::File(_) => FileType::RegularFile,
        Kind::Symlink(_) => FileType::Symlink,
    }
}
