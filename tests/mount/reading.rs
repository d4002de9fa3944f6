//! Listing and reading through a mount.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::scene::{Scene, errno, noise};

#[test]
fn a_tree_shows_as_it_is_and_reads_byte_for_byte() {
    let scene = Scene::new();
    let big = noise(1, 3 * 1024 * 1024 + 17);
    scene.bucket.put("hello.txt", "hello\n");
    scene.bucket.put("big.bin", big.clone());
    scene.bucket.put("empty", "");
    scene.bucket.put("dir/sub/deep.txt", "deep");
    scene.bucket.put("marker/", "");
    let mount = scene.mount(&[]);

    let mut names: Vec<String> = fs::read_dir(mount.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["big.bin", "dir", "empty", "hello.txt", "marker"]);
    assert_eq!(
        fs::read_to_string(mount.file("hello.txt")).unwrap(),
        "hello\n"
    );
    assert_eq!(fs::read(mount.file("empty")).unwrap(), b"");
    assert!(fs::read(mount.file("big.bin")).unwrap() == big);
    assert_eq!(
        fs::read_to_string(mount.file("dir/sub/deep.txt")).unwrap(),
        "deep"
    );
    assert_eq!(fs::read_dir(mount.file("marker")).unwrap().count(), 0);

    let about = fs::metadata(mount.file("big.bin")).unwrap();
    assert_eq!((about.len(), about.mode()), (big.len() as u64, 0o100_644));
    assert!(fs::metadata(mount.file("dir")).unwrap().is_dir());
    assert_eq!(errno(fs::metadata(mount.file("absent"))), libc::ENOENT);
    assert_eq!(
        errno(fs::metadata(mount.file("hello.txt/x"))),
        libc::ENOTDIR
    );
    let long = "x".repeat(256);
    assert_eq!(errno(fs::metadata(mount.file(&long))), libc::ENAMETOOLONG);
    assert_eq!(scene.pinentry.asked(), 1);
}

#[test]
fn random_reads_are_right_and_fetch_little() {
    let scene = Scene::new();
    let big = noise(2, 64 * 1024 * 1024);
    scene.bucket.put("big.bin", big.clone());
    let mount = scene.mount(&[]);
    let file = fs::File::open(mount.file("big.bin")).unwrap();
    // The kernel's own read-ahead is switched off, as a database would.
    let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_RANDOM;
    nix::fcntl::posix_fadvise(&file, 0, 0, advice).unwrap();
    scene.sandbox.reset_counts();
    let mut at = 12_345_u64;
    for _ in 0..50 {
        at = (at * 7919 + 104_729) % (big.len() as u64 - 5000);
        let mut bytes = [0; 5000];
        file.read_exact_at(&mut bytes, at).unwrap();
        let start = usize::try_from(at).unwrap();
        assert!(bytes[..] == big[start..start + 5000], "at {at}");
    }
    let served = scene.sandbox.counts().bytes_served();
    assert!(
        served < 50 * 200 * 1024,
        "{served} bytes for 50 reads of 5,000"
    );
}

#[test]
fn reads_across_pages_and_behind_the_end_are_right() {
    let scene = Scene::new();
    let big = noise(3, 2 * 1024 * 1024 + 100);
    scene.bucket.put("big.bin", big.clone());
    let mount = scene.mount(&[]);
    let mut file = fs::File::open(mount.file("big.bin")).unwrap();
    let mut bytes = vec![0; 1 << 20];
    file.seek(SeekFrom::Start(500_000)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    assert!(bytes[..] == big[500_000..500_000 + (1 << 20)]);
    file.seek(SeekFrom::Start(big.len() as u64 - 10)).unwrap();
    assert_eq!(file.read(&mut bytes).unwrap(), 10);
    assert_eq!(file.read(&mut bytes).unwrap(), 0);
    file.seek(SeekFrom::Start(1 << 40)).unwrap();
    assert_eq!(file.read(&mut bytes).unwrap(), 0);
}

#[test]
fn a_prefix_is_a_root_of_its_own() {
    let scene = Scene::new();
    scene.bucket.put("reports/2026/a.txt", "a");
    scene.bucket.put("other", "o");
    let path = scene.mountpoint("mnt");
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let mount = crate::scene::Mount::start(&scene, "s3://docs/reports", &path, &[]);
    mount.wait_until_mounted();
    answering.join().unwrap();
    assert_eq!(fs::read_to_string(mount.file("2026/a.txt")).unwrap(), "a");
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_somebody_changes_under_a_reader_is_stale_and_never_mixed() {
    let scene = Scene::new();
    let (old, new) = (noise(4, 8 << 20), noise(5, 8 << 20));
    scene.bucket.put("f", old.clone());
    let mount = scene.mount(&["--memory-limit", "4MiB"]);
    let file = fs::File::open(mount.file("f")).unwrap();
    let mut bytes = vec![0; 4096];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[..] == old[..4096]);
    scene.bucket.put("f", new.clone());
    assert_eq!(errno(file.read_at(&mut bytes, 7 << 20)), libc::ESTALE);
    assert!(fs::read(mount.file("f")).unwrap() == new, "opened anew");
}

#[test]
fn a_read_only_mount_writes_nothing() {
    let scene = Scene::new();
    scene.bucket.put("f", "f");
    let mount = scene.mount(&["--read-only"]);
    let file = mount.file("f");
    assert_eq!(errno(fs::write(&file, "x")), libc::EROFS);
    assert_eq!(errno(fs::File::create(mount.file("new"))), libc::EROFS);
    assert_eq!(errno(fs::remove_file(&file)), libc::EROFS);
    assert_eq!(errno(fs::create_dir(mount.file("d"))), libc::EROFS);
    assert_eq!(errno(fs::rename(&file, mount.file("g"))), libc::EROFS);
    assert_eq!(fs::read_to_string(file).unwrap(), "f");
    assert!(
        !scene.home().join(".local").exists(),
        "not even on the local disk"
    );
}

#[test]
fn two_handles_on_different_versions_never_share_bytes() {
    let scene = Scene::new();
    let (old, new) = (noise(6, 1 << 20), noise(7, 1 << 20));
    scene.bucket.put("f", old.clone());
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let first = fs::File::open(mount.file("f")).unwrap();
    let mut bytes = vec![0; 4096];
    first.read_exact_at(&mut bytes, 0).unwrap();
    scene.bucket.put("f", new.clone());
    let second = fs::File::open(mount.file("f")).unwrap();
    for at in [0_u64, 512 << 10] {
        second.read_exact_at(&mut bytes, at).unwrap();
        let start = usize::try_from(at).unwrap();
        assert!(bytes[..] == new[start..start + 4096]);
        assert_eq!(errno(first.read_at(&mut bytes, at)), libc::ESTALE);
    }
    second.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[..] == new[..4096]);
}
