//! Bytes that the store has already and does not copy: they are fetched into the spool and sent
//! from there, a part or a small file at a time.
//!
//! What is fetched for that is lent: it does not count as the draft's own, so that the journal
//! promises nothing that is not there, and its room is given back once it was sent. However large
//! a file is, and however many are renamed at once, no more than [`AT_ONCE`] such pieces lie in
//! the spool.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::draft::Draft;
use super::extents::{From as Origin, Piece};
use super::over::is_beside;
use super::{FileSystem, FsError, blocking};
use crate::auth::Asker;

/// How many pieces are on their way through the spool at once.
pub(super) const AT_ONCE: usize = 4;

/// The right to have a piece in the spool.
#[derive(Debug)]
pub(super) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

/// A range of which some bytes are in the spool for the time being.
#[must_use]
#[derive(Debug)]
pub(super) struct Lent<'a> {
    range: Range<u64>,
    /// `None` if nothing had to be fetched.
    turn: Option<SemaphorePermit<'a>>,
}

impl FileSystem {
    /// Fetches what a range needs of remote objects, until it is [given back](Self::give_back).
    pub(super) async fn lend(
        &self,
        asker: &Asker,
        draft: &Arc<Draft>,
        range: Range<u64>,
    ) -> Result<Lent<'_>, FsError> {
        let lacks = {
            let pieces = draft.state().stable().pieces(range.clone());
            pieces.iter().any(is_elsewhere)
        };
        if !lacks {
            return Ok(Lent { range, turn: None });
        }
        let turn = self.turns.0.acquire().await;
        let turn = turn.map_err(|_| FsError::Spool("the mount is ending".to_owned()))?;
        let lent = Lent {
            range: range.clone(),
            turn: Some(turn),
        };
        match self.fetch_into(asker, draft, range, false).await {
            Ok(()) => Ok(lent),
            Err(error) => {
                self.give_back(draft, lent).await;
                Err(error)
            }
        }
    }

    /// Takes the room back that was lent.
    pub(super) async fn give_back(&self, draft: &Arc<Draft>, lent: Lent<'_>) {
        let Lent { range, turn } = lent;
        if turn.is_none() {
            return;
        }
        let (given, file) = (Arc::clone(draft), Arc::clone(&draft.file));
        let punched = blocking(move || {
            // With the lock that whoever writes there takes.
            let state = given.state();
            let pieces = state.stable().pieces(range);
            for piece in pieces.into_iter().filter(is_elsewhere) {
                file.punch(piece.range)?;
            }
            Ok::<_, FsError>(())
        });
        if let Err(error) = punched.await.and_then(|punched| punched) {
            // It goes with the draft.
            tracing::debug!("the spool: {error}");
        }
        drop(turn);
    }
}

/// Whether bytes are nowhere but in an object.
fn is_elsewhere(piece: &Piece) -> bool {
    matches!(piece.from, Some(from @ Origin::Remote { .. }) if !is_beside(from))
}
