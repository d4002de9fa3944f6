//! Sending a draft: as one PUT, as a copy, or in parts.
//!
//! What S3 has acknowledged is journalled, so that another session, and another run of the
//! program, go on where this one stopped. An upload is only ever thrown away by its id, and the
//! ids are those in this journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use md5::{Digest, Md5};

use super::draft::{Acknowledged, Draft, Fate, SINGLE, Upload};
use super::extents::Extents;
use super::file::Remote;
use super::plan::{Job, LARGEST_PART, Part, plan, reach, streamed};
use super::snapshot::Snapshot;
use super::{FileSystem, FsError, blocking};
use crate::auth::Asker;
use crate::store::StoreError;
use crate::store::copying::Place;
use crate::store::metadata::Metadata;
use crate::store::support::{Ability, MOST_PARTS};
use crate::store::write::{Payload, Source, Stored};

/// How many parts of one file are sent at once.
pub(super) const AT_ONCE: usize = 4;

/// How much one server-side copy takes at most, so that several can run side by side.
const COPIED_AT_ONCE: u64 = 512 << 20;

/// How much of a file is read at once to compute its digest.
const CHUNK: usize = 256 << 10;

impl FileSystem {
    /// Sends a snapshot under its condition. Returns the tag of what is stored now.
    pub(super) async fn send(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
    ) -> Result<String, FsError> {
        self.ahead_is_done(draft).await;
        // What has left the spool is in the parts, and nowhere else.
        let is_needed = draft.state().needs_upload();
        let mut copies = self.bucket.support().copies;
        if copies == Ability::Untried
            && let Some(source) = copied(snapshot)
        {
            // With a session, the store can be tried.
            let _ = self.bucket.head(asker, &source.key).await;
            copies = self.bucket.find_out().await.copies;
        }
        let source = copied(snapshot).filter(|source| match copies {
            // A store that overlooks what is to be copied would leave nothing of a copy onto itself.
            Ability::Untried => source.key != snapshot.key,
            copies => copies == Ability::Yes,
        });
        let source = source.filter(|_| !snapshot.carried);
        let in_parts = source.is_none() && (snapshot.delta.size() > SINGLE || is_needed);
        let unused = if in_parts {
            None
        } else {
            draft.state().upload.take()
        };
        if let Some(unused) = unused {
            self.throw_away(&unused);
        }
        if let Some(source) = source {
            let (header, condition) = (snapshot.header(), snapshot.condition());
            let bucket = &self.bucket;
            draft.state().asked = true;
            let copied = bucket.copy(asker, &source, &snapshot.key, &header, &condition);
            return Ok(copied.await?);
        }
        let size = snapshot.delta.size();
        make_long(draft, size).await?;
        if !in_parts {
            let lent = self.lend(asker, draft, 0..size).await?;
            let payload = payload(draft, 0..size).await?;
            let (header, condition) = (snapshot.header(), snapshot.condition());
            let bucket = &self.bucket;
            self.upload_limit.take(size).await;
            draft.state().asked = true;
            let put = bucket.put(asker, &snapshot.key, &payload, &header, &condition);
            let put = put.await;
            self.give_back(draft, lent).await;
            return Ok(put?);
        }
        self.send_in_parts(asker, draft, snapshot).await
    }

    async fn send_in_parts(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
    ) -> Result<String, FsError> {
        let upload = self.upload_for(asker, draft, snapshot).await?;
        let parts = match upload.part_size {
            Some(part_size) => all_streamed(part_size, upload.most, snapshot.delta.size()),
            None => {
                let carries = snapshot.carried || self.bucket.support().part_copies == Ability::No;
                let copy_size = (!carries).then_some(COPIED_AT_ONCE);
                plan(&snapshot.delta, self.budget.part, copy_size, upload.most)
                    .map_err(|_| FsError::TooLarge)?
            }
        };
        let stored: BTreeMap<i32, String> = stream::iter(parts)
            .map(|part| {
                let (fs, upload) = (Arc::clone(self), upload.clone());
                let (draft, snapshot) = (Arc::clone(draft), snapshot.clone());
                let asker = *asker;
                async move { fs.part(&asker, &draft, &snapshot, &upload, part).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let stored: Vec<Stored> = stored
            .into_iter()
            .map(|(number, etag)| Stored { number, etag })
            .collect();
        {
            let mut state = draft.state();
            if let Some(upload) = &mut state.upload {
                upload.completing = Some(snapshot.version);
            }
            state.asked = true;
            self.journal(draft, &mut state)?;
        }
        let condition = snapshot.condition();
        let bucket = &self.bucket;
        let done = bucket.complete(asker, &snapshot.key, &upload.id, &stored, &condition);
        let etag = done.await?;
        self.is_complete(asker, draft, snapshot, &upload, etag)
            .await
    }

    /// The parts are an object now, with the attributes that the file had when the first was
    /// sent. If others were set since, the object is copied onto itself with those.
    pub(super) async fn is_complete(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
        upload: &Upload,
        etag: String,
    ) -> Result<String, FsError> {
        let object = Snapshot {
            posix: upload.posix.clone(),
            ..snapshot.clone()
        };
        let object = object.object(etag.clone());
        let timed = {
            let mut state = draft.state();
            state.base = Some(object.clone());
            state.upload = None;
            state.timed
        };
        if !differs(&upload.posix, &snapshot.posix, timed) {
            draft.state().stored_as = Some(upload.posix.clone());
            return Ok(etag);
        }
        // Whatever becomes of the copy: the bytes are there.
        self.is_made_of(draft, &snapshot.key, &object);
        self.journal(draft, &mut draft.state())?;
        let remote = Remote::apart(snapshot.key.clone(), object.clone());
        let mut again = Snapshot {
            delta: Extents::of_object(0, object.size),
            sources: vec![Arc::new(remote)],
            base: Some(object),
            ..snapshot.clone()
        };
        loop {
            match Box::pin(self.send(asker, draft, &again)).await {
                Err(FsError::Store(StoreError::Unsupported(_))) if !again.carried => {
                    self.plan_anew(draft);
                    again.carried = true;
                }
                outcome => return outcome,
            }
        }
    }

    /// The upload that sends this snapshot: the one that was begun for it, or a new one.
    async fn upload_for(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
    ) -> Result<Upload, FsError> {
        let begun = draft.state().upload.clone();
        if let Some(begun) = begun {
            let most = self.bucket.support().parts.unwrap_or(MOST_PARTS);
            let is_for_this = begun.most <= most
                && match begun.part_size {
                    Some(part_size) => {
                        snapshot.delta.remote_bytes() == 0
                            && snapshot.delta.size() <= reach(part_size, begun.most)
                    }
                    None => begun.version == snapshot.version,
                };
            // One that may have been put together already takes nothing more.
            let is_open = begun
                .completing
                .is_none_or(|version| version == snapshot.version);
            let is_needed = draft.state().needs_upload();
            if (is_for_this && is_open || is_needed) && begun.key == snapshot.key {
                return Ok(begun);
            }
            self.throw_away(&begun);
            draft.state().upload = None;
        }
        self.begin_upload(asker, draft, snapshot, None).await
    }

    /// Begins an upload, and notes its id. That goes on to its end when nobody waits for it any more:
    /// an upload whose id is not known could never be thrown away.
    pub(super) async fn begin_upload(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
        part_size: Option<u64>,
    ) -> Result<Upload, FsError> {
        let (fs, draft, asker) = (Arc::clone(self), Arc::clone(draft), *asker);
        let snapshot = snapshot.clone();
        let begun = tokio::spawn(async move {
            let (key, header) = (snapshot.key.clone(), snapshot.header());
            let most = match part_size {
                // Before a single byte can leave the spool: in an upload that turned out to be too
                // short, it would be lost.
                Some(_) => fs.bucket.find_most_parts(&asker, &key).await?,
                None => fs.bucket.support().parts.unwrap_or(MOST_PARTS),
            };
            let id = fs.bucket.begin_upload(&asker, &key, &header).await?;
            let upload = Upload {
                id,
                key,
                version: snapshot.version,
                part_size,
                most,
                mark: snapshot.mark(),
                posix: snapshot.posix,
                completing: None,
                parts: BTreeMap::new(),
            };
            let mut state = draft.state();
            let is_of_now = match part_size {
                Some(_) => state.key == upload.key,
                // Something may have been written beside it already.
                None => state.frozen.unwrap_or(state.version) == upload.version,
            };
            if state.fate != Fate::Named || state.upload.is_some() || !is_of_now {
                drop(state);
                fs.throw_away(&upload);
                return Err(FsError::GivenUp);
            }
            state.upload = Some(upload.clone());
            fs.journal(&draft, &mut state)?;
            Ok(upload)
        });
        let ended = |error| FsError::Spool(format!("beginning an upload ended: {error}"));
        begun.await.map_err(ended)?
    }

    /// Sends or copies one part, unless S3 has it already. Returns its number and tag.
    async fn part(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
        upload: &Upload,
        part: Part,
    ) -> Result<(i32, String), FsError> {
        let acknowledged = {
            let state = draft.state();
            let known = state
                .upload
                .as_ref()
                .and_then(|u| u.parts.get(&part.number));
            known.cloned()
        };
        if let Some(known) = acknowledged
            && (known.start, known.end) == (part.range.start, part.range.end)
            && known.upload == upload.id
        {
            return Ok((part.number, known.etag));
        }
        let key = &upload.key;
        let etag = match part.job {
            Job::Copy { source, offset } => {
                let source = snapshot.sources.get(source as usize);
                let source = source.ok_or(FsError::BadHandle)?;
                let range = offset..offset + (part.range.end - part.range.start);
                let source = source.source();
                let place = Place {
                    key,
                    upload: &upload.id,
                    number: part.number,
                };
                let copy = self.bucket.copy_part(asker, place, &source, &range);
                copy.await?
            }
            Job::Upload => {
                let range = part.range.clone();
                let lent = self.lend(asker, draft, range.clone()).await?;
                let payload = payload(draft, range.clone()).await?;
                self.upload_limit.take(range.end - range.start).await;
                let bucket = &self.bucket;
                let put = bucket.put_part(asker, key, &upload.id, part.number, &payload);
                let put = put.await;
                self.give_back(draft, lent).await;
                put?
            }
        };
        let known = Acknowledged {
            start: part.range.start,
            end: part.range.end,
            etag: etag.clone(),
            upload: upload.id.clone(),
        };
        let number = u32::try_from(part.number).unwrap_or_default();
        self.spool()?.put_part(draft.id, number, &known)?;
        if let Some(upload) = &mut draft.state().upload {
            upload.parts.insert(part.number, known);
        }
        Ok((part.number, etag))
    }
}

/// The parts of a whole file that was sent ahead.
fn all_streamed(part_size: u64, most: u32, size: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut number = 1;
    loop {
        let range = streamed(part_size, most, number);
        if range.start >= size {
            return parts;
        }
        parts.push(Part {
            number,
            range: range.start..range.end.min(size),
            job: Job::Upload,
        });
        number += 1;
    }
}

/// Whether attributes that somebody has set are not those that were sent. The moments at which
/// the file was changed meanwhile are not among them, unless somebody has set one.
fn differs(sent: &Metadata, wanted: &Metadata, timed: bool) -> bool {
    let set = |posix: &Metadata| Metadata {
        ctime: None,
        mtime: posix.mtime.filter(|_| timed),
        atime: posix.atime.filter(|_| timed),
        nonce: None,
        ..posix.clone()
    };
    set(sent) != set(wanted)
}

/// The object of which a snapshot is an unchanged copy, if S3 can copy that at once.
pub(super) fn copied(snapshot: &Snapshot) -> Option<Source> {
    let size_of = |source: u32| {
        let source = snapshot.sources.get(source as usize)?;
        Some(source.object.size)
    };
    let index = snapshot.delta.is_whole_source(size_of)?;
    let source = snapshot.sources.get(index as usize)?;
    let fits = source.object.size <= LARGEST_PART && source.object.size > 0;
    fits.then(|| source.source())
}

/// Makes a draft's spool file as long as what is sent of it: the SDK reads it by itself, and takes
/// no end that is a hole for granted. Once for all parts, before bytes are fetched into any of
/// them: there is no way to make a file longer that cannot cut off what somebody else just wrote.
async fn make_long(draft: &Arc<Draft>, size: u64) -> Result<(), FsError> {
    let draft = Arc::clone(draft);
    let reached = blocking(move || {
        // Whoever wanted it may have given up since, and others have changed the file.
        let state = draft.state();
        if draft.file.len()? < size && state.size() >= size {
            draft.file.set_len(size)?;
        }
        Ok(())
    });
    reached.await?
}

/// A range of a draft's spool file with its digest.
pub(super) async fn payload(
    draft: &Arc<Draft>,
    range: std::ops::Range<u64>,
) -> Result<Payload, FsError> {
    let file = Arc::clone(&draft.file);
    let path = file.path().to_owned();
    let wanted = range.clone();
    let md5 = blocking(move || {
        let mut digest = Md5::new();
        let mut chunk = vec![0; CHUNK];
        let mut at = wanted.start;
        while at < wanted.end {
            let length = usize::try_from(wanted.end - at).unwrap_or(CHUNK).min(CHUNK);
            let read = file.read_at(at, &mut chunk[..length])?;
            if read == 0 {
                break;
            }
            digest.update(&chunk[..read]);
            at += read as u64;
        }
        Ok::<[u8; 16], FsError>(digest.finalize().into())
    });
    if range.is_empty() {
        return Ok(Payload::Bytes(bytes::Bytes::new()));
    }
    Ok(Payload::File {
        path,
        range,
        md5: md5.await??,
    })
}

/// Whether storing may work later, without anybody doing anything.
pub(super) fn may_pass(error: &FsError) -> bool {
    matches!(error, FsError::Store(error) if passes(error))
}

/// Whether a request may work later, without anybody doing anything.
pub(super) fn passes(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Session(_) | StoreError::Busy(_) | StoreError::Unreachable { .. }
    )
}
