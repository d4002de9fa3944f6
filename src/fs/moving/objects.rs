//! The objects of a directory that is being renamed: copying them, and deleting what is not
//! needed any more.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::Move;
use crate::auth::Asker;
use crate::fs::file::Remote;
use crate::fs::rename::Copy;
use crate::fs::{FileSystem, FsError};
use crate::store::metadata::Metadata;
use crate::store::write::Condition;
use crate::store::{Entry, Object, Page, Query, StoreError};

/// How many objects are copied or deleted at once.
const AT_ONCE: usize = 32;

/// What one run of a move knows of the objects.
#[derive(Debug)]
pub(super) struct Run {
    hash: RandomState,
    /// What was copied: keys and tags, as hashes.
    copied: HashSet<u64>,
    /// The keys of inodes that are known here, with those.
    pub(super) known: HashMap<String, u64>,
    /// What those have become.
    pub(super) moved: HashMap<String, (String, Object)>,
    /// An old object is gone.
    deleted: AtomicBool,
}

impl Run {
    pub(super) fn new(known: HashMap<String, u64>) -> Self {
        Self {
            hash: RandomState::new(),
            copied: HashSet::new(),
            known,
            moved: HashMap::new(),
            deleted: AtomicBool::new(false),
        }
    }

    /// Whether anything is gone already under the old name.
    pub(super) fn has_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    /// Those who know what was moved have been told.
    pub(super) fn forget_inodes(&mut self) {
        self.known = HashMap::new();
        self.moved = HashMap::new();
    }

    fn hash(&self, key: &str, object: &Object) -> u64 {
        self.hash.hash_one((key, &object.etag))
    }

    fn is_copied(&self, key: &str, object: &Object) -> bool {
        self.copied.contains(&self.hash(key, object))
    }

    fn has_copied(&mut self, key: String, object: &Object, to: String, copy: Object) {
        self.copied.insert(self.hash(&key, object));
        if self.known.contains_key(&key) {
            self.moved.insert(key, (to, copy));
        }
    }
}

impl FileSystem {
    /// Copies everything below a directory but its marker.
    pub(super) async fn copy_all(
        self: &Arc<Self>,
        asker: &Asker,
        moved: &Move,
        mut run: Option<&mut Run>,
    ) -> Result<(), FsError> {
        let mut query = everything(&moved.from);
        loop {
            let page = self.bucket.list(asker, &query).await?;
            all_have_names(&page)?;
            let objects = objects(page.entries)
                .filter(|(key, _)| *key != moved.from && !self.hidden.lock().contains_key(key));
            let copied: Vec<Result<_, FsError>> = stream::iter(objects)
                .map(|(key, object)| {
                    let (fs, asker) = (Arc::clone(self), *asker);
                    let (to, nonce) = (moved.new_key(&key), moved.nonce_of(&object.etag));
                    let touched = self.touched(&key, run.as_deref());
                    async move {
                        let remote = Arc::new(Remote::apart(key.clone(), object.clone()));
                        let copy = Copy {
                            key: &to,
                            replaced: None,
                            timed: false,
                            nonce: Some(nonce),
                            // Only the directory itself has another name.
                            change: |posix: &mut Metadata| posix.mtime = touched.or(posix.mtime),
                        };
                        let copy = fs.copy_to(&asker, 0, &remote, copy).await?;
                        Ok((key, object, to, copy))
                    }
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            for copied in copied {
                let (key, object, to, copy) = copied?;
                if let Some(run) = &mut run {
                    run.has_copied(key, &object, to, copy);
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The new directory gets the marker of the old one. If that has none, neither has the new
    /// one: the marker of a directory that it replaces would give it its attributes.
    pub(super) async fn move_marker(
        self: &Arc<Self>,
        asker: &Asker,
        moved: &Move,
        run: Option<&mut Run>,
    ) -> Result<(), FsError> {
        let marker = self.object_at(asker, &moved.from).await?;
        let there = self.object_at(asker, &moved.to).await?;
        match (marker, there) {
            (None, None) => {}
            (None, Some(there)) => {
                let condition = Condition::Is(there.etag);
                self.bucket.delete(asker, &moved.to, &condition).await?;
                self.index.remove(&moved.to);
            }
            (Some(marker), there) => {
                let nonce = moved.nonce_of(&marker.etag);
                let remote = Arc::new(Remote::apart(moved.from.clone(), marker.clone()));
                let touched = self.touched(&moved.from, run.as_deref());
                let copy = Copy {
                    key: &moved.to,
                    replaced: there,
                    timed: false,
                    nonce: Some(nonce),
                    change: |posix: &mut Metadata| {
                        posix.mtime = touched.or(posix.mtime);
                        posix.ctime = Some(SystemTime::now());
                    },
                };
                let copy = self.copy_to(asker, 0, &remote, copy).await?;
                if let Some(run) = run {
                    run.has_copied(moved.from.clone(), &marker, moved.to.clone(), copy);
                }
            }
        }
        Ok(())
    }

    /// When names in a directory were last changed here, if its marker does not say so yet.
    fn touched(&self, marker: &str, run: Option<&Run>) -> Option<SystemTime> {
        let number = run?.known.get(marker).filter(|_| marker.ends_with('/'))?;
        self.inode(*number).ok()?.touched
    }

    /// Deletes what was copied, and the marker last.
    pub(super) async fn delete_all(
        &self,
        asker: &Asker,
        moved: &Move,
        run: Option<&Run>,
    ) -> Result<(), FsError> {
        let mut query = everything(&moved.from);
        let mut marker = None;
        loop {
            let page = self.bucket.list(asker, &query).await?;
            all_have_names(&page)?;
            let mut below = Vec::new();
            for (key, object) in objects(page.entries) {
                if key == moved.from {
                    // Last: while there are others, the directory is one that is known.
                    marker = Some(object);
                } else {
                    below.push((key, object));
                }
            }
            stream::iter(below.iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |(key, object)| async move {
                    self.delete_moved(asker, moved, run, key, object).await
                })
                .await?;
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        match marker {
            Some(marker) => {
                self.delete_moved(asker, moved, run, &moved.from, &marker)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Deletes an object if it was copied as it is.
    async fn delete_moved(
        &self,
        asker: &Asker,
        moved: &Move,
        run: Option<&Run>,
        key: &str,
        object: &Object,
    ) -> Result<(), FsError> {
        let is_copied = match run {
            Some(run) => run.is_copied(key, object),
            None => {
                let copy = self.object_at(asker, &moved.new_key(key)).await?;
                copy.is_some_and(|copy| moved.has_made(&copy, Some(&object.etag)))
            }
        };
        if !is_copied {
            if !self.hidden.lock().contains_key(key) {
                tracing::warn!(
                    "{key}: put there while {} was renamed; it stays",
                    moved.from
                );
            }
            return Ok(());
        }
        let delete = async |object: &Object| {
            let condition = Condition::Is(object.etag.clone());
            self.bucket.delete(asker, key, &condition).await
        };
        let mut deleted = delete(object).await;
        if matches!(deleted, Err(StoreError::Changed))
            && let Ok(Some(found)) = self.bucket.listed(asker, key, object).await
            && found.etag != object.etag
        {
            deleted = delete(&found).await;
        }
        match deleted {
            Err(StoreError::Changed) => {
                tracing::warn!("{key}: changed by somebody else, and stays");
            }
            outcome => outcome?,
        }
        if let Some(run) = run {
            run.deleted.store(true, Ordering::Relaxed);
        }
        self.index.remove(key);
        Ok(())
    }

    /// Deletes the copies that a move has made.
    pub(super) async fn delete_copies(&self, asker: &Asker, moved: &Move) -> Result<(), FsError> {
        let mut query = everything(&moved.to);
        loop {
            let page = self.bucket.list(asker, &query).await?;
            let keys: Vec<String> = objects(page.entries).map(|(key, _)| key).collect();
            stream::iter(keys.iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |key| async move {
                    self.delete_copy(asker, moved, key).await
                })
                .await?;
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Deletes what stands under a key, if this move has made it.
    async fn delete_copy(&self, asker: &Asker, moved: &Move, key: &str) -> Result<(), FsError> {
        let copy = self.object_at(asker, key).await?;
        let Some(copy) = copy.filter(|copy| moved.has_made(copy, None)) else {
            return Ok(());
        };
        self.index.remove(key);
        match self
            .bucket
            .delete(asker, key, &Condition::Is(copy.etag))
            .await
        {
            Err(StoreError::Changed) => {
                tracing::warn!("{key}: changed by somebody else, and stays");
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    async fn object_at(&self, asker: &Asker, key: &str) -> Result<Option<Object>, FsError> {
        match self.bucket.head(asker, key).await {
            Err(StoreError::NotFound) => Ok(None),
            object => Ok(Some(object?)),
        }
    }
}

/// What cannot be named cannot be moved, and would stay behind.
fn all_have_names(page: &Page) -> Result<(), FsError> {
    match page.unreadable.first() {
        None => Ok(()),
        Some(key) => Err(StoreError::Listing(format!(
            "the store does not tell the name of an object: {:?} stands for it",
            crate::words::tame(key)
        ))
        .into()),
    }
}

fn everything(prefix: &str) -> Query {
    Query {
        prefix: prefix.to_owned(),
        ..Query::default()
    }
}

fn objects(entries: Vec<Entry>) -> impl Iterator<Item = (String, Object)> {
    entries.into_iter().filter_map(|entry| match entry {
        Entry::Object(key, object) => Some((key, object)),
        Entry::Prefix(_) => None,
    })
}
