//! Programs that wait can be stopped, and nobody else is disturbed.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use s3mfa_sandbox::{FOREVER, Kind, Matcher};

use crate::scene::{Mount, Scene, ends_within, kill, wait_until};

fn program(args: &[&str]) -> Child {
    // A shell that started the tests in the background has SIGINT ignored, by its children too.
    Command::new("env")
        .arg("--default-signal")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn stat(mount: &Mount, name: &str) -> Child {
    program(&["stat", mount.file(name).to_str().unwrap()])
}

/// The kernel's word for a process that waits for an answer.
fn wait_until_parked(child: &Child) {
    wait_until("the wait for FUSE", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.contains(") D ") || stat.contains(") S ")
    });
}

fn dies_of(signal: i32, mut child: Child) {
    // Longer than it takes until somebody looks after it.
    std::thread::sleep(Duration::from_millis(300));
    wait_until_parked(&child);
    kill(child.id(), signal);
    let took = ends_within(&mut child, Duration::from_secs(5));
    assert!(
        took.is_some_and(|took| took < Duration::from_secs(1)),
        "signal {signal}: {took:?}"
    );
}

#[test]
fn behind_an_open_prompt_a_process_dies_within_a_second() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM] {
        scene.sandbox.sessions().expire_all();
        let asked = scene.pinentry.asked();
        let child = stat(&mount, "f");
        scene.pinentry.wait_until_asked(asked + 1);
        dies_of(signal, child);
        // Nobody waits any more, so the dialog goes.
        wait_until("the end of the dialog", || !scene.pinentry.is_open());
    }
}

#[test]
fn behind_a_server_that_is_silent_a_process_dies_within_a_second() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    scene.sandbox.faults().stall(Matcher::any(), FOREVER);
    for signal in [libc::SIGKILL, libc::SIGINT] {
        dies_of(signal, stat(&mount, "f"));
    }
    scene.sandbox.faults().release();
    scene.sandbox.faults().clear();
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
}

#[test]
fn a_reader_behind_a_silent_server_dies_within_a_second() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&[]);
    scene
        .sandbox
        .faults()
        .stall(Matcher::kind(Kind::Get), FOREVER);
    dies_of(
        libc::SIGKILL,
        program(&["cat", mount.file("f").to_str().unwrap()]),
    );
}

#[test]
fn signals_that_runtimes_use_disturb_nothing() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    scene.sandbox.sessions().expire_all();
    let mut child = program(&["cat", mount.file("f").to_str().unwrap()]);
    scene.pinentry.wait_until_asked(2);
    for signal in [libc::SIGURG, libc::SIGCHLD, libc::SIGWINCH] {
        kill(child.id(), signal);
    }
    assert!(
        ends_within(&mut child, Duration::from_secs(1)).is_none(),
        "it still waits"
    );
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"content");
    assert!(output.status.success());
}

#[test]
fn df_the_root_and_other_mounts_answer_at_once_meanwhile() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let other = Scene::new();
    other.bucket.put("g", "other");
    let living = other.mount(&[]);

    scene.sandbox.sessions().expire_all();
    let mut parked = stat(&mount, "f");
    scene.pinentry.wait_until_asked(2);
    let root = mount.path().to_str().unwrap();
    let living_root = living.path().to_str().unwrap();
    for args in [
        &["df", root][..],
        &["stat", root],
        &["stat", "-f", root],
        &["test", "-r", root],
        &["ls", "-ld", root],
        &["ls", "-l", living_root],
        &["cat", &format!("{living_root}/g")],
    ] {
        let start = Instant::now();
        let status = Command::new(args[0])
            .args(&args[1..])
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{args:?}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(1), "{args:?}: {took:?}");
    }
    parked.kill().unwrap();
    parked.wait().unwrap();
}

/// Indexers, and the daemons that look for a trash, thumbnails and volumes on every mount.
#[test]
fn programs_that_nobody_waits_for_cause_no_prompt() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    scene.sandbox.sessions().expire_all();
    // A program is known by its name, and a copy of `cat` may have any.
    let cat = String::from_utf8(Command::new("which").arg("cat").output().unwrap().stdout).unwrap();
    for name in [
        "tracker-miner-fs-3",
        "gvfsd-trash",
        "gvfs-udisks2-volume-monitor",
        "tumblerd",
        "kioworker",
    ] {
        let program = scene.home().join(name);
        fs::copy(cat.trim(), &program).unwrap();
        let start = Instant::now();
        let status = Command::new(&program)
            .arg(mount.file("f"))
            .stderr(Stdio::null())
            .status();
        assert!(!status.unwrap().success(), "{name}");
        assert!(start.elapsed() < Duration::from_secs(5), "{name}");
        assert_eq!(scene.pinentry.asked(), 1, "{name}");
    }
}

/// Those who come to a dialog that somebody has left get no deadline of their own.
#[test]
fn a_dialog_that_nobody_answers_holds_a_program_for_one_deadline() {
    for line in [
        "stat new",
        "cd d",
        "cat d/f",
        "ls -l",
        "test -e a; test -e b; test -e c; cd d",
    ] {
        let scene = Scene::new();
        scene.bucket.put("d/f", "content");
        let mount = scene.mount(&["--metadata-ttl", "0", "--prompt-timeout", "5"]);
        scene.sandbox.sessions().expire_all();
        let root = mount.path().to_str().unwrap();
        let start = Instant::now();
        let mut child = program(&["bash", "-c", &format!("cd {root} && {{ {line}; }}")]);
        let took = ends_within(&mut child, Duration::from_secs(60));
        assert!(
            took.is_some() && start.elapsed() < Duration::from_secs(10),
            "{line}: {took:?}\n{}",
            mount.log()
        );
        assert!(!child.wait().unwrap().success(), "{line}");
        assert_eq!(scene.pinentry.asked(), 2, "{line}");
    }
}

#[test]
fn names_that_the_kernel_holds_are_answered_without_a_session() {
    let scene = Scene::new();
    scene.bucket.put("d/f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    // The kernel holds a name for as long as somebody is there.
    let directory = fs::File::open(mount.file("d")).unwrap();
    let held = fs::File::open(mount.file("d/f")).unwrap();
    assert_eq!(scene.control(&["lock"]).code, 0);
    for name in ["d", "d/f"] {
        let start = Instant::now();
        let found = fs::metadata(mount.file(name)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{name}");
        assert_eq!(found.is_dir(), name == "d");
    }
    assert_eq!(held.metadata().unwrap().len(), 7);
    assert!(directory.metadata().unwrap().is_dir());
    assert_eq!(scene.pinentry.asked(), 1);
}
