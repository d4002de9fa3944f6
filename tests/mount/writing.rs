//! What is written is stored, and reads back.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use crate::scene::{Scene, errno, noise};

#[test]
fn a_file_that_is_closed_is_an_object() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    fs::write(mount.file("a.txt"), "hello").unwrap();
    assert_eq!(scene.bucket.get("a.txt").unwrap(), "hello");
    assert_eq!(fs::read(mount.file("a.txt")).unwrap(), b"hello");
    assert_eq!(
        scene.bucket.object("a.txt").unwrap().content_type,
        "text/plain"
    );
    // Empty ones, too.
    File::create(mount.file("empty")).unwrap();
    assert_eq!(scene.bucket.get("empty").unwrap().len(), 0);
    // Again, shorter.
    fs::write(mount.file("a.txt"), "hi").unwrap();
    assert_eq!(scene.bucket.get("a.txt").unwrap(), "hi");
    let mut names: Vec<_> = fs::read_dir(mount.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a.txt", "empty"]);
}

#[test]
fn writes_land_at_their_offsets() {
    let scene = Scene::new();
    scene.bucket.put("f", "0123456789");
    let mount = scene.mount(&[]);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.file("f"))
        .unwrap();
    file.write_all_at(b"ab", 3).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "012ab56789");
    file.set_len(4).unwrap();
    file.set_len(6).unwrap();
    file.write_all_at(b"z", 9).unwrap();
    drop(file);
    assert_eq!(scene.bucket.get("f").unwrap(), "012a\0\0\0\0\0z");
    let mut file = OpenOptions::new()
        .append(true)
        .open(mount.file("f"))
        .unwrap();
    file.write_all(b"end").unwrap();
    drop(file);
    assert_eq!(scene.bucket.get("f").unwrap(), "012a\0\0\0\0\0zend");
    // By name.
    File::options()
        .write(true)
        .open(mount.file("f"))
        .unwrap()
        .set_len(2)
        .unwrap();
    assert_eq!(scene.bucket.get("f").unwrap(), "01");
    assert_eq!(fs::metadata(mount.file("f")).unwrap().len(), 2);
}

#[test]
fn a_large_file_goes_in_parts_and_only_what_changed_goes_again() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    let bytes = noise(7, 100 << 20);
    fs::write(mount.file("big"), &bytes).unwrap();
    assert!(scene.bucket.get("big").unwrap() == bytes);
    assert!(scene.bucket.etag("big").unwrap().contains('-'));
    let before = scene.sandbox.counts().bytes_received();
    let file = OpenOptions::new()
        .write(true)
        .open(mount.file("big"))
        .unwrap();
    file.write_all_at(b"changed", 50 << 20).unwrap();
    drop(file);
    let mut expected = bytes;
    expected[50 << 20..(50 << 20) + 7].copy_from_slice(b"changed");
    assert!(scene.bucket.get("big").unwrap() == expected);
    let sent = scene.sandbox.counts().bytes_received() - before;
    assert!(sent < 20 << 20, "{sent} bytes for a change of seven");
    assert!(fs::read(mount.file("big")).unwrap() == expected);
    assert!(scene.bucket.uploads().is_empty());
}

#[test]
fn names_come_and_go() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    fs::create_dir_all(mount.file("d/e")).unwrap();
    fs::write(mount.file("d/e/f"), "1").unwrap();
    assert_eq!(errno(fs::remove_dir(mount.file("d/e"))), libc::ENOTEMPTY);
    fs::rename(mount.file("d/e/f"), mount.file("d/g")).unwrap();
    assert_eq!(scene.bucket.get("d/g").unwrap(), "1");
    assert!(scene.bucket.get("d/e/f").is_none());
    assert_eq!(fs::read_to_string(mount.file("d/g")).unwrap(), "1");
    fs::remove_dir(mount.file("d/e")).unwrap();
    fs::rename(mount.file("d"), mount.file("h")).unwrap();
    assert_eq!(fs::read_to_string(mount.file("h/g")).unwrap(), "1");
    assert_eq!(scene.bucket.keys(), ["h/", "h/g"]);
    fs::remove_file(mount.file("h/g")).unwrap();
    assert!(mount.file("h").is_dir(), "an emptied directory stays");
    fs::remove_dir(mount.file("h")).unwrap();
    assert!(scene.bucket.keys().is_empty());
    assert_eq!(
        errno(fs::hard_link(mount.path(), mount.file("x"))),
        libc::EPERM
    );
}

#[test]
fn attributes_and_links_outlive_a_remount() {
    let scene = Scene::new();
    let mut mount = scene.mount(&[]);
    fs::write(mount.file("f"), "x").unwrap();
    fs::set_permissions(mount.file("f"), fs::Permissions::from_mode(0o600)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_600_000_000, 123_456_789);
    File::options()
        .write(true)
        .open(mount.file("f"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    symlink("f", mount.file("l")).unwrap();
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
    let mount = scene.mount(&[]);
    let found = fs::metadata(mount.file("f")).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_eq!(found.modified().unwrap(), time);
    assert_eq!(fs::read_link(mount.file("l")).unwrap().to_str(), Some("f"));
    assert_eq!(fs::read_to_string(mount.file("l")).unwrap(), "x");
    let metadata = scene.bucket.metadata("f").unwrap();
    assert_eq!(metadata["mode"], "33152");
    assert_eq!(metadata["mtime"], "1600000000.123456789");
}

#[test]
fn a_file_without_a_name_is_read_and_written_until_it_is_closed() {
    let scene = Scene::new();
    scene.bucket.put("f", "before");
    let mount = scene.mount(&[]);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.file("f"))
        .unwrap();
    fs::remove_file(mount.file("f")).unwrap();
    assert!(scene.bucket.get("f").is_none());
    file.write_all_at(b"B", 0).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "Before");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.sync_all().unwrap();
    drop(file);
    assert!(scene.bucket.get("f").is_none(), "nothing is resurrected");
    assert_eq!(errno(fs::metadata(mount.file("f"))), libc::ENOENT);
}

#[test]
fn a_program_that_is_started_meanwhile_stores_nothing() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    let mut file = File::create(mount.file("f")).unwrap();
    file.write_all(b"half").unwrap();
    // It has the file open until it is executed, and closes it then.
    assert!(
        std::process::Command::new("true")
            .status()
            .unwrap()
            .success()
    );
    assert!(scene.bucket.get("f").is_none());
    file.write_all(b" and half").unwrap();
    drop(file);
    assert_eq!(scene.bucket.get("f").unwrap(), "half and half");
    assert_eq!(scene.bucket.history_of("f").len(), 1);
    // One that was started to write it does.
    let file = File::create(mount.file("g")).unwrap();
    let echo = std::process::Command::new("echo")
        .arg("g")
        .stdout(file)
        .status();
    assert!(echo.unwrap().success());
    assert_eq!(scene.bucket.get("g").unwrap(), "g\n");
}

#[test]
fn a_mapping_that_is_changed_is_stored() {
    let scene = Scene::new();
    scene.bucket.put("f", noise(8, 300_000));
    let mount = scene.mount(&[]);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.file("f"))
        .unwrap();
    // SAFETY: nobody else changes the file, and it is unmapped below.
    #[allow(unsafe_code)]
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            300_000,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            std::os::fd::AsRawFd::as_raw_fd(&file),
            0,
        )
    };
    assert_ne!(mapped, libc::MAP_FAILED);
    let mut expected = noise(8, 300_000);
    expected[200_000] ^= 0xff;
    // SAFETY: within the mapping.
    #[allow(unsafe_code)]
    unsafe {
        *mapped.cast::<u8>().add(200_000) ^= 0xff;
        assert_eq!(libc::msync(mapped, 300_000, libc::MS_SYNC), 0);
    }
    assert!(scene.bucket.get("f").unwrap() == expected, "msync stores");
    drop(file);
    // After the last close, only the mapping has it open.
    expected[1] ^= 0xff;
    // SAFETY: within the mapping, which nobody uses afterwards.
    #[allow(unsafe_code)]
    unsafe {
        *mapped.cast::<u8>().add(1) ^= 0xff;
        libc::munmap(mapped, 300_000);
    }
    crate::scene::wait_until("the upload", || scene.bucket.get("f").unwrap() == expected);
}

#[test]
fn a_file_that_is_emptied_at_open_is_stored_when_it_is_closed() {
    let scene = Scene::new();
    scene.bucket.put("f", "before");
    let mount = scene.mount(&[]);
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(mount.file("f"))
        .unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    file.write_all(b"after").unwrap();
    assert_eq!(scene.bucket.get("f").unwrap(), "before");
    drop(file);
    assert_eq!(scene.bucket.get("f").unwrap(), "after");
    assert_eq!(scene.bucket.history_of("f").len(), 1);
}
