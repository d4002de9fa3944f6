//! Stores with habits of their own: what they demand of every request, what they refuse for a
//! moment, and what they never get done.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use s3mfa_sandbox::{Habit, Kind, Matcher};

use crate::scene::{Scene, errno, noise, wait_until};

#[test]
fn a_bucket_with_object_lock_takes_everything_that_is_written() {
    let scene = Scene::new();
    scene.bucket.set_object_lock(true);
    scene.bucket.put("old", "old");
    scene.bucket.put("foreign/f", "no marker above");
    scene.bucket.put("others/f", "no marker above");
    scene.bucket.put("mode/f", "no marker above");
    let mount = scene.mount(&[]);
    fs::write(mount.file("small"), "x").unwrap();
    fs::write(mount.file("empty"), "").unwrap();
    fs::write(mount.file("large"), noise(1, 20 << 20)).unwrap();
    fs::create_dir(mount.file("dir")).unwrap();
    symlink("small", mount.file("link")).unwrap();
    let mode = fs::Permissions::from_mode;
    fs::set_permissions(mount.file("old"), mode(0o600)).unwrap();
    fs::set_permissions(mount.file("dir"), mode(0o700)).unwrap();
    fs::set_permissions(mount.file("mode"), mode(0o700)).unwrap();
    fs::set_permissions(mount.file("large"), mode(0o600)).unwrap();
    fs::write(mount.file("foreign/new"), "x").unwrap();
    fs::remove_file(mount.file("others/f")).unwrap();
    assert!(fs::read_dir(mount.file("others")).unwrap().next().is_none());
    fs::rename(mount.file("small"), mount.file("small2")).unwrap();
    fs::rename(mount.file("foreign"), mount.file("renamed")).unwrap();
    let append = OpenOptions::new().append(true).open(mount.file("large"));
    append.unwrap().write_all(b"more").unwrap();
    assert_eq!(scene.bucket.get("renamed/new").unwrap(), "x");
    assert_eq!(scene.bucket.get("large").unwrap().len(), (20 << 20) + 4);
    assert_eq!(
        fs::read_link(mount.file("link")).unwrap(),
        Path::new("small")
    );
}

/// Has the next two requests to S3 refused, and then something done.
fn despite(scene: &Scene, (status, code): (u16, &str), done: impl FnOnce()) {
    let faults = scene.sandbox.faults();
    faults.status(Matcher::s3(), status, code, 2);
    done();
    faults.clear();
}

#[test]
fn what_passes_is_waited_out_whatever_is_done_and_however_it_is_said() {
    let scene = Scene::new();
    for key in ["a", "b", "c", "d", "e/f", "g"] {
        scene.bucket.put(key, "old");
    }
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let file = |name: &str| mount.file(name);
    despite(&scene, (429, ""), || {
        assert_eq!(fs::metadata(file("a")).unwrap().len(), 3);
    });
    despite(&scene, (408, "RequestTimeout"), || {
        assert_eq!(fs::read_to_string(file("b")).unwrap(), "old");
    });
    despite(&scene, (520, ""), || {
        assert_eq!(fs::read_dir(file("e")).unwrap().count(), 1);
    });
    despite(&scene, (409, "OperationAborted"), || {
        fs::create_dir(file("made")).unwrap();
    });
    despite(&scene, (409, "ConditionalRequestConflict"), || {
        symlink("a", file("link")).unwrap();
    });
    despite(&scene, (429, "TooManyRequests"), || {
        fs::write(file("new"), "new").unwrap();
    });
    despite(&scene, (425, ""), || {
        fs::set_permissions(file("c"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    despite(&scene, (409, "OperationAborted"), || {
        fs::rename(file("d"), file("moved")).unwrap();
    });
    despite(&scene, (524, ""), || {
        fs::rename(file("e"), file("turned")).unwrap();
    });
    despite(&scene, (409, "OperationAborted"), || {
        fs::remove_file(file("g")).unwrap();
    });
    despite(&scene, (400, "ThrottlingException"), || {
        fs::remove_dir(file("made")).unwrap();
    });
    let keys = ["a", "b", "c", "link", "moved", "new", "turned/", "turned/f"];
    let here: Vec<String> = scene.bucket.keys();
    let here: Vec<&str> = here.iter().map(String::as_str).collect();
    assert!(
        keys.iter()
            .filter(|key| **key != "turned/")
            .all(|key| here.contains(key))
            && here.iter().all(|key| keys.contains(key)),
        "{here:?}"
    );
}

#[test]
fn a_server_that_says_when_to_come_again_is_asked_then() {
    let scene = Scene::new();
    scene.bucket.put("f", "bytes");
    let mount = scene.mount(&[]);
    fs::metadata(mount.file("f")).unwrap();
    let faults = scene.sandbox.faults();
    faults.status(Kind::Get, 429, "", 1);
    faults.retry_after(Kind::Get, Duration::from_secs(3), 1);
    let begun = Instant::now();
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "bytes");
    assert!(
        begun.elapsed() >= Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_renamed_file_whose_old_name_cannot_be_deleted_yet_has_one_name_all_the_same() {
    let scene = Scene::new();
    for key in ["f", "g"] {
        scene.bucket.put(key, "bytes");
    }
    let mount = scene.mount(&[]);
    let faults = scene.sandbox.faults();
    faults.status(Kind::Delete, 409, "OperationAborted", 1000);
    std::thread::scope(|threads| {
        for (from, to) in [("f", "new f"), ("g", "new g")] {
            let (from, to) = (mount.file(from), mount.file(to));
            threads.spawn(move || fs::rename(from, to).unwrap());
        }
    });
    let names = || {
        let names = fs::read_dir(mount.path()).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["new f", "new g"]);
    assert!(scene.bucket.get("f").is_some(), "nothing can be deleted");
    // One of the old names is used anew; the other goes by itself, if need be at the next mount.
    faults.clear();
    fs::write(mount.file("f"), "another").unwrap();
    faults.status(Kind::Delete, 409, "OperationAborted", 1000);
    mount.kill();
    drop(mount);
    faults.clear();
    let _mount = scene.mount(&[]);
    wait_until("the old name to go", || scene.bucket.get("g").is_none());
    assert_eq!(scene.bucket.keys(), ["f", "new f", "new g"]);
    assert_eq!(scene.bucket.get("f").unwrap(), "another");
    assert_eq!(scene.bucket.get("new f").unwrap(), "bytes");
}

#[test]
fn a_store_that_names_another_region_each_time_is_asked_a_handful_of_times() {
    let scene = Scene::new();
    scene.bucket.put("f", noise(1, 1 << 20));
    let mount = scene.mount(&[]);
    scene.sandbox.habits().adopt(Habit::RegionsThatMove);
    let before = scene.sandbox.counts().of(Kind::Get);
    let begun = Instant::now();
    assert_eq!(errno(fs::read(mount.file("f"))), libc::EIO);
    assert!(begun.elapsed() < Duration::from_secs(10));
    let asked = scene.sandbox.counts().of(Kind::Get) - before;
    assert!(asked < 12, "{asked}");
    let log = mount.log();
    assert!(log.contains("another region each time"), "{log}");
}

#[test]
fn a_store_that_forgets_every_upload_is_given_up_and_nothing_is_left_open() {
    let scene = Scene::new();
    let bytes = noise(1, 20 << 20);
    let mut mount = scene.mount(&[]);
    let habits = scene.sandbox.habits();
    habits.adopt(Habit::ForgetfulUploads);
    let before = scene.sandbox.counts().of(Kind::CreateMultipartUpload);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(&bytes).unwrap();
    assert_eq!(errno(file.sync_all()), libc::EIO);
    drop(file);
    let begun = scene.sandbox.counts().of(Kind::CreateMultipartUpload) - before;
    // Three for fsync(2), three for close(2).
    assert!(begun <= 6, "{begun}");
    wait_until("no open uploads", || scene.bucket.uploads().is_empty());
    let log = mount.log();
    assert!(log.contains("the store has lost the upload"), "{log}");
    // It is kept, and stored as soon as the store remembers.
    mount.signal(libc::SIGTERM);
    assert_eq!(mount.wait().code(), Some(1));
    drop(mount);
    habits.drop(Habit::ForgetfulUploads);
    let _mount = scene.mount(&[]);
    let stored = || scene.bucket.get("f").is_some_and(|stored| stored == bytes);
    wait_until("the file", stored);
}
