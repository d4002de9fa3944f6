//! Many programs, one session.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use s3mfa_sandbox::{Kind, policies};

use crate::case::{ROLE_WITH_DEVICE, Stage, WITH_DEVICE};
use crate::scene::{Mount, Scene, wait_until};

/// Six mounts and six calls of `credentials`, started together.
struct Dozen {
    mounts: Vec<Mount>,
    calls: Vec<Child>,
}

impl Dozen {
    fn start(scene: &Scene) -> Self {
        let mounts: Vec<Mount> = (0..6)
            .map(|i| {
                let path = scene.mountpoint(&format!("mnt{i}"));
                Mount::start(scene, "docs", &path, &[])
            })
            .collect();
        let calls = (0..6)
            .map(|_| {
                scene
                    .command()
                    .arg("credentials")
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        Self { mounts, calls }
    }

    /// What the calls print, and how they end.
    fn finish(self) -> (Vec<Mount>, Vec<(i32, String, String)>) {
        let ends = self.calls.into_iter().map(|call| {
            let output = call.wait_with_output().unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8(output.stdout).unwrap(),
                String::from_utf8(output.stderr).unwrap(),
            )
        });
        let ends = ends.collect();
        (self.mounts, ends)
    }
}

#[test]
fn twelve_programs_ask_once_and_all_succeed() {
    let stage = Stage::new();
    let scene = &stage.scene;
    // A session that is dead, without anybody knowing it.
    scene.mount(&[]).signal(libc::SIGTERM);
    scene.sandbox.sessions().expire_all();
    assert_eq!(scene.pinentry.asked(), 1);
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let (mounts, calls) = Dozen::start(scene).finish();
    for mount in &mounts {
        mount.wait_until_mounted();
        assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    }
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 2, "one more for all twelve");
    let keys: Vec<serde_json::Value> = calls
        .iter()
        .map(|(code, out, err)| {
            assert_eq!(*code, 0, "{err}");
            serde_json::from_str(out).unwrap()
        })
        .collect();
    for keys in &keys {
        assert_eq!(keys["Version"], 1);
        assert_eq!(keys["AccessKeyId"], calls_key(&calls));
        assert!(keys["SessionToken"].is_string() && keys["Expiration"].is_string());
    }
    assert_eq!(scene.sandbox.counts().of(Kind::GetSessionToken), 2);
}

fn calls_key(calls: &[(i32, String, String)]) -> serde_json::Value {
    let first: serde_json::Value = serde_json::from_str(&calls[0].1).unwrap();
    first["AccessKeyId"].clone()
}

#[test]
fn twelve_programs_ask_once_and_hear_one_no() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let dozen = Dozen::start(scene);
    scene.pinentry.wait_until_asked(1);
    // Of the mounts all wait before the person says no, but for the one that may be the one to ask.
    let waits = |mount: &&Mount| mount.log().contains("another program asks");
    wait_until("everybody's waiting", || {
        dozen.mounts.iter().filter(waits).count() >= dozen.mounts.len() - 1
    });
    assert!(scene.pinentry.answer("cancel"));
    let (mounts, calls) = dozen.finish();
    for mut mount in mounts {
        assert_eq!(mount.wait().code(), Some(3), "{}", mount.log());
        assert!(mount.log().contains("cancelled"), "{}", mount.log());
    }
    for (code, out, err) in calls {
        assert_eq!((code, out.as_str()), (3, ""));
        assert!(err.contains("cancelled"), "{err}");
    }
    assert_eq!(scene.pinentry.asked(), 1);
}

#[test]
fn a_restart_needs_no_new_code_and_logging_out_ends_that() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let mut mount = scene.mount(&[]);
    mount.signal(libc::SIGTERM);
    mount.wait();
    let mount = scene.mount(&[]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(scene.pinentry.asked(), 1);
    drop(mount);
    scene.log_out();
    let _mount = scene.mount(&[]);
    assert_eq!(scene.pinentry.asked(), 2);
}

#[test]
fn one_code_renews_every_mount_and_another_ones_session_is_taken_over() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let one = scene.mount(&["--metadata-ttl", "0"]);
    let path = scene.mountpoint("other");
    let two = Mount::start(scene, "docs", &path, &["--metadata-ttl", "0"]);
    two.wait_until_mounted();
    scene.sandbox.sessions().expire_all();
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(fs::read_to_string(one.file("f")).unwrap(), "content");
    answering.join().unwrap();
    assert_eq!(fs::read_to_string(two.file("f")).unwrap(), "content");
    assert_eq!(scene.pinentry.asked(), 2);
    // `renew` of all mounts asks once.
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let renewed = scene.control(&["renew"]);
    assert_eq!(renewed.code, 0, "{renewed:?}");
    assert_eq!(renewed.out.matches("has a session until").count(), 2);
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 3);
}

#[test]
fn a_role_is_assumed_again_and_again_with_one_code() {
    let stage = Stage::new();
    let scene = &stage.scene;
    stage.configure(ROLE_WITH_DEVICE);
    let mount = scene.mount(&["--profile", "r", "--metadata-ttl", "0"]);
    let assumed = || scene.sandbox.counts().of(Kind::AssumeRole);
    assert_eq!(assumed(), 1);
    for hour in 1..=3 {
        scene.sandbox.clock().advance(Duration::from_secs(3601));
        assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
        assert_eq!(assumed(), 1 + hour);
    }
    assert_eq!(scene.pinentry.asked(), 1);
    // The code is too old for the bucket now: a role's new session is no younger.
    let policy = policies::require_fresh_mfa("docs", 3600);
    scene.bucket.set_policy(policy).unwrap();
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 2);
}

#[test]
fn locking_forgets_the_session_for_all_and_the_next_access_asks() {
    let stage = Stage::new();
    let scene = &stage.scene;
    stage.configure(WITH_DEVICE);
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    assert_eq!(scene.control(&["lock"]).code, 0);
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 2);
    // Nothing is in clear anywhere but in the runtime directory.
    wait_until("the session's file", || {
        let directory = scene.home().join("run/s3mfa-mount");
        let mut files = fs::read_dir(directory).unwrap();
        files.any(|file| file.unwrap().path().extension() == Some("session".as_ref()))
    });
}
