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
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::aside::{Aside, Notice};
use super::draft::{Draft, Fate, State};
use super::file::Remote;
use super::inodes::Kind;
use super::snapshot::Snapshot;
use super::upload::may_pass;
use super::{FileSystem, FsError, blocking};
use crate::auth::Asker;
use crate::store::{Object, StoreError};

/// How long storing goes on trying while S3 is busy or out of reach and somebody waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a file is sent anew because the store has lost the upload: a proxy or a lifecycle rule
/// may do so once, and a store that does it each time never gets it whole.
const UPLOADS: u32 = 3;

/// How often a store may refuse to replace what it has by HEAD, before that is a conflict.
const REFUSALS: u32 = 5;

/// How often a file is planned anew because the store takes fewer parts than it was known to.
const PLANS: u32 = 3;

/// How often bytes are synced that go on changing meanwhile, before they are taken as they are.
const SYNCED: u32 = 3;

/// The longest pause between two attempts; each is twice as long as the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
            let (mut flight, mine, is_all) = {
                let mut state = draft.state();
                // Also if it is held: who holds it may be waiting for the one who asks.
                if !is_wanted(&state) {
                    return Ok(());
                }
                // Something may have been written beside what is on its way.
                let is_all = state.frozen.is_none_or(|sent| sent == state.version);
                match &state.flight {
                    Some(flight) => (flight.clone(), false, is_all),
                    None => (self.take_off_with(asker, draft, &mut state), true, true),
                }
            };
            let outcome = flight.wait_for(Option::is_some).await;
            let outcome = outcome.map(|outcome| (*outcome).clone());
            match outcome {
                // Somebody else's flight, who could not have a person asked.
                Ok(Some(Err(FsError::Store(StoreError::Session(_))))) if !mine => {}
                // Somebody has changed it, or taken its name away: what is true now counts.
                Ok(Some(Err(FsError::GivenUp))) => {}
                Ok(Some(_)) if !is_all => {}
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
        let (stop, stopped) = oneshot::channel();
        state.flight = Some(flight.clone());
        state.stop = Some(stop);
        let (fs, draft, asker) = (Arc::clone(self), Arc::clone(draft), *asker);
        tokio::spawn(async move {
            // Work on the local disk is not left half done.
            let outcome = match fs.prepare(&draft).await {
                Err(error) => Err(error),
                Ok(()) => tokio::select! {
                    biased;
                    outcome = fs.store(&asker, &draft) => outcome,
                    // Without one who could say so, there is nothing to be waited for.
                    Ok(()) = stopped => Err(FsError::GivenUp),
                },
            };
            let failed = {
                let mut state = draft.state();
                let heir = state.heir.take();
                state.landed();
                state.flight = heir;
                state.stop = None;
                let failed = outcome.as_ref().err();
                let failed = failed.filter(|error| !matches!(error, FsError::GivenUp));
                state.failed = failed.map(ToString::to_string);
                state.may_pass = outcome.as_ref().is_err_and(may_pass);
                state.failed.clone()
            };
            if let Some(failed) = &failed {
                tracing::warn!("{}: {failed}", draft.state().key);
            }
            let is_final = failed.is_some() && outcome.as_ref().is_err_and(|e| !may_pass(e));
            land.send_replace(Some(outcome));
            if let Some(why) = failed.filter(|_| is_final && fs.budget.write_back) {
                // Nobody waits who could be told.
                let key = draft.state().key.clone();
                let _ = fs.notices.send(Notice::Failed { key, why });
            }
            // Who wrote to it may have closed it just now.
            fs.end_if_unused(&draft);
            fs.stored_something.send_modify(|count| *count += 1);
        });
        flight
    }

    /// Makes sure that the spool and its journal have what is about to be stored.
    async fn prepare(self: &Arc<Self>, draft: &Arc<Draft>) -> Result<(), FsError> {
        self.bring_down(draft).await?;
        self.promise(draft).await
    }

    /// Stores a draft as it is, and makes that known.
    async fn store(self: &Arc<Self>, asker: &Asker, draft: &Arc<Draft>) -> Result<(), FsError> {
        let snapshot = {
            let mut state = draft.state();
            if state.fate == Fate::Unlinked {
                return Ok(());
            }
            state.frozen = Some(state.version);
            Snapshot::of(&state)
        };
        let is_it = |key: &str| key == snapshot.key;
        self.settle_copies(asker, draft.number, is_it).await;
        // Where bytes are missing, whatever stands under the name is better.
        let is_for_its_name = {
            let state = draft.state();
            state.aside || !state.is_incomplete()
        };
        let stored = match is_for_its_name {
            true => self.store_as(asker, draft, &snapshot).await,
            false => Err(StoreError::Changed.into()),
        };
        let outcome = match stored {
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
                // Half of a conflict is none: it is settled, whatever happens to the name.
                draft.state().stop = None;
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
    pub(super) async fn promise(&self, draft: &Arc<Draft>) -> Result<(), FsError> {
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
                state.promises();
                self.journal(draft, &mut state)?;
                state.promised();
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
        let mut lost_uploads = 0;
        let mut plans = 0;
        let mut refusals = 0;
        loop {
            let knew = self.bucket.support();
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
                            let is_same = |base: &Object| base.is_version(&object);
                            // A copy may have been refused for its source.
                            let is_own = |remote: &Arc<Remote>| remote.key == snapshot.key;
                            if snapshot.base.as_ref().is_some_and(is_same) {
                                refusals += 1;
                                // It does not know its own tag in this spelling, or has answered of
                                // another moment.
                                let goes_on = snapshot.sources.iter().all(is_own)
                                    && (self.bucket.is_refused() || refusals < REFUSALS);
                                if !goes_on {
                                    return Err(StoreError::Changed.into());
                                }
                            }
                            draft.state().base = Some(object.clone());
                            snapshot.base = Some(object);
                            tokio::time::sleep(pause).await;
                            pause = (pause * 2).min(LONGEST_PAUSE);
                        }
                        Found::Foreign => return Err(StoreError::Changed.into()),
                    }
                }
                StoreError::Untold(text) => {
                    // What is there now is looked at instead.
                    match self.compare(asker, draft, &snapshot).await? {
                        Found::Ours(object) => {
                            return self.is_ours(asker, draft, &snapshot, object).await;
                        }
                        Found::Earlier(_) | Found::Foreign => {
                            return Err(StoreError::Untold(text).into());
                        }
                    }
                }
                StoreError::NoUpload(text) => {
                    // Put together already by a request whose answer was lost, or thrown away
                    // by somebody who tidies up.
                    if let Found::Ours(object) = self.compare(asker, draft, &snapshot).await? {
                        return self.is_ours(asker, draft, &snapshot, object).await;
                    }
                    self.plan_anew(draft);
                    lost_uploads += 1;
                    if lost_uploads == UPLOADS {
                        return Err(StoreError::NoUpload(text).into());
                    }
                    tracing::info!("{}: sending it again ({text})", snapshot.key);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                StoreError::Unsupported(text)
                    if !snapshot.carried && snapshot.delta.remote_bytes() > 0 =>
                {
                    tracing::info!(
                        "{}: the store does not copy it ({text}): it is fetched and sent",
                        snapshot.key
                    );
                    self.plan_anew(draft);
                    // What was learned may be enough to go another way.
                    snapshot.carried = self.bucket.support() == knew;
                }
                error @ StoreError::TooManyParts { .. }
                    if plans < PLANS && !draft.state().needs_upload() =>
                {
                    plans += 1;
                    tracing::info!("{}: in larger parts ({error})", snapshot.key);
                    self.bucket.learn_most_parts(&error);
                    self.bucket.find_most_parts(asker, &snapshot.key).await?;
                    self.plan_anew(draft);
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

    /// What was begun is of no use any more: it is sent in another way.
    pub(super) fn plan_anew(self: &Arc<Self>, draft: &Draft) {
        let begun = {
            let mut state = draft.state();
            // Bytes that are nowhere else have to be completed as they are.
            let is_needed = state.needs_upload();
            state.upload.take_if(|_| !is_needed)
        };
        if let Some(begun) = begun {
            self.throw_away(&begun);
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
        let size = snapshot.content.size();
        let is_marked =
            |mark: &String| put_together.as_ref() == Some(mark) || *mark == snapshot.mark();
        if mark.as_ref().is_some_and(is_marked) && found.size != size {
            // Said to be stored or copied, and it was not: nothing may be dropped for it.
            let text = format!(
                "{} of {size} bytes are there of what was stored",
                found.size
            );
            return Err(StoreError::Untold(text).into());
        }
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
            _ if self.was_given_up(&snapshot.key, &found) => Found::Earlier(found),
            // There was no room for a mark, and the copy is what was to be copied.
            None if snapshot.is_copied_as(&found) => Found::Ours(found),
            // Nothing has changed after all: another request of ours was in between.
            _ if snapshot.base.as_ref().is_some_and(|b| b.is_version(&found)) => {
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
            // What was written beside it is not, and may have been promised since.
            let is_all = state.version == snapshot.version;
            state.dirty &= !is_all;
            state.closed &= !is_all;
            state.asked = false;
            state.upload = None;
            state.timed = false;
            state.next_ahead = 1;
            state.nonce = super::draft::nonce();
            state.promise_kept(snapshot.version);
            if let Some(facts) = object.facts.as_ref().filter(|_| is_all) {
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
        state.is_all_of(remote, object.size);
    }
}
