//! Locks of programs: they hold among all mounts of a bucket.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::scene::{Mount, Scene, ends_within, holds_within, parts, wait_until};

/// Two mounts of one bucket.
fn two_mounts() -> (Scene, Mount, Mount) {
    let scene = Scene::new();
    scene.bucket.clear_policy();
    scene.bucket.put("f", "content");
    let start = |name| {
        let path = scene.mountpoint(name);
        let mount = Mount::start(&scene, "docs", &path, &["--credentials", "plain"]);
        mount.wait_until_mounted();
        mount
    };
    let (one, other) = (start("one"), start("other"));
    (scene, one, other)
}

fn open(path: impl AsRef<Path>) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn range(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

/// Of this process.
fn posix(file: impl AsFd, kind: i32, start: i64, length: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_SETLK(&range(kind, start, length))).map(drop)
}

/// Of the open file description.
fn of_description(file: impl AsFd, kind: i32, start: i64, length: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind, start, length))).map(drop)
}

/// flock(1) of util-linux, which uses flock(2).
fn flock(options: &[&str], file: &Path, command: &[&str]) -> Child {
    let mut flock = Command::new("flock");
    flock.args(options).arg(file).args(command);
    flock.stdin(Stdio::null()).spawn().unwrap()
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn all_kinds_hold_among_mounts_and_each_for_itself() {
    let (_scene, one, other) = two_mounts();
    let (here, there) = (open(one.file("f")), open(other.file("f")));
    here.try_lock().unwrap();
    assert!(there.try_lock().is_err() && there.try_lock_shared().is_err());
    assert!(
        open(one.file("f")).try_lock().is_err(),
        "within one mount too"
    );
    // fcntl(2) knows nothing of flock(2).
    posix(&here, libc::F_WRLCK, 0, 10).unwrap();
    assert_eq!(posix(&there, libc::F_WRLCK, 5, 10), Err(Errno::EAGAIN));
    posix(&there, libc::F_WRLCK, 10, 10).unwrap();
    assert_eq!(
        of_description(&there, libc::F_RDLCK, 0, 1),
        Err(Errno::EAGAIN)
    );
    here.unlock().unwrap();
    there.try_lock().unwrap();
    let mut asked = range(libc::F_WRLCK, 0, 0);
    fcntl(&there, FcntlArg::F_GETLK(&mut asked)).unwrap();
    assert_eq!((asked.l_start, asked.l_len), (0, 10));

    posix(&here, libc::F_UNLCK, 0, 0).unwrap();
    of_description(&there, libc::F_RDLCK, 0, 1).unwrap();
    let again = open(other.file("f"));
    of_description(&again, libc::F_RDLCK, 0, 0).unwrap_err();
    drop(there);
    wait_until("the end of what was open", || {
        of_description(&again, libc::F_WRLCK, 0, 0).is_ok()
    });
    assert_eq!(posix(&here, libc::F_RDLCK, 0, 1), Err(Errno::EAGAIN));
}

#[test]
fn closing_any_descriptor_ends_the_locks_of_a_process() {
    let (_scene, one, other) = two_mounts();
    let (here, there) = (open(one.file("f")), open(other.file("f")));
    posix(&here, libc::F_WRLCK, 0, 0).unwrap();
    assert_eq!(posix(&there, libc::F_WRLCK, 0, 0), Err(Errno::EAGAIN));
    drop(open(one.file("f")));
    posix(&there, libc::F_WRLCK, 0, 0).unwrap();
}

#[test]
fn locks_end_with_the_program_and_with_the_daemon() {
    let test = "locks_end_with_the_program_and_with_the_daemon";
    if !parts::are_here(test, &["flock"], "apt-get install util-linux") {
        return;
    }
    let (_scene, one, other) = two_mounts();
    let there = open(other.file("f"));
    let mut holder = flock(&["--no-fork"], &one.file("f"), &["sleep", "600"]);
    wait_until("the lock", || {
        let is_held = there.try_lock_shared().is_err();
        let _ = there.unlock();
        is_held
    });
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until("the end of the lock", || there.try_lock().is_ok());
    there.unlock().unwrap();

    let here = open(one.file("f"));
    here.try_lock().unwrap();
    assert!(there.try_lock().is_err());
    one.kill();
    wait_until("the end of the lock", || there.try_lock().is_ok());
    drop(here);
}

#[test]
fn who_waits_for_a_lock_gets_it_soon_and_can_be_stopped() {
    let test = "who_waits_for_a_lock_gets_it_soon_and_can_be_stopped";
    if !parts::are_here(test, &["flock"], "apt-get install util-linux") {
        return;
    }
    let (_scene, one, other) = two_mounts();
    let here = open(one.file("f"));
    for mount in [&one, &other] {
        here.lock().unwrap();
        let file = mount.file("f");
        // A timer of its own, whose signal it catches.
        let start = Instant::now();
        let mut timed = flock(&["-w", "1"], &file, &["true"]);
        assert!(ends_within(&mut timed, SOON).is_some());
        assert_eq!(timed.wait().unwrap().code(), Some(1));
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );

        let mut waiting = flock(&[], &file, &["true"]);
        assert!(!holds_within(Duration::from_millis(500), || {
            waiting.try_wait().unwrap().is_some()
        }));
        crate::scene::kill(waiting.id(), libc::SIGTERM);
        assert!(
            ends_within(&mut waiting, SOON).is_some(),
            "it was asked to end"
        );

        let mut waiting = flock(&[], &file, &["true"]);
        assert!(!holds_within(Duration::from_millis(500), || {
            waiting.try_wait().unwrap().is_some()
        }));
        here.unlock().unwrap();
        assert!(ends_within(&mut waiting, SOON).is_some(), "it is free");
        assert!(waiting.wait().unwrap().success());
    }
}

#[test]
fn many_take_turns_through_two_mounts_and_none_is_lost() {
    const TURNS: usize = 8;
    let test = "many_take_turns_through_two_mounts_and_none_is_lost";
    if !parts::are_here(test, &["flock"], "apt-get install util-linux") {
        return;
    }
    let (scene, one, other) = two_mounts();
    let count = scene.home().join("count");
    fs::write(&count, "0").unwrap();
    let add = format!(
        "n=$(cat {0}); sleep 0.05; echo $((n + 1)) > {0}",
        count.display()
    );
    let all: Vec<_> = (0..TURNS)
        .flat_map(|_| [&one, &other])
        .map(|mount| flock(&[], &mount.file("f"), &["-c", &add]))
        .collect();
    for mut one in all {
        assert!(ends_within(&mut one, 3 * SOON).is_some());
    }
    let counted = fs::read_to_string(&count).unwrap();
    assert_eq!(counted.trim(), (2 * TURNS).to_string());
}
