//! Extended attributes: `user.*` in the metadata, as s3fs keeps them, and `user.s3.*`, which
//! tells what S3 knows and cannot be changed.

use std::sync::Arc;

use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::metadata::{LIMIT, Metadata};
use crate::store::{Facts, Object};

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
        let (posix, told) = self.attributes_for(asker, number).await?;
        if let Some(name) = name.strip_prefix(OF_S3) {
            let (key, object, facts) = told.ok_or(FsError::NoData)?;
            return self
                .told(name, &key, &object, &facts)
                .ok_or(FsError::NoData);
        }
        posix.xattrs.get(name).cloned().ok_or(FsError::NoData)
    }

    /// The names of all attributes that can be copied. S3's own are found by who knows their
    /// names: `mv`, `cp` and `rsync` would try to set them on the copy, and complain.
    pub(crate) async fn xattrs(&self, asker: &Asker, number: u64) -> Result<Vec<String>, FsError> {
        let (posix, _) = self.attributes_for(asker, number).await?;
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
        self.change(asker, number, |posix| {
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
        let (posix, _) = self.attributes_for(asker, number).await?;
        if !posix.xattrs.contains_key(name) {
            return Err(FsError::NoData);
        }
        self.change(asker, number, |posix| match posix.xattrs.remove(name) {
            Some(_) => Ok(()),
            None => Err(FsError::NoData),
        })
        .await
    }

    /// An inode's metadata, and what S3 says of its object. Asks S3 unless it is known.
    async fn attributes_for(
        &self,
        asker: &Asker,
        number: u64,
    ) -> Result<(Metadata, Option<(String, Object, Arc<Facts>)>), FsError> {
        let inode = self.inode(number)?;
        let object = inode.kind.object().cloned();
        let mut key = self.key(number).unwrap_or_default();
        if inode.kind.is_directory() {
            key.push('/');
        }
        let told = match object {
            Some(object) if !object.etag.is_empty() && !inode.unlinked => {
                let known = object.facts.clone().filter(|facts| facts.complete);
                let (object, facts) = match known {
                    Some(facts) => (object, Some(facts)),
                    None => {
                        let object = self.bucket.head(asker, &key).await?;
                        self.learned(&key, &object);
                        let facts = object.facts.clone();
                        (object, facts)
                    }
                };
                facts.map(|facts| (key, object, facts))
            }
            _ => None,
        };
        let posix = match self.draft(number) {
            Some(draft) => draft.state().posix.clone(),
            None => {
                let known = inode.kind.object().and_then(|o| o.facts.clone());
                let facts = told
                    .as_ref()
                    .map(|(_, _, facts)| Arc::clone(facts))
                    .or(known);
                facts.map(|facts| facts.posix.clone()).unwrap_or_default()
            }
        };
        Ok((posix, told))
    }

    /// What S3 tells, by the name behind [`OF_S3`].
    fn told(&self, name: &str, key: &str, object: &Object, facts: &Facts) -> Option<Vec<u8>> {
        let text = match name {
            "etag" => object.etag.trim_matches('"').to_owned(),
            "version-id" => facts.version_id.clone()?,
            "storage-class" => {
                let class = facts.storage_class.clone();
                class.unwrap_or_else(|| "STANDARD".to_owned())
            }
            "content-type" => facts.content_type.clone()?,
            "sse" => facts.sse.clone()?,
            "last-modified" => crate::auth::clock::rfc3339(object.modified),
            "url" => self.bucket.url(key),
            _ => return None,
        };
        Some(text.into_bytes())
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
