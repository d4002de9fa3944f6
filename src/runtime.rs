//! The directory that lives for as long as the user is logged in.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// `$XDG_RUNTIME_DIR/s3mfa-mount`, or `/run/s3mfa-mount` for root without one; `None` where there
/// is neither. Both are in memory, and gone when the user logs out, or the machine goes down.
pub(crate) fn directory() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match named {
        Some(named) => Some(Path::new(&named).join("s3mfa-mount")),
        None => nix::unistd::getuid()
            .is_root()
            .then(|| PathBuf::from("/run/s3mfa-mount")),
    }
}

/// Whether the user is logged in, as far as the directory tells.
pub(crate) struct Presence {
    /// The directory in which ours is; `None` if there is no such thing here.
    directory: Option<PathBuf>,
    is_there: bool,
}

impl Presence {
    /// Begins to watch.
    pub(crate) fn watch() -> Self {
        let directory = directory().and_then(|ours| Some(ours.parent()?.to_owned()));
        let is_there = directory.as_deref().is_some_and(Path::exists);
        Self {
            directory,
            is_there,
        }
    }

    /// Whether the user has logged out since this was asked last.
    pub(crate) fn has_ended(&mut self) -> bool {
        let was_there = self.is_there;
        self.is_there = self.directory.as_deref().is_some_and(Path::exists);
        was_there && !self.is_there
    }
}

/// Makes a directory that only this user can enter, or checks that the one there is such.
pub(crate) fn make_private(directory: &Path) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(directory)?;
    let me = nix::unistd::getuid().as_raw();
    if !found.is_dir() || found.uid() != me || found.mode() & 0o077 != 0 {
        return Err(std::io::Error::other(format!(
            "{} is not a directory that only you can enter: remove it",
            directory.display()
        )));
    }
    Ok(())
}
