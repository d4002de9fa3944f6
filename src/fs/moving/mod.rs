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

mod objects;
mod place;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::objects::Run;
use self::place::Busy;
pub(super) use self::place::Moves;
use super::draft::Held;
use super::inodes::Inode;
use super::recover::Kept;
use super::upload::may_pass;
use super::{FileSystem, FsError, blocking};
use crate::auth::Asker;
use crate::store::{Object, StoreError};

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
    fn found(self, id: u64) -> Self {
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

impl FileSystem {
    /// Gives a directory another name.
    ///
    /// Until what is returned is dropped, nothing is made or changed below it.
    ///
    /// Errors: `EINVAL` if it were to move into itself; `ENOTEMPTY` if the target has names in
    /// it. After an error everything is as before; only if the policy lets objects be copied and
    /// not deleted, they are in both places.
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
        if from.starts_with(&to) {
            return Err(FsError::NotEmpty);
        }
        let (mut moved, busy) = self.set_out(asker, from, to).await?;
        if let Some(target) = target {
            self.is_empty(asker, target.number, &moved.to).await?;
        }
        let below = self.inodes.lock().below(inode.number);
        for number in below {
            held.extend(self.hold_stored(asker, number).await?);
        }
        let is_going = |key: &str| key.starts_with(&moved.from);
        self.settle_copies(asker, inode.number, is_going).await;
        let mut run = Run::new(self.keys_below(inode.number));
        if let Err(error) = self.is_at(&mut moved, Stage::Copying).await {
            self.throw_out(moved.id);
            return Err(error);
        }
        let outcome = self.carry_on(asker, &mut moved, Some(&mut run)).await;
        self.listings.lock().clear();
        if let Err(error) = outcome {
            let goes_forward = match moved.stage {
                // The marker of the target may be gone, and the directory is there.
                Stage::Marking => target.is_some() && may_pass(&error),
                Stage::Deleting => true,
                Stage::Copying | Stage::Undoing => false,
            };
            if !goes_forward {
                self.turn_back(&mut moved).await;
                return Err(error);
            }
            if is_refused(&error) {
                self.give_up(&moved, &error);
                if !run.has_deleted() {
                    self.lead_back(&run);
                    return Err(error);
                }
            } else {
                // The journal knows what is left to do.
                tracing::warn!("{} ({error}): it is done by and by", moved.in_words());
            }
            // All of it is there under its new name.
        }
        self.rebind_below(inode.number, &run);
        self.moves.lock().leave(moved.id, run);
        Ok(busy)
    }

    /// Who was led to the copies reads on from what is there under the old name.
    fn lead_back(&self, run: &Run) {
        for (key, number) in &run.known {
            let inode = self.inode(*number).ok();
            if let Some(object) = inode.and_then(|inode| inode.kind.object().cloned())
                && !key.ends_with('/')
            {
                self.lead(*number, key, &object);
            }
        }
    }

    /// What is still there under the old name stays.
    fn give_up(&self, moved: &Move, error: &FsError) {
        tracing::warn!(
            "what was copied from {} to {} cannot be deleted there: {error}",
            moved.from,
            moved.to
        );
        self.is_over(moved);
    }

    /// Nothing is left to do.
    fn is_over(&self, moved: &Move) {
        self.throw_out(moved.id);
        if let Some(done) = self.moves.lock().under_way.get_mut(&moved.id) {
            // Who works on it takes it away.
            done.is_noted = false;
        }
    }

    /// Goes on with what was left half done, with nobody waiting.
    pub(super) fn go_on_with_moves(self: &Arc<Self>) {
        let left: Vec<u64> = {
            let moves = self.moves.lock();
            let idle = moves.all().filter(|moved| !moved.is_busy);
            idle.map(|moved| moved.id).collect()
        };
        for id in left {
            let fs = Arc::clone(self);
            tokio::spawn(async move { fs.go_on_with(&Asker::nobody(), id).await });
        }
    }

    async fn go_on_with(self: &Arc<Self>, asker: &Asker, id: u64) -> Result<(), FsError> {
        let Some((mut moved, _busy)) = self.take_on(id) else {
            return Ok(());
        };
        let mut run = self.moves.lock().run_of(id);
        let outcome = self.carry_on(asker, &mut moved, run.as_mut()).await;
        self.listings.lock().clear();
        let is_copied = matches!(moved.stage, Stage::Deleting | Stage::Undoing);
        match outcome {
            Err(error) if !is_copied && !may_pass(&error) => {
                tracing::warn!("{} is not renamed to {}: {error}", moved.from, moved.to);
                self.turn_back(&mut moved).await;
                Ok(())
            }
            Err(error) if is_copied && is_refused(&error) => {
                self.give_up(&moved, &error);
                Ok(())
            }
            Err(error) => {
                tracing::warn!("{}: {error}", moved.in_words());
                if let Some(run) = run {
                    self.moves.lock().leave(id, run);
                }
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
            self.is_now(moved);
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
        *moved = next;
        self.is_now(moved);
        Ok(())
    }

    /// Those who look at it see how far a move is.
    fn is_now(&self, moved: &Move) {
        let mut moves = self.moves.lock();
        moves.under_way.insert(moved.id, moved.clone());
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
        self.is_over(moved);
        Ok(())
    }

    /// The keys of what is known below a directory, and of itself, with the inodes.
    pub(super) fn keys_below(&self, directory: u64) -> HashMap<String, u64> {
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
                Some((to, copy)) => self.moved(number, to, copy.clone(), None),
                None => self.inodes.lock().doubt(number),
            }
        }
    }
}

/// Whether trying again would not help.
fn is_refused(error: &FsError) -> bool {
    matches!(error, FsError::Store(StoreError::Denied(_)))
}
