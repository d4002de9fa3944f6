//! The filesystem under test, behind as much of a kernel as it takes: paths are looked up name
//! by name, lookups are counted, and what the kernel refuses by itself never gets through.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use super::answer::{Answer, Attributes, Content, Path, Told};
use super::ops::{Allocation, Flags, Setting};
use crate::auth::Asker;
use crate::error::errno;
use crate::fs::attributes::Change;
use crate::fs::create::Birth;
use crate::fs::inodes::{Inode, ROOT, Type};
use crate::fs::listing::Stream;
use crate::fs::{Caller, FileSystem, FsError, xattr};

/// The kernel itself.
const NOBODY: Caller = Caller { tid: 0 };

/// A mounted filesystem.
pub(super) struct Mount {
    pub(super) fs: Arc<FileSystem>,
    asker: Asker,
    /// How many lookups the kernel holds, by inode.
    lookups: HashMap<u64, u64>,
    umask: u32,
}

/// An open file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle {
    pub(super) number: u64,
    handle: u64,
    append: bool,
}

/// An open directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryHandle {
    pub(super) number: u64,
    handle: u64,
}

fn told<T>(result: Result<T, FsError>) -> Told<T> {
    result.map_err(|error| {
        if std::env::var_os("S3MFA_MODEL_DEBUG").is_some() {
            super::say(&format!("    {error:?}"));
        }
        errno(&error)
    })
}

fn done(result: Result<(), FsError>) -> Told<Answer> {
    told(result).map(|()| Answer::Done)
}

impl Mount {
    pub(super) fn new(fs: Arc<FileSystem>, umask: u32) -> Self {
        Self {
            fs,
            asker: Asker::person(),
            lookups: HashMap::new(),
            umask,
        }
    }

    fn birth(&self, mode: u32) -> Birth {
        Birth {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            mode: mode & !self.umask,
        }
    }

    fn count(&mut self, inode: Inode) -> Inode {
        *self.lookups.entry(inode.number).or_default() += 1;
        inode
    }

    async fn lookup(&mut self, parent: u64, name: &str) -> Told<Inode> {
        let inode = told(self.fs.lookup(&self.asker, parent, OsStr::new(name)).await)?;
        Ok(self.count(inode))
    }

    /// The inode of a path. Links lead nowhere.
    async fn resolve(&mut self, path: &[String]) -> Told<Inode> {
        let mut inode = told(self.fs.inode(ROOT))?;
        for name in path {
            match inode.kind.type_of() {
                Type::Directory => inode = self.lookup(inode.number, name).await?,
                Type::File => return Err(libc::ENOTDIR),
                Type::Symlink => return Err(libc::ENOENT),
            }
        }
        Ok(inode)
    }

    /// The directory that a path is in, and the name there.
    async fn parent<'a>(&mut self, path: &'a [String]) -> Told<(u64, &'a str)> {
        let (name, above) = path.split_last().unwrap();
        let inode = self.resolve(above).await?;
        match inode.kind.type_of() {
            Type::Directory => Ok((inode.number, name)),
            Type::File => Err(libc::ENOTDIR),
            Type::Symlink => Err(libc::ENOENT),
        }
    }

    /// What has a name, if anything.
    async fn find(&mut self, parent: u64, name: &str) -> Told<Option<Inode>> {
        match self.lookup(parent, name).await {
            Ok(inode) => Ok(Some(inode)),
            Err(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn free(&mut self, parent: u64, name: &str) -> Told<()> {
        match self.find(parent, name).await? {
            Some(_) => Err(libc::EEXIST),
            None => Ok(()),
        }
    }

    pub(super) async fn open(
        &mut self,
        path: &Path,
        create: Option<(u32, bool)>,
        flags: Flags,
    ) -> Told<Handle> {
        let (parent, name) = self.parent(path).await?;
        let found = self.find(parent, name).await?;
        let (number, handle) = match (found, create) {
            (Some(_), Some((_, true))) => return Err(libc::EEXIST),
            (Some(inode), _) => {
                let kind = inode.kind.type_of();
                if kind == Type::Symlink {
                    return Err(libc::ELOOP);
                }
                if kind == Type::Directory {
                    return Err(libc::EISDIR);
                }
                let (writes, truncate) = (flags.writes, flags.truncate);
                let opened = self
                    .fs
                    .open(&self.asker, NOBODY, inode.number, writes, truncate);
                (inode.number, told(opened.await)?.0)
            }
            (None, None) => return Err(libc::ENOENT),
            (None, Some((mode, exclusive))) => {
                let (birth, name) = (self.birth(mode), OsStr::new(name));
                let created = self
                    .fs
                    .create(&self.asker, NOBODY, parent, name, birth, exclusive);
                let (inode, handle) = told(created.await)?;
                (self.count(inode).number, handle)
            }
        };
        let append = flags.append;
        Ok(Handle {
            number,
            handle,
            append,
        })
    }

    pub(super) async fn make_node(&mut self, path: &Path, mode: u32) -> Told<Answer> {
        let (parent, name) = self.parent(path).await?;
        self.free(parent, name).await?;
        let (birth, name) = (self.birth(mode), OsStr::new(name));
        let created = self
            .fs
            .create(&self.asker, NOBODY, parent, name, birth, true);
        let (inode, handle) = told(created.await)?;
        self.count(inode);
        let stored = self.fs.flush(&self.asker, handle).await;
        self.fs.release(handle);
        done(stored)
    }

    pub(super) async fn read(&self, at: Handle, offset: u64, length: u64) -> Told<Content> {
        let serve = |bytes: &[u8]| Content(bytes.to_vec());
        told(
            self.fs
                .read(&self.asker, at.handle, offset, length, serve)
                .await,
        )
    }

    pub(super) async fn write(&self, at: Handle, offset: u64, bytes: Vec<u8>) -> Told<Answer> {
        let written = self
            .fs
            .write(&self.asker, NOBODY, at.handle, offset, bytes, at.append);
        Ok(Answer::Count(told(written.await)?.into()))
    }

    pub(super) async fn resize(&self, at: Handle, size: u64) -> Told<Answer> {
        let resized = self.fs.truncate(
            &self.asker,
            Caller { tid: 0 },
            at.number,
            Some(at.handle),
            size,
        );
        done(resized.await)
    }

    pub(super) async fn allocate(
        &self,
        at: Handle,
        kind: Allocation,
        range: Range<u64>,
    ) -> Told<Answer> {
        let mode = match kind {
            Allocation::Grow => 0,
            Allocation::Reserve => libc::FALLOC_FL_KEEP_SIZE,
            Allocation::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Allocation::Zero => libc::FALLOC_FL_ZERO_RANGE,
            Allocation::ZeroKeepingSize => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
        };
        done(self.fs.allocate(&self.asker, at.handle, range, mode).await)
    }

    /// What the server cannot copy, the kernel reads and writes.
    pub(super) async fn copy_range(
        &self,
        (from, from_offset): (Handle, u64),
        (to, to_offset): (Handle, u64),
        length: u64,
    ) -> Told<Answer> {
        let (source, target) = ((from.handle, from_offset), (to.handle, to_offset));
        let copied = self
            .fs
            .copy_range(&self.asker, source, target, length)
            .await;
        match told(copied) {
            Err(libc::ENOTSUP) => {
                let bytes = self.read(from, from_offset, length).await?;
                self.write(to, to_offset, bytes.0).await
            }
            copied => Ok(Answer::Count(copied?.into())),
        }
    }

    pub(super) async fn sync(&self, at: Handle) -> Told<Answer> {
        done(self.fs.sync(&self.asker, at.handle).await)
    }

    pub(super) async fn close(&self, at: Handle) -> Told<Answer> {
        let stored = self.fs.close(&self.asker, NOBODY, at.handle).await;
        self.fs.release(at.handle);
        done(stored)
    }

    pub(super) async fn stat_handle(&self, at: Handle) -> Told<Answer> {
        self.attributes(at.number).await
    }

    async fn change(&self, number: u64, change: Change) -> Told<Answer> {
        done(self.fs.set_attributes(&self.asker, number, change).await)
    }

    pub(super) async fn change_mode_of(&self, at: Handle, mode: u32) -> Told<Answer> {
        let change = Change {
            mode: Some(mode),
            ..Change::default()
        };
        self.change(at.number, change).await
    }

    pub(super) async fn truncate(&mut self, path: &Path, size: u64) -> Told<Answer> {
        let inode = self.resolve(path).await?;
        match inode.kind.type_of() {
            Type::Directory => Err(libc::EISDIR),
            Type::Symlink => Err(libc::ENOENT),
            Type::File => {
                let cut =
                    self.fs
                        .truncate(&self.asker, Caller { tid: 0 }, inode.number, None, size);
                done(cut.await)
            }
        }
    }

    pub(super) async fn unlink(&mut self, path: &Path) -> Told<Answer> {
        let (parent, name) = self.parent(path).await?;
        let inode = self.lookup(parent, name).await?;
        if inode.kind.is_directory() {
            return Err(libc::EISDIR);
        }
        done(self.fs.unlink(&self.asker, parent, OsStr::new(name)).await)
    }

    pub(super) async fn make_directory(&mut self, path: &Path, mode: u32) -> Told<Answer> {
        let (parent, name) = self.parent(path).await?;
        self.free(parent, name).await?;
        // The kernel lets no other bits through: vfs_mkdir() in fs/namei.c.
        let birth = self.birth(mode & 0o1777);
        let made = self
            .fs
            .make_directory(&self.asker, parent, OsStr::new(name), birth);
        let inode = told(made.await)?;
        self.count(inode);
        Ok(Answer::Done)
    }

    pub(super) async fn remove_directory(&mut self, path: &Path) -> Told<Answer> {
        let (parent, name) = self.parent(path).await?;
        let inode = self.lookup(parent, name).await?;
        if !inode.kind.is_directory() {
            return Err(libc::ENOTDIR);
        }
        done(
            self.fs
                .remove_directory(&self.asker, parent, OsStr::new(name))
                .await,
        )
    }

    /// Neither path is the other, nor below it: that the kernel finds out by itself.
    pub(super) async fn rename(&mut self, from: &Path, to: &Path, keep: bool) -> Told<Answer> {
        let (parent, name) = self.parent(from).await?;
        let (new_parent, new_name) = self.parent(to).await?;
        self.lookup(parent, name).await?;
        self.find(new_parent, new_name).await?;
        let from = (parent, OsStr::new(name));
        let to = (new_parent, OsStr::new(new_name));
        done(self.fs.rename(&self.asker, from, to, keep).await)
    }

    pub(super) async fn symlink(&mut self, path: &Path, target: &str) -> Told<Answer> {
        let (parent, name) = self.parent(path).await?;
        self.free(parent, name).await?;
        let (birth, name) = (self.birth(0o777), OsStr::new(name));
        let made = self
            .fs
            .make_symlink(&self.asker, parent, name, target, birth);
        let inode = told(made.await)?;
        self.count(inode);
        Ok(Answer::Done)
    }

    pub(super) async fn read_link(&mut self, path: &Path) -> Told<Answer> {
        let inode = self.resolve(path).await?;
        match inode.kind.type_of() {
            Type::Symlink => self.target(inode.number).await,
            Type::Directory | Type::File => Err(libc::EINVAL),
        }
    }

    pub(super) async fn target(&self, number: u64) -> Told<Answer> {
        let target = told(self.fs.read_link(&self.asker, number).await)?;
        Ok(Answer::Texts(vec![String::from_utf8(target).unwrap()]))
    }

    /// The number of a name.
    pub(super) async fn number(&mut self, path: &Path) -> Told<u64> {
        Ok(self.resolve(path).await?.number)
    }

    pub(super) async fn stat(&mut self, path: &Path) -> Told<Answer> {
        let number = self.number(path).await?;
        self.attributes(number).await
    }

    pub(super) async fn attributes(&self, number: u64) -> Told<Answer> {
        let inode = told(self.fs.attributes(number).await)?;
        let known = self.fs.attributes_of(&inode);
        let kind = inode.kind.type_of();
        let is_directory = kind == Type::Directory;
        Ok(Answer::Attributes(Attributes {
            kind,
            size: (!is_directory).then_some(known.size),
            mode: known.mode & 0o7777,
            owner: (known.uid, known.gid),
            links: (!is_directory).then_some(known.links.into()),
            modified: known.mtime.into(),
        }))
    }

    pub(super) async fn change_mode(&mut self, path: &Path, mode: u32) -> Told<Answer> {
        let inode = self.resolve(path).await?;
        if inode.kind.type_of() == Type::Symlink {
            return Err(libc::ENOENT);
        }
        let change = Change {
            mode: Some(mode),
            ..Change::default()
        };
        self.change(inode.number, change).await
    }

    pub(super) async fn set_times(&mut self, path: &Path, time: SystemTime) -> Told<Answer> {
        let inode = self.resolve(path).await?;
        let change = Change {
            atime: Some(time),
            mtime: Some(time),
            ..Change::default()
        };
        self.change(inode.number, change).await
    }

    pub(super) async fn set_xattr(
        &mut self,
        path: &Path,
        name: &str,
        value: &[u8],
        how: Setting,
    ) -> Told<Answer> {
        let number = self.number(path).await?;
        let how = match how {
            Setting::Either => xattr::Mode::Either,
            Setting::Create => xattr::Mode::Create,
            Setting::Replace => xattr::Mode::Replace,
        };
        done(
            self.fs
                .set_xattr(&self.asker, number, name, value, how)
                .await,
        )
    }

    pub(super) async fn xattr(&mut self, path: &Path, name: &str) -> Told<Answer> {
        let number = self.number(path).await?;
        self.xattr_of(number, name).await
    }

    pub(super) async fn xattr_of(&self, number: u64, name: &str) -> Told<Answer> {
        let value = told(self.fs.xattr(&self.asker, number, name).await)?;
        Ok(Answer::Bytes(Content(value)))
    }

    pub(super) async fn remove_xattr(&mut self, path: &Path, name: &str) -> Told<Answer> {
        let number = self.number(path).await?;
        done(self.fs.remove_xattr(&self.asker, number, name).await)
    }

    /// Without those that S3 tells by itself.
    pub(super) async fn list_xattrs(&mut self, path: &Path) -> Told<Answer> {
        let number = self.number(path).await?;
        let mut names = told(self.fs.xattrs(&self.asker, number).await)?;
        names.retain(|name| !name.starts_with("user.s3."));
        names.sort();
        Ok(Answer::Texts(names))
    }

    pub(super) async fn open_directory(&mut self, path: &Path) -> Told<DirectoryHandle> {
        let inode = self.resolve(path).await?;
        match inode.kind.type_of() {
            Type::Directory => self.open_number(inode.number).await,
            Type::File | Type::Symlink => Err(libc::ENOTDIR),
        }
    }

    async fn open_number(&self, number: u64) -> Told<DirectoryHandle> {
        let handle = told(self.fs.open_directory(&self.asker, number, true).await)?;
        Ok(DirectoryHandle { number, handle })
    }

    /// The names from the beginning.
    pub(super) async fn list_open(&mut self, at: DirectoryHandle) -> Told<Vec<(String, Type)>> {
        let entries = self.entries(at).await?;
        let names = entries
            .into_iter()
            .map(|(name, inode)| (name, inode.kind.type_of()));
        Ok(names.collect())
    }

    /// The names from the beginning, sorted, as readdirplus tells them.
    async fn entries(&mut self, at: DirectoryHandle) -> Told<Vec<(String, Inode)>> {
        let stream: Arc<Stream> = told(self.fs.stream(at.handle))?;
        stream.begin();
        let mut entries = Vec::new();
        let mut place = 0;
        loop {
            let page = told(self.fs.names_from(&self.asker, &stream, place).await)?;
            let Some(last) = page.last() else {
                break;
            };
            place = last.next;
            for numbered in page {
                let name = numbered.found.name.to_string();
                let inode = self.fs.take_in(at.number, numbered.found);
                entries.push((name, self.count(inode)));
            }
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// All names, sorted, directories before what is in them.
    pub(super) async fn tree(&mut self) -> Told<Vec<(Path, Inode)>> {
        let mut found = Vec::new();
        let mut left = vec![(Path::new(), ROOT)];
        while let Some((path, number)) = left.pop() {
            let directory = self.open_number(number).await?;
            let entries = self.entries(directory).await;
            self.close_directory(directory);
            for (name, inode) in entries? {
                let mut path = path.clone();
                path.push(name);
                if inode.kind.is_directory() {
                    left.push((path.clone(), inode.number));
                }
                found.push((path, inode));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// As somebody does who reads a directory as soon as it is open. Who reads it later begins
    /// anew, by rewinddir(3): otherwise nobody promises what is to be seen.
    pub(super) fn begin(&self, at: DirectoryHandle) {
        self.fs.stream(at.handle).unwrap().begin();
    }

    pub(super) fn close_directory(&self, at: DirectoryHandle) {
        self.fs.release_directory(at.handle);
    }

    pub(super) async fn list(&mut self, path: &Path) -> Told<Answer> {
        let directory = self.open_directory(path).await?;
        let names = self.list_open(directory).await;
        self.close_directory(directory);
        names.map(Answer::Names)
    }

    /// All of a file.
    pub(super) async fn content(&mut self, number: u64) -> Told<Content> {
        let opened = self.fs.open(&self.asker, NOBODY, number, false, false);
        let handle = Handle {
            number,
            handle: told(opened.await)?.0,
            append: false,
        };
        let content = self.read_all(handle).await;
        self.close(handle).await?;
        content
    }

    /// Everything, in requests as the kernel sends them.
    async fn read_all(&self, at: Handle) -> Told<Content> {
        const REQUEST: u64 = 1 << 20;
        let mut all = Vec::new();
        loop {
            let part = self.read(at, all.len() as u64, REQUEST).await?;
            if part.0.is_empty() {
                return Ok(Content(all));
            }
            all.extend(part.0);
        }
    }

    /// Forgets all inodes but those that are open, and the directories above them.
    pub(super) fn forget(&mut self, open: impl Iterator<Item = u64>) {
        let mut needed = HashSet::new();
        for mut number in open {
            while needed.insert(number)
                && let Ok(inode) = self.fs.inode(number)
            {
                number = inode.parent;
            }
        }
        let depth = |mut number: u64| {
            let mut depth = 0;
            while number != ROOT
                && let Ok(inode) = self.fs.inode(number)
                && depth < 100
            {
                number = inode.parent;
                depth += 1;
            }
            depth
        };
        let mut gone: Vec<(usize, u64)> = self
            .lookups
            .keys()
            .filter(|number| !needed.contains(number))
            .map(|number| (depth(*number), *number))
            .collect();
        // A name is forgotten before the directory that it is in.
        gone.sort_unstable_by(|a, b| b.cmp(a));
        for (_, number) in gone {
            if let Some(lookups) = self.lookups.remove(&number) {
                self.fs.forget(number, lookups);
            }
        }
    }
}
