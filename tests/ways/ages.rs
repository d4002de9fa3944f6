//! Codes that grow too old: the policy's limit, the offer before it, and a part of a bucket that wants
//! fresher ones.
//!
//! Time passes for the daemon as it does for everybody: by the `Date` of S3's answers. The server's
//! clock is moved ahead for that, which to the daemon is its own clock falling behind.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use s3mfa_sandbox::{Skew, policies};
use serde_json::{Value, json};

use crate::case::Stage;
use crate::scene::{Mount, Scene, wait_until};

/// The offer comes ten minutes before the end: this long after the code.
const NEAR_THE_END: Duration = Duration::from_secs(3600 - 500);

/// A desktop that has notifications: a `notify-send` that writes down what it is told, and prints
/// what is in `press`.
struct Desktop {
    home: PathBuf,
}

impl Desktop {
    fn new(scene: &Scene) -> Self {
        let home = scene.home().join("desktop");
        fs::create_dir(&home).unwrap();
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>{0}/told\nwhile ! [ -e {0}/press ]; do sleep 0.1; done\n\
             cat {0}/press\n",
            home.display()
        );
        let program = home.join("notify-send");
        fs::write(&program, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        Self { home }
    }

    fn told(&self) -> String {
        fs::read_to_string(self.home.join("told")).unwrap_or_default()
    }

    /// Puts the desktop into a command's environment.
    fn is_in(&self, command: &mut Command) {
        let path = format!("{}:{}", self.home.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path);
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    }
}

/// A mount of a bucket whose policy, which may be read, wants codes of the last hour.
fn under_a_limit(stage: &Stage, desktop: &Desktop) -> Mount {
    let scene = &stage.scene;
    let policy = policies::require_fresh_mfa("docs", 3600);
    scene.bucket.set_policy(policy).unwrap();
    let path = scene.mountpoint("mnt");
    let mut command = scene.command();
    desktop.is_in(&mut command);
    command.args([
        "docs",
        path.to_str().unwrap(),
        "--foreground",
        "--metadata-ttl",
        "0",
    ]);
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let mount = Mount::spawn(command, &path);
    mount.wait_until_mounted();
    answering.join().unwrap();
    wait_until("the limit", || {
        session(scene, &mount)["mfa_age_limit"] == 3600
    });
    mount
}

fn session(scene: &Scene, mount: &Mount) -> Value {
    mount.status(scene)["session"].clone()
}

fn read(mount: &Mount) -> String {
    fs::read_to_string(mount.file("f")).unwrap()
}

#[test]
fn a_renewal_is_offered_before_anything_is_denied_and_costs_nothing() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let desktop = Desktop::new(scene);
    let mount = under_a_limit(&stage, &desktop);
    assert_eq!(read(&mount), "content");
    assert_eq!(session(scene, &mount)["renewal_offered_until"], Value::Null);
    scene.sandbox.skew(NEAR_THE_END, Skew::ServerAhead);
    assert_eq!(read(&mount), "content");
    wait_until("the offer", || {
        session(scene, &mount)["renewal_offered_until"].is_string()
    });
    wait_until("the notification", || {
        desktop.told().contains("needs a new MFA code at")
    });
    let status = scene.control(&["status"]);
    assert!(
        status
            .out
            .contains("`s3mfa-mount renew` gives it one before"),
        "{status:?}"
    );
    // Nobody answers it, and nobody is asked.
    assert_eq!(read(&mount), "content");
    assert_eq!(scene.pinentry.asked(), 1);
    // The hour is over a few seconds later: who needs the mount then is asked, and S3 has denied
    // nothing.
    let nearly = Duration::from_secs(3590);
    scene.sandbox.skew(nearly, Skew::ServerAhead);
    assert_eq!(read(&mount), "content");
    wait_until("the end", || session(scene, &mount)["state"] == "locked");
    assert_eq!(scene.pinentry.asked(), 1);
    assert_eq!(scene.sandbox.counts().with_code("AccessDenied"), 0);
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(read(&mount), "content");
    answering.join().unwrap();
    let told = scene.pinentry.last("SETDESC").unwrap();
    assert!(told.contains("a fresher code than one of"), "{told}");
    assert_eq!(session(scene, &mount)["renewal_offered_until"], Value::Null);
}

#[test]
fn a_click_on_the_offer_asks_and_the_session_goes_on_meanwhile() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let desktop = Desktop::new(scene);
    let mount = under_a_limit(&stage, &desktop);
    scene.sandbox.skew(NEAR_THE_END, Skew::ServerAhead);
    assert_eq!(read(&mount), "content");
    wait_until("the notification", || {
        desktop.told().contains("--action=pressed=")
    });
    fs::write(desktop.home.join("press"), "pressed\n").unwrap();
    scene.pinentry.wait_until_asked(2);
    assert_eq!(
        read(&mount),
        "content",
        "the old session is as good as ever"
    );
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    wait_until("the new session", || {
        session(scene, &mount)["generation"] == 2
    });
    let denied = scene.sandbox.counts().with_code("AccessDenied");
    assert_eq!(denied, 0);
}

/// Codes of the last hour, for what is under `secret/`.
fn fresh_under_a_prefix() -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Principal": "*", "Action": "s3:*",
         "Resource": "arn:aws:s3:::docs/secret/*",
         "Condition": {"NumericGreaterThan": {"aws:MultiFactorAuthAge": 3600}}},
        {"Effect": "Deny", "Principal": "*", "Action": "s3:*",
         "Resource": ["arn:aws:s3:::docs", "arn:aws:s3:::docs/*"],
         "Condition": {"Null": {"aws:MultiFactorAuthAge": true}}},
    ]})
}

#[test]
fn a_part_that_wants_a_fresher_code_leaves_the_rest_alone() {
    let stage = Stage::new();
    let scene = &stage.scene;
    scene.bucket.set_policy(fresh_under_a_prefix()).unwrap();
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let secret = mount.file("secret/f");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "content");
    assert_eq!(read(&mount), "content");
    assert_eq!(session(scene, &mount)["mfa_age_limit"], Value::Null);
    scene.sandbox.clock().advance(Duration::from_secs(3601));
    // The daemon's clock has not moved with it; what it knows is that the session is not fresh.
    scene
        .sandbox
        .skew(Duration::from_secs(120), Skew::ServerAhead);
    assert_eq!(read(&mount), "content");
    let reader = std::thread::spawn(move || fs::read_to_string(secret));
    scene.pinentry.wait_until_asked(2);
    assert_eq!(read(&mount), "content", "nobody is locked out meanwhile");
    assert_eq!(session(scene, &mount)["state"], "live");
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    assert_eq!(reader.join().unwrap().unwrap(), "content");
}

#[test]
fn a_limit_that_was_said_goes_before_what_is_learned() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let mount = scene.mount(&["--metadata-ttl", "0", "--mfa-max-age", "900"]);
    assert_eq!(session(scene, &mount)["mfa_age_limit"], 900);
    scene
        .sandbox
        .skew(Duration::from_secs(1000), Skew::ServerAhead);
    let _ = fs::metadata(mount.file("open"));
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(read(&mount), "content");
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 2);
}
