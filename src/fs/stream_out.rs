//! Parts of a large file on their way while it is still being written.
//!
//! Only files that are new or were emptied are sent like that, from their beginning, each part
//! as soon as all of it is written. What is changed afterwards is sent again when the file is
//! closed. Nobody is asked for a code on behalf of a part: it waits for the close.
//!
//! A part that S3 has acknowledged stays in the spool, so that it can be read and changed, until
//! the spool is full: then its bytes leave, and until the file is stored they can be neither.

use std::ops::Range;
use std::sync::Arc;

use super::draft::{Acknowledged, Draft, Fate, SINGLE, State};
use super::extents::{From as Origin, Piece};
use super::plan::{Job, Part, reach, streamed};
use super::snapshot::Snapshot;
use super::upload::{AT_ONCE, payload};
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::StoreError;
use crate::store::support::MOST_PARTS;

/// The source that bytes have which are nowhere but in a part of an upload.
pub(super) const IN_UPLOAD: u32 = u32::MAX;

/// A part that is being sent ahead.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    range: Range<u64>,
    /// It was changed meanwhile, so that what arrives is of no use.
    stale: bool,
}

impl State {
    /// A range is about to change: what was sent of it does not count any more. Returns the
    /// parts that the upload has lost.
    ///
    /// Errors: `ENOSPC` if bytes are needed that have left the spool.
    fn forget_sent(&mut self, range: &Range<u64>) -> Result<Vec<i32>, FsError> {
        let meets = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        for ahead in self.ahead.values_mut() {
            ahead.stale |= meets(&ahead.range);
        }
        let Some(upload) = &mut self.upload else {
            return Ok(Vec::new());
        };
        let touched = |part: &Acknowledged| meets(&(part.start..part.end));
        for part in upload.parts.values().filter(|part| touched(part)) {
            let is_whole = range.start <= part.start && part.end <= range.end;
            let pieces = self.content.pieces(part.start..part.end);
            if !is_whole && pieces.iter().any(is_in_upload) {
                return Err(FsError::NoSpace(
                    "the spool is full, and this part of the file has left it: it can be \
                     changed when the file was closed"
                        .to_owned(),
                ));
            }
        }
        let lost = upload.parts.extract_if(.., |_, part| touched(part));
        Ok(lost.map(|(number, _)| number).collect())
    }

    /// Whether there are bytes that are only in the parts of an upload.
    pub(super) fn needs_upload(&self) -> bool {
        let pieces = self.stable().pieces(0..self.stable().size());
        pieces.iter().any(is_in_upload)
    }

    /// The next part that can be sent ahead.
    fn next_ahead(&mut self, part_size: u64) -> Option<Part> {
        let begun = self.upload.as_ref();
        let begun = begun.map(|upload| (upload.part_size, upload.most));
        let may = self.fate == Fate::Named
            && self.flight.is_none()
            && !self.ahead_denied
            && self.ahead.len() < AT_ONCE
            // The first one begins the upload for all.
            && (begun.is_some() || self.ahead.is_empty())
            && self.content.size() > SINGLE
            && self.delta.remote_bytes() == 0;
        let (part_size, most) = match begun {
            Some((None, _)) => return None,
            Some((Some(begun), most)) => (begun, most),
            // The first part, of which there is always one.
            None => (part_size, MOST_PARTS),
        };
        let number = self.next_ahead;
        let range = streamed(part_size, most, number);
        let is_there = u32::try_from(number).is_ok_and(|number| number <= most)
            && range.end <= self.content.size()
            && self.content.covers_local(range.clone())
            && self.delta.covers_local(range.clone());
        if !may || !is_there {
            return None;
        }
        self.next_ahead += 1;
        let ahead = Ahead {
            range: range.clone(),
            stale: false,
        };
        self.ahead.insert(number, ahead);
        Some(Part {
            number,
            range,
            job: Job::Upload,
        })
    }
}

fn is_in_upload(piece: &Piece) -> bool {
    matches!(piece.from, Some(Origin::Remote { source, .. }) if source == IN_UPLOAD)
}

impl FileSystem {
    /// A range is about to change: what was sent of it does not count any more, not even for the
    /// next mount.
    ///
    /// Errors: `ENOSPC` if bytes are needed that have left the spool.
    pub(super) fn forget_sent(
        &self,
        draft: &Draft,
        state: &mut State,
        range: &Range<u64>,
    ) -> Result<(), FsError> {
        for number in state.forget_sent(range)? {
            let number = u32::try_from(number).unwrap_or_default();
            // What is no part is not taken for one.
            self.spool()?.put_part(draft.id, number, &())?;
        }
        Ok(())
    }

    /// Sends what is complete of a file that is being written.
    pub(super) fn send_ahead(self: &Arc<Self>, draft: &Arc<Draft>) {
        if self.bucket.lease().is_none() || self.is_ending() {
            return;
        }
        let part = draft.state().next_ahead(self.budget.part);
        let Some(part) = part else {
            return;
        };
        let (fs, draft) = (Arc::clone(self), Arc::clone(draft));
        tokio::spawn(async move {
            let number = part.number;
            let outcome = fs.send_one_ahead(&draft, part).await;
            let on = {
                let mut state = draft.state();
                state.ahead.remove(&number);
                if let Err(error) = &outcome {
                    tracing::debug!("{}: part {number} waits ({error})", state.key);
                    // It is sent with the rest; and if that is not allowed, neither is another.
                    let is_given_up = matches!(error, FsError::GivenUp);
                    state.ahead_denied |= !is_given_up && !super::upload::may_pass(error);
                }
                outcome.is_ok()
            };
            draft.ahead.send_modify(|count| *count += 1);
            if on {
                fs.send_ahead(&draft);
            }
        });
    }

    async fn send_one_ahead(
        self: &Arc<Self>,
        draft: &Arc<Draft>,
        part: Part,
    ) -> Result<(), FsError> {
        let nobody = Asker::nobody();
        let begun = draft.state().upload.clone();
        let upload = match begun {
            Some(upload) => upload,
            None => {
                let snapshot = Snapshot::of(&draft.state());
                let part_size = Some(self.budget.part);
                self.begin_upload(&nobody, draft, &snapshot, part_size)
                    .await?
            }
        };
        let payload = payload(draft, part.range.clone()).await?;
        let length = part.range.end - part.range.start;
        let mut useless = draft.useless.subscribe();
        if draft.state().upload.is_none() {
            return Err(FsError::GivenUp);
        }
        let sending = async {
            self.upload_limit.take(length).await;
            let bucket = &self.bucket;
            let sent = bucket.put_part(&nobody, &upload.key, &upload.id, part.number, &payload);
            Ok::<_, FsError>(sent.await?)
        };
        let etag = tokio::select! {
            sent = sending => match sent {
                Err(FsError::Store(error @ StoreError::TooManyParts { .. })) => {
                    // What is known for sure by now, closing the file plans with.
                    self.bucket.learn_most_parts(&error);
                    return Err(error.into());
                }
                sent => sent?,
            },
            _ = useless.changed() => return Err(FsError::GivenUp),
        };
        let known = Acknowledged {
            start: part.range.start,
            end: part.range.end,
            etag,
            upload: upload.id.clone(),
        };
        let mut state = draft.state();
        let is_stale = state
            .ahead
            .get(&part.number)
            .is_none_or(|ahead| ahead.stale);
        let is_it = state.upload.as_ref().is_some_and(|now| now.id == upload.id);
        if is_stale || !is_it {
            return Ok(());
        }
        let number = u32::try_from(part.number).unwrap_or_default();
        self.spool()?.put_part(draft.id, number, &known)?;
        if let Some(upload) = &mut state.upload {
            upload.parts.insert(part.number, known);
        }
        Ok(())
    }

    /// Waits until nothing of a draft is being sent ahead.
    pub(super) async fn ahead_is_done(&self, draft: &Draft) {
        let mut events = draft.ahead.subscribe();
        loop {
            events.borrow_and_update();
            if draft.state().ahead.is_empty() || events.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lets the bytes of acknowledged parts leave the spool. Returns whether there were any.
    pub(super) fn let_sent_leave(&self, draft: &Draft, state: &mut State) -> Result<bool, FsError> {
        let parts: Vec<Range<u64>> = match &state.upload {
            // One that has become too large for its upload is sent in another.
            Some(upload)
                if upload
                    .part_size
                    .is_some_and(|size| state.size() <= reach(size, upload.most)) =>
            {
                upload.parts.values().map(|p| p.start..p.end).collect()
            }
            _ => return Ok(false),
        };
        let mut freed = false;
        for range in parts {
            if !state.content.covers_local(range.clone()) {
                continue;
            }
            let gone = Origin::Remote {
                source: IN_UPLOAD,
                offset: range.start,
            };
            state.content.put(range.clone(), gone);
            state.moves += 1;
            // The journal must not promise bytes that are not there.
            self.journal(draft, state)?;
            draft.file.punch(range)?;
            freed = true;
        }
        Ok(freed)
    }
}
