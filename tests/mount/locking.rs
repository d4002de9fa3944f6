//! Locked means locked.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::thread;

use crate::scene::{Scene, errno, noise, wait_until};

#[test]
fn who_logs_out_takes_the_session_along() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&[]);
    let path = mount.file("f");
    assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    // The runtime directory goes; a daemon may stay.
    fs::rename(scene.home().join("run"), scene.home().join("gone")).unwrap();
    wait_until("the end of the session", || {
        mount.log().contains("no session: you logged out at")
    });
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 2);
}

#[test]
fn nothing_comes_out_after_lock_and_everything_after_a_code() {
    let scene = Scene::new();
    let content = noise(11, 2 << 20);
    scene.bucket.put("dir/f", content.clone());
    let mount = scene.mount(&["--prompt-cooldown", "3600"]);
    let path = mount.file("dir/f");
    assert!(fs::read(&path).unwrap() == content);
    let file = fs::File::open(&path).unwrap();
    let mut bytes = [0; 4096];
    file.read_exact_at(&mut bytes, 0).unwrap();

    let locked = scene.control(&["lock", mount.path().to_str().unwrap()]);
    assert_eq!(locked.code, 0, "{locked:?}");
    // One refusal, and the cool-down keeps the rest of the test quiet.
    let refusing = scene.pinentry.answer_next("cancel".to_owned());
    assert_eq!(errno(file.read_at(&mut bytes, 0)), libc::EKEYEXPIRED);
    refusing.join().unwrap();
    assert_eq!(errno(file.read_at(&mut bytes, 1 << 20)), libc::EKEYEXPIRED);
    assert_eq!(errno(fs::read(&path)), libc::EKEYEXPIRED);
    assert_eq!(
        errno(fs::read_dir(mount.file("dir")).map(drop)),
        libc::EKEYEXPIRED
    );
    assert_eq!(
        errno(fs::read_dir(mount.path()).map(drop)),
        libc::EKEYEXPIRED
    );
    assert!(fs::metadata(mount.path()).is_ok(), "the root answers");

    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let renewed = scene.control(&["renew", mount.path().to_str().unwrap()]);
    answering.join().unwrap();
    assert_eq!(renewed.code, 0, "{renewed:?}");
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[..] == content[..4096]);
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(fs::read_dir(mount.file("dir")).unwrap().count(), 1);
    assert_eq!(scene.pinentry.asked(), 3);
}

#[test]
fn an_open_directory_tells_no_more_names_after_lock() {
    let scene = Scene::new();
    for i in 0..12_000 {
        // More than the megabyte that the C library reads at once.
        scene
            .bucket
            .put(&format!("dir/{i}-{}", "x".repeat(200)), "");
    }
    let mount = scene.mount(&["--prompt-cooldown", "3600"]);
    let mut entries = fs::read_dir(mount.file("dir")).unwrap();
    entries.next().unwrap().unwrap();
    assert_eq!(scene.control(&["lock"]).code, 0);
    let refusing = scene.pinentry.answer_next("cancel".to_owned());
    let mut told = 0;
    let error = loop {
        match entries.next() {
            Some(Ok(_)) => told += 1,
            Some(Err(error)) => break error,
            None => panic!("all {told} names were told"),
        }
    };
    refusing.join().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EKEYEXPIRED));
    assert!(told < 10_000, "{told} names were told");
}

/// Maps a file, touches it, waits for a line, and touches it again.
const MAPPER: &str = "
import mmap, sys
with open(sys.argv[1], 'rb') as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    print(m[0], flush=True)
    sys.stdin.readline()
    print(m[0], flush=True)
";

#[test]
fn a_mapping_faults_after_lock() {
    if !crate::scene::parts::are_here(
        "a_mapping_faults_after_lock",
        &["python3"],
        "apt-get install python3",
    ) {
        return;
    }
    let scene = Scene::new();
    scene.bucket.put("f", noise(12, 1 << 20));
    let mount = scene.mount(&[]);
    let mut child = Command::new("python3")
        .args(["-c", MAPPER])
        .arg(mount.file("f"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert!(!line.is_empty(), "it was mapped and read");

    assert_eq!(scene.control(&["lock"]).code, 0);
    let refusing = scene.pinentry.answer_next("cancel".to_owned());
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    refusing.join().unwrap();
    let status = child.wait().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(libc::SIGBUS), "{status:?}");
}

#[test]
fn an_expiry_takes_the_kernels_pages_back_even_while_a_reader_waits() {
    let scene = Scene::new();
    let content = noise(13, 1 << 20);
    scene.bucket.put("cached", content.clone());
    scene.bucket.put("uncached", content.clone());
    let mount = scene.mount(&["--prompt-timeout", "2", "--prompt-cooldown", "3600"]);
    let cached = fs::File::open(mount.file("cached")).unwrap();
    let uncached = fs::File::open(mount.file("uncached")).unwrap();
    let mut bytes = vec![0; 1 << 20];
    cached.read_exact_at(&mut bytes, 0).unwrap();
    scene.sandbox.sessions().expire_all();
    // This one notices the expiry, and waits with locked pages.
    let reader = thread::spawn(move || errno(uncached.read_at(&mut [0; 4096], 0)));
    scene.pinentry.wait_until_asked(2);
    wait_until("the lock of cached pages", || {
        mount.status(&scene)["session"]["state"] == "asking"
    });
    // The kernel gets a moment to give its pages back; no reader may still be there by then.
    let read = thread::spawn(move || {
        let mut failed = None;
        wait_until("the end of cached pages", || {
            failed = cached.read_at(&mut [0; 4096], 0).err();
            failed.is_some()
        });
        failed.unwrap().raw_os_error().unwrap()
    });
    assert_eq!(reader.join().unwrap(), libc::EKEYEXPIRED);
    assert_eq!(read.join().unwrap(), libc::EKEYEXPIRED);
}

#[test]
fn the_cache_is_served_when_locked_if_the_user_wants_that() {
    let scene = Scene::new();
    let content = noise(14, 100_000);
    scene.bucket.put("f", content.clone());
    let mount = scene.mount(&["--serve-cache-when-locked"]);
    let file = fs::File::open(mount.file("f")).unwrap();
    let mut bytes = vec![0; 100_000];
    file.read_exact_at(&mut bytes, 0).unwrap();
    scene.sandbox.sessions().expire_all();
    let mut again = vec![0; 100_000];
    file.read_exact_at(&mut again, 0).unwrap();
    assert!(again == content);
    assert_eq!(scene.pinentry.asked(), 1);
}

#[test]
fn a_file_that_stays_open_is_locked_the_second_time_too() {
    let scene = Scene::new();
    let content = noise(15, 1 << 20);
    scene.bucket.put("f", content.clone());
    let mount = scene.mount(&["--prompt-cooldown", "3600"]);
    let file = fs::File::open(mount.file("f")).unwrap();
    let mut bytes = [0; 4096];
    for _ in 0..2 {
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[..] == content[..4096]);
        assert_eq!(scene.control(&["lock"]).code, 0);
        let refusing = scene.pinentry.answer_next("cancel".to_owned());
        assert_eq!(errno(file.read_at(&mut bytes, 0)), libc::EKEYEXPIRED);
        refusing.join().unwrap();
        let answering = scene.pinentry.answer_next(scene.device.unspent_code());
        assert_eq!(scene.control(&["renew"]).code, 0);
        answering.join().unwrap();
    }
}

#[test]
fn a_daemon_that_is_killed_while_readers_wait_leaves_nothing_behind() {
    let scene = Scene::new();
    for i in 0..20 {
        scene.bucket.put(&format!("f{i}"), noise(16 + i, 4 << 20));
    }
    let mut mount = scene.mount(&[]);
    let files: Vec<_> = (0..20)
        .map(|i| fs::File::open(mount.file(&format!("f{i}"))).unwrap())
        .collect();
    let mut bytes = vec![0; 1 << 20];
    for file in &files {
        file.read_exact_at(&mut bytes, 0).unwrap();
    }
    scene.sandbox.sessions().expire_all();
    // Each waits with locked pages in a file whose other pages are to be taken back.
    let readers: Vec<_> = files
        .into_iter()
        .map(|file| thread::spawn(move || file.read_at(&mut vec![0; 1 << 20], 3 << 20)))
        .collect();
    scene.pinentry.wait_until_asked(2);
    mount.signal(libc::SIGKILL);
    mount.wait();
    for reader in readers {
        assert!(reader.join().unwrap().is_err());
    }
    drop(mount);
    let again = scene.mount(&[]);
    assert_eq!(fs::metadata(again.file("f0")).unwrap().len(), 4 << 20);
}

/// What python3 says of an extended attribute: its value, or the errno.
fn attributes(call: &str) -> String {
    let script = format!(
        "import os\ntry:\n    print(os.{call})\nexcept OSError as error:\n    print(error.errno)"
    );
    let said = crate::scene::run(Command::new("python3").args(["-c", &script]));
    assert_eq!(said.code, 0, "{said:?}");
    said.out.trim().to_owned()
}

#[test]
fn attributes_and_targets_are_not_told_while_locked() {
    let test = "attributes_and_targets_are_not_told_while_locked";
    if !crate::scene::parts::are_here(test, &["python3"], "apt-get install python3") {
        return;
    }
    let scene = Scene::new();
    let link = libc::S_IFLNK | 0o777;
    let link = s3mfa_sandbox::PutOptions::new().metadata("mode", link.to_string());
    scene.bucket.put_with("link", "the/target", link);
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--prompt-cooldown", "3600", "--metadata-ttl", "60"]);
    let (path, link) = (mount.file("f"), mount.file("link"));
    attributes(&format!("setxattr({path:?}, 'user.color', b'secret')"));
    // The kernel needs no name of what is open.
    let open = fs::File::open(&path).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&open);
    let at = format!("/proc/{}/fd/{number}", std::process::id());
    let value = || attributes(&format!("getxattr({at:?}, 'user.color')"));
    let names = || attributes(&format!("listxattr({at:?})"));
    let told = || {
        assert_eq!(
            (value(), names()),
            ("b'secret'".to_owned(), "['user.color']".to_owned())
        );
        assert_eq!(fs::read_link(&link).unwrap().to_str(), Some("the/target"));
    };
    told();

    assert_eq!(scene.control(&["lock"]).code, 0);
    // Asking for an attribute asks nobody for a code.
    let refused = libc::EKEYEXPIRED.to_string();
    assert_eq!((value(), names()), (refused.clone(), refused));
    assert_eq!(attributes(&format!("listxattr({:?})", mount.path())), "[]");
    assert_eq!(scene.pinentry.asked(), 1);
    let refusing = scene.pinentry.answer_next("cancel".to_owned());
    assert_eq!(errno(fs::read_link(&link)), libc::EKEYEXPIRED);
    refusing.join().unwrap();

    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(scene.control(&["renew"]).code, 0);
    answering.join().unwrap();
    told();
}
