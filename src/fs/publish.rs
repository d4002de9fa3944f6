//! Storing drafts: the conditions, what to do when S3 says no, and what is true afterwards.
//!
//! A draft is stored by one flight at a time, in a task of its own: whoever waits may be
//! stopped, and it goes on. A flight that fails leaves the draft in the spool and the journal;
//! it is tried again when a session opens, when some time has passed, and at the next mount.
//!
//! Nothing is replaced that this mount does not know. When S3 says that something else stands
//! under the name, it is either this draft, stored by a request whose answer was lost (it
//! carries the draft's mark), or somebody else's: then the draft is stored beside it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::aside::Aside;
use super::draft::{Draft, Fate, State, blocking};
use super::extents::{Extents, From as Origin, Piece};
use super::file::Remote;
use super::inodes::Kind;
use super::upload::may_pass;
use super::{Caller, FileSystem, FsError};
use crate::auth::Asker;
use crate::store::metadata::Metadata;
use crate::store::write::{Condition, Header};
use crate::store::{Facts, Object, StoreError};

/// How long storing goes on trying while S3 is busy or out of reach and somebody waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often bytes are synced that go on changing meanwhile, before they are taken as they are.
const SYNCED: u32 = 3;

/// The longest pause between two attempts; each is twice as long as the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is stored: a draft as it was at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) key: String,
    pub(super) content: Extents,
    pub(super) delta: Extents,
    pub(super) sources: Vec<Arc<Remote>>,
    pub(super) base: Option<Object>,
    pub(super) posix: Metadata,
    pub(super) kept: Option<Arc<Facts>>,
    pub(super) content_type: String,
    pub(super) version: u64,
    pub(super) dirty: bool,
    pub(super) nonce: String,
}

impl Snapshot {
    pub(super) fn of(state: &State) -> Self {
        Self {
            key: state.key.clone(),
            content: state.content.clone(),
            delta: state.delta.clone(),
            sources: state.sources.clone(),
            base: state.base.clone(),
            posix: state.posix.clone(),
            kept: state.kept.clone(),
            content_type: state.content_type(),
            version: state.version,
            dirty: state.dirty,
            nonce: state.nonce.clone(),
        }
    }

    /// The mark of this upload.
    pub(super) fn mark(&self) -> String {
        format!("{}-{}", self.nonce, self.version)
    }

    /// What the object carries.
    pub(super) fn header(&self) -> Header {
        let mut posix = self.posix.clone();
        posix.nonce = Some(self.mark());
        Header {
            content_type: self.content_type.clone(),
            metadata: posix.write().into_iter().collect(),
            kept: self.kept.clone(),
        }
    }

    /// What must stand under the name for this to replace it.
    pub(super) fn condition(&self) -> Condition {
        match &self.base {
            Some(base) => Condition::Is(base.etag.clone()),
            None => Condition::Absent,
        }
    }

    /// What stands there once it is stored.
    pub(super) fn object(&self, etag: String) -> Object {
        let mut facts = self.kept.as_deref().cloned().unwrap_or_default();
        facts.posix = self.posix.clone();
        facts.posix.nonce = Some(self.mark());
        facts.content_type = Some(self.content_type.clone());
        facts.version_id = None;
        facts.complete = true;
        Object {
            size: self.content.size(),
            modified: SystemTime::now(),
            etag,
            facts: Some(facts.into()),
        }
    }
}

/// What stands under a name, compared with what a draft has sent there.
enum Found {
    /// This very upload.
    Ours(Object),
    /// An earlier upload of this draft.
    Earlier(Object),
    /// Somebody else's, or nothing any more.
    Foreign,
}

impl FileSystem {
    /// Stores a draft and waits for it.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
    ) -> Result<(), FsError> {
        self.publish_if(State::is_pending, asker, draft).await
    }

    async fn publish_if(
        self: &Arc<Self>,
        is_wanted: fn(&State) -> bool,
        asker: &Asker,
        draft: &Arc<Draft>,
    ) -> Result<(), FsError> {
        loop {
            let (mut flight, mine) = {
                let mut state = draft.state();
                match &state.flight {
                    Some(flight) => (flight.clone(), false),
                    None if !is_wanted(&state) => return Ok(()),
                    None => (self.take_off_with(asker, draft, &mut state), true),
                }
            };
            let outcome = flight.wait_for(Option::is_some).await;
            let outcome = outcome.map(|outcome| (*outcome).clone());
            match outcome {
                // Somebody else's flight, who could not have a person asked.
                Ok(Some(Err(FsError::Store(StoreError::Session(_))))) if !mine => {}
                Ok(Some(outcome)) => return outcome,
                // It was held, and may be stored now.
                _ if !mine => {}
                _ => return Err(FsError::Spool("storing was given up".to_owned())),
            }
        }
    }

    /// Stores a draft with nobody waiting, unless somebody has begun to write to it again: it
    /// is stored when that is closed.
    pub(crate) fn publish_later(self: &Arc<Self>, draft: &Arc<Draft>) {
        let (fs, draft) = (Arc::clone(self), Arc::clone(draft));
        tokio::spawn(async move {
            let nobody = Asker::nobody();
            let _ = fs.publish_if(State::is_waiting, &nobody, &draft).await;
        });
    }

    fn take_off_with(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        state: &mut State,
    ) -> watch::Receiver<super::draft::Outcome> {
        let (land, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        let (fs, draft, asker) = (Arc::clone(self), Arc::clone(draft), *asker);
        tokio::spawn(async move {
            let outcome = fs.store(&asker, &draft).await;
            let failed = {
                let mut state = draft.state();
                state.flight = None;
                state.failed = outcome.as_ref().err().map(ToString::to_string);
                state.may_pass = outcome.as_ref().is_err_and(may_pass);
                state.failed.clone()
            };
            if let Some(failed) = failed {
                tracing::warn!("{}: {failed}", draft.state().key);
            }
            land.send_replace(Some(outcome));
            fs.stored_something.send_modify(|count| *count += 1);
        });
        flight
    }

    /// Stores a draft as it is, and makes that known.
    async fn store(self: &Arc<Self>, asker: &Asker, draft: &Arc<Draft>) -> Result<(), FsError> {
        self.promise(draft).await?;
        let snapshot = {
            let state = draft.state();
            if state.fate == Fate::Unlinked {
                return Ok(());
            }
            Snapshot::of(&state)
        };
        let outcome = match self.store_as(asker, draft, &snapshot).await {
            Err(FsError::Store(StoreError::Changed)) if !snapshot.dirty => {
                // Only attributes: they are of something that is gone. If somebody writes to it
                // still, what comes of that is a conflict.
                draft.state().stored = snapshot.version;
                if self.retire_unused(draft) {
                    self.throw_out(draft.id);
                }
                self.show_the_other(draft.number);
                return Err(StoreError::Changed.into());
            }
            Err(FsError::Store(StoreError::Changed)) => {
                let aside = Aside::Conflict;
                match self.set_aside(asker, draft, &snapshot, aside).await {
                    Ok(()) => return Err(StoreError::Changed.into()),
                    Err(error) => Err(error),
                }
            }
            outcome => outcome,
        };
        match outcome {
            Ok(etag) => self.is_stored(draft, &snapshot, etag),
            Err(error) => {
                self.keep(draft).await?;
                Err(error)
            }
        }
    }

    /// What is in a draft now is what gets stored, also by the next mount.
    async fn promise(&self, draft: &Arc<Draft>) -> Result<(), FsError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (version, dirty) = {
                let state = draft.state();
                (state.version, state.dirty)
            };
            // The disk may keep the journal and lose the bytes; then what was there before a
            // power cut must not be replaced.
            if dirty {
                let draft = Arc::clone(draft);
                blocking(move || draft.file.sync()).await??;
            }
            let mut state = draft.state();
            if state.fate == Fate::Unlinked {
                return Ok(());
            }
            if state.version == version || attempt == SYNCED {
                state.closed = true;
                self.journal(draft, &mut state)?;
                if let Some(before) = state.before.take() {
                    self.throw_out(before);
                }
                return Ok(());
            }
        }
    }

    /// Makes sure that a draft outlives the machine.
    pub(super) async fn keep(self: &Arc<Self>, draft: &Arc<Draft>) -> Result<(), FsError> {
        let (fs, draft) = (Arc::clone(self), Arc::clone(draft));
        blocking(move || Ok(fs.spool()?.sync(Some(&draft.file))?)).await?
    }

    /// Sends a snapshot until it is stored. Returns its tag. `Changed` is a conflict.
    pub(super) async fn store_as(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
    ) -> Result<String, FsError> {
        let begun = tokio::time::Instant::now();
        let mut pause = self.budget.pause;
        let mut snapshot = snapshot.clone();
        loop {
            let error = match self.send(asker, draft, &snapshot).await {
                Ok(etag) => return Ok(etag),
                Err(FsError::Store(error)) => error,
                Err(error) => return Err(error),
            };
            match error {
                StoreError::Changed | StoreError::NotFound => {
                    match self.compare(asker, draft, &snapshot).await? {
                        Found::Ours(object) => {
                            return self.is_ours(asker, draft, &snapshot, object).await;
                        }
                        Found::Earlier(object) => {
                            let is_same = |base: &Object| base.etag == object.etag;
                            // A copy may have been refused for its source.
                            let is_own = |remote: &Arc<Remote>| remote.key == snapshot.key;
                            if snapshot.base.as_ref().is_some_and(is_same)
                                && !(snapshot.sources.iter().all(is_own)
                                    && self.bucket.is_refused())
                            {
                                return Err(StoreError::Changed.into());
                            }
                            draft.state().base = Some(object.clone());
                            snapshot.base = Some(object);
                            tokio::time::sleep(pause).await;
                            pause = (pause * 2).min(LONGEST_PAUSE);
                        }
                        Found::Foreign => return Err(StoreError::Changed.into()),
                    }
                }
                StoreError::NoUpload(text) => {
                    // Put together already by a request whose answer was lost, or thrown away
                    // by somebody who tidies up.
                    if let Found::Ours(object) = self.compare(asker, draft, &snapshot).await? {
                        return self.is_ours(asker, draft, &snapshot, object).await;
                    }
                    tracing::info!("{}: sending it again ({text})", snapshot.key);
                    draft.state().upload = None;
                }
                StoreError::Busy(_) | StoreError::Unreachable { .. } | StoreError::Garbled(_)
                    if begun.elapsed() + pause < PATIENCE && !self.is_ending() =>
                {
                    tracing::debug!("{}: again in {pause:?} ({error})", snapshot.key);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                error => return Err(error.into()),
            }
            if begun.elapsed() > 2 * PATIENCE {
                return Err(StoreError::Busy("it changes all the time".to_owned()).into());
            }
        }
    }

    /// What stands there was put together of this very snapshot.
    async fn is_ours(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
        found: Object,
    ) -> Result<String, FsError> {
        let mark = found
            .facts
            .as_ref()
            .and_then(|facts| facts.posix.nonce.clone());
        let upload = draft.state().upload.clone();
        match upload.filter(|upload| Some(&upload.mark) == mark.as_ref()) {
            Some(upload) => {
                self.is_complete(asker, draft, snapshot, &upload, found.etag)
                    .await
            }
            None => Ok(found.etag),
        }
    }

    /// What stands under the name of a snapshot.
    async fn compare(
        &self,
        asker: &Asker,
        draft: &Draft,
        snapshot: &Snapshot,
    ) -> Result<Found, FsError> {
        let found = match self.bucket.head(asker, &snapshot.key).await {
            Err(StoreError::NotFound) => return Ok(Found::Foreign),
            found => found?,
        };
        let mark = found
            .facts
            .as_ref()
            .and_then(|facts| facts.posix.nonce.clone());
        let put_together = {
            let state = draft.state();
            let upload = state.upload.as_ref();
            let done = upload.filter(|upload| upload.completing == Some(snapshot.version));
            done.map(|upload| upload.mark.clone())
        };
        Ok(match mark {
            // Before the other: an upload that was begun early has a mark of its own.
            Some(mark) if put_together.as_ref() == Some(&mark) => Found::Ours(found),
            Some(mark) if mark == snapshot.mark() => Found::Ours(found),
            Some(mark)
                if mark.rsplit_once('-').is_some_and(|(nonce, version)| {
                    let version = version.parse::<u64>();
                    nonce == snapshot.nonce && version.is_ok_and(|v| v < snapshot.version)
                }) =>
            {
                Found::Earlier(found)
            }
            // Nothing has changed after all: another request of ours was in between.
            _ if snapshot.base.as_ref().is_some_and(|b| b.etag == found.etag) => {
                Found::Earlier(found)
            }
            _ => Found::Foreign,
        })
    }

    /// A snapshot is stored: now it is what the inode is.
    fn is_stored(
        self: &Arc<Self>,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
        etag: String,
    ) -> Result<(), FsError> {
        let stored_as = draft.state().stored_as.take();
        let object = match stored_as {
            Some(posix) => Snapshot {
                posix,
                ..snapshot.clone()
            }
            .object(etag),
            None => snapshot.object(etag),
        };
        self.is_made_of(draft, &snapshot.key, &object);
        {
            let mut state = draft.state();
            state.base = Some(object.clone());
            state.kept = object.facts.clone();
            state.stored = snapshot.version;
            state.dirty = false;
            state.closed = false;
            state.upload = None;
            state.timed = false;
            state.next_ahead = 1;
            state.nonce = super::draft::nonce();
            if let Some(facts) = &object.facts {
                state.posix.mtime = facts.posix.mtime;
                state.posix.ctime = facts.posix.ctime;
            }
        }
        if self.retire_unused(draft) {
            self.throw_out(draft.id);
        } else {
            self.journal(draft, &mut draft.state())?;
        }
        if let Ok(inode) = self.inode(draft.number)
            && !draft.state().aside
        {
            let kind = Kind::of(object);
            let mut known = self.listings.lock();
            known.change(inode.parent, &inode.name, Some(kind));
        }
        Ok(())
    }

    /// All bytes of a draft are in this object: it is what the draft is made of from now on, and
    /// what the handles that knew the draft read.
    pub(super) fn is_made_of(&self, draft: &Draft, key: &str, object: &Object) {
        self.wrote(key, object);
        let remote = if draft.state().aside {
            Remote::apart(key.to_owned(), object.clone())
        } else {
            let version = self.inodes.lock().stored(draft.number, object.clone());
            Remote::new(version, key.to_owned(), object.clone())
        };
        let remote = Arc::new(remote);
        // Who opens the file finds all of this or nothing of it: see `FileSystem::source`.
        let files = self.files.lock();
        let mut state = draft.state();
        for file in files.all().filter(|file| file.number == draft.number) {
            if file.remote().is_none_or(|before| state.knows(&before)) {
                file.follow(Some(Arc::clone(&remote)));
            }
        }
        // What it was made of is history: all that is not in the spool is in this now.
        state.sources = vec![remote];
        state.delta = Extents::of_object(0, object.size);
        let whole = 0..state.size();
        for Piece { range, from } in state.content.pieces(whole) {
            if let Some(Origin::Remote { .. }) = from {
                let offset = range.start;
                let source = 0;
                state.content.put(range, Origin::Remote { source, offset });
            }
        }
    }

    /// A handle that wrote is closed.
    pub(super) fn let_go(self: &Arc<Self>, draft: &Arc<Draft>) {
        {
            let mut state = draft.state();
            state.writers = state.writers.saturating_sub(1);
        }
        self.end_if_unused(draft);
    }

    /// A draft that nobody writes to any more is stored, or not needed.
    pub(super) fn end_if_unused(self: &Arc<Self>, draft: &Arc<Draft>) {
        let (pending, busy, failed, unlinked) = {
            let state = draft.state();
            let busy = state.writers > 0 || state.flight.is_some();
            let unlinked = state.fate == Fate::Unlinked;
            (state.is_pending(), busy, state.failed.is_some(), unlinked)
        };
        if pending {
            // Changed through a mapping after the last close(2), or kept after a failure.
            if draft.state().writers == 0 && !failed {
                self.publish_later(draft);
            }
            return;
        }
        // Of a file without a name, nobody else has the bytes.
        let is_read = || self.files.lock().any(|file| file.number == draft.number);
        if !(busy || unlinked && is_read()) && self.retire_unused(draft) {
            self.throw_out(draft.id);
        }
    }

    /// One descriptor of a file is closed: what was written is stored, and whoever closes it
    /// hears whether that is done.
    ///
    /// The kernel says so of every descriptor, also of those that a program was started with
    /// and closes unseen (`FD_CLOEXEC`), while its parent goes on writing. Storing a file then
    /// would be once too often, so only those who have used it count.
    pub(crate) async fn close(
        self: &Arc<Self>,
        asker: &Asker,
        caller: Caller,
        handle: u64,
    ) -> Result<(), FsError> {
        let file = self.files.lock().get(handle)?;
        if !file.was_used_by(caller) {
            return Ok(());
        }
        self.flush(asker, handle).await
    }

    /// Stores what was written to a file, and says whether that is done.
    pub(crate) async fn flush(self: &Arc<Self>, asker: &Asker, handle: u64) -> Result<(), FsError> {
        let file = self.files.lock().get(handle)?;
        let draft = file.draft.lock().clone();
        match draft {
            Some(draft) => self.store_or_promise(asker, &draft).await,
            None => Ok(()),
        }
    }

    /// fsync(2): stores what was written to a file, through whichever handle.
    pub(crate) async fn sync(self: &Arc<Self>, asker: &Asker, handle: u64) -> Result<(), FsError> {
        let file = self.files.lock().get(handle)?;
        let draft = file.draft.lock().clone();
        match draft.or_else(|| self.draft(file.number)) {
            Some(draft) => self.store_or_promise(asker, &draft).await,
            None => Ok(()),
        }
    }

    async fn store_or_promise(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
    ) -> Result<(), FsError> {
        if !self.budget.write_back {
            return self.publish(asker, draft).await;
        }
        let pending = draft.state().is_pending();
        if pending {
            self.promise(draft).await?;
            self.keep(draft).await?;
            self.publish_later(draft);
        }
        Ok(())
    }

    /// The drafts that are waiting to be stored.
    pub(crate) fn pending(&self) -> Vec<Arc<Draft>> {
        let drafts = self.drafts.lock();
        let waiting = drafts.values().filter(|draft| draft.state().is_waiting());
        waiting.cloned().collect()
    }
}
