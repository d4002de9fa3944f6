//! What a mount keeps on the local disk: unsaved writes, and what it knows of objects.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{MountError, Mounted, notification};
use crate::auth::Asker;
use crate::auth::session::Phase;
use crate::clock::wall_time;
use crate::config::Config;
use crate::fs::aside::Notice;
use crate::fs::index::Index;
use crate::fs::locks::Place;
use crate::fs::{FileSystem, Keeping};
use crate::runtime::Presence;
use crate::spool::{Found, Opened, Owner, Spool, hung, pending_elsewhere};
use crate::store::inspect::Inspector;
use crate::store::policy;

/// How often what may wait is written down.
const TIDYING: Duration = Duration::from_secs(1);

/// How long a mount that was killed may take to end, and then one whose connection was aborted.
const DYING: Duration = Duration::from_secs(3);

/// How often that is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// After how many of those what could not be stored is tried again.
const RETRY: u32 = 15;

/// Where things are kept.
pub(crate) fn directory() -> Result<PathBuf, MountError> {
    crate::access::state_directory().ok_or_else(|| {
        MountError::Other(
            "there is no place for unsaved writes: set HOME or XDG_STATE_HOME, or mount with \
             --read-only"
                .to_owned(),
        )
    })
}

/// A name for files that belong to one bucket at one endpoint.
pub(super) fn of_bucket(config: &Config) -> String {
    let mut hasher = DefaultHasher::new();
    (&config.access.endpoints.urls.s3, &config.bucket).hash(&mut hasher);
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
        locks: locks(config),
    };
    if config.look.read_only {
        // A mount that cannot write stores nothing, and keeps others' hands off nothing.
        return Ok((nothing(Index::in_memory()), Vec::new()));
    }
    let directory = directory()?;
    let owner = Owner {
        endpoint: config.access.endpoints.urls.s3.clone().unwrap_or_default(),
        bucket: config.bucket.clone(),
        principal: config.access.identity.principal(),
    };
    let explain = |error: crate::spool::SpoolError| {
        MountError::Other(format!(
            "unsaved writes cannot be kept: {error}. A mount with --read-only needs no place for \
             them"
        ))
    };
    let root = directory.join("spool");
    end_hung(&root, &owner);
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

/// Ends mounts of this bucket that were killed and hang in the kernel, where that is permitted, so
/// that what they have not saved can be taken over; and says what stays out of reach.
fn end_hung(root: &Path, owner: &Owner) {
    let begun = Instant::now();
    let mut has_aborted = false;
    while let Ok(found) = hung(root, owner)
        && !found.is_empty()
    {
        if begun.elapsed() < DYING {
            // Mostly it is just about to end.
        } else if !std::mem::replace(&mut has_aborted, true) {
            for device in found.iter().filter_map(|one| one.device.as_deref()) {
                super::place::abort(device);
            }
        } else if begun.elapsed() > 2 * DYING {
            for one in found {
                let number = one
                    .device
                    .as_deref()
                    .and_then(|device| device.split_once(':'));
                tracing::error!(
                    "process {} is a mount of this bucket that was killed and hangs in the kernel: \
                     what it has not stored stays in {} until it ends. As root, mount -t fusectl \
                     none /sys/fs/fuse/connections, unless that is done, then echo 1 > \
                     /sys/fs/fuse/connections/{}/abort; and mount again",
                    one.process,
                    one.directory.display(),
                    number.map_or("NUMBER", |(_, minor)| minor),
                );
            }
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Where locks of all users are kept, if an administrator has made it: `install -d -m 1777 …`.
const LOCKS_OF_ALL: &str = "/run/lock/s3mfa-mount";

/// Where lock files are: for all users of the machine, or for this one.
fn locks(config: &Config) -> Place {
    let of_all = Path::new(LOCKS_OF_ALL);
    let about = of_all.symlink_metadata();
    let shared = about
        .is_ok_and(|about| about.is_dir() && about.uid() == 0 && about.mode() & 0o1777 == 0o1777);
    let own = || crate::control::place::directory().ok();
    let directory = match shared {
        true => Some(of_all.to_owned()),
        false => own().map(|directory| directory.join("locks")),
    };
    let endpoint = config.access.endpoints.urls.s3.as_deref();
    Place {
        directory,
        shared,
        bucket: format!("{}\0{}", endpoint.unwrap_or_default(), config.bucket),
    }
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
    let mut offers = mounted.sessions.offers();
    let mut presence = Presence::watch();
    let mut ticks = 0_u32;
    let (mut was_live, mut has_policy) = (false, false);
    loop {
        let is_live = matches!(*phases.borrow_and_update(), Phase::Live(_));
        if is_live && !was_live && !mounted.config.look.read_only {
            mounted.fs.go_on(true);
        }
        if is_live && !has_policy {
            has_policy = true;
            tokio::spawn(read_policy(Arc::clone(&mounted)));
        }
        was_live = is_live;
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { return },
            offered = offers.changed() => if offered.is_ok() {
                tokio::spawn(offer(Arc::clone(&mounted)));
            },
            notice = notices.recv() => if let Ok(notice) = notice { notify(&notice).await },
            () = tokio::time::sleep(TIDYING) => {
                if presence.has_ended() {
                    mounted.sessions.log_out();
                }
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(RETRY) {
                    mounted.fs.go_on(false);
                }
                tidy(&mounted.fs).await;
            }
        }
    }
}

/// Reads the bucket's policy, if that is allowed: it may tell how old a code may become, before S3
/// denies anything.
pub(super) async fn read_policy(mounted: Arc<Mounted>) {
    let Some(lease) = mounted.bucket.lease() else {
        return;
    };
    if let Ok(Some(policy)) = Inspector::of(&lease).policy().await {
        let rules = policy::rules(&policy);
        if let Some(limit) = policy::age_limit(&rules, &mounted.config.prefix) {
            mounted.sessions.know_age_limit(limit);
        }
    }
}

/// Offers a new code before one is needed. Only a click asks for it: a dialog that nobody wants just
/// now would be in the way.
async fn offer(mounted: Arc<Mounted>) {
    let Some(end) = mounted.sessions.offered() else {
        return;
    };
    let title = format!(
        "{} needs a new MFA code at {}",
        mounted.place(),
        wall_time(end)
    );
    let text = "Nothing is lost without one: who needs the mount then is asked.";
    let left = end
        .duration_since(mounted.sessions.now())
        .unwrap_or_default();
    if notification::ask("dialog-password", &title, text, "Enter a code", left).await {
        let now = mounted.sessions.now();
        let renewed = mounted.sessions.ask_now(now, None, &Asker::person()).await;
        if let Err(error) = renewed {
            tracing::info!("the session goes on as it is: {error}");
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
    notification::tell("dialog-warning", title, &text).await;
}
