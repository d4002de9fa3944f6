//! What a mount keeps on the local disk: unsaved writes, and what it knows of objects.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{MountError, Mounted};
use crate::auth::session::Phase;
use crate::config::Config;
use crate::fs::aside::Notice;
use crate::fs::index::Index;
use crate::fs::{FileSystem, Keeping};
use crate::spool::{Found, Opened, Owner, Spool, pending_elsewhere};

/// How often what may wait is written down.
const TIDYING: Duration = Duration::from_secs(1);

/// After how many of those what could not be stored is tried again.
const RETRY: u32 = 15;

/// Where things are kept: `$XDG_STATE_HOME/s3mfa-mount`, see the XDG Base Directory
/// Specification.
pub(crate) fn directory() -> Result<PathBuf, MountError> {
    let named = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value)).filter(|path| path.is_absolute())
    };
    if let Some(state) = named("XDG_STATE_HOME") {
        return Ok(state.join("s3mfa-mount"));
    }
    if let Some(home) = named("HOME") {
        return Ok(home.join(".local/state/s3mfa-mount"));
    }
    if nix::unistd::getuid().is_root() {
        return Ok(PathBuf::from("/var/lib/s3mfa-mount"));
    }
    Err(MountError::Other(
        "there is no place for unsaved writes: set HOME or XDG_STATE_HOME, or mount with \
         --read-only"
            .to_owned(),
    ))
}

/// A name for files that belong to one bucket at one endpoint.
fn of_bucket(config: &Config) -> String {
    let mut hasher = DefaultHasher::new();
    (&config.endpoints.s3, &config.bucket).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Where what the store honours is remembered.
pub(super) fn support_file(config: &Config) -> Option<PathBuf> {
    let directory = directory().ok()?;
    Some(directory.join(format!("support-{}.json", of_bucket(config))))
}

/// Opens both, with what earlier runs have left of unsaved writes.
pub(super) fn open(config: &Config) -> Result<(Keeping, Vec<Found>), MountError> {
    let nothing = |index| Keeping {
        spool: None,
        index,
        upload_limit: config.upload_limit,
    };
    if config.look.read_only {
        // A mount that cannot write stores nothing, and keeps others' hands off nothing.
        return Ok((nothing(Index::in_memory()), Vec::new()));
    }
    let directory = directory()?;
    let owner = Owner {
        endpoint: config.endpoints.s3.clone().unwrap_or_default(),
        bucket: config.bucket.clone(),
        principal: config.identity.principal(),
    };
    let explain = |error: crate::spool::SpoolError| {
        MountError::Other(format!(
            "unsaved writes cannot be kept: {error}. A mount with --read-only needs no place for \
             them"
        ))
    };
    let root = directory.join("spool");
    let Opened { spool, entries } =
        Spool::open(&root, &owner, config.spool_limit).map_err(explain)?;
    if let Ok(others) = pending_elsewhere(&root, &owner) {
        tell_of(&others, &root);
    }
    // One for each prefix: a file of this kind has one user at a time.
    let mut hasher = DefaultHasher::new();
    config.prefix.hash(&mut hasher);
    let name = format!("index-{}-{:08x}.redb", of_bucket(config), hasher.finish());
    let index = Index::open(&directory.join(name));
    let index = index.unwrap_or_else(|error| {
        tracing::warn!("{error}; attributes are remembered in memory only");
        Index::in_memory()
    });
    let keeping = Keeping {
        spool: Some(spool),
        ..nothing(index)
    };
    Ok((keeping, entries))
}

fn tell_of(others: &[crate::spool::Elsewhere], root: &Path) {
    if !others.is_empty() {
        tracing::warn!(
            "writes of another identity wait in {}: mount this bucket with its keys to have them \
             stored",
            root.display()
        );
    }
}

/// Stores what waits whenever that may work, and writes down what may wait.
pub(super) async fn keep(mounted: Arc<Mounted>) {
    let mut phases = mounted.sessions.phases();
    let mut notices = mounted.fs.notices();
    let mut ticks = 0_u32;
    let mut was_live = false;
    loop {
        let is_live = matches!(*phases.borrow_and_update(), Phase::Live(_));
        if is_live && !was_live && !mounted.config.look.read_only {
            mounted.fs.go_on(true);
        }
        was_live = is_live;
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { return },
            notice = notices.recv() => if let Ok(notice) = notice { notify(&notice).await },
            () = tokio::time::sleep(TIDYING) => {
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(RETRY) {
                    mounted.fs.go_on(false);
                }
                tidy(&mounted.fs).await;
            }
        }
    }
}

/// Writes down what may wait.
pub(super) async fn tidy(fs: &Arc<FileSystem>) {
    let fs = Arc::clone(fs);
    let _ = tokio::task::spawn_blocking(move || fs.tidy()).await;
}

/// Tells the desktop, if there is one, of a file that was stored beside its name, or cannot be
/// stored.
async fn notify(notice: &Notice) {
    if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() {
        return;
    }
    let (title, text) = match notice {
        Notice::Aside(aside) => (
            match aside.why {
                "conflict" => "Somebody else changed a file that you were writing",
                _ => "An interrupted write was recovered",
            },
            format!("{}: your version is {}", aside.key, aside.stored_as),
        ),
        Notice::Failed { key, why } => (
            "A file could not be stored",
            format!("{key}: {why}. It is kept on this machine."),
        ),
    };
    let notified = tokio::process::Command::new("notify-send")
        .args(["-a", "s3mfa-mount", "-i", "dialog-warning", title])
        .arg(text)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .status();
    let _ = tokio::time::timeout(Duration::from_secs(5), notified).await;
}
