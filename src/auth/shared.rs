//! One session for everything a user runs: mounts, the AWS CLI, and the next daemon.
//!
//! A *slot* is a file `NAME.session` in the runtime directory ([`crate::runtime`]), mode 0600, with
//! the session of one key and device, or with the refusal that ended the last attempt. `NAME.lock`
//! beside it is the lease: whoever holds it asks the person, and it dies with its owner, because the
//! kernel takes it back. The others wait and look, and take what the owner leaves: a session, or a
//! refusal that is no older than their wish.
//!
//! Where there is no such directory the slot is in memory, and each process is alone.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use super::{AuthError, MARGIN, cool_down};
use crate::holder;

/// The version of the files. Another one is read as nothing.
const VERSION: u32 = 1;

/// How often it is looked whether the owner of a lease has come to an end. A lease that dies with
/// its owner tells nobody, so there is nothing to wait for but time; it passes only while a person
/// is asked.
const LOOKING: Duration = Duration::from_millis(100);

/// How long a program that was killed may take to end.
const DYING: Duration = Duration::from_secs(3);

/// The longest file that is read.
const LONGEST: u64 = 256 << 10;

/// Forgets all sessions that programs of this user share. Returns how many there were.
pub(crate) fn forget_all(directory: &std::path::Path) -> usize {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sessions = files.map(|file| file.path()).filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "session")
    });
    sessions
        .filter(|path| std::fs::remove_file(path).is_ok())
        .count()
}

/// Where slots are.
#[derive(Debug)]
pub(crate) struct Shelf {
    directory: Option<PathBuf>,
    memory: Mutex<HashMap<String, Bytes>>,
}

/// The bytes of a file, which hold secrets.
type Bytes = Zeroizing<Vec<u8>>;

/// The place of one session.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    shelf: Arc<Shelf>,
    /// What the session is of, in words; no secret among them.
    key: String,
    name: String,
}

/// A session as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
    #[serde(with = "millis")]
    expires: Option<SystemTime>,
    #[serde(with = "millis")]
    authenticated: Option<SystemTime>,
}

/// What a slot holds.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Record {
    version: u32,
    key: String,
    session: Option<Kept>,
    refusal: Option<Refusal>,
    /// How many there were in a row.
    refusals: u32,
}

/// Why the last attempt brought no session, and until when nobody is asked again.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Refusal {
    kind: Kind,
    text: String,
    #[serde(with = "millis")]
    at: Option<SystemTime>,
    #[serde(with = "millis")]
    until: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Cancelled,
    TimedOut,
    CodesRejected,
    UnknownDevice,
    Refused,
}

/// The right to ask the person. It ends with this value, and with the process.
#[derive(Debug)]
pub(crate) struct Lease {
    _lock: Option<Flock<std::fs::File>>,
}

/// Which session will do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// The access key of one that was refused.
    pub(crate) rejected: Option<String>,
    /// Its code must have been accepted after this.
    pub(crate) after: Option<SystemTime>,
    /// When the wish arose: an older refusal does not answer it.
    pub(crate) since: Option<SystemTime>,
    /// Whether somebody wants it now, whatever was refused.
    pub(crate) insists: bool,
}

/// What is found in a slot.
#[derive(Debug)]
pub(crate) enum Found {
    /// A session that will do.
    Session(Kept),
    /// Nobody may be asked, and why.
    Refusal(AuthError),
    /// Nothing.
    Nothing,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("session", &self.session)
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl Kept {
    /// Keeps a session whose code was accepted at a moment.
    pub(crate) fn new(
        credentials: &Credentials,
        expires: Option<SystemTime>,
        authenticated: SystemTime,
    ) -> Self {
        let token = credentials.session_token();
        Self {
            access_key_id: credentials.access_key_id().to_owned(),
            secret_access_key: credentials.secret_access_key().to_owned().into(),
            session_token: token.map(|token| token.to_owned().into()),
            expires,
            authenticated: Some(authenticated),
        }
    }

    /// The keys and the token.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(
            self.access_key_id.clone(),
            self.secret_access_key.to_string(),
            self.session_token.as_ref().map(|token| token.to_string()),
            self.expires,
            "shared session",
        )
    }

    /// When it ends, if it does.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// When its code was accepted.
    pub(crate) fn authenticated(&self) -> SystemTime {
        self.authenticated.unwrap_or(UNIX_EPOCH)
    }

    fn will_do(&self, wanted: &Wanted, now: SystemTime) -> bool {
        let lives = self.expires.is_none_or(|expires| expires > now + MARGIN);
        let is_refused = wanted.rejected.as_deref() == Some(&self.access_key_id);
        let is_fresh = wanted
            .after
            .is_none_or(|after| self.authenticated() > after);
        lives && !is_refused && is_fresh
    }
}

impl Shelf {
    /// Keeps slots in this directory, or in memory.
    pub(crate) fn new(directory: Option<PathBuf>) -> Arc<Self> {
        let directory = directory.filter(|directory| {
            crate::runtime::make_private(directory)
                .inspect_err(|error| {
                    tracing::warn!("sessions are not shared with other programs: {error}");
                })
                .is_ok()
        });
        Arc::new(Self {
            directory,
            memory: Mutex::default(),
        })
    }

    /// The slot of what `parts` name; secrets must not be among them.
    pub(crate) fn slot(self: &Arc<Self>, parts: &[&str]) -> Slot {
        Slot {
            shelf: Arc::clone(self),
            key: parts.join("\n"),
            name: Self::name(parts),
        }
    }

    /// A file name for what `parts` name.
    pub(super) fn name(parts: &[&str]) -> String {
        let digest = Sha1::digest(parts.join("\n").as_bytes());
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// What a file holds; an unreadable one holds nothing.
    pub(super) fn get(&self, file: &str) -> Option<Bytes> {
        let Some(directory) = &self.directory else {
            return self.memory.lock().get(file).cloned();
        };
        let mut bytes = Zeroizing::new(Vec::new());
        let file = std::fs::File::open(directory.join(file)).ok()?;
        file.take(LONGEST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Replaces what a file holds, as a whole.
    pub(super) fn put(&self, file: &str, bytes: Bytes) {
        let Some(directory) = &self.directory else {
            self.memory.lock().insert(file.to_owned(), bytes);
            return;
        };
        let write = || {
            let draft = directory.join(format!("{file}.draft-{}", std::process::id()));
            let _ = std::fs::remove_file(&draft);
            let mut opened = std::fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&draft)?;
            opened.write_all(&bytes)?;
            std::fs::rename(&draft, directory.join(file))
        };
        if let Err(error) = write() {
            tracing::warn!("the session is not shared with other programs: {error}");
        }
    }
}

impl Slot {
    /// Whether both are the same place.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// What is there at this moment, for who wants a session.
    pub(crate) fn look(&self, wanted: &Wanted, now: SystemTime) -> Found {
        let record = self.read();
        if let Some(session) = record.session
            && session.will_do(wanted, now)
        {
            return Found::Session(session);
        }
        let Some(refusal) = record.refusal.filter(|_| !wanted.insists) else {
            return Found::Nothing;
        };
        // Somebody was asked for all who waited then, and said no.
        if wanted.since.is_some() && refusal.at > wanted.since {
            return Found::Refusal(refusal.error());
        }
        match refusal.until {
            Some(until) if until > now => Found::Refusal(AuthError::CoolingDown {
                until,
                because: refusal.error().to_string(),
            }),
            _ => Found::Nothing,
        }
    }

    /// The lease, if nobody has it.
    pub(crate) fn try_lease(&self) -> Option<Lease> {
        let Some(directory) = &self.shelf.directory else {
            return Some(Lease { _lock: None });
        };
        let path = directory.join(format!("{}.lock", self.name));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path);
        let Ok(file) = file else {
            // The directory is gone: nobody else can have the lease either.
            return Some(Lease { _lock: None });
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(Lease { _lock: Some(lock) }),
            Err((_, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) => None,
            Err(_) => Some(Lease { _lock: None }),
        }
    }

    /// Waits for the lease, or for what makes it unnecessary.
    pub(crate) async fn lease_or_find(
        &self,
        wanted: &Wanted,
        now: impl Fn() -> SystemTime,
    ) -> Result<Lease, Found> {
        let mut is_told = false;
        let begun = Instant::now();
        loop {
            match self.look(wanted, now()) {
                Found::Nothing => {}
                found => return Err(found),
            }
            if let Some(lease) = self.try_lease() {
                // Its last owner may have left something after the look.
                return match self.look(wanted, now()) {
                    Found::Nothing => Ok(lease),
                    found => Err(found),
                };
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!("another program asks for the same session: waiting for that");
            }
            if begun.elapsed() > DYING && self.is_held_by_the_dead() {
                tracing::warn!("the program that has asked for this session was killed, and hangs");
                return Ok(Lease { _lock: None });
            }
            tokio::time::sleep(LOOKING).await;
        }
    }

    /// Whether who has the lease was killed, and will never give it back.
    fn is_held_by_the_dead(&self) -> bool {
        let Some(directory) = &self.shelf.directory else {
            return false;
        };
        let path = directory.join(format!("{}.lock", self.name));
        holder::holder(&path).is_some_and(holder::was_killed)
    }

    /// Returns a session that somebody else has put there meanwhile: a person who answered at
    /// another program's prompt.
    pub(crate) async fn session_of_another(
        &self,
        wanted: &Wanted,
        now: impl Fn() -> SystemTime,
    ) -> Kept {
        let mut wanted = wanted.clone();
        wanted.insists = true;
        loop {
            tokio::time::sleep(LOOKING).await;
            if let Found::Session(session) = self.look(&wanted, now()) {
                return session;
            }
        }
    }

    /// Leaves a session for everybody.
    pub(crate) fn leave(&self, session: &Kept) {
        self.write(&Record {
            session: Some(session.clone()),
            ..Record::default()
        });
    }

    /// Leaves a person's refusal, so that nobody asks again before the cool-down is over. What a
    /// machine refuses is everybody's own affair.
    pub(crate) fn refuse(&self, error: &AuthError, first: Duration, now: SystemTime) {
        let Some(kind) = Kind::of(error) else {
            return;
        };
        let before = self.read();
        let refusals = before.refusals + 1;
        let span = cool_down(first, before.refusals);
        self.write(&Record {
            session: before.session,
            refusal: Some(Refusal {
                kind,
                text: error.to_string(),
                at: Some(now),
                until: Some(now + span),
            }),
            refusals,
            ..Record::default()
        });
    }

    /// Forgets a refusal: somebody wants to be asked.
    pub(crate) fn forgive(&self) {
        let mut record = self.read();
        if record.refusal.take().is_some() {
            record.refusals = 0;
            self.write(&record);
        }
    }

    /// Forgets the session.
    pub(crate) fn forget(&self) {
        let mut record = self.read();
        if record.session.take().is_some() {
            self.write(&record);
        }
    }

    /// What is there; anything unreadable is nothing.
    fn read(&self) -> Record {
        let bytes = self.shelf.get(&self.file()).unwrap_or_default();
        let record: Result<Record, _> = serde_json::from_slice(&bytes);
        record
            .ok()
            .filter(|record| record.version == VERSION && record.key == self.key)
            .unwrap_or_default()
    }

    fn write(&self, record: &Record) {
        let record = Record {
            version: VERSION,
            key: self.key.clone(),
            ..record.clone()
        };
        if let Ok(bytes) = serde_json::to_vec(&record) {
            self.shelf.put(&self.file(), bytes.into());
        }
    }

    fn file(&self) -> String {
        format!("{}.session", self.name)
    }
}

impl Refusal {
    fn error(&self) -> AuthError {
        let text = self.text.clone();
        match self.kind {
            Kind::Cancelled => AuthError::Cancelled,
            Kind::TimedOut => AuthError::TimedOut,
            Kind::CodesRejected => AuthError::CodesRejected(text),
            Kind::UnknownDevice => AuthError::UnknownDevice(text),
            Kind::Refused => AuthError::Refused(text),
        }
    }
}

impl Kind {
    fn of(error: &AuthError) -> Option<Self> {
        match error {
            AuthError::Cancelled => Some(Self::Cancelled),
            AuthError::TimedOut => Some(Self::TimedOut),
            AuthError::CodesRejected(_) => Some(Self::CodesRejected),
            AuthError::UnknownDevice(_) => Some(Self::UnknownDevice),
            // What was refused may be mended before the next program comes: keys, a role, a region.
            AuthError::Refused(_)
            | AuthError::CoolingDown { .. }
            | AuthError::Unasked
            | AuthError::NoDevice(_)
            | AuthError::NoPrompt(_)
            | AuthError::Unreachable { .. }
            | AuthError::Unavailable(_)
            | AuthError::Locked
            | AuthError::Ending => None,
        }
    }
}

/// Moments as milliseconds since 1970.
pub(super) mod millis {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        moment: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
        let millis = since.and_then(|since| u64::try_from(since.as_millis()).ok());
        millis.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let millis = Option::<u64>::deserialize(deserializer)?;
        Ok(millis.map(|millis| UNIX_EPOCH + Duration::from_millis(millis)))
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
