//! Names to inodes: lookup and attributes.

use std::time::Instant;

use tokio::join;

use super::inodes::{Inode, Kind, ROOT};
use super::names::from_kernel;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::{Query, StoreError};

/// The longest key in bytes: docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html.
const LONGEST_KEY: usize = 1024;

impl FileSystem {
    /// Resolves a name. The kernel counts the answer as a lookup.
    ///
    /// Names are content: without a session this waits for one.
    pub(crate) async fn lookup(
        &self,
        asker: &Asker,
        parent: u64,
        name: &std::ffi::OsStr,
    ) -> Result<Inode, FsError> {
        let name = from_kernel(name)?;
        if !self.inode(parent)?.kind.is_directory() {
            return Err(FsError::NotADirectory);
        }
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
                self.listings.lock().is_absent(parent, name, seen);
                return Err(FsError::NotFound);
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

    fn known(&self, parent: u64, name: &str) -> Option<Option<(Kind, Instant)>> {
        let ttl = self.look.ttl;
        if let Some(answer) = self.listings.lock().answer(parent, name, ttl) {
            return Some(answer);
        }
        let inodes = self.inodes.lock();
        let inode = inodes.find(parent, name)?;
        (inode.seen.elapsed() < ttl).then(|| Some((inode.kind.clone(), inode.seen)))
    }

    /// Asks S3 about a name: as a key and as a prefix, side by side. The directory wins.
    async fn ask_for(&self, asker: &Asker, parent: u64, name: &str) -> Result<Kind, FsError> {
        let mut key = self.key(parent)?;
        if !key.is_empty() && !key.ends_with('/') {
            key.push('/');
        }
        key.push_str(name);
        if key.len() > LONGEST_KEY {
            return Err(FsError::NameTooLong);
        }
        let below = Query {
            prefix: format!("{key}/"),
            limit: Some(1),
            ..Query::default()
        };
        let (object, page) = join!(
            self.bucket.head(asker, &key),
            self.bucket.list(asker, &below)
        );
        let listed = match page {
            Ok(page) if !page.entries.is_empty() => return Ok(Kind::Directory),
            Ok(_) => true,
            Err(StoreError::Denied(_)) => false,
            Err(error) => return Err(error.into()),
        };
        match object {
            Ok(object) => Ok(Kind::File(object)),
            // The file cannot be read, but its name may be seen.
            Err(StoreError::Denied(_)) if listed => {
                Ok(Kind::File(self.bucket.entry(asker, &key).await?))
            }
            // Without ListBucket, S3 says 403 for absent keys too. A program that is about to
            // create the file must hear that it is not there.
            Err(StoreError::Denied(_)) if !self.look.read_only => Err(FsError::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    /// The attributes of an inode that the kernel knows. Never waits for a person: what is
    /// known answers while the mount is locked.
    pub(crate) async fn attributes(&self, number: u64) -> Result<Inode, FsError> {
        let inode = self.inode(number)?;
        if inode.kind.is_directory() || inode.seen.elapsed() < self.look.ttl {
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
