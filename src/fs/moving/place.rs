//! Who works in which directory, and which directories are being renamed: each waits for the
//! other, so that nothing is stored under a name that has just become an old one.
//!
//! What makes, changes or removes something [keeps its place](FileSystem::keeps_its_place) until
//! that is done. A move [sets out](FileSystem::set_out) once nobody is at work below either of
//! its names, and from then on nobody begins to be.
//!
//! Nobody waits in a circle: a move that has set out waits for nobody here, and one that has not
//! is waited for by nobody. Two that keep the places which the other one wants to move cannot be:
//! the kernel renames one directory at a time to another parent (`s_vfs_rename_mutex`, see
//! Documentation/filesystems/directory-locking.rst of Linux).

use std::collections::HashMap;
use std::sync::Arc;

use super::{Move, Stage};
use crate::auth::Asker;
use crate::fs::draft::nonce;
use crate::fs::{FileSystem, FsError};

/// Directories that are being renamed, and who works in them.
#[derive(Debug, Default)]
pub(in crate::fs) struct Moves {
    /// By their numbers in the journal.
    pub(super) under_way: HashMap<u64, Move>,
    /// The keys of those who are at work, each with a slash behind it.
    at_work: HashMap<u64, String>,
    next: u64,
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

    fn is_moving(&self, key: &str) -> bool {
        let mut busy = self.all().filter(|moved| moved.is_busy);
        busy.any(|moved| key.starts_with(&moved.from))
    }

    fn is_worked_at(&self, moved: &Move) -> bool {
        let mut keys = self.at_work.values();
        keys.any(|key| key.starts_with(&moved.from) || key.starts_with(&moved.to))
    }
}

/// Somebody is at work in a directory: it is not renamed meanwhile.
#[must_use]
pub(in crate::fs) struct InPlace<'a> {
    fs: &'a FileSystem,
    /// `None` for what has no name any more.
    id: Option<u64>,
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
    pub(in crate::fs) async fn keeps_its_place(&self, number: u64) -> InPlace<'_> {
        let mut changes = self.places.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let mut moves = self.moves.lock();
                // While this is locked no directory gets another name.
                let Ok(mut key) = self.key(number) else {
                    return InPlace { fs: self, id: None };
                };
                key.push('/');
                if !moves.is_moving(&key) {
                    let id = moves.next;
                    moves.next += 1;
                    moves.at_work.insert(id, key);
                    return InPlace {
                        fs: self,
                        id: Some(id),
                    };
                }
            }
            // The sender lives in this filesystem.
            let _ = changes.changed().await;
        }
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
                    None if moves.is_worked_at(&moved) => None,
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

    /// Takes a move on, unless somebody is at it or it is done.
    pub(super) fn take_on(self: &Arc<Self>, id: u64) -> Option<(Move, Busy)> {
        let mut moves = self.moves.lock();
        let moved = moves.under_way.get_mut(&id)?;
        if moved.is_busy {
            return None;
        }
        moved.is_busy = true;
        let fs = Arc::clone(self);
        Some((moved.clone(), Busy { fs, id }))
    }
}
