//! Where sockets are: a directory that only this user can enter.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The directory, made if need be.
///
/// `$XDG_RUNTIME_DIR/s3mfa-mount`; without one `/run/s3mfa-mount` for root, and for others the
/// directory that logind would have named, or one in `/tmp`.
pub(crate) fn directory() -> std::io::Result<PathBuf> {
    let uid = nix::unistd::getuid();
    let named = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let logind = PathBuf::from(format!("/run/user/{uid}"));
    let directory = if let Some(named) = named {
        Path::new(&named).join("s3mfa-mount")
    } else if uid.is_root() {
        PathBuf::from("/run/s3mfa-mount")
    } else if logind.is_dir() {
        logind.join("s3mfa-mount")
    } else {
        PathBuf::from(format!("/tmp/s3mfa-mount-{uid}"))
    };
    match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&directory)?;
    if !found.is_dir() || found.uid() != uid.as_raw() || found.mode() & 0o077 != 0 {
        return Err(std::io::Error::other(format!(
            "{} is not a directory that only you can enter: remove it",
            directory.display()
        )));
    }
    Ok(directory)
}

/// The sockets of all mounts of this user, dead ones among them.
pub(crate) fn sockets() -> std::io::Result<Vec<PathBuf>> {
    let mut sockets: Vec<PathBuf> = std::fs::read_dir(directory()?)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "sock"))
        .collect();
    sockets.sort();
    Ok(sockets)
}
