//! The user unit under a real systemd, in a box of `tests/userbox.sh`: an ordinary user mounts
//! with the help of the setuid `fusermount3`, and systemd starts, watches and ends the daemon.

mod user_box;

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use user_box::{UserBox, can_run, unit};

use crate::scene::{Scene, ends_within, noise, parts, run, wait_until};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/s3mfa-mount@.service");

/// How long systemd lets the unit start in this test, unless the daemon asks for more.
const START_LIMIT: Duration = Duration::from_secs(5);

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
        system,
        scene,
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
    // Ends before the home directory goes.
    system: UserBox,
    scene: Scene,
    mountpoint: PathBuf,
}

impl Stage {
    /// Starts the unit, which takes as long as the prompt is open.
    fn start(&self) -> Child {
        let start = ["systemctl", "--user", "start", &unit("docs")];
        self.system
            .command(&start)
            .stdin(Stdio::null())
            // What it says on failure is in the journal too.
            .stderr(Stdio::null())
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
        output.read_exact(&mut read).unwrap();
        self.scene.sandbox.sessions().expire_all();
        reader.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let rest = std::thread::spawn(move || {
            output.read_to_end(&mut read).unwrap();
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
        // The session is in the user's runtime directory, and outlives its daemons.
        assert!(self.start().wait().unwrap().success());
        self.serves();
        let kill = ["kill", "--signal=KILL", "--kill-whom=main", &unit("docs")];
        self.system.systemctl(&kill).unwrap();
        // Before the daemon is there again to do it itself.
        self.system
            .wait_for("docs", &["SubState=auto-restart", "Result=signal"]);
        assert_eq!(self.mounted(), None, "the dead mount is taken away");
        self.system
            .wait_for("docs", &["ActiveState=active", "NRestarts=1"]);
        self.serves();
        assert_eq!(self.scene.pinentry.asked(), 2);
    }

    fn cancel_is_not_asked_again(&self) {
        self.system.systemctl(&["stop", &unit("docs")]).unwrap();
        self.scene.sandbox.sessions().expire_all();
        let mut start = self.start();
        self.scene.pinentry.wait_until_asked(3);
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
