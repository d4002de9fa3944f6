//! New names: files, directories, symbolic links.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::draft::{State, nonce};
use super::file::OpenFile;
use super::inodes::{Inode, Kind, ROOT};
use super::names::new_name;
use super::tree::LONGEST_KEY;
use super::{Caller, FileSystem, FsError};
use crate::auth::Asker;
use crate::store::metadata::{DIRECTORY, Metadata, content_type};
use crate::store::write::{Condition, Header, Payload};
use crate::store::{Facts, Object, Query, StoreError};

/// The longest target of a symbolic link in bytes: `PATH_MAX` without its zero.
const LONGEST_TARGET: usize = 4095;

/// Whose a new file is, and with which permissions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission bits, the umask taken off.
    pub(crate) mode: u32,
}

impl FileSystem {
    /// Makes a file and opens it. S3 hears of it when it is closed.
    pub(crate) async fn create(
        self: &Arc<Self>,
        asker: &Asker,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        birth: Birth,
        exclusive: bool,
    ) -> Result<(Inode, u64), FsError> {
        let place = self.keeps_its_place(asker, parent).await?;
        if place.has_waited {
            // The kernel has looked it up in a directory that was just moving: once more.
            return Err(StoreError::Changed.into());
        }
        let (name, key) = self.new_key(parent, name)?;
        // The kernel has looked it up just now, but somebody may have made it since.
        let known = self.inodes.lock().find(parent, name).cloned();
        if let Some(known) = known
            && self.draft(known.number).is_some()
        {
            if exclusive {
                return Err(FsError::Exists);
            }
            let (handle, _) = self.open(asker, caller, known.number, true, true).await?;
            let kind = known.kind.clone();
            let inode = self
                .inodes
                .lock()
                .look_up(parent, name, kind, Instant::now());
            return Ok((inode, handle));
        }
        self.keep_directory(asker, parent).await?;
        let posix = self.born(parent, birth, libc::S_IFREG);
        let hidden = self.claim_hidden(&key).await;
        let mut state = State::new_file(key, posix.clone());
        if let Some(hidden) = &hidden {
            // Its name is gone here, but S3 still has it for somebody who reads it.
            state.base = Some(hidden.object.clone());
            // Until this one is promised in its place, the journal is to delete it.
            state.before = Some(hidden.id);
        }
        state.writers = 1;
        let object = Object {
            size: 0,
            modified: SystemTime::now(),
            etag: String::new(),
            facts: Some(Arc::new(Facts {
                posix,
                ..Facts::default()
            })),
        };
        let kind = Kind::File(object);
        let inode = {
            let mut inodes = self.inodes.lock();
            inodes.look_up(parent, name, kind.clone(), Instant::now())
        };
        let draft = match self.begin(inode.number, state) {
            Ok(draft) => draft,
            Err(error) => {
                if let Some(hidden) = hidden {
                    self.hidden.lock().insert(hidden.key.clone(), hidden);
                }
                let mut inodes = self.inodes.lock();
                inodes.unlink(inode.number);
                inodes.forget(inode.number, 1);
                return Err(error);
            }
        };
        let mine = Arc::clone(&draft);
        let draft = self.install(draft, || true).ok_or(StoreError::Changed)?;
        if !Arc::ptr_eq(&mine, &draft) && !self.take(&draft) {
            return Err(StoreError::Changed.into());
        }
        self.names_changed(parent, name, Some(kind));
        self.inodes.lock().cache_in_kernel(inode.number);
        let file = OpenFile::new(inode.number, true, None);
        *file.draft.lock() = Some(draft);
        file.is_used_by(caller);
        let handle = self.files.lock().open(Arc::new(file));
        Ok((inode, handle))
    }

    /// Makes a directory: a marker, so that it stays when it is empty.
    pub(crate) async fn make_directory(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &OsStr,
        birth: Birth,
    ) -> Result<Inode, FsError> {
        let _place = self.keeps_its_place(asker, parent).await?;
        let (name, key) = self.new_key(parent, name)?;
        self.keep_directory(asker, parent).await?;
        let posix = self.born(parent, birth, libc::S_IFDIR);
        let key = format!("{key}/");
        if key.len() > LONGEST_KEY {
            return Err(FsError::NameTooLong);
        }
        let marker = self
            .put_new(asker, &key, Bytes::new(), posix, DIRECTORY.to_owned())
            .await?;
        let kind = Kind::Directory(Some(marker));
        let now = Instant::now();
        let inode = self.inodes.lock().look_up(parent, name, kind.clone(), now);
        self.names_changed(parent, name, Some(kind));
        // It is empty, as far as this mount knows for now.
        let mut known = self.listings.lock();
        known.remember(inode.number, now, std::collections::HashMap::new());
        Ok(inode)
    }

    /// Makes a symbolic link: an object whose content is the target, as s3fs has it.
    pub(crate) async fn make_symlink(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &OsStr,
        target: &str,
        birth: Birth,
    ) -> Result<Inode, FsError> {
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        if target.len() > LONGEST_TARGET {
            return Err(FsError::NameTooLong);
        }
        let _place = self.keeps_its_place(asker, parent).await?;
        let (name, key) = self.new_key(parent, name)?;
        self.keep_directory(asker, parent).await?;
        let birth = Birth {
            mode: 0o777,
            ..birth
        };
        let posix = self.born(parent, birth, libc::S_IFLNK);
        let body = Bytes::copy_from_slice(target.as_bytes());
        let object = self
            .put_new(asker, &key, body, posix, content_type(name))
            .await?;
        let kind = Kind::of(object);
        let now = Instant::now();
        let inode = self.inodes.lock().look_up(parent, name, kind.clone(), now);
        self.names_changed(parent, name, Some(kind));
        Ok(inode)
    }

    /// Where a symbolic link points to.
    pub(crate) async fn read_link(&self, asker: &Asker, number: u64) -> Result<Vec<u8>, FsError> {
        self.may_tell(asker, number).await?;
        let remote = self.remote_of(number)?.ok_or(FsError::NotFound)?;
        let facts = remote.object.facts.as_ref();
        if let Some(target) = facts.and_then(|facts| facts.posix.target()) {
            return Ok(target.into_bytes());
        }
        let size = remote.object.size.min(LONGEST_TARGET as u64);
        let mut target = self.gather(asker, &remote, 0..size).await?;
        // Old versions of s3fs stored the zero at the end as well.
        while target.last() == Some(&0) {
            target.pop();
        }
        Ok(target)
    }

    /// The key of a name that is to be made.
    pub(super) fn new_key<'a>(
        &self,
        parent: u64,
        name: &'a OsStr,
    ) -> Result<(&'a str, String), FsError> {
        let name = new_name(name)?;
        let inode = self.inode(parent)?;
        if !inode.kind.is_directory() {
            return Err(FsError::NotADirectory);
        }
        let key = self.key_in(parent, name)?;
        Ok((name, key))
    }

    /// The attributes of something new in a directory.
    pub(super) fn born(&self, parent: u64, birth: Birth, kind: libc::mode_t) -> Metadata {
        let mut mode = kind | (birth.mode & 0o7777);
        let mut gid = birth.gid;
        // As ext4 and others do: inode_init_owner() in fs/inode.c of Linux.
        if let Ok(above) = self.inode(parent) {
            let above = self.attributes_of(&above);
            if above.mode & libc::S_ISGID != 0 {
                gid = above.gid;
                if kind == libc::S_IFDIR {
                    mode |= libc::S_ISGID;
                }
            }
        }
        let now = Some(SystemTime::now());
        Metadata {
            mode: Some(mode),
            uid: Some(birth.uid),
            gid: Some(gid),
            mtime: now,
            atime: now,
            ctime: now,
            ..Metadata::default()
        }
    }

    /// Stores a small object under a name that is free. `Exists` if it is not.
    pub(super) async fn put_new(
        &self,
        asker: &Asker,
        key: &str,
        body: Bytes,
        mut posix: Metadata,
        content_type: String,
    ) -> Result<Object, FsError> {
        let mark = format!("{}-0", nonce());
        posix.nonce = Some(mark.clone());
        let header = Header {
            content_type: content_type.clone(),
            metadata: posix.write().into_iter().collect(),
            kept: None,
        };
        let size = body.len() as u64;
        let (payload, absent) = (Payload::Bytes(body), Condition::Absent);
        let etag = match self
            .bucket
            .put(asker, key, &payload, &header, &absent)
            .await
        {
            Err(error @ (StoreError::Changed | StoreError::Untold(_))) => {
                // The answer to an earlier attempt may have been lost, or have told too little.
                let found = self.bucket.head(asker, key).await?;
                let found_mark = found.facts.as_ref().and_then(|f| f.posix.nonce.as_ref());
                if found_mark != Some(&mark) {
                    return Err(match error {
                        StoreError::Changed => FsError::Exists,
                        error => error.into(),
                    });
                }
                found.etag
            }
            answer => answer?,
        };
        let object = Object {
            size,
            modified: SystemTime::now(),
            etag,
            facts: Some(Arc::new(Facts {
                content_type: Some(content_type),
                posix,
                complete: true,
                ..Facts::default()
            })),
        };
        self.wrote(key, &object);
        Ok(object)
    }

    /// Makes sure that a directory outlives the last name in it: that it has a marker.
    ///
    /// Only a prefix that somebody else's tools made has none, so this mostly knows already.
    /// Returns whether one was made.
    pub(super) async fn keep_directory(&self, asker: &Asker, number: u64) -> Result<bool, FsError> {
        let inode = self.inode(number)?;
        if inode.unlinked {
            return Err(FsError::NotFound);
        }
        // One without a tag was there when it was last seen, by an earlier mount maybe.
        if let Kind::Directory(Some(marker)) = &inode.kind
            && !marker.etag.is_empty()
        {
            return Ok(false);
        }
        let key = self.key(number)?;
        if number == ROOT && key.is_empty() {
            return Ok(false);
        }
        let marker = format!("{}/", key.trim_end_matches('/'));
        let query = Query {
            prefix: marker.clone(),
            limit: Some(1),
            ..Query::default()
        };
        let found = match self.bucket.list(asker, &query).await {
            Ok(page) => page.entries.into_iter().next(),
            Err(StoreError::Denied(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mut is_new = false;
        let object = match found {
            Some(crate::store::Entry::Object(found, object)) if found == marker => {
                self.marker(asker, &marker, object).await
            }
            _ => {
                let look = self.attributes_of(&inode);
                let birth = Birth {
                    uid: look.uid,
                    gid: look.gid,
                    mode: look.mode,
                };
                let posix = self.born(number, birth, libc::S_IFDIR);
                let kind = DIRECTORY.to_owned();
                match self
                    .put_new(asker, &marker, Bytes::new(), posix, kind)
                    .await
                {
                    Err(FsError::Exists) => return Ok(false),
                    made => {
                        is_new = true;
                        made?
                    }
                }
            }
        };
        self.inodes.lock().attributes_stored(number, object);
        Ok(is_new)
    }

    /// A name in a directory was made, changed or removed by this mount.
    pub(super) fn names_changed(&self, directory: u64, name: &str, kind: Option<Kind>) {
        self.inodes.lock().touch(directory);
        self.listings.lock().change(directory, name, kind);
    }
}
