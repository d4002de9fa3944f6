//! Storing a draft beside its name: after a conflict, and what a crash has torn.

use std::sync::Arc;

use super::beside::beside;
use super::draft::{Draft, Fate, State};
use super::file::Remote;
use super::salvage::{MISSING, missing};
use super::snapshot::Snapshot;
use super::upload::may_pass;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::StoreError;

/// How many names are tried.
const NAMES: u32 = 100;

/// Why a draft does not get the name that it was meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// Somebody else has changed what stands there.
    Conflict,
    /// It was never closed: the program, the machine or the daemon died first.
    Recovered,
}

/// A file that was stored beside its name.
#[derive(Debug, Clone)]
pub(crate) struct SetAside {
    /// The name that it was meant for, as a key.
    pub(crate) key: String,
    /// Where it is: a key.
    pub(crate) stored_as: String,
    /// `conflict` or `recovered`.
    pub(crate) why: &'static str,
    /// Some of its bytes are nobody's any more: see [`super::salvage`].
    pub(crate) is_incomplete: bool,
    pub(crate) when: std::time::SystemTime,
}

/// What people should hear of at once.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// A file was stored beside its name.
    Aside(SetAside),
    /// A file that its program has closed cannot be stored.
    Failed {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
}

impl Aside {
    fn word(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Recovered => "recovered",
        }
    }
}

impl FileSystem {
    /// Stores a snapshot beside its name: all of it, or what there still is.
    pub(super) async fn set_aside(
        self: &Arc<Self>,
        asker: &Asker,
        draft: &Arc<Draft>,
        snapshot: &Snapshot,
        why: Aside,
    ) -> Result<(), FsError> {
        let meant = snapshot.key.clone();
        let (directory, name) = match meant.rfind('/') {
            Some(slash) => meant.split_at(slash + 1),
            None => ("", meant.as_str()),
        };
        let date = jiff::Zoned::now().strftime("%Y-%m-%d %H.%M.%S").to_string();
        for n in 0..NAMES {
            if draft.state().fate == Fate::Unlinked {
                return Ok(());
            }
            // Nothing of what it was made of need be there any more.
            self.salvage(asker, draft).await?;
            let (whole, sources, lost) = {
                let state = draft.state();
                (
                    State::whole(state.stable()),
                    state.sources.clone(),
                    state.stable_lost().clone(),
                )
            };
            let is_incomplete = lost.count() > 0;
            let word = match is_incomplete {
                true => format!("{} incomplete", why.word()),
                false => why.word().to_owned(),
            };
            let other = beside(name, &word, &date, &self.look.host, n);
            let mut attempt = Snapshot {
                key: format!("{directory}{other}"),
                delta: whole.clone(),
                content: whole,
                sources,
                base: None,
                ..snapshot.clone()
            };
            if is_incomplete {
                let missing = missing(&lost).into_bytes();
                attempt.posix.xattrs.insert(MISSING.to_owned(), missing);
                let before = attempt.kept.as_deref().map(|facts| &facts.posix);
                if !attempt.posix.has_room(before, attempt.timed) {
                    attempt.posix.xattrs.remove(MISSING);
                }
            }
            let etag = match self.store_as(asker, draft, &attempt).await {
                Err(FsError::Store(StoreError::Changed) | FsError::GivenUp) => continue,
                Err(error) if !may_pass(&error) && why == Aside::Conflict => {
                    // It waits under the other name: this one is the stranger's, and usable.
                    self.is_apart(draft, &attempt.key);
                    self.show_the_other(draft.number);
                    return Err(error);
                }
                answer => answer?,
            };
            self.is_aside(draft, &attempt, etag);
            if is_incomplete {
                tracing::warn!(
                    "{}: somebody else has replaced what was not changed here, and nobody has it \
                     any more: those bytes are zeros ({MISSING} names them)",
                    attempt.key
                );
            }
            tracing::warn!(
                "{} {}: this side's version is {}",
                meant,
                match why {
                    Aside::Conflict => "was changed by somebody else meanwhile",
                    Aside::Recovered => "was being written when it was interrupted",
                },
                attempt.key
            );
            self.is_told(&meant, attempt.key, why, is_incomplete);
            return Ok(());
        }
        Err(FsError::Spool(format!(
            "{meant}: no name beside it is free"
        )))
    }

    /// A draft has another name from now on. Handles on it go on with that; the inode is the
    /// stranger's.
    fn is_apart(self: &Arc<Self>, draft: &Arc<Draft>, key: &str) {
        self.retire(draft);
        {
            let mut state = draft.state();
            key.clone_into(&mut state.key);
            state.aside = true;
            state.base = None;
            state.needs_all();
        }
        self.drafts.lock().insert(draft.place(), Arc::clone(draft));
        if let Err(error) = self.journal(draft, &mut draft.state()) {
            tracing::warn!("{key}: {error}");
        }
    }

    /// A draft is stored under another name.
    fn is_aside(self: &Arc<Self>, draft: &Arc<Draft>, stored: &Snapshot, etag: String) {
        let object = stored.object(etag);
        self.wrote(&stored.key, &object);
        self.is_apart(draft, &stored.key);
        let remote = Arc::new(Remote::apart(stored.key.clone(), object.clone()));
        let files = self.files.lock();
        for file in files.all() {
            let mine = file.draft.lock();
            if mine.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, draft)) {
                file.follow(Some(Arc::clone(&remote)));
            }
        }
        let writers = {
            let mut state = draft.state();
            state.is_all_of(remote, object.size);
            state.kept = object.facts.clone();
            state.base = Some(object);
            state.stored = stored.version;
            // What was written beside it is not.
            let is_all = state.version == stored.version;
            state.dirty &= !is_all;
            state.closed &= !is_all;
            state.promise_kept(stored.version);
            state.upload = None;
            state.nonce = super::draft::nonce();
            state.writers
        };
        drop(files);
        if writers == 0 {
            self.retire(draft);
            self.throw_out(draft.id);
        } else if let Err(error) = self.journal(draft, &mut draft.state()) {
            // What is written from now on waits for a session like everything else.
            tracing::warn!("{}: {error}", stored.key);
        }
        self.show_the_other(draft.number);
    }

    /// People hear of a file that is not where it was meant to be.
    fn is_told(&self, meant: &str, stored_as: String, why: Aside, is_incomplete: bool) {
        let aside = SetAside {
            key: meant.to_owned(),
            stored_as,
            why: why.word(),
            is_incomplete,
            when: std::time::SystemTime::now(),
        };
        self.asides.lock().push(aside.clone());
        // Nobody may be listening.
        let _ = self.notices.send(Notice::Aside(aside));
    }

    /// What stands under the name of an inode is somebody else's now.
    pub(super) fn show_the_other(&self, number: u64) {
        let Ok(inode) = self.inode(number) else {
            return;
        };
        self.inodes.lock().doubt(number);
        let mut known = self.listings.lock();
        known.forget(inode.parent);
        known.doubt(inode.parent, &inode.name);
    }

    /// A draft whose name is gone is stored nowhere.
    pub(super) fn let_fall(self: &Arc<Self>, draft: &Arc<Draft>) {
        let before = {
            let mut state = draft.state();
            state.fate = Fate::Unlinked;
            state.before.take()
        };
        if let Some(before) = before {
            self.throw_out(before);
        }
        self.give_up_on(draft);
        if !self.files.lock().any(|file| file.number == draft.number) {
            self.retire(draft);
        }
        self.throw_out(draft.id);
    }
}
