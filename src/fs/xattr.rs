//! Extended attributes: `user.*` in the metadata, as s3fs keeps them, and `user.s3.*`, which
//! tells what S3 knows and cannot be changed.

use std::sync::Arc;

use super::inodes::{Inode, ROOT};
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::metadata::{LIMIT, Metadata};
use crate::store::verdict::Action;
use crate::store::{Object, StoreError, tag};

/// Where S3's own attributes are.
const OF_S3: &str = "user.s3.";

/// How an attribute is to be set: `XATTR_CREATE` and `XATTR_REPLACE` of setxattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Either,
    Create,
    Replace,
}

impl FileSystem {
    /// The value of an attribute. Fails with `ENODATA` if there is none.
    pub(crate) async fn xattr(
        &self,
        asker: &Asker,
        number: u64,
        name: &str,
    ) -> Result<Vec<u8>, FsError> {
        // The kernel asks for security.capability before each write, and file managers for all
        // kinds of things: none of that is worth a request.
        if !name.starts_with("user.") {
            return Err(FsError::NoData);
        }
        if let Some(name) = name.strip_prefix(OF_S3) {
            return self.told(asker, number, name).await;
        }
        self.may_tell(asker, number).await?;
        let mut posix = self.metadata_of(asker, number).await?;
        posix.xattrs.remove(name).ok_or(FsError::NoData)
    }

    /// Names, values and targets are content, also those that are known: not without a session.
    pub(super) async fn may_tell(&self, asker: &Asker, number: u64) -> Result<(), FsError> {
        // The bucket has none but those that this mount was given for it.
        let is_bare = || {
            self.inode(number)
                .is_ok_and(|root| root.kind.object().is_none())
        };
        if self.look.serve_when_locked || (number == ROOT && self.prefix.is_empty() && is_bare()) {
            return Ok(());
        }
        let key = match self.draft(number) {
            Some(draft) => draft.state().key.clone(),
            None => self.key(number).unwrap_or_default(),
        };
        self.bucket.attempt(asker, Action::Read, &key).await?;
        Ok(())
    }

    /// The names of all attributes that can be copied. S3's own are found by who knows their
    /// names: `mv`, `cp` and `rsync` would try to set them on the copy, and complain.
    pub(crate) async fn xattrs(&self, asker: &Asker, number: u64) -> Result<Vec<String>, FsError> {
        self.may_tell(asker, number).await?;
        let posix = self.metadata_of(asker, number).await?;
        Ok(posix.xattrs.into_keys().collect())
    }

    /// Sets an attribute.
    pub(crate) async fn set_xattr(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        name: &str,
        value: &[u8],
        mode: Mode,
    ) -> Result<(), FsError> {
        writable(name)?;
        if value.len() > LIMIT {
            return Err(FsError::NoSpaceForMetadata);
        }
        if mode != Mode::Either {
            // It tells whether there is one.
            self.may_tell(asker, number).await?;
        }
        self.change(asker, number, false, |posix| {
            let is_there = posix.xattrs.contains_key(name);
            match mode {
                Mode::Create if is_there => return Err(FsError::Exists),
                Mode::Replace if !is_there => return Err(FsError::NoData),
                _ => {}
            }
            posix.xattrs.insert(name.to_owned(), value.to_owned());
            Ok(())
        })
        .await
    }

    /// Removes an attribute.
    pub(crate) async fn remove_xattr(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        name: &str,
    ) -> Result<(), FsError> {
        writable(name)?;
        self.may_tell(asker, number).await?;
        let posix = self.metadata_of(asker, number).await?;
        if !posix.xattrs.contains_key(name) {
            return Err(FsError::NoData);
        }
        self.change(asker, number, false, |posix| {
            match posix.xattrs.remove(name) {
                Some(_) => Ok(()),
                None => Err(FsError::NoData),
            }
        })
        .await
    }

    /// An inode's metadata. Asks S3 unless it is known.
    async fn metadata_of(&self, asker: &Asker, number: u64) -> Result<Metadata, FsError> {
        if let Some(draft) = self.draft(number) {
            return Ok(draft.state().posix.clone());
        }
        let inode = self.inode(number)?;
        let object = inode.kind.object();
        if let Some(facts) = object.and_then(|object| object.facts.as_ref()) {
            return Ok(facts.posix.clone());
        }
        let is_directory = inode.kind.is_directory();
        if inode.unlinked || number == ROOT || (object.is_none() && !is_directory) {
            return Ok(Metadata::default());
        }
        let (key, object) = match self.ask_about(asker, &inode).await {
            // A directory without a marker.
            Err(FsError::Store(StoreError::NotFound)) if is_directory => {
                return Ok(Metadata::default());
            }
            told => told?,
        };
        self.learned(&key, &object);
        let facts = object.facts.as_ref();
        Ok(facts.map(|facts| facts.posix.clone()).unwrap_or_default())
    }

    /// What S3 tells, by the name behind [`OF_S3`]. It is asked each time: of what this mount has
    /// stored, it alone knows the version, the encryption and the time.
    async fn told(&self, asker: &Asker, number: u64, name: &str) -> Result<Vec<u8>, FsError> {
        let inode = self.inode(number)?;
        let object = inode.kind.object();
        let is_new = !inode.kind.is_directory() && object.is_none_or(|o| o.etag.is_empty());
        if inode.unlinked || is_new {
            return Err(FsError::NoData);
        }
        let (key, object) = match self.ask_about(asker, &inode).await {
            // A directory without a marker.
            Err(FsError::Store(StoreError::NotFound)) => return Err(FsError::NoData),
            told => told?,
        };
        let facts = object.facts.as_deref().ok_or(FsError::NoData)?;
        let text = match name {
            "etag" => tag::plain(&object.etag).map(str::to_owned),
            "version-id" => facts.version_id.clone(),
            "storage-class" => {
                let class = facts.storage_class.clone();
                Some(class.unwrap_or_else(|| "STANDARD".to_owned()))
            }
            "content-type" => facts.content_type.clone(),
            "sse" => facts.sse.clone(),
            "last-modified" => object.written().map(crate::clock::rfc3339),
            "url" => Some(self.bucket.url(&key)),
            _ => None,
        };
        text.map(String::into_bytes).ok_or(FsError::NoData)
    }

    /// Asks S3 about an inode's object; about a directory's marker.
    async fn ask_about(&self, asker: &Asker, inode: &Inode) -> Result<(String, Object), FsError> {
        let mut key = self.key(inode.number)?;
        if key.is_empty() {
            // The bucket is no object.
            return Err(FsError::NoData);
        }
        if inode.kind.is_directory() && !key.ends_with('/') {
            key.push('/');
        }
        let object = self.bucket.head(asker, &key).await?;
        Ok((key, object))
    }
}

fn writable(name: &str) -> Result<(), FsError> {
    if name.starts_with(OF_S3) {
        return Err(FsError::NotPermitted);
    }
    match name.strip_prefix("user.") {
        Some("") => Err(FsError::Invalid),
        Some(_) => Ok(()),
        None => Err(FsError::Unsupported),
    }
}
