//! Directories that are renamed, and what happens when that is interrupted.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::thread::JoinHandle;
use std::time::Duration;

use s3mfa_sandbox::{Kind, Matcher};

use crate::scene::{Mount, Scene, errno, holds_within, noise, wait_until};

/// How many files there are: some are copied at a time, and not all of them.
const FILES: usize = 100;

/// How many are copied or deleted at once.
const AT_ONCE: usize = 32;

/// A directory with files, a directory below it without a marker and one with, by what is left
/// of each name.
fn furnish(scene: &Scene) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for i in 0..FILES {
        let name = match i % 3 {
            0 => format!("{i}"),
            1 => format!("below/{i}"),
            _ => format!("marked/{i}"),
        };
        let bytes = noise(i as u64, 100 + i);
        scene.bucket.put(&format!("old/{name}"), bytes.clone());
        files.insert(name, bytes);
    }
    scene.bucket.put("old/", "");
    scene.bucket.put("old/marked/", "");
    files.insert(String::new(), Vec::new());
    files.insert("marked/".to_owned(), Vec::new());
    files
}

/// Renames the directory, while others go on.
fn rename(mount: &Mount) -> JoinHandle<std::io::Result<()>> {
    let (from, to) = (mount.file("old"), mount.file("new"));
    std::thread::spawn(move || fs::rename(from, to))
}

/// All of it, and nothing else, is under this name.
fn is_at(scene: &Scene, name: &str, files: &BTreeMap<String, Vec<u8>>) -> bool {
    let keys: Vec<String> = files.keys().map(|file| format!("{name}/{file}")).collect();
    let is_same = |(file, bytes): (&String, &Vec<u8>)| {
        scene.bucket.get(&format!("{name}/{file}")).as_deref() == Some(&bytes[..])
    };
    scene.bucket.keys() == keys && files.iter().all(is_same)
}

#[test]
fn a_directory_that_was_being_renamed_when_the_daemon_died_is_renamed_by_the_next_mount() {
    for (kind, nth) in [
        (Kind::Copy, 1),
        (Kind::Copy, 60),
        (Kind::Delete, 1),
        (Kind::Delete, 60),
    ] {
        let scene = Scene::new();
        let files = furnish(&scene);
        let mut mount = scene.mount(&[]);
        let faults = scene.sandbox.faults();
        // It acts, and from then on nothing does.
        faults.hold_answer(Matcher::kind(kind).nth(nth), 1);
        faults.stall(Matcher::kind(kind).nth(nth + 1), 10_000);
        let renaming = rename(&mount);
        wait_until("all that go at once", || faults.stalled() == AT_ONCE);
        mount.signal(libc::SIGKILL);
        let _ = mount.wait();
        assert!(renaming.join().unwrap().is_err());
        drop(mount);
        faults.clear();
        assert!(
            !is_at(&scene, "old", &files) && !is_at(&scene, "new", &files),
            "it is half done at {kind:?} {nth}: {:?}",
            scene.bucket.keys()
        );
        let mount = scene.mount(&[]);
        wait_until("the rest", || is_at(&scene, "new", &files));
        wait_until("the journal", || {
            mount.status(&scene)["pending_uploads"] == serde_json::json!([])
        });
        assert_eq!(fs::read_dir(mount.file("new")).unwrap().count(), 36);
        assert!(mount.file("old").symlink_metadata().is_err());
        assert_eq!(fs::read(mount.file("new/below/1")).unwrap(), noise(1, 101));
        // What it has made is an ordinary directory: back again.
        fs::rename(mount.file("new"), mount.file("old")).unwrap();
        assert!(is_at(&scene, "old", &files));
    }
}

#[test]
fn a_directory_that_cannot_be_renamed_completely_stays_as_it_is() {
    let scene = Scene::new();
    let files = furnish(&scene);
    let mount = scene.mount(&["--prompt-timeout", "1"]);
    fs::create_dir(mount.file("new")).unwrap();
    let keys = scene.bucket.keys();
    // Nobody gives a code while it is copied.
    scene
        .sandbox
        .faults()
        .expire_before(Matcher::kind(Kind::Copy).nth(50));
    let renamed = fs::rename(mount.file("old"), mount.file("new"));
    assert_eq!(errno(renamed), libc::EKEYEXPIRED);
    // The dialog is open still. With the session that it gives, the copies go.
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    wait_until("the copies to go", || scene.bucket.keys() == keys);
    wait_until("the journal", || {
        mount.status(&scene)["pending_uploads"] == serde_json::json!([])
    });
    assert_eq!(fs::read(mount.file("old/0")).unwrap(), noise(0, 100));
    fs::rename(mount.file("old"), mount.file("new")).unwrap();
    assert!(is_at(&scene, "new", &files));
}

#[test]
fn what_somebody_else_puts_into_a_directory_that_is_renamed_stays() {
    let scene = Scene::new();
    let files = furnish(&scene);
    let mount = scene.mount(&[]);
    let faults = scene.sandbox.faults();
    faults.stall(Matcher::kind(Kind::Delete).nth(1), 1);
    let renaming = rename(&mount);
    wait_until("the first to be deleted", || faults.stalled() > 0);
    scene.bucket.put("old/0", "another one");
    scene.bucket.put("old/zzz", "a new one");
    faults.release();
    renaming.join().unwrap().unwrap();
    assert_eq!(scene.bucket.get("old/0").unwrap(), "another one");
    assert_eq!(scene.bucket.get("old/zzz").unwrap(), "a new one");
    scene.bucket.remove("old/0");
    scene.bucket.remove("old/zzz");
    assert!(is_at(&scene, "new", &files));
}

#[test]
fn what_is_begun_before_a_directory_is_renamed_moves_along() {
    let scene = Scene::new();
    let bytes = noise(7, 3 << 20);
    scene.bucket.put("old/f", bytes.clone());
    scene.bucket.put("old/g", "g");
    let mount = scene.mount(&[]);
    let faults = scene.sandbox.faults();
    let file = OpenOptions::new().write(true).open(mount.file("old/f"));
    let file = file.unwrap();
    // Its rest is to be fetched before a part of it is changed.
    faults.stall(Matcher::kind(Kind::Get).nth(1), 1);
    let (wrote, renamed) = std::thread::scope(|threads| {
        let writing = threads.spawn(|| file.write_all_at(b"changed", 5));
        wait_until("the rest to be fetched", || faults.stalled() == 1);
        let renaming = rename(&mount);
        // It copies nothing as long as somebody is about to change something there.
        let copies = || scene.sandbox.counts().of(Kind::Copy);
        let before = copies();
        assert!(!holds_within(Duration::from_millis(300), || copies() > before));
        faults.release();
        (writing.join().unwrap(), renaming.join().unwrap())
    });
    wrote.unwrap();
    renamed.unwrap();
    drop(file);
    let mut changed = bytes;
    changed[5..12].copy_from_slice(b"changed");
    assert!(scene.bucket.get("new/f").unwrap() == changed);
    assert_eq!(scene.bucket.keys(), ["new/f", "new/g"]);
}

#[test]
fn a_directory_is_renamed_even_if_the_session_ends_before_the_old_objects_are_gone() {
    let scene = Scene::new();
    let files = furnish(&scene);
    let mount = scene.mount(&["--prompt-timeout", "1"]);
    scene
        .sandbox
        .faults()
        .expire_before(Matcher::kind(Kind::Delete).nth(50));
    fs::rename(mount.file("old"), mount.file("new")).unwrap();
    let there = |name: &str| scene.bucket.get(name).is_some();
    let all_new = |name: &String| there(&format!("new/{name}"));
    assert!(files.keys().all(all_new));
    assert!(there("old/"), "the marker is the last to go");
    let status = mount.status(&scene);
    assert_eq!(status["pending_uploads"][0]["key"], "new/");
    // The dialog is open still. What is made under the old name is made once that is free.
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    fs::create_dir(mount.file("old")).unwrap();
    fs::write(mount.file("old/0"), "another").unwrap();
    assert_eq!(fs::read(mount.file("new/0")).unwrap(), noise(0, 100));
    assert_eq!(scene.bucket.get("old/0").unwrap(), "another");
    scene.bucket.remove("old/0");
    scene.bucket.remove("old/");
    assert!(is_at(&scene, "new", &files));
}

#[test]
fn what_is_made_while_its_directory_is_renamed_is_not_made_under_the_old_name() {
    let scene = Scene::new();
    let files = furnish(&scene);
    let mount = scene.mount(&[]);
    let faults = scene.sandbox.faults();
    // All but one are gone, and the kernel knows nothing of it yet.
    faults.hold_answer(Matcher::kind(Kind::Delete).nth(1), 1);
    let renaming = rename(&mount);
    let there = |name: &str| scene.bucket.get(name).is_some();
    wait_until("it to go", || !there("old/3") && faults.stalled() == 1);
    let opening = std::thread::spawn({
        let path = mount.file("old/3");
        move || OpenOptions::new().append(true).create(true).open(path)
    });
    assert!(!holds_within(Duration::from_millis(200), || opening.is_finished()));
    faults.release();
    renaming.join().unwrap().unwrap();
    // When it is decided which file that is, there is none, nor a directory for a new one.
    assert_eq!(errno(opening.join().unwrap()), libc::ENOENT);
    assert!(is_at(&scene, "new", &files), "{:?}", scene.bucket.keys());
}

#[test]
fn what_is_changed_in_a_renamed_directory_does_not_bring_the_old_one_back() {
    let scene = Scene::new();
    let mut files = furnish(&scene);
    let mount = scene.mount(&[]);
    let faults = scene.sandbox.faults();
    faults.status(Kind::Delete, 503, "SlowDown", 10_000);
    fs::rename(mount.file("old"), mount.file("new")).unwrap();
    assert!(
        scene.bucket.get("old/0").is_some(),
        "nothing can be deleted"
    );
    faults.clear();
    // What is left to do looks different in the new place by then.
    fs::remove_file(mount.file("new/0")).unwrap();
    fs::rename(mount.file("new/3"), mount.file("new/three")).unwrap();
    fs::write(mount.file("new/6"), "changed").unwrap();
    files.remove("0");
    files.insert("6".to_owned(), b"changed".to_vec());
    let three = files.remove("3").unwrap();
    files.insert("three".to_owned(), three);
    wait_until("the rest", || is_at(&scene, "new", &files));
    assert!(mount.file("old").symlink_metadata().is_err());
}

#[test]
fn a_directory_whose_objects_may_not_be_deleted_keeps_its_name() {
    let scene = Scene::new();
    furnish(&scene);
    let mount = scene.mount(&[]);
    let file = OpenOptions::new().write(true).open(mount.file("old/0"));
    let file = file.unwrap();
    let faults = scene.sandbox.faults();
    faults.status(Kind::Delete, 403, "AccessDenied", 10_000);
    let renamed = fs::rename(mount.file("old"), mount.file("new"));
    assert_eq!(errno(renamed), libc::EACCES);
    file.write_all_at(b"changed", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(&fs::read(mount.file("old/0")).unwrap()[..7], b"changed");
    assert_eq!(&scene.bucket.get("old/0").unwrap()[..7], b"changed");
    assert_eq!(scene.bucket.get("new/0").unwrap(), noise(0, 100));
    let status = mount.status(&scene);
    assert_eq!(status["pending_uploads"], serde_json::json!([]));
}
