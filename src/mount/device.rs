//! Getting a mount from the kernel: mount(2) where that is allowed, else fusermount3(1).
//!
//! Not with fuser's own, which knows some of the kernel's options only, and unmounts a path once
//! more after somebody else did, whatever is there by then (0.18.0).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::MsFlags;

use super::place::{SUBTYPE, fusermount};
use crate::fstab::KernelOptions;

/// How long fusermount3 may take: it looks at the directory, which may be on a slow network.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a mount shall be.
pub(super) struct Wish<'a> {
    /// What it shows as its source.
    pub(super) source: &'a str,
    pub(super) read_only: bool,
    /// Others than the owner may come in.
    pub(super) allow_other: bool,
    pub(super) kernel: &'a KernelOptions,
}

impl Wish<'_> {
    fn allow_other(&self) -> Option<&'static str> {
        self.allow_other.then_some("allow_other")
    }
}

/// Mounts, and returns the device to which the kernel's requests come.
///
/// # Errors
///
/// In the words of the kernel or of fusermount3.
pub(super) fn mount(mountpoint: &Path, wish: &Wish<'_>) -> io::Result<OwnedFd> {
    match mount_directly(mountpoint, wish) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            mount_with_helper(mountpoint, wish)
        }
        outcome => outcome,
    }
}

/// Documentation/filesystems/fuse.rst, "Mount options".
fn mount_directly(mountpoint: &Path, wish: &Wish<'_>) -> io::Result<OwnedFd> {
    let device: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")?
        .into();
    let root = std::fs::metadata(mountpoint)?.mode() & libc::S_IFMT;
    let mut options = vec![
        format!("fd={}", device.as_raw_fd()),
        format!("rootmode={root:o}"),
        format!("user_id={}", nix::unistd::getuid()),
        format!("group_id={}", nix::unistd::getgid()),
        "default_permissions".to_owned(),
        format!("subtype={SUBTYPE}"),
    ];
    options.extend(wish.allow_other().map(str::to_owned));
    options.extend(wish.kernel.labels());
    let mut flags = wish.kernel.flags();
    flags.set(MsFlags::MS_RDONLY, wish.read_only);
    nix::mount::mount(
        Some(wish.source),
        mountpoint,
        Some("fuse"),
        flags,
        Some(options.join(",").as_str()),
    )?;
    Ok(device)
}

/// fusermount3 opens the device, mounts, and sends it through the socket that `_FUSE_COMMFD` names
/// (libfuse, util/fusermount.c).
fn mount_with_helper(mountpoint: &Path, wish: &Wish<'_>) -> io::Result<OwnedFd> {
    let mut options = vec![
        format!("fsname={}", wish.source),
        format!("subtype={SUBTYPE}"),
    ];
    let words = ["default_permissions"]
        .into_iter()
        .chain(wish.allow_other());
    let words = words.chain(wish.read_only.then_some("ro"));
    options.extend(words.chain(wish.kernel.words()).map(str::to_owned));
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    let mut helper = {
        // It holds the other end of the socket, and must be gone when ours is read.
        let mut command = Command::new(fusermount());
        command
            .args(["-o", &options.join(","), "--"])
            .arg(mountpoint)
            .env("_FUSE_COMMFD", "0")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        crate::sys::with_usual_limits(&mut command).spawn()?
    };
    let device = crate::sys::receive_descriptor(&ours);
    // It says why it ends, and ends when nobody listens any more.
    drop(ours);
    if device.is_err() {
        // Nothing, if it has ended.
        let _ = helper.kill();
    }
    let said = helper.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&said.stderr);
    match device {
        Ok(device) if said.status.success() => {
            if !complaint.trim().is_empty() {
                tracing::info!("{}", crate::words::tame(complaint.trim()));
            }
            Ok(device)
        }
        Ok(_) => Err(io::Error::other(complaint.into_owned())),
        Err(error) if complaint.trim().is_empty() => Err(error),
        Err(_) => Err(io::Error::other(complaint.into_owned())),
    }
}

/// The option that fusermount3 says it does not know.
pub(super) fn unknown_option(complaint: &str) -> Option<&str> {
    let (_, rest) = complaint.split_once("unknown option '")?;
    Some(rest.split_once('\'')?.0)
}

/// Says what an ordinary user does not get.
pub(super) fn tell_what_is_left_out(kernel: &KernelOptions) {
    let is_root = nix::unistd::geteuid().is_root();
    if kernel.lets_programs_change_user() && is_root {
        tracing::warn!(
            "programs with setuid bits in this bucket run with the rights of their owners: mount \
             with nosuid unless you trust everybody who may write to it"
        );
    }
    let left_out = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if !is_root && !kernel.flags().contains(left_out) {
        // mount.fuse3(8) asks for both in everybody's name.
        tracing::info!("suid and dev are for root: this mount has nosuid and nodev");
    }
}

#[cfg(test)]
mod tests {
    use super::unknown_option;

    #[test]
    fn what_the_helper_does_not_know_is_found_in_its_complaint() {
        let said = "fusermount3: unknown option 'nosymfollow'\n";
        assert_eq!(unknown_option(said), Some("nosymfollow"));
        assert_eq!(unknown_option("fusermount3: no write access"), None);
    }
}
