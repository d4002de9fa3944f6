//! Attributes of a file that was stored just now: programs that copy files set several, one after
//! the other, and rename the file then. Each would be one more copy in the bucket.
//!
//! So they wait a moment, in the journal, and are stored once, or with the new name. Everybody here
//! sees them at once. Attributes of other files are stored before anybody hears that they are set.

use std::sync::Arc;
use std::time::Duration;

use super::draft::{Draft, Held, State};
use super::over::MOMENT;
use super::rename::ATTEMPTS;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::StoreError;

/// How long attributes wait.
const SETTLING: Duration = Duration::from_secs(2);

/// How long a file counts as just stored.
pub(super) const FRESH: Duration = Duration::from_secs(10);

impl FileSystem {
    /// Attributes of a file were changed: stores them, or has that done in a moment.
    pub(super) async fn settle_attributes(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
    ) -> Result<(), FsError> {
        let (is_shared, is_dirty) = {
            let state = draft.state();
            (state.writers > 1, state.dirty)
        };
        if is_dirty && is_shared {
            // They are stored with what is written.
            return Ok(());
        }
        let may_wait = !is_dirty && (is_shared || self.is_fresh(draft));
        if !may_wait {
            return self.publish(asker, draft).await;
        }
        self.promise(draft).await?;
        self.keep(draft).await?;
        let is_first = !std::mem::replace(&mut draft.state().is_settling, true);
        if is_first {
            let (fs, draft) = (Arc::clone(self), Arc::clone(draft));
            tokio::spawn(async move {
                tokio::time::sleep(SETTLING).await;
                draft.state().is_settling = false;
                fs.publish_later(&draft);
            });
        }
        Ok(())
    }

    /// Whether this mount has stored the file just now, and nobody else since.
    fn is_fresh(&self, draft: &Draft) -> bool {
        let etag = draft.state().base.as_ref().map(|base| base.etag.clone());
        let inodes = self.inodes.lock();
        let inode = inodes.get(draft.number);
        inode.is_some_and(|inode| {
            let now = inode.kind.object().map(|object| &object.etag);
            let is_new = inode.stored.is_some_and(|stored| stored.elapsed() < FRESH);
            is_new && now == etag.as_ref()
        })
    }

    /// Whoever is about to write to a file finds its attributes stored, if that takes a moment only:
    /// no write waits for S3. Returns whether they are; otherwise a copy keeps the promise that was
    /// made of them.
    pub(super) async fn settle_now(self: &Arc<Self>, asker: &Asker, draft: &Arc<Draft>) -> bool {
        let stored = tokio::time::timeout(MOMENT, self.publish(asker, draft));
        match stored.await {
            // Somebody else has replaced the file, and it is that one.
            Ok(Ok(()) | Err(FsError::Store(StoreError::Changed))) => true,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Holds the draft of an inode that is about to get another name, once all of its bytes are
    /// stored. Attributes that wait go along; and so does what somebody writes all the time.
    pub(super) async fn hold_settled(
        self: &Arc<Self>,
        asker: &Asker,
        number: u64,
    ) -> Result<Option<Held>, FsError> {
        let is_in_the_way = |state: &State| state.is_pending() && state.dirty;
        let mut attempts = 0;
        loop {
            let Some(draft) = self.draft(number) else {
                return Ok(None);
            };
            let waits = is_in_the_way(&draft.state());
            if waits {
                self.publish(asker, &draft).await?;
            }
            attempts += 1;
            let Some(held) = self.hold(number).await else {
                return Ok(None);
            };
            let goes_along = {
                let state = held.draft.state();
                !is_in_the_way(&state) || attempts >= ATTEMPTS && state.can_move_on()
            };
            if goes_along {
                return Ok(Some(held));
            }
        }
    }
}
