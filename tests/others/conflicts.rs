//! Somebody else changes a file while it is being changed here: nothing is lost.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use crate::place::{Place, close};
use crate::scene::{errno, noise};

on_each_server! {
    both_versions_of_a_small_file_are_kept,
    both_versions_of_a_large_file_are_kept,
    a_name_that_somebody_took_meanwhile_is_theirs,
    a_file_that_somebody_removed_meanwhile_is_not_lost,
    a_large_file_that_was_changed_in_part_does_not_block_its_name,
}

/// The one key that holds this side's version.
fn aside(place: &Place, stem: &str) -> String {
    let start = format!("{stem} (conflict ");
    let mut keys = place.keys();
    keys.retain(|key| key.starts_with(&start));
    assert_eq!(keys.len(), 1, "{:?}", place.keys());
    keys.remove(0)
}

fn both_versions_of_a_small_file_are_kept(place: &Place) {
    place.put("letter.txt", b"first version");
    let mount = place.mount();
    let file = OpenOptions::new()
        .write(true)
        .open(mount.file("letter.txt"))
        .unwrap();
    file.write_all_at(b"FIRST", 0).unwrap();
    place.put("letter.txt", b"theirs");
    assert_eq!(close(file), libc::ESTALE, "{}", mount.log());
    assert_eq!(place.get("letter.txt"), b"theirs");
    let aside = aside(place, "letter");
    assert!(aside.ends_with(").txt"), "{aside}");
    assert_eq!(place.get(&aside), b"FIRST version");
    assert_eq!(fs::read(mount.file("letter.txt")).unwrap(), b"theirs");
    assert_eq!(fs::read(mount.file(&aside)).unwrap(), b"FIRST version");
    // From here on nothing is in the way.
    fs::write(mount.file("letter.txt"), "merged").unwrap();
    assert_eq!(place.get("letter.txt"), b"merged");
    assert_eq!(place.keys().len(), 2);
}

fn both_versions_of_a_large_file_are_kept(place: &Place) {
    place.put("large.bin", b"small still");
    let mount = place.mount();
    let mine = noise(5, 20 << 20);
    let file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(mount.file("large.bin"))
        .unwrap();
    file.write_all_at(&mine, 0).unwrap();
    let theirs = noise(6, 20 << 20);
    place.put("large.bin", &theirs);
    assert_eq!(errno(file.sync_all()), libc::ESTALE, "{}", mount.log());
    drop(file);
    assert!(place.get("large.bin") == theirs);
    assert!(place.get(&aside(place, "large")) == mine);
    assert_eq!(place.keys().len(), 2, "{:?}", place.keys());
}

fn a_name_that_somebody_took_meanwhile_is_theirs(place: &Place) {
    let mount = place.mount();
    let file = fs::File::create_new(mount.file("new.txt")).unwrap();
    file.write_all_at(b"mine", 0).unwrap();
    place.put("new.txt", b"theirs");
    assert_eq!(close(file), libc::ESTALE, "{}", mount.log());
    assert_eq!(place.get("new.txt"), b"theirs");
    assert_eq!(place.get(&aside(place, "new")), b"mine");
}

fn a_file_that_somebody_removed_meanwhile_is_not_lost(place: &Place) {
    place.put("letter.txt", b"first version");
    let mount = place.mount();
    let file = OpenOptions::new()
        .write(true)
        .open(mount.file("letter.txt"))
        .unwrap();
    file.write_all_at(b"FIRST", 0).unwrap();
    place.remove("letter.txt");
    // Nothing of theirs can be lost, so either is right: under its name, or beside it.
    let key = match close(file) {
        0 => "letter.txt".to_owned(),
        libc::ESTALE => aside(place, "letter"),
        other => panic!("{other}: {}", mount.log()),
    };
    assert_eq!(place.keys(), [&*key]);
    assert_eq!(place.get(&key), b"FIRST version");
    assert_eq!(fs::read(mount.file(&key)).unwrap(), b"FIRST version");
    fs::write(mount.file("letter.txt"), "second version").unwrap();
    assert_eq!(place.get("letter.txt"), b"second version");
}

fn a_large_file_that_was_changed_in_part_does_not_block_its_name(place: &Place) {
    place.put("large.bin", &noise(9, 40 << 20));
    let mount = place.mount();
    let file = OpenOptions::new()
        .write(true)
        .open(mount.file("large.bin"))
        .unwrap();
    file.write_all_at(b"mine", 20 << 20).unwrap();
    place.put("large.bin", b"theirs");
    assert_eq!(close(file), libc::ESTALE, "{}", mount.log());
    assert_eq!(place.get("large.bin"), b"theirs");
    let read = fs::read(mount.file("large.bin"));
    assert_eq!(
        read.unwrap(),
        b"theirs",
        "theirs is under the name: {}",
        mount.log()
    );
    fs::rename(mount.file("large.bin"), mount.file("moved.bin")).unwrap();
    assert_eq!(place.get("moved.bin"), b"theirs");
    fs::write(mount.file("large.bin"), "merged").unwrap();
    assert_eq!(place.get("large.bin"), b"merged");
    assert!(place.uploads().is_empty(), "{:?}", place.uploads());
}
