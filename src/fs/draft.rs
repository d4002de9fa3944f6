//! A file that is being changed: where its bytes come from, and what is to be stored.
//!
//! A draft exists from the first change of a file until that is stored and nobody has the file
//! open for writing any more. All handles on the inode share it. Its bytes lie in the spool, at
//! their own offsets; what was not changed stays in the object that the file was opened as.
//!
//! Invariants:
//!
//! - The journal knows of a draft before its spool file gets a byte.
//! - While a draft is being stored, nothing changes what is being sent, which is a state that the
//!   file had: what is written meanwhile lies [`super::over`] it, and all other changes wait.
//! - `base` is what this mount knows to stand under the name. Only that is ever replaced.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use super::FsError;
use super::extents::{Extents, From as Origin};
use super::file::Remote;
use super::over::Over;
use super::stream_out::{Ahead, IN_UPLOAD};
use crate::spool::SpoolFile;
use crate::store::metadata::{Metadata, UNKNOWN, UNSET, content_type};
use crate::store::support::MOST_PARTS;
use crate::store::{Facts, Object};

/// The largest file that is stored with a single PUT, in bytes. To change a part of such a file
/// all of it is needed, so it is fetched at the first change, and a conflict can keep both
/// versions whole.
pub(super) const SINGLE: u64 = 16 << 20;

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
    /// Counts how often parts that are being sent ahead became useless.
    pub(super) useless: watch::Sender<u64>,
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
    /// The bytes that read as zeros because nobody has them any more: see [`super::salvage`].
    pub(super) lost: Extents,
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
    /// The change that is being sent, or was held: from now on can be written beside it.
    pub(super) frozen: Option<u64>,
    /// What was written beside it.
    pub(super) over: Option<Over>,
    /// Counts how often bytes have left their places in the spool file.
    pub(super) moves: u64,
    /// Has the flight be given up; `None` if nothing is being stored, or that cannot be given up.
    pub(super) stop: Option<oneshot::Sender<()>>,
    /// Who holds the draft next: see [`Draft::seize`].
    pub(super) heir: Option<watch::Receiver<Outcome>>,
    /// A request was sent that makes the object, and it is not known whether it has.
    pub(super) asked: bool,
    /// Nothing but attributes is to be stored, and a task does so at this moment: see
    /// [`super::settling`].
    pub(super) is_settling: bool,
    /// Why it could not be stored last time.
    pub(super) failed: Option<String>,
    /// That reason may pass by itself.
    pub(super) may_pass: bool,
    /// The entry of the journal with what was closed before this change: see [`super::edit`].
    pub(super) before: Option<u64>,
    /// How many extents the journal knows.
    pub(super) journalled: usize,
    /// Which those are, unless there are many.
    pub(super) journalled_as: Extents,
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
    /// How many parts it may have.
    #[serde(default = "usual_parts")]
    pub(super) most: u32,
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

/// What uploads had whose journal does not say it.
fn usual_parts() -> u32 {
    MOST_PARTS
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
    #[serde(default)]
    pub(super) lost: Extents,
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
            lost: Extents::new(),
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
            frozen: None,
            over: None,
            moves: 0,
            stop: None,
            heir: None,
            asked: false,
            is_settling: false,
            failed: None,
            may_pass: false,
            before: None,
            journalled: 0,
            journalled_as: Extents::new(),
        }
    }

    /// A file that is there, about to be changed.
    pub(super) fn of(remote: Arc<Remote>) -> Self {
        let object = remote.object.clone();
        let content = Extents::of_object(0, object.size);
        let facts = object.facts.clone();
        let mut posix = facts.as_ref().map(|f| f.posix.clone()).unwrap_or_default();
        // Whatever is stored of it, its bytes are as old as they were: S3 will say "now".
        posix.mtime = posix.mtime.or_else(|| object.written());
        Self {
            delta: content.clone(),
            content,
            posix,
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

    /// Whether it began from this version, or has been stored as it since. A copy under another
    /// name has the same version, and may have another tag.
    pub(super) fn knows(&self, remote: &Remote) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|source| {
            source.object.is_version(&remote.object) || source.version == remote.version
        })
    }

    /// Whether there is something to be stored.
    pub(super) fn is_pending(&self) -> bool {
        self.fate == Fate::Named && self.version != self.stored
    }

    /// Whether it is to be stored without anybody doing anything more.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_pending() && (self.closed || self.writers == 0)
    }

    /// Whether nothing but attributes is to be stored, and nobody writes to it.
    pub(super) fn waits_with_attributes(&self) -> bool {
        self.is_pending() && !self.dirty && self.writers == 0
    }

    /// Whether a range has bytes that are nowhere but in a part of an upload.
    pub(super) fn is_sent(&self, range: &Range<u64>) -> bool {
        let end = range.end.min(self.size());
        let pieces = self.content.pieces(range.start.min(end)..end);
        let mut origins = pieces.into_iter().filter_map(|piece| piece.from);
        origins.any(|from| matches!(from, Origin::Remote { source, .. } if source == IN_UPLOAD))
    }

    /// Whether there are bytes that nobody has any more.
    pub(super) fn is_incomplete(&self) -> bool {
        self.lost.count() > 0
    }

    /// Whether a range has such bytes.
    pub(super) fn is_lost(&self, range: Range<u64>) -> bool {
        let pieces = self.lost.pieces(range);
        pieces.iter().any(|piece| piece.from.is_some())
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

    /// All of it is in one object. What it was made of is history: what is not in the spool is read
    /// from that from now on.
    pub(super) fn is_all_of(&mut self, remote: Arc<Remote>, size: u64) {
        self.sources = vec![remote];
        self.rest_on(size);
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
            lost: self.lost.clone(),
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

    /// Whether it can go on with another key and another object, as far as that has the bytes of
    /// its base: what was changed since is in the spool, and promised to nobody.
    pub(super) fn can_move_on(&self) -> bool {
        self.base.is_some() && self.sources.len() == 1 && !self.closed
    }

    /// The object that a draft goes on from has another key: see [`Self::can_move_on`]. If it was
    /// given the attributes that waited, `carried` is the change up to which they are stored.
    pub(super) fn moved(
        &mut self,
        key: &str,
        remote: &Arc<Remote>,
        object: Object,
        carried: Option<u64>,
    ) {
        key.clone_into(&mut self.key);
        self.kept.clone_from(&object.facts);
        if let Some(carried) = carried {
            self.stored = carried;
        }
        // What was written beside it since is not in that object.
        if carried == Some(self.version) {
            self.closed = false;
            self.timed = false;
            if let Some(facts) = &object.facts {
                self.posix = facts.posix.clone();
            }
        }
        self.base = Some(object);
        self.sources = vec![Arc::clone(remote)];
    }

    /// What the object is to carry.
    pub(super) fn content_type(&self) -> String {
        let kept = self
            .kept
            .as_ref()
            .and_then(|facts| facts.content_type.clone());
        // A new name can be a new kind of file, but what somebody set stays. What S3 says where
        // nobody has set anything was not set.
        let set = kept.filter(|kept| kept != UNKNOWN && kept != UNSET);
        set.unwrap_or_else(|| content_type(self.key.rsplit('/').next().unwrap_or_default()))
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
            useless: watch::Sender::new(0),
        }
    }

    /// Its number among the drafts: that of its inode, until a conflict has moved it away from
    /// that.
    pub(super) fn place(&self) -> u64 {
        match self.state().aside {
            true => nobody(self.id),
            false => self.number,
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
            land,
        }
    }

    /// The same if it is not being stored or held already.
    pub(super) fn try_hold(self: &Arc<Self>) -> Option<Held> {
        let mut state = self.state.lock();
        if state.flight.is_some() {
            return None;
        }
        let (land, flight) = watch::channel(None);
        state.flight = Some(flight);
        Some(Held {
            draft: Arc::clone(self),
            land,
        })
    }

    /// The same at once: what is being stored is given up, wherever that can be. What S3 has of it
    /// stays as long as the draft may be stored after all.
    pub(super) async fn seize(self: &Arc<Self>) -> Held {
        let (land, flight) = watch::channel(None);
        // From here on it is taken back if nobody waits for this any more.
        let held = Held {
            draft: Arc::clone(self),
            land,
        };
        loop {
            let (mut current, is_given_up) = {
                let mut state = self.state.lock();
                let Some(current) = state.flight.clone() else {
                    state.flight = Some(flight);
                    return held;
                };
                let stop = state.stop.take();
                let is_given_up = stop.is_some();
                if let Some(stop) = stop {
                    state.heir = Some(flight.clone());
                    // It may have landed just now: then this one has it all the same.
                    let _ = stop.send(());
                }
                (current, is_given_up)
            };
            drop(current.wait_for(Option::is_some).await);
            if is_given_up {
                return held;
            }
        }
    }
}

/// A draft that nobody changes or stores: its name is about to go, or to be another.
///
/// It is told as a flight that never lands: whoever waits for it looks again afterwards.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) draft: Arc<Draft>,
    land: watch::Sender<Outcome>,
}

impl Held {
    /// It can be written to all the same: beside what it is now.
    pub(super) fn with_writers(self) -> Self {
        {
            let mut state = self.draft.state();
            state.frozen = Some(state.version);
        }
        self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mine = self.land.subscribe();
        let is_mine = |flight: &watch::Receiver<Outcome>| flight.same_channel(&mine);
        let mut state = self.draft.state();
        if state.flight.as_ref().is_some_and(is_mine) {
            state.landed();
        }
        state.heir.take_if(|heir| is_mine(heir));
    }
}

/// The inode number of a draft that has none. No path has this one: it is in the range that
/// inodes of paths are kept from.
pub(super) fn nobody(id: u64) -> u64 {
    u64::MAX - id
}

/// Sixteen hexadecimal digits that nobody else has.
pub(super) fn nonce() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(SystemTime::now()))
}
