//! An ordinary user, who mounts with the help of the setuid `fusermount3`.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

use crate::scene::{Mount, Scene};

/// `nobody` and `nogroup`, on every Debian.
const NOBODY: u32 = 65534;

/// Lets everybody pass through a directory.
pub fn let_pass(directory: &Path) {
    let mode = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(directory, mode).unwrap();
}

/// The user of a scene: whoever runs the test or, if that is root, `nobody`.
pub struct Guest<'a> {
    scene: &'a Scene,
    is_other: bool,
    programs: PathBuf,
}

impl<'a> Guest<'a> {
    /// With the programs in the user's home, because root's may be out of reach.
    pub fn of(scene: &'a Scene, program: &Path) -> Self {
        let programs = scene.home().join("bin");
        std::fs::create_dir(&programs).unwrap();
        let daemon = Path::new(env!("CARGO_BIN_EXE_s3mfa-mount"));
        for program in [program, daemon] {
            std::fs::copy(program, programs.join(program.file_name().unwrap())).unwrap();
        }
        Self {
            scene,
            is_other: geteuid().is_root(),
            programs,
        }
    }

    /// Makes everything in the home the user's.
    pub fn take_over(&self) {
        if !self.is_other {
            return;
        }
        std::fs::create_dir(self.scene.home().join("dev")).unwrap();
        self.scene.mountpoint("mnt");
        let mut places = vec![self.scene.home().to_owned()];
        while let Some(place) = places.pop() {
            chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
            if place.is_dir() {
                let entries = std::fs::read_dir(place).unwrap();
                places.extend(entries.map(|entry| entry.unwrap().path()));
            }
        }
    }

    /// Mounts `docs` as the user.
    pub fn mount(&self) -> Mount {
        let (pinentry, code) = (&self.scene.pinentry, self.scene.device.unspent_code());
        let answering = pinentry.answer_next(code);
        let path = self.scene.mountpoint("mnt");
        let mut command = Command::new(self.programs.join("s3mfa-mount"));
        command.env_clear().envs(self.scene.environment());
        command.arg("docs").arg(&path).arg("--foreground");
        if self.is_other {
            let scratch = self.scene.home().join("dev");
            // SAFETY: between fork and exec only system calls are made, and no memory is asked
            // for: nix copies paths of less than a kilobyte to the stack.
            #[allow(unsafe_code)]
            unsafe {
                command.pre_exec(move || {
                    open_fuse_to_everybody(&scratch)?;
                    Ok(become_nobody()?)
                });
            }
        }
        let mount = Mount::spawn(command, &path);
        mount.wait_until_mounted();
        answering.join().unwrap();
        mount
    }

    /// A program in the user's home, to be run by the user where the mount is to be seen.
    pub fn command_beside(&self, mount: &Mount, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if self.is_other {
            let namespace = std::fs::File::open(format!("/proc/{}/ns/mnt", mount.pid())).unwrap();
            // SAFETY: between fork and exec only system calls are made.
            #[allow(unsafe_code)]
            unsafe {
                command.pre_exec(move || {
                    setns(&namespace, CloneFlags::CLONE_NEWNS)?;
                    Ok(become_nobody()?)
                });
            }
        }
        command
    }
}

/// Where no udev runs, only root may open `/dev/fuse`, so this process gets another one. With
/// the process goes its namespace, and with that the mount.
fn open_fuse_to_everybody(scratch: &Path) -> Result<(), Errno> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("none"), scratch, Some("tmpfs"), MsFlags::empty(), none)?;
    let (everybody, fuse) = (Mode::from_bits_truncate(0o666), makedev(10, 229));
    umask(Mode::empty());
    // On the stack, because nothing may be allocated here.
    std::env::set_current_dir(scratch).map_err(|_| Errno::last())?;
    mknod("fuse", SFlag::S_IFCHR, everybody, fuse)?;
    mount(Some("fuse"), "/dev/fuse", none, MsFlags::MS_BIND, none)?;
    std::env::set_current_dir("/").map_err(|_| Errno::last())?;
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

fn become_nobody() -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[group])?;
    setgid(group)?;
    setuid(user)
}
