//! Uploads that nobody wants any more: their name is gone, or their content was replaced.
//!
//! What was sent is thrown away in the bucket, where it would be paid for unseen. A part whose
//! sending was given up may still arrive after that, and so may a whole object whose answer nobody
//! waited for: so both are looked for once more a little later. Until then, the journal has it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::draft::{Draft, Upload};
use super::recover::Kept;
use super::upload::may_pass;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::write::Condition;
use crate::store::{Object, StoreError};

/// After how long it is looked again for what arrives late.
const LATE: Duration = Duration::from_secs(5);

/// What was given up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GivenUp {
    key: String,
    /// The id of the multipart upload that is to be thrown away.
    upload: Option<String>,
    /// What the mark of an object begins with that may have been made under the key after all.
    nonce: Option<String>,
    #[serde(skip)]
    stage: Stage,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// Nobody is at it.
    #[default]
    Waiting,
    /// Somebody is.
    Busy,
    /// It is done, as far as can be known now.
    Done,
}

impl FileSystem {
    /// Throws an upload away that will not be completed, by and by.
    pub(super) fn throw_away(self: &Arc<Self>, upload: &Upload) {
        self.note_given_up(GivenUp {
            key: upload.key.clone(),
            upload: Some(upload.id.clone()),
            nonce: None,
            stage: Stage::Waiting,
        });
    }

    /// What was to be stored of a draft is wanted under no name any more.
    pub(super) fn give_up_on(self: &Arc<Self>, draft: &Draft) {
        let given_up = {
            let mut state = draft.state();
            GivenUp {
                key: state.key.clone(),
                upload: state.upload.take().map(|upload| upload.id),
                nonce: state.asked.then(|| state.nonce.clone()),
                stage: Stage::Waiting,
            }
        };
        draft.useless.send_modify(|count| *count += 1);
        if given_up.upload.is_some() || given_up.nonce.is_some() {
            self.note_given_up(given_up);
        }
    }

    fn note_given_up(self: &Arc<Self>, given_up: GivenUp) {
        let Ok(spool) = self.spool() else {
            return;
        };
        let id = spool.new_id();
        if let Err(error) = spool.put(id, &Kept::GivenUp(given_up.clone())) {
            tracing::warn!("the journal: {error}");
        }
        self.given_up.lock().insert(id, given_up);
        self.go_on_giving_up();
    }

    /// One was found in the journal.
    pub(super) fn found_given_up(&self, id: u64, given_up: GivenUp) {
        self.given_up.lock().insert(id, given_up);
    }

    /// Goes on with those that nobody is at.
    pub(super) fn go_on_giving_up(self: &Arc<Self>) {
        let waiting: Vec<(u64, GivenUp)> = {
            let mut all = self.given_up.lock();
            let waiting = all
                .iter_mut()
                .filter(|(_, one)| one.stage == Stage::Waiting);
            let taken = waiting.map(|(id, one)| {
                one.stage = Stage::Busy;
                (*id, one.clone())
            });
            taken.collect()
        };
        for (id, given_up) in waiting {
            let fs = Arc::clone(self);
            tokio::spawn(async move { fs.end_given_up(id, &given_up).await });
        }
    }

    async fn end_given_up(self: &Arc<Self>, id: u64, given_up: &GivenUp) {
        let mut ended = self.is_taken_away(given_up).await;
        if ended.is_ok() {
            self.given_up_is(id, Stage::Done);
            if !self.is_ending() {
                tokio::time::sleep(LATE).await;
                ended = self.is_taken_away(given_up).await;
            }
        }
        match ended {
            Err(error) if may_pass(&error) => {
                tracing::debug!("{}: {error}", given_up.key);
                self.given_up_is(id, Stage::Waiting);
                return;
            }
            Err(error) => tracing::info!(
                "what was sent of {} and is not wanted stays in the bucket, unseen ({error}); a \
                 lifecycle rule for incomplete multipart uploads removes it",
                given_up.key
            ),
            Ok(()) => {}
        }
        self.given_up.lock().remove(&id);
        self.throw_out(id);
        self.stored_something.send_modify(|count| *count += 1);
    }

    fn given_up_is(&self, id: u64, stage: Stage) {
        if let Some(one) = self.given_up.lock().get_mut(&id) {
            one.stage = stage;
        }
        self.stored_something.send_modify(|count| *count += 1);
    }

    /// Takes away what there is now.
    async fn is_taken_away(&self, given_up: &GivenUp) -> Result<(), FsError> {
        let (nobody, key) = (Asker::nobody(), &given_up.key);
        if let Some(upload) = &given_up.upload {
            self.bucket.abort(&nobody, key, upload).await?;
        }
        let Some(nonce) = &given_up.nonce else {
            return Ok(());
        };
        let found = match self.bucket.head(&nobody, key).await {
            Err(StoreError::NotFound) => return Ok(()),
            found => found?,
        };
        if !is_marked(&found, nonce) {
            return Ok(());
        }
        tracing::info!("{key}: it was stored after it was given up, and is removed");
        let condition = Condition::Is(found.etag);
        match self.bucket.delete(&nobody, key, &condition).await {
            Err(StoreError::Changed) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Whether something is being thrown away just now.
    pub(super) fn is_giving_up(&self) -> bool {
        let given_up = self.given_up.lock();
        given_up.values().any(|one| one.stage == Stage::Busy)
    }

    /// Whether an object was made by a request that was given up.
    pub(super) fn was_given_up(&self, key: &str, found: &Object) -> bool {
        let given_up = self.given_up.lock();
        let mut here = given_up.values().filter(|one| one.key == key);
        here.any(|one| {
            one.nonce
                .as_ref()
                .is_some_and(|nonce| is_marked(found, nonce))
        })
    }

    /// Uploads that were thrown away and are only to be looked for once more: the end of a mount does
    /// not wait for that. Objects that may arrive late are left to the next one.
    pub(super) fn forget_given_up(&self) {
        let done: Vec<u64> = {
            let given_up = self.given_up.lock();
            let done = given_up
                .iter()
                .filter(|(_, one)| one.stage == Stage::Done && one.nonce.is_none());
            done.map(|(id, _)| *id).collect()
        };
        for id in done {
            self.throw_out(id);
        }
    }
}

/// Whether the mark of an object begins like this.
pub(super) fn is_marked(object: &Object, nonce: &str) -> bool {
    let facts = object.facts.as_ref();
    let mark = facts.and_then(|facts| facts.posix.nonce.as_deref());
    let mine = mark.and_then(|mark| mark.strip_prefix(nonce));
    mine.is_some_and(|rest| rest.starts_with('-'))
}
