//! Writing to a file while it is being stored or fetched: nobody waits for S3 with a page
//! of the kernel locked, and what is stored is a state that the file had.

use std::fs::{self, File, OpenOptions};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use s3mfa_sandbox::{Kind, Matcher};

use crate::scene::{Mount, Scene, errno, noise, wait_until};

const SIZE: usize = 1 << 20;

/// How long a write may take whatever S3 does, on a busy machine. Requests of S3 hang for longer.
const MOMENT: Duration = Duration::from_secs(10);

/// The part that the first writer changes.
const FIRST: (u64, &[u8]) = (0, b"from the first writer");

/// Three bytes in a page that the kernel does not have, which it keeps locked until they are taken.
const SECOND: (u64, &[u8]) = (500_001, b"two");

fn open(mount: &Mount) -> File {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .open(mount.file("f"))
        .unwrap()
}

fn with(mut content: Vec<u8>, changes: &[(u64, &[u8])]) -> Vec<u8> {
    for (at, bytes) in changes {
        let at = usize::try_from(*at).unwrap();
        content.resize(content.len().max(at + bytes.len()), 0);
        content[at..at + bytes.len()].copy_from_slice(bytes);
    }
    content
}

/// Writes, and fails if that waits for S3.
fn write(file: &File, (at, bytes): (u64, &[u8])) {
    let begun = Instant::now();
    file.write_all_at(bytes, at).unwrap();
    let took = begun.elapsed();
    assert!(took < MOMENT, "the write waited for {took:?}");
}

fn read(file: &File, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Closes a file, and tells how that went. Not fsync(2), during which the kernel lets nobody write.
fn close(file: File) -> std::io::Result<()> {
    Ok(nix::unistd::close(file.into_raw_fd())?)
}

/// A file whose upload hangs, with what the first writer has changed.
struct Stalled {
    scene: Scene,
    mount: Mount,
    first: Vec<u8>,
    storing: thread::JoinHandle<std::io::Result<()>>,
    second: File,
}

fn stalled(options: &[&str]) -> Stalled {
    let scene = Scene::new();
    let before = noise(1, SIZE);
    scene.bucket.put("f", before.clone());
    let mount = scene.mount(&[&["--prompt-cooldown", "3600"], options].concat());
    let (file, second) = (open(&mount), open(&mount));
    write(&file, FIRST);
    let faults = scene.sandbox.faults();
    faults.stall(Matcher::kind(Kind::Put).key("f"), 1);
    let storing = thread::spawn(move || close(file));
    wait_until("an upload that hangs", || faults.stalled() == 1);
    Stalled {
        first: with(before, &[FIRST]),
        mount,
        storing,
        second,
        scene,
    }
}

#[test]
fn a_write_does_not_wait_for_an_upload() {
    let Stalled {
        scene,
        mount,
        first,
        storing,
        second,
        ..
    } = stalled(&[]);
    write(&second, SECOND);
    // More of it, over it, and behind the end.
    let more: [(u64, &[u8]); 3] = [
        (500_002, b"three"),
        (300_000, &[7; 50_000]),
        (SIZE as u64 + 10, b"the new end"),
    ];
    more.iter().for_each(|change| write(&second, *change));
    let both = with(with(first.clone(), &[SECOND]), &more);
    assert!(
        read(&second, both.len()) == both,
        "what was written is read"
    );
    let reader = File::open(mount.file("f")).unwrap();
    assert!(read(&reader, both.len()) == both, "and by others");
    assert!(!storing.is_finished());
    scene.sandbox.faults().release();
    storing.join().unwrap().unwrap();
    assert!(
        scene.bucket.get("f").unwrap() == first,
        "a state that it had"
    );
    second.sync_all().unwrap();
    assert!(scene.bucket.get("f").unwrap() == both);
    assert!(read(&second, both.len()) == both);
    drop(second);
    drop(mount);
    let again = scene.mount(&[]);
    assert!(fs::read(again.file("f")).unwrap() == both);
    assert_eq!(scene.bucket.keys(), ["f"]);
}

#[test]
fn an_upload_that_fails_takes_nothing_along() {
    let scene = Scene::new();
    let before = noise(2, SIZE);
    scene.bucket.put("f", before.clone());
    let mount = scene.mount(&[]);
    let (file, second) = (open(&mount), open(&mount));
    write(&file, FIRST);
    let faults = scene.sandbox.faults();
    let puts = || Matcher::kind(Kind::Put).key("f");
    faults.stall(puts(), 1);
    faults.status(puts(), 400, "InvalidRequest", 1);
    let storing = thread::spawn(move || close(file));
    wait_until("an upload that hangs", || faults.stalled() == 1);
    write(&second, SECOND);
    faults.release();
    assert_eq!(errno(storing.join().unwrap()), libc::EIO);
    let both = with(before, &[FIRST, SECOND]);
    assert!(read(&second, SIZE) == both);
    second.set_len(SIZE as u64 - 5).unwrap();
    second.sync_all().unwrap();
    assert!(scene.bucket.get("f").unwrap() == both[..SIZE - 5]);
}

#[test]
fn a_crash_loses_neither_what_was_closed_nor_what_came_after() {
    let Stalled {
        scene,
        mut mount,
        first,
        storing,
        second,
        ..
    } = stalled(&[]);
    write(&second, SECOND);
    mount.kill();
    mount.wait();
    assert!(storing.join().unwrap().is_err());
    drop(second);
    drop(mount);
    scene.sandbox.faults().clear();
    scene.sandbox.faults().release();
    let again = scene.mount(&[]);
    wait_until("both versions", || {
        scene.bucket.keys().len() == 2 && scene.bucket.get("f").unwrap() == first
    });
    let keys = scene.bucket.keys();
    let other = keys.iter().find(|key| key.contains("(recovered ")).unwrap();
    assert!(scene.bucket.get(other).unwrap() == with(first, &[SECOND]));
    drop(again);
}

#[test]
fn a_crash_after_the_first_was_stored_loses_nothing_of_the_second() {
    let Stalled {
        scene,
        mut mount,
        first,
        storing,
        second,
    } = stalled(&[]);
    write(&second, SECOND);
    scene.sandbox.faults().release();
    storing.join().unwrap().unwrap();
    // At its place, beside what still waits to be brought to its own.
    write(&second, (900_000, b"three"));
    mount.kill();
    mount.wait();
    drop(second);
    drop(mount);
    let _again = scene.mount(&[]);
    wait_until("both versions", || scene.bucket.keys().len() == 2);
    assert!(scene.bucket.get("f").unwrap() == first);
    let keys = scene.bucket.keys();
    let other = keys.iter().find(|key| key.contains("(recovered ")).unwrap();
    let all = with(first, &[SECOND, (900_000, b"three")]);
    assert!(scene.bucket.get(other).unwrap() == all);
}

#[test]
fn many_writes_beside_are_all_stored() {
    let Stalled {
        scene,
        mount: _mount,
        first,
        storing,
        second,
    } = stalled(&[]);
    let mut all = first;
    for i in 0..300_u64 {
        let change = (i * 3001 % (SIZE as u64), &noise(i, 100)[..]);
        write(&second, change);
        all = with(all, &[change]);
    }
    assert!(read(&second, all.len()) == all);
    scene.sandbox.faults().release();
    storing.join().unwrap().unwrap();
    write(&second, (5, b"at its place"));
    second.sync_all().unwrap();
    assert!(scene.bucket.get("f").unwrap() == with(all, &[(5, b"at its place")]));
}

#[test]
fn who_writes_all_the_time_keeps_no_directory_from_its_new_name() {
    let scene = Scene::new();
    let before = noise(7, SIZE);
    scene.bucket.put("dir/f", before.clone());
    let mount = scene.mount(&[]);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(mount.file("dir/f"));
    let file = file.unwrap();
    write(&file, FIRST);
    // Longer than a write waits.
    let puts = Matcher::kind(Kind::Put);
    scene
        .sandbox
        .faults()
        .latency_for(puts, Duration::from_secs(1));
    let is_over = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut round = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                round += 1;
                write(&file, (SECOND.0, &round.to_le_bytes()));
                thread::sleep(Duration::from_millis(2));
            }
            round
        });
        fs::rename(mount.file("dir"), mount.file("new")).unwrap();
        is_over.store(true, Ordering::Relaxed);
        writing.join().unwrap()
    });
    file.sync_all().unwrap();
    let all = with(before, &[FIRST, (SECOND.0, &rounds.to_le_bytes())]);
    assert!(scene.bucket.get("new/f").unwrap() == all);
    assert!(read(&file, SIZE) == all);
    assert!(scene.bucket.get("dir/f").is_none());
}

#[test]
fn a_lock_that_leaves_pages_behind_says_so() {
    let scene = Scene::new();
    scene.bucket.put("dir/f", noise(6, SIZE));
    let mount = scene.mount(&[]);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(mount.file("dir/f"));
    let file = file.unwrap();
    let faults = scene.sandbox.faults();
    faults.stall(Matcher::kind(Kind::Copy), 1);
    let (from, to) = (mount.file("dir"), mount.file("new"));
    let renaming = thread::spawn(move || fs::rename(from, to));
    wait_until("a copy that hangs", || faults.stalled() == 1);
    // The first write to a file whose directory is getting another name waits for that.
    let writing = thread::spawn(move || file.write_all_at(SECOND.1, SECOND.0).map(|()| file));
    let place = mount.path().to_str().unwrap();
    let mut said = None;
    wait_until("a lock that fails", || {
        let locked = scene.control(&["lock", place]);
        let failed = locked.code != 0;
        said = Some(locked);
        failed
    });
    let said = said.unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("dir/f") || said.err.contains("new/f"),
        "{said:?}"
    );
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    faults.release();
    renaming.join().unwrap().unwrap();
    let file = writing.join().unwrap().unwrap();
    answering.join().unwrap();
    drop(file);
    assert_eq!(scene.control(&["lock", place]).code, 0);
}

#[test]
fn with_write_back_a_later_close_waits_for_nothing() {
    let Stalled {
        scene,
        mount,
        first,
        storing,
        second,
        ..
    } = stalled(&["--write-back"]);
    storing.join().unwrap().unwrap();
    write(&second, SECOND);
    second.sync_all().unwrap();
    let both = with(first, &[SECOND]);
    assert!(read(&second, SIZE) == both);
    drop(second);
    scene.sandbox.faults().release();
    wait_until("the second version", || {
        scene.bucket.get("f").unwrap() == both
    });
    assert_eq!(
        scene
            .control(&["unmount", mount.path().to_str().unwrap()])
            .code,
        0
    );
}

#[test]
fn what_is_locked_is_locked_while_an_upload_hangs() {
    let Stalled {
        scene,
        mount,
        storing,
        second,
        ..
    } = stalled(&[]);
    let reader = File::open(mount.file("f")).unwrap();
    // The kernel has the pages behind the one that is written to.
    let mut behind = vec![0; SIZE / 4];
    reader
        .read_exact_at(&mut behind, 3 * SIZE as u64 / 4)
        .unwrap();
    let writing = thread::spawn(move || {
        write(&second, SECOND);
        second
    });
    let locked = scene.control(&["lock", mount.path().to_str().unwrap()]);
    assert_eq!(locked.code, 0, "{locked:?}");
    let second = writing.join().unwrap();
    let refusing = scene.pinentry.answer_next("cancel".to_owned());
    let read = reader.read_at(&mut behind, 3 * SIZE as u64 / 4);
    assert_eq!(errno(read), libc::EKEYEXPIRED);
    refusing.join().unwrap();
    // What is written without a session is nobody's to read either.
    let page = [9; 4096];
    write(&second, (4096 * 100, &page));
    wait_until("the end of the page", || {
        second.read_at(&mut [0; 4096], 4096 * 100).is_err()
    });
    scene.sandbox.faults().release();
    let _ = storing.join().unwrap();
}

#[test]
fn a_first_write_does_not_wait_for_the_rest_of_the_file() {
    let scene = Scene::new();
    let before = noise(3, SIZE);
    scene.bucket.put("f", before.clone());
    let mount = scene.mount(&["--prompt-cooldown", "3600"]);
    let file = open(&mount);
    let faults = scene.sandbox.faults();
    faults.stall(Matcher::kind(Kind::Get).key("f"), 1);
    write(&file, SECOND);
    write(&file, FIRST);
    assert_eq!(scene.control(&["lock"]).code, 0);
    faults.release();
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    file.sync_all().unwrap();
    answering.join().unwrap();
    let both = with(before, &[FIRST, SECOND]);
    assert!(scene.bucket.get("f").unwrap() == both);
    assert!(read(&file, SIZE) == both);
}

#[test]
fn a_mount_that_ends_leaves_no_pages_behind() {
    for by_signal in [false, true] {
        let scene = Scene::new();
        scene.bucket.put("f", noise(5, SIZE));
        let mut mount = scene.mount(&[]);
        let file = File::open(mount.file("f")).unwrap();
        read(&file, SIZE);
        if by_signal {
            mount.signal(libc::SIGTERM);
            assert!(mount.wait().success());
        } else {
            let ended = scene.control(&["unmount", mount.path().to_str().unwrap()]);
            assert_eq!(ended.code, 0, "{ended:?}");
        }
        for at in [0, SIZE as u64 / 2, SIZE as u64 - 4096] {
            assert!(file.read_at(&mut [0; 4096], at).is_err(), "at {at}");
        }
    }
}
