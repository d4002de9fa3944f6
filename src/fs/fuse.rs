//! The kernel's requests: decoded, run in a task each, and answered.
//!
//! A callback never waits: it spawns a task and returns. A task that takes longer than 200 ms
//! watches the program that waits for it, and gives up when somebody stops that program.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents,
    PollFlags, PollNotifier, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyXattr, Request,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::file::KernelPages;
use super::inodes::{Inode, Kind};
use super::listing::Numbered;
use super::{Caller, FileSystem, FsError};
use crate::auth::{Asker, AuthError};
use crate::error::errno;
use crate::store::StoreError;

/// The longest the kernel may keep names. A lock must take effect on names at once, and there
/// is no way to take them back that cannot block behind a lookup; the daemon's own memory
/// answers within microseconds anyway.
const NAMES: Duration = Duration::from_secs(1);

/// How many read-ahead requests of the kernel may be on their way. Those that wait for a person
/// are among them, so there must be room for others; and none should queue in the kernel, with
/// its pages locked and without us knowing of it (see [`super::kernel`]).
const BACKGROUND: u16 = 4096;

/// The largest request of the kernel in bytes: `fs.fuse.max_pages_limit`, 256 pages.
const REQUEST: u32 = 1 << 20;

/// Every path exists in one generation: numbers are never reused for another path.
const GENERATION: Generation = Generation(0);

/// What fuser calls.
pub(crate) struct Fuse {
    fs: Arc<FileSystem>,
    runtime: Handle,
    reads: Arc<Reads>,
    ended: Option<oneshot::Sender<()>>,
}

/// The reads that are not answered yet: by inode, the bytes that each asks for.
#[derive(Debug, Default)]
pub(crate) struct Reads(Mutex<HashMap<u64, Vec<Range<u64>>>>);

impl Reads {
    /// What of an inode is being read.
    pub(crate) fn unanswered(&self, inode: u64) -> Vec<Range<u64>> {
        self.0.lock().get(&inode).cloned().unwrap_or_default()
    }

    fn begin(self: &Arc<Self>, inode: u64, bytes: Range<u64>) -> Reading {
        self.0.lock().entry(inode).or_default().push(bytes.clone());
        Reading {
            reads: Arc::clone(self),
            inode,
            bytes,
        }
    }
}

struct Reading {
    reads: Arc<Reads>,
    inode: u64,
    bytes: Range<u64>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut reads = self.reads.0.lock();
        if let Some(unanswered) = reads.get_mut(&self.inode) {
            if let Some(this) = unanswered.iter().position(|bytes| *bytes == self.bytes) {
                unanswered.swap_remove(this);
            }
            if unanswered.is_empty() {
                reads.remove(&self.inode);
            }
        }
    }
}

impl Fuse {
    /// Serves `fs` with tasks on `runtime`; `ended` hears when the kernel is done.
    pub(crate) fn new(
        fs: Arc<FileSystem>,
        runtime: Handle,
        ended: oneshot::Sender<()>,
    ) -> (Self, Arc<Reads>) {
        let reads = Arc::<Reads>::default();
        let fuse = Self {
            fs,
            runtime,
            reads: Arc::clone(&reads),
            ended: Some(ended),
        };
        (fuse, reads)
    }

    /// Runs `work` until it is done or the program that waits for it is stopped.
    fn spawn<T: Send + 'static>(
        &self,
        request: &Request,
        work: impl Future<Output = Result<T, FsError>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let caller = Caller { tid: request.pid() };
        let longest = self.fs.look().longest_request;
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

    /// The file system, and the caller as somebody who may wait for a session.
    fn with(&self, request: &Request) -> (Arc<FileSystem>, Asker) {
        let caller = Caller { tid: request.pid() };
        (Arc::clone(&self.fs), caller.asker())
    }
}

/// Turns an error into what the program hears, and tells the log what no errno can.
fn told(error: &FsError) -> Errno {
    let number = errno(error);
    match number {
        libc::ENOENT | libc::EINTR | libc::EROFS => {}
        libc::EIO | libc::ENETUNREACH | libc::ETIMEDOUT => tracing::warn!("{error}"),
        _ => tracing::debug!("{error}"),
    }
    Errno::from_i32(number)
}

fn attributes(fs: &FileSystem, inode: &Inode) -> FileAttr {
    let look = fs.look();
    let (kind, perm, size, time) = match &inode.kind {
        Kind::Directory => (FileType::Directory, look.dir_mode, 0, look.born),
        Kind::File(object) => (
            FileType::RegularFile,
            look.file_mode,
            object.size,
            object.modified,
        ),
    };
    FileAttr {
        ino: INodeNo(inode.number),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        // A directory's count of subdirectories is not known; 1 tells programs so.
        nlink: 1,
        uid: look.uid,
        gid: look.gid,
        rdev: 0,
        // One request of the kernel: what programs that honour it should read at once.
        blksize: REQUEST,
        flags: 0,
    }
}

impl Filesystem for Fuse {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_ASYNC_DIO,
        ];
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!("the kernel does not offer {flag:?}");
            }
        }
        let _ = config.set_max_write(REQUEST);
        if let Err(most) = config.set_max_readahead(REQUEST) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn destroy(&mut self) {
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, asker) = self.with(request);
        let name = name.to_owned();
        let ttl = self.fs.look().ttl;
        let work = async move {
            let inode = fs.lookup(&asker, parent.0, &name).await?;
            Ok(attributes(&fs, &inode))
        };
        self.spawn(request, work, move |result| match result {
            Ok(attr) => reply.entry_with_ttls(&ttl, &ttl.min(NAMES), &attr, GENERATION),
            Err(errno) => reply.error(errno),
        });
    }

    fn forget(&self, _request: &Request, inode: INodeNo, lookups: u64) {
        self.fs.forget(inode.0, lookups);
    }

    fn getattr(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let fs = Arc::clone(&self.fs);
        let ttl = fs.look().ttl;
        let work = async move {
            let inode = fs.attributes(inode.0).await?;
            Ok(attributes(&fs, &inode))
        };
        self.spawn(request, work, move |result| match result {
            Ok(attr) => reply.attr(&ttl, &attr),
            Err(errno) => reply.error(errno),
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & libc::O_TRUNC != 0 {
            return reply.error(told(&FsError::ReadOnly));
        }
        let (fs, asker) = self.with(request);
        let work = async move { fs.open(&asker, inode.0).await };
        self.spawn(request, work, move |result| match result {
            Ok((handle, pages)) => {
                let flags = match pages {
                    KernelPages::Keep => FopenFlags::FOPEN_KEEP_CACHE,
                    KernelPages::Fresh => FopenFlags::empty(),
                    KernelPages::Bypass => FopenFlags::FOPEN_DIRECT_IO,
                };
                reply.opened(FileHandle(handle), flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (fs, asker) = self.with(request);
        let bytes = offset..offset.saturating_add(u64::from(size));
        let reading = self.reads.begin(inode.0, bytes);
        // The reply is sent while the session is held alive, or not at all; and the read counts
        // as unanswered for exactly as long, or its pages would be forgotten by a lock.
        let reply = Arc::new(Mutex::new(Some((reply, reading))));
        let unanswered = Arc::clone(&reply);
        let work = async move {
            let serve = move |bytes: &[u8]| {
                if let Some((reply, _reading)) = reply.lock().take() {
                    reply.data(bytes);
                }
            };
            fs.read(&asker, handle.0, offset, u64::from(size), serve)
                .await
        };
        self.spawn(request, work, move |result| {
            let unanswered = unanswered.lock().take();
            if let (Err(errno), Some((reply, _reading))) = (result, unanswered) {
                reply.error(errno);
            }
        });
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.fs.release(handle.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn opendir(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (fs, asker) = self.with(request);
        // opendir(3) says O_DIRECTORY. Plain open(2) is df, which wants to know nothing of what
        // is in there and must not wait for a person.
        let for_reading = flags.0 & libc::O_DIRECTORY != 0;
        let work = async move { fs.open_directory(&asker, inode.0, for_reading).await };
        self.spawn(request, work, move |result| match result {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let (fs, asker) = self.with(request);
        let work = names(fs, asker, handle, offset);
        self.spawn(request, work, move |result| {
            let (fs, this, above, names) = match result {
                Ok(found) => found,
                Err(errno) => return reply.error(errno),
            };
            let fill = |reply: &mut ReplyDirectory| {
                for (place, number, name) in [(0, this, "."), (1, above, "..")] {
                    let kind = FileType::Directory;
                    if offset <= place && reply.add(INodeNo(number), place + 1, kind, name) {
                        return;
                    }
                }
                for Numbered { next, found } in &names {
                    let number = fs.number_of(this, found);
                    let kind = file_type(&found.kind);
                    if reply.add(INodeNo(number), next + DOTS, kind, &*found.name) {
                        return;
                    }
                }
            };
            fill(&mut reply);
            send_names(&fs, reply, ReplyDirectory::ok, ReplyDirectory::error);
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (fs, asker) = self.with(request);
        let work = names(fs, asker, handle, offset);
        self.spawn(request, work, move |result| {
            let (fs, this, above, names) = match result {
                Ok(found) => found,
                Err(errno) => return reply.error(errno),
            };
            let ttl = fs.look().ttl.min(NAMES);
            let mut counted = Vec::new();
            let fill = |reply: &mut ReplyDirectoryPlus| {
                let mut add = |number, next, name: &str, attr: &FileAttr| {
                    reply.add(INodeNo(number), next, name, &ttl, attr, GENERATION)
                };
                for (place, number, name) in [(0, this, "."), (1, above, "..")] {
                    // The kernel counts no lookups of these two.
                    if offset <= place
                        && let Ok(inode) = fs.inode(number)
                        && add(number, place + 1, name, &attributes(&fs, &inode))
                    {
                        return;
                    }
                }
                for Numbered { next, found } in names {
                    let inode = fs.take_in(this, found);
                    let name = inode.name.clone();
                    if add(inode.number, next + DOTS, &name, &attributes(&fs, &inode)) {
                        // It did not fit, so the kernel does not know of it.
                        fs.forget(inode.number, 1);
                        return;
                    }
                    counted.push(inode.number);
                }
            };
            fill(&mut reply);
            if !send_names(
                &fs,
                reply,
                ReplyDirectoryPlus::ok,
                ReplyDirectoryPlus::error,
            ) {
                counted.into_iter().for_each(|number| fs.forget(number, 1));
            }
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.fs.release_directory(handle.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        // A bucket has no end: a petabyte is free, in blocks of 4 KiB.
        const BLOCKS: u64 = (1 << 50) / 4096;
        const FILES: u64 = 1 << 40;
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, FILES, FILES, 4096, 255, 4096);
    }

    fn access(&self, _request: &Request, _inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        if mask.contains(AccessFlags::W_OK) {
            return reply.error(told(&FsError::ReadOnly));
        }
        reply.ok();
    }

    // "Not supported", each said once: the kernel remembers ENOSYS and asks no more.

    fn getxattr(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _request: &Request, _inode: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }
}

/// The names of an open directory from an offset on, with the numbers of `.` and `..`.
async fn names(
    fs: Arc<FileSystem>,
    asker: Asker,
    handle: FileHandle,
    offset: u64,
) -> Result<(Arc<FileSystem>, u64, u64, Vec<Numbered>), FsError> {
    let stream = fs.stream(handle.0)?;
    if offset == 0 {
        stream.begin();
    }
    let (this, above) = stream.numbers();
    let place = offset.saturating_sub(DOTS);
    let names = fs.names_from(&asker, &stream, place).await?;
    Ok((fs, this, above, names))
}

/// Sends names while a session lives, or says that there is none. Returns whether it sent them.
fn send_names<R>(fs: &FileSystem, reply: R, send: fn(R), refuse: fn(R, Errno)) -> bool {
    let mut reply = Some(reply);
    fs.while_live(|| reply.take().map(send));
    let Some(reply) = reply else {
        return true;
    };
    refuse(reply, told(&StoreError::Session(AuthError::Unasked).into()));
    false
}

/// How many places `.` and `..` take before the names.
const DOTS: u64 = 2;

fn file_type(kind: &Kind) -> FileType {
    if kind.is_directory() {
        FileType::Directory
    } else {
        FileType::RegularFile
    }
}
