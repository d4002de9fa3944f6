//! Closing, fsync(2), and what then happens to a draft.

use std::sync::Arc;

use super::draft::{Draft, Fate};
use super::{Caller, FileSystem, FsError};
use crate::auth::Asker;

impl FileSystem {
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
        let (pending, busy, is_left, unlinked) = {
            let state = draft.state();
            let busy = state.writers > 0 || state.flight.is_some();
            let unlinked = state.fate == Fate::Unlinked;
            // A task sees to it, or the next attempt.
            let is_left = state.is_settling || state.failed.is_some();
            (state.is_pending(), busy, is_left, unlinked)
        };
        if pending {
            // Changed through a mapping after the last close(2), or kept after a failure.
            if draft.state().writers == 0 && !is_left {
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
        // What has left a full spool is nowhere else until all of it is stored.
        if !self.budget.write_back || draft.state().is_sent(&(0..u64::MAX)) {
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
