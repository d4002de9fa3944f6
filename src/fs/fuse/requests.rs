//! One function for each kind of request of the kernel.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem, FopenFlags, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode,
    OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek,
    ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use super::directory::{DOTS, names, send_content, send_names};
use super::locking::Asked;
use super::times::moment;
use super::{
    Action, BACKGROUND, Fuse, GENERATION, NAMES, REQUEST, Unheard, attributes, file_type, told,
};
use crate::auth::Asker;
use crate::fs::attributes::Change;
use crate::fs::create::Birth;
use crate::fs::file::KernelPages;
use crate::fs::inodes::Inode;
use crate::fs::listing::Numbered;
use crate::fs::{Caller, FsError, xattr};
use crate::store::StoreError;

impl Filesystem for Fuse {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            // An inode that the kernel has forgotten is not found again by its number, so handles
            // (name_to_handle_at(2), NFS) are refused when they are asked for. Before Linux 6.9
            // they are given, and stale one day.
            InitFlags::FUSE_NO_EXPORT_SUPPORT,
            // Locks are asked for here, because they hold among mounts.
            InitFlags::FUSE_POSIX_LOCKS,
            InitFlags::FUSE_FLOCK_LOCKS,
        ];
        // Not FUSE_ASYNC_DIO: with it the kernel (seen: 6.18) leaves pages that readers bring in
        // while a kernel AIO write on an O_DIRECT descriptor is under way, and goes on giving
        // their old bytes when that is done.
        // Not FUSE_ATOMIC_O_TRUNC: with it the kernel has a file truncated before it looks whether
        // the file is being executed (`do_open` in fs/namei.c of Linux).
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
        let (name, user) = (name.to_owned(), request.uid());
        let work = async move {
            let inode = fs.lookup_for(&asker, user, parent.0, &name).await?;
            let belief = fs.belief();
            let shown = fs.shown_for(&inode).min(belief);
            Ok((attributes(&fs, &inode), shown, belief.min(NAMES)))
        };
        self.spawn(request, work, move |result| match result {
            Ok((attr, ttl, names)) => reply.entry_with_ttls(&ttl, &names, &attr, GENERATION),
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
        let work = async move {
            let inode = fs.attributes(inode.0).await?;
            Ok((attributes(&fs, &inode), fs.belief()))
        };
        self.spawn(request, work, move |result| match result {
            Ok((attr, ttl)) => reply.attr(&ttl, &attr),
            Err(errno) => reply.error(errno),
        });
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        let (fs, asker) = self.with(request);
        let work = async move {
            let target = fs.read_link(&asker, inode.0).await?;
            Ok((fs, target))
        };
        self.spawn(request, work, move |result| match result {
            Ok((fs, target)) => {
                let send = |reply: ReplyData| reply.data(&target);
                send_content(&fs, reply, send, ReplyData::error);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (fs, asker) = self.with(request);
        let caller = caller(request);
        let ttl = fs.look().ttl;
        let change = Change {
            mode,
            uid,
            gid,
            atime: atime.map(moment),
            mtime: mtime.map(moment),
        };
        let work = async move {
            if let Some(size) = size {
                let handle = handle.map(|handle| handle.0);
                fs.truncate(&asker, caller, inode.0, handle, size).await?;
            }
            fs.set_attributes(&asker, inode.0, change).await?;
            Ok(attributes(&fs, &fs.inode(inode.0)?))
        };
        self.change(request, work, move |result| match result {
            Ok(attr) => reply.attr(&ttl, &attr),
            Err(errno) => reply.error(errno),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            // Devices, pipes and sockets are nothing that an object could be.
            return reply.error(Errno::EPERM);
        }
        let (fs, asker) = self.with(request);
        let caller = caller(request);
        let (name, birth) = (name.to_owned(), birth(request, mode));
        let work = async move {
            let (inode, handle) = fs
                .create(&asker, caller, parent.0, &name, birth, true)
                .await?;
            let stored = fs.flush(&asker, handle).await;
            fs.release(handle);
            stored?;
            Ok(attributes(&fs, &fs.inode(inode.number)?))
        };
        self.change(request, work, self.entry(reply));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (fs, asker) = self.with(request);
        let (name, birth) = (name.to_owned(), birth(request, mode));
        let work = async move {
            let inode = fs.make_directory(&asker, parent.0, &name, birth).await?;
            Ok(attributes(&fs, &inode))
        };
        self.change(request, work, self.entry(reply));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (fs, asker) = self.with(request);
        let (name, birth) = (name.to_owned(), birth(request, 0o777));
        let target = target.to_owned();
        let work = async move {
            let target = target.to_str().ok_or(FsError::NotText)?;
            let inode = fs
                .make_symlink(&asker, parent.0, &name, target, birth)
                .await?;
            Ok(attributes(&fs, &inode))
        };
        self.change(request, work, self.entry(reply));
    }

    fn link(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _parent: INodeNo,
        _name: &OsStr,
        reply: ReplyEntry,
    ) {
        // An object has one key.
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, asker) = self.with(request);
        let name = name.to_owned();
        let work = async move { fs.unlink(&asker, parent.0, &name).await };
        self.change(request, work, empty(reply));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, asker) = self.with(request);
        let name = name.to_owned();
        let work = async move { fs.remove_directory(&asker, parent.0, &name).await };
        self.change(request, work, empty(reply));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let keep_target = flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            // Two keys cannot be exchanged in one step, as renameat2(2) promises.
            return reply.error(Errno::EINVAL);
        }
        let (fs, asker) = self.with(request);
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        let work = async move {
            let (from, to) = ((parent.0, &*name), (new_parent.0, &*new_name));
            fs.rename(&asker, from, to, keep_target).await
        };
        self.change(request, work, empty(reply));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (fs, asker) = self.with(request);
        let caller = caller(request);
        let (name, birth) = (name.to_owned(), birth(request, mode));
        let exclusive = flags & libc::O_EXCL != 0;
        let ttl = fs.look().ttl;
        let work = async move {
            let (inode, handle) = fs
                .create(&asker, caller, parent.0, &name, birth, exclusive)
                .await?;
            let attr = attributes(&fs, &inode);
            Ok((attr, Unheard::new(fs, inode.number, handle)))
        };
        self.change(request, work, move |result| match result {
            Ok((attr, unheard)) => {
                let (handle, flags) = (FileHandle(unheard.hear()), FopenFlags::empty());
                reply.created(&ttl.min(NAMES), &attr, GENERATION, handle, flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let truncate = flags.0 & libc::O_TRUNC != 0;
        if (writes || truncate) && self.fs.look().read_only {
            return reply.error(told(&FsError::ReadOnly));
        }
        let (fs, asker) = self.with(request);
        let caller = caller(request);
        let unanswered = Arc::clone(&self.unanswered);
        let user = request.uid();
        let work = async move {
            let seen = fs.let_in_as(user, inode.0)?;
            let opened = fs.open(&asker, caller, inode.0, writes, truncate).await?;
            if fs.let_in_as(user, inode.0)? != seen {
                // Whoever was let in by other attributes has to be looked at again.
                fs.release(opened.0);
                return Err(StoreError::Changed.into());
            }
            Ok(opened)
        };
        self.spawn(request, work, move |result| match result {
            Ok((handle, pages)) => {
                let flags = match pages {
                    KernelPages::Keep => FopenFlags::FOPEN_KEEP_CACHE,
                    KernelPages::Fresh => FopenFlags::empty(),
                    KernelPages::Bypass => FopenFlags::FOPEN_DIRECT_IO,
                };
                if pages == KernelPages::Bypass {
                    unanswered.opened_direct(handle);
                }
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
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (fs, asker) = self.with(request);
        let bytes = offset..offset.saturating_add(u64::from(size));
        let unanswered = &self.unanswered;
        let reading = unanswered.begin(Action::Read, inode.0, handle.0, flags.0, bytes);
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

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (fs, asker) = self.with(request);
        let caller = caller(request);
        let data = data.to_vec();
        // What comes from a mapping knows its place; the kernel may have taken any handle.
        let is_mapped = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let at_end = flags.0 & libc::O_APPEND != 0 && !is_mapped;
        let bytes = offset..offset.saturating_add(data.len() as u64);
        let unanswered = &self.unanswered;
        let writing = unanswered.begin(Action::Write, inode.0, handle.0, flags.0, bytes);
        let served = Arc::clone(&fs);
        let work = async move {
            fs.write(&asker, caller, handle.0, offset, data, at_end)
                .await
        };
        self.change(request, work, move |result| {
            match result {
                Ok(written) => reply.written(written),
                Err(errno) => reply.error(errno),
            }
            // The kernel has the bytes now, whether anybody may see them or not.
            let may_stay = served.while_served(&mut || ()).is_some();
            if let Some(writing) = writing.filter(|_| !may_stay) {
                writing.have_taken_back();
            }
        });
    }

    fn flush(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let (fs, asker) = self.with(request);
        let caller = caller(request);
        let closing = self.until_closed(inode, owner);
        let work = async move {
            // Who gets the lock next finds what was written.
            let _closing = closing;
            fs.close(&asker, caller, handle.0).await
        };
        self.store(request, work, empty(reply));
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
        // What was not stored, or stays only for this handle, is seen to by a task.
        let _runtime = self.runtime.enter();
        self.unanswered.released(handle.0);
        self.fs.release(handle.0);
        self.fs.locks().close(handle.0);
        reply.ok();
    }

    fn fsync(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let (fs, asker) = self.with(request);
        let work = async move { fs.sync(&asker, handle.0).await };
        self.store(request, work, empty(reply));
    }

    fn fallocate(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (fs, asker) = self.with(request);
        let work = async move {
            let range = offset..offset.saturating_add(length);
            fs.allocate(&asker, handle.0, range, mode).await
        };
        self.change(request, work, empty(reply));
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _inode_in: INodeNo,
        from: FileHandle,
        offset_in: u64,
        _inode_out: INodeNo,
        to: FileHandle,
        offset_out: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (fs, asker) = self.with(request);
        let work = async move {
            let (from, to) = ((from.0, offset_in), (to.0, offset_out));
            fs.copy_range(&asker, from, to, length).await
        };
        self.change(request, work, move |result| match result {
            Ok(copied) => reply.written(copied),
            Err(errno) => reply.error(errno),
        });
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
        let user = request.uid();
        self.spawn(request, work, move |result| {
            let (fs, this, above, names) = match result {
                Ok(found) => found,
                Err(errno) => return reply.error(errno),
            };
            let mut counted = Vec::new();
            let fill = |reply: &mut ReplyDirectoryPlus| {
                let mut add = |inode: &Inode, next, name: &str| {
                    let ttl = fs.listed_for(user, inode).min(NAMES);
                    let attr = attributes(&fs, inode);
                    reply.add(attr.ino, next, name, &ttl, &attr, GENERATION)
                };
                for (place, number, name) in [(0, this, "."), (1, above, "..")] {
                    // The kernel counts no lookups of these two.
                    if offset <= place
                        && let Ok(inode) = fs.inode(number)
                        && add(&inode, place + 1, name)
                    {
                        return;
                    }
                }
                for Numbered { next, found } in names {
                    let inode = fs.take_in(this, found);
                    let name = inode.name.clone();
                    if add(&inode, next + DOTS, &name) {
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
        if mask.contains(AccessFlags::W_OK) && self.fs.look().read_only {
            return reply.error(told(&FsError::ReadOnly));
        }
        reply.ok();
    }

    fn getxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        // The kernel asks for security.capability before each write.
        let Some(name) = name.to_str().filter(|name| name.starts_with("user.")) else {
            return reply.error(Errno::ENODATA);
        };
        let (fs, name) = (Arc::clone(&self.fs), name.to_owned());
        let work = async move {
            let value = fs.xattr(&Asker::nobody(), inode.0, &name).await?;
            Ok((fs, value))
        };
        self.spawn(request, work, move |result| match result {
            Ok((fs, value)) => {
                let send = |reply| send_xattr(reply, size, &value);
                send_content(&fs, reply, send, ReplyXattr::error);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn listxattr(&self, request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let fs = Arc::clone(&self.fs);
        let work = async move {
            let names = fs.xattrs(&Asker::nobody(), inode.0).await?;
            Ok((fs, names))
        };
        self.spawn(request, work, move |result| match result {
            // The bucket itself has none, which is no secret.
            Ok((_, names)) if names.is_empty() => send_xattr(reply, size, &[]),
            Ok((fs, names)) => {
                let names: String = names.iter().flat_map(|name| [name, "\0"]).collect();
                let send = |reply| send_xattr(reply, size, names.as_bytes());
                send_content(&fs, reply, send, ReplyXattr::error);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (fs, asker) = self.with(request);
        let (name, value) = (name.to_owned(), value.to_owned());
        let mode = match flags {
            libc::XATTR_CREATE => xattr::Mode::Create,
            libc::XATTR_REPLACE => xattr::Mode::Replace,
            _ => xattr::Mode::Either,
        };
        let work = async move {
            let name = name.to_str().ok_or(FsError::Unsupported)?;
            fs.set_xattr(&asker, inode.0, name, &value, mode).await
        };
        self.change(request, work, empty(reply));
    }

    fn removexattr(&self, request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, asker) = self.with(request);
        let name = name.to_owned();
        let work = async move {
            let name = name.to_str().ok_or(FsError::NoData)?;
            fs.remove_xattr(&asker, inode.0, name).await
        };
        self.change(request, work, empty(reply));
    }

    fn getlk(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        first: u64,
        last: u64,
        mode: i32,
        process: u32,
        reply: ReplyLock,
    ) {
        let asked = Asked {
            inode,
            handle,
            owner,
            first,
            last,
            mode,
            process,
        };
        self.get_lock(request, &asked, reply);
    }

    fn setlk(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        first: u64,
        last: u64,
        mode: i32,
        process: u32,
        wait: bool,
        reply: ReplyEmpty,
    ) {
        let asked = Asked {
            inode,
            handle,
            owner,
            first,
            last,
            mode,
            process,
        };
        self.set_lock(request, &asked, wait, reply);
    }

    // "Not supported", each said once: the kernel remembers ENOSYS and asks no more.

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

fn caller(request: &Request) -> Caller {
    Caller { tid: request.pid() }
}

/// Whose something new is.
fn birth(request: &Request, mode: u32) -> Birth {
    Birth {
        uid: request.uid(),
        gid: request.gid(),
        mode,
    }
}

fn empty(reply: ReplyEmpty) -> impl FnOnce(Result<(), Errno>) + Send + 'static {
    move |result| match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers as getxattr(2) wants it: with a size of 0, only how long the value is.
fn send_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    match size {
        0 => reply.size(length),
        size if size < length => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

impl Fuse {
    /// Answers with a name that the kernel counts as looked up.
    fn entry(
        &self,
        reply: ReplyEntry,
    ) -> impl FnOnce(Result<FileAttr, Errno>) + Send + 'static + use<> {
        let ttl = self.fs.look().ttl;
        move |result| match result {
            Ok(attr) => reply.entry_with_ttls(&ttl, &ttl.min(NAMES), &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }
}
