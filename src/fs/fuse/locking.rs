//! The kernel's requests for locks.

use std::sync::Arc;
use std::time::Duration;

use fuser::{FileHandle, INodeNo, LockOwner, ReplyEmpty, ReplyLock, Request};

use super::{Fuse, told};
use crate::fs::locks::{Kind, Lock, Mode, Owner};
use crate::fs::{Caller, FileSystem, FsError};

/// How long somebody may wait of whom it cannot be seen whether a signal has come, and who could not be
/// ended: a program in another pid namespace, or of another user where `hidepid` hides those.
const UNSEEN: Duration = Duration::from_secs(60);

/// A request for a lock, as fuser hands it on.
pub(super) struct Asked {
    pub(super) inode: INodeNo,
    pub(super) handle: FileHandle,
    pub(super) owner: LockOwner,
    pub(super) first: u64,
    pub(super) last: u64,
    /// `l_type` of fcntl_locking(2).
    pub(super) mode: i32,
    pub(super) process: u32,
}

impl Asked {
    fn lock(&self) -> Result<Lock, FsError> {
        Ok(Lock {
            first: self.first,
            last: self.last,
            mode: Mode::of(self.mode).ok_or(FsError::Invalid)?,
        })
    }

    fn owner(&self) -> Owner {
        Owner {
            id: self.owner.0,
            handle: self.handle.0,
            process: self.process,
        }
    }

    /// flock(2)'s or fcntl(2)'s. Should that not be told, the two conflict, as they do on NFS.
    fn kind(&self, request: &Request) -> Kind {
        let words = [self.handle.0, self.owner.0, self.first, self.last];
        match crate::sys::is_flock(request, words) {
            Some(true) => Kind::Flock,
            Some(false) | None => Kind::Posix,
        }
    }
}

impl Fuse {
    pub(super) fn get_lock(&self, request: &Request, asked: &Asked, reply: ReplyLock) {
        let (inode, owner) = (asked.inode.0, asked.owner());
        let key = self.fs.key(inode).ok();
        let found = asked.lock().and_then(|lock| {
            let locks = self.fs.locks();
            locks.in_the_way(inode, asked.kind(request), key.as_deref(), owner, lock)
        });
        match found {
            Ok(Some((lock, process))) => {
                reply.locked(lock.first, lock.last, lock.mode.number(), process);
            }
            Ok(None) => reply.locked(0, 0, libc::F_UNLCK, 0),
            Err(error) => reply.error(told(&error)),
        }
    }

    /// Answers when the lock is had, or cannot be. The answer "interrupted" has the kernel deliver
    /// the signal, and mostly ask again (`ERESTARTSYS` of fs/fuse/file.c in Linux).
    pub(super) fn set_lock(&self, request: &Request, asked: &Asked, wait: bool, reply: ReplyEmpty) {
        let lock = match asked.lock() {
            Ok(lock) => lock,
            Err(error) => return reply.error(told(&error)),
        };
        let (inode, kind, owner) = (asked.inode.0, asked.kind(request), asked.owner());
        let caller = Caller { tid: request.pid() };
        let fs = Arc::clone(&self.fs);
        let longest = self.fs.look().longest_store;
        self.runtime.spawn(async move {
            let key = fs.key(inode).ok();
            let locks = fs.locks();
            let unseen = match caller.is_seen() {
                true => Duration::MAX,
                false => UNSEEN,
            };
            let result = tokio::select! {
                // A lock that was had is told, whatever else has come.
                biased;
                result = locks.set(inode, kind, key.as_deref(), owner, lock, wait) => result,
                () = caller.signalled() => Err(FsError::Interrupted),
                () = tokio::time::sleep(unseen) => Err(FsError::NoLocks(
                    "a program that cannot be looked at has waited long enough".to_owned(),
                )),
                () = tokio::time::sleep(longest) => Err(FsError::TookTooLong),
            };
            match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(told(&error)),
            }
        });
    }

    /// What a program has locked in a file lasts until this is dropped: it closes the file.
    pub(super) fn until_closed(&self, inode: INodeNo, owner: LockOwner) -> Closing {
        Closing {
            fs: Arc::clone(&self.fs),
            inode: inode.0,
            owner: owner.0,
        }
    }
}

/// A file that is being closed by somebody who may have locks there.
pub(super) struct Closing {
    fs: Arc<FileSystem>,
    inode: u64,
    owner: u64,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.fs.locks().closed_by(self.inode, self.owner);
    }
}
