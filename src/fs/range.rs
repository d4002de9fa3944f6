//! Ranges of files: reserved, emptied, and copied by the server.

use std::ops::Range;
use std::sync::Arc;

use super::draft::Draft;
use super::extents::From as Origin;
use super::file::OpenFile;
use super::plan::LARGEST;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::StoreError;

/// Below this, in bytes, the kernel's own way of copying is as good: S3 copies no smaller parts.
const WORTH_IT: u64 = 5 << 20;

/// The most that one call copies: it returns 32 bits, and whole pages are wanted.
const AT_ONCE: u64 = 1 << 31;

impl FileSystem {
    /// fallocate(2): makes room, which a bucket always has, or a hole.
    pub(crate) async fn allocate(
        self: &Arc<Self>,
        asker: &Asker,
        handle: u64,
        range: Range<u64>,
        mode: i32,
    ) -> Result<(), FsError> {
        const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP_SIZE;
        const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
        const ZERO_KEEP: i32 = ZERO | KEEP_SIZE;
        if range.end > LARGEST {
            return Err(FsError::TooLarge);
        }
        if !matches!(mode, 0 | KEEP_SIZE | HOLE | ZERO | ZERO_KEEP) {
            return Err(FsError::Unsupported);
        }
        let file = self.files.lock().get(handle)?;
        let draft = self.attach(asker, &file, false).await?;
        if matches!(mode, HOLE | ZERO | ZERO_KEEP) {
            // Large files are not here as a whole, and a hole needs no byte of them.
            self.zero(&draft, range.clone()).await?;
        }
        let size = draft.state().size();
        if matches!(mode, 0 | ZERO) && range.end > size {
            self.resize(&draft, range.end).await?;
        }
        Ok(())
    }

    /// copy_file_range(2): a range becomes one that S3 copies when the file is stored. Returns
    /// how many bytes.
    ///
    /// Errors: `EOPNOTSUPP` for what S3 cannot copy, upon which the kernel copies by itself.
    pub(crate) async fn copy_range(
        self: &Arc<Self>,
        asker: &Asker,
        (from, from_offset): (u64, u64),
        (to, to_offset): (u64, u64),
        length: u64,
    ) -> Result<u32, FsError> {
        let (from, to) = {
            let files = self.files.lock();
            (files.get(from)?, files.get(to)?)
        };
        if length >= WORTH_IT
            && let Some(draft) = self.draft(from.number)
            && draft.state().waits_with_attributes()
        {
            // S3 copies what is stored. If this fails, the kernel copies by itself.
            let _ = self.publish(asker, &draft).await;
        }
        let source = self.source_of(&from)?;
        let size = source.object.size;
        let length = length.min(AT_ONCE).min(size.saturating_sub(from_offset));
        // With write-back the source could be gone before this is stored.
        if length < WORTH_IT || self.budget.write_back {
            return Err(FsError::Unsupported);
        }
        if to_offset.saturating_add(length) > LARGEST {
            return Err(FsError::TooLarge);
        }
        // It must be there now as it was at open.
        let now = self.bucket.head(asker, &source.key).await?;
        if !now.is_version(&source.object) {
            return Err(StoreError::Changed.into());
        }
        let draft = self.attach(asker, &to, false).await?;
        let range = to_offset..to_offset + length;
        let changed = self.change_bytes(&draft, |state| {
            self.forget_sent(&draft, state, &range)?;
            let index = state.source(&source);
            let remote = Origin::Remote {
                source: index,
                offset: from_offset,
            };
            state.content.put(range.clone(), remote);
            state.delta.put(range.clone(), remote);
            state.lost.zero(range.clone());
            state.bytes_changed();
            self.journal(&draft, state)
        });
        changed.await?;
        Ok(u32::try_from(length).unwrap_or(u32::MAX))
    }

    /// Objects are about to change or to go: what was copied from them and is not stored yet is
    /// stored first, while S3 can still copy it.
    pub(super) async fn settle_copies(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
        is_going: impl Fn(&str) -> bool,
    ) {
        let copies: Vec<Arc<Draft>> = {
            let drafts = self.drafts.lock();
            let is_copy = |draft: &&Arc<Draft>| {
                let state = draft.state();
                let mut sources = state.sources.iter();
                draft.number != number
                    && state.is_pending()
                    && sources.any(|source| source.key != state.key && is_going(&source.key))
            };
            drafts.values().filter(is_copy).cloned().collect()
        };
        for copy in copies {
            if let Err(error) = self.publish(asker, &copy).await {
                tracing::warn!("{}: {error}", copy.state().key);
            }
        }
    }

    /// What a file reads from, if all of it is in the bucket.
    fn source_of(&self, file: &OpenFile) -> Result<Arc<super::file::Remote>, FsError> {
        if let Some(draft) = self.draft(file.number)
            && draft.state().is_pending()
        {
            return Err(FsError::Unsupported);
        }
        if file.draft.lock().is_some() {
            return Err(FsError::Unsupported);
        }
        file.remote().ok_or(FsError::Unsupported)
    }
}
