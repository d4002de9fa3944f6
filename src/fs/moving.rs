//! Renaming a directory: every object below it is copied to its new key, then the old ones are
//! deleted.
//!
//! That may take long, and whatever ends it must not leave half a directory under each name. So
//! the journal has the move with its [`Stage`], and each copy carries the move's mark:
//!
//! - what fails while it copies is undone, and the directory is what it was;
//! - once all is copied, it only goes forward: what is left to do when the session or the
//!   daemon ends is done by the next one;
//! - what a crash has interrupted while it copied goes on at the next mount.
//!
//! Only what was copied is deleted, under the condition that nobody has changed it since. Of a
//! million objects nothing is kept in memory but eight bytes each.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::draft::{Held, blocking, nonce};
use super::file::Remote;
use super::inodes::Inode;
use super::recover::Kept;
use super::upload::may_pass;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::write::Condition;
use crate::store::{Entry, Object, Query, StoreError};

/// How many objects are copied or deleted at once.
const AT_ONCE: usize = 32;

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    /// Everything below the directory is copied. Nothing else has changed yet.
    Copying,
    /// The new directory gets the attributes of the old one: its marker, or none.
    Marking,
    /// The old objects are deleted.
    Deleting,
    /// Copying has failed: the copies are deleted.
    Undoing,
}

/// A directory on its way from one name to another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Move {
    /// Its number in the journal.
    #[serde(skip)]
    pub(super) id: u64,
    /// What its keys began with, up to a slash.
    from: String,
    /// What they are to begin with.
    to: String,
    /// What the mark of each copy begins with.
    mark: String,
    stage: Stage,
    /// Somebody is at it.
    #[serde(skip)]
    is_busy: bool,
    /// The journal has it.
    #[serde(skip)]
    is_noted: bool,
}

impl Move {
    /// Whether it has to do with something below a prefix, or above it.
    fn touches(&self, prefix: &str) -> bool {
        [&self.from, &self.to]
            .into_iter()
            .any(|mine| mine.starts_with(prefix) || prefix.starts_with(mine.as_str()))
    }

    /// What the keys are to begin with.
    pub(super) fn to(&self) -> &str {
        &self.to
    }

    /// Whether somebody is at it.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// What it is, for people.
    pub(super) fn in_words(&self) -> String {
        format!("{} is not renamed to {} completely yet", self.from, self.to)
    }

    /// As it is found in the journal.
    pub(super) fn found(self, id: u64) -> Self {
        Self {
            id,
            is_noted: true,
            ..self
        }
    }

    /// The key that an old key becomes.
    fn new_key(&self, key: &str) -> String {
        format!("{}{}", self.to, key.strip_prefix(&self.from).unwrap_or(key))
    }

    /// What marks the copy of an object: whose it is, and of what version.
    fn nonce_of(&self, etag: &str) -> String {
        let plain = etag.chars().filter(char::is_ascii_alphanumeric);
        format!("{}-{}", self.mark, plain.collect::<String>())
    }

    /// Whether an object is a copy of this move; of this version, if one is given.
    fn has_made(&self, object: &Object, etag: Option<&str>) -> bool {
        let mine = match etag {
            Some(etag) => self.nonce_of(etag),
            None => self.mark.clone(),
        };
        let facts = object.facts.as_ref();
        let mark = facts.and_then(|facts| facts.posix.nonce.as_deref());
        let rest = mark.and_then(|mark| mark.strip_prefix(&mine));
        rest.is_some_and(|rest| rest.starts_with('-'))
    }
}

/// What one run of a move knows of the objects.
struct Run {
    hash: RandomState,
    /// What was copied: keys and tags, as hashes.
    copied: HashSet<u64>,
    /// The keys of inodes that are known here, with those.
    known: HashMap<String, u64>,
    /// What those have become.
    moved: HashMap<String, (String, Object)>,
}

impl Run {
    fn new(known: HashMap<String, u64>) -> Self {
        Self {
            hash: RandomState::new(),
            copied: HashSet::new(),
            known,
            moved: HashMap::new(),
        }
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

/// Nobody else works on a move meanwhile.
pub(super) struct Busy {
    fs: Arc<FileSystem>,
    id: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        {
            let mut moves = self.fs.moves.lock();
            match moves.get_mut(&self.id) {
                Some(left) if left.is_noted => left.is_busy = false,
                // It has not begun, or it is done.
                _ => drop(moves.remove(&self.id)),
            }
        }
        self.fs.stored_something.send_modify(|count| *count += 1);
    }
}

impl FileSystem {
    /// Gives a directory another name.
    ///
    /// Until what is returned is dropped, nothing is made or changed below it.
    ///
    /// Errors: `EINVAL` if it were to move into itself; `ENOTEMPTY` if the target has names in
    /// it. After any error while it copies, everything is as before.
    pub(super) async fn rename_directory(
        self: &Arc<Self>,
        asker: &Asker,
        inode: &Inode,
        target: Option<&Inode>,
        new_key: &str,
        held: &mut Vec<Held>,
    ) -> Result<Busy, FsError> {
        let from = format!("{}/", self.key(inode.number)?);
        let to = format!("{new_key}/");
        if to.starts_with(&from) {
            return Err(FsError::Invalid);
        }
        let (mut moved, busy) = self.set_out(asker, from, to).await?;
        if let Some(target) = target {
            self.is_empty(asker, target.number, &moved.to).await?;
        }
        let below = self.inodes.lock().below(inode.number);
        for number in below {
            held.extend(self.hold_stored(asker, number).await?);
        }
        let mut run = Run::new(self.keys_below(inode.number));
        self.is_at(&mut moved, Stage::Copying).await?;
        let outcome = self.carry_on(asker, &mut moved, Some(&mut run)).await;
        self.listings.lock().clear();
        match outcome {
            Ok(()) => {
                self.rebind_below(inode.number, &run);
                Ok(busy)
            }
            Err(error) if moved.stage == Stage::Copying => {
                self.turn_back(&mut moved).await;
                Err(error)
            }
            Err(error) => {
                tracing::warn!("{} ({error}): it is done by and by", moved.in_words());
                Err(error)
            }
        }
    }

    /// Waits while an inode is in a directory that is being renamed: what is stored under its old
    /// name would stay behind. Returns whether it was so.
    pub(super) async fn keeps_its_place(&self, number: u64) -> bool {
        let mut changes = self.stored_something.subscribe();
        let mut has_moved = false;
        loop {
            changes.borrow_and_update();
            let Ok(mut key) = self.key(number) else {
                return has_moved;
            };
            key.push('/');
            let is_moving = {
                let moves = self.moves.lock();
                let mut busy = moves.values().filter(|moved| moved.is_busy);
                busy.any(|moved| key.starts_with(&moved.from))
            };
            if !is_moving {
                return has_moved;
            }
            has_moved = true;
            let _ = changes.changed().await;
        }
    }

    /// Begins a move, once those that it would meet are done with.
    async fn set_out(
        self: &Arc<Self>,
        asker: &Asker,
        from: String,
        to: String,
    ) -> Result<(Move, Busy), FsError> {
        let moved = Move {
            id: self.spool()?.new_id(),
            from,
            to,
            mark: nonce(),
            stage: Stage::Copying,
            is_busy: true,
            is_noted: false,
        };
        let mut changes = self.stored_something.subscribe();
        loop {
            changes.borrow_and_update();
            let other = {
                let mut moves = self.moves.lock();
                let mut others = moves.values();
                let other = others.find(|o| o.touches(&moved.from) || o.touches(&moved.to));
                let other = other.cloned();
                if other.is_none() {
                    moves.insert(moved.id, moved.clone());
                }
                other
            };
            match other {
                None => {
                    let busy = Busy {
                        fs: Arc::clone(self),
                        id: moved.id,
                    };
                    return Ok((moved, busy));
                }
                Some(other) if other.is_busy => {
                    let _ = changes.changed().await;
                }
                Some(other) => self.go_on_with(asker, other.id).await?,
            }
        }
    }

    /// Goes on with what was left half done, with nobody waiting.
    pub(super) fn go_on_with_moves(self: &Arc<Self>) {
        let left: Vec<u64> = {
            let moves = self.moves.lock();
            let idle = moves.values().filter(|moved| !moved.is_busy);
            idle.map(|moved| moved.id).collect()
        };
        for id in left {
            let fs = Arc::clone(self);
            tokio::spawn(async move { fs.go_on_with(&Asker::nobody(), id).await });
        }
    }

    async fn go_on_with(self: &Arc<Self>, asker: &Asker, id: u64) -> Result<(), FsError> {
        let mut moved = {
            let mut moves = self.moves.lock();
            match moves.get_mut(&id).filter(|moved| !moved.is_busy) {
                Some(moved) => {
                    moved.is_busy = true;
                    moved.clone()
                }
                None => return Ok(()),
            }
        };
        let _busy = Busy {
            fs: Arc::clone(self),
            id,
        };
        let outcome = self.carry_on(asker, &mut moved, None).await;
        self.listings.lock().clear();
        match outcome {
            Err(error) if moved.stage == Stage::Copying && !may_pass(&error) => {
                tracing::warn!("{} is not renamed to {}: {error}", moved.from, moved.to);
                self.turn_back(&mut moved).await;
                Ok(())
            }
            Err(error) => {
                tracing::warn!("{}: {error}", moved.in_words());
                Err(error)
            }
            Ok(()) if moved.stage == Stage::Undoing => Ok(()),
            Ok(()) => {
                tracing::info!("{} is renamed to {}", moved.from, moved.to);
                Ok(())
            }
        }
    }

    /// Undoes what was copied, now or when that can be done.
    async fn turn_back(self: &Arc<Self>, moved: &mut Move) {
        if let Err(error) = self.is_at(moved, Stage::Undoing).await {
            tracing::warn!("the journal: {error}");
            // This run must not go forward any more, whatever the journal says.
            moved.stage = Stage::Undoing;
            self.moves.lock().insert(moved.id, moved.clone());
        }
        if let Err(error) = self.carry_on(&Asker::nobody(), moved, None).await {
            tracing::warn!("copies stay in {} for a while: {error}", moved.to);
        }
    }

    /// The journal learns how far a move is.
    async fn is_at(self: &Arc<Self>, moved: &mut Move, stage: Stage) -> Result<(), FsError> {
        let next = Move {
            stage,
            is_noted: true,
            ..moved.clone()
        };
        let (fs, kept) = (Arc::clone(self), next.clone());
        blocking(move || {
            let spool = fs.spool()?;
            spool.put(kept.id, &Kept::Move(kept.clone()))?;
            Ok::<_, FsError>(spool.sync(None)?)
        })
        .await??;
        self.moves.lock().insert(next.id, next.clone());
        *moved = next;
        Ok(())
    }

    /// Does all that is left to do.
    async fn carry_on(
        self: &Arc<Self>,
        asker: &Asker,
        moved: &mut Move,
        mut run: Option<&mut Run>,
    ) -> Result<(), FsError> {
        loop {
            match moved.stage {
                Stage::Copying => {
                    self.copy_all(asker, moved, run.as_deref_mut()).await?;
                    self.is_at(moved, Stage::Marking).await?;
                }
                Stage::Marking => {
                    self.move_marker(asker, moved, run.as_deref_mut()).await?;
                    self.is_at(moved, Stage::Deleting).await?;
                }
                Stage::Deleting => {
                    // Who reads below it reads on from the copies, before the old ones go.
                    for (key, (to, copy)) in run.iter().flat_map(|run| &run.moved) {
                        let number = run.as_ref().and_then(|run| run.known.get(key));
                        if let Some(number) = number.filter(|_| !to.ends_with('/')) {
                            self.lead(*number, to, copy);
                        }
                    }
                    self.delete_all(asker, moved, run.as_deref()).await?;
                    break;
                }
                Stage::Undoing => {
                    self.delete_copies(asker, moved).await?;
                    break;
                }
            }
        }
        self.throw_out(moved.id);
        if let Some(done) = self.moves.lock().get_mut(&moved.id) {
            // Who works on it takes it away.
            done.is_noted = false;
        }
        Ok(())
    }

    async fn copy_all(
        self: &Arc<Self>,
        asker: &Asker,
        moved: &Move,
        mut run: Option<&mut Run>,
    ) -> Result<(), FsError> {
        let mut query = everything(&moved.from);
        loop {
            let page = self.bucket.list(asker, &query).await?;
            let objects = objects(page.entries)
                .filter(|(key, _)| *key != moved.from && !self.hidden.lock().contains_key(key));
            let copied: Vec<Result<_, FsError>> = stream::iter(objects)
                .map(|(key, object)| {
                    let (fs, asker) = (Arc::clone(self), *asker);
                    let (to, nonce) = (moved.new_key(&key), moved.nonce_of(&object.etag));
                    async move {
                        let remote = Arc::new(Remote::apart(key.clone(), object.clone()));
                        let copy = fs.copy_to(&asker, 0, &remote, &to, None, Some(nonce));
                        let copy = copy.await?;
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
                Some(next) => query.token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The new directory gets the marker of the old one. If that has none, neither has the new
    /// one: the marker of a directory that it replaces would give it its attributes.
    async fn move_marker(
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
                let copy = self.copy_to(asker, 0, &remote, &moved.to, there, Some(nonce));
                let copy = copy.await?;
                if let Some(run) = run {
                    run.has_copied(moved.from.clone(), &marker, moved.to.clone(), copy);
                }
            }
        }
        Ok(())
    }

    async fn delete_all(
        &self,
        asker: &Asker,
        moved: &Move,
        run: Option<&Run>,
    ) -> Result<(), FsError> {
        let mut query = everything(&moved.from);
        let mut marker = None;
        loop {
            let page = self.bucket.list(asker, &query).await?;
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
                Some(next) => query.token = Some(next),
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
        let condition = Condition::Is(object.etag.clone());
        match self.bucket.delete(asker, key, &condition).await {
            Err(StoreError::Changed) => {
                tracing::warn!("{key}: changed by somebody else, and stays");
            }
            outcome => outcome?,
        }
        self.index.remove(key);
        Ok(())
    }

    async fn delete_copies(&self, asker: &Asker, moved: &Move) -> Result<(), FsError> {
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
                Some(next) => query.token = Some(next),
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

    /// The keys of what is known below a directory, and of itself, with the inodes.
    fn keys_below(&self, directory: u64) -> HashMap<String, u64> {
        let below = self.inodes.lock().below(directory);
        let keys = below.into_iter().chain([directory]).filter_map(|number| {
            let (inode, mut key) = (self.inode(number).ok()?, self.key(number).ok()?);
            if inode.kind.is_directory() {
                key.push('/');
            }
            Some((key, number))
        });
        keys.collect()
    }

    /// What is known below a renamed directory is known by its new keys; what has turned up
    /// meanwhile is asked for.
    fn rebind_below(&self, directory: u64, run: &Run) {
        for (key, number) in self.keys_below(directory) {
            match run.moved.get(&key) {
                Some((to, copy)) => self.moved(number, to, copy.clone()),
                None => self.inodes.lock().doubt(number),
            }
        }
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
