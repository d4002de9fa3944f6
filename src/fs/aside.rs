//! Storing a draft beside its name: after a conflict, and what a crash has torn.

use std::sync::Arc;

use super::beside::beside;
use super::draft::{Draft, Fate, State};
use super::extents::Extents;
use super::file::Remote;
use super::snapshot::Snapshot;
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
    /// Where it is: a key, or a path on this machine for what is no whole file.
    pub(crate) stored_as: String,
    /// `conflict` or `recovered`.
    pub(crate) why: &'static str,
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
    /// Stores a snapshot beside its name.
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
        // Nothing of what it was made of may be there any more, so all of it is sent.
        let size = snapshot.content.size();
        if let Err(error) = self.hydrate(asker, draft, 0..size).await {
            return Err(match error {
                FsError::Store(StoreError::Changed | StoreError::NotFound) => {
                    self.is_kept_here(draft, &meant, why);
                    FsError::Conflict(format!(
                        "{meant} was changed by somebody else, and with it the parts that were \
                         not changed here, so no whole file can be stored; what was written is \
                         kept in {}",
                        draft.file.path().display()
                    ))
                }
                error => error,
            });
        }
        let whole = whole(draft);
        let date = jiff::Zoned::now().strftime("%Y-%m-%d %H.%M.%S").to_string();
        for n in 0..NAMES {
            let other = beside(name, why.word(), &date, &self.look.host, n);
            let attempt = Snapshot {
                key: format!("{directory}{other}"),
                delta: whole.clone(),
                content: whole.clone(),
                base: None,
                ..snapshot.clone()
            };
            let etag = match self.store_as(asker, draft, &attempt).await {
                Err(FsError::Store(StoreError::Changed)) => continue,
                answer => answer?,
            };
            self.is_aside(draft, &attempt, etag, &meant, why);
            return Ok(());
        }
        Err(FsError::Spool(format!(
            "{meant}: no name beside it is free"
        )))
    }

    /// A draft has got another name. Handles on it go on with that; the inode is the
    /// stranger's from now on.
    fn is_aside(
        self: &Arc<Self>,
        draft: &Arc<Draft>,
        stored: &Snapshot,
        etag: String,
        meant: &str,
        why: Aside,
    ) {
        let object = stored.object(etag);
        self.wrote(&stored.key, &object);
        self.retire(draft);
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
            state.key.clone_from(&stored.key);
            state.aside = true;
            state.delta = Extents::of_object(0, object.size);
            state.kept = object.facts.clone();
            state.sources = vec![remote];
            state.base = Some(object);
            state.stored = stored.version;
            state.dirty = false;
            state.closed = false;
            state.upload = None;
            state.nonce = super::draft::nonce();
            state.writers
        };
        drop(files);
        if writers == 0 {
            self.throw_out(draft.id);
        } else {
            // What is written from now on waits for a session like everything else.
            self.drafts.lock().insert(draft.place(), Arc::clone(draft));
            if let Err(error) = self.journal(draft, &mut draft.state()) {
                tracing::warn!("{}: {error}", stored.key);
            }
        }
        self.show_the_other(draft.number);
        tracing::warn!(
            "{} {}: this side's version is {}",
            meant,
            match why {
                Aside::Conflict => "was changed by somebody else meanwhile",
                Aside::Recovered => "was being written when it was interrupted",
            },
            stored.key
        );
        self.is_told(meant, stored.key.clone(), why);
    }

    /// Only a part of a large file was changed here, and the rest is gone with the version that
    /// it was opened as: what was written stays on this machine, at its offsets.
    fn is_kept_here(&self, draft: &Draft, meant: &str, why: Aside) {
        let place = draft.file.path().display().to_string();
        let is_known = self.asides.lock().iter().any(|it| it.stored_as == place);
        // It is tried again with each session.
        if !is_known {
            self.is_told(meant, place, why);
        }
    }

    /// People hear of a file that is not where it was meant to be.
    fn is_told(&self, meant: &str, stored_as: String, why: Aside) {
        let aside = SetAside {
            key: meant.to_owned(),
            stored_as,
            why: why.word(),
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
        let (upload, before) = {
            let mut state = draft.state();
            state.fate = Fate::Unlinked;
            (state.upload.take(), state.before.take())
        };
        if let Some(before) = before {
            self.throw_out(before);
        }
        if let Some(upload) = upload {
            self.throw_away(&upload);
        }
        if !self.files.lock().any(|file| file.number == draft.number) {
            self.retire(draft);
        }
        self.throw_out(draft.id);
    }
}

/// All of a draft as bytes of its own; holes are holes.
fn whole(draft: &Draft) -> Extents {
    let state: &State = &draft.state();
    let mut whole = Extents::new();
    for piece in state.content.pieces(0..state.size()) {
        if let Some(from) = piece.from {
            whole.put(piece.range, from);
        }
    }
    whole.set_size(state.size());
    whole
}
