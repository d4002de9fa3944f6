//! One running mount.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{PATIENCE, Scene, holds_within, wait_until};

/// The daemon, in the foreground, with its log in a file.
pub struct Mount {
    child: Child,
    path: PathBuf,
    log: PathBuf,
    keep: bool,
}

/// What a command of the program printed.
#[derive(Debug)]
pub struct Control {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Mount {
    pub fn start(scene: &Scene, bucket: &str, path: &Path, options: &[&str]) -> Self {
        let mut command = scene.command();
        command.args([bucket, path.to_str().unwrap(), "--foreground"]);
        command.args(options);
        Self::spawn(command, path)
    }

    pub fn spawn(mut command: Command, path: &Path) -> Self {
        let log = path.with_extension("log");
        // An earlier daemon's words on the same place say nothing about this one.
        let _ = std::fs::remove_file(&log);
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            child,
            path: path.to_owned(),
            log,
            keep: false,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn is_mounted(&self) -> bool {
        is_mounted(&self.path)
    }

    /// Waits until it serves; fails with its log if it ends instead.
    pub fn wait_until_mounted(&self) {
        let done = holds_within(PATIENCE, || self.has_ended() || self.is_served());
        assert!(done && !self.has_ended(), "not mounted:\n{}", self.log());
    }

    /// Whether it has said that it serves.
    pub fn is_served(&self) -> bool {
        self.log().contains("is mounted on")
    }

    /// Whether the daemon is gone.
    pub fn has_ended(&self) -> bool {
        !Path::new(&format!("/proc/{}", self.pid())).exists() || is_zombie(self.pid())
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Kills the daemon, as the kernel does when there is no memory: without a process in
    /// between, which would close the files of this one.
    pub fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    /// Waits for the daemon's end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = holds_within(PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "the daemon does not end:\n{}", self.log());
        status.unwrap()
    }

    /// Forgets a mount whose daemon is dead, without cleaning up after it.
    pub fn abandon(mut self) {
        self.keep = true;
    }

    pub fn status(&self, scene: &Scene) -> serde_json::Value {
        let status = scene.control(&["status", self.path.to_str().unwrap(), "--json"]);
        assert_eq!(status.code, 0, "{status:?}");
        let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
        status["mounts"][0].clone()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.child.kill();
        if !self.keep {
            detach(&self.path);
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.path.display(), self.log());
        }
    }
}

impl Scene {
    /// Runs a command of the program to its end, without a terminal.
    pub fn control(&self, args: &[&str]) -> Control {
        run(self.command().args(args))
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Control {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Control {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = format!(" {} ", path.display());
    mounts
        .lines()
        .any(|line| line.contains(&place) && line.contains("fuse.s3mfa-mount"))
}

pub fn detach(path: &Path) {
    // By force: nothing may be left waiting for a daemon that is gone.
    for command in [&["umount", "-f", "-l"][..], &["fusermount3", "-uz"]] {
        if !is_mounted(path) {
            return;
        }
        let _ = Command::new(command[0])
            .args(&command[1..])
            .arg(path)
            .stderr(Stdio::null())
            .status();
    }
    wait_until("the unmount", || !is_mounted(path));
}

pub fn kill(process: u32, signal: i32) {
    let status = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(process.to_string())
        .status();
    assert!(status.unwrap().success());
}

pub fn is_zombie(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// How long a command takes to end; `None` if it does not within `most`.
pub fn ends_within(child: &mut Child, most: Duration) -> Option<Duration> {
    let start = std::time::Instant::now();
    holds_within(most, || child.try_wait().unwrap().is_some()).then(|| start.elapsed())
}

/// Runs a command where `/dev/fuse` is not there.
pub fn without_fuse(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only system calls are made.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            use nix::mount::{MsFlags, mount};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            mount(Some("/dev/null"), "/dev/fuse", none, MsFlags::MS_BIND, none)?;
            Ok(())
        })
    }
}
