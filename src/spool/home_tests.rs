#![allow(clippy::unwrap_used)]
use std::os::unix::fs::{PermissionsExt, chown};

use super::*;
use crate::spool::testing::{homes, names, owner, skipped};
use crate::spool::{Opened, Spool};

fn open(root: &Path, principal: &str) -> Result<Opened, SpoolError> {
    Spool::open(root, &owner(principal), None)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn everything_is_for_this_user_alone() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("made/as/needed");
    let spool = open(&root, "me").unwrap().spool;
    let (_, file) = spool.create("x").unwrap();
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(spool.directory()), 0o700);
    assert_eq!(mode(file.path()), 0o600);
    for name in names(spool.directory()) {
        assert_eq!(mode(&spool.directory().join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_root_that_others_can_change_is_refused() {
    let root = tempfile::tempdir().unwrap();
    for bits in [0o770, 0o702] {
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(bits)).unwrap();
        let error = open(root.path(), "me").unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    open(root.path(), "me").unwrap();
    if chown(root.path(), Some(12345), None).is_err() {
        skipped("this user cannot give directories away");
        return;
    }
    let error = open(root.path(), "me").unwrap_err();
    assert!(error.to_string().contains("id 12345"), "{error}");
}

#[test]
fn a_home_has_one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let one = open(root.path(), "me").unwrap().spool;
    one.create("one").unwrap();
    let two = open(root.path(), "me").unwrap();
    assert!(two.entries.is_empty());
    assert_ne!(one.directory(), two.spool.directory());
    drop(one);
    let three = open(root.path(), "me").unwrap();
    assert_eq!(three.entries.len(), 1);
}

#[test]
fn opening_waits_for_its_turn() {
    let root = tempfile::tempdir().unwrap();
    let lock = lock_root(root.path()).unwrap();
    let path = root.path().to_path_buf();
    let other = std::thread::spawn(move || open(&path, "me").map(drop));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!other.is_finished());
    assert!(homes(root.path()).is_empty());
    drop(lock);
    other.join().unwrap().unwrap();
}

#[test]
fn homes_of_others_are_not_touched_and_told_of() {
    let root = tempfile::tempdir().unwrap();
    let theirs = open(root.path(), "them").unwrap().spool;
    let (_, file) = theirs.create("theirs").unwrap();
    file.write_at(0, b"theirs").unwrap();
    theirs.put(theirs.new_id(), "more").unwrap();
    let directory = theirs.directory().to_path_buf();
    let nothing = Vec::<Elsewhere>::new();
    let look = || pending_elsewhere(root.path(), &owner("me")).unwrap();
    assert_eq!(look(), nothing, "they are at it");
    drop((theirs, file));
    let read = || -> Vec<_> {
        let names = names(&directory).into_iter();
        names
            .map(|n| std::fs::read(directory.join(n)).unwrap())
            .collect()
    };
    let before = read();
    let mine = open(root.path(), "me").unwrap();
    assert!(mine.entries.is_empty());
    mine.spool.create("mine").unwrap();
    let expected = Elsewhere {
        directory: directory.clone(),
        principal: "them".to_owned(),
        entries: 2,
    };
    assert_eq!(look(), [expected]);
    assert_eq!(read(), before);
    let elsewhere = Owner {
        bucket: "another".to_owned(),
        ..owner("me")
    };
    assert_eq!(pending_elsewhere(root.path(), &elsewhere).unwrap(), nothing);
    assert_eq!(
        pending_elsewhere(&root.path().join("none"), &elsewhere).unwrap(),
        nothing
    );
    assert_eq!(open(root.path(), "them").unwrap().entries.len(), 2);
}

#[test]
fn another_version_is_refused_and_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let directory = open(root.path(), "me")
        .unwrap()
        .spool
        .directory()
        .to_path_buf();
    let sign = directory.join("owner.json");
    let old = std::fs::read_to_string(&sign).unwrap();
    let new = old.replace("\"version\":1", "\"version\":2,\"more\":[]");
    std::fs::write(&sign, &new).unwrap();
    let error = open(root.path(), "me").unwrap_err();
    assert!(matches!(error, SpoolError::Version { .. }), "{error:?}");
    assert!(error.to_string().contains("another version"), "{error}");
    assert_eq!(std::fs::read_to_string(&sign).unwrap(), new);
    open(root.path(), "you").unwrap();
    std::fs::write(&sign, &old).unwrap();
    let journal = directory.join("journal");
    std::fs::write(&journal, "s3mfa-mount journal 12\n").unwrap();
    let error = open(root.path(), "me").unwrap_err();
    assert!(matches!(error, SpoolError::Version { .. }), "{error:?}");
    assert_eq!(
        std::fs::read(&journal).unwrap(),
        b"s3mfa-mount journal 12\n"
    );
}

#[test]
fn a_data_file_without_an_entry_is_deleted() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path(), "me").unwrap().spool;
    let directory = spool.directory().to_path_buf();
    drop(spool);
    std::fs::write(directory.join("17.data"), b"rest of a discarded entry").unwrap();
    std::fs::write(directory.join("018.data"), b"not ours").unwrap();
    let spool = open(root.path(), "me").unwrap().spool;
    let left = names(&directory);
    assert_eq!(left, ["018.data", "journal", "lock", "owner.json"]);
    assert!(spool.new_id() > 17);
}

#[test]
fn with_a_damaged_journal_no_bytes_are_deleted() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path(), "me").unwrap().spool;
    let directory = spool.directory().to_path_buf();
    let names_of_entries = ["good", "spoilt", "headless", "empty-spoilt", "also good"];
    for name in names_of_entries {
        let (id, file) = spool.create(name).unwrap();
        if name != "empty-spoilt" {
            file.write_at(0, name.as_bytes()).unwrap();
        }
        if name == "headless" {
            spool.put_part(id, 1, "a part").unwrap();
        }
    }
    drop(spool);
    let journal = directory.join("journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    let text = text
        .replace("spoilt", "SPOILT")
        .replace("headless", "HEADLESS");
    std::fs::write(&journal, text).unwrap();
    // Somebody who makes it sound dies before it is known whose bytes are lost.
    drop(crate::spool::journal::Journal::open(&journal).unwrap());
    let opened = open(root.path(), "me").unwrap();
    let found: Vec<_> = opened.entries.iter().map(|f| f.record.as_str()).collect();
    assert_eq!(found, ["\"good\"", "\"also good\""]);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    assert_eq!(read("2.lost"), "spoilt");
    assert_eq!(read("3.lost"), "headless");
    let left = names(&directory);
    let left: Vec<_> = left
        .iter()
        .filter(|n| !n.starts_with("journal.damaged-"))
        .collect();
    let expected = [
        "1.data",
        "2.lost",
        "3.lost",
        "5.data",
        "journal",
        "lock",
        "owner.json",
    ];
    assert_eq!(left, expected);
    drop(opened);
    assert_eq!(open(root.path(), "me").unwrap().entries.len(), 2);
    assert_eq!(read("2.lost"), "spoilt");
    std::fs::remove_file(&journal).unwrap();
    assert!(open(root.path(), "me").unwrap().entries.is_empty());
    assert_eq!(read("1.lost"), "good");
}

#[test]
fn rubbish_in_the_root_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let make = |name: &str, files: &[&str]| {
        let directory = root.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        for file in files {
            std::fs::write(directory.join(file), "{").unwrap();
        }
    };
    make("0000000000000001", &[]);
    make("0000000000000002", &["lock", "owner.json.new"]);
    make("0000000000000003", &["lock", "journal"]);
    make("0000000000000004", &["owner.json", "1.data"]);
    make("0000000000000005", &["1.data"]);
    make("other", &["owner.json"]);
    std::fs::write(root.path().join("0000000000000006"), "a file").unwrap();
    std::os::unix::fs::symlink("other", root.path().join("0000000000000007")).unwrap();
    let spool = open(root.path(), "me").unwrap().spool;
    let mine = spool.directory().file_name().unwrap().to_str().unwrap();
    let left: Vec<_> = names(root.path())
        .into_iter()
        .filter(|n| n != mine)
        .collect();
    let expected = ["3", "4", "5", "6", "7"].map(|n| format!("000000000000000{n}"));
    assert_eq!(left[..5], expected);
    assert_eq!(left[5..], ["lock", "other"]);
}

#[test]
fn whoever_dies_while_making_a_home_leaves_nothing_for_long() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path(), "me").unwrap().spool;
    let directory = spool.directory().to_path_buf();
    drop(spool);
    // In the order in which it is made.
    for made in [0, 1, 2] {
        let files = [("lock", ""), ("owner.json.new", "{\"versi")];
        std::fs::remove_dir_all(&directory).unwrap();
        std::fs::create_dir(&directory).unwrap();
        for (name, text) in &files[..made] {
            std::fs::write(directory.join(name), text).unwrap();
        }
        let spool = open(root.path(), "me").unwrap().spool;
        assert_eq!(homes(root.path()), [spool.directory()]);
        std::fs::rename(spool.directory(), &directory).unwrap();
    }
    for name in ["journal", "lock"] {
        std::fs::remove_file(directory.join(name)).unwrap();
        std::fs::write(directory.join("journal.new"), "s3mfa").unwrap();
        let opened = open(root.path(), "me").unwrap();
        assert_eq!(opened.spool.directory(), directory);
        assert!(opened.entries.is_empty());
    }
}
