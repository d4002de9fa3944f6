//! A booted system of `tests/userbox.sh`, in which units run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::scene::{PATIENCE, holds_within, parts, run};

const USERBOX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/userbox.sh");
const INSTALL: &str = "apt-get install systemd-container fuse3 dbus-user-session";

/// Whether there can be one. If not, the test is skipped, loudly, and under CI it fails.
pub fn can_run(test: &str) -> bool {
    let programs = [
        "systemd-nspawn",
        "dbus-daemon",
        "fusermount3",
        "nsenter",
        "setpriv",
    ];
    parts::is_root(test) && parts::are_here(test, &programs, INSTALL)
}

/// A booted system with a user manager. It ends with this, or with the test's process.
pub struct UserBox {
    script: Child,
    leader: String,
}

impl UserBox {
    /// Boots with the scene's home as the user's home.
    pub fn boot(home: &Path) -> Self {
        let mut script = Command::new("bash")
            .args([USERBOX, "boot"])
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(script.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        // If it is not ready, it has said why and ended by itself.
        let leader = line
            .trim()
            .strip_prefix("ready ")
            .expect("a box that boots");
        Self {
            leader: leader.to_owned(),
            script,
        }
    }

    /// A command in the box, as its user.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.args([USERBOX, "run", &self.leader]).args(args);
        command
    }

    /// Runs a command to its end: what it printed, or what it complained about.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        let outcome = run(&mut self.command(args));
        if outcome.code == 0 {
            Ok(outcome.out)
        } else {
            Err(outcome.err)
        }
    }

    pub fn systemctl(&self, args: &[&str]) -> Result<String, String> {
        self.run(&[&["systemctl", "--user"], args].concat())
    }

    /// What systemd knows about an instance of the unit: `Name=value` lines.
    fn show(&self, instance: &str) -> String {
        let names = "ActiveState,SubState,StatusText,Result,ExecMainStatus,NRestarts";
        self.systemctl(&["show", &unit(instance), "-p", names])
            .unwrap()
    }

    /// Waits until each of these begins a line of what systemd knows.
    pub fn wait_for(&self, instance: &str, wanted: &[&str]) {
        let mut shown = String::new();
        let done = holds_within(PATIENCE, || {
            shown = self.show(instance);
            wanted
                .iter()
                .all(|w| shown.lines().any(|line| line.starts_with(w)))
        });
        assert!(done, "{wanted:?} did not happen in time, but\n{shown}");
    }

    /// What is mounted there in the box, by the program, as in proc_pid_mountinfo(5).
    pub fn mounted(&self, path: &Path) -> Option<String> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.leader)).unwrap();
        let place = format!(" {} ", path.to_str().unwrap().replace(' ', "\\040"));
        let line = mounts.lines().find(|line| line.contains(&place));
        line.map(ToOwned::to_owned)
    }
}

impl Drop for UserBox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- journal of the box:");
            // Straight to standard error: the script's output is all there is to it.
            let mut log = Command::new("bash");
            log.args([USERBOX, "log", &self.leader])
                .stdout(std::io::stderr());
            let _ = log.status();
        }
        // Closes its standard input first, which ends it.
        let _ = self.script.wait();
    }
}

/// The unit of a mount.
pub fn unit(instance: &str) -> String {
    format!("s3mfa-mount@{instance}.service")
}
