//! Renaming: S3 copies, then the old name is deleted.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

use super::draft::{Held, State};
use super::file::Remote;
use super::inodes::Inode;
use super::names::from_kernel;
use super::upload::passes;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::metadata::{Metadata, content_type};
use crate::store::write::Condition;
use crate::store::{Object, StoreError};

/// Where a copy goes, and what it is like.
pub(super) struct Copy<'a, F> {
    pub(super) key: &'a str,
    /// What stands there, and is replaced; nothing if it is `None`.
    pub(super) replaced: Option<Object>,
    /// Somebody has set its times.
    pub(super) timed: bool,
    /// What the mark of the copy begins with, if it is to be known by more than this run.
    pub(super) nonce: Option<String>,
    /// Changes its attributes, which otherwise are those of the original.
    pub(super) change: F,
}

/// How often a file is stored before its name changes, while somebody goes on writing to it.
pub(super) const ATTEMPTS: u32 = 2;

impl FileSystem {
    /// Gives a file or a directory another name. With `keep_target`, only if that is free.
    pub(crate) async fn rename(
        self: &Arc<Self>,
        asker: &Asker,
        (parent, name): (u64, &OsStr),
        (new_parent, new_name): (u64, &OsStr),
        keep_target: bool,
    ) -> Result<(), FsError> {
        let _place = self.keeps_its_place(asker, parent).await?;
        let _new_place = self.keeps_its_place(asker, new_parent).await?;
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
        let old_key = self.key(inode.number)?;
        let mut held = Vec::new();
        let files = (!inode.kind.is_directory())
            .then(|| [Some(inode.number), target.as_ref().map(|t| t.number)]);
        let _leaving = self.leaves(files.into_iter().flatten().flatten()).await;
        let renamed = if inode.kind.is_directory() {
            self.rename_directory(asker, &inode, target.as_ref(), &new_key, &mut held)
                .await
                .map(Some)
        } else {
            self.rename_file(asker, &inode, target.as_ref(), &new_key, &mut held)
                .await
                .map(|()| None)
        };
        let moving = match renamed {
            Ok(moving) => moving,
            Err(error) => {
                self.let_loose(held);
                return Err(error);
            }
        };
        // Locks hold for a name among mounts, so they go along with it.
        let mut locked = vec![(old_key.clone(), inode.number)];
        if inode.kind.is_directory() {
            let below = self.keys_below(inode.number).into_iter();
            locked = below
                .filter(|(_, number)| self.locks.has(*number))
                .collect();
        }
        self.inodes
            .lock()
            .rename(inode.number, new_parent, new_name);
        for (key, number) in locked {
            if let Some(rest) = key.strip_prefix(&old_key) {
                self.locks
                    .renamed(number, &key, &format!("{new_key}{rest}"));
            }
        }
        self.names_changed(parent, name, None);
        let kind = self.inode(inode.number).map(|inode| inode.kind).ok();
        self.names_changed(new_parent, new_name, kind);
        drop(moving);
        if let Some(target) = target {
            if let Some(draft) = self.draft(target.number) {
                self.let_fall(&draft);
            }
            self.last_look(target.number);
        }
        self.let_loose(held);
        Ok(())
    }

    /// Holds the draft of an inode, once all of it is stored. Somebody who writes all the time does
    /// not keep it from that: then what came since goes along.
    pub(super) async fn hold_stored(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
    ) -> Result<Option<Held>, FsError> {
        let mut attempts = 0;
        loop {
            let Some(draft) = self.draft(number) else {
                return Ok(None);
            };
            self.publish(asker, &draft).await?;
            attempts += 1;
            match self.hold(number).await {
                Some(held) => {
                    let state = held.draft.state();
                    let goes_along = attempts >= ATTEMPTS && state.can_move_on();
                    if !state.is_pending() || goes_along {
                        drop(state);
                        return Ok(Some(held));
                    }
                }
                None => return Ok(None),
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
        let its = self.hold_settled(asker, inode.number).await?;
        let waiting = its.as_ref().and_then(|held| {
            let state = held.draft.state();
            let waits = state.is_pending() && !state.dirty;
            waits.then(|| (state.posix.clone(), state.timed))
        });
        // The change up to which all of it is in the bucket, once it has its new name.
        let carried = its.as_ref().and_then(|held| {
            let state = held.draft.state();
            (!state.is_pending() || waiting.is_some()).then_some(state.version)
        });
        held.extend(its);
        let inode = self.confirm_lately(asker, inode.number).await?;
        let remote = self.remote_of(inode.number)?.ok_or(FsError::NotFound)?;
        let mut replaced = None;
        // While both drafts can still be stored: one may be made of a copy of the other.
        let is_going = |key: &str| key == remote.key || key == new_key;
        self.settle_copies(asker, inode.number, is_going).await;
        if let Some(target) = target {
            let mut its = self.seize(target.number).await;
            replaced = self.stands_for(asker, target.number, its.as_ref()).await?;
            let kept = self.keeps_for_readers(asker, target.number, &mut its).await;
            held.extend(its);
            kept?;
        }
        self.forget_discarded().await?;
        let hidden = self.claim_hidden(new_key).await;
        if let Some(hidden) = &hidden {
            replaced = Some(hidden.object.clone());
        }
        let copy = Copy {
            key: new_key,
            replaced,
            timed: waiting.as_ref().is_some_and(|(_, timed)| *timed),
            nonce: None,
            change: |posix: &mut Metadata| {
                if let Some((waiting, _)) = waiting {
                    *posix = waiting;
                }
                posix.ctime = Some(SystemTime::now());
            },
        };
        let copy = self.copy_to(asker, inode.number, &remote, copy).await;
        if let Some(hidden) = hidden {
            match &copy {
                Ok(_) => self.throw_out(hidden.id),
                Err(_) => drop(self.hidden.lock().insert(new_key.to_owned(), hidden)),
            }
        }
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
        // Who reads it reads on from the copy, before the old one goes.
        self.lead(inode.number, new_key, &copy);
        let source = Condition::Is(remote.object.etag.clone());
        let deleted = match self.bucket.delete(asker, &remote.key, &source).await {
            Err(StoreError::Changed) => {
                tracing::warn!(
                    "{}: somebody else has changed it while it was renamed to {new_key}; both stay",
                    remote.key
                );
                Ok(())
            }
            // It has its new name; the old one is gone here, and in the bucket as soon as can be.
            Err(error) if passes(&error) => {
                tracing::info!("{}: it is deleted later ({error})", remote.key);
                self.delete_later(&remote).await
            }
            deleted => deleted.map_err(FsError::from),
        };
        if let Err(error) = deleted {
            // The name stays, and the copy as well.
            self.lead(inode.number, &remote.key, &remote.object);
            self.listings.lock().clear();
            return Err(error);
        }
        self.index.remove(&remote.key);
        self.moved(inode.number, new_key, copy, carried);
        Ok(())
    }

    /// Has S3 copy an object to another key. It is as old as the original.
    pub(super) async fn copy_to(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        remote: &Arc<Remote>,
        copy: Copy<'_, impl FnOnce(&mut Metadata)>,
    ) -> Result<Object, FsError> {
        let key = copy.key;
        // A draft of its own, which nobody sees: it knows how to store under a condition, in
        // parts if it is large, and how to recognise itself.
        let whole = self.with_facts(asker, remote).await?;
        let written = whole.object.written();
        let mut state = State::of(whole);
        // A new name can be a new kind of file: programs save as `x.tmp` and rename to `x.odt`.
        // But a type that the old name does not explain was set by somebody, and stays.
        if let Some(facts) = state.kept.as_mut().map(Arc::make_mut)
            && facts.content_type.as_deref() == Some(&*content_type(&remote.key))
        {
            facts.content_type = Some(content_type(key));
        }
        state.key = key.to_owned();
        state.base = copy.replaced;
        if let Some(nonce) = copy.nonce {
            state.nonce = nonce;
        }
        state.version += 1;
        state.timed = copy.timed;
        state.posix.ctime = state.posix.ctime.or(written);
        (copy.change)(&mut state.posix);
        let kept = super::recover::Kept::File(Box::new(state.record()));
        let (id, file) = self.spool()?.create(&kept)?;
        let draft = super::draft::Draft::new(number, id, Arc::new(file), state);
        let draft = Arc::new(draft);
        let snapshot = super::snapshot::Snapshot::of(&draft.state());
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
        let found = self.bucket.listed(asker, &remote.key, &remote.object);
        let Some(object) = found.await? else {
            return Err(StoreError::Changed.into());
        };
        self.learned(&remote.key, &object);
        Ok(Arc::new(Remote::new(
            remote.version,
            remote.key.clone(),
            object,
        )))
    }

    /// Whoever has an inode open reads on from another object with the same bytes.
    pub(super) fn lead(&self, number: u64, key: &str, object: &Object) -> Arc<Remote> {
        let version = {
            let inodes = self.inodes.lock();
            inodes.get(number).map_or(0, |inode| inode.version)
        };
        let remote = Arc::new(Remote::new(version, key.to_owned(), object.clone()));
        let files = self.files.lock();
        for file in files.all().filter(|file| file.number == number) {
            if file.remote().is_none_or(|before| before.version == version) {
                file.follow(Some(Arc::clone(&remote)));
            }
        }
        remote
    }

    /// An inode has another key and another object with the same bytes: whoever has it open
    /// reads on from there.
    ///
    /// `carried` is the change up to which the draft is in that object with all its attributes, if it
    /// is.
    pub(super) fn moved(&self, number: u64, key: &str, object: Object, carried: Option<u64>) {
        self.inodes.lock().attributes_stored(number, object.clone());
        let remote = self.lead(number, key, &object);
        let files = self.files.lock();
        let Some(draft) = self.draft(number) else {
            return;
        };
        // Who opens the file finds all of this or nothing of it: see `FileSystem::source`.
        draft.state().moved(key, &remote, object, carried);
        drop(files);
        if let Err(error) = self.journal(&draft, &mut draft.state()) {
            tracing::warn!("{key}: {error}");
        }
    }
}
