//! The model: a directory of this machine, through its own system calls.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink,
};
use std::path::PathBuf;
use std::time::SystemTime;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::answer::{Answer, Attributes, Content, Path, Told};
use super::ops::{Allocation, Flags, Setting};
use crate::fs::inodes::Type;

/// Extended attributes of one file.
pub(super) type Xattrs = BTreeMap<String, Vec<u8>>;

/// A directory, and what not every filesystem of this machine can.
pub(super) struct Local {
    root: tempfile::TempDir,
    /// Extended attributes by inode: older ones of `tmpfs` have none.
    xattrs: HashMap<u64, Xattrs>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct LocalFile {
    pub(super) file: File,
    pub(super) inode: u64,
}

/// One name of the tree.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) path: Path,
    pub(super) kind: Type,
    pub(super) inode: u64,
}

fn errno(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn number(error: nix::errno::Errno) -> i32 {
    error as i32
}

fn kind_of(metadata: &std::fs::Metadata) -> Type {
    let kind = metadata.file_type();
    if kind.is_dir() {
        Type::Directory
    } else if kind.is_symlink() {
        Type::Symlink
    } else {
        Type::File
    }
}

fn attributes(metadata: &std::fs::Metadata) -> Attributes {
    let kind = kind_of(metadata);
    let is_directory = kind == Type::Directory;
    Attributes {
        kind,
        size: (!is_directory).then_some(metadata.len()),
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        links: (!is_directory).then_some(metadata.nlink()),
        modified: metadata.modified().unwrap().into(),
    }
}

impl Local {
    pub(super) fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            xattrs: HashMap::new(),
        }
    }

    fn at(&self, path: &Path) -> PathBuf {
        path.iter()
            .fold(self.root.path().to_owned(), |all, name| all.join(name))
    }

    /// All names, sorted, directories before what is in them.
    pub(super) fn tree(&self) -> Vec<Name> {
        let mut found = Vec::new();
        self.below(&Path::new(), &mut found);
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    fn below(&self, path: &Path, found: &mut Vec<Name>) {
        for entry in std::fs::read_dir(self.at(path)).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let mut path = path.clone();
            path.push(entry.file_name().into_string().unwrap());
            let kind = kind_of(&metadata);
            if kind == Type::Directory {
                self.below(&path, found);
            }
            found.push(Name {
                path,
                kind,
                inode: metadata.ino(),
            });
        }
    }

    pub(super) fn open(
        &mut self,
        path: &Path,
        create: Option<(u32, bool)>,
        flags: Flags,
    ) -> Told<LocalFile> {
        let mut options = OpenOptions::new();
        options.read(flags.reads).custom_flags(libc::O_NOFOLLOW);
        options
            .write(flags.writes && !flags.append)
            .append(flags.append);
        if flags.truncate {
            options.custom_flags(libc::O_NOFOLLOW | libc::O_TRUNC);
        }
        let before = std::fs::symlink_metadata(self.at(path))
            .map(|found| found.ino())
            .ok();
        if let Some((mode, exclusive)) = create {
            // The library wants writing for O_CREAT, which open(2) does not.
            let truncate = if flags.truncate { libc::O_TRUNC } else { 0 };
            let exclusive = if exclusive { libc::O_EXCL } else { 0 };
            let all = libc::O_NOFOLLOW | libc::O_CREAT | truncate | exclusive;
            options.mode(mode).custom_flags(all);
        }
        let file = options.open(self.at(path)).map_err(errno)?;
        let metadata = file.metadata().map_err(errno)?;
        if metadata.is_dir() {
            return Err(libc::EISDIR);
        }
        let inode = metadata.ino();
        if before.is_none() {
            self.xattrs.remove(&inode);
        }
        Ok(LocalFile { file, inode })
    }

    pub(super) fn make_node(&mut self, path: &Path, mode: u32) -> Told<Answer> {
        let flags = Flags {
            reads: false,
            writes: true,
            truncate: false,
            append: false,
        };
        self.open(path, Some((mode, true)), flags)?;
        Ok(Answer::Done)
    }

    pub(super) fn read(file: &LocalFile, offset: u64, length: u64) -> Told<Content> {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        let mut done = 0;
        while done < bytes.len() {
            let read = file.file.read_at(&mut bytes[done..], offset + done as u64);
            match read.map_err(errno)? {
                0 => break,
                read => done += read,
            }
        }
        bytes.truncate(done);
        Ok(Content(bytes))
    }

    pub(super) fn write(file: &LocalFile, offset: u64, bytes: &[u8]) -> Told<Answer> {
        file.file.write_all_at(bytes, offset).map_err(errno)?;
        Ok(Answer::Count(bytes.len() as u64))
    }

    pub(super) fn resize(file: &LocalFile, size: u64) -> Told<Answer> {
        file.file.set_len(size).map_err(errno)?;
        Ok(Answer::Done)
    }

    /// By plain writes, as not every filesystem knows every kind.
    pub(super) fn allocate(file: &LocalFile, kind: Allocation, range: Range<u64>) -> Told<Answer> {
        let size = file.file.metadata().map_err(errno)?.len();
        let zeroes = matches!(
            kind,
            Allocation::Punch | Allocation::Zero | Allocation::ZeroKeepingSize
        );
        let within = range.start.min(size)..range.end.min(size);
        if zeroes && !within.is_empty() {
            // Through a descriptor that may append, all writes append.
            let path = format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&file.file)
            );
            let file = OpenOptions::new().write(true).open(path).map_err(errno)?;
            let zeros = vec![0; usize::try_from(within.end - within.start).unwrap()];
            file.write_all_at(&zeros, within.start).map_err(errno)?;
        }
        if matches!(kind, Allocation::Grow | Allocation::Zero) && range.end > size {
            file.file.set_len(range.end).map_err(errno)?;
        }
        Ok(Answer::Done)
    }

    pub(super) fn stat_file(file: &LocalFile) -> Told<Answer> {
        let metadata = file.file.metadata().map_err(errno)?;
        Ok(Answer::Attributes(attributes(&metadata)))
    }

    pub(super) fn change_mode_of(file: &LocalFile, mode: u32) -> Told<Answer> {
        let mode = std::fs::Permissions::from_mode(mode);
        file.file.set_permissions(mode).map_err(errno)?;
        Ok(Answer::Done)
    }

    pub(super) fn truncate(&self, path: &Path, size: u64) -> Told<Answer> {
        nix::unistd::truncate(&self.at(path), i64::try_from(size).unwrap()).map_err(number)?;
        Ok(Answer::Done)
    }

    pub(super) fn unlink(&self, path: &Path) -> Told<Answer> {
        std::fs::remove_file(self.at(path)).map_err(errno)?;
        Ok(Answer::Done)
    }

    pub(super) fn make_directory(&mut self, path: &Path, mode: u32) -> Told<Answer> {
        let at = self.at(path);
        std::fs::DirBuilder::new()
            .mode(mode)
            .create(&at)
            .map_err(errno)?;
        // Some filesystems take no such bits from mkdir(2), and what is asked for here is more
        // than the umask leaves.
        let is = std::fs::metadata(&at).map_err(errno)?;
        self.xattrs.remove(&is.ino());
        Ok(Answer::Done)
    }

    pub(super) fn remove_directory(&self, path: &Path) -> Told<Answer> {
        std::fs::remove_dir(self.at(path)).map_err(errno)?;
        Ok(Answer::Done)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path, keep_target: bool) -> Told<Answer> {
        let flags = match keep_target {
            true => RenameFlags::RENAME_NOREPLACE,
            false => RenameFlags::empty(),
        };
        let (from, to) = (self.at(from), self.at(to));
        renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags).map_err(number)?;
        Ok(Answer::Done)
    }

    pub(super) fn symlink(&mut self, path: &Path, target: &str) -> Told<Answer> {
        let at = self.at(path);
        symlink(target, &at).map_err(errno)?;
        let inode = std::fs::symlink_metadata(&at).map_err(errno)?.ino();
        self.xattrs.remove(&inode);
        Ok(Answer::Done)
    }

    pub(super) fn read_link(&self, path: &Path) -> Told<Answer> {
        let target = std::fs::read_link(self.at(path)).map_err(errno)?;
        let target = target.into_os_string().into_string().unwrap();
        Ok(Answer::Texts(vec![target]))
    }

    pub(super) fn stat(&self, path: &Path) -> Told<Answer> {
        let metadata = std::fs::symlink_metadata(self.at(path)).map_err(errno)?;
        Ok(Answer::Attributes(attributes(&metadata)))
    }

    pub(super) fn change_mode(&self, path: &Path, mode: u32) -> Told<Answer> {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.at(path), mode).map_err(errno)?;
        Ok(Answer::Done)
    }

    pub(super) fn set_times(&self, path: &Path, time: SystemTime) -> Told<Answer> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let time = TimeSpec::from_duration(since);
        let no_follow = UtimensatFlags::NoFollowSymlink;
        utimensat(AT_FDCWD, &self.at(path), &time, &time, no_follow).map_err(number)?;
        Ok(Answer::Done)
    }

    /// The extended attributes of a name, if there is such a name.
    pub(super) fn xattrs(&mut self, path: &Path) -> Told<&mut Xattrs> {
        let inode = std::fs::symlink_metadata(self.at(path))
            .map_err(errno)?
            .ino();
        Ok(self.xattrs.entry(inode).or_default())
    }

    pub(super) fn set_xattr(
        &mut self,
        path: &Path,
        name: &str,
        value: &[u8],
        how: Setting,
    ) -> Told<Answer> {
        let xattrs = self.xattrs(path)?;
        match how {
            Setting::Create if xattrs.contains_key(name) => return Err(libc::EEXIST),
            Setting::Replace if !xattrs.contains_key(name) => return Err(libc::ENODATA),
            _ => {}
        }
        xattrs.insert(name.to_owned(), value.to_owned());
        Ok(Answer::Done)
    }

    pub(super) fn xattr(&mut self, path: &Path, name: &str) -> Told<Answer> {
        let value = self.xattrs(path)?.get(name).cloned();
        value
            .map(|value| Answer::Bytes(Content(value)))
            .ok_or(libc::ENODATA)
    }

    pub(super) fn remove_xattr(&mut self, path: &Path, name: &str) -> Told<Answer> {
        let removed = self.xattrs(path)?.remove(name);
        removed.map(|_| Answer::Done).ok_or(libc::ENODATA)
    }

    pub(super) fn list_xattrs(&mut self, path: &Path) -> Told<Answer> {
        let names = self.xattrs(path)?.keys().cloned().collect();
        Ok(Answer::Texts(names))
    }

    /// The names in a directory that is open.
    pub(super) fn list_open(directory: &File) -> Told<Vec<(String, Type)>> {
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(directory)
        );
        list(PathBuf::from(path))
    }

    pub(super) fn list(&self, path: &Path) -> Told<Answer> {
        Self::list_open(&self.open_directory(path)?).map(Answer::Names)
    }

    pub(super) fn open_directory(&self, path: &Path) -> Told<File> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
        options.open(self.at(path)).map_err(errno)
    }

    pub(super) fn content(&self, path: &Path) -> Content {
        Content(std::fs::read(self.at(path)).unwrap())
    }

    /// Puts a file back as it was, or takes it away.
    pub(super) fn restore(&mut self, path: &Path, content: Option<&Content>) {
        match content {
            Some(content) => std::fs::write(self.at(path), &content.0).unwrap(),
            None => std::fs::remove_file(self.at(path)).unwrap(),
        }
    }
}

fn list(path: PathBuf) -> Told<Vec<(String, Type)>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(errno)? {
        let entry = entry.map_err(errno)?;
        let kind = kind_of(&entry.metadata().map_err(errno)?);
        names.push((entry.file_name().into_string().unwrap(), kind));
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}
