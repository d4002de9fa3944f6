//! Names that go: files that somebody may still have open, and empty directories.

use std::ffi::OsStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::draft::{Draft, Fate};
use super::inodes::Inode;
use super::names::from_kernel;
use super::{FileSystem, FsError};
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
}

impl FileSystem {
    /// Removes the name of a file. Open handles still read and write.
    pub(crate) async fn unlink(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let name = from_kernel(name)?;
        let inode = self.named(asker, parent, name).await?;
        if inode.kind.is_directory() {
            return Err(FsError::IsADirectory);
        }
        self.keep_directory(asker, parent).await?;
        let key = self.key(inode.number)?;
        let draft = self.settle(inode.number).await;
        let object = match &draft {
            Some(draft) => draft.state().base.clone(),
            None => inode.kind.object().cloned(),
        };
        if let Some(object) = object.filter(|object| !object.etag.is_empty()) {
            if self
                .keeps_for_readers(asker, &inode, draft.as_ref())
                .await?
            {
                self.remove(asker, inode.number, &key, &object).await?;
            } else {
                self.hide(inode.number, key.clone(), object)?;
            }
        }
        self.index.remove(&key);
        self.inodes.lock().unlink(inode.number);
        self.names_changed(parent, name, None);
        if let Some(draft) = self.draft(inode.number) {
            self.let_fall(&draft);
        }
        Ok(())
    }

    /// Removes an empty directory.
    pub(crate) async fn remove_directory(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &OsStr,
    ) -> Result<(), FsError> {
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
        let query = Query {
            prefix: key.to_owned(),
            // The marker, one name, and one that may be hidden.
            limit: Some(3),
            ..Query::default()
        };
        let page = self.bucket.list(asker, &query).await?;
        let hidden = self.hidden.lock();
        let mut names = page.entries.iter().map(|entry| entry.key());
        if names.any(|name| name != key && !hidden.contains_key(name)) {
            return Err(FsError::NotEmpty);
        }
        drop(hidden);
        let drafts = self.drafts.lock();
        let inodes = self.inodes.lock();
        let is_in = |draft: &Arc<Draft>| {
            inodes
                .get(draft.number)
                .is_some_and(|i| i.parent == number && !i.unlinked)
        };
        if drafts.values().any(is_in) {
            return Err(FsError::NotEmpty);
        }
        Ok(())
    }

    /// The inode of a name, asked for if it is not known.
    pub(super) async fn named(
        &self,
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

    /// Waits until an inode's draft is not being stored. Returns it.
    pub(super) async fn settle(&self, number: u64) -> Option<Arc<Draft>> {
        let draft = self.draft(number)?;
        draft.edit(|_| ()).await;
        self.draft(number)
    }

    /// Makes sure that whoever has a file open can go on when it is gone from the bucket.
    /// Returns whether that is so: `false` if it is too large for that.
    pub(super) async fn keeps_for_readers(
        &self,
        asker: &Asker,
        inode: &Inode,
        draft: Option<&Arc<Draft>>,
    ) -> Result<bool, FsError> {
        let number = inode.number;
        if !self.files.lock().any(|file| file.number == number) {
            return Ok(true);
        }
        if let Some(draft) = draft {
            let (remote, size) = {
                let state = draft.state();
                (state.content.remote_bytes(), state.size())
            };
            if remote > FETCHED {
                return Ok(false);
            }
            self.hydrate(asker, draft, 0..size).await?;
            return Ok(true);
        }
        let Some(remote) = self.remote_of(number)? else {
            return Ok(true);
        };
        let size = remote.object.size;
        if size > FETCHED {
            return Ok(false);
        }
        let draft = self.begin_on(asker, number, remote, false).await?;
        self.hydrate(asker, &draft, 0..size).await?;
        Ok(true)
    }

    /// Deletes what this mount knows to stand under a key.
    pub(super) async fn remove(
        &self,
        asker: &Asker,
        number: u64,
        key: &str,
        object: &Object,
    ) -> Result<(), FsError> {
        let condition = Condition::Is(object.etag.clone());
        let outcome = self.bucket.delete(asker, key, &condition).await;
        if let Err(StoreError::Changed) = outcome {
            // The kernel looks it up again and asks once more; then it is that one that goes.
            self.inodes.lock().doubt(number);
            self.listings.lock().clear();
        }
        Ok(outcome?)
    }

    /// Takes the name away here, and remembers to take it away in the bucket.
    fn hide(&self, number: u64, key: String, object: Object) -> Result<(), FsError> {
        let id = self.spool()?.new_id();
        let hidden = Hidden {
            id,
            number,
            key: key.clone(),
            object,
        };
        self.spool()?
            .put(id, &super::recover::Kept::Delete(hidden.clone()))?;
        self.hidden.lock().insert(key, hidden);
        Ok(())
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

    /// Deletes an object whose name is gone here already.
    pub(super) async fn remove_hidden(&self, hidden: Hidden) {
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
                return;
            }
        }
        self.throw_out(hidden.id);
        self.hidden.lock().remove(&hidden.key);
    }
}
