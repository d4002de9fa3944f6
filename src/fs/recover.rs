//! What the journal holds: at the next mount it is taken up, and stored as it was promised.
//!
//! What was closed or synced gets its name, under the same conditions as ever. What was torn by
//! a crash is stored beside it, so that it never replaces anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::aside::Aside;
use super::draft::{Acknowledged, Draft, Record, State, nobody};
use super::extents::From as Origin;
use super::file::Remote;
use super::giving_up::GivenUp;
use super::inodes::{Kind, ROOT};
use super::moving::Move;
use super::over::{SINCE, has_beside, own_length};
use super::remove::Hidden;
use super::snapshot::Snapshot;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::spool::Found;
use crate::store::Object;

/// How often it is looked whether there is a session still, while the mount is taken down.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long the end of a mount waits for uploads to be thrown away: the next mount does it too.
const ABORTING: Duration = Duration::from_secs(5);

/// One entry of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum Kept {
    /// A file that is being changed, or waits to be stored.
    File(Box<Record>),
    /// An object that is to be deleted.
    Delete(Hidden),
    /// A directory that is being renamed.
    Move(Move),
    /// An upload that nobody wants any more.
    GivenUp(GivenUp),
}

/// How much was found, for the log and for `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Files that are stored under their names.
    pub(crate) closed: usize,
    /// Files that are stored beside them.
    pub(crate) torn: usize,
    /// Objects that are deleted.
    pub(crate) deletions: usize,
    /// Directories that are renamed, or not after all.
    pub(crate) moves: usize,
}

impl FileSystem {
    /// Takes up what earlier runs have left. Nothing is sent yet: see [`Self::go_on`].
    pub(crate) fn take_up(self: &Arc<Self>, entries: Vec<Found>) -> Recovered {
        let mut recovered = Recovered::default();
        let mut removed = Vec::new();
        for entry in entries {
            let id = entry.id;
            match serde_json::from_str::<Kept>(&entry.record) {
                Ok(Kept::Delete(hidden)) => {
                    let hidden = Hidden { id, ..hidden };
                    removed.extend(hidden.change.clone());
                    self.hidden.lock().insert(hidden.key.clone(), hidden);
                    recovered.deletions += 1;
                }
                Ok(Kept::Move(moved)) => {
                    tracing::info!("{}: found in the journal", moved.in_words());
                    self.moves.lock().found(id, moved);
                    recovered.moves += 1;
                }
                Ok(Kept::GivenUp(given_up)) => self.found_given_up(id, given_up),
                Ok(Kept::File(record)) => self.take_up_file(entry, *record, &mut recovered),
                Err(error) => tracing::error!(
                    "an entry of the journal in {} cannot be read ({error}); it stays there",
                    self.spooled_in()
                ),
            }
        }
        self.drop_removed(&removed, &mut recovered);
        recovered
    }

    /// What was removed before it was stored is not stored.
    fn drop_removed(self: &Arc<Self>, removed: &[String], recovered: &mut Recovered) {
        let found: Vec<Arc<Draft>> = self.drafts.lock().values().cloned().collect();
        for draft in found {
            if removed.contains(&draft.state().nonce) {
                self.retire(&draft);
                self.throw_out(draft.id);
                if let Some(upload) = draft.state().upload.take() {
                    self.throw_away(&upload);
                }
                recovered.closed -= 1;
            }
        }
        self.torn.lock().retain(|draft| {
            let stays = !removed.contains(&draft.state().nonce);
            if !stays {
                self.throw_out(draft.id);
                recovered.torn -= 1;
            }
            stays
        });
    }

    fn take_up_file(self: &Arc<Self>, entry: Found, record: Record, recovered: &mut Recovered) {
        let Some(record) = self.take_up_since(&entry, record, recovered) else {
            return;
        };
        let mut state = State::from_record(record);
        if let Some(upload) = &mut state.upload {
            let parts = entry.parts.iter().filter_map(|(number, part)| {
                let part: Acknowledged = serde_json::from_str(part).ok()?;
                Some((i32::try_from(*number).ok()?, part))
            });
            upload.parts = parts.filter(|(_, part)| part.upload == upload.id).collect();
        }
        let Some(file) = entry.file else {
            if state.content.local_bytes() > 0 {
                tracing::error!(
                    "{}: what was written is gone from {}",
                    state.key,
                    self.spooled_in()
                );
            }
            self.throw_out(entry.id);
            return;
        };
        if state.closed && file.len().is_ok_and(|length| length < end_of_local(&state)) {
            // Somebody has cut it, or a disk has lost its end.
            tracing::error!("{}: the end of what was written is gone", state.key);
            state.closed = false;
        }
        if !state.closed {
            // Of bytes that were appended one after the other, the journal knows the first.
            let end = state.content.size();
            let length = file.len().ok().and_then(own_length).unwrap_or(end);
            if length > end && (end == 0 || state.content.covers_local(end - 1..end)) {
                state.content.put(end..length, Origin::Local);
            }
        }
        if !state.closed && (!state.dirty || state.content.size() == 0) {
            if let Some(upload) = state.upload.take() {
                self.throw_away(&upload);
            }
            self.throw_out(entry.id);
            return;
        }
        let closed = state.closed;
        let mut number = self.number_for(&state, entry.id, closed);
        if closed && let Some(other) = self.draft(number) {
            let (nonce, version) = {
                let other = other.state();
                (other.nonce.clone(), other.version)
            };
            if nonce != state.nonce {
                // Of another mount of this bucket. Both are stored: one of them beside the other.
                number = nobody(entry.id);
            } else if version > state.version {
                self.throw_out(entry.id);
                return;
            } else {
                // An earlier state of the same file, which nobody needs any more.
                self.drafts.lock().remove(&number);
                self.throw_out(other.id);
                recovered.closed -= 1;
            }
        }
        let draft = Arc::new(Draft::new(number, entry.id, Arc::new(file), state));
        if closed {
            tracing::info!("{}: found in the journal, to be stored", draft.state().key);
            let mut drafts = self.drafts.lock();
            drafts.insert(number, draft);
            self.inodes.lock().set_drafted(number, true);
            recovered.closed += 1;
        } else {
            self.torn.lock().push(draft);
            recovered.torn += 1;
        }
    }

    /// A file may have been written to while it was being stored: what was closed before is to be
    /// stored, and the rest is a file of its own. Returns the record of the first, or of both if
    /// nothing was closed; `None` if there is no room for two, so that both wait.
    fn take_up_since(
        &self,
        entry: &Found,
        record: Record,
        recovered: &mut Recovered,
    ) -> Option<Record> {
        let since = entry.parts.get(&SINCE);
        let since = since.and_then(|part| serde_json::from_str::<Record>(part).ok());
        let Some(since) = since.filter(|since| since.version > record.version) else {
            return Some(record);
        };
        let (true, Some(file)) = (record.closed, &entry.file) else {
            return Some(since);
        };
        let key = record.key.clone();
        match self.part_from(file, since) {
            Ok((id, file, since)) => {
                let state = State::from_record(since);
                let draft = Draft::new(nobody(id), id, Arc::new(file), state);
                self.torn.lock().push(Arc::new(draft));
                recovered.torn += 1;
                let told = || {
                    let (spool, size) = (self.spool()?, record.content.size());
                    spool.put_part(entry.id, SINCE, &())?;
                    spool.sync(None)?;
                    if let Some(file) = entry.file.as_ref().filter(|_| !has_beside(&record.content))
                    {
                        // What lies behind its own bytes is of the other.
                        if file.len()? > size {
                            file.set_len(size)?;
                        }
                    }
                    Ok::<_, FsError>(())
                };
                if let Err(error) = told() {
                    tracing::warn!("{key}: {error}");
                }
            }
            Err(error) => {
                tracing::error!(
                    "{key}: it was written to while it was being stored, and both versions stay in \
                     {} until the next mount ({error})",
                    file.path().display()
                );
                return None;
            }
        }
        Some(record)
    }

    /// The inode of a draft from the journal: that of its key, if it is in this mount.
    fn number_for(&self, state: &State, id: u64, closed: bool) -> u64 {
        let nobody = nobody(id);
        let Some(path) = state.key.strip_prefix(&self.prefix) else {
            return nobody;
        };
        if !closed || state.aside {
            return nobody;
        }
        let mut inodes = self.inodes.lock();
        let mut parent = ROOT;
        let mut components = path.split('/').peekable();
        let now = std::time::Instant::now();
        while let Some(name) = components.next() {
            if !super::names::is_name(name) {
                return nobody;
            }
            let kind = match components.peek() {
                Some(_) => Kind::Directory(None),
                None => Kind::of(state.base.clone().unwrap_or_else(Object::nothing)),
            };
            let is_last = components.peek().is_none();
            let inode = inodes.look_up(parent, name, kind, now);
            if is_last {
                inodes.set_drafted(inode.number, true);
                inodes.forget(inode.number, 1);
            }
            parent = inode.number;
        }
        parent
    }

    /// Tries to store what waits. `all` tries also what was refused for good, as is worth
    /// doing with a new session.
    pub(crate) fn go_on(self: &Arc<Self>, all: bool) {
        if self.bucket.lease().is_none() || self.look.read_only {
            return;
        }
        for draft in self.pending() {
            let ready = {
                let state = draft.state();
                let may = state.may_pass || state.failed.is_none() && !state.is_settling;
                state.flight.is_none() && (all || may)
            };
            if ready {
                self.publish_later(&draft);
            }
        }
        for hidden in self.to_be_deleted() {
            let fs = Arc::clone(self);
            tokio::spawn(async move { fs.remove_hidden(hidden).await });
        }
        self.go_on_with_moves();
        self.go_on_giving_up();
        if !self.torn.lock().is_empty() {
            let fs = Arc::clone(self);
            tokio::spawn(async move { fs.store_torn().await });
        }
    }

    fn to_be_deleted(&self) -> Vec<Hidden> {
        let hidden = self.hidden.lock();
        let files = self.files.lock();
        let is_read = |hidden: &&Hidden| !files.any(|file| file.number == hidden.number);
        hidden.values().filter(is_read).cloned().collect()
    }

    async fn store_torn(self: &Arc<Self>) {
        if self.storing_torn.swap(true, Ordering::Relaxed) {
            return;
        }
        let torn = self.torn.lock().clone();
        for draft in torn {
            if let Err(error) = self.bring_down(&draft).await {
                tracing::warn!("{}: {error}", draft.state().key);
                continue;
            }
            let snapshot = Snapshot::of(&draft.state());
            let nobody = Asker::nobody();
            let recovered = Aside::Recovered;
            match self.set_aside(&nobody, &draft, &snapshot, recovered).await {
                Ok(()) => self.torn.lock().retain(|other| !Arc::ptr_eq(other, &draft)),
                Err(error) => {
                    tracing::warn!("{}: {error}", snapshot.key);
                    draft.state().failed = Some(error.to_string());
                }
            }
        }
        self.storing_torn.store(false, Ordering::Relaxed);
        self.stored_something.send_modify(|count| *count += 1);
    }

    /// Stores what waits, as far as that goes without asking anybody. Returns how many files
    /// still wait.
    pub(crate) async fn finish(self: &Arc<Self>) -> usize {
        let mut attempts = self.stored_something.subscribe();
        let begun = std::time::Instant::now();
        self.go_on(true);
        // What was begun just now may not show at the first look.
        let mut has_looked = false;
        loop {
            attempts.borrow_and_update();
            let waiting = self.waiting() + self.hidden.lock().len();
            let is_busy = self.storing_torn.load(Ordering::Relaxed)
                || self.moves.lock().all().any(Move::is_busy)
                || self.hidden.lock().values().any(|hidden| hidden.is_going)
                || self
                    .pending()
                    .iter()
                    .any(|draft| draft.state().flight.is_some());
            let is_idle = !is_busy && std::mem::replace(&mut has_looked, true);
            let is_done = waiting == 0 && !(self.is_giving_up() && begun.elapsed() < ABORTING);
            if is_done || is_idle && waiting > 0 || self.bucket.lease().is_none() {
                self.forget_given_up();
                return waiting;
            }
            // A session may end meanwhile, of which nobody tells here.
            let _ = tokio::time::timeout(LOOK_AGAIN, attempts.changed()).await;
        }
    }

    /// What waits to be stored: keys, sizes in bytes, and why it waits if it failed before.
    pub(crate) fn waiting_files(&self) -> Vec<(String, u64, Option<String>)> {
        let torn = self.torn.lock().clone();
        let drafts = self.pending().into_iter().chain(torn);
        let files = drafts.map(|draft| {
            let state = draft.state();
            (state.key.clone(), state.left(), state.failed.clone())
        });
        let moves = self.moves.lock();
        let directories = moves.all().map(|moved| {
            let trouble = (!moved.is_busy()).then(|| moved.in_words());
            (moved.to().to_owned(), 0, trouble)
        });
        files.chain(directories).collect()
    }
}

/// Where the last bytes in the spool file of a draft end.
fn end_of_local(state: &State) -> u64 {
    let pieces = state.content.pieces(0..state.size()).into_iter();
    let local = pieces.filter(|piece| piece.from == Some(Origin::Local));
    local.map(|piece| piece.range.end).max().unwrap_or(0)
}

impl State {
    /// As the journal has it.
    pub(super) fn from_record(record: Record) -> Self {
        let remote =
            |source: super::draft::SourceRecord| Arc::new(Remote::apart(source.key, source.object));
        let mut state = Self::new_file(record.key, record.posix);
        state.content = record.content;
        state.delta = record.delta;
        state.sources = record.sources.into_iter().map(remote).collect();
        state.base = record.base;
        state.lost = record.lost;
        state.kept = record.kept.map(Arc::new);
        state.version = record.version;
        // Whatever the counter was, this is not stored.
        state.stored = record.version.wrapping_sub(1);
        state.dirty = record.dirty;
        state.closed = record.closed;
        state.aside = record.aside;
        state.nonce = record.nonce;
        state.upload = record.upload;
        // Nobody knows what became of the last request.
        state.asked = record.closed;
        state
    }
}

impl FileSystem {
    /// An entry of the journal is done with.
    pub(super) fn throw_out(&self, id: u64) {
        if let Some(spool) = &self.spool
            && let Err(error) = spool.discard(id)
        {
            tracing::warn!("the journal: {error}");
        }
    }

    /// Where unsaved writes are, for people.
    pub(crate) fn spooled_in(&self) -> String {
        let directory = self.spool.as_ref().map(|spool| spool.directory().display());
        directory
            .map(|directory| directory.to_string())
            .unwrap_or_default()
    }

    /// How many files wait to be stored, and directories to be renamed completely.
    pub(crate) fn waiting(&self) -> usize {
        let torn = self.torn.lock().len();
        let moves = self.moves.lock().count();
        self.pending().len() + torn + moves
    }
}

impl From<crate::spool::SpoolError> for FsError {
    fn from(error: crate::spool::SpoolError) -> Self {
        match error {
            crate::spool::SpoolError::Full(text) => Self::NoSpace(text),
            error => Self::Spool(error.to_string()),
        }
    }
}
