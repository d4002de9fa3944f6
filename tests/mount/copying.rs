//! Stores that do not copy, or not under conditions: what is renamed, changed and given other
//! attributes goes through this machine then, whole or in parts, and nothing is lost.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use s3mfa_sandbox::{ConditionalWrites, FOREVER, Habit, Kind, Matcher, PutOptions};

use crate::scene::{Mount, Scene, errno, noise, wait_until};

/// A file, its mode and its time, as programs leave them.
fn with_attributes(mount: &Mount, name: &str, bytes: &[u8]) {
    let mut file = File::create(mount.file(name)).unwrap();
    file.write_all(bytes).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o640))
        .unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    file.set_modified(time).unwrap();
    file.sync_all().unwrap();
}

fn has_attributes(mount: &Mount, name: &str) {
    let metadata = fs::metadata(mount.file(name)).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o640, "{name}");
    assert_eq!(metadata.mtime(), 1_600_000_000, "{name}");
}

/// What mv, rsync, sed -i, chmod and editors do, small and large.
fn works(scene: &Scene) {
    let large = noise(2, 20 << 20);
    scene.bucket.put("poke", large.clone());
    let typed = PutOptions::new().content_type("text/odd");
    scene.bucket.put_with("typed", "typed", typed);
    for n in 0..5 {
        scene.bucket.put(&format!("d/{n}"), n.to_string());
    }
    let mount = scene.mount(&[]);
    with_attributes(&mount, "small", b"small");
    with_attributes(&mount, "large", &large);
    fs::rename(mount.file("small"), mount.file("small2")).unwrap();
    fs::rename(mount.file("large"), mount.file("large2")).unwrap();
    fs::rename(mount.file("typed"), mount.file("typed2")).unwrap();
    fs::rename(mount.file("d"), mount.file("e")).unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(mount.file("e/1"), mode.clone()).unwrap();
    fs::set_permissions(mount.file("poke"), mode).unwrap();
    // sed -i, rsync.
    fs::write(mount.file(".tmp"), "edited").unwrap();
    fs::rename(mount.file(".tmp"), mount.file("e/2")).unwrap();
    let poke = OpenOptions::new().write(true).open(mount.file("poke"));
    let poke = poke.unwrap();
    poke.write_all_at(b"Z", 10 << 20).unwrap();
    poke.sync_all().unwrap();
    drop(poke);
    let append = OpenOptions::new().append(true).open(mount.file("poke"));
    let mut append = append.unwrap();
    append.write_all(b"line\n").unwrap();
    append.sync_all().unwrap();
    drop(append);
    // copy_file_range(2).
    fs::copy(mount.file("large2"), mount.file("copy")).unwrap();

    let mut poked = large.clone();
    poked[10 << 20] = b'Z';
    poked.extend_from_slice(b"line\n");
    let mut expected: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    expected.insert("small2", b"small".to_vec());
    expected.insert("typed2", b"typed".to_vec());
    expected.insert("large2", large.clone());
    expected.insert("copy", large);
    expected.insert("poke", poked);
    for (key, bytes) in [
        ("e/0", "0"),
        ("e/1", "1"),
        ("e/2", "edited"),
        ("e/3", "3"),
        ("e/4", "4"),
    ] {
        expected.insert(key, bytes.as_bytes().to_vec());
    }
    for (key, bytes) in &expected {
        let stored = scene.bucket.get(key);
        assert!(stored.is_some_and(|stored| stored == *bytes), "{key}");
    }
    let there = scene.bucket.keys();
    let there: Vec<&String> = there.iter().filter(|key| !key.ends_with('/')).collect();
    assert_eq!(there.len(), expected.len(), "{there:?}");
    has_attributes(&mount, "small2");
    has_attributes(&mount, "large2");
    for name in ["e/1", "poke"] {
        let mode = fs::metadata(mount.file(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let typed = scene.bucket.object("typed2").unwrap();
    assert_eq!(typed.content_type, "text/odd");
    wait_until("no open uploads", || scene.bucket.uploads().is_empty());
    let status = mount.status(scene);
    assert_eq!(status["conflicts"], serde_json::json!([]));
    assert_eq!(status["pending_uploads"], serde_json::json!([]));
}

#[test]
fn a_store_that_knows_no_copies_is_written_through_the_spool_and_asked_once() {
    let scene = Scene::new();
    scene.sandbox.habits().adopt(Habit::NoCopies);
    scene.sandbox.habits().adopt(Habit::NoPartCopies);
    works(&scene);
    let counts = scene.sandbox.counts();
    assert_eq!(counts.of(Kind::Copy), 1);
    assert_eq!(counts.of(Kind::UploadPartCopy), 1);
    // The next mount knows.
    let mount = scene.mount(&[]);
    fs::rename(mount.file("large2"), mount.file("large3")).unwrap();
    let counts = scene.sandbox.counts();
    assert_eq!(counts.of(Kind::Copy), 1);
    assert_eq!(counts.of(Kind::UploadPartCopy), 1);
}

/// Copies would be objects without bytes.
#[test]
fn a_store_that_overlooks_what_is_to_be_copied_is_written_through_the_spool() {
    let scene = Scene::new();
    scene.sandbox.habits().adopt(Habit::CopiesArePuts);
    works(&scene);
    let counts = scene.sandbox.counts();
    let asked = (counts.of(Kind::Copy), counts.of(Kind::UploadPartCopy));
    assert_eq!(asked, (1, 0), "only the trial");
}

/// The store's habit comes up when it was tried already, as behind a proxy.
#[test]
fn a_copy_without_its_bytes_is_none_and_what_was_to_be_copied_stays() {
    let scene = Scene::new();
    let large = noise(3, 20 << 20);
    scene.bucket.put("small", "small");
    scene.bucket.put("large", large.clone());
    let mount = scene.mount(&[]);
    fs::write(mount.file("first"), "first").unwrap();
    scene.sandbox.habits().adopt(Habit::CopiesArePuts);
    for name in ["small", "first"] {
        let moved = fs::rename(mount.file(name), mount.file("moved"));
        assert_eq!(errno(moved), libc::EIO, "{}", mount.log());
        assert_eq!(scene.bucket.get(name).unwrap(), name);
    }
    let file = OpenOptions::new().write(true).open(mount.file("large"));
    let file = file.unwrap();
    file.write_all_at(b"Z", 10 << 20).unwrap();
    file.sync_all().unwrap();
    let mut poked = large;
    poked[10 << 20] = b'Z';
    assert!(scene.bucket.get("large").unwrap() == poked);
}

#[test]
fn a_store_whose_conditions_find_no_objects_in_parts_is_checked_before() {
    let scene = Scene::new();
    scene.sandbox.habits().adopt(Habit::MatchMissesParts);
    works(&scene);
    // Somebody else's change is seen all the same.
    let mount = scene.mount(&[]);
    fs::write(mount.file("f"), noise(5, 20 << 20)).unwrap();
    let file = OpenOptions::new().write(true).open(mount.file("f"));
    let file = file.unwrap();
    file.write_all_at(b"Z", 10 << 20).unwrap();
    scene.bucket.put("f", "theirs");
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    assert_eq!(scene.bucket.get("f").unwrap(), "theirs");
}

#[test]
fn a_directory_is_moved_where_listings_and_headers_tell_different_tags() {
    let scene = Scene::new();
    scene.sandbox.habits().adopt(Habit::ListTagsPartsItsOwn);
    works(&scene);
    let bytes = noise(6, 20 << 20);
    let mut mount = scene.mount(&[]);
    fs::create_dir(mount.file("from")).unwrap();
    fs::write(mount.file("from/large"), &bytes).unwrap();
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
    // One that knows it from a listing alone.
    let mount = scene.mount(&[]);
    assert_eq!(fs::read_dir(mount.file("from")).unwrap().count(), 1);
    fs::rename(mount.file("from"), mount.file("to")).unwrap();
    assert!(scene.bucket.get("to/large").unwrap() == bytes);
    assert!(scene.bucket.get("from/large").is_none());
    assert!(fs::read(mount.file("to/large")).unwrap() == bytes);
}

/// Ceph 16: neither is a condition looked at there, nor is told what was made.
#[test]
fn a_store_that_tells_no_tag_of_what_it_has_put_together_is_not_taken_to_check_conditions() {
    let scene = Scene::new();
    scene.sandbox.habits().adopt(Habit::ResultsCutShort);
    let faults = scene.sandbox.faults();
    faults.conditional_writes(ConditionalWrites::PutOnlyUnquoted);
    scene.bucket.put("large", "small still");
    let mount = scene.mount(&[]);
    let mine = noise(7, 20 << 20);
    let mut options = OpenOptions::new();
    let file = options.write(true).truncate(true).open(mount.file("large"));
    let file = file.unwrap();
    file.write_all_at(&mine, 0).unwrap();
    scene.bucket.put("large", "theirs");
    assert_eq!(errno(file.sync_all()), libc::ESTALE, "{}", mount.log());
    assert_eq!(scene.bucket.get("large").unwrap(), "theirs");
    let keys = scene.bucket.keys();
    let aside = keys.iter().find(|key| key.contains("(conflict ")).unwrap();
    assert!(scene.bucket.get(aside).unwrap() == mine);
}

#[test]
fn a_store_that_copies_parts_alone_copies_large_files_on_the_server() {
    let scene = Scene::new();
    scene.sandbox.habits().adopt(Habit::NoCopies);
    works(&scene);
    let mount = scene.mount(&[]);
    let before = scene.sandbox.counts().bytes_served();
    fs::rename(mount.file("large2"), mount.file("large3")).unwrap();
    let served = scene.sandbox.counts().bytes_served() - before;
    assert!(served < 1 << 20, "{served}");
}

#[test]
fn that_a_store_does_not_copy_is_understood_however_it_says_so() {
    for (status, code) in [
        (405, "MethodNotAllowed"),
        (400, "InvalidRequest"),
        (400, "InvalidArgument"),
        (501, ""),
    ] {
        let scene = Scene::new();
        let faults = scene.sandbox.faults();
        faults.status(Kind::Copy, status, code, FOREVER);
        faults.status(Kind::UploadPartCopy, status, code, FOREVER);
        works(&scene);
        let counts = scene.sandbox.counts();
        let asked = (counts.of(Kind::Copy), counts.of(Kind::UploadPartCopy));
        assert_eq!(asked, (1, 1), "{status} {code}");
    }
}

#[test]
fn one_copy_that_is_refused_is_carried_and_the_next_are_not() {
    let scene = Scene::new();
    for key in ["a", "b", "c"] {
        scene.bucket.put(key, key.to_owned());
    }
    let mount = scene.mount(&[]);
    fs::rename(mount.file("a"), mount.file("a2")).unwrap();
    let faults = scene.sandbox.faults();
    faults.status(
        Matcher::kind(Kind::Copy).key("b2"),
        501,
        "NotImplemented",
        FOREVER,
    );
    let before = scene.sandbox.counts().succeeded(Kind::Copy);
    fs::rename(mount.file("b"), mount.file("b2")).unwrap();
    assert_eq!(scene.sandbox.counts().succeeded(Kind::Copy), before);
    fs::rename(mount.file("c"), mount.file("c2")).unwrap();
    assert_eq!(scene.sandbox.counts().succeeded(Kind::Copy), before + 1);
    for key in ["a", "b", "c"] {
        assert_eq!(scene.bucket.get(&format!("{key}2")).unwrap(), key);
    }
}

#[test]
fn a_file_larger_than_the_spool_goes_through_it_in_pieces() {
    let scene = Scene::new();
    let bytes = noise(3, 120 << 20);
    scene.bucket.put("big", bytes.clone());
    for n in 0..20 {
        scene.bucket.put(&format!("d/{n}"), noise(n, 10 << 20));
    }
    scene.sandbox.habits().adopt(Habit::NoCopies);
    scene.sandbox.habits().adopt(Habit::NoPartCopies);
    let mount = scene.mount(&["--spool-limit", "64MiB"]);
    fs::rename(mount.file("big"), mount.file("moved")).unwrap();
    assert!(scene.bucket.get("moved").unwrap() == bytes);
    assert!(scene.bucket.get("big").is_none());
    fs::rename(mount.file("d"), mount.file("e")).unwrap();
    for n in 0..20 {
        let stored = scene.bucket.get(&format!("e/{n}")).unwrap();
        assert!(stored == noise(n, 10 << 20), "{n}");
    }
    assert_eq!(mount.status(&scene)["spool"]["used"], 0);
}

#[test]
fn what_is_fetched_to_be_sent_is_the_version_that_was_meant() {
    let scene = Scene::new();
    scene.bucket.put("a", "a");
    scene.bucket.put("b", "b");
    scene.sandbox.habits().adopt(Habit::NoCopies);
    let mount = scene.mount(&[]);
    fs::metadata(mount.file("a")).unwrap();
    let faults = scene.sandbox.faults();
    faults.stall(Matcher::kind(Kind::Get).nth(1), 1);
    std::thread::scope(|threads| {
        let renaming = threads.spawn(|| fs::rename(mount.file("a"), mount.file("b")));
        wait_until("the fetching", || faults.stalled() == 1);
        scene.bucket.put("a", "another");
        faults.release();
        // The kernel asks once more after an ESTALE, and then it is the other one that moves.
        renaming.join().unwrap().unwrap();
    });
    assert_eq!(scene.bucket.get("b").unwrap(), "another");
    assert_eq!(scene.bucket.keys(), ["b"]);
}

#[test]
fn a_store_that_never_finds_the_tag_of_a_source_in_parts_copies_all_the_same() {
    for is_known in [true, false] {
        let scene = Scene::new();
        let habits = scene.sandbox.habits();
        if is_known {
            habits.adopt(Habit::SourcesInPartsUnknown);
        }
        let bytes = noise(4, 20 << 20);
        let mount = scene.mount(&[]);
        habits.adopt(Habit::SourcesInPartsUnknown);
        fs::write(mount.file("f"), &bytes).unwrap();
        assert!(scene.bucket.etag("f").unwrap().contains('-'));
        fs::rename(mount.file("f"), mount.file("g")).unwrap();
        fs::write(mount.file("parts"), &bytes).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(mount.file("parts"), mode).unwrap();
        fs::write(mount.file("log"), &bytes).unwrap();
        let append = OpenOptions::new().append(true).open(mount.file("log"));
        append.unwrap().write_all(b"line\n").unwrap();
        let mut longer = bytes.clone();
        longer.extend_from_slice(b"line\n");
        wait_until("the log", || {
            scene.bucket.get("log").is_some_and(|log| log == longer)
        });
        assert!(scene.bucket.get("g").unwrap() == bytes);
        assert!(scene.bucket.get("parts").unwrap() == bytes);
        assert_eq!(scene.bucket.keys(), ["g", "log", "parts"]);
        let status = mount.status(&scene);
        assert_eq!(status["conflicts"], serde_json::json!([]));
        assert_eq!(status["conditional_writes"], "some");
        // It learns once, and still sees what somebody else does.
        let refused = scene.sandbox.counts().with_status(Kind::Copy, 412);
        fs::rename(mount.file("log"), mount.file("log2")).unwrap();
        assert_eq!(scene.sandbox.counts().with_status(Kind::Copy, 412), refused);
    }
}

#[test]
fn an_upload_that_the_store_takes_in_fewer_parts_is_planned_anew() {
    for is_known in [true, false] {
        let scene = Scene::new();
        let habits = scene.sandbox.habits();
        if is_known {
            habits.adopt(Habit::FewParts(8));
        }
        let mount = scene.mount(&["--part-size", "5MiB"]);
        habits.adopt(Habit::FewParts(8));
        let bytes = noise(5, 90 << 20);
        let mut file = File::create(mount.file("f")).unwrap();
        for chunk in bytes.chunks(1 << 20) {
            file.write_all(chunk).unwrap();
        }
        file.sync_all().unwrap();
        drop(file);
        assert!(scene.bucket.get("f").unwrap() == bytes);
        // Changes of what is there, too.
        scene.bucket.put("there", bytes.clone());
        let there = OpenOptions::new().write(true).open(mount.file("there"));
        let there = there.unwrap();
        for at in 0..8 {
            there.write_all_at(b"Z", at * (11 << 20)).unwrap();
        }
        there.sync_all().unwrap();
        let mut poked = bytes.clone();
        for at in 0..8 {
            poked[at * (11 << 20)] = b'Z';
        }
        assert!(scene.bucket.get("there").unwrap() == poked);
        wait_until("no open uploads", || scene.bucket.uploads().is_empty());
        // What was learned once is known.
        let refused = scene.sandbox.counts().refused(Kind::UploadPart);
        fs::write(mount.file("g"), &bytes).unwrap();
        assert!(scene.bucket.get("g").unwrap() == bytes);
        assert_eq!(scene.sandbox.counts().refused(Kind::UploadPart), refused);
    }
}

#[test]
fn with_few_parts_and_a_full_spool_a_stream_loses_nothing() {
    let scene = Scene::new();
    scene.sandbox.habits().adopt(Habit::FewParts(40));
    let mount = scene.mount(&["--part-size", "5MiB", "--spool-limit", "64MiB"]);
    let bytes = noise(6, 150 << 20);
    let mut file = File::create(mount.file("f")).unwrap();
    for chunk in bytes.chunks(1 << 20) {
        // The spool is full for a moment, until parts have left it.
        while let Err(error) = file.write_all(chunk) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    file.sync_all().unwrap();
    assert!(scene.bucket.get("f").unwrap() == bytes);
}

#[test]
fn directories_that_the_store_only_implies_are_renamed_and_changed() {
    let scene = Scene::new();
    scene.sandbox.habits().adopt(Habit::ImpliedMarkers);
    for key in ["d/a", "d/sub/b", "full/f", "mode/f", "gone/f"] {
        scene.bucket.put(key, key.to_owned());
    }
    let mount = scene.mount(&[]);
    fs::rename(mount.file("d"), mount.file("e")).unwrap();
    fs::create_dir(mount.file("made")).unwrap();
    fs::write(mount.file("made/f"), "f").unwrap();
    fs::rename(mount.file("made"), mount.file("made2")).unwrap();
    fs::write(mount.file("full/new"), "new").unwrap();
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(mount.file("mode"), mode).unwrap();
    // A directory stays when the last name in it goes.
    fs::remove_file(mount.file("gone/f")).unwrap();
    assert_eq!(fs::read_dir(mount.file("gone")).unwrap().count(), 0);
    assert_eq!(scene.bucket.get("e/a").unwrap(), "d/a");
    assert_eq!(scene.bucket.get("e/sub/b").unwrap(), "d/sub/b");
    assert_eq!(scene.bucket.get("made2/f").unwrap(), "f");
    let keys = scene.bucket.keys();
    assert!(!keys.iter().any(|key| key.starts_with("d/")), "{keys:?}");
    assert!(!keys.iter().any(|key| key.starts_with("made/")), "{keys:?}");
    assert_eq!(mount.status(&scene)["conditional_writes"], "all");
    assert!(!mount.log().contains("does not know its own tags"));
    assert!(mount.log().contains("times of directories are lost"));
    fs::remove_dir(mount.file("gone")).unwrap();
    assert!(fs::metadata(mount.file("gone")).is_err());
}

#[test]
fn each_condition_counts_for_itself() {
    let scene = Scene::new();
    let faults = scene.sandbox.faults();
    faults.conditional_writes(ConditionalWrites::AbsentOnly);
    let mount = scene.mount(&[]);
    assert_eq!(mount.status(&scene)["conditional_writes"], "some");
    assert!(scene.bucket.keys().is_empty(), "nothing stays behind");
    // What is new is safe without a look.
    let before = scene.sandbox.counts().of(Kind::Head);
    let mut file = File::create(mount.file("new")).unwrap();
    file.write_all(b"mine").unwrap();
    scene.bucket.put("new", "theirs");
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    drop(file);
    assert_eq!(scene.bucket.get("new").unwrap(), "theirs");
    assert!(scene.sandbox.counts().of(Kind::Head) <= before + 6);
    // What is changed is looked at.
    let file = OpenOptions::new().write(true).open(mount.file("new"));
    let file = file.unwrap();
    file.write_all_at(b"M", 0).unwrap();
    scene.bucket.put("new", "theirs again");
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    assert_eq!(scene.bucket.get("new").unwrap(), "theirs again");
}
