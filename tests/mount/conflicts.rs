//! Two who change one file: nothing of either is lost, and the name stays usable.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use s3mfa_sandbox::{Kind, Matcher};

use crate::scene::{Mount, Scene, errno, noise, wait_until};
use crate::storing::{beside, pending};

/// Where a part of a large file is changed.
const PLACE: usize = 20 << 20;

fn open(mount: &Mount, name: &str) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.open(mount.file(name)).unwrap()
}

/// The name can be read, given away, taken back and removed, and nothing is left to do.
fn is_usable(scene: &Scene, mut mount: Mount, name: &str, bytes: &str) {
    assert_eq!(fs::read_to_string(mount.file(name)).unwrap(), bytes);
    fs::rename(mount.file(name), mount.file("elsewhere")).unwrap();
    fs::rename(mount.file("elsewhere"), mount.file(name)).unwrap();
    fs::write(mount.file(name), "new").unwrap();
    assert_eq!(scene.bucket.get(name).unwrap(), "new");
    fs::remove_file(mount.file(name)).unwrap();
    assert!(scene.bucket.get(name).is_none());
    assert!(scene.bucket.uploads().is_empty());
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
}

#[test]
fn two_clients_that_change_one_file_both_keep_their_version() {
    let scene = Scene::new();
    for (key, size) in [("small.txt", 1000), ("large.tar.gz", 20 << 20)] {
        scene.bucket.put(key, noise(1, size));
    }
    let mount = scene.mount(&[]);
    // Part of a small one: its rest is the version that was opened.
    let file = OpenOptions::new()
        .write(true)
        .open(mount.file("small.txt"))
        .unwrap();
    file.write_all_at(b"mine", 10).unwrap();
    scene.bucket.put("small.txt", "theirs");
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    drop(file);
    assert_eq!(scene.bucket.get("small.txt").unwrap(), "theirs");
    let other = beside(&scene, "small", "small.txt");
    assert!(
        other.starts_with("small (conflict ") && other.ends_with(".txt"),
        "{other}"
    );
    let mut expected = noise(1, 1000);
    expected[10..14].copy_from_slice(b"mine");
    assert!(scene.bucket.get(&other).unwrap() == expected);
    // All of a large one, in parts.
    let mine = noise(2, 30 << 20);
    let open = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(mount.file("large.tar.gz"));
    let mut file = open.unwrap();
    file.write_all(&mine).unwrap();
    scene.bucket.put("large.tar.gz", "theirs");
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    drop(file);
    let other = beside(&scene, "large", "large.tar.gz");
    assert!(other.ends_with(".tar.gz"), "{other}");
    assert!(scene.bucket.get(&other).unwrap() == mine);
    assert_eq!(scene.bucket.get("large.tar.gz").unwrap(), "theirs");
    // A new one that two made.
    let mut file = File::create(mount.file("new")).unwrap();
    file.write_all(b"mine").unwrap();
    scene.bucket.put("new", "theirs");
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    drop(file);
    assert_eq!(scene.bucket.get("new").unwrap(), "theirs");
    assert_eq!(
        scene.bucket.get(&beside(&scene, "new", "new")).unwrap(),
        "mine"
    );
    let status = mount.status(&scene);
    let conflicts = status["conflicts"].as_array().unwrap();
    assert_eq!(conflicts.len(), 3);
    assert_eq!(conflicts[0]["key"], "small.txt");
    assert_eq!(conflicts[0]["kind"], "conflict");
    let text = scene
        .control(&["status", mount.path().to_str().unwrap()])
        .out;
    assert!(text.contains("small (conflict "), "{text}");
    assert_eq!(fs::read_to_string(mount.file("new")).unwrap(), "theirs");
    assert!(scene.bucket.uploads().is_empty());
}

#[test]
fn what_is_written_after_a_conflict_is_kept_beside_as_well() {
    let scene = Scene::new();
    scene.bucket.put("f.txt", "one");
    let mount = scene.mount(&["--prompt-timeout", "1"]);
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.file("f.txt"));
    let file = open.unwrap();
    file.write_all_at(b"mine", 0).unwrap();
    scene.bucket.put("f.txt", "theirs");
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    let other = beside(&scene, "f", "f.txt");
    // Who has it open goes on with that, and everybody else sees what is there now.
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"mine");
    assert_eq!(fs::read(mount.file("f.txt")).unwrap(), b"theirs");
    file.write_all_at(b" and more", 4).unwrap();
    scene.sandbox.sessions().expire_all();
    assert_eq!(errno(file.sync_all()), libc::EKEYEXPIRED);
    drop(file);
    let status = mount.status(&scene);
    assert_eq!(status["pending_uploads"][0]["key"], other.as_str());
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    wait_until("nothing pending", || pending(&mount, &scene) == 0);
    assert_eq!(scene.bucket.get(&other).unwrap(), "mine and more");
    assert_eq!(scene.bucket.get("f.txt").unwrap(), "theirs");
    assert_eq!(scene.bucket.keys().len(), 2);
}

#[test]
fn a_part_of_a_large_file_is_made_whole_again_from_the_replaced_version() {
    let mut expected = noise(51, 24 << 20);
    expected[PLACE..PLACE + 4].copy_from_slice(b"mine");
    for is_own in [false, true] {
        let scene = Scene::new();
        scene.bucket.keep_versions();
        scene.bucket.put("large.bin", noise(51, 24 << 20));
        let mount = scene.mount(&[]);
        if is_own {
            // Of what this mount has stored, it knows no version.
            fs::write(mount.file("large.bin"), noise(51, 24 << 20)).unwrap();
        }
        let file = open(&mount, "large.bin");
        file.write_all_at(b"mine", PLACE as u64).unwrap();
        scene.bucket.put("large.bin", "theirs");
        let before = scene.sandbox.counts().bytes_received();
        assert_eq!(errno(file.sync_all()), libc::ESTALE);
        let sent = scene.sandbox.counts().bytes_received() - before;
        assert!(
            sent < 16 << 20,
            "the server copies what was not changed: {sent}"
        );
        let other = beside(&scene, "large", "large.bin");
        assert!(other.starts_with("large (conflict 2"), "{other}");
        assert!(scene.bucket.get(&other).unwrap() == expected);
        // Who has it open goes on with that.
        let mut bytes = vec![0; 1 << 20];
        file.read_exact_at(&mut bytes, 19 << 20).unwrap();
        assert!(bytes == expected[19 << 20..PLACE]);
        file.write_all_at(b"more", 3).unwrap();
        drop(file);
        let mut expected = expected.clone();
        expected[3..7].copy_from_slice(b"more");
        assert!(scene.bucket.get(&other).unwrap() == expected);
        let status = mount.status(&scene);
        assert_eq!(status["conflicts"][0]["stored_as"], other.as_str());
        assert_eq!(status["conflicts"][0]["incomplete"], false);
        fs::remove_file(mount.file(&other)).unwrap();
        assert!(scene.bucket.get(&other).is_none());
        is_usable(&scene, mount, "large.bin", "theirs");
    }
}

#[test]
fn without_versions_what_there_is_of_a_part_of_a_large_file_is_stored_and_marked() {
    let scene = Scene::new();
    let bytes = noise(52, 40 << 20);
    scene.bucket.put("large.bin", bytes.clone());
    let mount = scene.mount(&[]);
    let file = open(&mount, "large.bin");
    // This page is in the cache, and is found there.
    let mut read = vec![0; 64 << 10];
    file.read_exact_at(&mut read, 0).unwrap();
    file.write_all_at(b"mine", PLACE as u64).unwrap();
    scene.bucket.put("large.bin", "theirs");
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    let other = beside(&scene, "large", "large.bin");
    assert!(
        other.starts_with("large (conflict incomplete 2") && other.ends_with(".bin"),
        "{other}"
    );
    let kept = scene.bucket.get(&other).unwrap();
    assert_eq!(kept.len(), PLACE + 4);
    assert!(kept[..64 << 10] == bytes[..64 << 10] && kept[PLACE..] == *b"mine");
    assert!(kept[18 << 20..PLACE].iter().all(|byte| *byte == 0));
    // No zeros for whoever has it open: those bytes are not there.
    assert_eq!(errno(file.read_exact_at(&mut read, 18 << 20)), libc::ESTALE);
    file.read_exact_at(&mut read[..4], PLACE as u64).unwrap();
    assert_eq!(&read[..4], b"mine");
    drop(file);
    let status = mount.status(&scene);
    let conflict = &status["conflicts"][0];
    assert_eq!(conflict["key"], "large.bin");
    assert_eq!(conflict["stored_as"], other.as_str());
    assert_eq!(conflict["incomplete"], true);
    let text = scene
        .control(&["status", mount.path().to_str().unwrap()])
        .out;
    assert!(
        text.contains("with zeros for what was not changed here"),
        "{text}"
    );
    is_usable(&scene, mount, "large.bin", "theirs");
    assert_eq!(scene.bucket.keys(), [other]);
}

#[test]
fn a_conflict_that_is_found_by_the_next_mount_leaves_the_name_usable_too() {
    for (keeps_versions, is_removed) in [(false, false), (true, false), (false, true)] {
        let scene = Scene::new();
        if keeps_versions {
            scene.bucket.keep_versions();
        }
        scene.bucket.put("large", noise(53, 24 << 20));
        let mount = scene.mount(&["--prompt-timeout", "1"]);
        let file = open(&mount, "large");
        file.write_all_at(b"mine", PLACE as u64).unwrap();
        scene.sandbox.sessions().expire_all();
        assert_eq!(errno(file.sync_all()), libc::EKEYEXPIRED);
        mount.kill();
        drop((file, mount));
        match is_removed {
            true => assert!(scene.bucket.remove("large")),
            false => scene.bucket.put("large", "theirs"),
        }
        let mount = scene.mount(&[]);
        wait_until("the journal", || pending(&mount, &scene) == 0);
        let other = beside(&scene, "large ", "");
        let kept = scene.bucket.get(&other).unwrap();
        assert!(kept[PLACE..PLACE + 4] == *b"mine");
        assert_eq!(kept.len() == 24 << 20, keeps_versions, "{other}");
        assert_eq!(other.contains("incomplete"), !keeps_versions, "{other}");
        if is_removed {
            scene.bucket.put("large", "theirs");
        }
        let mut mount = mount;
        mount.signal(libc::SIGTERM);
        assert!(mount.wait().success(), "{}", mount.log());
        drop(mount);
        let mount = scene.mount(&[]);
        assert!(
            mount.status(&scene)["conflicts"]
                .as_array()
                .unwrap()
                .is_empty()
        );
        is_usable(&scene, mount, "large", "theirs");
    }
}

#[test]
fn what_cannot_be_stored_beside_its_name_waits_and_leaves_the_name_usable() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    let mine = noise(54, 20 << 20);
    scene.bucket.put("large", "one");
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(mount.file("large"))
        .unwrap();
    file.write_all(&mine).unwrap();
    scene.bucket.put("large", "theirs");
    let faults = scene.sandbox.faults();
    let beside_it = Matcher::kind(Kind::CreateMultipartUpload).prefix("large (");
    faults.status(beside_it, 403, "AccessDenied", 100);
    assert_eq!(errno(file.sync_all()), libc::EACCES);
    drop(file);
    assert_eq!(fs::read_to_string(mount.file("large")).unwrap(), "theirs");
    let status = mount.status(&scene);
    let waiting = status["pending_uploads"][0]["key"].as_str().unwrap();
    assert!(waiting.starts_with("large (conflict "), "{status}");
    fs::remove_file(mount.file("large")).unwrap();
    faults.clear();
    // With another session, it is tried again.
    scene.sandbox.sessions().expire_all();
    let device = scene.device.clone();
    let answering = scene
        .pinentry
        .answer_after(std::time::Duration::ZERO, move || device.unspent_code());
    fs::read_dir(mount.path()).unwrap().count();
    answering.join().unwrap();
    wait_until("the other name", || scene.bucket.keys() == [waiting]);
    assert!(scene.bucket.get(waiting).unwrap() == mine);
    wait_until("the journal", || pending(&mount, &scene) == 0);
}
