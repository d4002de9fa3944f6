//! A mount that serves, and its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use super::holders::{Holders, own_places};
use super::signals::EndSignals;
use super::{MountError, place};
use crate::auth::session::Phase;
use crate::auth::{Reason, Rung, Sessions};
use crate::clock::rfc3339;
use crate::config::{Allow, Config};
use crate::control::status::{self, Status};
use crate::fs::FileSystem;
use crate::fs::kernel::KernelCache;
use crate::store::Bucket;

/// How long the kernel may take to let go after an unmount.
const LETTING_GO: Duration = Duration::from_secs(2);

/// How often it is looked whether anybody still uses a mount that was taken away.
const LOOKING_FOR_USERS: Duration = Duration::from_secs(3);

/// How long looking for them may take: a process that changes its mappings is waited for.
const LOOKING_LASTS: Duration = Duration::from_secs(5);

/// How much more time systemd is asked for while unsaved writes are stored.
const MORE_TIME: Duration = Duration::from_secs(30);

/// How many files are named in one sentence.
const NAMED: usize = 5;

/// How often it is looked whether other files wait to be stored, for who watches.
const LOOKING: Duration = Duration::from_millis(500);

/// The files that wait to be stored, and how many were stored beside their names.
pub(crate) type Unsaved = (Vec<(String, u64, Option<String>)>, usize);

/// What a lazy mount says of itself at first.
pub(super) const NO_SESSION_YET: &str = "No session yet: the first access asks for a code";

/// A mount that serves: what the control socket works on.
pub(crate) struct Mounted {
    pub(super) config: Config,
    pub(super) mountpoint: PathBuf,
    pub(super) sessions: Arc<Sessions>,
    pub(super) bucket: Arc<Bucket>,
    pub(super) fs: Arc<FileSystem>,
    /// The kernel's number of this mount: another one may be on the same place one day.
    pub(super) device: Option<String>,
    pub(super) kernel: KernelCache,
    /// The kernel has let go.
    pub(super) ended: watch::Receiver<bool>,
    /// Somebody has asked for its end, and it was taken away.
    pub(super) is_taken_down: watch::Sender<bool>,
    /// The mount is being taken down, whether the kernel has let go or not.
    pub(super) is_over: watch::Sender<bool>,
}

impl Mounted {
    /// The gatekeeper.
    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Where it is mounted, for people.
    pub(crate) fn place(&self) -> impl std::fmt::Display + '_ {
        Path::display(&self.mountpoint)
    }

    /// Forgets the session and everything that was read with it. When this succeeds, neither
    /// the daemon nor the kernel serves any of it.
    ///
    /// Errors: the files of which the kernel keeps pages.
    pub(crate) async fn lock(&self) -> Result<(), MountError> {
        self.sessions.lock();
        self.fs.forget_content();
        if self.config.look.serve_when_locked {
            return Ok(());
        }
        self.take_back().await
    }

    /// Takes the kernel's pages back.
    ///
    /// Errors: the files of which the kernel keeps pages.
    pub(super) async fn take_back(&self) -> Result<(), MountError> {
        let left = self.kernel.take_back(self.fs.take_cached()).await;
        if left.is_empty() {
            return Ok(());
        }
        let mut names = self.fs.names_of(&left);
        names.sort();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let names: Vec<String> = names.iter().map(|name| crate::words::tame(name)).collect();
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(MountError::Other(format!(
            "the session of {} is forgotten, but the kernel still keeps what was read of {}{more}, \
             where somebody waits for an answer: end the programs that have files open there \
             (fuser -vm {0}), and lock again",
            self.place(),
            names.join(", ")
        )))
    }

    /// The same when nobody waits to be told.
    pub(super) async fn take_back_unasked(&self) {
        if let Err(error) = self.take_back().await {
            tracing::warn!("{error}");
        }
    }

    /// Ends the mount; returns when the kernel has let go, or is not going to soon, and then who
    /// uses it still.
    ///
    /// Unsaved writes are stored first, if there is a session; without one nobody is asked, and
    /// the journal keeps them.
    pub(crate) async fn unmount(&self) -> Result<Option<String>, MountError> {
        self.fs.end();
        self.fs.finish().await;
        self.detach().await?;
        if self.bucket.lease().is_none() {
            // Whoever waits for a session waits in vain, and the kernel for them.
            self.sessions.end();
        }
        let mut ended = self.ended.clone();
        let ending = ended.wait_for(|ended| *ended);
        let has_ended = tokio::time::timeout(LETTING_GO, ending).await.is_ok();
        // Looking for them takes a while, and the kernel may let go meanwhile.
        let users = match has_ended {
            true => None,
            false => tokio::select! {
                _ = ended.wait_for(|ended| *ended) => None,
                users = self.users() => users,
            },
        };
        self.last_words().await?;
        self.is_taken_down.send_replace(true);
        Ok(users)
    }

    /// Takes the mount away, wherever in this namespace it is; who has files open there keeps them.
    async fn detach(&self) -> Result<(), MountError> {
        let mountpoint = self.mountpoint.clone();
        // What is there now may be somebody else's, mounted after this one was taken away.
        let is_there = place::device(&mountpoint) == self.device;
        let device = self.device.clone();
        let detached = tokio::task::spawn_blocking(move || {
            if is_there {
                place::detach(&mountpoint)?;
            }
            // Made by `mount --bind`, or moved along with a directory, and dead when this process has
            // ended.
            for place in device
                .clone()
                .map_or_else(Vec::new, |device| own_places(&device))
            {
                if place::device(&place) != device {
                    tracing::warn!("{}: something else is mounted over it", place.display());
                    continue;
                }
                if let Err(error) = place::detach(&place) {
                    tracing::warn!("{error}");
                }
            }
            Ok(())
        });
        let detached = detached.await;
        detached.map_err(|error| MountError::Other(error.to_string()))?
    }

    /// Who uses the mount that was taken away, in words; `None` if nobody does.
    async fn users(&self) -> Option<String> {
        let device = self.device.clone()?;
        let looking = tokio::task::spawn_blocking(move || Holders::find(&device));
        let Ok(Ok(holders)) = tokio::time::timeout(LOOKING_LASTS, looking).await else {
            return Some("a program that cannot be looked at".to_owned());
        };
        if !holders.programs.is_empty() {
            return Some(holders.named());
        }
        // Root sees everybody, and without --allow-other nobody else comes in. What else holds a
        // mount, and is no process, only root makes.
        let sees_all = nix::unistd::geteuid().is_root();
        let is_ours_alone = self.config.allow == Allow::Owner;
        // Copies of the mount in other namespaces are no use of it.
        let is_open = self.fs.has_open_files();
        match (sees_all, is_ours_alone, holders.namespaces.as_slice()) {
            (true, _, [_, ..]) | (false, true, _) => {
                is_open.then(|| "a program that cannot be looked at".to_owned())
            }
            (true, ..) => Some("the kernel (a loop device or an overlay)".to_owned()),
            (false, ..) => Some("a program of another user".to_owned()),
        }
    }

    /// Returns once the mount was taken away on demand, and nobody uses it any more, although the
    /// kernel keeps it: other mount namespaces have copies.
    async fn is_abandoned(&self) {
        let mut down = self.is_taken_down.subscribe();
        if down.wait_for(|down| *down).await.is_err() {
            return std::future::pending().await;
        }
        while self.users().await.is_some() {
            tokio::time::sleep(LOOKING_FOR_USERS).await;
        }
    }

    /// The kernel has let go: what it has handed over at last is stored, and then there are no
    /// more sessions.
    async fn last_words(&self) -> Result<(), MountError> {
        self.fs.end();
        self.fs.finish().await;
        self.sessions.end();
        self.leave_nothing().await;
        // Programs that have not closed their files by now do so without anybody hearing it.
        let waiting = self.fs.unsaved();
        super::keeping::tidy(&self.fs).await;
        match waiting {
            0 => Ok(()),
            waiting => Err(MountError::Pending {
                waiting,
                directory: self.fs.spooled_in(),
            }),
        }
    }

    /// Takes the kernel's pages back at the end of the sessions: whoever has files open could read
    /// them for ever.
    async fn leave_nothing(&self) {
        if !*self.ended.borrow() {
            self.take_back_unasked().await;
        }
    }

    /// Returns once the mount is over.
    pub(crate) async fn end(&self) {
        let mut over = self.is_over.subscribe();
        let _ = over.wait_for(|over| *over).await;
    }

    /// Waits until the kernel is done, or a signal wants the end.
    pub(super) async fn until_the_end(&self, signals: &mut EndSignals) -> Result<(), MountError> {
        tokio::select! {
            outcome = self.wait_for_the_end(signals) => outcome,
            () = self.ask_for_time() => Ok(()),
        }
    }

    /// Tells systemd that stopping takes longer, as long as something is being stored.
    async fn ask_for_time(&self) {
        loop {
            tokio::time::sleep(MORE_TIME / 3).await;
            if self.fs.is_ending() && self.fs.waiting() > 0 {
                let more = u32::try_from(MORE_TIME.as_micros()).unwrap_or(u32::MAX);
                let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(more)]);
            }
        }
    }

    async fn wait_for_the_end(&self, signals: &mut EndSignals) -> Result<(), MountError> {
        let mut ended = self.ended.clone();
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => {
                tracing::info!("{} was unmounted", self.place());
                self.last_words_unless_hurried(signals).await
            }
            () = self.is_abandoned() => {
                tracing::info!("{} was unmounted, and nobody uses it any more", self.place());
                self.last_words_unless_hurried(signals).await
            }
            signal = signals.next() => {
                tracing::info!("{signal}: unmounting {}", self.place());
                tokio::select! {
                    outcome = self.unmount() => outcome.map(|users| {
                        let place = self.place();
                        match users {
                            Some(users) => tracing::warn!(
                                "{place} is unmounted; {users} still has files open there, and \
                                 everything fails that is done with them from now on"
                            ),
                            None => tracing::info!("{place} is unmounted"),
                        }
                    }),
                    _ = signals.next_that_hurries() => {
                        // Nothing is left behind that answers nobody, or that nobody may see.
                        let _ = self.detach().await;
                        self.sessions.end();
                        self.leave_nothing().await;
                        Err(self.stopped())
                    }
                }
            }
        }
    }

    /// As with a mount that is taken away by a signal, the second one hurries.
    async fn last_words_unless_hurried(&self, signals: &mut EndSignals) -> Result<(), MountError> {
        let hurried = async {
            signals.next().await;
            signals.next_that_hurries().await
        };
        tokio::select! {
            outcome = self.last_words() => outcome,
            _ = hurried => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> MountError {
        match self.fs.unsaved() {
            0 => MountError::Other("stopped at once".to_owned()),
            waiting => MountError::Pending {
                waiting,
                directory: self.fs.spooled_in(),
            },
        }
    }

    /// What waits to be stored and what was stored beside its name, as `status` tells it.
    pub(crate) fn unsaved_files(&self) -> Unsaved {
        (self.fs.waiting_files(), self.fs.asides().len())
    }

    /// Returns once that is not the same any more.
    pub(crate) async fn has_other_files(&self, before: &Unsaved) {
        while self.unsaved_files() == *before {
            tokio::time::sleep(LOOKING).await;
        }
    }

    /// What waits to be stored: how many files, and bytes.
    pub(crate) fn waiting(&self) -> (usize, u64) {
        let files = self.fs.waiting_files();
        (files.len(), files.iter().map(|(_, size, _)| size).sum())
    }

    /// What `status` tells.
    pub(crate) fn status(&self) -> Status {
        let phases = self.sessions.phases();
        let (state, reason, session) = match &*phases.borrow() {
            Phase::Live(session) => ("live", None, Some(Arc::clone(session))),
            Phase::Asking(reason) => ("asking", Some(reason.to_string()), None),
            Phase::Locked(Reason::FirstLogin) => ("locked", Some(NO_SESSION_YET.to_owned()), None),
            Phase::Locked(reason) => ("locked", Some(reason.to_string()), None),
        };
        let requests = self.bucket.requests();
        let (memory_used, memory_limit) = self.fs.memory();
        Status {
            taken_away: place::device(&self.mountpoint) != self.device,
            bucket: self.config.bucket.clone(),
            prefix: self.config.prefix.clone(),
            mountpoint: self.mountpoint.display().to_string(),
            pid: std::process::id(),
            profile: self.config.access.identity.profile.clone(),
            credentials: self
                .sessions
                .rung()
                .map_or("none yet", Rung::name)
                .to_owned(),
            session: status::Session {
                state: state.to_owned(),
                reason,
                generation: session.as_ref().map(|s| s.generation.0),
                expires: session.as_ref().and_then(|s| s.expires).map(rfc3339),
                mfa_age: session
                    .as_ref()
                    .filter(|s| s.rung.has_code())
                    .map(|s| self.sessions.age(s).as_secs()),
                renewal_offered_until: self.sessions.offered().map(rfc3339),
                mfa_age_limit: self.sessions.age_limit().map(|limit| limit.as_secs()),
                cooling_down_until: self.sessions.cooling_down_until().map(rfc3339),
                prompts: self.sessions.renewals(),
            },
            requests: status::Requests {
                head: requests.head.load(Ordering::Relaxed),
                list: requests.list.load(Ordering::Relaxed),
                get: requests.get.load(Ordering::Relaxed),
                put: requests.put.load(Ordering::Relaxed),
                copy: requests.copy.load(Ordering::Relaxed),
                delete: requests.delete.load(Ordering::Relaxed),
                replayed: requests.replayed.load(Ordering::Relaxed),
            },
            cache: status::Cache {
                memory_used,
                memory_limit,
            },
            skipped_keys: self.fs.skipped(),
            conditional_writes: self.bucket.support().to_string(),
            pending_uploads: self
                .fs
                .waiting_files()
                .into_iter()
                .map(|(key, bytes, error)| status::Pending { key, bytes, error })
                .collect(),
            conflicts: self
                .fs
                .asides()
                .into_iter()
                .map(|aside| status::Conflict {
                    key: aside.key,
                    stored_as: aside.stored_as,
                    kind: aside.why.to_owned(),
                    incomplete: aside.is_incomplete,
                    when: rfc3339(aside.when),
                })
                .collect(),
            spool: status::Spool {
                directory: self.fs.spooled_in(),
                used: self.fs.spooled(),
            },
        }
    }
}
