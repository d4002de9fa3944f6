//! Names that go: files that somebody may still have open, and empty directories.

use std::ffi::OsStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::draft::{Draft, Fate, Held};
use super::file::Remote;
use super::giving_up::is_marked;
use super::inodes::Inode;
use super::names::from_kernel;
use super::{FileSystem, FsError, blocking};
use crate::auth::Asker;
use crate::store::write::Condition;
use crate::store::{Object, Query, StoreError};

/// The largest file that is fetched whole when its name is removed while somebody has it open.
/// A larger one stays in the bucket, without its name here, until it is closed.
const FETCHED: u64 = 64 << 20;

/// An object whose name is gone here, and which goes from the bucket when nobody reads it any
/// more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hidden {
    /// Its number in the journal.
    #[serde(skip)]
    pub(super) id: u64,
    #[serde(skip)]
    pub(super) number: u64,
    pub(super) key: String,
    pub(super) object: Object,
    /// The mark of the change that was to be stored in its place, and goes with it.
    #[serde(default)]
    pub(super) change: Option<String>,
    /// It is being deleted.
    #[serde(skip)]
    pub(super) is_going: bool,
}

impl FileSystem {
    /// Removes the name of a file. Open handles still read and write.
    pub(crate) async fn unlink(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let _place = self.keeps_its_place(asker, parent).await?;
        let name = from_kernel(name)?;
        let inode = self.named(asker, parent, name).await?;
        if inode.kind.is_directory() {
            return Err(FsError::IsADirectory);
        }
        self.keep_directory(asker, parent).await?;
        let key = self.key(inode.number)?;
        let mut held = self.seize(inode.number).await;
        let away = self.take_away(asker, inode.number, &key, &mut held).await;
        let noted = match away {
            Ok(noted) => noted,
            Err(error) => {
                self.let_loose(held);
                return Err(error);
            }
        };
        self.index.remove(&key);
        self.locks.forget_name(&key);
        self.inodes.lock().unlink(inode.number);
        self.names_changed(parent, name, None);
        if let Some(draft) = self.draft(inode.number) {
            self.let_fall(&draft);
        }
        if let Some(noted) = noted {
            self.throw_out(noted);
        }
        Ok(())
    }

    /// Takes a file away from the bucket, if it is there. Returns the entry of the journal that
    /// says so, to be thrown out when nothing else there speaks of the file.
    async fn take_away(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        key: &str,
        held: &mut Option<Held>,
    ) -> Result<Option<u64>, FsError> {
        let Some(object) = self.stands_for(asker, number, held.as_ref()).await? else {
            return Ok(None);
        };
        let is_kept = self.keeps_for_readers(asker, number, held).await?;
        let change = held.as_ref().and_then(|held| {
            let state = held.draft.state();
            state.is_pending().then(|| state.nonce.clone())
        });
        let hidden = Hidden {
            id: self.spool()?.new_id(),
            number,
            key: key.to_owned(),
            object,
            change,
            is_going: false,
        };
        if !is_kept {
            self.note(&hidden)?;
            self.hidden.lock().insert(hidden.key.clone(), hidden);
            return Ok(None);
        }
        // Whoever finds what was to be stored finds that it was removed, too.
        let noted = hidden.change.is_some().then_some(hidden.id);
        if noted.is_some() {
            self.note(&hidden)?;
            self.sync_journal().await?;
        }
        self.settle_copies(asker, number, |going| going == key)
            .await;
        let removed = self.remove(asker, number, key, &hidden.object).await;
        if let (Some(noted), Err(_)) = (noted, &removed) {
            self.throw_out(noted);
            self.sync_journal().await?;
        }
        removed.map(|()| noted)
    }

    /// What the journal was told outlives the machine.
    async fn sync_journal(self: &Arc<Self>) -> Result<(), FsError> {
        let fs = Arc::clone(self);
        blocking(move || Ok(fs.spool()?.sync(None)?)).await?
    }

    /// Tells the journal that an object is to be deleted.
    fn note(&self, hidden: &Hidden) -> Result<(), FsError> {
        let kept = super::recover::Kept::Delete(hidden.clone());
        Ok(self.spool()?.put(hidden.id, &kept)?)
    }

    /// Removes an empty directory.
    pub(crate) async fn remove_directory(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let _place = self.keeps_its_place(asker, parent).await?;
        let name = from_kernel(name)?;
        let inode = self.named(asker, parent, name).await?;
        if !inode.kind.is_directory() {
            return Err(FsError::NotADirectory);
        }
        self.keep_directory(asker, parent).await?;
        let key = format!("{}/", self.key(inode.number)?);
        self.is_empty(asker, inode.number, &key).await?;
        self.bucket.delete(asker, &key, &Condition::Always).await?;
        self.index.remove(&key);
        self.inodes.lock().unlink(inode.number);
        self.listings.lock().forget(inode.number);
        self.names_changed(parent, name, None);
        Ok(())
    }

    /// Fails with `ENOTEMPTY` if there is more in a directory than its marker.
    pub(super) async fn is_empty(
        &self,
        asker: &Asker,
        number: u64,
        key: &str,
    ) -> Result<(), FsError> {
        // Before S3 is asked: one that is stored just now is missed by both otherwise.
        if self.has_drafts(number) {
            return Err(FsError::NotEmpty);
        }
        let hidden = {
            let hidden = self.hidden.lock();
            hidden.keys().filter(|name| name.starts_with(key)).count()
        };
        let mut query = Query {
            prefix: key.to_owned(),
            // The marker, one name, and those that are hidden.
            limit: i32::try_from(hidden + 2).ok(),
            ..Query::default()
        };
        loop {
            let page = self.bucket.names(asker, &query).await?;
            let is_left = {
                let hidden = self.hidden.lock();
                let is_other = |name: &String| name != key && !hidden.contains_key(name);
                page.entries.iter().any(is_other)
            };
            if is_left || !page.unreadable.is_empty() {
                return Err(FsError::NotEmpty);
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Whether there is a file in a directory that is being changed here, or waits to be stored.
    pub(super) fn has_drafts(&self, directory: u64) -> bool {
        let drafts = self.drafts.lock();
        let inodes = self.inodes.lock();
        let is_in = |number: &u64| {
            let inode = inodes.get(*number);
            inode.is_some_and(|inode| inode.parent == directory && !inode.unlinked)
        };
        drafts.keys().any(is_in)
    }

    /// The inode of a name, asked for if it is not known.
    pub(super) async fn named(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &str,
    ) -> Result<Inode, FsError> {
        if let Some(inode) = self.inodes.lock().find(parent, name) {
            return Ok(inode.clone());
        }
        let inode = self.lookup(asker, parent, OsStr::new(name)).await?;
        // The kernel does not count this one.
        self.forget(inode.number, 1);
        Ok(inode)
    }

    /// Holds the draft of an inode, if it has one.
    pub(super) async fn hold(&self, number: u64) -> Option<Held> {
        loop {
            let draft = self.draft(number)?;
            // Whoever writes to it must not wait for what S3 makes of its name.
            let held = draft.hold().await.with_writers();
            // It may have been stored while this waited, and another begun.
            if self
                .draft(number)
                .is_some_and(|now| Arc::ptr_eq(&now, &draft))
            {
                return Some(held);
            }
        }
    }

    /// The same, and gives up what is being stored of it: see [`super::draft::Draft::seize`].
    pub(super) async fn seize(&self, number: u64) -> Option<Held> {
        loop {
            let draft = self.draft(number)?;
            let held = draft.seize().await.with_writers();
            let now = self.draft(number);
            if now.is_some_and(|now| Arc::ptr_eq(&now, &draft)) {
                return Some(held);
            }
        }
    }

    /// What was held goes on as before, or is not needed any more.
    pub(super) fn let_loose(self: &Arc<Self>, held: impl IntoIterator<Item = Held>) {
        for held in held {
            let draft = Arc::clone(&held.draft);
            drop(held);
            self.end_if_unused(&draft);
        }
    }

    /// The object that this mount knows to stand under the name of a file, if there is one.
    pub(super) async fn stands_for(
        &self,
        asker: &Asker,
        number: u64,
        held: Option<&Held>,
    ) -> Result<Option<Object>, FsError> {
        if let Some(held) = held {
            return self.stands_for_draft(asker, &held.draft).await;
        }
        let mut inode = self.inode(number)?;
        if inode
            .kind
            .object()
            .is_none_or(|object| object.etag.is_empty())
        {
            // It was stored just now, or never.
            inode = match self.confirm(asker, number).await {
                Err(FsError::NotFound) => return Ok(None),
                confirmed => confirmed?,
            };
        }
        let object = inode.kind.object().cloned();
        Ok(object.filter(|object| !object.etag.is_empty()))
    }

    /// The same for a draft that is held. What it was stored as, without an answer having come, is
    /// its own too.
    async fn stands_for_draft(
        &self,
        asker: &Asker,
        draft: &Draft,
    ) -> Result<Option<Object>, FsError> {
        let (asked, base, key, nonce) = {
            let state = draft.state();
            let (base, key) = (state.base.clone(), state.key.clone());
            (state.asked, base, key, state.nonce.clone())
        };
        if !asked {
            return Ok(base);
        }
        let found = match self.bucket.head(asker, &key).await {
            Err(StoreError::NotFound) => return Ok(base),
            found => found?,
        };
        if !is_marked(&found, &nonce) {
            return Ok(base);
        }
        draft.state().base = Some(found.clone());
        Ok(Some(found))
    }

    /// Makes sure that whoever has a file open can go on when it is gone from the bucket.
    /// Returns whether that is so: `false` if it is too large for that.
    pub(super) async fn keeps_for_readers(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        held: &mut Option<Held>,
    ) -> Result<bool, FsError> {
        if !self.files.lock().any(|file| file.number == number) {
            return Ok(true);
        }
        if let Some(held) = held {
            let (remote, size) = {
                let state = held.draft.state();
                (state.content.remote_bytes(), state.size())
            };
            if remote > FETCHED {
                return Ok(false);
            }
            self.hydrate(asker, &held.draft, 0..size).await?;
            return Ok(true);
        }
        let Some(remote) = self.remote_of(number)? else {
            return Ok(true);
        };
        let size = remote.object.size;
        if size > FETCHED {
            return Ok(false);
        }
        let is_still = || self.is_still(number, &remote);
        self.begin_on(asker, number, &remote, false, is_still)
            .await?;
        *held = self.hold(number).await;
        if let Some(held) = held {
            self.hydrate(asker, &held.draft, 0..size).await?;
        }
        Ok(true)
    }

    /// Deletes what this mount knows to stand under a key.
    pub(super) async fn remove(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        key: &str,
        object: &Object,
    ) -> Result<(), FsError> {
        self.forget_discarded().await?;
        let condition = Condition::Is(object.etag.clone());
        let outcome = self.bucket.delete(asker, key, &condition).await;
        if let Err(StoreError::Changed) = outcome {
            // The kernel looks it up again and asks once more; then it is that one that goes.
            self.inodes.lock().doubt(number);
            self.listings.lock().clear();
        }
        Ok(outcome?)
    }

    /// See [`crate::spool::Spool::forget`].
    pub(super) async fn forget_discarded(self: &Arc<Self>) -> Result<(), FsError> {
        let fs = Arc::clone(self);
        blocking(move || Ok(fs.spool()?.forget()?)).await?
    }

    /// A handle was closed: what was kept only for it goes.
    pub(super) fn last_look(self: &Arc<Self>, number: u64) {
        if self.files.lock().any(|file| file.number == number) {
            return;
        }
        if let Some(draft) = self.draft(number)
            && draft.state().fate == Fate::Unlinked
        {
            self.retire(&draft);
        }
        let hidden = {
            let hidden = self.hidden.lock();
            hidden
                .values()
                .find(|hidden| hidden.number == number)
                .cloned()
        };
        if let Some(hidden) = hidden {
            let fs = Arc::clone(self);
            tokio::spawn(async move { fs.remove_hidden(hidden).await });
        }
    }

    /// An object is copied to another name and cannot be deleted just now: its name is gone here,
    /// and the journal has it deleted as soon as that works.
    pub(super) async fn delete_later(self: &Arc<Self>, remote: &Remote) -> Result<(), FsError> {
        let hidden = Hidden {
            id: self.spool()?.new_id(),
            // Whoever reads it reads on from the copy.
            number: 0,
            key: remote.key.clone(),
            object: remote.object.clone(),
            change: None,
            is_going: false,
        };
        self.note(&hidden)?;
        self.sync_journal().await?;
        self.hidden.lock().insert(hidden.key.clone(), hidden);
        Ok(())
    }

    /// Deletes an object whose name is gone here already.
    pub(super) async fn remove_hidden(&self, hidden: Hidden) {
        {
            let mut all = self.hidden.lock();
            match all.get_mut(&hidden.key) {
                Some(now) if now.id == hidden.id && !now.is_going => now.is_going = true,
                // Somebody else does it, or its name is needed.
                _ => return,
            }
        }
        let condition = Condition::Is(hidden.object.etag.clone());
        let nobody = Asker::nobody();
        match self.bucket.delete(&nobody, &hidden.key, &condition).await {
            Ok(()) => {}
            Err(StoreError::Changed) => {
                tracing::info!("{}: somebody else has made it anew", hidden.key);
            }
            // It is in the journal: the next session, or the next mount, tries again.
            Err(error) => {
                tracing::warn!("{}: it is not deleted yet ({error})", hidden.key);
                if let Some(hidden) = self.hidden.lock().get_mut(&hidden.key) {
                    hidden.is_going = false;
                }
                self.stored_something.send_modify(|count| *count += 1);
                return;
            }
        }
        self.throw_out(hidden.id);
        self.hidden.lock().remove(&hidden.key);
        self.stored_something.send_modify(|count| *count += 1);
    }

    /// Takes an object whose name is gone here, because its name is needed. The journal is told
    /// by who takes it.
    pub(super) async fn claim_hidden(&self, key: &str) -> Option<Hidden> {
        let mut changes = self.stored_something.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let mut hidden = self.hidden.lock();
                if !hidden.get(key)?.is_going {
                    return hidden.remove(key);
                }
            }
            // It is being deleted.
            let _ = changes.changed().await;
        }
    }
}
