//! Renaming: S3 copies, then the old name is deleted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::draft::{Held, State};
use super::file::Remote;
use super::inodes::Inode;
use super::names::from_kernel;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::metadata::content_type;
use crate::store::write::Condition;
use crate::store::{Entry, Object, Query, StoreError};

/// How many objects of a directory are copied or deleted at once.
const AT_ONCE: usize = 32;

impl FileSystem {
    /// Gives a file or a directory another name. With `keep_target`, only if that is free.
    pub(crate) async fn rename(
        self: &Arc<Self>,
        asker: &Asker,
        (parent, name): (u64, &OsStr),
        (new_parent, new_name): (u64, &OsStr),
        keep_target: bool,
    ) -> Result<(), FsError> {
        let name = from_kernel(name)?;
        let (new_name, new_key) = self.new_key(new_parent, new_name)?;
        if (parent, name) == (new_parent, new_name) {
            return Ok(());
        }
        let inode = self.named(asker, parent, name).await?;
        let target = match self.named(asker, new_parent, new_name).await {
            Ok(_) if keep_target => return Err(FsError::Exists),
            Ok(target) => Some(target),
            Err(FsError::NotFound | FsError::Store(StoreError::NotFound)) => None,
            Err(error) => return Err(error),
        };
        match (
            inode.kind.is_directory(),
            target.as_ref().map(|t| t.kind.is_directory()),
        ) {
            (true, Some(false)) => return Err(FsError::NotADirectory),
            (false, Some(true)) => return Err(FsError::IsADirectory),
            _ => {}
        }
        self.keep_directory(asker, parent).await?;
        self.keep_directory(asker, new_parent).await?;
        let mut held = Vec::new();
        let renamed = if inode.kind.is_directory() {
            self.rename_directory(asker, &inode, target.as_ref(), &new_key, &mut held)
                .await
        } else {
            self.rename_file(asker, &inode, target.as_ref(), &new_key, &mut held)
                .await
        };
        if let Err(error) = renamed {
            self.let_loose(held);
            return Err(error);
        }
        self.inodes
            .lock()
            .rename(inode.number, new_parent, new_name);
        self.names_changed(parent, name, None);
        let kind = self.inode(inode.number).map(|inode| inode.kind).ok();
        self.names_changed(new_parent, new_name, kind);
        if let Some(target) = target {
            if let Some(draft) = self.draft(target.number) {
                self.let_fall(&draft);
            }
            self.last_look(target.number);
        }
        self.let_loose(held);
        Ok(())
    }

    /// Holds the draft of an inode, once all of it is stored.
    async fn hold_stored(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
    ) -> Result<Option<Held>, FsError> {
        loop {
            let Some(draft) = self.draft(number) else {
                return Ok(None);
            };
            self.publish(asker, &draft).await?;
            match self.hold(number).await {
                Some(held) if held.draft.state().is_pending() => {}
                held => return Ok(held),
            }
        }
    }

    async fn rename_file(
        self: &Arc<Self>,
        asker: &Asker,
        inode: &Inode,
        target: Option<&Inode>,
        new_key: &str,
        held: &mut Vec<Held>,
    ) -> Result<(), FsError> {
        // What is not stored yet goes to the old name first: there is one way to store. And
        // nothing is stored under either name from then on until all is done.
        held.extend(self.hold_stored(asker, inode.number).await?);
        let inode = self.confirm_lately(asker, inode.number).await?;
        let remote = self.remote_of(inode.number)?.ok_or(FsError::NotFound)?;
        let mut replaced = None;
        if let Some(target) = target {
            let mut its = self.hold(target.number).await;
            replaced = self.stands_for(asker, target.number, its.as_ref()).await?;
            let kept = self.keeps_for_readers(asker, target.number, &mut its).await;
            held.extend(its);
            kept?;
        }
        if let Some(hidden) = self.hidden.lock().remove(new_key) {
            self.throw_out(hidden.id);
            replaced = Some(hidden.object);
        }
        let copy = self
            .copy_to(asker, inode.number, &remote, new_key, replaced)
            .await;
        let copy = match copy {
            Err(FsError::Store(StoreError::Changed)) => {
                for number in [Some(inode.number), target.map(|t| t.number)]
                    .into_iter()
                    .flatten()
                {
                    self.inodes.lock().doubt(number);
                }
                self.listings.lock().clear();
                return Err(StoreError::Changed.into());
            }
            copy => copy?,
        };
        let source = Condition::Is(remote.object.etag.clone());
        match self.bucket.delete(asker, &remote.key, &source).await {
            Err(StoreError::Changed) => tracing::warn!(
                "{}: somebody else has changed it while it was renamed to {new_key}; both stay",
                remote.key
            ),
            outcome => outcome?,
        }
        self.index.remove(&remote.key);
        self.moved(inode.number, new_key, copy);
        Ok(())
    }

    /// Has S3 copy an object to a key where `replaced` stands, or nothing.
    async fn copy_to(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        remote: &Arc<Remote>,
        key: &str,
        replaced: Option<Object>,
    ) -> Result<Object, FsError> {
        // A draft of its own, which nobody sees: it knows how to store under a condition, in
        // parts if it is large, and how to recognise itself.
        let whole = self.with_facts(asker, remote).await?;
        let mut state = State::of(whole);
        // A new name can be a new kind of file: programs save as `x.tmp` and rename to `x.odt`.
        // But a type that the old name does not explain was set by somebody, and stays.
        if let Some(facts) = state.kept.as_mut().map(Arc::make_mut)
            && facts.content_type.as_deref() == Some(&*content_type(&remote.key))
        {
            facts.content_type = Some(content_type(key));
        }
        state.key = key.to_owned();
        state.base = replaced;
        state.attributes_changed();
        let kept = super::recover::Kept::File(Box::new(state.record()));
        let (id, file) = self.spool()?.create(&kept)?;
        let draft = super::draft::Draft::new(number, id, Arc::new(file), state);
        let draft = Arc::new(draft);
        let snapshot = super::publish::Snapshot::of(&draft.state());
        let outcome = self.store_as(asker, &draft, &snapshot).await;
        self.throw_out(id);
        let upload = draft.state().upload.take();
        let object = match outcome {
            Ok(etag) => snapshot.object(etag),
            Err(error) => {
                if let Some(upload) = upload {
                    self.throw_away(&upload);
                }
                return Err(error);
            }
        };
        self.wrote(key, &object);
        Ok(object)
    }

    /// The same object with everything that only HEAD tells.
    pub(super) async fn with_facts(
        &self,
        asker: &Asker,
        remote: &Arc<Remote>,
    ) -> Result<Arc<Remote>, FsError> {
        if remote
            .object
            .facts
            .as_ref()
            .is_some_and(|facts| facts.complete)
        {
            return Ok(Arc::clone(remote));
        }
        let object = self.bucket.head(asker, &remote.key).await?;
        self.learned(&remote.key, &object);
        if object.etag != remote.object.etag {
            return Err(StoreError::Changed.into());
        }
        Ok(Arc::new(Remote::new(
            remote.version,
            remote.key.clone(),
            object,
        )))
    }

    /// An inode has another key and another object with the same bytes: whoever has it open
    /// reads on from there.
    fn moved(&self, number: u64, key: &str, object: Object) {
        let version = {
            let mut inodes = self.inodes.lock();
            let version = inodes.get(number).map_or(0, |inode| inode.version);
            inodes.attributes_stored(number, object.clone());
            version
        };
        let remote = Arc::new(Remote::new(version, key.to_owned(), object.clone()));
        let files = self.files.lock();
        for file in files.all().filter(|file| file.number == number) {
            if file.remote().is_none_or(|before| before.version == version) {
                file.follow(Some(Arc::clone(&remote)));
            }
        }
        let Some(draft) = self.draft(number) else {
            return;
        };
        // Who opens the file finds all of this or nothing of it: see `FileSystem::source`.
        draft.state().moved(key, &remote, object);
        drop(files);
        if let Err(error) = self.journal(&draft, &mut draft.state()) {
            tracing::warn!("{key}: {error}");
        }
    }

    async fn rename_directory(
        self: &Arc<Self>,
        asker: &Asker,
        inode: &Inode,
        target: Option<&Inode>,
        new_key: &str,
        held: &mut Vec<Held>,
    ) -> Result<(), FsError> {
        let (from, to) = (
            format!("{}/", self.key(inode.number)?),
            format!("{new_key}/"),
        );
        if to.starts_with(&from) {
            return Err(FsError::Invalid);
        }
        if let Some(target) = target {
            self.is_empty(asker, target.number, &to).await?;
        }
        let below = self.inodes.lock().below(inode.number);
        for number in below {
            held.extend(self.hold_stored(asker, number).await?);
        }
        let moves = self.copy_below(asker, &from, &to).await?;
        if target.is_some() && !moves.iter().any(|moved| moved.to == to) {
            // The directory has no marker. That of the one that it replaces would give it its
            // attributes.
            self.remove_marker(asker, &to).await?;
        }
        // Everything is there twice now: from here on, going back would lose no less.
        stream::iter(moves.iter().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |moved| async move {
                let condition = Condition::Is(moved.before.etag.clone());
                match self.bucket.delete(asker, &moved.from, &condition).await {
                    Err(StoreError::Changed) => {
                        tracing::warn!("{}: changed by somebody else, and stays", moved.from);
                        Ok(())
                    }
                    outcome => outcome.map_err(FsError::from),
                }
            })
            .await?;
        self.listings.lock().clear();
        for moved in &moves {
            self.index.remove(&moved.from);
        }
        self.rebind_below(inode.number, &moves);
        Ok(())
    }

    async fn remove_marker(&self, asker: &Asker, key: &str) -> Result<(), FsError> {
        let marker = match self.bucket.head(asker, key).await {
            Err(StoreError::NotFound) => return Ok(()),
            marker => marker?,
        };
        let condition = Condition::Is(marker.etag);
        self.bucket.delete(asker, key, &condition).await?;
        self.index.remove(key);
        Ok(())
    }

    /// Copies everything under a prefix to another. What a failure leaves half done is taken
    /// back.
    async fn copy_below(
        self: &Arc<Self>,
        asker: &Asker,
        from: &str,
        to: &str,
    ) -> Result<Vec<Moved>, FsError> {
        let mut moves = Vec::new();
        let mut query = Query {
            prefix: from.to_owned(),
            ..Query::default()
        };
        loop {
            let page = self.bucket.list(asker, &query).await?;
            let objects = page.entries.into_iter().filter_map(|entry| match entry {
                Entry::Object(key, object) => Some((key, object)),
                Entry::Prefix(_) => None,
            });
            let copied: Vec<Result<Moved, FsError>> = stream::iter(objects)
                .map(|(key, before)| {
                    let fs = Arc::clone(self);
                    let new = format!("{to}{}", &key[from.len()..]);
                    let asker = *asker;
                    async move { fs.copy_one(&asker, key, before, new).await }
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            let mut failed = None;
            for copy in copied {
                match copy {
                    Ok(moved) => moves.push(moved),
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                self.take_back_copies(asker, &moves).await;
                return Err(error);
            }
            match page.next {
                Some(next) => query.token = Some(next),
                None => return Ok(moves),
            }
        }
    }

    async fn copy_one(
        self: &Arc<Self>,
        asker: &Asker,
        from: String,
        before: Object,
        to: String,
    ) -> Result<Moved, FsError> {
        let remote = Arc::new(Remote::new(0, from.clone(), before.clone()));
        // A marker of the new directory may be there already.
        let mut replaced = None;
        if to.ends_with('/') {
            replaced = match self.bucket.head(asker, &to).await {
                Ok(object) => Some(object),
                Err(StoreError::NotFound) => None,
                Err(error) => return Err(error.into()),
            };
        }
        let after = self.copy_to(asker, 0, &remote, &to, replaced).await?;
        Ok(Moved {
            from,
            before,
            to,
            after,
        })
    }

    async fn take_back_copies(&self, asker: &Asker, moves: &[Moved]) {
        for moved in moves {
            let condition = Condition::Is(moved.after.etag.clone());
            if let Err(error) = self.bucket.delete(asker, &moved.to, &condition).await {
                tracing::warn!("{}: a copy stays behind ({error})", moved.to);
            }
        }
    }

    /// What is known below a renamed directory is known by its new keys.
    fn rebind_below(&self, directory: u64, moves: &[Moved]) {
        let moves: HashMap<&str, &Moved> = moves
            .iter()
            .map(|moved| (moved.from.as_str(), moved))
            .collect();
        let below = self.inodes.lock().below(directory);
        for number in below.into_iter().chain([directory]) {
            let (Ok(inode), Ok(mut key)) = (self.inode(number), self.key(number)) else {
                continue;
            };
            if inode.kind.is_directory() {
                key.push('/');
            }
            if let Some(moved) = moves.get(key.as_str()) {
                self.moved(number, &moved.to, moved.after.clone());
            }
        }
    }
}

/// One object of a renamed directory.
struct Moved {
    from: String,
    before: Object,
    to: String,
    after: Object,
}
