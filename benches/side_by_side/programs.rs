//! The programs that are compared, each as its manual says to mount.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::scene::{PATIENCE, Scene, holds_within};

/// One of them.
pub struct Program {
    pub name: &'static str,
    /// The command that installs it.
    install: &'static str,
    /// The command that mounts `docs` in the foreground.
    command: fn(&Scene, &Path) -> Command,
}

/// Ours is the first.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "s3mfa-mount",
        install: "",
        command: |scene, path| {
            let mut command = scene.command();
            command.arg("docs").arg(path);
            command.args(["--foreground", "--credentials", "plain"]);
            command
        },
    },
    Program {
        name: "s3fs",
        install: "apt install s3fs",
        command: |scene, path| {
            let (id, secret) = keys(scene);
            let mut command = bare("s3fs", scene);
            command.env("AWSACCESSKEYID", id);
            command.env("AWSSECRETACCESSKEY", secret);
            let url = format!("url={}", scene.sandbox.endpoint());
            command.arg("docs").arg(path).arg("-f");
            command.args(["-o", &url, "-o", "use_path_request_style"]);
            command
        },
    },
    Program {
        name: "rclone",
        install: "apt install rclone",
        command: |scene, path| {
            let (id, secret) = keys(scene);
            let mut command = bare("rclone", scene);
            command.env("RCLONE_CONFIG", "/dev/null");
            command.env("RCLONE_CONFIG_S_TYPE", "s3");
            command.env("RCLONE_CONFIG_S_PROVIDER", "AWS");
            command.env("RCLONE_CONFIG_S_REGION", "us-east-1");
            command.env("RCLONE_CONFIG_S_FORCE_PATH_STYLE", "true");
            command.env("RCLONE_CONFIG_S_ENDPOINT", scene.sandbox.endpoint());
            command.env("RCLONE_CONFIG_S_ACCESS_KEY_ID", id);
            command.env("RCLONE_CONFIG_S_SECRET_ACCESS_KEY", secret);
            command.arg("mount").arg("s:docs").arg(path);
            // Without its cache it cannot change a file; its pause before it stores is no work.
            command.args(["--vfs-cache-mode", "full", "--vfs-write-back", "0s"]);
            command.arg("--cache-dir").arg(scene.home().join("rclone"));
            command
        },
    },
];

/// Without what the user's environment says of proxies and profiles.
fn bare(program: &str, scene: &Scene) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", scene.home());
    command
}

fn keys(scene: &Scene) -> (String, String) {
    let (id, secret) = (scene.alice.access_key_id(), scene.alice.secret_access_key());
    (id.to_string(), secret.to_string())
}

impl Program {
    /// Whether it is installed; says how it would be if not.
    pub fn is_here(&self) -> bool {
        let is_here = self.install.is_empty()
            || Command::new(self.name)
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .is_ok();
        if !is_here {
            println!("SKIPPED {}: {}", self.name, self.install);
        }
        is_here
    }

    /// Mounts `docs`.
    pub fn mount(&self, scene: &Scene) -> Mounted {
        let path = scene.mountpoint("mnt");
        let log = std::fs::File::create(scene.home().join("log")).unwrap();
        let child = (self.command)(scene, &path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut mounted = Mounted { child, path };
        let is_there = holds_within(PATIENCE, || {
            mounted.child.try_wait().unwrap().is_some() || is_mounted(&mounted.path)
        });
        let log = || std::fs::read_to_string(scene.home().join("log")).unwrap();
        assert!(
            is_there && is_mounted(&mounted.path),
            "{}: {}",
            self.name,
            log()
        );
        mounted
    }
}

/// Whether something is mounted there, of whatever type.
fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.contains(&format!(" {} ", path.display()))
}

/// A mount of one of them, until it is dropped.
pub struct Mounted {
    child: Child,
    path: PathBuf,
}

impl Mounted {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("fusermount3")
            .arg("-u")
            .arg(&self.path)
            .status();
        let _ = self.child.wait();
    }
}
