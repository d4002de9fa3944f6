//! Builds the way to sessions out of a checked configuration: for mounts, and for the commands
//! that need keys and no mount.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::auth::conversation::Subject;
use crate::auth::ladder::{Ladder, Parts};
use crate::auth::memory::Memory;
use crate::auth::prompt::Selection;
use crate::auth::shared::Shelf;
use crate::aws::{Aws, AwsError};
use crate::config::Access;

/// What a session is for.
pub(crate) struct Purpose {
    /// What prompts say about it, a name and a value each; the profile is added.
    pub(crate) lines: Vec<(&'static str, String)>,
    /// The bucket, as what is learned about it is remembered.
    pub(crate) bucket: Option<String>,
    /// Whether the terminal that this was started on may still be used.
    pub(crate) attached: Arc<AtomicBool>,
}

/// A way to sessions, and what it shares with the rest.
pub(crate) struct Entry {
    pub(crate) aws: Arc<Aws>,
    pub(crate) ladder: Arc<Ladder>,
}

/// Opens nothing yet: the first login does.
pub(crate) fn entry(access: &Access, purpose: Purpose) -> Result<Entry, AwsError> {
    let aws = Aws::new(access.endpoints.clone())?;
    let memory = Arc::new(Memory::open(state_directory()));
    let ask = Selection::new(
        access.prompt.wanted,
        access.prompt.program.clone(),
        access.prompt.process.clone(),
        purpose.attached,
    );
    let mut lines = purpose.lines;
    lines.push(("Profile", access.identity.profile.clone()));
    let ladder = Ladder::new(Parts {
        identity: access.identity.clone(),
        reread: Some(access.asked.clone()),
        aws: Arc::clone(&aws),
        clock: Arc::new(aws.clock.clone()),
        shelf: Shelf::new(crate::runtime::directory()),
        memory,
        ask: Arc::new(ask),
        subject: Subject { lines },
        bucket: purpose.bucket,
        max_age: access.max_age,
        cool_down: access.patience.cool_down,
    });
    Ok(Entry { aws, ladder })
}

/// `$XDG_STATE_HOME/s3mfa-mount`, see the XDG Base Directory Specification; `None` where there is
/// no home either. A root without HOME is a system service.
pub(crate) fn state_directory() -> Option<PathBuf> {
    let named = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value)).filter(|path| path.is_absolute())
    };
    if let Some(state) = named("XDG_STATE_HOME") {
        return Some(state.join("s3mfa-mount"));
    }
    if let Some(home) = named("HOME") {
        return Some(home.join(".local/state/s3mfa-mount"));
    }
    if nix::unistd::getuid().is_root() {
        return Some(PathBuf::from("/var/lib/s3mfa-mount"));
    }
    let home = crate::home::directory().filter(|home| home.is_absolute());
    home.map(|home| home.join(".local/state/s3mfa-mount"))
}
