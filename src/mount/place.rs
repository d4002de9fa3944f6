//! Where a mount goes: finding out what is there, and taking it away.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::MountError;

/// How long a living daemon may take to answer statfs(2).
const ANSWER: Duration = Duration::from_secs(5);

/// The type that mounts of this program have in `/proc/self/mountinfo`.
pub(crate) const SUBTYPE: &str = "s3mfa-mount";

/// Makes sure that something can be mounted here, and returns the resolved path.
///
/// A stale mount, whose daemon is dead ("Transport endpoint is not connected"), is taken away.
pub(crate) fn prepare(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let written = written(mountpoint);
    match take_away_dead(&written) {
        Ok(true) => tracing::info!("the dead mount on {} is taken away", written.display()),
        Ok(false) => {}
        Err(error @ MountError::Other(_)) => tracing::error!("{error}"),
        Err(error) => return Err(error),
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
    let hidden = std::fs::read_dir(&resolved).map_or(0, Iterator::count);
    if hidden > 0 {
        tracing::warn!(
            "{} is not empty: what is in it ({hidden} names) is hidden while it is mounted",
            resolved.display()
        );
    }
    Ok(resolved)
}

/// A place as the kernel lists it, without asking who is mounted there: only what is above is resolved.
pub(crate) fn written(mountpoint: &Path) -> PathBuf {
    let whole = std::path::absolute(mountpoint).unwrap_or_else(|_| mountpoint.to_owned());
    let above = whole.parent().and_then(|above| above.canonicalize().ok());
    match (above, whole.file_name()) {
        (Some(above), Some(name)) => above.join(name),
        _ => whole,
    }
}

/// Takes a FUSE mount away that has lost its daemon. Returns whether there was one.
///
/// Errors: [`MountError::Other`] if it is taken away, but programs hang in it still.
pub(crate) fn take_away_dead(mountpoint: &Path) -> Result<bool, MountError> {
    let mount = on_top(mountpoint).filter(|mount| mount.kind.starts_with("fuse"));
    let Some(mount) = mount else {
        return Ok(false);
    };
    let state = state(mountpoint, &mount);
    if state == State::Alive {
        return Ok(false);
    }
    let force = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH;
    // Root can do without that file system.
    let is_ended = abort(&mount.device) || umount2(mountpoint, force).is_ok();
    detach(mountpoint)?;
    if state == State::Dead || is_ended {
        return Ok(true);
    }
    let minor = mount
        .device
        .split_once(':')
        .map_or("NUMBER", |(_, minor)| minor);
    Err(MountError::Other(format!(
        "the name {} is free, but the daemon that was mounted there hangs in the kernel, and so do \
         programs that have files open there: as root, mount -t fusectl none \
         /sys/fs/fuse/connections, unless that is done, then echo 1 > \
         /sys/fs/fuse/connections/{minor}/abort",
        mountpoint.display()
    )))
}

/// How a FUSE mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Alive,
    /// Its daemon is gone.
    Dead,
    /// Its daemon does not answer: it was killed, and cannot end.
    Hung,
}

fn state(mountpoint: &Path, mount: &Mount) -> State {
    // Not stat(2), which the kernel answers from memory for a second after the daemon's death.
    // Even statfs(2) waits for ever if a daemon hangs, so it is asked from a thread.
    let (tell, told) = std::sync::mpsc::channel();
    let place = mountpoint.to_owned();
    std::thread::spawn(move || {
        let _ = tell.send(nix::sys::statfs::statfs(&place).err() == Some(Errno::ENOTCONN));
    });
    match told.recv_timeout(ANSWER) {
        Ok(true) => State::Dead,
        // Ours always answers this at once.
        Err(_) if mount.kind == format!("fuse.{SUBTYPE}") => State::Hung,
        _ => State::Alive,
    }
}

/// Whether a mount of this program is on top of this path, dead or alive.
pub(crate) fn is_ours(path: &Path) -> bool {
    on_top(path).is_some_and(|mount| mount.kind == format!("fuse.{SUBTYPE}"))
}

/// The device number of the mount on top of this path, `0:57`. No two mounts have the same.
pub(crate) fn device(path: &Path) -> Option<String> {
    on_top(path).map(|mount| mount.device)
}

/// One line of proc_pid_mountinfo(5).
struct Mount {
    device: String,
    kind: String,
}

fn on_top(path: &Path) -> Option<Mount> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // The last one is the one on top.
    mounts.lines().rev().find_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        let fields: Vec<&str> = before.split(' ').collect();
        let is_here = Path::new(&unescape(fields.get(4)?)) == path;
        is_here.then(|| Mount {
            device: fields[2].to_owned(),
            kind: behind.split(' ').next().unwrap_or_default().to_owned(),
        })
    })
}

/// Ends a FUSE connection whose daemon is dead, or cannot die because it waits in the kernel for
/// itself: Documentation/filesystems/fuse.rst, "Aborting a filesystem connection".
///
/// The owner of the mount may do so where that file system is mounted. Returns whether it is done.
pub(crate) fn abort(device: &str) -> bool {
    device.split_once(':').is_some_and(|(_, minor)| {
        let control = format!("/sys/fs/fuse/connections/{minor}/abort");
        std::fs::write(control, "1").is_ok()
    })
}

/// Undoes the octal escapes of mountinfo.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match tail {
            [a, b, c, ..]
                if *first == b'\\' && [a, b, c].iter().all(|d| (b'0'..=b'7').contains(d)) =>
            {
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
    let unmount = || {
        let mut command = Command::new(fusermount());
        command.args(["-u", "-z", "--"]).arg(mountpoint);
        command.stdin(Stdio::null());
        crate::sys::with_usual_limits(&mut command).output()
    };
    let mut output = unmount();
    // systemd ends all processes of a service, and may have caught this one just as it began.
    for _ in 0..RETRIES {
        match &output {
            Ok(ended) if ended.status.signal().is_some() => output = unmount(),
            _ => break,
        }
    }
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

/// How often fusermount3 is started again when a signal has ended it.
const RETRIES: u32 = 3;

/// What to say when an unprivileged mount has no helper.
const NO_FUSERMOUNT: &str =
    "fusermount3 is not installed, and only root can mount without it: apt-get install fuse3";

pub(super) fn fusermount() -> std::ffi::OsString {
    std::env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| "fusermount3".into())
}

/// Makes sure that FUSE can be had, before a person is asked for anything.
pub(crate) fn check_fuse() -> Result<(), MountError> {
    const DEVICE: &str = "/dev/fuse";
    // The kernel's Documentation/admin-guide/devices.txt: a character device, 10:229.
    let expected = nix::sys::stat::makedev(10, 229);
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    let is_fuse = |file: &File| file.metadata().is_ok_and(|m| m.rdev() == expected);
    match device {
        Ok(device) if is_fuse(&device) => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(MountError::Fuse(format!(
                "you may not open {DEVICE}: as root, chmod 666 {DEVICE}"
            )));
        }
        _ => {
            return Err(MountError::Fuse(format!(
                "there is no {DEVICE}: load the kernel's module (modprobe fuse); in a container, \
                 pass the device in (--device {DEVICE} --cap-add SYS_ADMIN)"
            )));
        }
    }
    let helper = || {
        let called = Command::new(fusermount())
            .arg("-V")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        called.is_ok()
    };
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    if !helper() {
        return Err(MountError::Fuse(NO_FUSERMOUNT.to_owned()));
    }
    // proc_pid_status(5). Without new privileges, fusermount3 is an ordinary program.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if status
        .lines()
        .any(|line| line.starts_with("NoNewPrivs:") && line.ends_with('1'))
    {
        return Err(MountError::Fuse(
            "this process may gain no privileges, so fusermount3 cannot mount for it: in a \
             systemd unit, take NoNewPrivileges= and what implies it out"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Says why mounting failed, and what to do.
pub(crate) fn explain(mountpoint: &Path, error: &std::io::Error) -> MountError {
    let text = crate::words::tame(error.to_string().trim());
    let why = if let Some(option) = super::device::unknown_option(&text) {
        format!("fusermount3 cannot set {option}: mount as root, or leave that out")
    } else if text.contains("user_allow_other") {
        "--allow-other and --allow-root need the line user_allow_other in /etc/fuse.conf".to_owned()
    } else if text.contains("no write access") {
        format!(
            "you may mount only on a directory that you own: chown it, or use one in {}",
            std::env::var("HOME").unwrap_or_else(|_| "your home".to_owned())
        )
    } else if text.contains("EPERM") || text.contains("not permitted") {
        "mounting is not permitted here. In a container, start it with --cap-add SYS_ADMIN; as a \
         user, fusermount3 must be setuid root (chmod u+s)"
            .to_owned()
    } else {
        text
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
