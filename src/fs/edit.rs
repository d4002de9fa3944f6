//! Reading and changing the bytes of a draft.

use std::ops::Range;
use std::sync::Arc;

use super::draft::{Draft, Fate, Held, Record, State};
use super::extents::{From as Origin, Piece};
use super::over::{self, IN_OVER, Written};
use super::pages::PAGE;
use super::plan::LARGEST;
use super::recover::Kept;
use super::stream_out::IN_UPLOAD;
use super::{Caller, FileSystem, FsError, blocking};
use crate::auth::Asker;
use crate::store::StoreError;

/// How often bytes are read again that have moved meanwhile.
const LOOKS: u32 = 1000;

impl Draft {
    /// Writes bytes of an object to their place, where they still are what is wanted there. If they
    /// stay, they are the draft's own from then on.
    pub(super) fn take_in(
        &self,
        at: u64,
        bytes: &[u8],
        from: Origin,
        stays: bool,
    ) -> Result<(), FsError> {
        // Locked over the write, or somebody's newer bytes could be overwritten.
        let mut state = self.state();
        let range = at..at + bytes.len() as u64;
        for piece in state.stable().pieces(range.clone()) {
            let skipped = piece.range.start - at;
            if piece.from == Some(from.skip(skipped)) {
                let end = usize::try_from(piece.range.end - at).unwrap_or(bytes.len());
                let start = usize::try_from(skipped).unwrap_or(end);
                self.file.write_at(piece.range.start, &bytes[start..end])?;
            }
        }
        if stays {
            state.fetched(&range, from);
        }
        Ok(())
    }
}

/// Whether a piece that was in an object is in the spool by now. The draft may have come to own it
/// meanwhile: somebody else has fetched it to stay.
fn is_fetched(before: &Piece, now: Vec<Piece>, stays: bool) -> bool {
    let Some(from) = before
        .from
        .filter(|from| matches!(from, Origin::Remote { .. }))
    else {
        return true;
    };
    let mut now = now.iter();
    now.all(|piece| match piece.from {
        Some(Origin::Local) => true,
        // Cut off, or overwritten with zeros: only while it is not being stored.
        None => stays,
        Some(now) if stays => over::is_beside(now),
        Some(now) => now == from.skip(piece.range.start - before.range.start),
    })
}

impl FileSystem {
    /// Fetches what a range needs of remote objects into the spool: from then on it is the draft's
    /// own.
    pub(super) async fn hydrate(
        &self,
        asker: &Asker,
        draft: &Arc<Draft>,
        range: Range<u64>,
    ) -> Result<(), FsError> {
        self.fetch_into(asker, draft, range, true).await
    }

    /// Fetches what a range needs of remote objects into the spool. Unless it `stays`, it goes on
    /// counting as remote: see [`super::carry`].
    pub(super) async fn fetch_into(
        &self,
        asker: &Asker,
        draft: &Arc<Draft>,
        range: Range<u64>,
        stays: bool,
    ) -> Result<(), FsError> {
        let pieces = draft.state().stable().pieces(range.clone());
        let before = pieces.clone();
        for Piece { range, from } in pieces {
            let Some(Origin::Remote { source, offset }) = from else {
                continue;
            };
            if source == IN_UPLOAD {
                return Err(sent());
            }
            if source == IN_OVER {
                continue;
            }
            let remote = draft.state().sources.get(source as usize).cloned();
            let remote = remote.ok_or(FsError::BadHandle)?;
            let mut at = range.start;
            while at < range.end {
                let there = offset + (at - range.start);
                let end = range.end.min(at + (PAGE - there % PAGE));
                let upto = there + (end - at);
                self.read_ahead(&remote, there..upto);
                let page = self.page(asker, &remote, there..upto).await?;
                let base = there / PAGE * PAGE;
                let bytes = page.with(there - base, upto - base, bytes::Bytes::copy_from_slice);
                drop(page);
                let (draft, from) = (
                    Arc::clone(draft),
                    Origin::Remote {
                        source,
                        offset: there,
                    },
                );
                blocking(move || draft.take_in(at, &bytes, from, stays)).await??;
                at = end;
            }
        }
        // What it was made of may have been replaced meanwhile: nothing is sent that is not here.
        let is_here = {
            let state = draft.state();
            let now = |piece: &Piece| state.stable().pieces(piece.range.clone());
            before
                .iter()
                .all(|piece| is_fetched(piece, now(piece), stays))
        };
        match is_here {
            true => Ok(()),
            false => Err(StoreError::Changed.into()),
        }
    }

    /// Reads from a draft. Fewer bytes than asked for mean its end.
    pub(super) async fn read_draft(
        &self,
        asker: &Asker,
        draft: &Arc<Draft>,
        range: Range<u64>,
    ) -> Result<Vec<u8>, FsError> {
        for _ in 0..LOOKS {
            let moves = draft.state().moves;
            let read = self.read_pieces(asker, draft, range.clone()).await;
            // What has been brought to another place meanwhile may read as zeros at the one before.
            if draft.state().moves == moves {
                return read;
            }
        }
        let text = "the bytes of a file that is being stored do not come to rest";
        Err(StoreError::Busy(text.to_owned()).into())
    }

    async fn read_pieces(
        &self,
        asker: &Asker,
        draft: &Arc<Draft>,
        range: Range<u64>,
    ) -> Result<Vec<u8>, FsError> {
        let (pieces, sources) = {
            let state = draft.state();
            let end = range.end.min(state.size());
            if state.is_lost(range.start.min(end)..end) {
                return Err(StoreError::Changed.into());
            }
            let pieces = state.content.pieces(range.start.min(end)..end);
            (pieces, state.sources.clone())
        };
        let mut bytes = Vec::new();
        for Piece { range, from } in pieces {
            let length = usize::try_from(range.end - range.start).unwrap_or(0);
            match from {
                None => bytes.resize(bytes.len() + length, 0),
                Some(Origin::Local) => {
                    let file = Arc::clone(&draft.file);
                    let part = blocking(move || {
                        let mut part = vec![0; length];
                        // Beyond the spool file's end there are zeros.
                        file.read_at(range.start, &mut part).map(|_| part)
                    });
                    bytes.extend_from_slice(&part.await??);
                }
                Some(Origin::Remote { source, .. }) if source == IN_UPLOAD => return Err(sent()),
                Some(Origin::Remote { source, offset }) if source == IN_OVER => {
                    let (file, start) = (Arc::clone(&draft.file), over::beside(offset));
                    let beside = start..start + (range.end - range.start);
                    let part = blocking(move || over::read(&file, &beside));
                    bytes.extend_from_slice(&part.await??);
                }
                Some(Origin::Remote { source, offset }) => {
                    let remote = sources.get(source as usize).ok_or(FsError::BadHandle)?;
                    let range = offset..offset + (range.end - range.start);
                    bytes.extend_from_slice(&self.gather(asker, remote, range).await?);
                }
            }
        }
        Ok(bytes)
    }

    /// Writes into an open file. Returns how many bytes: all of them. `at_end` writes behind
    /// whatever the file's end is then.
    pub(crate) async fn write(
        self: &Arc<Self>,
        asker: &Asker,
        caller: Caller,
        handle: u64,
        offset: u64,
        data: Vec<u8>,
        at_end: bool,
    ) -> Result<u32, FsError> {
        let file = self.files.lock().get(handle)?;
        file.is_used_by(caller);
        let length = u32::try_from(data.len()).map_err(|_| FsError::TooLarge)?;
        let draft = self.attach(asker, &file, false).await?;
        let data = Arc::new(data);
        loop {
            self.keep_closed(&draft).await?;
            draft.until_writable().await;
            let (fs, data) = (Arc::clone(self), Arc::clone(&data));
            let changed = Arc::clone(&draft);
            let written = blocking(move || {
                let draft = changed;
                let mut state = draft.state();
                let at = if at_end { state.size() } else { offset };
                let end = at.saturating_add(data.len() as u64);
                if end > LARGEST {
                    return Err(FsError::TooLarge);
                }
                if state.flight.is_some() && state.frozen.is_some() {
                    return fs.write_over(&draft, &mut state, at, &data);
                }
                // It may have begun to be stored just now, or have been closed.
                if state.flight.is_some() || fs.is_to_be_kept(&state) {
                    return Ok(Written::Again);
                }
                if state.over.is_some() {
                    // What was promised before must not change under it.
                    return Ok(Written::Settle);
                }
                fs.forget_sent(&draft, &mut state, &(at..end))?;
                // The journal must know at once that there is something to be kept.
                let is_first = !state.dirty;
                let was_closed = fs.reopen(&draft, &mut state)?;
                fs.put_bytes(&draft, &mut state, at, &data)?;
                if end > at {
                    state.content.put(at..end, Origin::Local);
                    state.delta.put(at..end, Origin::Local);
                    state.lost.zero(at..end);
                    state.bytes_changed();
                }
                if was_closed || is_first {
                    fs.journal(&draft, &mut state)?;
                } else {
                    fs.journal_extents(&draft, &mut state)?;
                }
                Ok(Written::Done)
            });
            match written.await?? {
                Written::Done => {
                    self.send_ahead(&draft);
                    return Ok(length);
                }
                Written::Again => {}
                Written::Settle => self.settle(&draft).await?,
                Written::NotNow => draft.edit(|_| ()).await,
            }
        }
    }

    /// Changes the bytes of a draft, as soon as it is not being stored.
    pub(super) async fn change_bytes(
        self: &Arc<Self>,
        draft: &Arc<Draft>,
        change: impl FnOnce(&mut State) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        self.change_bytes_of(draft, None, change).await
    }

    /// The same for a draft that is held by who changes it, if it is.
    async fn change_bytes_of(
        self: &Arc<Self>,
        draft: &Arc<Draft>,
        held: Option<Held>,
        change: impl FnOnce(&mut State) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        if let Some(held) = held {
            self.keep_held(&held).await?;
            self.bring_down(draft).await?;
            let mut state = draft.state();
            self.reopen(draft, &mut state)?;
            return change(&mut state);
        }
        let mut change = Some(change);
        while change.is_some() {
            self.keep_closed(draft).await?;
            self.settle(draft).await?;
            let changed = draft.edit(|state| {
                if self.is_to_be_kept(state) || state.has_over() {
                    return Ok(());
                }
                self.reopen(draft, state)?;
                change.take().map_or(Ok(()), |change| change(state))
            });
            changed.await?;
        }
        Ok(())
    }

    /// Whether what was closed must not be changed before there is a copy of it: with write-back
    /// its closing was promised to last, and so were attributes that wait.
    pub(super) fn is_to_be_kept(&self, state: &State) -> bool {
        (self.budget.write_back || !state.dirty)
            && state.closed
            && state.before.is_none()
            && state.fate == Fate::Named
    }

    /// Makes that copy, which stays in the journal until the next close. Nobody changes the draft
    /// meanwhile, and who only looks at it does not wait.
    async fn keep_closed(self: &Arc<Self>, draft: &Arc<Draft>) -> Result<(), FsError> {
        if !self.is_to_be_kept(&draft.state()) {
            return Ok(());
        }
        // What is being stored stays as it is, and with it the promise.
        let Some(held) = draft.try_hold() else {
            return Ok(());
        };
        self.keep_held(&held).await
    }

    async fn keep_held(self: &Arc<Self>, held: &Held) -> Result<(), FsError> {
        let draft = &held.draft;
        if self.is_to_be_kept(&draft.state()) {
            let (fs, closed) = (Arc::clone(self), Arc::clone(draft));
            let copy = blocking(move || fs.keep_as_closed(&closed)).await??;
            draft.state().before = Some(copy);
        }
        Ok(())
    }

    /// What was closed and is not stored yet is changed again. Returns whether it was closed.
    fn reopen(&self, draft: &Draft, state: &mut State) -> Result<bool, FsError> {
        if !state.closed {
            return Ok(false);
        }
        state.closed = false;
        if state.fate == Fate::Named {
            // On the disk before a byte changes: half of the change would be stored otherwise.
            let mut told = || {
                self.journal(draft, state)?;
                Ok::<_, FsError>(self.spool()?.sync(None)?)
            };
            if let Err(error) = told() {
                state.closed = true;
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Makes a copy of a closed draft. Returns its number in the journal, where it counts only
    /// once all of its bytes are on the disk.
    fn keep_as_closed(&self, draft: &Draft) -> Result<u64, FsError> {
        let closed = draft.state().record();
        self.keep_copy(draft, &closed)
    }

    /// The same of a draft as it was closed, whose bytes are still at their places.
    pub(super) fn keep_copy(&self, draft: &Draft, closed: &Record) -> Result<u64, FsError> {
        let not_yet = Record {
            closed: false,
            dirty: false,
            upload: None,
            ..closed.clone()
        };
        let spool = self.spool()?;
        let (id, file) = spool.create(&Kept::File(Box::new(not_yet)))?;
        let kept = || {
            draft.file.copy_to(&file)?;
            spool.sync(Some(&file))?;
            spool.put(id, &Kept::File(Box::new(closed.clone())))?;
            spool.sync(None)
        };
        if let Err(error) = kept() {
            self.throw_out(id);
            return Err(error.into());
        }
        Ok(id)
    }

    /// Writes into the spool, and makes room for it if that can be had at once.
    fn put_bytes(
        &self,
        draft: &Draft,
        state: &mut State,
        at: u64,
        data: &[u8],
    ) -> Result<(), FsError> {
        let written = match draft.file.write_at(at, data) {
            Err(crate::spool::SpoolError::Full(_)) => {
                self.spool()?.sweep()?;
                self.let_sent_leave(draft, state)?;
                draft.file.write_at(at, data)
            }
            written => written,
        };
        if written.is_err() {
            // Part of it may be there, where zeros are meant.
            let size = state.size();
            if !state.has_over() && draft.file.len()? > size {
                draft.file.set_len(size)?;
            }
            let end = size.min(at + data.len() as u64);
            let pieces = state.content.pieces(at.min(end)..end);
            for hole in pieces.into_iter().filter(|piece| piece.from.is_none()) {
                draft.file.punch(hole.range)?;
            }
        }
        Ok(written?)
    }

    /// Sets the size of a draft.
    pub(super) async fn resize(
        self: &Arc<Self>,
        draft: &Arc<Draft>,
        size: u64,
    ) -> Result<(), FsError> {
        if size > LARGEST {
            return Err(FsError::TooLarge);
        }
        // Nobody wants to have stored what is cut off.
        let is_cut = size < draft.state().size();
        let held = match is_cut {
            true => Some(draft.seize().await),
            false => None,
        };
        let changed = self.change_bytes_of(draft, held, |state| {
            if size == 0
                && let Some(upload) = state.upload.take()
            {
                self.throw_away(&upload);
                draft.useless.send_modify(|count| *count += 1);
            }
            let behind = size.min(state.size())..u64::MAX;
            self.forget_sent(draft, state, &behind)?;
            state.content.set_size(size);
            state.delta.set_size(size);
            state.lost.zero(size..u64::MAX);
            state.bytes_changed();
            // What comes to lie behind the end must read as zeros if the file grows again.
            if draft.file.len()? > size {
                draft.file.set_len(size)?;
            }
            self.journal(draft, state)
        });
        changed.await
    }

    /// Makes a range read as zeros, within the size that the file has.
    pub(super) async fn zero(
        self: &Arc<Self>,
        draft: &Arc<Draft>,
        range: Range<u64>,
    ) -> Result<(), FsError> {
        let changed = self.change_bytes(draft, |state| {
            let range = range.start.min(state.size())..range.end.min(state.size());
            if range.is_empty() {
                return Ok(());
            }
            self.forget_sent(draft, state, &range)?;
            state.content.zero(range.clone());
            state.delta.zero(range.clone());
            state.lost.zero(range.clone());
            draft.file.punch(range)?;
            state.bytes_changed();
            self.journal(draft, state)
        });
        changed.await
    }
}

/// What is said of bytes that are nowhere but in a part of an upload.
fn sent() -> FsError {
    FsError::Spool(
        "the spool was full, and this part of the file has left it: it can be read when the \
         file was closed"
            .to_owned(),
    )
}
