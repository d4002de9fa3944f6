//! A file that is being changed: where its bytes come from, and what is to be stored.
//!
//! A draft exists from the first change of a file until that is stored and nobody has the file
//! open for writing any more. All handles on the inode share it. Its bytes lie in the spool, at
//! their own offsets; what was not changed stays in the object that the file was opened as.
//!
//! Invariants:
//!
//! - The journal knows of a draft before its spool file gets a byte.
//! - While a draft is being stored, nothing changes it: writers wait. So what is stored is a
//!   state that the file had.
//! - `base` is what this mount knows to stand under the name. Only that is ever replaced.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::extents::Extents;
use super::file::{OpenFile, Remote};
use super::inodes::Kind;
use super::recover::Kept;
use super::stream_out::Ahead;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::spool::SpoolFile;
use crate::store::metadata::{Metadata, content_type};
use crate::store::{Facts, Object, StoreError};

/// The largest file that is stored with a single PUT, in bytes. To change a part of such a file
/// all of it is needed, so it is fetched at the first change, and a conflict can keep both
/// versions whole.
pub(super) const SINGLE: u64 = 16 << 20;

/// The most extents that are journalled at each change; with more, only each time they have
/// doubled: what was never closed is journalled to be found again, not to be complete.
const JOURNALLED: usize = 64;

/// What becomes of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is stored under its key.
    Named,
    /// Its name was removed: nothing is stored.
    Unlinked,
}

/// How storing went, for those who wait for it.
pub(super) type Outcome = Option<Result<(), FsError>>;

/// One draft.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(super) number: u64,
    /// Its number in the spool.
    pub(super) id: u64,
    pub(super) file: Arc<SpoolFile>,
    state: Mutex<State>,
    /// Counts the parts that were sent ahead, or failed to be.
    pub(super) ahead: watch::Sender<u64>,
}

/// The changing part of a draft.
#[derive(Debug)]
pub(crate) struct State {
    /// Where it is to be stored.
    pub(super) key: String,
    /// Where each byte is to be read.
    pub(super) content: Extents,
    /// The same with regard to `base`: `Remote` is what S3 has already and need not be sent.
    pub(super) delta: Extents,
    /// The objects that `content` and `delta` speak of, by number.
    pub(super) sources: Vec<Arc<Remote>>,
    pub(super) base: Option<Object>,
    pub(super) posix: Metadata,
    /// What else the object carried, and keeps.
    pub(super) kept: Option<Arc<Facts>>,
    /// Counts changes.
    pub(super) version: u64,
    /// The change up to which all is stored.
    pub(super) stored: u64,
    /// Bytes, and not only attributes, have changed since.
    pub(super) dirty: bool,
    /// Somebody was promised, or is about to be, that it gets stored.
    pub(super) closed: bool,
    /// Handles that may write.
    pub(super) writers: u32,
    pub(super) fate: Fate,
    /// A conflict has moved it away from the name that its inode had.
    pub(super) aside: bool,
    /// Marks each upload of this draft, so that it is recognised when its answer was lost.
    pub(super) nonce: String,
    /// The multipart upload that was begun, and for which change.
    pub(super) upload: Option<Upload>,
    /// The parts of it that are being sent ahead, by number.
    pub(super) ahead: BTreeMap<i32, Ahead>,
    /// The number of the next one.
    pub(super) next_ahead: i32,
    /// Sending ahead was refused.
    pub(super) ahead_denied: bool,
    /// The attributes that the object was really stored with, if those of now came too late.
    pub(super) stored_as: Option<Metadata>,
    /// Somebody has set the time of the last change, and it must be that.
    pub(super) timed: bool,
    /// It is being stored, or held: see [`Held`].
    pub(super) flight: Option<watch::Receiver<Outcome>>,
    /// Why it could not be stored last time.
    pub(super) failed: Option<String>,
    /// That reason may pass by itself.
    pub(super) may_pass: bool,
    /// The entry of the journal with what was closed before this change. See
    /// [`FileSystem::write`].
    pub(super) before: Option<u64>,
    /// How many extents the journal knows.
    journalled: usize,
}

/// A multipart upload that is under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(super) id: String,
    pub(super) key: String,
    /// The change of the draft that it sends.
    pub(super) version: u64,
    /// It was begun while the file was being written, with parts of this size; `None` if it was
    /// begun for one change, and serves no other.
    pub(super) part_size: Option<u64>,
    /// The mark that the object is going to carry.
    pub(super) mark: String,
    /// The attributes that it is going to have.
    pub(super) posix: Metadata,
    /// The change that it was asked to be put together for.
    pub(super) completing: Option<u64>,
    /// What S3 has of it, by number.
    #[serde(skip)]
    pub(super) parts: BTreeMap<i32, Acknowledged>,
}

/// A part that S3 has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acknowledged {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) etag: String,
    /// The upload that it belongs to.
    pub(super) upload: String,
}

/// What the journal keeps of a draft.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(super) key: String,
    pub(super) content: Extents,
    pub(super) delta: Extents,
    pub(super) sources: Vec<SourceRecord>,
    pub(super) base: Option<Object>,
    pub(super) posix: Metadata,
    pub(super) kept: Option<Facts>,
    pub(super) version: u64,
    pub(super) dirty: bool,
    pub(super) closed: bool,
    pub(super) aside: bool,
    pub(super) nonce: String,
    pub(super) upload: Option<Upload>,
}

/// An object that bytes come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SourceRecord {
    pub(super) key: String,
    pub(super) object: Object,
}

impl State {
    /// A file that is not there yet.
    pub(super) fn new_file(key: String, posix: Metadata) -> Self {
        Self {
            key,
            content: Extents::new(),
            delta: Extents::new(),
            sources: Vec::new(),
            base: None,
            posix,
            kept: None,
            version: 1,
            stored: 0,
            dirty: true,
            closed: false,
            writers: 0,
            fate: Fate::Named,
            aside: false,
            nonce: nonce(),
            upload: None,
            ahead: BTreeMap::new(),
            next_ahead: 1,
            ahead_denied: false,
            stored_as: None,
            timed: false,
            flight: None,
            failed: None,
            may_pass: false,
            before: None,
            journalled: 0,
        }
    }

    /// A file that is there, about to be changed.
    pub(super) fn of(remote: Arc<Remote>) -> Self {
        let object = remote.object.clone();
        let content = Extents::of_object(0, object.size);
        let facts = object.facts.clone();
        Self {
            delta: content.clone(),
            content,
            posix: facts.as_ref().map(|f| f.posix.clone()).unwrap_or_default(),
            kept: facts,
            version: 0,
            dirty: false,
            base: Some(object),
            ..Self::new_file(remote.key.clone(), Metadata::default())
        }
        .with(remote)
    }

    fn with(mut self, source: Arc<Remote>) -> Self {
        self.sources.push(source);
        self
    }

    /// Whether it began from this version, or has been stored as it since.
    pub(super) fn knows(&self, remote: &Remote) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|source| source.object.etag == remote.object.etag)
    }

    /// Whether there is something to be stored.
    pub(super) fn is_pending(&self) -> bool {
        self.fate == Fate::Named && self.version != self.stored
    }

    /// Whether it is to be stored without anybody doing anything more.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_pending() && (self.closed || self.writers == 0)
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.content.size()
    }

    /// How many bytes S3 does not have yet.
    pub(super) fn left(&self) -> u64 {
        let parts = self.upload.iter().flat_map(|upload| upload.parts.values());
        let sent: u64 = parts.map(|part| part.end - part.start).sum();
        self.size().saturating_sub(sent)
    }

    /// Something but the bytes has changed.
    pub(super) fn attributes_changed(&mut self) {
        self.version += 1;
        self.posix.ctime = Some(SystemTime::now());
    }

    /// Bytes have changed.
    pub(super) fn bytes_changed(&mut self) {
        self.attributes_changed();
        self.posix.mtime = self.posix.ctime;
        self.posix.bytes_change();
        self.timed = false;
        self.dirty = true;
    }

    /// The number under which extents name a source.
    pub(super) fn source(&mut self, remote: &Arc<Remote>) -> u32 {
        let known = self.sources.iter().position(|s| Arc::ptr_eq(s, remote));
        let index = known.unwrap_or_else(|| {
            self.sources.push(Arc::clone(remote));
            self.sources.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// What S3 has not told of it: there is no tag, so whoever wants to know for sure asks.
    pub(super) fn untold(&self) -> Object {
        Object {
            size: self.size(),
            modified: SystemTime::now(),
            facts: Some(Arc::new(Facts {
                posix: self.posix.clone(),
                ..Facts::default()
            })),
            ..Object::nothing()
        }
    }

    pub(super) fn record(&self) -> Record {
        Record {
            key: self.key.clone(),
            content: self.content.clone(),
            delta: self.delta.clone(),
            sources: self
                .sources
                .iter()
                .map(|source| SourceRecord {
                    key: source.key.clone(),
                    object: source.object.clone(),
                })
                .collect(),
            base: self.base.clone(),
            posix: self.posix.clone(),
            kept: self.kept.as_deref().cloned(),
            version: self.version,
            dirty: self.dirty,
            closed: self.closed,
            aside: self.aside,
            nonce: self.nonce.clone(),
            upload: self.upload.clone(),
        }
    }

    /// A clean draft has another key and another object with the same bytes.
    pub(super) fn moved(&mut self, key: &str, remote: &Arc<Remote>, object: Object) {
        key.clone_into(&mut self.key);
        self.kept.clone_from(&object.facts);
        self.base = Some(object);
        self.sources = vec![Arc::clone(remote)];
    }

    /// What the object is to carry.
    pub(super) fn content_type(&self) -> String {
        let kept = self
            .kept
            .as_ref()
            .and_then(|facts| facts.content_type.clone());
        // A new name can be a new kind of file, but what somebody set stays.
        kept.unwrap_or_else(|| content_type(self.key.rsplit('/').next().unwrap_or_default()))
    }
}

impl Draft {
    pub(super) fn new(number: u64, id: u64, file: Arc<SpoolFile>, state: State) -> Self {
        Self {
            number,
            id,
            file,
            state: Mutex::new(state),
            ahead: watch::Sender::new(0),
        }
    }

    /// Its state as it is now. Not to be changed while it is being stored: see [`Self::edit`].
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// See [`State::knows`].
    pub(super) fn knows(&self, remote: &Remote) -> bool {
        self.state.lock().knows(remote)
    }

    /// Changes it, as soon as it is not being stored.
    pub(super) async fn edit<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut change = Some(change);
        loop {
            let mut flight = {
                let mut state = self.state.lock();
                match &state.flight {
                    Some(flight) => flight.clone(),
                    None => match change.take() {
                        Some(change) => return change(&mut state),
                        // Not reached: it returns at once.
                        None => continue,
                    },
                }
            };
            // An error is the sender's end, which takes the flight along.
            let _ = flight.wait_for(Option::is_some).await;
        }
    }

    /// Has nobody change or store it for a while, as if it were being stored all the time.
    pub(super) async fn hold(self: &Arc<Self>) -> Held {
        let (land, flight) = watch::channel(None);
        self.edit(|state| state.flight = Some(flight)).await;
        Held {
            draft: Arc::clone(self),
            _land: land,
        }
    }
}

/// A draft that nobody changes or stores: its name is about to go, or to be another.
///
/// It is told as a flight that never lands: whoever waits for it looks again afterwards.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) draft: Arc<Draft>,
    _land: watch::Sender<Outcome>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.draft.state().flight = None;
    }
}

/// Sixteen hexadecimal digits that nobody else has.
pub(super) fn nonce() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(SystemTime::now()))
}

impl FileSystem {
    /// The draft of an inode, if it is being changed.
    pub(crate) fn draft(&self, number: u64) -> Option<Arc<Draft>> {
        self.drafts.lock().get(&number).cloned()
    }

    /// Tells the journal how a draft stands.
    pub(super) fn journal(&self, draft: &Draft, state: &mut State) -> Result<(), FsError> {
        if state.fate == Fate::Unlinked {
            // The next mount must not bring it back.
            return Ok(());
        }
        state.journalled = state.content.count();
        let kept = Kept::File(Box::new(state.record()));
        Ok(self.spool()?.put(draft.id, &kept)?)
    }

    /// Tells the journal of new extents, unless there are so many that it would be slow.
    pub(super) fn journal_extents(&self, draft: &Draft, state: &mut State) -> Result<(), FsError> {
        let (now, before) = (state.content.count(), state.journalled);
        if now == before || (now > JOURNALLED && now < before * 2) {
            return Ok(());
        }
        self.journal(draft, state)
    }

    /// Begins a draft, which the journal knows from now on.
    pub(super) fn begin(&self, number: u64, state: State) -> Result<Arc<Draft>, FsError> {
        let kept = Kept::File(Box::new(state.record()));
        let (id, file) = self.spool()?.create(&kept)?;
        Ok(Arc::new(Draft::new(number, id, Arc::new(file), state)))
    }

    /// Makes a draft the one of its inode. Another may have been quicker: that is returned, and
    /// this one thrown away.
    pub(super) fn install(&self, draft: Arc<Draft>) -> Arc<Draft> {
        let mut drafts = self.drafts.lock();
        if let Some(other) = drafts.get(&draft.number) {
            self.throw_out(draft.id);
            return Arc::clone(other);
        }
        drafts.insert(draft.number, Arc::clone(&draft));
        self.inodes.lock().set_drafted(draft.number, true);
        draft
    }

    /// Somebody writes to a draft from now on, until [`Self::let_go`]. Not if it has ended:
    /// returns whether it goes on.
    pub(super) fn take(&self, draft: &Arc<Draft>) -> bool {
        // With the lock that ending it takes.
        let drafts = self.drafts.lock();
        let now = drafts.get(&draft.number);
        let goes_on = now.is_some_and(|now| Arc::ptr_eq(now, draft));
        if goes_on {
            draft.state().writers += 1;
        }
        goes_on
    }

    /// Ends a draft, unless somebody writes to it and it is to be stored. Returns whether.
    pub(super) fn retire_unused(&self, draft: &Arc<Draft>) -> bool {
        let mut drafts = self.drafts.lock();
        let is_used = {
            let state = draft.state();
            state.fate == Fate::Named && (state.writers > 0 || state.is_pending())
        };
        if !is_used {
            self.retire_from(&mut drafts, draft);
        }
        !is_used
    }

    /// Ends a draft: what the inode is, S3 says from now on.
    pub(super) fn retire(&self, draft: &Arc<Draft>) {
        self.retire_from(&mut self.drafts.lock(), draft);
    }

    fn retire_from(&self, drafts: &mut HashMap<u64, Arc<Draft>>, draft: &Arc<Draft>) {
        let is_it = drafts
            .get(&draft.number)
            .is_some_and(|d| Arc::ptr_eq(d, draft));
        if is_it {
            drafts.remove(&draft.number);
            self.inodes.lock().set_drafted(draft.number, false);
        }
    }

    /// The draft that a handle writes to; begun if there is none.
    ///
    /// Errors: `ESTALE` if the file is being changed from another version than the handle has
    /// open.
    pub(super) async fn attach(
        &self,
        asker: &Asker,
        file: &OpenFile,
        truncate: bool,
    ) -> Result<Arc<Draft>, FsError> {
        loop {
            if let Some(draft) = &*file.draft.lock() {
                return Ok(Arc::clone(draft));
            }
            if self.draft(file.number).is_none() && self.keeps_its_place(file.number).await {
                continue;
            }
            let remote = file.remote();
            let draft = match (self.draft(file.number), remote) {
                (Some(draft), Some(remote)) if !draft.knows(&remote) => {
                    if file.is_at(&remote) {
                        return Err(StoreError::Changed.into());
                    }
                    // Stored just now.
                    continue;
                }
                (Some(draft), _) => draft,
                (None, Some(remote)) => {
                    let begun = self.begin_on(asker, file.number, Arc::clone(&remote), truncate);
                    match begun.await {
                        Err(FsError::Store(StoreError::Changed)) if !file.is_at(&remote) => {
                            continue;
                        }
                        begun => begun?,
                    }
                }
                (None, None) if file.remote().is_some() => continue,
                (None, None) => return Err(StoreError::Changed.into()),
            };
            let mut mine = file.draft.lock();
            if let Some(mine) = &*mine {
                return Ok(Arc::clone(mine));
            }
            if file.is_released() {
                return Err(FsError::BadHandle);
            }
            if self.take(&draft) {
                *mine = Some(Arc::clone(&draft));
                return Ok(draft);
            }
            // The last one who wrote to it has closed just now.
        }
    }

    /// Begins a draft on an object that is there.
    pub(super) async fn begin_on(
        &self,
        asker: &Asker,
        number: u64,
        remote: Arc<Remote>,
        truncate: bool,
    ) -> Result<Arc<Draft>, FsError> {
        let size = remote.object.size;
        let remote = self.with_facts(asker, &remote).await?;
        let mut state = State::of(remote);
        let unlinked = self.inode(number)?.unlinked;
        if unlinked {
            state.fate = Fate::Unlinked;
        }
        if truncate {
            state.content.set_size(0);
            state.delta.set_size(0);
            state.bytes_changed();
        }
        let draft = self.begin(number, state)?;
        if unlinked {
            self.throw_out(draft.id);
        }
        if !truncate && size <= SINGLE {
            let whole = 0..size;
            if let Err(error) = self.hydrate(asker, &draft, whole).await {
                self.throw_out(draft.id);
                return Err(error);
            }
        }
        Ok(self.install(draft))
    }

    /// An inode's object and key as something to read from.
    pub(super) fn remote_of(&self, number: u64) -> Result<Option<Arc<Remote>>, FsError> {
        let inode = self.inode(number)?;
        let object = match inode.kind {
            Kind::Directory(_) => return Err(FsError::IsADirectory),
            Kind::File(object) | Kind::Symlink(object) => object,
        };
        if object.etag.is_empty() {
            return Ok(None);
        }
        let remote = Remote::new(inode.version, self.key(number)?, object);
        Ok(Some(Arc::new(remote)))
    }
}

/// Runs what may wait for the local disk.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, FsError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| FsError::Spool(format!("the spool's thread ended: {error}")))
}
