//! Writing to a file while it is being stored, or while its name is changed.
//!
//! The kernel keeps a page locked for as long as a write to it is not answered, and whoever wants
//! that page back, or just to end, waits along in a sleep that no signal ends. So no write waits
//! for S3. What is written while a draft is being stored goes into its spool file too, but far
//! behind all bytes that a file can have ([`OVER`]), and the map of the draft says so
//! ([`IN_OVER`]): what is being sent stays as it was. Before the draft is stored, cut or copied
//! the next time, those bytes are brought down to their places.
//!
//! In the journal, the draft's record stays the one that is being stored, and the state since then
//! is a part beside it ([`SINCE`]). A mount that finds both stores the first under its name, as
//! was promised, and the other beside it; one that finds a record with bytes that are not brought
//! down yet has them brought down.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attach::JOURNALLED;
use super::draft::{Draft, Fate, Record, State};
use super::extents::{Extents, From as Origin, Piece};
use super::plan::LARGEST;
use super::recover::Kept;
use super::{FileSystem, FsError, blocking};
use crate::spool::{FAR, SpoolError, SpoolFile};

/// Where in a spool file those bytes lie: this far behind their place in the file.
pub(super) const OVER: u64 = FAR;

/// The source that extents name for them.
pub(super) const IN_OVER: u32 = u32::MAX - 1;

/// The part of an entry of the journal with the state since the draft is being stored.
pub(super) const SINCE: u32 = u32::MAX - 1;

/// How long a write waits for a draft to be stored before it goes beside: long enough for small
/// files on a good line, and shorter than anybody who waits for the page notices.
pub(super) const MOMENT: Duration = Duration::from_millis(500);

/// How often it is looked whether a draft is about to be sent, of which nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How much is brought down at once, in bytes.
const PIECE: u64 = 4 << 20;

const _: () = assert!(OVER > LARGEST);

/// What was written to a draft while nothing may change it.
#[derive(Debug, Default)]
pub(crate) struct Over {
    /// The state that is being stored or held, for as long as that goes on.
    under: Option<Box<Record>>,
    /// What the journal has as the draft's record: the last state that was promised, or was being
    /// stored. With it, what came since is a part beside it.
    main: Option<Box<Record>>,
    /// What was closed and promised, if only a copy of it keeps the promise: with
    /// write-back, and where attributes wait.
    closed: Option<Box<Record>>,
    /// The map that the journal has.
    journalled: Extents,
}

/// What became of a write.
pub(super) enum Written {
    Done,
    /// The draft was about to be stored, or kept: once more.
    Again,
    /// What was written beside it has to be brought down first.
    Settle,
    /// It has to wait until the draft is stored after all.
    NotNow,
}

fn is_over(piece: &Piece) -> bool {
    piece.from.is_some_and(is_beside)
}

/// Whether bytes with this origin lie there.
pub(super) fn is_beside(from: Origin) -> bool {
    matches!(from, Origin::Remote { source, .. } if source == IN_OVER)
}

/// Whether a map has such bytes.
pub(super) fn has_beside(map: &Extents) -> bool {
    map.pieces(0..map.size()).iter().any(is_over)
}

/// Where a range is kept.
fn over(range: &Range<u64>) -> Range<u64> {
    OVER + range.start..OVER + range.end
}

/// How many bytes of a file's own there may be in a spool file of this length, as far as that
/// tells: `None` if others lie behind them.
pub(super) fn own_length(length: u64) -> Option<u64> {
    (length <= OVER).then_some(length)
}

impl State {
    /// The map of what is being stored; of all that was written otherwise.
    pub(super) fn stable(&self) -> &Extents {
        let under = self.over.as_ref().and_then(|over| over.under.as_ref());
        under.map_or(&self.content, |under| &under.content)
    }

    /// The bytes that nobody has any more of what is being stored.
    pub(super) fn stable_lost(&self) -> &Extents {
        let under = self.over.as_ref().and_then(|over| over.under.as_ref());
        under.map_or(&self.lost, |under| &under.lost)
    }

    /// What the journal keeps of it: the state that is being stored, or was to be, and the state
    /// since then if that is another.
    pub(super) fn records(&self) -> (Record, Option<Record>) {
        let main = self.over.as_ref().and_then(|over| over.main.as_ref());
        let Some(main) = main else {
            return (self.record(), None);
        };
        let since = self.record();
        let main = Record {
            key: since.key.clone(),
            sources: since.sources.clone(),
            base: since.base.clone(),
            kept: since.kept.clone(),
            aside: since.aside,
            nonce: since.nonce.clone(),
            upload: since.upload.clone(),
            ..(**main).clone()
        };
        (main, Some(since))
    }

    /// Whether bytes wait to be brought down.
    pub(super) fn has_over(&self) -> bool {
        self.over.is_some() || has_beside(&self.content)
    }

    /// Nothing is being stored any more.
    pub(super) fn landed(&mut self) {
        self.flight = None;
        self.frozen = None;
        if let Some(over) = &mut self.over {
            over.under = None;
        }
    }

    /// What it is now is about to be promised.
    pub(super) fn promises(&mut self) {
        let record = self.over.is_some().then(|| Box::new(self.record()));
        if let Some(over) = &mut self.over {
            over.main = record;
        }
    }

    /// It is promised, and the promise before with it.
    pub(super) fn promised(&mut self) {
        if let Some(over) = &mut self.over {
            over.closed = None;
        }
    }

    /// It is to be stored as a whole, under another name.
    pub(super) fn needs_all(&mut self) {
        self.delta = Self::whole(&self.content);
        for record in self.records_under() {
            record.delta = Self::whole(&record.content);
        }
    }

    /// What was promised up to a change is stored.
    pub(super) fn promise_kept(&mut self, upto: u64) {
        if let Some(over) = &mut self.over {
            over.closed.take_if(|closed| closed.version <= upto);
            over.main.take_if(|main| main.version <= upto);
        }
    }

    /// Bytes of an object have been fetched to their place in the spool file. What was changed
    /// meanwhile stays changed.
    pub(super) fn fetched(&mut self, range: &Range<u64>, from: Origin) {
        for map in self.maps() {
            for piece in map.pieces(range.clone()) {
                if piece.from == Some(from.skip(piece.range.start - range.start)) {
                    map.put(piece.range, Origin::Local);
                }
            }
        }
    }

    /// Bytes of an object are gone: zeros are in their place, but for what was changed since.
    pub(super) fn lose(&mut self, range: &Range<u64>) {
        for map in self.maps() {
            for piece in map.pieces(range.clone()) {
                if matches!(piece.from, Some(Origin::Remote { .. })) && !is_over(&piece) {
                    map.zero(piece.range);
                }
            }
        }
        let kept: Vec<Range<u64>> = {
            let pieces = self.content.pieces(range.clone()).into_iter();
            pieces
                .filter(|piece| !is_over(piece))
                .map(|piece| piece.range)
                .collect()
        };
        for range in kept {
            self.lost.put(range, Origin::Local);
        }
        for under in self.records_under() {
            under.lost.put(range.clone(), Origin::Local);
        }
    }

    /// The file ends where its last bytes are.
    pub(super) fn end_with_the_last(&mut self) {
        for map in self.maps() {
            let pieces = map.pieces(0..map.size());
            let last = pieces.iter().rev().find(|piece| piece.from.is_some());
            map.set_size(last.map_or(0, |piece| piece.range.end));
        }
    }

    fn maps(&mut self) -> impl Iterator<Item = &mut Extents> {
        let over = self.over.iter_mut();
        let records = over.flat_map(|over| [&mut over.under, &mut over.main].into_iter().flatten());
        std::iter::once(&mut self.content).chain(records.map(|record| &mut record.content))
    }

    fn records_under(&mut self) -> impl Iterator<Item = &mut Box<Record>> {
        let over = self.over.iter_mut();
        over.flat_map(|over| [&mut over.under, &mut over.main].into_iter().flatten())
    }

    /// All of it, wherever its bytes are, as it is to be sent; holes are holes.
    pub(super) fn whole(map: &Extents) -> Extents {
        let mut whole = Extents::new();
        for piece in map.pieces(0..map.size()) {
            if let Some(from) = piece.from {
                let there = if is_beside(from) { Origin::Local } else { from };
                whole.put(piece.range, there);
            }
        }
        whole.set_size(map.size());
        whole
    }

    /// What was being stored is an object of this size now, and the only source.
    pub(super) fn rest_on(&mut self, size: u64) {
        for map in self.maps() {
            for piece in map.pieces(0..map.size()) {
                if matches!(piece.from, Some(Origin::Remote { .. })) && !is_over(&piece) {
                    let (source, offset) = (0, piece.range.start);
                    map.put(piece.range, Origin::Remote { source, offset });
                }
            }
        }
        let delta_of = |content: &Extents| {
            let mut delta = Extents::of_object(0, size);
            let pieces = content.pieces(0..content.size());
            if pieces.iter().any(is_over) {
                delta.set_size(content.size());
            }
            for piece in pieces.into_iter().filter(is_over) {
                delta.put(piece.range, Origin::Local);
            }
            delta
        };
        self.delta = delta_of(&self.content);
        for record in self.records_under() {
            record.delta = delta_of(&record.content);
        }
    }
}

impl Draft {
    /// Waits until it can be written to, at its place or beside: for S3 no longer than a moment.
    pub(super) async fn until_writable(&self) {
        let deadline = Instant::now() + MOMENT;
        loop {
            let (mut flight, frozen, begun) = {
                let state = self.state();
                let Some(flight) = state.flight.clone() else {
                    return;
                };
                let begun = state.over.as_ref().is_some_and(|over| over.under.is_some());
                (flight, state.frozen.is_some(), begun)
            };
            if frozen && (begun || Instant::now() >= deadline) {
                return;
            }
            // Until it is frozen, only the local disk is waited for.
            let soon = Instant::now() + LOOK_AGAIN;
            let until = if frozen { deadline.max(soon) } else { soon };
            let _ = tokio::time::timeout_at(until, flight.wait_for(Option::is_some)).await;
        }
    }
}

impl FileSystem {
    /// Writes beside what is being stored. Blocks on the local disk.
    pub(super) fn write_over(
        &self,
        draft: &Draft,
        state: &mut State,
        at: u64,
        data: &[u8],
    ) -> Result<Written, FsError> {
        let range = at..at + data.len() as u64;
        if range.is_empty() {
            return Ok(Written::Done);
        }
        // Bytes that have left a full spool cannot be had before all of it is stored.
        if state.needs_upload() || !self.spool()?.takes_far() {
            return Ok(Written::NotNow);
        }
        let record = Box::new(state.record());
        let mut promised = self.is_to_be_kept(state);
        if promised && has_beside(&state.content) {
            // What was promised lies beside already, where this goes or what follows. With the lock:
            // nothing of it may be brought down meanwhile.
            state.before = Some(self.keep_copy(draft, &record)?);
            promised = false;
        }
        // Before the first byte: the spool file's length says nothing of the draft's own from here on.
        let over = state.over.get_or_insert_default();
        match draft.file.write_at(OVER + at, data) {
            Err(SpoolError::Full(_)) => {
                self.spool()?.sweep()?;
                draft.file.write_at(OVER + at, data)?;
            }
            written => written?,
        }
        if promised {
            over.closed = Some(record.clone());
        }
        over.main.get_or_insert_with(|| record.clone());
        over.under.get_or_insert(record);
        let from = Origin::Remote {
            source: IN_OVER,
            offset: at,
        };
        state.content.put(range.clone(), from);
        state.delta.put(range.clone(), Origin::Local);
        state.lost.zero(range);
        state.bytes_changed();
        state.closed = false;
        self.journal_since(draft, state)
    }

    /// Tells the journal what was written since, as far as it does not know.
    fn journal_since(&self, draft: &Draft, state: &mut State) -> Result<Written, FsError> {
        let is_known = state.over.as_ref().is_none_or(|over| {
            let (now, before) = (state.content.count(), over.journalled.count());
            let is_slow = now > JOURNALLED && before > 0 && now < before * 2;
            is_slow || over.journalled == state.content
        });
        if !is_known && state.fate == Fate::Named {
            self.spool()?.put_part(draft.id, SINCE, &state.record())?;
            let journalled = state.content.clone();
            if let Some(over) = &mut state.over {
                over.journalled = journalled;
            }
        }
        Ok(Written::Done)
    }

    /// Brings what was written beside down to its place, while nobody changes or stores the draft.
    pub(super) async fn bring_down(self: &Arc<Self>, draft: &Arc<Draft>) -> Result<(), FsError> {
        if !draft.state().has_over() {
            return Ok(());
        }
        let (fs, draft) = (Arc::clone(self), Arc::clone(draft));
        blocking(move || fs.bring_down_now(&draft)).await?
    }

    /// The same for a draft that may be in use.
    pub(super) async fn settle(self: &Arc<Self>, draft: &Arc<Draft>) -> Result<(), FsError> {
        if !draft.state().has_over() {
            return Ok(());
        }
        let held = draft.hold().await;
        let settled = self.bring_down(draft).await;
        drop(held);
        settled
    }

    fn bring_down_now(&self, draft: &Draft) -> Result<(), FsError> {
        let promised = draft
            .state()
            .over
            .as_mut()
            .and_then(|over| over.closed.take());
        if let Some(promised) = promised {
            let copy = self.keep_copy(draft, &promised);
            let mut state = draft.state();
            match copy {
                Ok(copy) => state.before = Some(copy),
                Err(error) => {
                    if let Some(over) = &mut state.over {
                        over.closed = Some(promised);
                    }
                    return Err(error);
                }
            }
        }
        {
            // On the disk before a byte changes: half of the change would be stored otherwise.
            let mut state = draft.state();
            if let Some(over) = &mut state.over {
                (over.under, over.main) = (None, None);
            }
            self.journal(draft, &mut state)?;
            if state.fate == Fate::Named {
                self.spool()?.put_part(draft.id, SINCE, &())?;
                self.spool()?.sync(None)?;
            }
        }
        while self.bring_one_down(draft)? {}
        let mut state = draft.state();
        self.journal(draft, &mut state)?;
        state.over = None;
        // The journal speaks of none of them any more.
        let size = state.size();
        Ok(draft.file.set_len(size)?)
    }

    fn bring_one_down(&self, draft: &Draft) -> Result<bool, FsError> {
        let mut state = draft.state();
        let whole = 0..state.size();
        let Some(piece) = state.content.pieces(whole).into_iter().find(is_over) else {
            return Ok(false);
        };
        let range = piece.range.start..piece.range.end.min(piece.range.start + PIECE);
        self.forget_sent(draft, &mut state, &range)?;
        let bytes = read(&draft.file, &over(&range))?;
        draft.file.write_at(range.start, &bytes)?;
        state.content.put(range, Origin::Local);
        state.moves += 1;
        Ok(true)
    }

    /// Makes a draft of what a crash has left of a state that was never closed, beside the one
    /// that was: with the bytes of both.
    pub(super) fn part_from(
        &self,
        file: &SpoolFile,
        since: Record,
    ) -> Result<(u64, SpoolFile, Record), FsError> {
        let since = Record {
            closed: false,
            upload: None,
            ..since
        };
        // Without its bytes it counts for nothing.
        let not_yet = Record {
            dirty: false,
            ..since.clone()
        };
        let spool = self.spool()?;
        let (id, copy) = spool.create(&Kept::File(Box::new(not_yet)))?;
        let kept = || {
            file.copy_to(&copy)?;
            spool.sync(Some(&copy))?;
            spool.put(id, &Kept::File(Box::new(since.clone())))
        };
        if let Err(error) = kept() {
            self.throw_out(id);
            return Err(error.into());
        }
        Ok((id, copy, since))
    }
}

/// Reads what lies beside; what is a hole there is zeros.
pub(super) fn read(file: &SpoolFile, range: &Range<u64>) -> Result<Vec<u8>, SpoolError> {
    let length = usize::try_from(range.end - range.start).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_at(range.start, &mut bytes)?;
    Ok(bytes)
}

/// Where bytes beside are read.
pub(super) fn beside(offset: u64) -> u64 {
    OVER + offset
}
