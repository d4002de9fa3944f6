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
