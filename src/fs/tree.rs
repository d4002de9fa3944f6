//! Names to inodes: lookup and attributes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::join;

use super::inodes::{Inode, Kind, ROOT};
use super::names::from_kernel;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::{Entry, Object, Query, StoreError};

/// The longest key in bytes: docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html.
pub(super) const LONGEST_KEY: usize = 1024;

impl FileSystem {
    /// Resolves a name. The kernel counts the answer as a lookup.
    ///
    /// Names are content: without a session this waits for one, unless the kernel holds the name.
    /// Then what is known of it is the answer: a program that shows a directory must not freeze
    /// over what it shows already.
    pub(crate) async fn lookup(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &std::ffi::OsStr,
    ) -> Result<Inode, FsError> {
        let name = from_kernel(name)?;
        if !self.inode(parent)?.kind.is_directory() {
            return Err(FsError::NotADirectory);
        }
        let held = || self.inodes.lock().look_up_held(parent, name);
        let is_held = self.inodes.lock().is_held(parent, name);
        if is_held
            && !self.bucket.opens_for_nobody().await
            && let Some(known) = held()
        {
            return Ok(known);
        }
        match self.look_for(asker, parent, name).await {
            // The session had ended, and nobody gave a code for the next.
            Err(FsError::Store(StoreError::Session(error))) => {
                held().ok_or(StoreError::Session(error).into())
            }
            answer => answer,
        }
    }

    /// How long the kernel may believe what it is told now: not at all while that is only what was
    /// known before the mount was locked.
    pub(crate) fn belief(&self) -> Duration {
        let ttl = || self.look.ttl;
        self.bucket.while_live(ttl).unwrap_or_default()
    }

    async fn look_for(
        self: &Arc<Self>,
        asker: &Asker,
        parent: u64,
        name: &str,
    ) -> Result<Inode, FsError> {
        self.has_moved(asker, &self.key_in(parent, name)?).await?;
        let mut known = self.believed(parent, name);
        if known.is_none() && self.list_for_lookups(asker, parent).await? {
            known = self.believed(parent, name);
        }
        if let Some(known) = known {
            let (kind, seen) = known.ok_or(FsError::NotFound)?;
            return Ok(self.inodes.lock().look_up(parent, name, kind, seen));
        }
        let seen = Instant::now();
        let kind = match self.ask_for(asker, parent, name).await {
            Err(FsError::NotFound | FsError::Store(StoreError::NotFound)) => {
                // S3 did not have it yet, and without a session it was not to be told.
                let drafted = self.drafted(parent, name);
                match drafted.or_else(|| self.confirmed_since(parent, name, seen)) {
                    Some(made_here) => made_here,
                    None => {
                        self.listings.lock().is_absent(parent, name, seen);
                        return Err(FsError::NotFound);
                    }
                }
            }
            answer => answer?,
        };
        Ok(self.inodes.lock().look_up(parent, name, kind, seen))
    }

    /// What is still believed about a name, and may be told; `Some(None)` is "not there".
    fn believed(&self, parent: u64, name: &str) -> Option<Option<(Kind, Instant)>> {
        let known = || self.known(parent, name);
        self.bucket.while_live(known).flatten()
    }

    /// What a name is that is being changed here.
    fn drafted(&self, parent: u64, name: &str) -> Option<Kind> {
        let inode = self.inodes.lock().find(parent, name).cloned()?;
        self.draft(inode.number).map(|_| inode.kind)
    }

    /// What a name is that was stored, or seen otherwise, after this moment.
    fn confirmed_since(&self, parent: u64, name: &str, moment: Instant) -> Option<Kind> {
        let inodes = self.inodes.lock();
        let inode = inodes.find(parent, name)?;
        (inode.seen > moment).then(|| inode.kind.clone())
    }

    fn known(&self, parent: u64, name: &str) -> Option<Option<(Kind, Instant)>> {
        let ttl = self.look.ttl;
        if let Some(drafted) = self.drafted(parent, name) {
            return Some(Some((drafted, Instant::now())));
        }
        if let Some(answer) = self.listings.lock().answer(parent, name, ttl) {
            return Some(answer);
        }
        let inodes = self.inodes.lock();
        let inode = inodes.find(parent, name)?;
        let is_fresh = !inode.doubted && inode.seen.elapsed() < ttl;
        is_fresh.then(|| Some((inode.kind.clone(), inode.seen)))
    }

    /// Asks S3 about a name: as a key and as a prefix, side by side. The directory wins.
    pub(super) async fn ask_for(
        &self,
        asker: &Asker,
        parent: u64,
        name: &str,
    ) -> Result<Kind, FsError> {
        let key = self.key_in(parent, name)?;
        if self.hidden.lock().contains_key(&key) {
            return Err(FsError::NotFound);
        }
        let below = Query {
            prefix: format!("{key}/"),
            limit: Some(1),
            ..Query::default()
        };
        // What was a directory mostly is one still, and then a key beside it does not count.
        let known = self
            .inodes
            .lock()
            .find(parent, name)
            .map(|inode| inode.kind.is_directory());
        let (object, page) = if known == Some(true) {
            (None, self.bucket.list(asker, &below).await)
        } else {
            let object = self.bucket.head(asker, &key);
            let (object, page) = join!(object, self.bucket.list(asker, &below));
            (Some(object), page)
        };
        let listed = match page {
            Ok(page) if !page.is_empty() => {
                let marker = match page.entries.into_iter().next() {
                    Some(Entry::Object(found, object)) if found == below.prefix => Some(object),
                    _ => None,
                };
                return self.directory_with(asker, &below.prefix, marker).await;
            }
            Ok(_) => true,
            Err(StoreError::Denied(_)) => false,
            Err(error) => return Err(error.into()),
        };
        let object = match object {
            Some(object) => object,
            None => self.bucket.head(asker, &key).await,
        };
        match object {
            Ok(object) => {
                self.learned(&key, &object);
                Ok(Kind::of(object))
            }
            // The file cannot be read, but its name may be seen.
            Err(StoreError::Denied(_)) if listed => {
                Ok(Kind::of(self.bucket.entry(asker, &key).await?))
            }
            // Without ListBucket, S3 says 403 for absent keys too. A program that is about to
            // create the file must hear that it is not there.
            Err(StoreError::Denied(_)) if !self.look.read_only => Err(FsError::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    /// A directory with the attributes in its marker, which a listing does not tell.
    async fn directory_with(
        &self,
        asker: &Asker,
        key: &str,
        marker: Option<Object>,
    ) -> Result<Kind, FsError> {
        let marker = match marker {
            Some(marker) => self.marker(asker, key, marker).await,
            // Its key would have come first.
            None => self.has_no_marker(key),
        };
        Ok(Kind::Directory(Some(marker)))
    }

    /// A marker that was listed, with its attributes if they can be had.
    pub(super) async fn marker(&self, asker: &Asker, key: &str, listed: Object) -> Object {
        let marker = self.recall(key, listed);
        if marker.facts.is_none()
            && let Ok(told) = self.bucket.head(asker, key).await
        {
            self.learned(key, &told);
            return told;
        }
        marker
    }

    /// The key of a name in a directory. Fails with `ENAMETOOLONG` if S3 has no such long keys.
    pub(super) fn key_in(&self, parent: u64, name: &str) -> Result<String, FsError> {
        let mut key = self.key(parent)?;
        if !key.is_empty() && !key.ends_with('/') {
            key.push('/');
        }
        key.push_str(name);
        if key.len() > LONGEST_KEY {
            return Err(FsError::NameTooLong);
        }
        Ok(key)
    }

    /// The attributes of an inode that the kernel knows. Never waits for a person: what is
    /// known answers while the mount is locked.
    pub(crate) async fn attributes(&self, number: u64) -> Result<Inode, FsError> {
        let inode = self.inode(number)?;
        if self.lets_others_in() && !self.knows_attributes(&inode) {
            return match self.tell(&Asker::nobody(), &inode).await {
                Err(error @ (FsError::NotFound | FsError::Store(StoreError::Changed))) => {
                    Err(error)
                }
                told => Ok(told.unwrap_or(inode)),
            };
        }
        let is_fresh = !inode.doubted && inode.seen.elapsed() < self.look.ttl;
        if inode.kind.is_directory() || inode.unlinked || is_fresh || self.draft(number).is_some() {
            return Ok(inode);
        }
        match self.confirm(&Asker::nobody(), number).await {
            Ok(inode) => Ok(inode),
            Err(FsError::NotFound) => Err(FsError::NotFound),
            // Locked, denied, or out of reach: what was known is the best there is.
            Err(_) => Ok(inode),
        }
    }

    /// The kernel forgets lookups.
    pub(crate) fn forget(&self, number: u64, lookups: u64) {
        self.inodes.lock().forget(number, lookups);
    }

    /// The inode of a number.
    pub(crate) fn inode(&self, number: u64) -> Result<Inode, FsError> {
        let inodes = self.inodes.lock();
        inodes.get(number).cloned().ok_or(FsError::NotFound)
    }

    /// The key of a file, or of a directory without the slash at its end. The root's is the
    /// mount's prefix.
    pub(crate) fn key(&self, number: u64) -> Result<String, FsError> {
        if number == ROOT {
            return Ok(self.prefix.clone());
        }
        let path = self.inodes.lock().path(number).ok_or(FsError::NotFound)?;
        Ok(format!("{}{path}", self.prefix))
    }
}
