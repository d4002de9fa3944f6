//! Uploads that nobody wants any more end at once, and leave nothing behind.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use s3mfa_sandbox::{Kind, Matcher};

use crate::scene::{Mount, Scene, holds_within, noise, wait_until};
use crate::storing::pending;

/// How fast bytes arrive, per second: whatever is waited for whole takes a minute.
const SLOW: u64 = 1 << 20;

/// What takes less has not waited for it.
const AT_ONCE: Duration = Duration::from_secs(20);

fn truncate(path: &Path, size: i64) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the string ends with a zero.
    #[allow(unsafe_code)]
    let done = unsafe { libc::truncate(path.as_ptr(), size) };
    assert_eq!(done, 0, "{:?}", std::io::Error::last_os_error());
}

/// What is done to a file that is being stored, and how many bytes it has then.
type Change = fn(&Mount) -> Option<usize>;

const CHANGES: [(&str, Change); 4] = [
    ("rm", |mount| {
        fs::remove_file(mount.file("f")).unwrap();
        None
    }),
    (": >", |mount| {
        File::create(mount.file("f")).unwrap();
        Some(0)
    }),
    ("truncate", |mount| {
        truncate(&mount.file("f"), 10);
        Some(10)
    }),
    ("mv", |mount| {
        fs::rename(mount.file("other"), mount.file("f")).unwrap();
        Some(5)
    }),
];

#[test]
fn what_is_being_stored_is_given_up_when_its_name_goes_or_its_content_is_replaced() {
    // In parts, in one request, and nothing but zeros.
    for (size, is_sparse) in [(60 << 20, false), (15 << 20, false), (400 << 20, true)] {
        for is_new in [true, false] {
            for (name, change) in CHANGES {
                let scene = Scene::new();
                if !is_new {
                    scene.bucket.put("f", "before");
                }
                scene.bucket.put("other", "other");
                let mount = scene.mount(&[]);
                let faults = scene.sandbox.faults();
                faults.throttle_uploads(SLOW);
                scene.sandbox.reset_counts();
                let mut file = File::create(mount.file("f")).unwrap();
                if is_sparse {
                    file.set_len(size as u64).unwrap();
                } else {
                    file.write_all(&noise(1, size)).unwrap();
                }
                let told = format!("{name} of {size} bytes, new: {is_new}");
                std::thread::scope(|threads| {
                    // Not fsync(2): the kernel locks the inode for it, and whoever removes the name
                    // waits for that lock.
                    let closing = threads.spawn(move || drop(file));
                    let counts = || scene.sandbox.counts();
                    let is_sent = || counts().of(Kind::UploadPart) + counts().of(Kind::Put) > 0;
                    wait_until("the upload", is_sent);
                    let begun = Instant::now();
                    let size = change(&mount);
                    closing.join().unwrap();
                    assert!(begun.elapsed() < AT_ONCE, "{told}: {:?}", begun.elapsed());
                    let is_so = || scene.bucket.get("f").map(|bytes| bytes.len()) == size;
                    assert!(is_so(), "{told}");
                    let is_clean = || scene.bucket.uploads().is_empty();
                    assert!(holds_within(AT_ONCE, is_clean), "{told}: an open upload");
                    assert!(is_so(), "{told}: it came back");
                });
                let received = scene.sandbox.counts().bytes_received();
                assert!(
                    received < (AT_ONCE.as_secs() + 10) * SLOW,
                    "{told}: {received}"
                );
                assert_eq!(pending(&mount, &scene), 0, "{told}");
            }
        }
    }
}

#[test]
fn what_the_next_mount_goes_on_with_is_given_up_as_well() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    let faults = scene.sandbox.faults();
    faults.throttle_uploads(SLOW);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(&noise(2, 60 << 20)).unwrap();
    std::thread::scope(|threads| {
        let closing = threads.spawn(|| file.sync_all());
        let is_sent = || !scene.bucket.uploads().is_empty();
        wait_until("the upload", is_sent);
        wait_until("a promise", || pending(&mount, &scene) == 1);
        mount.kill();
        assert!(closing.join().unwrap().is_err());
    });
    drop((file, mount));
    let mount = scene.mount(&[]);
    wait_until("the upload", || pending(&mount, &scene) == 1);
    let begun = Instant::now();
    fs::remove_file(mount.file("f")).unwrap();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    wait_until("nothing to be left", || scene.bucket.uploads().is_empty());
    assert!(scene.bucket.get("f").is_none());
    assert_eq!(pending(&mount, &scene), 0);
}

#[test]
fn what_is_written_and_has_no_name_any_more_is_not_sent_on() {
    let scene = Scene::new();
    // A part every two seconds, of those that wait for their turn.
    let mount = scene.mount(&["--upload-limit", "4MiB"]);
    let mut options = fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true);
    let mut file = options.open(mount.file("f")).unwrap();
    file.write_all(&noise(3, 40 << 20)).unwrap();
    let sent = || scene.sandbox.counts().of(Kind::UploadPart);
    wait_until("parts before the close", || sent() > 0);
    fs::remove_file(mount.file("f")).unwrap();
    wait_until("nothing to be left", || scene.bucket.uploads().is_empty());
    let before = sent();
    assert!(!holds_within(Duration::from_secs(5), || sent() > before));
    // Who has it open still reads it.
    let mut bytes = vec![0; 8];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == noise(3, 8));
    drop(file);
    assert!(scene.bucket.keys().is_empty());
}

#[test]
fn what_arrives_although_it_was_given_up_does_not_stay() {
    for is_new in [true, false] {
        for (name, change) in CHANGES {
            let scene = Scene::new();
            if !is_new {
                scene.bucket.put("f", "before");
            }
            scene.bucket.put("other", "other");
            let mount = scene.mount(&[]);
            let faults = scene.sandbox.faults();
            // It acts, and nobody hears so.
            faults.hold_answer(Matcher::kind(Kind::Put).key("f").nth(1), 1);
            let mut file = File::create(mount.file("f")).unwrap();
            file.write_all(b"unwanted and longer").unwrap();
            std::thread::scope(|threads| {
                let closing = threads.spawn(move || drop(file));
                wait_until("the upload", || faults.stalled() == 1);
                let size = change(&mount);
                closing.join().unwrap();
                let told = format!("{name}, new: {is_new}: {:?}", scene.bucket.keys());
                assert_eq!(scene.bucket.get("f").map(|f| f.len()), size, "{told}");
                let others: Vec<_> = scene.bucket.keys();
                assert!(
                    others.iter().all(|key| key == "f" || key == "other"),
                    "{told}"
                );
            });
            let conflicts = &mount.status(&scene)["conflicts"];
            assert!(conflicts.as_array().unwrap().is_empty(), "{conflicts}");
            assert_eq!(pending(&mount, &scene), 0);
        }
    }
}

#[test]
fn an_upload_that_cannot_be_thrown_away_just_now_is_thrown_away_by_the_next_mount() {
    let scene = Scene::new();
    let mut mount = scene.mount(&[]);
    let faults = scene.sandbox.faults();
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(&noise(4, 40 << 20)).unwrap();
    wait_until("parts before the close", || {
        let uploads = scene.bucket.uploads();
        uploads
            .first()
            .is_some_and(|upload| !upload.parts.is_empty())
    });
    faults.stall(Kind::AbortMultipartUpload, 1000);
    fs::remove_file(mount.file("f")).unwrap();
    drop(file);
    wait_until("an attempt", || faults.stalled() > 0);
    assert_eq!(scene.bucket.uploads().len(), 1);
    mount.signal(libc::SIGKILL);
    let _ = mount.wait();
    drop(mount);
    faults.clear();
    faults.release();
    let mut mount = scene.mount(&[]);
    wait_until("it to go", || scene.bucket.uploads().is_empty());
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
    assert!(scene.bucket.keys().is_empty());
}
