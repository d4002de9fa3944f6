//! What happens between a write and its object: sessions that end, answers that are lost, other
//! people's changes, full disks, stores that know no conditions.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use s3mfa_sandbox::{ConditionalWrites, Kind, Matcher, Network};

use crate::scene::{Mount, PATIENCE, Scene, errno, holds_within, noise, wait_until};

pub fn pending(mount: &Mount, scene: &Scene) -> usize {
    let status = mount.status(scene);
    status["pending_uploads"].as_array().unwrap().len()
}

/// The only key that starts like this besides the one given.
pub fn beside(scene: &Scene, start: &str, key: &str) -> String {
    let keys = scene.bucket.keys();
    let mut others = keys.iter().filter(|k| k.starts_with(start) && *k != key);
    let other = others
        .next()
        .unwrap_or_else(|| panic!("nothing beside {key}: {keys:?}"));
    assert!(others.next().is_none(), "{keys:?}");
    other.clone()
}

#[test]
fn a_session_that_ends_at_any_request_of_a_large_write_costs_one_prompt() {
    let bytes = noise(11, 100 << 20);
    let mut request = 1;
    loop {
        let scene = Scene::new();
        let mount = scene.mount(&[]);
        let faults = scene.sandbox.faults();
        let before = scene.sandbox.counts().total();
        faults.expire_before(Matcher::s3().nth(request));
        let device = scene.device.clone();
        let answering = scene
            .pinentry
            .answer_after(Duration::ZERO, move || device.unspent_code());
        fs::write(mount.file("big"), &bytes).unwrap();
        assert!(
            scene.bucket.get("big").unwrap() == bytes,
            "at request {request}"
        );
        assert!(scene.bucket.uploads().is_empty(), "at request {request}");
        let writes = scene.bucket.history_of("big");
        assert_eq!(writes.len(), 1, "at request {request}: {writes:?}");
        if scene.pinentry.asked() == 1 {
            // It was over before that request.
            let sent = scene.sandbox.counts().total() - before;
            assert!(
                request > 14 && sent < request,
                "only {request} requests tried"
            );
            // Which is not to end the next session at its first request.
            faults.clear();
            scene.sandbox.sessions().expire_all();
            // Somebody has to take the answer.
            let _ = fs::read_dir(mount.path()).unwrap();
            answering.join().unwrap();
            return;
        }
        answering.join().unwrap();
        assert_eq!(scene.pinentry.asked(), 2, "at request {request}");
        request += 1;
    }
}

#[test]
fn what_nobody_gives_a_code_for_is_stored_by_the_next_session() {
    let scene = Scene::new();
    let mount = scene.mount(&["--prompt-timeout", "2"]);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(b"unsaved").unwrap();
    scene.sandbox.sessions().expire_all();
    assert_eq!(errno(file.sync_all()), libc::EKEYEXPIRED);
    drop(file);
    assert!(scene.bucket.get("f").is_none());
    let status = mount.status(&scene);
    assert_eq!(status["pending_uploads"][0]["key"], "f");
    // The dialog is open still: a late answer opens the session all the same.
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    wait_until("the upload", || scene.bucket.get("f").is_some());
    assert_eq!(scene.bucket.get("f").unwrap(), "unsaved");
    wait_until("nothing pending", || pending(&mount, &scene) == 0);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "unsaved");
}

#[test]
fn a_signal_without_a_session_asks_nobody_and_the_next_mount_finishes() {
    let scene = Scene::new();
    scene.bucket.put("old", "before");
    let mut mount = scene.mount(&["--prompt-timeout", "2"]);
    let mut new = File::create(mount.file("new")).unwrap();
    let old = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(mount.file("old"));
    let mut old = old.unwrap();
    old.write_all(b"after").unwrap();
    new.write_all(b"new").unwrap();
    scene.sandbox.sessions().expire_all();
    assert_eq!(errno(new.sync_all()), libc::EKEYEXPIRED);
    assert_eq!(errno(old.sync_all()), libc::EKEYEXPIRED);
    drop((new, old));
    let asked = scene.pinentry.asked();
    mount.signal(libc::SIGTERM);
    assert_eq!(mount.wait().code(), Some(1), "{}", mount.log());
    assert!(
        mount.log().contains("2 files are not stored yet"),
        "{}",
        mount.log()
    );
    assert_eq!(scene.pinentry.asked(), asked, "nobody is asked");
    assert_eq!(scene.bucket.get("old").unwrap(), "before");

    // Not by a mount that only reads.
    let reader = scene.mount(&["--read-only"]);
    assert_eq!(fs::read_to_string(reader.file("old")).unwrap(), "before");
    drop(reader);

    let mount = scene.mount(&[]);
    wait_until("the upload", || pending(&mount, &scene) == 0);
    assert_eq!(scene.bucket.get("new").unwrap(), "new");
    assert_eq!(scene.bucket.get("old").unwrap(), "after");
    assert_eq!(scene.bucket.keys(), ["new", "old"]);
}

#[test]
fn a_lost_answer_is_no_conflict_and_makes_no_second_copy() {
    let scene = Scene::new();
    let mount = scene.mount(&["--log-level", "debug"]);
    let faults = scene.sandbox.faults();
    let once = |key: &str| {
        let writes = scene.bucket.history_of(key);
        assert_eq!(writes.len(), 1, "{writes:?}");
    };
    faults.lose_response(Kind::Put, 1);
    fs::write(mount.file("small"), "small").unwrap();
    once("small");
    let large = noise(3, 20 << 20);
    faults.lose_response(Kind::CompleteMultipartUpload, 1);
    fs::write(mount.file("large"), &large).unwrap();
    once("large");
    // And over an object that is there.
    faults.lose_response(Kind::Put, 1);
    fs::write(mount.file("small"), "again").unwrap();
    assert_eq!(scene.bucket.history_of("small").len(), 2);
    faults.lose_response(Kind::Copy, 1);
    fs::rename(mount.file("small"), mount.file("renamed")).unwrap();
    once("renamed");
    faults.lose_response(Kind::Delete, 1);
    fs::remove_file(mount.file("renamed")).unwrap();
    faults.lose_response(Kind::Put, 1);
    fs::create_dir(mount.file("d")).unwrap();
    once("d/");
    faults.lose_response(Kind::Copy, 2);
    fs::write(mount.file("d/f"), "f").unwrap();
    fs::rename(mount.file("d"), mount.file("e")).unwrap();
    assert_eq!(scene.bucket.keys(), ["e/", "e/f", "large"]);
    assert!(scene.bucket.get("large").unwrap() == large);
    assert!(scene.bucket.uploads().is_empty());
    assert!(
        mount.status(&scene)["conflicts"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_lost_answer_is_known_again_by_the_next_mount() {
    let scene = Scene::new();
    let mount = scene.mount(&["--prompt-timeout", "1"]);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(b"once").unwrap();
    let faults = scene.sandbox.faults();
    // It acts, and is not heard of again: not by retries, and not by a HEAD.
    faults.lose_response(Kind::Put, 1);
    faults.expire_after(Kind::Put);
    assert_eq!(errno(file.sync_all()), libc::EKEYEXPIRED);
    mount.signal(libc::SIGKILL);
    drop(file);
    drop(mount);
    faults.clear();
    assert_eq!(scene.bucket.get("f").unwrap(), "once");
    let mount = scene.mount(&[]);
    wait_until("the journal", || pending(&mount, &scene) == 0);
    assert_eq!(scene.bucket.keys(), ["f"]);
    assert_eq!(scene.bucket.history_of("f").len(), 1);
}

#[test]
fn a_full_spool_is_said_at_the_write_and_loses_nothing() {
    let scene = Scene::new();
    let mount = scene.mount(&["--spool-limit", "1MiB"]);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(&noise(1, 900 << 10)).unwrap();
    let more = file.write_all(&noise(2, 900 << 10));
    assert_eq!(errno(more), libc::ENOSPC);
    file.sync_all().unwrap();
    drop(file);
    let stored = scene.bucket.get("f").unwrap();
    assert!(stored[..900 << 10] == noise(1, 900 << 10)[..]);
    // What is stored makes room.
    for i in 0..4 {
        fs::write(mount.file(&format!("g{i}")), noise(3, 900 << 10)).unwrap();
    }
    assert!(scene.bucket.get("g3").unwrap() == noise(3, 900 << 10));
}

fn writes_through(trouble: impl FnOnce(&Scene), mend: impl FnOnce(&Scene)) {
    let scene = Scene::new();
    scene.bucket.put("old", noise(4, 100_000));
    let mount = scene.mount(&[]);
    let large = noise(5, 30 << 20);
    let append = OpenOptions::new().append(true).open(mount.file("old"));
    let mut append = append.unwrap();
    // The first change of a part fetches the rest.
    append.write_all(b"more").unwrap();
    trouble(&scene);
    let begun = Instant::now();
    std::thread::scope(|threads| {
        let writing = threads.spawn(|| fs::write(mount.file("large"), &large));
        let appending = threads.spawn(|| append.sync_all());
        // Only time tells that they wait: nothing happens until then.
        std::thread::sleep(Duration::from_secs(60));
        mend(&scene);
        if let Err(error) = writing.join().unwrap() {
            // A lookup waits for a few attempts only; it has changed nothing.
            assert!(scene.bucket.get("large").is_none(), "{error}");
            fs::write(mount.file("large"), &large).unwrap();
        }
        appending.join().unwrap().unwrap();
    });
    assert!(begun.elapsed() > Duration::from_secs(60));
    assert!(scene.bucket.get("large").unwrap() == large);
    let mut expected = noise(4, 100_000);
    expected.extend_from_slice(b"more");
    assert!(scene.bucket.get("old").unwrap() == expected);
    assert_eq!(scene.bucket.keys(), ["large", "old"]);
}

#[test]
fn a_minute_of_503_is_waited_out() {
    writes_through(
        |scene| {
            let faults = scene.sandbox.faults();
            faults.status(Matcher::writes(), 503, "SlowDown", u64::MAX);
        },
        |scene| scene.sandbox.faults().clear(),
    );
}

#[test]
fn a_minute_without_a_network_is_waited_out() {
    writes_through(
        |scene| scene.sandbox.faults().network(Network::Closing),
        |scene| scene.sandbox.faults().clear(),
    );
}

#[test]
fn a_store_without_conditions_is_known_and_asked_before_each_write() {
    for (how, said) in [
        (ConditionalWrites::All, "all"),
        (ConditionalWrites::Refused, "none"),
        (ConditionalWrites::Ignored, "none"),
        (ConditionalWrites::PutOnly, "some"),
        (ConditionalWrites::PutOnlyUnquoted, "some"),
    ] {
        let scene = Scene::new();
        scene.sandbox.faults().conditional_writes(how);
        let mount = scene.mount(&[]);
        assert_eq!(mount.status(&scene)["conditional_writes"], said, "{how:?}");
        assert!(
            scene.bucket.keys().is_empty(),
            "{how:?}: nothing stays behind"
        );
        fs::write(mount.file("f"), "one").unwrap();
        fs::write(mount.file("f"), "two").unwrap();
        assert_eq!(scene.bucket.get("f").unwrap(), "two", "{how:?}");
        fs::write(mount.file("large"), noise(1, 20 << 20)).unwrap();
        let mut file = OpenOptions::new()
            .append(true)
            .open(mount.file("f"))
            .unwrap();
        file.write_all(b"mine").unwrap();
        scene.bucket.put("f", "theirs");
        assert_eq!(errno(file.sync_all()), libc::ESTALE, "{how:?}");
        drop(file);
        assert_eq!(scene.bucket.get("f").unwrap(), "theirs", "{how:?}");
        assert_eq!(
            scene.bucket.get(&beside(&scene, "f", "f")).unwrap(),
            "twomine"
        );
        fs::rename(mount.file("large"), mount.file("moved")).unwrap();
        fs::remove_file(mount.file("moved")).unwrap();
        assert!(scene.bucket.get("moved").is_none(), "{how:?}");
    }
}

#[test]
fn a_body_that_breaks_off_gets_no_wrong_byte_into_a_file() {
    let scene = Scene::new();
    scene.bucket.put("f", noise(6, 5 << 20));
    let mount = scene.mount(&[]);
    scene.sandbox.faults().truncate_body(Kind::Get, 1 << 20, 3);
    let file = OpenOptions::new()
        .write(true)
        .open(mount.file("f"))
        .unwrap();
    file.write_all_at(b"x", 0).unwrap();
    drop(file);
    let mut expected = noise(6, 5 << 20);
    expected[0] = b'x';
    assert!(scene.bucket.get("f").unwrap() == expected);
    scene.sandbox.faults().cut_upload(Kind::Put, 1 << 20, 2);
    let file = OpenOptions::new()
        .write(true)
        .open(mount.file("f"))
        .unwrap();
    file.write_all_at(b"y", 1).unwrap();
    drop(file);
    expected[1] = b'y';
    assert!(scene.bucket.get("f").unwrap() == expected);
}

#[test]
fn with_write_back_a_close_waits_for_the_local_disk_only() {
    let scene = Scene::new();
    let mount = scene.mount(&["--write-back"]);
    let faults = scene.sandbox.faults();
    faults.stall(Kind::Put, 1000);
    fs::write(mount.file("f"), "kept").unwrap();
    assert!(scene.bucket.get("f").is_none());
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "kept");
    assert_eq!(pending(&mount, &scene), 1);
    mount.signal(libc::SIGKILL);
    drop(mount);
    faults.clear();
    faults.release();
    let mount = scene.mount(&["--write-back"]);
    let stored = || scene.bucket.get("f").is_some_and(|bytes| bytes == "kept");
    assert!(holds_within(PATIENCE, stored));
    wait_until("the journal", || pending(&mount, &scene) == 0);
    assert_eq!(scene.bucket.keys(), ["f"]);
}

#[test]
fn what_was_never_closed_is_found_beside_its_name() {
    let scene = Scene::new();
    scene.bucket.put("f.txt", "good");
    let mount = scene.mount(&[]);
    let mut file = OpenOptions::new()
        .write(true)
        .open(mount.file("f.txt"))
        .unwrap();
    file.write_all(b"torn and longer").unwrap();
    let mut new = File::create(mount.file("n")).unwrap();
    new.write_all(b"new").unwrap();
    mount.kill();
    drop((file, new));
    drop(mount);
    let mount = scene.mount(&[]);
    wait_until("the recovery", || scene.bucket.keys().len() == 3);
    assert_eq!(scene.bucket.get("f.txt").unwrap(), "good");
    let other = beside(&scene, "f", "f.txt");
    assert!(
        other.starts_with("f (recovered ") && other.ends_with(".txt"),
        "{other}"
    );
    assert_eq!(scene.bucket.get(&other).unwrap(), "torn and longer");
    assert_eq!(scene.bucket.get(&beside(&scene, "n", "n")).unwrap(), "new");
    wait_until("the status", || {
        mount.status(&scene)["conflicts"].as_array().unwrap().len() == 2
    });
}

#[test]
fn parts_are_sent_while_the_file_is_written_and_leave_a_full_spool() {
    let scene = Scene::new();
    let mount = scene.mount(&["--spool-limit", "48MiB"]);
    let bytes = noise(12, 120 << 20);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(&bytes[..40 << 20]).unwrap();
    let sent = || {
        scene
            .bucket
            .uploads()
            .first()
            .map_or(0, |upload| upload.parts.len())
    };
    wait_until("parts before the close", || sent() >= 4);
    assert!(scene.bucket.get("f").is_none());
    // More than the spool holds; what cannot leave yet says so.
    let mut at = 40 << 20;
    while at < bytes.len() {
        let end = (at + (1 << 20)).min(bytes.len());
        match file.write_all_at(&bytes[at..end], at as u64) {
            Ok(()) => at = end,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
                let before = sent();
                wait_until("another part", || sent() > before);
            }
        }
    }
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert!(scene.bucket.get("f").unwrap() == bytes);
    assert!(scene.bucket.uploads().is_empty());
    assert_eq!(scene.bucket.metadata("f").unwrap()["mtime"], "1000000000");
    assert!(fs::read(mount.file("f")).unwrap() == bytes);
}

#[test]
fn what_was_sent_and_is_changed_is_sent_again() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    let mut bytes = noise(13, 60 << 20);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(&bytes).unwrap();
    let sent = || {
        scene
            .bucket
            .uploads()
            .first()
            .map_or(0, |upload| upload.parts.len())
    };
    wait_until("parts before the close", || sent() >= 5);
    bytes[3] ^= 1;
    file.write_all_at(&bytes[..8], 0).unwrap();
    bytes.truncate(50 << 20);
    file.set_len(50 << 20).unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert!(scene.bucket.get("f").unwrap() == bytes);
    // One that gets small, and one that goes, leave nothing behind.
    for gone in [false, true] {
        let mut file = File::create(mount.file("g")).unwrap();
        file.write_all(&bytes[..30 << 20]).unwrap();
        wait_until("parts before the close", || sent() >= 2);
        file.set_len(10).unwrap();
        if gone {
            fs::remove_file(mount.file("g")).unwrap();
        }
        drop(file);
        assert_eq!(
            scene.bucket.get("g").map(|g| g.len()),
            (!gone).then_some(10)
        );
    }
    wait_until("no uploads left", || scene.bucket.uploads().is_empty());
}

#[test]
fn what_was_sent_and_is_changed_is_sent_again_by_the_next_mount() {
    let scene = Scene::new();
    let mount = scene.mount(&["--prompt-timeout", "1"]);
    let mut bytes = noise(14, 40 << 20);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(&bytes).unwrap();
    wait_until("parts before the close", || {
        let uploads = scene.bucket.uploads();
        uploads
            .first()
            .is_some_and(|upload| upload.parts.len() >= 4)
    });
    // Programs write the header last.
    scene.sandbox.sessions().expire_all();
    bytes[3] ^= 1;
    file.write_all_at(&bytes[..8], 0).unwrap();
    assert_eq!(errno(file.sync_all()), libc::EKEYEXPIRED);
    mount.signal(libc::SIGKILL);
    drop(file);
    drop(mount);
    let mount = scene.mount(&[]);
    wait_until("the upload", || scene.bucket.get("f").is_some());
    assert!(scene.bucket.get("f").unwrap() == bytes);
    wait_until("nothing pending", || pending(&mount, &scene) == 0);
}

#[test]
fn large_files_from_the_journal_keep_their_own_bytes() {
    let scene = Scene::new();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for i in 0..3 {
        let bytes = noise(20 + i, 24 << 20);
        scene.bucket.put(&format!("f{i}"), bytes.clone());
        files.push((format!("f{i}"), bytes));
    }
    let mount = scene.mount(&["--prompt-timeout", "1"]);
    let open = |name: &str| OpenOptions::new().write(true).open(mount.file(name));
    let open: Vec<File> = files.iter().map(|(name, _)| open(name).unwrap()).collect();
    for (file, (_, bytes)) in open.iter().zip(&mut files) {
        // In the middle of a page and of a part, whose rest is fetched when it is stored.
        for at in [1_000_003, 12_000_007] {
            file.write_all_at(b"changed", at as u64).unwrap();
            bytes[at..at + 7].copy_from_slice(b"changed");
        }
    }
    scene.sandbox.sessions().expire_all();
    assert_eq!(errno(open[0].sync_all()), libc::EKEYEXPIRED);
    for file in &open[1..] {
        assert!(file.sync_all().is_err());
    }
    mount.signal(libc::SIGKILL);
    drop((open, mount));
    let mount = scene.mount(&[]);
    wait_until("nothing pending", || pending(&mount, &scene) == 0);
    for (name, bytes) in &files {
        assert!(scene.bucket.get(name).unwrap() == *bytes, "{name}");
    }
    assert_eq!(scene.bucket.keys().len(), files.len());
}

#[test]
fn what_was_closed_with_write_back_outlives_a_spool_that_cannot_hold_it_twice() {
    let scene = Scene::new();
    let mount = scene.mount(&[
        "--write-back",
        "--spool-limit",
        "12MiB",
        "--prompt-timeout",
        "1",
    ]);
    fs::read_dir(mount.path()).unwrap().count();
    let bytes = noise(30, 8 << 20);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(&bytes).unwrap();
    scene.sandbox.sessions().expire_all();
    file.sync_all().unwrap();
    wait_until("a failed attempt", || {
        !mount.status(&scene)["pending_uploads"][0]["error"].is_null()
    });
    // What was closed is kept until the next close, and there is no room for that.
    let again = file.write_all_at(b"again", 0);
    assert_eq!(errno(again), libc::ENOSPC);
    mount.signal(libc::SIGKILL);
    drop((file, mount));
    let mount = scene.mount(&[]);
    wait_until("nothing pending", || pending(&mount, &scene) == 0);
    assert!(scene.bucket.get("f").unwrap() == bytes);
    drop(mount);
    // Nor is there anything left that a later mount would store over it.
    scene.mount(&[]);
    assert!(scene.bucket.get("f").unwrap() == bytes);
    assert_eq!(scene.bucket.keys(), ["f"]);
}

#[test]
fn a_large_file_that_was_removed_while_it_is_read_does_not_come_back() {
    let scene = Scene::new();
    scene.bucket.put("d/large", noise(31, 65 << 20));
    scene.bucket.put("d/small", "s");
    scene.bucket.put("large", noise(32, 65 << 20));
    let mut mount = scene.mount(&[]);
    let reader = File::open(mount.file("d/large")).unwrap();
    fs::remove_file(mount.file("d/large")).unwrap();
    fs::rename(mount.file("d"), mount.file("e")).unwrap();
    let names = fs::read_dir(mount.file("e")).unwrap();
    let names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
    assert_eq!(names, ["small"]);
    let mut bytes = [0; 8];
    reader.read_exact_at(&mut bytes, 30 << 20).unwrap();
    assert!(bytes == noise(31, 65 << 20)[30 << 20..][..8]);
    drop(reader);
    let left = ["e/", "e/small", "large"];
    wait_until("it to go", || scene.bucket.keys() == left);
    // Nor if another is begun in its place, which nobody gets to close.
    let reader = File::open(mount.file("large")).unwrap();
    fs::remove_file(mount.file("large")).unwrap();
    let other = File::create(mount.file("large")).unwrap();
    mount.signal(libc::SIGKILL);
    let _ = mount.wait();
    drop((reader, other, mount));
    let _mount = scene.mount(&[]);
    wait_until("it to go", || scene.bucket.keys() == left[..2]);
}

#[test]
fn a_source_that_somebody_else_has_changed_is_no_reason_to_drop_conditions() {
    let scene = Scene::new();
    scene.bucket.put("a", "a");
    scene.bucket.put("b", "b");
    let mount = scene.mount(&[]);
    let before = mount.status(&scene)["conditional_writes"].clone();
    let faults = scene.sandbox.faults();
    faults.stall(Matcher::kind(Kind::Copy).nth(1), 1);
    std::thread::scope(|threads| {
        let renaming = threads.spawn(|| fs::rename(mount.file("a"), mount.file("b")));
        wait_until("the copy", || faults.stalled() == 1);
        scene.bucket.put("a", "another");
        faults.release();
        // The kernel asks once more after an ESTALE, and then it is the other one that moves.
        renaming.join().unwrap().unwrap();
    });
    assert_eq!(scene.bucket.get("b").unwrap(), "another");
    assert_eq!(scene.bucket.keys(), ["b"]);
    assert_eq!(mount.status(&scene)["conditional_writes"], before);
    assert!(!mount.log().contains("does not know its own tags"));
}

#[test]
fn a_file_is_read_on_while_it_or_its_directory_is_renamed() {
    let scene = Scene::new();
    let bytes = noise(33, 24 << 20);
    scene.bucket.put("d/f", bytes.clone());
    let mount = scene.mount(&["--memory-limit", "16MiB"]);
    let reader = File::open(mount.file("d/f")).unwrap();
    let mut places = [("d/f", "d/g"), ("d", "e")].into_iter();
    let mut at = 0;
    for (from, to) in &mut places {
        // The old one is gone, and the daemon has not heard so yet.
        let faults = scene.sandbox.faults();
        faults.hold_answer(Matcher::kind(Kind::Delete).nth(1), 1);
        std::thread::scope(|threads| {
            let renaming = threads.spawn(|| fs::rename(mount.file(from), mount.file(to)));
            wait_until("the deletion", || faults.stalled() == 1);
            let mut part = vec![0; 1 << 20];
            reader.read_exact_at(&mut part, at as u64).unwrap();
            assert!(part == bytes[at..][..1 << 20]);
            faults.release();
            renaming.join().unwrap().unwrap();
        });
        at += 12 << 20;
    }
    assert_eq!(scene.bucket.keys(), ["e/", "e/g"]);
}

#[test]
fn a_file_that_cannot_be_deleted_under_its_old_name_keeps_it() {
    let scene = Scene::new();
    scene.bucket.put("f", "old");
    let mount = scene.mount(&[]);
    let file = OpenOptions::new().write(true).open(mount.file("f"));
    let file = file.unwrap();
    let faults = scene.sandbox.faults();
    faults.status(Kind::Delete, 403, "AccessDenied", 1);
    let renamed = fs::rename(mount.file("f"), mount.file("g"));
    assert_eq!(errno(renamed), libc::EACCES);
    // What is written goes to where it was opened.
    file.write_all_at(b"new", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(scene.bucket.get("f").unwrap(), "new");
    assert_eq!(scene.bucket.get("g").unwrap(), "old");
    fs::rename(mount.file("f"), mount.file("g")).unwrap();
    assert_eq!(scene.bucket.get("g").unwrap(), "new");
    assert_eq!(scene.bucket.keys(), ["g"]);
}

#[test]
fn what_is_removed_before_it_is_stored_does_not_come_back() {
    for write_back in [true, false] {
        let scene = Scene::new();
        scene.bucket.put("f", "old");
        let options: &[&str] = if write_back { &["--write-back"] } else { &[] };
        let mut mount = scene.mount(options);
        let faults = scene.sandbox.faults();
        faults.status(Kind::Put, 403, "AccessDenied", 100);
        let mut file = File::create(mount.file("f")).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(file.sync_all().is_ok(), write_back);
        drop(file);
        wait_until("it to wait", || pending(&mount, &scene) == 1);
        // It is gone there, and the daemon dies before it hears so.
        faults.hold_answer(Matcher::kind(Kind::Delete).nth(1), 1);
        let removing = std::thread::spawn({
            let path = mount.file("f");
            move || fs::remove_file(path)
        });
        wait_until("the deletion", || faults.stalled() == 1);
        mount.signal(libc::SIGKILL);
        let _ = mount.wait();
        let _ = removing.join().unwrap();
        drop(mount);
        faults.clear();
        let mount = scene.mount(&[]);
        wait_until("the journal", || pending(&mount, &scene) == 0);
        assert!(scene.bucket.keys().is_empty(), "{:?}", scene.bucket.keys());
    }
}

#[test]
fn what_the_server_is_to_copy_is_copied_before_its_source_changes() {
    let scene = Scene::new();
    let bytes = noise(41, 20 << 20);
    for name in ["changed", "removed", "renamed"] {
        scene.bucket.put(name, bytes.clone());
    }
    let mount = scene.mount(&[]);
    let copies = ["changed", "removed", "renamed"].map(|name| {
        let mut source = File::open(mount.file(name)).unwrap();
        let mut copy = File::create(mount.file(&format!("copy of {name}"))).unwrap();
        // This is copy_file_range(2).
        std::io::copy(&mut source, &mut copy).unwrap();
        copy
    });
    assert!(
        scene.sandbox.counts().bytes_served() < 1 << 20,
        "the server copies"
    );
    fs::write(mount.file("changed"), "another").unwrap();
    fs::remove_file(mount.file("removed")).unwrap();
    fs::rename(mount.file("renamed"), mount.file("other")).unwrap();
    for copy in copies {
        copy.sync_all().unwrap();
    }
    for name in ["changed", "removed", "renamed"] {
        assert!(
            scene.bucket.get(&format!("copy of {name}")).unwrap() == bytes,
            "{name}"
        );
    }
    assert_eq!(scene.bucket.get("changed").unwrap(), "another");
    assert_eq!(scene.bucket.keys().len(), 5);
}

#[test]
fn a_second_signal_stops_at_once_and_leaves_no_dead_mount() {
    let scene = Scene::new();
    let mut mount = scene.mount(&["--write-back"]);
    let faults = scene.sandbox.faults();
    faults.stall(Matcher::kind(Kind::Put).nth(1), 10);
    fs::write(mount.file("f"), "unsaved").unwrap();
    wait_until("the upload", || faults.stalled() == 1);
    mount.signal(libc::SIGTERM);
    wait_until("the first one", || mount.log().contains("unmounting"));
    mount.signal(libc::SIGTERM);
    assert_eq!(mount.wait().code(), Some(1), "{}", mount.log());
    assert!(!mount.is_mounted());
    fs::read_dir(mount.path()).unwrap();
    drop(mount);
    faults.clear();
    faults.release();
    let mount = scene.mount(&[]);
    wait_until("nothing pending", || pending(&mount, &scene) == 0);
    assert_eq!(scene.bucket.get("f").unwrap(), "unsaved");
}
