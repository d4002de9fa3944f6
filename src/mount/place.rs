//! Where a mount goes: finding out what is there, and taking it away.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::MountError;

/// The type that mounts of this program have in `/proc/self/mountinfo`.
pub(crate) const SUBTYPE: &str = "s3mfa-mount";

/// Makes sure that something can be mounted here, and returns the resolved path.
///
/// A stale mount, whose daemon is dead ("Transport endpoint is not connected"), is taken away.
pub(crate) fn prepare(mountpoint: &Path) -> Result<PathBuf, MountError> {
    if is_stale(mountpoint) {
        tracing::info!("taking away the stale mount on {}", mountpoint.display());
        detach(mountpoint)?;
    }
    let resolved = match mountpoint.canonicalize() {
        Ok(resolved) => resolved,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(MountError::Usage(format!(
                "there is no directory {0}: make it first (mkdir -p {0})",
                mountpoint.display()
            )));
        }
        Err(error) => {
            return Err(MountError::Fuse(format!(
                "{} cannot be mounted on: {error}",
                mountpoint.display()
            )));
        }
    };
    if !resolved.is_dir() {
        return Err(MountError::Usage(format!(
            "{} is not a directory",
            resolved.display()
        )));
    }
    if is_ours(&resolved) {
        return Err(MountError::Fuse(format!(
            "something is mounted on {0} already; `s3mfa-mount status {0}` tells what, \
             `s3mfa-mount unmount {0}` takes it away",
            resolved.display()
        )));
    }
    Ok(resolved)
}

fn is_stale(mountpoint: &Path) -> bool {
    let found = std::fs::metadata(mountpoint);
    let not_connected = |e: &std::io::Error| e.raw_os_error() == Some(libc::ENOTCONN);
    found.as_ref().is_err_and(not_connected)
}

/// Whether a mount of this program is on top of this path, dead or alive.
pub(crate) fn is_ours(path: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return false;
    };
    // proc_pid_mountinfo(5): the fifth field is the place, the type comes behind " - ".
    let kinds = mounts.lines().filter_map(|line| {
        let (place, rest) = line.split_once(" - ")?;
        (Path::new(&unescape(place.split(' ').nth(4)?)) == path).then(|| rest.split(' ').next())?
    });
    // The last one is the one on top.
    kinds.last() == Some(&format!("fuse.{SUBTYPE}"))
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match tail {
            [a, b, c, ..] if *first == b'\\' && [a, b, c].iter().all(|d| (b'0'..=b'7').contains(d)) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Takes a mount away at once; who has files open there keeps them until they are closed.
pub(crate) fn detach(mountpoint: &Path) -> Result<(), MountError> {
    match umount2(mountpoint, MntFlags::MNT_DETACH) {
        // Already gone.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(error) => {
            return Err(MountError::Fuse(format!(
                "{} cannot be unmounted: {error}",
                mountpoint.display()
            )));
        }
    }
    let output = Command::new(fusermount())
        .args(["-u", "-z", "--"])
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(MountError::Fuse(format!(
            "{} cannot be unmounted: {}",
            mountpoint.display(),
            crate::words::tame(String::from_utf8_lossy(&output.stderr).trim())
        ))),
        Err(_) => Err(MountError::Fuse(NO_FUSERMOUNT.to_owned())),
    }
}

/// What to say when an unprivileged mount has no helper.
const NO_FUSERMOUNT: &str =
    "fusermount3 is not installed, and only root can mount without it: apt-get install fuse3";

fn fusermount() -> std::ffi::OsString {
    std::env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| "fusermount3".into())
}

/// Says why mounting failed, and what to do.
pub(crate) fn explain(mountpoint: &Path, error: &std::io::Error) -> MountError {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    let root = nix::unistd::geteuid().is_root();
    let text = crate::words::tame(error.to_string().trim());
    let why = match device {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            "there is no /dev/fuse: load the kernel's module (modprobe fuse); in a container, \
             pass the device in (--device /dev/fuse --cap-add SYS_ADMIN)"
                .to_owned()
        }
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            "you may not open /dev/fuse: as root, chmod 666 /dev/fuse".to_owned()
        }
        _ if error.kind() == ErrorKind::NotFound && !root => NO_FUSERMOUNT.to_owned(),
        _ if text.contains("user_allow_other") => {
            "--allow-other and --allow-root need the line user_allow_other in /etc/fuse.conf"
                .to_owned()
        }
        _ if text.contains("no write access") => format!(
            "you may mount only on a directory that you own: chown it, or use one in {}",
            std::env::var("HOME").unwrap_or_else(|_| "your home".to_owned())
        ),
        _ if root && text.contains("EPERM") => {
            "mounting is not permitted here: in a container, start it with --cap-add SYS_ADMIN"
                .to_owned()
        }
        _ => text,
    };
    MountError::Fuse(format!("cannot mount on {}: {why}", mountpoint.display()))
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn places_with_blanks_are_read() {
        assert_eq!(unescape("/mnt/my\\040docs"), "/mnt/my docs");
        assert_eq!(unescape("/mnt/a\\134b"), "/mnt/a\\b");
        assert_eq!(unescape("/mnt/\\9"), "/mnt/\\9");
    }
}
