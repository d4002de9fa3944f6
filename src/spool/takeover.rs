//! Brings the entries of several homes into one.
//!
//! Entries move together, from one home to another, in these steps; the disk has each before
//! the next one starts:
//!
//! 1. their new home's journal gets their new ids, each with where it comes from;
//! 2. it gets their records and parts;
//! 3. their data files are renamed;
//! 4. they are removed from their old home's journal.
//!
//! Whoever dies in between leaves entries that are in both homes, and the new one names the old
//! one. The next opening finishes the move under the same ids before it does anything else:
//! each step can be done twice. Nobody is handed an entry whose move is not finished.
//!
//! All homes of an owner that are not in use are entered together, so that whoever finds one end
//! of a move finds the other too.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::SpoolError;
use super::home::{Home, Lock, data_path};
use super::journal::RecordId;
use super::{ORIGIN, sync_directory};

/// Where an entry came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    home: String,
    entry: u64,
}

/// What moves: ids in the old home, and what they become in the new one.
type Moves = BTreeMap<u64, u64>;

/// Moves all entries into the first of the homes, and removes those that are empty then.
///
/// Returns the first, and the locks of homes for whose entries there was no room in it: these
/// wait for the next opening.
pub(super) fn unite(homes: Vec<Home>, root: &Path) -> Result<(Home, Vec<Lock>), SpoolError> {
    let mut homes = homes;
    finish(&mut homes)?;
    for home in &mut homes {
        home.tidy()?;
    }
    let mut rest = homes.into_iter();
    let Some(mut first) = rest.next() else {
        return Err(SpoolError::io("find a spool in", root)(
            io::ErrorKind::NotFound.into(),
        ));
    };
    let mut locks = Vec::new();
    let mut removed = false;
    for mut home in rest {
        if let Err(error) = empty(&mut home, &mut first)? {
            tracing::warn!(
                "unsaved writes in {} stay there until the next mount: {error}",
                home.directory.display()
            );
            locks.push(home.lock);
            continue;
        }
        let directory = home.directory.clone();
        match home.remove() {
            Ok(()) => removed = true,
            Err(error) => tracing::warn!("{} is not removed: {error}", directory.display()),
        }
    }
    if removed {
        sync_directory(root)?;
    }
    Ok((first, locks))
}

/// Finishes moves that somebody started, whatever home they go to.
fn finish(homes: &mut [Home]) -> Result<(), SpoolError> {
    let mut moves: BTreeMap<(usize, usize), Moves> = BTreeMap::new();
    for (to, home) in homes.iter().enumerate() {
        for (new, parts) in &home.entries {
            let origin = parts.get(&ORIGIN).map(|json| serde_json::from_str(json));
            let Some(Ok(Origin { home: name, entry })) = origin else {
                continue;
            };
            let from = homes.iter().position(|other| other.name() == name);
            if let Some(from) = from
                && from != to
                && homes[from].entries.contains_key(&entry)
            {
                moves.entry((from, to)).or_default().insert(entry, *new);
            }
        }
    }
    for ((from, to), moves) in moves {
        announce(&homes[from], &homes[to], &moves)?;
        settle(&homes[from], &homes[to], &moves)?;
        for (old, new) in moves {
            if let Some(parts) = homes[from].entries.remove(&old) {
                homes[to].entries.insert(new, parts);
            }
        }
    }
    Ok(())
}

/// Moves all entries of one home into another; the inner error tells why none was moved.
fn empty(from: &mut Home, to: &mut Home) -> Result<Result<(), SpoolError>, SpoolError> {
    let mut moves = Moves::new();
    for old in from.entries.keys() {
        to.highest += 1;
        moves.insert(*old, to.highest);
    }
    if let Err(error) = announce(from, to, &moves) {
        // They stay where they are, whole.
        for new in moves.values() {
            to.journal.remove_entry(*new)?;
        }
        return Ok(Err(error));
    }
    settle(from, to, &moves)?;
    for (old, parts) in std::mem::take(&mut from.entries) {
        if let Some(new) = moves.get(&old) {
            to.entries.insert(*new, parts);
        }
    }
    Ok(Ok(()))
}

/// Steps 1 and 2.
fn announce(from: &Home, to: &Home, moves: &Moves) -> Result<(), SpoolError> {
    if moves.is_empty() {
        return Ok(());
    }
    for (old, new) in moves {
        let origin = Origin {
            home: from.name(),
            entry: *old,
        };
        let id = RecordId {
            entry: *new,
            part: ORIGIN,
        };
        to.journal.put(id, &origin)?;
    }
    // Before the rest: without its origin a half moved entry would be taken for a whole one.
    to.journal.sync()?;
    for (old, new) in moves {
        let parts = from.entries.get(old).into_iter().flatten();
        for (part, json) in parts.filter(|(part, _)| **part != ORIGIN) {
            let raw: &RawValue = serde_json::from_str(json)
                .map_err(|error| SpoolError::Record(error.to_string()))?;
            let id = RecordId {
                entry: *new,
                part: *part,
            };
            to.journal.put(id, raw)?;
        }
    }
    to.journal.sync()
}

/// Steps 3 and 4.
fn settle(from: &Home, to: &Home, moves: &Moves) -> Result<(), SpoolError> {
    if moves.is_empty() {
        return Ok(());
    }
    for (old, new) in moves {
        let path = data_path(&from.directory, *old);
        match std::fs::rename(&path, data_path(&to.directory, *new)) {
            // It has none, or it was renamed before somebody died.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome.map_err(SpoolError::io("rename", &path))?,
        }
    }
    sync_directory(&to.directory)?;
    sync_directory(&from.directory)?;
    for old in moves.keys() {
        from.journal.remove_entry(*old)?;
    }
    from.journal.sync()
}

#[cfg(test)]
#[path = "takeover_tests.rs"]
mod tests;
