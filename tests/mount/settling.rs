//! Attributes of files that were stored just now wait a moment, and cost no copies of their own.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use s3mfa_sandbox::Kind;

use crate::scene::{Mount, Scene, parts, wait_until};
use crate::storing::pending;

/// How many files are copied.
const FILES: u64 = 120;

/// The most copies in the bucket that this may take.
const COPIES: u64 = 130;

fn time() -> std::time::SystemTime {
    UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789)
}

/// Sets a mode and a time by the file's name, as rsync does.
fn set(mount: &Mount, name: &str) {
    let path = mount.file(name);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let times = FileTimes::new().set_modified(time());
    File::open(&path).unwrap().set_times(times).unwrap();
}

fn is_set(mount: &Mount, name: &str) -> bool {
    let found = fs::metadata(mount.file(name)).unwrap();
    found.mode() & 0o7777 == 0o640 && found.modified().unwrap() == time()
}

fn is_stored(scene: &Scene, key: &str) -> bool {
    let metadata = scene.bucket.metadata(key).unwrap_or_default();
    metadata.get("mode").is_some_and(|mode| mode == "33184")
        && metadata
            .get("mtime")
            .is_some_and(|mtime| mtime == "1600000000.123456789")
}

#[test]
fn rsync_costs_hardly_more_than_a_copy_for_each_file() {
    let test = "rsync_costs_hardly_more_than_a_copy_for_each_file";
    if !parts::are_here(test, &["rsync"], "apt-get install rsync") {
        return;
    }
    let scene = Scene::new();
    let source = scene.home().join("source");
    for directory in ["", "a", "b/c"] {
        fs::create_dir_all(source.join(directory)).unwrap();
    }
    for i in 0..FILES {
        let directory = ["", "a", "b/c"][i as usize % 3];
        let path = source.join(directory).join(format!("{i}.txt"));
        fs::write(&path, format!("file {i}")).unwrap();
        let mode = if i % 2 == 0 { 0o640 } else { 0o755 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let file = File::open(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(time()))
            .unwrap();
    }
    let mut mount = scene.mount(&[]);
    for (options, most) in [(&["-a"][..], COPIES), (&["-a", "--inplace"], COPIES)] {
        let target = mount.file(&format!("copy{}", options.len()));
        let before = scene.sandbox.counts().of(Kind::Copy);
        let mut rsync = Command::new("rsync");
        rsync.args(options).arg(format!("{}/", source.display()));
        assert!(rsync.arg(&target).status().unwrap().success());
        wait_until("all to be stored", || pending(&mount, &scene) == 0);
        let copies = scene.sandbox.counts().of(Kind::Copy) - before;
        assert!(copies <= most, "{options:?}: {copies} copies");
        // Once more, no file is sent or copied.
        let before = scene.sandbox.counts().of(Kind::Copy);
        let mut rsync = Command::new("rsync");
        rsync
            .args(options)
            .arg("-i")
            .arg(format!("{}/", source.display()));
        let output = rsync.arg(&target).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let files: Vec<&str> = told
            .lines()
            .filter(|line| line[1..].starts_with('f'))
            .collect();
        assert!(files.is_empty(), "{options:?}: {files:?}");
        assert_eq!(scene.sandbox.counts().of(Kind::Copy), before, "{options:?}");
    }
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
}

#[test]
fn attributes_that_wait_are_seen_at_once_and_stored_soon() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    fs::write(mount.file("f"), "f").unwrap();
    let copies = || scene.sandbox.counts().of(Kind::Copy);
    let before = copies();
    set(&mount, "f");
    assert!(is_set(&mount, "f"));
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "f");
    wait_until("it to be stored", || is_stored(&scene, "f"));
    assert_eq!(copies(), before + 1, "both at once");
    assert!(is_set(&mount, "f"));
    wait_until("the journal", || pending(&mount, &scene) == 0);
    // What somebody else has stored is changed before anybody hears so.
    scene.bucket.put("theirs", "theirs");
    fs::set_permissions(mount.file("theirs"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(scene.bucket.metadata("theirs").unwrap()["mode"], "33152");
}

#[test]
fn attributes_that_wait_outlive_the_daemon() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    for name in ["f", "g", "gone"] {
        fs::write(mount.file(name), name).unwrap();
    }
    // No copy gets through, so that they wait for sure.
    scene.sandbox.faults().stall(Kind::Copy, 1000);
    for name in ["f", "g", "gone"] {
        set(&mount, name);
    }
    fs::remove_file(mount.file("gone")).unwrap();
    mount.kill();
    drop(mount);
    scene.sandbox.faults().clear();
    scene.sandbox.faults().release();
    assert!(!is_stored(&scene, "f"));
    let mount = scene.mount(&[]);
    assert!(is_set(&mount, "f") && is_set(&mount, "g"));
    wait_until("it to be stored", || {
        is_stored(&scene, "f") && is_stored(&scene, "g")
    });
    wait_until("the journal", || pending(&mount, &scene) == 0);
    assert_eq!(scene.bucket.keys(), ["f", "g"]);
}

#[test]
fn attributes_that_wait_go_along_with_what_is_done_next() {
    let scene = Scene::new();
    let mut mount = scene.mount(&[]);
    let copies = || scene.sandbox.counts().of(Kind::Copy);
    // A new name, also one that is taken.
    fs::write(mount.file("target"), "old").unwrap();
    for to in ["new", "target"] {
        fs::write(mount.file("tmp"), "content").unwrap();
        let before = copies();
        set(&mount, "tmp");
        fs::rename(mount.file("tmp"), mount.file(to)).unwrap();
        assert_eq!(copies(), before + 1, "{to}");
        assert!(is_set(&mount, to) && is_stored(&scene, to), "{to}");
        assert_eq!(scene.bucket.get(to).unwrap(), "content");
    }
    // Whoever writes next finds them, and a crash does not lose them with what is not closed.
    fs::write(mount.file("w"), "one").unwrap();
    set(&mount, "w");
    let mut file = OpenOptions::new()
        .append(true)
        .open(mount.file("w"))
        .unwrap();
    file.write_all(b" two").unwrap();
    mount.kill();
    drop((file, mount));
    mount = scene.mount(&[]);
    wait_until("the journal", || pending(&mount, &scene) == 0);
    assert!(is_stored(&scene, "w") && is_set(&mount, "w"));
    assert_eq!(scene.bucket.get("w").unwrap(), "one");
    // The end of the mount does not forget them.
    fs::write(mount.file("last"), "last").unwrap();
    set(&mount, "last");
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
    assert!(is_stored(&scene, "last"));
}
