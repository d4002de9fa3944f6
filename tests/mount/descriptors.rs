//! More files than a process may have descriptors.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use s3mfa_sandbox::{FOREVER, Matcher};

use crate::scene::{Mount, Scene, wait_until};

/// More than twice as many as the daemon may have descriptors.
const FILES: usize = 600;
const DESCRIPTORS: usize = 256;

/// A daemon that can have no more.
fn start(scene: &Scene, options: &str) -> Mount {
    let path = scene.mountpoint("mnt");
    let script = format!(
        "ulimit -n {DESCRIPTORS} && exec {} docs {} --foreground --credentials plain {options}",
        env!("CARGO_BIN_EXE_s3mfa-mount"),
        path.display()
    );
    let mut command = Command::new("sh");
    command.env_clear().envs(scene.environment());
    command.args(["-c", &script]);
    let mount = Mount::spawn(command, &path);
    mount.wait_until_mounted();
    mount
}

fn plain_scene() -> Scene {
    let scene = Scene::new();
    scene.bucket.clear_policy();
    scene
}

#[test]
fn many_files_are_open_for_writing() {
    let scene = plain_scene();
    scene.bucket.put("other", "content");
    let mount = start(&scene, "");
    let mut open: Vec<_> = (0..FILES)
        .map(|index| File::create(mount.file(&format!("w{index}"))).unwrap())
        .collect();
    for (index, file) in open.iter_mut().enumerate() {
        write!(file, "{index}").unwrap();
    }
    let has = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap();
    assert!(has.count() < DESCRIPTORS);
    assert_eq!(fs::read_to_string(mount.file("other")).unwrap(), "content");
    drop(open);
    for index in 0..FILES {
        let stored = scene.bucket.get(&format!("w{index}"));
        assert_eq!(stored.unwrap(), index.to_string());
    }
}

#[test]
fn many_files_wait_for_the_next_mount() {
    let scene = plain_scene();
    let mount = start(&scene, "--write-back");
    let faults = scene.sandbox.faults();
    faults.status(Matcher::writes(), 403, "AccessDenied", FOREVER);
    for index in 0..FILES {
        fs::write(mount.file(&format!("w{index}")), index.to_string()).unwrap();
    }
    mount.kill();
    drop(mount);
    faults.clear();
    let _next = start(&scene, "");
    wait_until("the writes of the first mount", || {
        (0..FILES).all(|index| scene.bucket.get(&format!("w{index}")).is_some())
    });
}

#[test]
fn programs_that_are_started_get_the_usual_limit() {
    let scene = plain_scene();
    scene.bucket.put("f", "content");
    scene
        .bucket
        .set_policy(s3mfa_sandbox::policies::require_mfa_null_age("docs"))
        .unwrap();
    let limit = scene.home().join("limit");
    let code = scene.device.unspent_code();
    let process = format!("ulimit -n > {}; echo {code}", limit.display());
    let path = scene.mountpoint("mnt");
    let mut command = Command::new("sh");
    command.env_clear().envs(scene.environment());
    let script = "ulimit -Sn 128 && exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_s3mfa-mount"), "docs"]);
    command
        .arg(&path)
        .args(["--foreground", "--mfa-process", &process]);
    let mount = Mount::spawn(command, &path);
    mount.wait_until_mounted();
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut numbers = files.unwrap().split_whitespace().skip(3);
    assert_eq!(numbers.next(), numbers.next(), "as many as it may have");
    assert_eq!(fs::read_to_string(&limit).unwrap().trim(), "128");
}
