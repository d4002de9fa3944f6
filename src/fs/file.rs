//! Reading: from pages, from flights, and never without a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::ahead::Window;
use super::draft::Draft;
use super::pages::PAGE;
use super::{Caller, FileSystem, FsError};
use crate::auth::Asker;
use crate::store::verdict::Action;
use crate::store::write::Source;
use crate::store::{Object, StoreError};

/// One version of an object, to be read from.
#[derive(Debug)]
pub(crate) struct Remote {
    /// What its pages are filed under.
    pub(super) version: u64,
    pub(super) key: String,
    pub(super) object: Object,
    /// Its id, if it is known not to be the latest version any more.
    pub(super) pinned: Option<String>,
    /// What its readers are going to want.
    pub(super) window: Mutex<Window>,
}

impl Remote {
    pub(super) fn new(version: u64, key: String, object: Object) -> Self {
        Self {
            version,
            key,
            object,
            pinned: None,
            window: Mutex::default(),
        }
    }

    /// The same version, to be read by its id.
    pub(super) fn pinned(&self, id: String) -> Self {
        Self {
            pinned: Some(id),
            ..Self::new(self.version, self.key.clone(), self.object.clone())
        }
    }

    /// What S3 is to copy from.
    pub(super) fn source(&self) -> Source {
        Source {
            key: self.key.clone(),
            etag: self.object.etag.clone(),
            version: self.pinned.clone(),
        }
    }

    /// An object that is no inode's: with a version of its own, because pages are known by it.
    pub(super) fn apart(key: String, object: Object) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(APART);
        Self::new(NEXT.fetch_add(1, Ordering::Relaxed), key, object)
    }
}

/// No inode has that many versions.
const APART: u64 = 1 << 63;

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(super) number: u64,
    /// Whether it may write.
    pub(super) writes: bool,
    /// The version that was seen at open, or that this mount has made of it since. `None` for a
    /// file that is not stored yet.
    remote: Mutex<Option<Arc<Remote>>>,
    /// What it writes to, once it has.
    pub(super) draft: Mutex<Option<Arc<Draft>>>,
    /// It is closed: who was stopped while writing must not write any more.
    released: AtomicBool,
    /// The programs that opened it or wrote to it.
    users: Mutex<Vec<u32>>,
}

/// How many programs are told apart that have one handle; with more, all count.
const USERS: usize = 16;

impl OpenFile {
    pub(super) fn new(number: u64, writes: bool, remote: Option<Arc<Remote>>) -> Self {
        Self {
            number,
            writes,
            remote: Mutex::new(remote),
            draft: Mutex::default(),
            released: AtomicBool::new(false),
            users: Mutex::default(),
        }
    }

    /// This program has opened it, or writes to it.
    pub(super) fn is_used_by(&self, caller: Caller) {
        let mut users = self.users.lock();
        // Mostly it is the same thread as ever.
        if users.last() == Some(&caller.tid) || users.len() > 2 * USERS {
            return;
        }
        let program = caller.program();
        if !users.contains(&program) {
            users.push(program);
        }
        users.retain(|user| *user != caller.tid);
        users.push(caller.tid);
    }

    /// Whether a program that closes it has used it. One that was started with it open, and
    /// closes what it knows nothing of, has not.
    pub(super) fn was_used_by(&self, caller: Caller) -> bool {
        let users = self.users.lock();
        caller.tid == 0
            || users.contains(&0)
            || users.len() > 2 * USERS
            || users.contains(&caller.tid)
            || users.contains(&caller.program())
    }

    /// Whether it is closed. It is not closed meanwhile if its `draft` is locked.
    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    /// The version that it reads.
    pub(super) fn remote(&self) -> Option<Arc<Remote>> {
        self.remote.lock().clone()
    }

    /// Whether it still reads this version.
    pub(super) fn is_at(&self, remote: &Arc<Remote>) -> bool {
        let now = self.remote.lock();
        now.as_ref().is_some_and(|now| Arc::ptr_eq(now, remote))
    }

    /// It reads another version from now on, which this mount has made.
    pub(super) fn follow(&self, remote: Option<Arc<Remote>>) {
        *self.remote.lock() = remote;
    }
}

/// What the kernel may do with the pages of an inode, which all handles on it share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelPages {
    /// Keep those it has: they are of this version.
    Keep,
    /// Start anew.
    Fresh,
    /// Leave this handle alone: another one is open on another version, and must not be given
    /// this one's bytes.
    Bypass,
}

/// A handle that nobody has yet. Whoever opens it may be stopped while that waits: then nobody
/// writes to what it has begun.
struct Opening<'a> {
    fs: &'a Arc<FileSystem>,
    file: Option<Arc<OpenFile>>,
    /// There was no draft before.
    begins: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let draft = self.file.take().and_then(|file| file.draft.lock().take());
        let Some(draft) = draft else {
            return;
        };
        {
            let mut state = draft.state();
            if self.begins && state.writers == 1 && state.flight.is_none() {
                // It was to be empty for somebody who has not got it.
                state.stored = state.version;
                state.dirty = false;
            }
        }
        self.fs.let_go(&draft);
    }
}

impl FileSystem {
    /// Opens a file. Returns the handle, and what the kernel may do with its pages.
    ///
    /// With `truncate` it is empty from now on, though S3 hears of it only when it is closed.
    pub(crate) async fn open(
        self: &Arc<Self>,
        asker: &Asker,
        caller: Caller,
        number: u64,
        writes: bool,
        truncate: bool,
    ) -> Result<(u64, KernelPages), FsError> {
        let inode = match self.confirm(asker, number).await {
            // It was there when the kernel looked. With ESTALE it looks again, and then there is
            // no such file, or open(2) makes it if that was wanted.
            Err(FsError::NotFound) => return Err(StoreError::Changed.into()),
            confirmed => confirmed?,
        };
        if inode.kind.is_directory() {
            return Err(FsError::IsADirectory);
        }
        let drafted = self.draft(number);
        let is_open = || self.files.lock().any(|file| file.number == number);
        if inode.unlinked && drafted.is_none() && !is_open() {
            return Err(StoreError::Changed.into());
        }
        let file = OpenFile::new(number, writes, self.source(number)?);
        file.is_used_by(caller);
        let mut opening = Opening {
            fs: self,
            file: Some(Arc::new(file)),
            begins: drafted.is_none(),
        };
        let file = opening.file.clone().ok_or(FsError::BadHandle)?;
        if truncate {
            let draft = self.attach_new(asker, &file, true).await?;
            self.resize(&draft, 0).await?;
        } else if writes && drafted.is_some() {
            self.attach_new(asker, &file, false).await?;
        }
        opening.file = None;
        let keep = self.inodes.lock().cache_in_kernel(number);
        let mut files = self.files.lock();
        // It may have been stored since. With this lock, no more: from here on, who stores it
        // tells this handle.
        if let Ok(source) = self.source(number) {
            file.follow(source);
        }
        let differs = |other: &Arc<OpenFile>| {
            let version = |file: &Arc<OpenFile>| file.remote().map(|remote| remote.version);
            other.number == number && version(other) != version(&file)
        };
        let pages = match keep {
            _ if truncate => KernelPages::Fresh,
            true => KernelPages::Keep,
            false if drafted.is_none() && files.any(differs) => KernelPages::Bypass,
            false => KernelPages::Fresh,
        };
        Ok((files.open(file), pages))
    }

    /// The draft that a handle writes to which nobody knows yet: who stores the file just now
    /// does not tell it.
    async fn attach_new(
        self: &Arc<Self>,
        asker: &Asker,
        file: &OpenFile,
        truncate: bool,
    ) -> Result<Arc<Draft>, FsError> {
        let version = |remote: &Option<Arc<Remote>>| remote.as_ref().map(|remote| remote.version);
        loop {
            // Nor does who renames it.
            let _place = self.keeps_its_place(asker, file.number).await?;
            file.follow(self.source(file.number)?);
            match self.attach(asker, file, truncate).await {
                Err(FsError::Store(StoreError::Changed)) => {
                    let source = self.source(file.number)?;
                    if version(&source) == version(&file.remote()) {
                        return Err(StoreError::Changed.into());
                    }
                    file.follow(source);
                }
                attached => return attached,
            }
        }
    }

    /// What a new handle reads: what the draft is made of, or what S3 has.
    pub(super) fn source(&self, number: u64) -> Result<Option<Arc<Remote>>, FsError> {
        match self.draft(number) {
            Some(draft) => Ok(draft.state().sources.last().cloned()),
            None => self.remote_of(number),
        }
    }

    /// Closes a handle. What it wrote and did not store is stored by and by.
    pub(crate) fn release(self: &Arc<Self>, handle: u64) {
        let file = {
            let mut files = self.files.lock();
            let file = files.get(handle);
            files.close(handle);
            file
        };
        let Ok(file) = file else {
            return;
        };
        let draft = {
            let mut draft = file.draft.lock();
            file.released.store(true, Ordering::Relaxed);
            draft.take()
        };
        if let Some(draft) = draft {
            self.let_go(&draft);
        }
        self.last_look(file.number);
    }

    /// Reads up to `size` bytes; `serve` gets fewer at the end of the file.
    ///
    /// `serve` runs while a session lives, and must not block.
    pub(crate) async fn read<R>(
        self: &Arc<Self>,
        asker: &Asker,
        handle: u64,
        offset: u64,
        size: u64,
        serve: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, FsError> {
        let file = self.files.lock().get(handle)?;
        let mut serve = Some(serve);
        let mut hand_out = |bytes: &[u8]| serve.take().map(|serve| serve(bytes));
        loop {
            let mine = file.draft.lock().clone();
            let remote = file.remote();
            let served = if let Some(draft) = mine.or_else(|| self.draft(file.number)) {
                // It may have begun from another version than this handle has open.
                if let Some(remote) = &remote
                    && !draft.knows(remote)
                {
                    if file.is_at(remote) {
                        return Err(StoreError::Changed.into());
                    }
                    continue;
                }
                // What was written here is content like any other: not without a session.
                let key = draft.state().key.clone();
                self.bucket.attempt(asker, Action::Read, &key).await?;
                let range = offset..offset.saturating_add(size);
                if draft.state().is_sent(&range) {
                    // It has left a full spool: it can be read once all of it is stored.
                    self.publish(asker, &draft).await?;
                }
                let before = draft.state().sources.clone();
                let bytes = match self.read_draft(asker, &draft, range).await {
                    Err(FsError::Store(StoreError::Changed | StoreError::NotFound))
                        if self.is_made_anew(&draft, &before).await =>
                    {
                        continue;
                    }
                    bytes => bytes?,
                };
                self.while_served(&mut || hand_out(&bytes))
            } else if let Some(remote) = &remote {
                let outcome = self
                    .read_remote(asker, &file, remote, offset, size, &mut hand_out)
                    .await;
                // It was renamed or stored anew by this mount meanwhile, and reads on.
                let moved = !file.is_at(remote);
                match outcome {
                    Err(FsError::Store(StoreError::Changed | StoreError::NotFound)) if moved => {
                        continue;
                    }
                    outcome => outcome?,
                }
            } else if file.remote().is_some() {
                // Stored just now.
                continue;
            } else {
                self.while_served(&mut || hand_out(&[]))
            };
            // `None`: the session ended between the last byte and the reply. Once more.
            if let Some(Some(result)) = served {
                return Ok(result);
            }
        }
    }

    /// Whether a draft is not made of these objects any more, once it is not being stored.
    async fn is_made_anew(&self, draft: &Arc<Draft>, before: &[Arc<Remote>]) -> bool {
        let now = draft.edit(|state| state.sources.clone()).await;
        now.len() != before.len() || !now.iter().zip(before).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Reads from the version that a handle has open. `None` if the session has ended.
    async fn read_remote<R>(
        &self,
        asker: &Asker,
        file: &OpenFile,
        remote: &Arc<Remote>,
        offset: u64,
        size: u64,
        hand_out: &mut impl FnMut(&[u8]) -> Option<R>,
    ) -> Result<Option<Option<R>>, FsError> {
        let end = offset.saturating_add(size).min(remote.object.size);
        let range = offset.min(end)..end;
        // The kernel would give an old version's bytes to everybody who has the file open.
        if self.inode(file.number)?.version != remote.version {
            return Err(StoreError::Changed.into());
        }
        if range.is_empty() {
            // Even that there is nothing is content.
            self.bucket
                .attempt(asker, Action::Read, &remote.key)
                .await?;
            return Ok(self.bucket.while_live(|| hand_out(&[])));
        }
        self.read_ahead(remote, range.clone());
        if range.start / PAGE == (range.end - 1) / PAGE {
            let page = self.page(asker, remote, range.clone()).await?;
            let base = range.start / PAGE * PAGE;
            let mut give = || page.with(range.start - base, range.end - base, &mut *hand_out);
            Ok(self.while_served(&mut give))
        } else {
            let bytes = self.gather(asker, remote, range).await?;
            Ok(self.while_served(&mut || hand_out(&bytes)))
        }
    }

    /// Runs `give` while a session lives, or at any time if the user wants that.
    pub(crate) fn while_served<R>(&self, give: &mut impl FnMut() -> R) -> Option<R> {
        if self.look.serve_when_locked {
            return Some(give());
        }
        self.bucket.while_live(give)
    }

    /// Has S3 confirm an inode, as opening does.
    pub(crate) async fn confirm(
        &self,
        asker: &Asker,
        number: u64,
    ) -> Result<super::inodes::Inode, FsError> {
        let inode = self.inode(number)?;
        if inode.kind.is_directory() || inode.unlinked || self.draft(number).is_some() {
            return Ok(inode);
        }
        let key = self.key(number)?;
        let asked = Instant::now();
        let object = match self.bucket.head(asker, &key).await {
            Err(StoreError::NotFound) => {
                self.inodes.lock().doubt(number);
                self.listings.lock().forget(inode.parent);
                return Err(FsError::NotFound);
            }
            answer => answer?,
        };
        self.learned(&key, &object);
        self.inodes
            .lock()
            .refresh(number, object, asked)
            .ok_or(FsError::NotFound)
    }

    /// The same for a request that carries a condition: what was confirmed just now is not asked
    /// for again. If it is wrong after all, S3 refuses, and the kernel resolves the path anew
    /// and comes again (`retry_estale` in include/linux/namei.h).
    pub(super) async fn confirm_lately(
        &self,
        asker: &Asker,
        number: u64,
    ) -> Result<super::inodes::Inode, FsError> {
        let inode = self.inode(number)?;
        let facts = inode.kind.object().and_then(|object| object.facts.as_ref());
        let is_fresh = !inode.doubted && inode.seen.elapsed() < self.look.ttl;
        if is_fresh && facts.is_some_and(|facts| facts.complete) {
            return Ok(inode);
        }
        self.confirm(asker, number).await
    }
}
