//! Signals: none that somebody may send leaves a dead mount behind.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scene::{Mount, Scene, is_mounted, parts, wait_until};

fn plain_scene() -> Scene {
    let scene = Scene::new();
    scene.bucket.clear_policy();
    scene.bucket.put("f", "content");
    scene
}

/// Each would end a program that does not care.
#[test]
fn what_means_nothing_does_nothing() {
    let scene = plain_scene();
    // Without a terminal, SIGHUP is one of them: logrotate sends it.
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_s3mfa-mount"));
    command.env_clear().envs(scene.environment());
    let path = scene.mountpoint("mnt");
    command.args(["docs", path.to_str().unwrap(), "--foreground"]);
    command.args(["--credentials", "plain"]);
    let mount = Mount::spawn(command, &path);
    mount.wait_until_mounted();
    let status = scene.control(&["status", "--json"]).out;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let daemon = status["mounts"][0]["pid"].as_u64().unwrap();
    let daemon = u32::try_from(daemon).unwrap();

    let mut open = fs::File::create(mount.file("new")).unwrap();
    open.write_all(b"first ").unwrap();
    let named = [
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
        libc::SIGSTKFLT,
        libc::SIGXFSZ,
        libc::SIGWINCH,
        libc::SIGURG,
    ];
    for signal in named.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        crate::scene::kill(daemon, signal);
        assert!(is_mounted(&path), "signal {signal}: {}", mount.log());
    }
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    open.write_all(b"second").unwrap();
    drop(open);
    assert_eq!(scene.bucket.get("new").unwrap(), b"first second"[..]);
    crate::scene::kill(daemon, libc::SIGTERM);
    wait_until("the end", || !is_mounted(&path) && mount.has_ended());
}

#[test]
fn what_asks_for_the_end_stores_what_waits() {
    for signal in [libc::SIGQUIT, libc::SIGXCPU] {
        let scene = plain_scene();
        let mut mount = scene.start(&["--credentials", "plain", "--write-back"]);
        mount.wait_until_mounted();
        fs::write(mount.file("new"), "waits").unwrap();
        mount.signal(signal);
        assert_eq!(mount.wait().code(), Some(0), "{signal}: {}", mount.log());
        assert!(!mount.is_mounted(), "{signal}");
        assert_eq!(scene.bucket.get("new").unwrap(), b"waits"[..], "{signal}");
    }
}

/// A mount on a terminal of its own, which script(1) holds.
fn on_a_terminal(scene: &Scene, before: &str) -> (std::process::Child, std::path::PathBuf) {
    let path = scene.mountpoint("mnt");
    let program = env!("CARGO_BIN_EXE_s3mfa-mount");
    let command = format!(
        "cd {} && {before} {program} docs {} --foreground --credentials plain",
        scene.home().display(),
        path.display()
    );
    let mut script = Command::new("script");
    script.env_clear().envs(scene.environment());
    script.args(["-q", "-c", &command, "/dev/null"]);
    let child = script
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the mount", || is_mounted(&path));
    (child, path)
}

#[test]
fn a_terminal_that_is_closed_ends_the_mount_on_it() {
    let test = "a_terminal_that_is_closed_ends_the_mount_on_it";
    if !parts::are_here(test, &["script", "nohup"], "apt-get install bsdutils") {
        return;
    }
    let scene = plain_scene();
    let (mut terminal, path) = on_a_terminal(&scene, "exec");
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_until("the end", || !is_mounted(&path));

    let (mut terminal, path) = on_a_terminal(&scene, "exec nohup");
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let ends = crate::scene::holds_within(Duration::from_secs(2), || !is_mounted(&path));
    assert!(!ends, "nohup says that it shall stay");
    let ended = scene.control(&["unmount", path.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_mount_in_the_background_has_no_terminal_to_lose() {
    let scene = plain_scene();
    let path = scene.mountpoint("mnt");
    let place = path.to_str().unwrap();
    let started = scene.control(&["docs", place, "--credentials", "plain"]);
    assert_eq!(started.code, 0, "{started:?}");
    let status: serde_json::Value =
        serde_json::from_str(&scene.control(&["status", "--json"]).out).unwrap();
    let daemon = status["mounts"][0]["pid"].as_u64().unwrap();
    crate::scene::kill(u32::try_from(daemon).unwrap(), libc::SIGHUP);
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "content");
    let ended = scene.control(&["unmount", place]);
    assert_eq!(ended.code, 0, "{ended:?}");
}
