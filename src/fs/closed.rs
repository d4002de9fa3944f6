//! What other users see of what is not known yet.
//!
//! The kernel decides who may read a file and enter a directory by the mode and the owner that it
//! was told last, whoever asked then. A listing tells neither, and what is shown until S3 is asked
//! is only the usual. So on a mount that lets others in, what S3 has not told is shown as open to
//! the owner of the mount alone. Before the kernel turns anybody away, it asks for the attributes
//! once more (`fuse_permission` in fs/fuse/dir.c of Linux), and then S3 is asked: who may come in
//! does.
//!
//! An answer for one user must never be more open than for another. The kernel drops the answer
//! of whoever asked first if another has come meanwhile, and decides by that one
//! (`fuse_change_attributes` in fs/fuse/inode.c).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attributes::Attributes;
use super::inodes::{Inode, Kind, ROOT};
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::StoreError;

/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// By what the kernel lets a user in: mode, owner and group.
pub(crate) type Terms = (u32, u32, u32);

/// An inode that the kernel has not heard of: it does not count the lookup unless it does.
struct Unheard<'a> {
    fs: &'a FileSystem,
    number: Option<u64>,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.fs.forget(number, 1);
        }
    }
}

impl FileSystem {
    /// Whether other users may use the mount.
    pub(super) fn lets_others_in(&self) -> bool {
        self.look.shared_by.is_some()
    }

    /// Whether this user is let in by modes only: neither the owner of the mount nor root.
    fn is_other(&self, user: u32) -> bool {
        user != 0 && self.look.shared_by.is_some_and(|owner| owner != user)
    }

    /// What stat(2) tells. Of what is not known, nothing is shown to others.
    pub(crate) fn shown_to_all(&self, inode: &Inode) -> Attributes {
        let known = self.attributes_of(inode);
        if !self.is_closed(inode.number) {
            return known;
        }
        let look = &self.look;
        let usual = match &inode.kind {
            Kind::Directory(_) => u32::from(look.dir_mode),
            _ => u32::from(look.file_mode),
        };
        Attributes {
            mode: (known.mode & libc::S_IFMT) | (usual & !OTHERS),
            uid: look.uid,
            gid: look.gid,
            ..known
        }
    }

    fn is_closed(&self, number: u64) -> bool {
        let is_told = || self.inode(number).is_ok_and(|inode| inode.told.is_some());
        self.lets_others_in() && !self.has_usual_attributes(number) && !is_told()
    }

    /// Whether S3 cannot say more: of what is being changed here, and of the bucket itself.
    fn has_usual_attributes(&self, number: u64) -> bool {
        (number == ROOT && self.prefix.is_empty()) || self.draft(number).is_some()
    }

    /// Whether S3 has told the attributes of an inode; of a directory, lately: nothing else
    /// notices when somebody changes its marker.
    pub(super) fn knows_attributes(&self, inode: &Inode) -> bool {
        let ttl = self.look.ttl;
        let lately = |told: Instant| !inode.kind.is_directory() || told.elapsed() < ttl;
        self.has_usual_attributes(inode.number) || inode.unlinked || inode.told.is_some_and(lately)
    }

    /// How long the kernel may show the attributes of a name that was looked up.
    pub(crate) fn shown_for(&self, inode: &Inode) -> Duration {
        match self.lets_others_in() && inode.told.is_some() && !self.knows_attributes(inode) {
            // Whoever uses them asks again.
            true => Duration::ZERO,
            false => self.look.ttl,
        }
    }

    /// The same of a name in a listing that somebody reads. Of what is not known to somebody else,
    /// nothing is kept, so that looking at it makes it known.
    pub(crate) fn listed_for(&self, user: u32, inode: &Inode) -> Duration {
        match self.is_other(user) && !self.knows_attributes(inode) {
            true => Duration::ZERO,
            false => self.shown_for(inode),
        }
    }

    /// By what a user was let in, if it matters.
    pub(crate) fn let_in_as(&self, user: u32, number: u64) -> Result<Option<Terms>, FsError> {
        if !self.is_other(user) {
            return Ok(None);
        }
        let shown = self.shown_to_all(&self.inode(number)?);
        Ok(Some((shown.mode, shown.uid, shown.gid)))
    }

    /// Resolves a name for a user, as [`Self::lookup`] does. Others hear only of what S3 has
    /// told, if it does.
    pub(crate) async fn lookup_for(
        self: &Arc<Self>,
        asker: &Asker,
        user: u32,
        parent: u64,
        name: &std::ffi::OsStr,
    ) -> Result<Inode, FsError> {
        let inode = self.lookup(asker, parent, name).await?;
        if !self.is_other(user) || self.knows_attributes(&inode) {
            return Ok(inode);
        }
        let mut unheard = Unheard {
            fs: self,
            number: Some(inode.number),
        };
        match self.tell(asker, &inode).await {
            Ok(told) => {
                unheard.number = None;
                Ok(told)
            }
            // A link, or something new: under the same name there is another inode.
            Err(FsError::Store(StoreError::Changed)) => self.lookup(asker, parent, name).await,
            Err(error @ (FsError::NotFound | FsError::Store(StoreError::Session(_)))) => Err(error),
            Err(error) => {
                tracing::debug!("inode {} stays closed: {error}", inode.number);
                unheard.number = None;
                Ok(inode)
            }
        }
    }

    /// Has S3 tell the attributes of an inode.
    ///
    /// Errors: `ESTALE` if it is no file after all, but a link.
    pub(super) async fn tell(&self, asker: &Asker, inode: &Inode) -> Result<Inode, FsError> {
        let number = inode.number;
        if !inode.kind.is_directory() {
            let told = self.confirm(asker, number).await?;
            let facts = told.kind.object().and_then(|object| object.facts.as_ref());
            let is_link = facts.is_some_and(|facts| facts.posix.is_symlink());
            if is_link && matches!(told.kind, Kind::File(_)) {
                self.inodes.lock().doubt(number);
                self.listings.lock().forget(inode.parent);
                return Err(StoreError::Changed.into());
            }
            return Ok(told);
        }
        let key = format!("{}/", self.key(number)?.trim_end_matches('/'));
        let asked = Instant::now();
        let marker = match self.bucket.head(asker, &key).await {
            Err(StoreError::NotFound) => self.has_no_marker(&key),
            told => {
                let told = told?;
                self.learned(&key, &told);
                told
            }
        };
        self.inodes.lock().marker_told(number, marker, asked);
        self.inode(number)
    }
}
