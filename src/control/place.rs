//! Where sockets are: a directory that only this user can enter.

use std::path::PathBuf;

use crate::runtime;

/// The directory, made if need be.
///
/// `$XDG_RUNTIME_DIR/s3mfa-mount`; without one `/run/s3mfa-mount` for root, and for others the
/// directory that logind would have named, or one in `/tmp`.
pub(crate) fn directory() -> std::io::Result<PathBuf> {
    let directory = runtime::directory().unwrap_or_else(|| {
        let uid = nix::unistd::getuid();
        let logind = PathBuf::from(format!("/run/user/{uid}"));
        match logind.is_dir() {
            true => logind.join("s3mfa-mount"),
            false => PathBuf::from(format!("/tmp/s3mfa-mount-{uid}")),
        }
    });
    runtime::make_private(&directory)?;
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
