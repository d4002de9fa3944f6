//! One sequence: every operation on both sides, and what must be the same afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Content, Path, Told, time};
use super::local::{Local, LocalFile, Name};
use super::mount::{DirectoryHandle, Handle, Mount};
use super::ops::{Blob, End, Flags, NAMES, Op, Place, Sequence, Step, Trouble, XATTRS};
use super::world::{Scene, World};
use crate::auth::Asker;
use crate::fs::index::Index;
use crate::fs::inodes::Type;
use crate::store::Query;

/// How long one operation may take, and how long the daemon may take to end.
const LONGEST: Duration = Duration::from_secs(60);

/// How deep directories are made.
const DEEPEST: usize = 4;

/// The longest path in bytes, so that no key is too long.
const LONGEST_PATH: usize = 900;

/// A file that is open on both sides.
#[derive(Debug)]
struct Open {
    local: LocalFile,
    mount: Handle,
    reads: bool,
    writes: bool,
    append: bool,
    /// Something was changed through it.
    wrote: bool,
}

/// Both sides.
pub(super) struct Model<'a> {
    world: &'a World,
    scene: Scene,
    local: Local,
    mount: Mount,
    files: Vec<Open>,
    directories: Vec<(File, DirectoryHandle)>,
    /// Files, by their inodes here, with changes that nobody has promised to last; and with what
    /// they may contain if the daemon dies now, `None` for nothing at all.
    unsaved: BTreeMap<u64, Vec<Option<Content>>>,
    /// Something went wrong on the way to S3.
    troubled: bool,
}

/// Runs a whole sequence. Returns what is wrong.
pub(super) async fn run(world: &World, sequence: &Sequence, part: u64) -> Result<(), String> {
    let scene = world.scene(sequence.setup, part);
    let mut local = Local::new();
    if sequence.setup.furnished {
        furnish(&scene, &mut local);
    }
    let fs = world.mount(&scene, None).await;
    let mut model = Model {
        world,
        scene,
        local,
        mount: Mount::new(fs, world.umask),
        files: Vec::new(),
        directories: Vec::new(),
        unsaved: BTreeMap::new(),
        troubled: false,
    };
    let codes = world.asked();
    let mut most = 0;
    for (number, step) in sequence.steps.iter().enumerate() {
        let outcome = model.step(step, &mut most).await;
        outcome.map_err(|wrong| format!("step {number}, {step:?}: {wrong}"))?;
        if sequence.setup.forgetful {
            model.forget();
        }
        let asked = world.asked() - codes;
        if asked > most {
            return Err(format!(
                "step {number}, {step:?}: {asked} codes instead of {most}"
            ));
        }
    }
    model
        .conclude()
        .await
        .map_err(|wrong| format!("at the end: {wrong}"))
}

/// Puts there what somebody else's tools may have.
fn furnish(scene: &Scene, local: &mut Local) {
    let names = [("old", "a"), ("old", "b.txt"), ("old", "deep/c"), ("", "d")];
    for (at, (directory, name)) in names.into_iter().enumerate() {
        let blob = Blob {
            seed: u8::try_from(at).unwrap(),
            length: 70,
        };
        let path = format!("{directory}/{name}");
        let path = path.trim_start_matches('/');
        scene
            .bucket
            .put(&format!("{}{path}", scene.prefix), blob.bytes());
        let path: Path = path.split('/').map(str::to_owned).collect();
        for length in 1..path.len() {
            let _ = local.make_directory(&path[..length].to_vec(), 0o755);
            local.change_mode(&path[..length].to_vec(), 0o755).unwrap();
        }
        local.make_node(&path, 0o644).unwrap();
        local.change_mode(&path, 0o644).unwrap();
        local.restore(&path, Some(&Content(blob.bytes())));
    }
}

fn same(local: &Told<Answer>, mount: &Told<Answer>) -> Result<(), String> {
    let agree = match (mount, local) {
        (Ok(mount), Ok(local)) => mount.agrees_with(local),
        (mount, local) => mount == local,
    };
    if agree {
        return Ok(());
    }
    Err(format!("{} instead of {}", shown(mount), shown(local)))
}

fn shown(told: &Told<Answer>) -> String {
    match told {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => nix::errno::Errno::from_raw(*error).to_string(),
    }
}

impl Model<'_> {
    async fn step(&mut self, step: &Step, most: &mut u64) -> Result<(), String> {
        let asked = self.world.asked();
        if let Some(trouble) = step.trouble {
            self.troubled = true;
            if let Trouble::ExpireBefore(_) | Trouble::ExpireAfter(_) = trouble {
                // A session that ends before S3 has ever accepted it is taken for a misfit.
                self.use_session().await?;
            }
            *most += self.world.cause(trouble);
        }
        let outcome = tokio::time::timeout(LONGEST, Box::pin(self.operate(&step.op))).await;
        self.world.calm();
        outcome.map_err(|_| "it takes too long".to_owned())??;
        if self.world.asked() > asked {
            // As the program does when a session opens.
            self.mount.fs.go_on(true);
        }
        Ok(())
    }

    /// Makes sure that there is a session that S3 accepts.
    async fn use_session(&self) -> Result<(), String> {
        let query = Query {
            limit: Some(1),
            ..Query::default()
        };
        let used = self.mount.fs.bucket.list(&Asker::person(), &query).await;
        used.map(drop).map_err(|error| error.to_string())
    }

    async fn operate(&mut self, op: &Op) -> Result<(), String> {
        self.open_what_is_needed(op).await?;
        let tree = self.local.tree();
        match op.clone() {
            Op::Create { .. } | Op::MakeNode(..) | Op::Open(..) => {
                Box::pin(self.open(&tree, op)).await
            }
            Op::Read {
                handle,
                offset,
                length,
            } => {
                let Some(open) = self.pick(handle, |open| open.reads) else {
                    return Ok(());
                };
                let open = &self.files[open];
                let (offset, length) = (offset.into(), length.into());
                let local = Local::read(&open.local, offset, length).map(Answer::Bytes);
                let mount = self.mount.read(open.mount, offset, length).await;
                same(&local, &mount.map(Answer::Bytes))
            }
            Op::Write { handle, .. }
            | Op::Resize { handle, .. }
            | Op::Allocate { handle, .. }
            | Op::CopyRange { to: handle, .. } => match self.pick(handle, |open| open.writes) {
                Some(open) => Box::pin(self.write(open, op)).await,
                None => Ok(()),
            },
            Op::Sync(handle) => {
                let Some(open) = self.pick(handle, |_| true) else {
                    return Ok(());
                };
                let open = &self.files[open];
                let mount = self.mount.sync(open.mount).await;
                self.unsaved.remove(&open.local.inode);
                same(&Ok(Answer::Done), &mount)
            }
            Op::Close(handle) => match self.pick(handle, |_| true) {
                Some(open) => {
                    let mount = self.close(open).await;
                    same(&Ok(Answer::Done), &mount)
                }
                None => Ok(()),
            },
            Op::StatHandle(handle) => {
                let Some(open) = self.pick(handle, |_| true) else {
                    return Ok(());
                };
                let open = &self.files[open];
                let mount = self.mount.stat_handle(open.mount).await;
                same(&Local::stat_file(&open.local), &mount)
            }
            Op::ChangeModeOfHandle(handle, mode) => {
                let Some(open) = self.pick(handle, |_| true) else {
                    return Ok(());
                };
                let inode = self.files[open].local.inode;
                let content = content_of(&self.files[open].local.file);
                self.is_changing(inode, Some(content));
                self.may_be_saved(inode);
                let (open, mode) = (&self.files[open], 0o600 | mode & 0o777);
                let mount = self.mount.change_mode_of(open.mount, mode).await;
                same(&Local::change_mode_of(&open.local, mode), &mount)
            }
            Op::OpenDirectory(at) => {
                let Some(path) = path_of(&tree, at) else {
                    return Ok(());
                };
                let local = self.local.open_directory(&path);
                let mount = self.mount.open_directory(&path).await;
                match (local, mount) {
                    (Ok(local), Ok(mount)) => {
                        self.mount.begin(mount);
                        self.directories.push((local, mount));
                        Ok(())
                    }
                    (local, mount) => {
                        let done = |_| Answer::Done;
                        // A link to nowhere, opened as a directory.
                        let local = local.map(|_| Answer::Done);
                        same(&local, &mount.map(done))
                    }
                }
            }
            Op::ListAgain(directory) => self.list_again(directory).await,
            Op::CloseDirectory(directory) => {
                if !self.directories.is_empty() {
                    let index = usize::from(directory) % self.directories.len();
                    let (_, mount) = self.directories.swap_remove(index);
                    self.mount.close_directory(mount);
                }
                Ok(())
            }
            Op::Forget => {
                self.forget();
                Ok(())
            }
            Op::Tidy => {
                self.mount.fs.tidy();
                Ok(())
            }
            Op::Compare => Box::pin(self.compare()).await,
            Op::Remount(end) => Box::pin(self.remount(end)).await,
            _ => Box::pin(self.on_names(&tree, op)).await,
        }
    }

    /// Opens a file for an operation on open files, if there is none.
    async fn open_what_is_needed(&mut self, op: &Op) -> Result<(), String> {
        let number = match op {
            Op::Read { handle, .. } if self.pick(*handle, |open| open.reads).is_none() => handle,
            Op::Write { handle, .. }
            | Op::Resize { handle, .. }
            | Op::Allocate { handle, .. }
            | Op::CopyRange { to: handle, .. }
                if self.pick(*handle, |open| open.writes).is_none() =>
            {
                handle
            }
            _ => return Ok(()),
        };
        let open = Op::Create {
            at: Place::File(*number),
            mode: 0o644,
            exclusive: false,
            flags: Flags {
                reads: true,
                writes: true,
                truncate: false,
                append: false,
            },
        };
        let tree = self.local.tree();
        Box::pin(self.open(&tree, &open)).await
    }

    /// The open file that a number stands for, of those that will do.
    fn pick(&self, number: u8, will_do: impl Fn(&Open) -> bool) -> Option<usize> {
        let mut able = (0..self.files.len()).filter(|at| will_do(&self.files[*at]));
        let count = able.clone().count();
        (count > 0)
            .then(|| able.nth(usize::from(number) % count))
            .flatten()
    }

    /// A file is about to be changed, and nobody promises that it lasts.
    fn is_changing(&mut self, inode: u64, before: Option<Content>) {
        self.unsaved.entry(inode).or_insert_with(|| vec![before]);
    }

    /// What a file contains now may have been stored.
    fn may_be_saved(&mut self, inode: u64) {
        if !self.unsaved.contains_key(&inode) {
            return;
        }
        let open = self.files.iter().find(|open| open.local.inode == inode);
        let content = open.map(|open| content_of(&open.local.file));
        if let (Some(content), Some(possible)) = (content, self.unsaved.get_mut(&inode)) {
            possible.push(Some(content));
        }
    }

    fn all_may_be_saved(&mut self) {
        let inodes: Vec<u64> = self.unsaved.keys().copied().collect();
        for inode in inodes {
            self.may_be_saved(inode);
        }
    }

    async fn open(&mut self, tree: &[Name], op: &Op) -> Result<(), String> {
        let (at, create, flags) = match op {
            Op::Create {
                at,
                mode,
                exclusive,
                flags,
            } => (*at, Some((*mode & 0o777 | 0o600, *exclusive)), *flags),
            Op::Open(at, flags) => (*at, None, *flags),
            Op::MakeNode(at, mode) => {
                let Some(path) = path_of(tree, *at) else {
                    return Ok(());
                };
                let mode = mode & 0o777 | 0o600;
                let local = self.local.make_node(&path, mode);
                return same(&local, &self.mount.make_node(&path, mode).await);
            }
            _ => return Ok(()),
        };
        let Some(path) = path_of(tree, at) else {
            return Ok(());
        };
        let found = tree.iter().find(|name| name.path == path);
        let before = found.filter(|name| name.kind == Type::File);
        let before = before.map(|name| self.local.content(&name.path));
        let local = self.local.open(&path, create, flags);
        let mount = self.mount.open(&path, create, flags).await;
        match (local, mount) {
            (Ok(local), Ok(mount)) => {
                let is_new = before.is_none();
                if flags.truncate || is_new {
                    self.is_changing(local.inode, before);
                }
                self.files.push(Open {
                    local,
                    mount,
                    reads: flags.reads,
                    writes: flags.writes,
                    append: flags.append,
                    wrote: flags.truncate || is_new,
                });
                Ok(())
            }
            (local, mount) => {
                let (local, mount) = (local.map(|_| Answer::Done), mount.map(|_| Answer::Done));
                // A file that is created through a link or over a directory: Linux says many
                // things.
                same(&local, &mount)
            }
        }
    }

    async fn write(&mut self, at: usize, op: &Op) -> Result<(), String> {
        if let Op::CopyRange { .. } = op {
            return self.copy_range(at, op).await;
        }
        let (inode, before) = {
            let file = &self.files[at].local;
            (file.inode, content_of(&file.file))
        };
        self.is_changing(inode, Some(before));
        let open = &mut self.files[at];
        open.wrote = true;
        let (file, handle) = (&open.local, open.mount);
        match op.clone() {
            Op::Write { offset, blob, .. } => {
                let bytes = blob.bytes();
                let local = Local::write(file, offset.into(), &bytes);
                same(
                    &local,
                    &self.mount.write(handle, offset.into(), bytes).await,
                )
            }
            Op::Resize { size, .. } => {
                let local = Local::resize(file, size.into());
                same(&local, &self.mount.resize(handle, size.into()).await)
            }
            Op::Allocate { kind, range, .. } => {
                let range = range.start.into()..range.end.into();
                let local = Local::allocate(file, kind, range.clone());
                same(&local, &self.mount.allocate(handle, kind, range).await)
            }
            _ => Ok(()),
        }
    }

    async fn copy_range(&mut self, to: usize, op: &Op) -> Result<(), String> {
        let Op::CopyRange {
            from,
            from_offset,
            to_offset,
            length,
            ..
        } = *op
        else {
            return Ok(());
        };
        let Some(from) = self.pick(from, |open| open.reads) else {
            return Ok(());
        };
        // The kernel refuses both by itself.
        let is_same = self.files[from].local.inode == self.files[to].local.inode;
        if is_same || self.files[to].append {
            return Ok(());
        }
        let (from_offset, to_offset): (u64, u64) = (from_offset.into(), to_offset.into());
        let bytes = Local::read(&self.files[from].local, from_offset, length.into());
        let bytes = bytes.unwrap().0;
        let inode = self.files[to].local.inode;
        self.is_changing(inode, Some(content_of(&self.files[to].local.file)));
        self.files[to].wrote = true;
        let local = Local::write(&self.files[to].local, to_offset, &bytes);
        let source = (self.files[from].mount, from_offset);
        let target = (self.files[to].mount, to_offset);
        same(
            &local,
            &self.mount.copy_range(source, target, length.into()).await,
        )
    }

    async fn close(&mut self, at: usize) -> Told<Answer> {
        let open = self.files.swap_remove(at);
        if open.wrote {
            self.unsaved.remove(&open.local.inode);
        } else {
            self.files.push(open);
            let inode = self.files.last().unwrap().local.inode;
            self.may_be_saved(inode);
            let open = self.files.pop().unwrap();
            return self.mount.close(open.mount).await;
        }
        self.mount.close(open.mount).await
    }

    async fn on_names(&mut self, tree: &[Name], op: &Op) -> Result<(), String> {
        let at = match op {
            Op::Rename {
                from,
                to,
                keep_target,
            } => return self.rename(tree, (*from, *to), *keep_target).await,
            Op::Truncate(at, _)
            | Op::Unlink(at)
            | Op::MakeDirectory(at, _)
            | Op::RemoveDirectory(at)
            | Op::Symlink(at, _)
            | Op::ReadLink(at)
            | Op::Stat(at)
            | Op::ChangeMode(at, _)
            | Op::SetTimes(at, _)
            | Op::GetXattr(at, _)
            | Op::SetXattr { at, .. }
            | Op::RemoveXattr(at, _)
            | Op::ListXattrs(at)
            | Op::List(at) => *at,
            _ => return Ok(()),
        };
        let Some(path) = path_of(tree, at) else {
            return Ok(());
        };
        let found = tree.iter().find(|name| name.path == path);
        let kind = found.map(|name| name.kind);
        let is_file = kind == Some(Type::File);
        let before = is_file.then(|| self.local.content(&path));
        let of = |name: &Name| {
            let inode = name.inode;
            move |open: &Open| open.local.inode == inode
        };
        // The kernel refuses those of links.
        let has_xattrs = kind != Some(Type::Symlink);
        let xattr = |number: u8| XATTRS[usize::from(number) % XATTRS.len()];
        let (local, mount) = match op.clone() {
            Op::Truncate(_, size) => (
                self.local.truncate(&path, size.into()),
                self.mount.truncate(&path, size.into()).await,
            ),
            Op::Unlink(_) => (self.local.unlink(&path), self.mount.unlink(&path).await),
            Op::MakeDirectory(_, mode) => (
                self.local.make_directory(&path, mode),
                self.mount.make_directory(&path, mode).await,
            ),
            Op::RemoveDirectory(_) => (
                self.local.remove_directory(&path),
                self.mount.remove_directory(&path).await,
            ),
            Op::Symlink(_, target) => {
                let target = format!("nowhere/{target}/ä");
                let local = self.local.symlink(&path, &target);
                (local, self.mount.symlink(&path, &target).await)
            }
            Op::ReadLink(_) => (
                self.local.read_link(&path),
                self.mount.read_link(&path).await,
            ),
            Op::Stat(_) => (self.local.stat(&path), self.mount.stat(&path).await),
            Op::ChangeMode(_, mode) => {
                // Set-id bits of files go when they are written, but not for root.
                let mode = match kind {
                    Some(Type::Directory) => mode | 0o700,
                    _ => mode & 0o777 | 0o600,
                };
                let local = self.local.change_mode(&path, mode);
                (local, self.mount.change_mode(&path, mode).await)
            }
            Op::SetTimes(_, number) => (
                self.local.set_times(&path, time(number)),
                self.mount.set_times(&path, time(number)).await,
            ),
            Op::GetXattr(_, name) if has_xattrs => (
                self.local.xattr(&path, xattr(name)),
                self.mount.xattr(&path, xattr(name)).await,
            ),
            Op::SetXattr {
                name, value, how, ..
            } if has_xattrs => {
                let (name, value) = (xattr(name), value.bytes());
                let local = self.local.set_xattr(&path, name, &value, how);
                (local, self.mount.set_xattr(&path, name, &value, how).await)
            }
            Op::RemoveXattr(_, name) if has_xattrs => (
                self.local.remove_xattr(&path, xattr(name)),
                self.mount.remove_xattr(&path, xattr(name)).await,
            ),
            Op::ListXattrs(_) if has_xattrs => (
                self.local.list_xattrs(&path),
                self.mount.list_xattrs(&path).await,
            ),
            Op::List(_) => (self.local.list(&path), self.mount.list(&path).await),
            _ => return Ok(()),
        };
        same(&local, &mount)?;
        if let Some(found) = found {
            match op {
                Op::Truncate(..)
                | Op::ChangeMode(..)
                | Op::SetTimes(..)
                | Op::SetXattr { .. }
                | Op::RemoveXattr(..)
                    if self.files.iter().any(of(found)) =>
                {
                    // Whoever has it open for writing is promised nothing yet.
                    self.is_changing(found.inode, before);
                    self.may_be_saved(found.inode);
                }
                Op::Truncate(..) | Op::Unlink(_) if local.is_ok() => {
                    self.unsaved.remove(&found.inode);
                }
                _ => self.may_be_saved(found.inode),
            }
        }
        Ok(())
    }

    async fn rename(
        &mut self,
        tree: &[Name],
        (from, to): (Place, Place),
        keep_target: bool,
    ) -> Result<(), String> {
        let (Some(from), Some(to)) = (path_of(tree, from), path_of(tree, to)) else {
            return Ok(());
        };
        // What is above, below or the same, the kernel sees by itself.
        if to.starts_with(&from) || from.starts_with(&to) {
            return Ok(());
        }
        let moved = tree.iter().filter(|name| name.path.starts_with(&from));
        let longest = moved
            .map(|name| length(&name.path) - length(&from) + length(&to))
            .max();
        if longest.is_some_and(|longest| longest > LONGEST_PATH) {
            return Ok(());
        }
        let local = self.local.rename(&from, &to, keep_target);
        let mount = self.mount.rename(&from, &to, keep_target).await;
        same(&local, &mount)?;
        self.all_may_be_saved();
        if local.is_ok()
            && let Some(replaced) = tree.iter().find(|name| name.path == to)
        {
            self.unsaved.remove(&replaced.inode);
        }
        Ok(())
    }

    async fn list_again(&mut self, directory: u8) -> Result<(), String> {
        if self.directories.is_empty() {
            return Ok(());
        }
        let index = usize::from(directory) % self.directories.len();
        let (local, mount) = (&self.directories[index].0, self.directories[index].1);
        if std::os::unix::fs::MetadataExt::nlink(&local.metadata().unwrap()) == 0 {
            // The kernel sees by itself that it is gone.
            return Ok(());
        }
        let local = Local::list_open(local).map(Answer::Names);
        same(
            &local,
            &self.mount.list_open(mount).await.map(Answer::Names),
        )
    }

    fn forget(&mut self) {
        let files = self.files.iter().map(|open| open.mount.number);
        let directories = self.directories.iter().map(|(_, mount)| mount.number);
        let open: Vec<u64> = files.chain(directories).collect();
        self.mount.forget(open.into_iter());
    }

    /// Compares both trees with everything in them.
    async fn compare(&mut self) -> Result<(), String> {
        let tree = self.local.tree();
        let found = self
            .mount
            .tree()
            .await
            .map_err(|error| shown(&Err(error)))?;
        let listed = found
            .iter()
            .map(|(path, inode)| (path, inode.kind.type_of()));
        let expected = tree.iter().map(|name| (&name.path, name.kind));
        let (listed, expected): (Vec<_>, Vec<_>) = (listed.collect(), expected.collect());
        if listed != expected {
            return Err(format!("{listed:?} instead of {expected:?}"));
        }
        for (name, (_, inode)) in tree.iter().zip(&found) {
            let wrong = |wrong: String| in_words(&name.path, &wrong);
            let number = inode.number;
            let mount = self.mount.attributes(number).await;
            same(&self.local.stat(&name.path), &mount).map_err(wrong)?;
            match name.kind {
                Type::File => {
                    let mount = self.mount.content(number).await.map(Answer::Bytes);
                    let local = Ok(Answer::Bytes(self.local.content(&name.path)));
                    same(&local, &mount).map_err(wrong)?;
                }
                Type::Symlink => {
                    let mount = self.mount.target(number).await;
                    same(&self.local.read_link(&name.path), &mount).map_err(wrong)?;
                }
                Type::Directory => {}
            }
            let xattrs = self.local.xattrs(&name.path).unwrap().clone();
            for (xattr, value) in xattrs {
                let mount = self.mount.xattr_of(number, &xattr).await;
                let local = Ok(Answer::Bytes(Content(value)));
                same(&local, &mount).map_err(wrong)?;
            }
        }
        Ok(())
    }

    async fn close_all(&mut self) -> Result<(), String> {
        for (_, mount) in std::mem::take(&mut self.directories) {
            self.mount.close_directory(mount);
        }
        let mut outcome = Ok(());
        while !self.files.is_empty() {
            let closed = self.close(0).await;
            if outcome.is_ok() {
                outcome = same(&Ok(Answer::Done), &closed);
            }
        }
        outcome
    }

    /// Waits until everything is stored.
    async fn settle(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + LONGEST;
        loop {
            // Storing asks nobody by itself.
            self.use_session().await?;
            let waiting = self.mount.fs.finish().await;
            if waiting == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let files = self.mount.fs.waiting_files();
                return Err(format!("{waiting} files still wait: {files:?}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn remount(&mut self, end: End) -> Result<(), String> {
        match end {
            End::Unmounted => {
                self.close_all().await?;
                self.settle().await?;
            }
            End::Closed => self.close_all().await?,
            End::Killed => {
                self.mount.fs.tidy();
                self.files.clear();
                self.directories.clear();
            }
            End::Offline => {
                self.troubled = true;
                self.world.cut_off();
                self.mount.fs.end();
                let _ = self.close_all().await;
            }
        }
        self.mount.fs.end();
        let index = self.unmount().await?;
        self.world.calm();
        let fs = self.world.mount(&self.scene, Some(index)).await;
        self.mount = Mount::new(fs, self.world.umask);
        if let End::Killed = end {
            self.settle().await?;
            self.reconcile().await?;
        }
        self.compare().await
    }

    /// Ends the daemon. Returns what it knew of attributes.
    async fn unmount(&mut self) -> Result<Index, String> {
        let deadline = Instant::now() + LONGEST;
        loop {
            // What still runs holds on to it.
            if let Some(fs) = Arc::get_mut(&mut self.mount.fs) {
                // After a crash it may be a second behind, which costs attributes in listings.
                fs.tidy();
                fs.spool = None;
                return Ok(std::mem::replace(&mut fs.index, Index::in_memory()));
            }
            if Instant::now() > deadline {
                return Err("something holds on to the filesystem".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The daemon has died: what nobody was promised is as it was, and lies beside its name.
    async fn reconcile(&mut self) -> Result<(), String> {
        let unsaved = std::mem::take(&mut self.unsaved);
        let mut torn = Vec::new();
        let mut missing = Vec::new();
        for name in self.local.tree() {
            let Some(possible) = unsaved.get(&name.inode) else {
                continue;
            };
            let content = self.local.content(&name.path);
            let wrong = |error| in_words(&name.path, &shown(&Err(error)));
            let now = match self.mount.number(&name.path).await {
                Ok(number) => Some(self.mount.content(number).await.map_err(wrong)?),
                Err(libc::ENOENT) => None,
                Err(error) => return Err(wrong(error)),
            };
            if !possible.contains(&now) {
                let wrong = format!("{now:?} instead of {possible:?} after a crash");
                return Err(in_words(&name.path, &wrong));
            }
            self.local.restore(&name.path, now.as_ref());
            if now.is_some() {
                self.adopt(&name.path).await?;
            }
            // Of a file that was emptied, nothing can get lost.
            if now.as_ref() != Some(&content) && !content.0.is_empty() {
                missing.push((name.path.clone(), content.clone()));
            }
            torn.push(content);
        }
        self.find_torn(&torn, missing).await
    }

    /// What a crash has torn is there, beside its name.
    async fn find_torn(
        &mut self,
        torn: &[Content],
        mut missing: Vec<(Path, Content)>,
    ) -> Result<(), String> {
        let local = self.local.tree();
        let known: BTreeSet<&Path> = local.iter().map(|name| &name.path).collect();
        let failed = |error| shown(&Err(error));
        for (path, inode) in self.mount.tree().await.map_err(failed)? {
            let (name, directory) = path.split_last().unwrap();
            if known.contains(&path) || !name.contains("(recovered ") {
                continue;
            }
            let content = self.mount.content(inode.number).await.map_err(failed)?;
            if !torn.contains(&content) {
                return Err(in_words(&path, &format!("{content:?} instead of {torn:?}")));
            }
            let beside = |(meant, torn): &(Path, Content)| {
                *torn == content && meant[..meant.len() - 1] == *directory
            };
            if let Some(found) = missing.iter().position(beside) {
                missing.remove(found);
            }
            // It goes here as it goes there, so that the times of the directory agree.
            self.local.make_node(&path, 0o600).unwrap();
            same(&self.local.unlink(&path), &self.mount.unlink(&path).await)?;
        }
        match missing.first() {
            Some((path, content)) => Err(in_words(path, &format!("{content:?} is lost"))),
            None => Ok(()),
        }
    }

    /// Attributes that nobody was promised are taken as they are.
    async fn adopt(&mut self, path: &Path) -> Result<(), String> {
        let told = self.mount.stat(path).await;
        let Ok(Answer::Attributes(attributes)) = &told else {
            return Err(in_words(path, &shown(&told)));
        };
        self.local.change_mode(path, attributes.mode).unwrap();
        if let super::answer::Moment::Set(time) = attributes.modified {
            self.local.set_times(path, time).unwrap();
        }
        let mut xattrs = super::local::Xattrs::new();
        let told = self.mount.list_xattrs(path).await;
        let Ok(Answer::Texts(names)) = told else {
            return Err(in_words(path, &shown(&told)));
        };
        for name in names {
            if let Ok(Answer::Bytes(value)) = self.mount.xattr(path, &name).await {
                xattrs.insert(name, value.0);
            }
        }
        *self.local.xattrs(path).unwrap() = xattrs;
        Ok(())
    }

    /// The end of a sequence: all is closed and the same, also after a remount, and there is
    /// nothing in the bucket or the spool that should not be.
    async fn conclude(&mut self) -> Result<(), String> {
        self.close_all().await?;
        self.compare().await?;
        self.remount(End::Unmounted).await?;
        let fs = &self.mount.fs;
        fs.tidy();
        if fs.spooled() > 0 {
            return Err(format!("{} bytes stay in the spool", fs.spooled()));
        }
        let asides = fs.asides();
        if !asides.is_empty() {
            return Err(format!("stored beside their names: {asides:?}"));
        }
        self.unmount().await?;
        self.look_at_bucket()
    }

    fn look_at_bucket(&self) -> Result<(), String> {
        let tree = self.local.tree();
        let prefix = &self.scene.prefix;
        let key = |name: &Name| {
            let slash = if name.kind == Type::Directory {
                "/"
            } else {
                ""
            };
            format!("{prefix}{}{slash}", name.path.join("/"))
        };
        let mut expected: BTreeSet<String> = tree.iter().map(key).collect();
        expected.insert(prefix.clone());
        let keys: BTreeSet<String> = self.scene.bucket.keys().into_iter().collect();
        if let Some(more) = keys.difference(&expected).next() {
            return Err(format!("{more:?} is in the bucket"));
        }
        for missing in expected.difference(&keys) {
            // Not every directory needs a marker.
            let others = keys.iter().any(|key| key.starts_with(missing));
            if !(missing.ends_with('/') || missing.is_empty()) || !others && missing != prefix {
                return Err(format!("{missing:?} is not in the bucket"));
            }
        }
        // Whoever begins one and does not hear its id cannot throw it away, and whoever has no
        // session when he wants to does not come back.
        let uploads = self.scene.bucket.uploads();
        match uploads.first() {
            Some(upload) if !self.troubled => Err(format!("an upload stays: {upload:?}")),
            _ => Ok(()),
        }
    }
}

fn in_words(path: &Path, wrong: &str) -> String {
    format!("/{}: {wrong}", path.join("/"))
}

fn length(path: &Path) -> usize {
    path.iter().map(|name| name.len() + 1).sum()
}

/// All of an open file, also of one that is open for writing only, or has no name any more.
fn content_of(file: &File) -> Content {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    Content(std::fs::read(path).unwrap())
}

/// The path that a place stands for in this tree.
fn path_of(tree: &[Name], place: Place) -> Option<Path> {
    let nth = |number: u8, is_it: &dyn Fn(&Name) -> bool| {
        let names: Vec<&Name> = tree.iter().filter(|name| is_it(name)).collect();
        let count = names.len().max(1);
        names
            .get(usize::from(number) % count)
            .map(|name| name.path.clone())
    };
    let name = |number: u8| NAMES[usize::from(number) % NAMES.len()].to_owned();
    let some = |path: Option<Path>, number: u8| {
        path.or_else(|| nth(number, &|_| true))
            .or_else(|| Some(vec![name(number)]))
    };
    let is_directory = |name: &Name| name.kind == Type::Directory;
    let path = match place {
        Place::File(number) => some(nth(number, &|found| !is_directory(found)), number),
        Place::Directory(number) => some(nth(number, &is_directory), number),
        Place::Any(number) => some(nth(number, &|_| true), number),
        Place::In(directory, number) => {
            let mut directories = vec![Path::new()];
            let deep = tree.iter().filter(|name| is_directory(name));
            directories.extend(deep.map(|name| name.path.clone()));
            directories.retain(|path| path.len() < DEEPEST);
            let count = directories.len();
            let mut path = directories.swap_remove(usize::from(directory) % count);
            path.push(name(number));
            Some(path)
        }
        Place::Below(above, number) => {
            let mut path = nth(above, &|_| true).unwrap_or_default();
            path.push(name(number));
            Some(path)
        }
    };
    path.filter(|path| length(path) < LONGEST_PATH)
}
