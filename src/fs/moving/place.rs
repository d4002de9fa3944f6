//! Who works in which directory, and which directories are being renamed: each waits for the
//! other, so that nothing is stored under a name that has just become an old one.
//!
//! What makes, changes or removes something [keeps its place](FileSystem::keeps_its_place) until
//! that is done. A move [sets out](FileSystem::set_out) once nobody is at work below either of
//! its names, and from then on nobody begins to be. A file [leaves](FileSystem::leaves) its name
//! in the same way. What a move has left to be done is done before anybody works where it began.
//!
//! Nobody waits in a circle: a move that has set out waits for nobody here, and one that has not
//! is waited for by nobody. Two that keep the places which the other one wants to move cannot be:
//! the kernel renames one directory at a time to another parent (`s_vfs_rename_mutex`, see
//! Documentation/filesystems/directory-locking.rst of Linux).

use std::collections::HashMap;
use std::sync::Arc;

use super::objects::Run;
use super::{Move, Stage};
use crate::auth::Asker;
use crate::fs::draft::nonce;
use crate::fs::{FileSystem, FsError};

/// Directories that are being renamed, and who works in them.
#[derive(Debug, Default)]
pub(in crate::fs) struct Moves {
    /// By their numbers in the journal.
    pub(super) under_way: HashMap<u64, Move>,
    /// What is known of those that this mount has begun and nobody is at.
    runs: HashMap<u64, Run>,
    /// The keys of those who are at work, each with a slash behind it.
    at_work: HashMap<u64, String>,
    /// The same of files that are getting another name, or are being replaced.
    leaving: HashMap<u64, String>,
    next: u64,
}

/// What keeps somebody from working somewhere.
enum Obstacle {
    /// Somebody is at it.
    Busy,
    /// A move is not done, and nobody is at it.
    Left(u64),
}

impl Moves {
    /// One was found in the journal.
    pub(in crate::fs) fn found(&mut self, id: u64, moved: Move) {
        self.under_way.insert(id, moved.found(id));
    }

    /// How many are not done.
    pub(in crate::fs) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Those that are not done.
    pub(in crate::fs) fn all(&self) -> impl Iterator<Item = &Move> {
        self.under_way.values()
    }

    /// Keeps what is known of a move for who goes on with it.
    pub(super) fn leave(&mut self, id: u64, mut run: Run) {
        if self.under_way.get(&id).is_some_and(|moved| moved.is_noted) {
            run.forget_inodes();
            self.runs.insert(id, run);
        }
    }

    /// What is known of a move, for who goes on with it.
    pub(super) fn run_of(&mut self, id: u64) -> Option<Run> {
        self.runs.remove(&id)
    }

    fn obstacle(&self, key: &str) -> Option<Obstacle> {
        if self.leaving.values().any(|leaving| leaving == key) {
            return Some(Obstacle::Busy);
        }
        let moved = self.all().find(|moved| key.starts_with(&moved.from))?;
        Some(match moved.is_busy || self.is_worked_in(&moved.from) {
            true => Obstacle::Busy,
            false => Obstacle::Left(moved.id),
        })
    }

    fn is_worked_in(&self, prefix: &str) -> bool {
        let mut keys = self.at_work.values();
        keys.any(|key| key.starts_with(prefix))
    }

    fn is_worked_at(&self, key: &str) -> bool {
        let mut keys = self.at_work.values().chain(self.leaving.values());
        keys.any(|at_work| at_work == key)
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Somebody is at work in a directory: it is not renamed meanwhile.
#[must_use]
pub(in crate::fs) struct InPlace<'a> {
    fs: &'a FileSystem,
    /// `None` for what has no name any more.
    id: Option<u64>,
    /// Something has moved in between.
    pub(in crate::fs) has_waited: bool,
}

/// A file is getting another name: nobody begins to change it meanwhile.
#[must_use]
pub(in crate::fs) struct Leaving<'a> {
    fs: &'a FileSystem,
    ids: Vec<u64>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        {
            let leaving = &mut self.fs.moves.lock().leaving;
            for id in &self.ids {
                leaving.remove(id);
            }
        }
        self.fs.place_is_free();
    }
}

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.fs.moves.lock().at_work.remove(&id);
            self.fs.place_is_free();
        }
    }
}

/// Nobody else works on a move meanwhile.
pub(in crate::fs) struct Busy {
    fs: Arc<FileSystem>,
    id: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        {
            let under_way = &mut self.fs.moves.lock().under_way;
            match under_way.get_mut(&self.id) {
                Some(left) if left.is_noted => left.is_busy = false,
                // It has not begun, or it is done.
                _ => drop(under_way.remove(&self.id)),
            }
        }
        self.fs.place_is_free();
        self.fs.stored_something.send_modify(|count| *count += 1);
    }
}

impl FileSystem {
    /// Whoever is going to work at an inode, or in it, waits here while it is in a directory that
    /// is being renamed. The directory stays what it is until what is returned is dropped.
    ///
    /// Errors: why a move that was left half done there cannot be finished.
    pub(in crate::fs) async fn keeps_its_place(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
    ) -> Result<InPlace<'_>, FsError> {
        let mut changes = self.places.subscribe();
        let mut has_waited = false;
        loop {
            changes.borrow_and_update();
            let obstacle = {
                let mut moves = self.moves.lock();
                // A move is over only after the names have changed.
                let key = self.place_of(number);
                match key.as_ref().and_then(|key| moves.obstacle(key)) {
                    None => {
                        let id = key.map(|key| {
                            let id = moves.id();
                            moves.at_work.insert(id, key);
                            id
                        });
                        return Ok(InPlace {
                            fs: self,
                            id,
                            has_waited,
                        });
                    }
                    Some(obstacle) => obstacle,
                }
            };
            has_waited = true;
            match obstacle {
                // The sender lives in this filesystem.
                Obstacle::Busy => drop(changes.changed().await),
                Obstacle::Left(id) => self.go_on_with(asker, id).await?,
            }
        }
    }

    /// Whoever asks for a directory that was renamed does not find what is left of it: that is
    /// deleted first.
    pub(in crate::fs) async fn has_moved(
        self: &Arc<Self>,
        asker: &Asker,
        key: &str,
    ) -> Result<(), FsError> {
        let mut changes = self.places.subscribe();
        loop {
            changes.borrow_and_update();
            let left = {
                let moves = self.moves.lock();
                let is_it = |moved: &&Move| {
                    let from = moved.from.strip_suffix('/');
                    moved.stage == Stage::Deleting && from == Some(key)
                };
                let left = moves.all().find(is_it);
                left.map(|moved| (moved.id, moved.is_busy || moves.is_worked_in(&moved.from)))
            };
            match left {
                None => return Ok(()),
                Some((id, false)) => self.go_on_with(asker, id).await?,
                Some((_, true)) => drop(changes.changed().await),
            }
        }
    }

    /// Files are about to get other names, or to be replaced: waits for those who begin to change
    /// them, and has others wait until what is returned is dropped.
    pub(in crate::fs) async fn leaves(
        &self,
        numbers: impl IntoIterator<Item = u64>,
    ) -> Leaving<'_> {
        let numbers: Vec<u64> = numbers.into_iter().collect();
        let mut changes = self.places.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let mut moves = self.moves.lock();
                let keys = numbers.iter().filter_map(|number| self.place_of(*number));
                let keys: Vec<String> = keys.collect();
                // All of them or none: two who want the same do not wait for each other.
                if !keys.iter().any(|key| moves.is_worked_at(key)) {
                    let mut leave = |key| {
                        let id = moves.id();
                        moves.leaving.insert(id, key);
                        id
                    };
                    let ids = keys.into_iter().map(&mut leave).collect();
                    return Leaving { fs: self, ids };
                }
            }
            let _ = changes.changed().await;
        }
    }

    /// The key of an inode with a slash behind it, if it has a name.
    fn place_of(&self, number: u64) -> Option<String> {
        let mut key = self.key(number).ok()?;
        key.push('/');
        Some(key)
    }

    fn place_is_free(&self) {
        self.places.send_modify(|count| *count += 1);
    }

    /// Begins a move, once those that it would meet are done with.
    pub(super) async fn set_out(
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
        let mut changes = self.places.subscribe();
        loop {
            changes.borrow_and_update();
            let other = {
                let mut moves = self.moves.lock();
                let meets = |other: &&Move| other.touches(&moved.from) || other.touches(&moved.to);
                let other = moves.all().find(meets);
                match other.map(|other| (other.id, other.is_busy)) {
                    Some(other) => Some(other),
                    None if moves.is_worked_in(&moved.from) || moves.is_worked_in(&moved.to) => {
                        None
                    }
                    None => {
                        moves.under_way.insert(moved.id, moved.clone());
                        let busy = Busy {
                            fs: Arc::clone(self),
                            id: moved.id,
                        };
                        return Ok((moved, busy));
                    }
                }
            };
            match other {
                Some((id, false)) => self.go_on_with(asker, id).await?,
                _ => {
                    let _ = changes.changed().await;
                }
            }
        }
    }

    /// Takes a move on, unless somebody is at it, or in it, or it is done.
    pub(super) fn take_on(self: &Arc<Self>, id: u64) -> Option<(Move, Busy)> {
        let mut moves = self.moves.lock();
        let moved = moves.under_way.get(&id)?;
        if moved.is_busy || moves.is_worked_in(&moved.from) {
            return None;
        }
        let moved = moves.under_way.get_mut(&id)?;
        moved.is_busy = true;
        let fs = Arc::clone(self);
        Some((moved.clone(), Busy { fs, id }))
    }
}
