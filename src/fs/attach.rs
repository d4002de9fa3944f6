//! Drafts begin with the first change of a file, and end when nobody needs them any more.

use std::collections::HashMap;
use std::sync::Arc;

use super::draft::{Draft, Fate, SINGLE, State};
use super::extents::Extents;
use super::file::{OpenFile, Remote};
use super::inodes::Kind;
use super::over::{MOMENT, SINCE};
use super::recover::Kept;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::StoreError;

/// The most extents that are journalled at each change; with more, only each time they have
/// doubled: what was never closed is journalled to be found again, not to be complete.
pub(super) const JOURNALLED: usize = 64;

/// A draft that is not ready yet. Whoever waits for it may be stopped, and then it goes.
struct Begun<'a> {
    fs: &'a FileSystem,
    id: Option<u64>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.fs.throw_out(id);
        }
    }
}

impl FileSystem {
    /// The draft of an inode, if it is being changed.
    pub(crate) fn draft(&self, number: u64) -> Option<Arc<Draft>> {
        self.drafts.lock().get(&number).cloned()
    }

    /// Tells the journal how a draft stands.
    pub(super) fn journal(&self, draft: &Draft, state: &mut State) -> Result<(), FsError> {
        if state.fate == Fate::Unlinked {
            // The next mount must not bring it back.
            return Ok(());
        }
        state.journalled = state.content.count();
        state.journalled_as = match state.journalled {
            0..=JOURNALLED => state.content.clone(),
            _ => Extents::new(),
        };
        let (record, since) = state.records();
        let kept = Kept::File(Box::new(record));
        self.spool()?.put(draft.id, &kept)?;
        if let Some(since) = since {
            self.spool()?.put_part(draft.id, SINCE, &since)?;
        }
        Ok(())
    }

    /// Tells the journal of new extents, unless there are so many that it would be slow.
    pub(super) fn journal_extents(&self, draft: &Draft, state: &mut State) -> Result<(), FsError> {
        let (now, before) = (state.content.count(), state.journalled);
        // What is appended is found by the length of the spool file, unless more lies behind it.
        let is_known =
            state.over.is_none() && state.content.has_only_grown_from(&state.journalled_as);
        if is_known || (now > JOURNALLED && now < before * 2) {
            return Ok(());
        }
        self.journal(draft, state)
    }

    /// Begins a draft, which the journal knows from now on.
    pub(super) fn begin(&self, number: u64, state: State) -> Result<Arc<Draft>, FsError> {
        let kept = Kept::File(Box::new(state.record()));
        let (id, file) = self.spool()?.create(&kept)?;
        Ok(Arc::new(Draft::new(number, id, Arc::new(file), state)))
    }

    /// Makes a draft the one of its inode. Another may have been quicker: that is returned, and
    /// this one thrown away. `None` if `is_still` says no, which is asked with the lock that
    /// ending a draft takes.
    pub(super) fn install(
        &self,
        draft: Arc<Draft>,
        is_still: impl FnOnce() -> bool,
    ) -> Option<Arc<Draft>> {
        let mut drafts = self.drafts.lock();
        let other = drafts.get(&draft.number).cloned();
        if other.is_some() || !is_still() {
            self.throw_out(draft.id);
            return other;
        }
        drafts.insert(draft.number, Arc::clone(&draft));
        self.inodes.lock().set_drafted(draft.number, true);
        Some(draft)
    }

    /// Somebody writes to a draft from now on, until [`Self::let_go`]. Not if it has ended:
    /// returns whether it goes on.
    pub(super) fn take(&self, draft: &Arc<Draft>) -> bool {
        // With the lock that ending it takes.
        let drafts = self.drafts.lock();
        let now = drafts.get(&draft.place());
        let goes_on = now.is_some_and(|now| Arc::ptr_eq(now, draft));
        if goes_on {
            draft.state().writers += 1;
        }
        goes_on
    }

    /// Ends a draft, unless somebody writes to it and it is to be stored. Returns whether.
    pub(super) fn retire_unused(&self, draft: &Arc<Draft>) -> bool {
        let mut drafts = self.drafts.lock();
        let is_used = {
            let state = draft.state();
            state.fate == Fate::Named && (state.writers > 0 || state.is_pending())
        };
        if !is_used {
            self.retire_from(&mut drafts, draft);
        }
        !is_used
    }

    /// Ends a draft: what the inode is, S3 says from now on.
    pub(super) fn retire(&self, draft: &Arc<Draft>) {
        self.retire_from(&mut self.drafts.lock(), draft);
    }

    fn retire_from(&self, drafts: &mut HashMap<u64, Arc<Draft>>, draft: &Arc<Draft>) {
        let place = draft.place();
        let is_it = drafts.get(&place).is_some_and(|d| Arc::ptr_eq(d, draft));
        if is_it {
            drafts.remove(&place);
            self.inodes.lock().set_drafted(place, false);
        }
    }

    /// The draft that a handle writes to; begun if there is none.
    ///
    /// Errors: `ESTALE` if the file is being changed from another version than the handle has
    /// open.
    pub(super) async fn attach(
        self: &Arc<Self>,
        asker: &Asker,
        file: &OpenFile,
        truncate: bool,
    ) -> Result<Arc<Draft>, FsError> {
        loop {
            if let Some(draft) = &*file.draft.lock() {
                return Ok(Arc::clone(draft));
            }
            let _place = self.keeps_its_place(asker, file.number).await?;
            let remote = file.remote();
            let draft = match (self.draft(file.number), remote) {
                (Some(draft), Some(remote)) if !draft.knows(&remote) => {
                    if file.is_at(&remote) {
                        return Err(StoreError::Changed.into());
                    }
                    // Stored just now.
                    continue;
                }
                (Some(draft), remote)
                    if draft.state().waits_with_attributes()
                        && self.settle_now(asker, &draft).await =>
                {
                    // A handle that nobody knows yet was not told.
                    if let Some(remote) = remote.filter(|remote| file.is_at(remote)) {
                        let source = self.source(file.number)?;
                        let is_new = |source: &Arc<Remote>| source.version != remote.version;
                        if source.as_ref().is_some_and(is_new) {
                            file.follow(source);
                        }
                    }
                    continue;
                }
                (Some(draft), _) => draft,
                (None, Some(remote)) => {
                    // What it has open may be stored anew by somebody else here meanwhile: to
                    // begin from the old one would be a conflict with oneself.
                    let is_still = || file.is_at(&remote);
                    let begun = self.begin_on(asker, file.number, &remote, truncate, is_still);
                    match begun.await {
                        Err(FsError::Store(StoreError::Changed)) if !file.is_at(&remote) => {
                            continue;
                        }
                        begun => begun?,
                    }
                }
                (None, None) if file.remote().is_some() => continue,
                (None, None) => return Err(StoreError::Changed.into()),
            };
            let mut mine = file.draft.lock();
            if let Some(mine) = &*mine {
                return Ok(Arc::clone(mine));
            }
            if file.is_released() {
                drop(mine);
                self.end_if_unused(&draft);
                return Err(FsError::BadHandle);
            }
            if self.take(&draft) {
                *mine = Some(Arc::clone(&draft));
                return Ok(draft);
            }
            // The last one who wrote to it has closed just now.
        }
    }

    /// Begins a draft on an object that is there.
    ///
    /// Errors: `ESTALE` if `is_still` says no when all is ready.
    pub(super) async fn begin_on(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        remote: &Arc<Remote>,
        truncate: bool,
        is_still: impl FnOnce() -> bool,
    ) -> Result<Arc<Draft>, FsError> {
        let size = remote.object.size;
        let remote = self.with_facts(asker, remote).await?;
        let mut state = State::of(remote);
        let unlinked = self.inode(number)?.unlinked;
        if unlinked {
            state.fate = Fate::Unlinked;
        }
        if truncate {
            state.content.set_size(0);
            state.delta.set_size(0);
            state.bytes_changed();
        }
        let draft = self.begin(number, state)?;
        let mut begun = Begun {
            fs: self,
            id: Some(draft.id),
        };
        if unlinked {
            self.throw_out(draft.id);
        }
        if !truncate && size <= SINGLE {
            let (fs, asker, fetching) = (Arc::clone(self), *asker, Arc::clone(&draft));
            let fetched = tokio::spawn(async move { fs.hydrate(&asker, &fetching, 0..size).await });
            // It goes on by itself, and whoever stores the file waits for the rest.
            if let Ok(fetched) = tokio::time::timeout(MOMENT, fetched).await {
                let ended = |error| FsError::Spool(format!("fetching was given up: {error}"));
                fetched.map_err(ended)??;
            }
        }
        begun.id = None;
        let installed = self.install(draft, is_still);
        Ok(installed.ok_or(StoreError::Changed)?)
    }

    /// Whether an inode is still what was to be read from this.
    pub(super) fn is_still(&self, number: u64, remote: &Remote) -> bool {
        let inodes = self.inodes.lock();
        let object = inodes.get(number).and_then(|inode| inode.kind.object());
        object.is_some_and(|object| object.is_version(&remote.object))
    }

    /// An inode's object and key as something to read from.
    pub(super) fn remote_of(&self, number: u64) -> Result<Option<Arc<Remote>>, FsError> {
        let inode = self.inode(number)?;
        let object = match inode.kind {
            Kind::Directory(_) => return Err(FsError::IsADirectory),
            Kind::File(object) | Kind::Symlink(object) => object,
        };
        if object.etag.is_empty() {
            return Ok(None);
        }
        let remote = Remote::new(inode.version, self.key(number)?, object);
        Ok(Some(Arc::new(remote)))
    }
}
