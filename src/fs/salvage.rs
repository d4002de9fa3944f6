//! What a draft is made of, after somebody else has replaced it: found again as an earlier version of
//! the object, in the cache, or not at all.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::draft::{Draft, State};
use super::extents::{Extents, From as Origin, Piece};
use super::file::Remote;
use super::over::is_beside;
use super::pages::{Blocks, PAGE};
use super::stream_out::IN_UPLOAD;
use super::{FileSystem, FsError, blocking};
use crate::auth::Asker;
use crate::store::StoreError;

/// Under which attribute a file says which of its bytes are not its own: `FIRST-LAST` each, with
/// commas between.
pub(super) const MISSING: &str = "user.s3mfa.missing";

/// How many ranges it names at most.
const NAMED: usize = 16;

impl FileSystem {
    /// Finds what a draft is made of wherever it still is. What is nowhere becomes zeros, of which
    /// the draft knows that they are [lost](State::lost); behind the last byte that is there, the
    /// file ends.
    ///
    /// Only for a draft that is being stored.
    pub(super) async fn salvage(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
    ) -> Result<(), FsError> {
        let mut found: BTreeMap<u32, bool> = BTreeMap::new();
        for (_, source, _) in remote_pieces(&draft.state()) {
            found.insert(source, false);
        }
        for (source, is_there) in &mut found {
            *is_there = self.find_source(asker, draft, *source).await?;
        }
        let pieces = remote_pieces(&draft.state());
        for (range, source, offset) in pieces {
            if !found.get(&source).copied().unwrap_or(false) {
                self.salvage_pages(draft, range, source, offset).await?;
            }
        }
        let mut state = draft.state();
        let gone = remote_pieces(&state);
        let gone = gone
            .into_iter()
            .filter(|(_, source, _)| found.get(source) == Some(&false));
        for (range, ..) in gone.collect::<Vec<_>>() {
            state.lose(&range);
        }
        if state.is_incomplete() {
            state.end_with_the_last();
        }
        self.journal(draft, &mut state)
    }

    /// Whether a source can still be read; from now on it is, if it is an earlier version.
    async fn find_source(
        &self,
        asker: &Asker,
        draft: &Draft,
        source: u32,
    ) -> Result<bool, FsError> {
        if source == IN_UPLOAD {
            // Parts of an upload that can be completed under no other name.
            return Ok(false);
        }
        let remote = draft.state().sources.get(source as usize).cloned();
        let remote = remote.ok_or(FsError::BadHandle)?;
        if remote.pinned.is_none() {
            match self.bucket.head(asker, &remote.key).await {
                Ok(now) if now.is_version(&remote.object) => return Ok(true),
                Ok(_) | Err(StoreError::NotFound | StoreError::Denied(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let version = self.bucket.earlier_version(&remote.key, &remote.object);
        let Some(version) = version.await? else {
            return Ok(false);
        };
        if let Some(source) = draft.state().sources.get_mut(source as usize) {
            *source = Arc::new(remote.pinned(version));
        }
        Ok(true)
    }

    /// Takes what the cache still has of a source that is gone.
    async fn salvage_pages(
        &self,
        draft: &Arc<Draft>,
        range: Range<u64>,
        source: u32,
        offset: u64,
    ) -> Result<(), FsError> {
        let remote: Option<Arc<Remote>> = draft.state().sources.get(source as usize).cloned();
        let Some(remote) = remote else {
            return Ok(());
        };
        let mut at = range.start;
        while at < range.end {
            let there = offset + (at - range.start);
            let base = there / PAGE * PAGE;
            let end = range.end.min(at + (base + PAGE - there));
            let upto = there + (end - at);
            let id = (remote.version, there / PAGE);
            let wanted = Blocks::of(there - base, upto - base);
            if let Some(page) = self.pages.ready(id, wanted) {
                let copy = bytes::Bytes::copy_from_slice;
                let bytes = page.with(there - base, upto - base, copy);
                drop(page);
                let (draft, offset) = (Arc::clone(draft), there);
                let from = Origin::Remote { source, offset };
                blocking(move || draft.take_in(at, &bytes, from, true)).await??;
            }
            at = end;
        }
        Ok(())
    }
}

/// The pieces that are in objects: which bytes, which source, and where in it they begin.
fn remote_pieces(state: &State) -> Vec<(Range<u64>, u32, u64)> {
    let content = state.stable();
    let pieces = content.pieces(0..content.size()).into_iter();
    let remote = pieces.filter_map(|Piece { range, from }| match from {
        Some(from) if is_beside(from) => None,
        Some(Origin::Remote { source, offset }) => Some((range, source, offset)),
        _ => None,
    });
    remote.collect()
}

/// The ranges of what is lost, for [`MISSING`].
pub(super) fn missing(lost: &Extents) -> String {
    let pieces = lost.pieces(0..lost.size()).into_iter();
    let lost = pieces.filter(|piece| piece.from.is_some());
    let names = lost.map(|piece| format!("{}-{}", piece.range.start, piece.range.end - 1));
    let mut names: Vec<String> = names.take(NAMED + 1).collect();
    if names.len() > NAMED {
        names[NAMED] = "more".to_owned();
    }
    names.join(",")
}
