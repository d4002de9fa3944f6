#![allow(clippy::unwrap_used)]
use std::io::{BufRead, BufReader};
use std::time::Duration;

use super::*;
use crate::spool::home::{left_behind, lock_root};
use crate::spool::testing::{SmallDisk, copy, homes, names, owner, run, victims_directory};
use crate::spool::{Opened, Spool};

fn open(root: &Path) -> Opened {
    Spool::open(root, &owner("me"), None).unwrap()
}

fn content(name: &str) -> Vec<u8> {
    name.repeat(100).into_bytes()
}

/// As if `count` mounts had died, each with `entries` unsaved files, and one entry without a
/// file. Returns what they are called.
fn dead_mounts(root: &Path, count: usize, entries: usize) -> Vec<String> {
    let mut all = Vec::new();
    // All at once, or one would take over what the other left.
    let spools: Vec<Spool> = (0..count).map(|_| open(root).spool).collect();
    for (index, spool) in spools.iter().enumerate() {
        let bare = format!("bare-{index}");
        spool.put(spool.new_id(), &bare).unwrap();
        all.push(bare);
        for entry in 0..entries {
            let name = format!("mount-{index}-entry-{entry}");
            let (id, file) = spool.create(&name).unwrap();
            file.write_at(0, &content(&name)).unwrap();
            spool.put_part(id, 1, &name).unwrap();
            spool.put_part(id, 2, "part").unwrap();
            all.push(name);
        }
    }
    all.sort();
    all
}

/// Opens, and makes sure that everything is there once.
fn check(root: &Path, expected: &[String]) {
    for _ in 0..2 {
        let Opened { spool, entries } = open(root);
        let mut found = Vec::new();
        for entry in entries {
            let name: String = serde_json::from_str(&entry.record).unwrap();
            if name.starts_with("bare") {
                assert!(entry.file.is_none() && entry.parts.is_empty());
            } else {
                let file = entry.file.unwrap();
                assert_eq!(std::fs::read(file.path()).unwrap(), content(&name));
                let parts = [(1, format!("\"{name}\"")), (2, "\"part\"".to_owned())];
                assert_eq!(entry.parts, parts.into());
            }
            found.push(name);
        }
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(homes(root), [spool.directory()]);
        let files = expected.iter().filter(|n| !n.starts_with("bare")).count();
        assert_eq!(names(spool.directory()).len(), files + 3);
    }
}

#[test]
fn what_several_mounts_left_comes_together() {
    let root = tempfile::tempdir().unwrap();
    let all = dead_mounts(root.path(), 4, 5);
    assert_eq!(homes(root.path()).len(), 4);
    check(root.path(), &all);
}

#[test]
fn homes_in_use_and_of_others_stay() {
    let root = tempfile::tempdir().unwrap();
    let live = open(root.path()).spool;
    live.create("live").unwrap();
    let theirs = Spool::open(root.path(), &owner("them"), None)
        .unwrap()
        .spool;
    theirs.create("theirs").unwrap();
    drop(theirs);
    dead_mounts(root.path(), 2, 1);
    let opened = open(root.path());
    assert_eq!(opened.entries.len(), 4);
    assert_eq!(homes(root.path()).len(), 3);
}

#[test]
fn a_home_with_something_to_look_into_is_emptied_and_stays() {
    let root = tempfile::tempdir().unwrap();
    let all = dead_mounts(root.path(), 2, 1);
    let second = homes(root.path()).remove(1);
    std::fs::write(second.join("9.lost"), "look at me").unwrap();
    let opened = open(root.path());
    assert_eq!(opened.entries.len(), all.len());
    assert_eq!(names(&second), ["9.lost", "journal", "lock", "owner.json"]);
    drop(opened);
    assert_eq!(open(root.path()).entries.len(), all.len());
}

/// Does what is asked for with the two homes of dead mounts, dies, and sees what the next
/// mount finds.
fn die_after(what: impl Fn(&Home, &Home, &Moves)) {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    let all = dead_mounts(&root, 2, 3);
    {
        let _lock = lock_root(&root).unwrap();
        let homes = left_behind(&root, &owner("me")).unwrap();
        let moves = homes[1].entries.keys().zip(100..);
        let moves = moves.map(|(old, new)| (*old, new)).collect();
        what(&homes[1], &homes[0], &moves);
    }
    // The other way round too: the home that is first then is the one that is left.
    let turned = place.path().join("turned");
    copy(&root, &turned);
    let last = turned.join("ffffffffffffffff");
    std::fs::rename(&homes(&turned)[0], last).unwrap();
    check(&turned, &all);
    check(&root, &all);
}

fn put(to: &Home, new: u64, part: u32, value: &impl Serialize) {
    to.journal
        .put(RecordId { entry: new, part }, value)
        .unwrap();
}

#[test]
fn a_move_that_is_interrupted_anywhere_is_finished() {
    let origin = |from: &Home, old: u64| Origin {
        home: from.name(),
        entry: old,
    };
    die_after(|_, _, _| {});
    die_after(|from, to, moves| {
        for (old, new) in moves.iter().take(2) {
            put(to, *new, ORIGIN, &origin(from, *old));
        }
    });
    die_after(|from, to, moves| {
        for (old, new) in moves {
            put(to, *new, ORIGIN, &origin(from, *old));
            put(to, *new, 0, &"as it was");
        }
    });
    die_after(|from, to, moves| announce(from, to, moves).unwrap());
    let rename = |from: &Home, to: &Home, (old, new): (&u64, &u64)| {
        let path = data_path(&from.directory, *old);
        if path.exists() {
            std::fs::rename(path, data_path(&to.directory, *new)).unwrap();
        }
    };
    for count in 1..=4 {
        die_after(|from, to, moves| {
            announce(from, to, moves).unwrap();
            for step in moves.iter().take(count) {
                rename(from, to, step);
            }
        });
        die_after(|from, to, moves| {
            announce(from, to, moves).unwrap();
            for step in moves {
                rename(from, to, step);
            }
            for old in moves.keys().take(count) {
                from.journal.remove_entry(*old).unwrap();
            }
        });
    }
    die_after(|from, to, moves| {
        announce(from, to, moves).unwrap();
        settle(from, to, moves).unwrap();
    });
}

#[test]
fn without_room_entries_stay_where_they_are() {
    let Some(disk) = SmallDisk::new(8 << 20) else {
        return;
    };
    let root = disk.path();
    let all = dead_mounts(root, 2, 500);
    let filler = disk.fill_up_to(0);
    let first = {
        let opened = open(root);
        assert_eq!(opened.entries.len(), 501);
        assert_eq!(homes(root).len(), 2);
        // Nobody else gets the rest meanwhile.
        std::fs::remove_file(filler).unwrap();
        assert!(open(root).entries.is_empty());
        opened.spool.directory().to_path_buf()
    };
    assert_eq!(homes(root).len(), 3);
    assert!(homes(root).contains(&first));
    check(root, &all);
}

/// Takes over, and is killed while doing so.
#[test]
fn victim() {
    use std::io::Write;
    if let Some(root) = victims_directory() {
        writeln!(std::io::stdout(), "starts").unwrap();
        open(&root);
    }
}

#[test]
fn a_process_that_is_killed_while_it_takes_over_loses_nothing() {
    for round in 0..12_u64 {
        let root = tempfile::tempdir().unwrap();
        let all = dead_mounts(root.path(), 3, 8);
        for attempt in 0..3 {
            let mut child = run(module_path!(), root.path());
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut lines = lines.map(Result::unwrap);
            assert!(lines.any(|line| line.ends_with("starts")));
            std::thread::sleep(Duration::from_micros(round * 900 + attempt * 500));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        check(root.path(), &all);
    }
}
