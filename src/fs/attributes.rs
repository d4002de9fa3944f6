//! Attributes: what stat(2) tells, and changing it.
//!
//! Modes, owners and times are kept in the metadata of objects. S3 cannot change metadata in
//! place: the object is copied onto itself, under the condition that it is still the same.

use std::sync::Arc;
use std::time::SystemTime;

use super::draft::{SINGLE, State};
use super::file::{OpenFile, Remote};
use super::inodes::{Inode, Kind, ROOT};
use super::{Caller, FileSystem, FsError};
use crate::auth::Asker;
use crate::store::metadata::Metadata;
use crate::store::write::{Condition, Header, Payload};
use crate::store::{Facts, Object, StoreError};

/// The permission bits of a mode, with set-id and sticky: `S_IALLUGO` in include/linux/stat.h.
const PERMISSIONS: u32 = 0o7777;

/// What stat(2) tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) size: u64,
    /// With type bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime: SystemTime,
    pub(crate) mtime: SystemTime,
    pub(crate) ctime: SystemTime,
    pub(crate) links: u32,
}

/// What is to be changed; `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) atime: Option<SystemTime>,
    pub(crate) mtime: Option<SystemTime>,
}

impl Change {
    fn is_nothing(&self) -> bool {
        self.mode.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.atime.is_none()
            && self.mtime.is_none()
    }

    /// Sets what is not so already, as `now` shows it.
    fn apply(&self, posix: &mut Metadata, now: Attributes) {
        if let Some(mode) = self.mode
            && mode & PERMISSIONS != now.mode & PERMISSIONS
        {
            posix.mode = Some((now.mode & libc::S_IFMT) | (mode & PERMISSIONS));
        }
        posix.uid = self.uid.filter(|uid| *uid != now.uid).or(posix.uid);
        posix.gid = self.gid.filter(|gid| *gid != now.gid).or(posix.gid);
        posix.atime = self.atime.filter(|time| *time != now.atime).or(posix.atime);
        if let Some(mtime) = self.mtime.filter(|time| *time != now.mtime) {
            // One that was never set does not move along with the other.
            posix.atime = posix.atime.or(Some(now.atime));
            posix.mtime = Some(mtime);
        }
    }

    fn sets_times(&self) -> bool {
        self.atime.is_some() || self.mtime.is_some()
    }
}

impl FileSystem {
    /// What is known of an inode, without asking anybody.
    pub(crate) fn attributes_of(&self, inode: &Inode) -> Attributes {
        let draft = self.draft(inode.number);
        // It may have been stored since this was looked up: then the inode knows.
        let now = match draft {
            Some(_) => None,
            None => self.inode(inode.number).ok(),
        };
        let inode = now.as_ref().unwrap_or(inode);
        let drafted = draft.as_ref().map(|draft| {
            let state = draft.state();
            (state.posix.clone(), state.size())
        });
        let object = inode.kind.object();
        let facts = object.and_then(|object| object.facts.as_ref());
        let posix = match &drafted {
            Some((posix, _)) => Some(posix),
            None => facts.map(|facts| &facts.posix),
        };
        let shown = self.shown(inode, posix);
        match drafted {
            Some((_, size)) => Attributes { size, ..shown },
            None => shown,
        }
    }

    /// What an inode with these attributes shows.
    fn shown(&self, inode: &Inode, posix: Option<&Metadata>) -> Attributes {
        let look = &self.look;
        let object = inode.kind.object();
        let (kind, permissions, size) = match &inode.kind {
            Kind::Directory(_) => (libc::S_IFDIR, u32::from(look.dir_mode), 0),
            Kind::File(object) => (libc::S_IFREG, u32::from(look.file_mode), object.size),
            Kind::Symlink(object) => (libc::S_IFLNK, 0o777, object.size),
        };
        let written = object.map_or(Some(look.born), Object::written);
        // When the mount began, if the store does not say.
        let written = written.unwrap_or(look.born);
        let named = |of: fn(&Metadata) -> Option<SystemTime>| posix.and_then(of);
        let mtime = inode.touched.or(named(|p| p.mtime)).unwrap_or(written);
        let ctime = named(|p| p.ctime).unwrap_or(written);
        let ctime = ctime.max(inode.touched.unwrap_or(ctime));
        // Names that come and go in a directory are no reason to think that it was read.
        let unread = match inode.kind {
            Kind::Directory(_) => written,
            Kind::File(_) | Kind::Symlink(_) => mtime,
        };
        let mode = posix.and_then(|posix| posix.mode);
        Attributes {
            size,
            mode: kind | mode.map_or(permissions, |mode| mode & PERMISSIONS),
            uid: look
                .all_uid
                .or(posix.and_then(|p| p.uid))
                .unwrap_or(look.uid),
            gid: look
                .all_gid
                .or(posix.and_then(|p| p.gid))
                .unwrap_or(look.gid),
            atime: named(|p| p.atime).unwrap_or(unread),
            mtime,
            ctime: ctime.max(inode.changed.unwrap_or(ctime)),
            // How many directories one has in it is not known; 1 tells programs so.
            links: u32::from(!inode.unlinked),
        }
    }

    /// Sets the size of a file. Through an open handle it is stored when that is closed, by
    /// its name at once.
    pub(crate) async fn truncate(
        self: &Arc<Self>,
        asker: &Asker,
        caller: Caller,
        number: u64,
        handle: Option<u64>,
        size: u64,
    ) -> Result<(), FsError> {
        if size > super::plan::LARGEST {
            return Err(FsError::TooLarge);
        }
        // open(2) with O_TRUNC comes as an open and then this, without the handle.
        let file = match handle {
            Some(handle) => Some(self.files.lock().get(handle)?),
            None => self.opened_by(caller, number),
        };
        if let Some(file) = file {
            let draft = self.attach(asker, &file, size == 0).await?;
            return self.resize(&draft, size).await;
        }
        let inode = self.inode(number)?;
        if inode.kind.is_directory() {
            return Err(FsError::IsADirectory);
        }
        let draft = loop {
            let draft = match self.draft(number) {
                Some(draft)
                    if draft.state().waits_with_attributes()
                        && self.settle_now(asker, &draft).await =>
                {
                    continue;
                }
                Some(draft) => draft,
                None => {
                    let _place = self.keeps_its_place(asker, number).await?;
                    let inode = self.confirm_lately(asker, number).await?;
                    let remote = self.remote_of(inode.number)?.ok_or(FsError::NotFound)?;
                    if remote.object.size == size {
                        // As truncate(2) of ext4 does: not even the time changes.
                        return Ok(());
                    }
                    let is_still = || self.is_still(number, &remote);
                    let begun = self.begin_on(asker, number, &remote, size == 0, is_still);
                    begun.await?
                }
            };
            if self.take(&draft) {
                break draft;
            }
        };
        let outcome = match self.resize(&draft, size).await {
            Ok(()) => self.publish(asker, &draft).await,
            Err(error) => Err(error),
        };
        self.let_go(&draft);
        outcome
    }

    /// The handle that a program has opened last to write to a file.
    fn opened_by(&self, caller: Caller, number: u64) -> Option<Arc<OpenFile>> {
        let files = self.files.lock();
        let mine = |file: &&Arc<OpenFile>| {
            file.number == number && file.writes && file.was_used_by(caller)
        };
        files.last(mine).cloned()
    }

    /// Changes attributes. Returns when that is stored, or promised: see [`super::settling`].
    pub(crate) async fn set_attributes(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        change: Change,
    ) -> Result<(), FsError> {
        if change.is_nothing() {
            return Ok(());
        }
        let inode = self.inode(number)?;
        let timed = change.sets_times();
        let apply = |posix: &mut Metadata| {
            change.apply(posix, self.shown(&inode, Some(posix)));
            Ok(())
        };
        self.change(asker, number, timed, apply).await
    }

    /// Changes the metadata of an inode, and stores it: with `timed`, also its times. What is so
    /// already needs no request.
    pub(super) async fn change(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        timed: bool,
        change: impl Fn(&mut Metadata) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let inode = self.inode(number)?;
        // The marker of a directory does not know yet when its names were changed: the time that it
        // has may be the one that is to be set, and is not the one that is shown.
        if inode.touched.is_none()
            && let Some(posix) = self.sure_attributes(&inode)
        {
            let mut changed = posix.clone();
            change(&mut changed)?;
            if changed == posix {
                self.inodes.lock().change(number);
                return Ok(());
            }
        }
        if inode.kind.is_directory() {
            return self.change_directory(asker, &inode, timed, change).await;
        }
        if inode.unlinked && self.draft(number).is_none() {
            return self.change_unlinked(&inode, change);
        }
        let (draft, open) = loop {
            let (draft, open) = match self.draft(number) {
                Some(draft) => (draft, true),
                None => {
                    let _place = self.keeps_its_place(asker, number).await?;
                    let inode = self.confirm_lately(asker, number).await?;
                    let remote = self.remote_of(inode.number)?.ok_or(FsError::NotFound)?;
                    let remote = self.with_facts(asker, &remote).await?;
                    let draft = self.begin(number, State::of(Arc::clone(&remote)))?;
                    let draft = self.install(draft, || self.is_still(number, &remote));
                    (draft.ok_or(StoreError::Changed)?, false)
                }
            };
            if self.take(&draft) {
                break (draft, open);
            }
        };
        let changed = draft
            .edit(|state| {
                let mut posix = state.posix.clone();
                change(&mut posix)?;
                if posix == state.posix {
                    self.inodes.lock().change(number);
                    return Ok(false);
                }
                let before = state.kept.as_deref().map(|facts| &facts.posix);
                if !posix.has_room(before, timed || state.timed) {
                    return Err(FsError::NoSpaceForMetadata);
                }
                state.posix = posix;
                state.attributes_changed();
                state.timed |= timed;
                self.journal(&draft, state)?;
                Ok(true)
            })
            .await;
        let is_alone = |state: &State| state.writers <= 1;
        let outcome = match changed {
            Ok(true) => self.settle_attributes(asker, &draft).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if outcome.is_err() && !open {
            // Nobody was promised anything.
            let mut state = draft.state();
            if !state.dirty && is_alone(&state) && state.flight.is_none() {
                state.stored = state.version;
                state.closed = false;
            }
        }
        self.let_go(&draft);
        outcome
    }

    /// The attributes that an inode has for sure, if S3 need not be asked for them.
    fn sure_attributes(&self, inode: &Inode) -> Option<Metadata> {
        if let Some(draft) = self.draft(inode.number) {
            return Some(draft.state().posix.clone());
        }
        let object = inode.kind.object()?;
        let facts = object.facts.as_ref().filter(|facts| facts.complete)?;
        let is_fresh = !inode.doubted && inode.seen.elapsed() < self.look.ttl;
        let mut posix = facts.posix.clone();
        posix.mtime = posix.mtime.or_else(|| object.written());
        (is_fresh && !object.etag.is_empty()).then_some(posix)
    }

    /// The attributes of a file without a name are nobody's but its handles'.
    fn change_unlinked(
        &self,
        inode: &Inode,
        change: impl Fn(&mut Metadata) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let Some(object) = inode.kind.object() else {
            return Ok(());
        };
        let mut object = object.clone();
        let mut facts = object.facts.as_deref().cloned().unwrap_or_default();
        change(&mut facts.posix)?;
        facts.posix.ctime = Some(SystemTime::now());
        object.facts = Some(Arc::new(facts));
        self.inodes.lock().attributes_stored(inode.number, object);
        Ok(())
    }

    /// The attributes of a directory are its marker's.
    async fn change_directory(
        self: &Arc<Self>,
        asker: &Asker,
        inode: &Inode,
        timed: bool,
        change: impl Fn(&mut Metadata) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let number = inode.number;
        let now = self.attributes_of(inode);
        let _place = self.keeps_its_place(asker, number).await?;
        let key = self.key(number);
        let is_bucket = number == ROOT && self.prefix.is_empty();
        if is_bucket || key.is_err() {
            // The bucket itself has no marker, and what has no name needs none.
            let mut marker = inode
                .kind
                .object()
                .cloned()
                .unwrap_or_else(|| self.no_marker());
            let mut facts = marker.facts.as_deref().cloned().unwrap_or_default();
            change(&mut facts.posix)?;
            facts.posix.ctime = Some(SystemTime::now());
            marker.facts = Some(Arc::new(facts));
            self.inodes.lock().attributes_stored(number, marker);
            self.inodes.lock().untouch(number);
            return Ok(());
        }
        let key = format!("{}/", key?.trim_end_matches('/'));
        let is_new = self.keep_directory(asker, number).await?;
        let before = match self.bucket.head(asker, &key).await {
            Err(StoreError::NotFound) => return Err(FsError::NotFound),
            found => found?,
        };
        let mut facts = before.facts.as_deref().cloned().unwrap_or_default();
        let mut posix = facts.posix.clone();
        if is_new {
            // The marker that was made just now is no reason for other times.
            posix.mtime = Some(now.mtime);
            posix.atime = Some(now.atime);
        }
        posix.mtime = inode.touched.or(posix.mtime).or_else(|| before.written());
        let asked = posix.clone();
        change(&mut posix)?;
        if posix == asked && !is_new {
            self.inodes.lock().change(number);
            return Ok(());
        }
        posix.ctime = Some(SystemTime::now());
        let whole = Metadata {
            mode: posix.mode.or(Some(now.mode)),
            uid: posix.uid.or(Some(now.uid)),
            gid: posix.gid.or(Some(now.gid)),
            ..posix.clone()
        };
        // Where others have left no room, only what was asked for is added.
        let known = Some(&facts.posix);
        let posix = [whole, posix]
            .into_iter()
            .find(|posix| posix.has_room(known, timed))
            .ok_or(FsError::NoSpaceForMetadata)?
            .fitted(known, timed);
        let header = Header {
            content_type: facts.content_type.clone().unwrap_or_default(),
            metadata: posix.write().into_iter().collect(),
            kept: before.facts.clone(),
        };
        let mut etag = self.rewrite_marker(asker, &key, &before, &header).await;
        // It is still the same: this store wants its tags in another way.
        while let Err(FsError::Store(StoreError::Changed)) = etag
            && self.bucket.head(asker, &key).await?.is_version(&before)
            && self.bucket.is_refused()
        {
            etag = self.rewrite_marker(asker, &key, &before, &header).await;
        }
        if let Err(error @ FsError::Store(StoreError::Untold(_))) = &etag {
            let there = self.bucket.head(asker, &key).await?;
            let is_it = there
                .facts
                .as_ref()
                .is_some_and(|facts| facts.posix == posix);
            etag = if is_it {
                Ok(there.etag)
            } else {
                Err(error.clone())
            };
        }
        facts.posix = posix;
        let marker = Object {
            etag: etag?,
            modified: SystemTime::now(),
            facts: Some(Arc::new(facts)),
            ..before
        };
        self.wrote(&key, &marker);
        {
            let mut inodes = self.inodes.lock();
            inodes.attributes_stored(number, marker.clone());
            inodes.untouch(number);
        }
        // The kernel may forget the inode, and a listing that is believed would bring back what
        // was there before.
        if number != ROOT {
            let kind = Kind::Directory(Some(marker));
            let mut known = self.listings.lock();
            known.change(inode.parent, &inode.name, Some(kind));
        }
        Ok(())
    }

    /// Stores a marker with another header. Returns its tag.
    async fn rewrite_marker(
        &self,
        asker: &Asker,
        key: &str,
        before: &Object,
        header: &Header,
    ) -> Result<String, FsError> {
        let condition = Condition::Is(before.etag.clone());
        if before.size == 0 {
            let empty = Payload::Bytes(bytes::Bytes::new());
            let put = self.bucket.put(asker, key, &empty, header, &condition);
            return Ok(put.await?);
        }
        let source = crate::store::write::Source {
            key: key.to_owned(),
            etag: before.etag.clone(),
            version: None,
        };
        let copy = self.bucket.copy(asker, &source, key, header, &condition);
        match copy.await {
            Err(StoreError::Unsupported(_)) if before.size <= SINGLE => {
                let remote = Arc::new(Remote::apart(key.to_owned(), before.clone()));
                let bytes = self.gather(asker, &remote, 0..before.size).await?;
                let payload = Payload::Bytes(bytes.into());
                let put = self.bucket.put(asker, key, &payload, header, &condition);
                Ok(put.await?)
            }
            copied => Ok(copied?),
        }
    }

    fn no_marker(&self) -> Object {
        Object {
            size: 0,
            modified: self.look.born,
            etag: String::new(),
            facts: Some(Arc::new(Facts::default())),
        }
    }

    /// S3 has said that a directory has no marker, so that its attributes are the usual ones.
    pub(super) fn has_no_marker(&self, key: &str) -> Object {
        self.index.remove(key);
        Object {
            facts: Some(Arc::new(Facts {
                complete: true,
                ..Facts::default()
            })),
            ..self.no_marker()
        }
    }

    /// S3 has told everything about an object.
    pub(super) fn learned(&self, key: &str, object: &Object) {
        if let Some(facts) = object.facts.as_ref().filter(|facts| facts.complete) {
            let modified = object.written();
            self.index.put(key, &object.etag, modified, &facts.posix);
        }
    }

    /// This mount has stored an object.
    pub(super) fn wrote(&self, key: &str, object: &Object) {
        if let Some(facts) = &object.facts {
            self.index.put(key, &object.etag, None, &facts.posix);
        }
    }

    /// Adds to what a listing says of an object what is known of it already.
    pub(super) fn recall(&self, key: &str, mut object: Object) -> Object {
        if object.facts.is_none()
            && let Some(posix) = self.index.get(key, &object.etag, object.modified)
        {
            object.facts = Some(Arc::new(Facts {
                posix,
                ..Facts::default()
            }));
        }
        object
    }
}
