//! `pjdfstest`: what POSIX promises of each system call, on a mount by root that everybody may
//! use, and on an ordinary user's own mount.
//!
//! `exceptions.txt` says what is left out, case by case, and how many cases pass. It is exact: a
//! case that is listed and passes is a failure like one that fails and is not listed. When the
//! program has learned more, take the case off the list, and have the numbers written anew by
//!
//!     S3MFA_UPDATE_COUNTS=1 cargo test --test posix pjdfstest

mod exceptions;
mod user;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use exceptions::{Exceptions, Found};
use user::Guest;

use crate::scene::{Scene, parts};
use crate::tools::{Tool, run_within};

const PJDFSTEST: Tool = Tool {
    name: "pjdfstest",
    version: "0.2.2",
};

/// It takes some seconds.
const MOST: Duration = Duration::from_secs(300);

/// All that it can ask for on Linux. The two users that it becomes are on every Debian.
fn write_config(scene: &Scene, may_remount: bool) {
    let config = format!(
        r#"[features]
posix_fallocate = {{}}
rename_ctime = {{}}
utime_now = {{}}
utimensat = {{}}
# On another file system.
secondary_fs = "{}"

[settings]
# Times have nanoseconds here.
naptime = 0.01
allow_remount = {may_remount}

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#,
        scene.home().display()
    );
    std::fs::write(scene.home().join("pjdfstest.toml"), config).unwrap();
}

/// Runs the cases with this in their names in a directory, or all.
fn run(mut command: Command, scene: &Scene, place: &Path, only: Option<&str>) -> Found {
    command
        .arg("-c")
        .arg(scene.home().join("pjdfstest.toml"))
        .arg("-p")
        .arg(place)
        .args(only)
        .env("RUST_BACKTRACE", "0");
    let outcome = run_within(MOST, &mut command, &scene.home().join("pjdfstest.log"));
    let found = Found::read(&outcome.text, outcome.took);
    assert!(
        !found.cases.is_empty(),
        "no cases in what it said:\n{}",
        outcome.text
    );
    found
}

/// A `PATH` on which `mount -o remount,ro` asks the kernel and nobody else: the `mount` of
/// util-linux would have the helper `mount.fuse` start another daemon.
fn path_with_plain_mount(scene: &Scene) -> String {
    let directory = scene.home().join("sbin");
    std::fs::create_dir(&directory).unwrap();
    let path = std::env::var("PATH").unwrap();
    let script = format!("#!/bin/sh\nPATH='{path}' exec mount --internal-only \"$@\"\n");
    std::fs::write(directory.join("mount"), script).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.join("mount"), mode).unwrap();
    format!("{}:{path}", directory.display())
}

/// Compares what a run has found with the list.
fn judge(run: &str, found: &Found) {
    let exceptions = Exceptions::read(run);
    let mut verdict = exceptions.compare(found);
    let seconds = found.took.as_secs_f32();
    println!("pjdfstest {run}: {}, in {seconds:.1} s", verdict.counts);
    if std::env::var_os("S3MFA_UPDATE_COUNTS").is_some() {
        exceptions.write(&mut verdict);
    }
    assert!(verdict.is_as_expected(), "pjdfstest {run}: {verdict}");
}

#[test]
fn pjdfstest_as_root() {
    let test = "pjdfstest as root";
    let Some(program) = PJDFSTEST.find(test) else {
        return;
    };
    if !parts::is_root(test) {
        return;
    }
    let scene = Scene::new();
    let mount = scene.mount(&["--allow-other"]);
    // The users that it becomes must get to the mount.
    user::let_pass(scene.home());
    write_config(&scene, false);
    let mut found = run(Command::new(&program), &scene, mount.path(), None);
    // By themselves: one of the others leaves a file open, and then the kernel does not make the
    // mount read-only any more.
    write_config(&scene, true);
    let mut command = Command::new(&program);
    command.env("PATH", path_with_plain_mount(&scene));
    found.add(run(command, &scene, mount.path(), Some("erofs")));
    judge("as root", &found);
    assert!(scene.bucket.uploads().is_empty());
}

/// An ordinary user, and the mount is that user's own: nobody else gets in, not even root, so
/// all that needs another user or root is not run here. What is left shows that the program
/// needs no privileges for what it does.
#[test]
fn pjdfstest_as_a_user() {
    let test = "pjdfstest as a user";
    let Some(program) = PJDFSTEST.find(test) else {
        return;
    };
    if !parts::are_here(test, &["fusermount3"], "apt-get install fuse3") {
        return;
    }
    let scene = Scene::new();
    let guest = Guest::of(&scene, &program);
    write_config(&scene, false);
    guest.take_over();
    let mount = guest.mount();
    let command = guest.command_beside(&mount, "pjdfstest");
    let found = run(command, &scene, mount.path(), None);
    judge("as a user", &found);
    assert!(scene.bucket.uploads().is_empty());
}

/// Where the list is.
fn list() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/posix/exceptions.txt")
}
