//! The user unit under a real systemd, in a box of `tests/userbox.sh`: an ordinary user mounts
//! with the help of the setuid `fusermount3`, and systemd starts, watches and ends the daemon.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scene::{Scene, ends_within, holds_within, noise, parts, run, wait_until};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/s3mfa-mount@.service");
const USERBOX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/userbox.sh");
const INSTALL: &str = "apt-get install systemd-container fuse3 dbus-user-session";

/// How long systemd lets the unit start in this test, unless the daemon asks for more.
const START_LIMIT: Duration = Duration::from_secs(5);

/// A booted system with a user manager. It ends with this, or with the test's process.
struct UserBox {
    script: Child,
    leader: String,
}

impl UserBox {
    /// Boots with the scene's home as the user's home.
    fn boot(home: &Path) -> Self {
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
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.args([USERBOX, "run", &self.leader]).args(args);
        command
    }

    /// Runs a command to its end: what it printed, or what it complained about.
    fn run(&self, args: &[&str]) -> Result<String, String> {
        let outcome = run(&mut self.command(args));
        if outcome.code == 0 {
            Ok(outcome.out)
        } else {
            Err(outcome.err)
        }
    }

    fn systemctl(&self, args: &[&str]) -> Result<String, String> {
        self.run(&[&["systemctl", "--user"], args].concat())
    }

    /// What systemd knows about an instance of the unit: `Name=value` lines.
    fn show(&self, instance: &str) -> String {
        let names = "ActiveState,SubState,StatusText,Result,ExecMainStatus,NRestarts";
        self.systemctl(&["show", &unit(instance), "-p", names])
            .unwrap()
    }

    /// Waits until each of these begins a line of what systemd knows.
    fn wait_for(&self, instance: &str, wanted: &[&str]) {
        let mut shown = String::new();
        let done = holds_within(crate::scene::PATIENCE, || {
            shown = self.show(instance);
            wanted
                .iter()
                .all(|w| shown.lines().any(|line| line.starts_with(w)))
        });
        assert!(done, "{wanted:?} did not happen in time, but\n{shown}");
    }

    /// What is mounted there in the box, by the program, as in proc_pid_mountinfo(5).
    fn mounted(&self, path: &Path) -> Option<String> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.leader)).unwrap();
        let place = format!(" {} ", path.to_str().unwrap().replace(' ', "\\040"));
        let line = mounts.lines().find(|line| line.contains(&place));
        line.map(ToOwned::to_owned)
    }
}

impl Drop for UserBox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = Command::new("bash")
                .args([USERBOX, "log", &self.leader])
                .output();
            eprintln!("--- journal of the box:");
            eprintln!(
                "{}",
                log.map_or_else(
                    |e| e.to_string(),
                    |o| String::from_utf8_lossy(&o.stdout).into()
                )
            );
        }
        // Closes its standard input first, which ends it.
        let _ = self.script.wait();
    }
}

fn unit(instance: &str) -> String {
    format!("s3mfa-mount@{instance}.service")
}

/// Puts the unit, the program and a mount's file where the unit's first lines say.
fn install(scene: &Scene, instances: &[&str], mountpoint: &Path) {
    let home = scene.home();
    let [bin, config, units] =
        [".cargo/bin", ".config/s3mfa-mount", ".config/systemd/user"].map(|path| home.join(path));
    let short = units.join(format!("{}.d", unit("docs")));
    for directory in [&bin, &config, &short] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_s3mfa-mount"), bin.join("s3mfa-mount")).unwrap();
    fs::copy(UNIT, units.join("s3mfa-mount@.service")).unwrap();
    let limit = format!("[Service]\nTimeoutStartSec={}\n", START_LIMIT.as_secs());
    fs::write(short.join("short.conf"), limit).unwrap();

    let mut conf = format!("BUCKET=docs\nMOUNTPOINT=\"{}\"\n", mountpoint.display());
    // Little read-ahead: the daemon must not have the whole file before the session ends.
    conf.push_str("OPTIONS=--part-size 1MiB --metadata-ttl 0\n");
    for (name, value) in scene.environment() {
        if name.starts_with("AWS_") || name == "PINENTRY_PROGRAM" {
            conf.push_str(&format!("{name}={value}\n"));
        }
    }
    for instance in instances {
        fs::write(config.join(format!("{instance}.conf")), &conf).unwrap();
    }
}

/// Answers the dialog in the box, whose processes have other numbers than outside.
fn answer(scene: &Scene, answer: &str) {
    let pipe = scene.pinentry.program().with_file_name("answers");
    wait_until("taking the answer", || {
        let pipe = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&pipe);
        pipe.is_ok_and(|mut pipe| writeln!(pipe, "{answer}").is_ok())
    });
}

fn can_run(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        let programs = [
            "systemd-nspawn",
            "dbus-daemon",
            "fusermount3",
            "nsenter",
            "setpriv",
        ];
        return parts::are_here(test, &programs, INSTALL);
    }
    let message = format!("SKIPPED {test}: a box with a systemd needs root");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("{message}");
    false
}

#[test]
fn a_users_systemd_starts_watches_and_ends_a_mount() {
    if !can_run("systemd") {
        return;
    }
    let scene = Scene::new();
    let content = noise(7, 64 << 20);
    scene.bucket.put("small", "content");
    scene.bucket.put("big", content.clone());
    let mountpoint = scene.mountpoint("my docs");
    install(&scene, &["docs", "same"], &mountpoint);
    let system = UserBox::boot(scene.home());
    let stage = Stage {
        scene,
        system,
        mountpoint,
    };
    stage.starting_waits_for_the_code();
    stage.a_second_one_on_the_same_place_fails_and_harms_nothing();
    stage.a_reader_goes_on_after_the_session_ended(&content);
    stage.stopping_unmounts();
    stage.a_killed_daemon_is_started_again();
    stage.cancel_is_not_asked_again();
}

/// What the parts of the test work on, in this order.
struct Stage {
    scene: Scene,
    system: UserBox,
    mountpoint: PathBuf,
}

impl Stage {
    /// Starts the unit, which takes as long as the prompt is open.
    fn start(&self) -> Child {
        let start = ["systemctl", "--user", "start", &unit("docs")];
        self.system
            .command(&start)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn mounted(&self) -> Option<String> {
        self.system.mounted(&self.mountpoint)
    }

    fn answer_with_a_code(&self) {
        answer(&self.scene, &self.scene.device.unspent_code());
    }

    fn serves(&self) {
        let file = self.mountpoint.join("small");
        let read = self.system.run(&["cat", file.to_str().unwrap()]);
        assert_eq!(read.as_deref(), Ok("content"));
    }

    fn starting_waits_for_the_code(&self) {
        let since = Instant::now();
        let mut start = self.start();
        self.scene.pinentry.wait_until_asked(1);
        let waiting = [
            "ActiveState=activating",
            "StatusText=Waiting for an MFA code",
        ];
        self.system.wait_for("docs", &waiting);
        // The daemon asks for more time than systemd has given it.
        let limit = (START_LIMIT + Duration::from_secs(1)).saturating_sub(since.elapsed());
        assert_eq!(
            ends_within(&mut start, limit),
            None,
            "it started without a code"
        );
        self.system.wait_for("docs", &waiting);
        assert_eq!(self.mounted(), None);

        self.answer_with_a_code();
        assert!(start.wait().unwrap().success());
        // Started means that it serves: there is nothing to wait for.
        self.serves();
        let mounted = self.mounted().unwrap();
        assert!(mounted.contains("fuse.s3mfa-mount"), "{mounted}");
        assert!(
            mounted.contains("user_id=4242"),
            "by the user, not by root: {mounted}"
        );
        self.system.wait_for(
            "docs",
            &["ActiveState=active", "StatusText=Session lives until"],
        );
    }

    fn a_second_one_on_the_same_place_fails_and_harms_nothing(&self) {
        self.system
            .systemctl(&["start", &unit("same")])
            .unwrap_err();
        self.system.wait_for("same", &["ExecMainStatus=5"]);
        self.system.systemctl(&["stop", &unit("same")]).unwrap();
        self.serves();
        assert_eq!(self.scene.pinentry.asked(), 1);
    }

    fn a_reader_goes_on_after_the_session_ended(&self, content: &[u8]) {
        let file = self.mountpoint.join("big");
        let script = r#"exec 3<"$1"; head -c 1000000 <&3; read -r go; cat <&3"#;
        let mut reader = self
            .system
            .command(&["sh", "-c", script, "sh", file.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = reader.stdout.take().unwrap();
        let mut read = vec![0; 1_000_000];
        std::io::Read::read_exact(&mut output, &mut read).unwrap();
        self.scene.sandbox.sessions().expire_all();
        reader.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let rest = std::thread::spawn(move || {
            std::io::Read::read_to_end(&mut output, &mut read).unwrap();
            read
        });
        self.scene.pinentry.wait_until_asked(2);
        self.system.wait_for(
            "docs",
            &["ActiveState=active", "StatusText=Waiting for an MFA code"],
        );
        self.answer_with_a_code();
        assert!(
            rest.join().unwrap() == content,
            "the reader got other bytes"
        );
        assert!(reader.wait().unwrap().success());
        self.system.wait_for(
            "docs",
            &["ActiveState=active", "StatusText=Session lives until"],
        );
        assert_eq!(self.scene.pinentry.asked(), 2);
    }

    fn stopping_unmounts(&self) {
        self.system.systemctl(&["stop", &unit("docs")]).unwrap();
        assert_eq!(self.mounted(), None);
        let ended = ["ActiveState=inactive", "Result=success", "ExecMainStatus=0"];
        self.system.wait_for("docs", &ended);
    }

    fn a_killed_daemon_is_started_again(&self) {
        let mut start = self.start();
        self.scene.pinentry.wait_until_asked(3);
        self.answer_with_a_code();
        assert!(start.wait().unwrap().success());
        self.serves();
        let kill = ["kill", "--signal=KILL", "--kill-whom=main", &unit("docs")];
        self.system.systemctl(&kill).unwrap();
        // Before the daemon is there again to do it itself.
        self.system
            .wait_for("docs", &["SubState=auto-restart", "Result=signal"]);
        assert_eq!(self.mounted(), None, "the dead mount is taken away");
        self.scene.pinentry.wait_until_asked(4);
        self.answer_with_a_code();
        self.system
            .wait_for("docs", &["ActiveState=active", "NRestarts=1"]);
        self.serves();
    }

    fn cancel_is_not_asked_again(&self) {
        self.system.systemctl(&["stop", &unit("docs")]).unwrap();
        let mut start = self.start();
        self.scene.pinentry.wait_until_asked(5);
        answer(&self.scene, "cancel");
        assert!(!start.wait().unwrap().success());
        // Not `auto-restart`: systemd is done with it.
        self.system.wait_for(
            "docs",
            &["SubState=failed", "ExecMainStatus=3", "NRestarts=0"],
        );
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if !parts::are_here("systemd", &["systemd-analyze"], "apt-get install systemd") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("s3mfa-mount@.service");
    // The check looks for programs in the system's directories only, whatever the unit says.
    let program = format!("ExecStart={} ", env!("CARGO_BIN_EXE_s3mfa-mount"));
    let text = fs::read_to_string(UNIT).unwrap();
    assert_eq!(text.matches("\nExecStart=s3mfa-mount ").count(), 1);
    fs::write(&copy, text.replace("ExecStart=s3mfa-mount ", &program)).unwrap();
    let found = run(Command::new("systemd-analyze")
        // The manual page is not installed with the sources.
        .args(["--user", "verify", "--man=no"])
        .arg(&copy)
        .env("XDG_RUNTIME_DIR", directory.path()));
    // Most mistakes are told and then ignored, with success.
    assert_eq!((found.code, &*found.err), (0, ""), "{found:?}");
}
