//! Renames, deletes, appends, overwrites.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::place::{Place, close};
use crate::scene::{errno, noise};
use crate::written::ODD;

on_each_server! {
    names_change,
    contents_change,
    contents_of_large_files_change,
    a_save_that_renames_over_the_old_file,
}

fn names_change(place: &Place) {
    let mount = place.mount();
    let large = noise(3, 20 << 20);
    fs::create_dir_all(mount.file("d/e")).unwrap();
    fs::write(mount.file("d/e/f"), "f").unwrap();
    fs::write(mount.file("d/large"), &large).unwrap();
    fs::write(mount.file("plain"), "plain").unwrap();
    fs::rename(mount.file("plain"), mount.file(ODD)).unwrap();
    fs::rename(mount.file(ODD), mount.file("d/odd")).unwrap();
    assert_eq!(place.keys(), ["d/", "d/e/", "d/e/f", "d/large", "d/odd"]);
    fs::rename(mount.file("d"), mount.file("moved")).unwrap();
    assert_eq!(
        place.keys(),
        [
            "moved/",
            "moved/e/",
            "moved/e/f",
            "moved/large",
            "moved/odd"
        ]
    );
    assert!(place.get("moved/large") == large);
    assert_eq!(place.get("moved/odd"), b"plain");
    assert_eq!(fs::read(mount.file("moved/e/f")).unwrap(), b"f");
    assert!(fs::read(mount.file("moved/large")).unwrap() == large);
    assert_eq!(errno(fs::remove_dir(mount.file("moved"))), libc::ENOTEMPTY);
    fs::remove_file(mount.file("moved/e/f")).unwrap();
    assert!(mount.file("moved/e").is_dir(), "an emptied directory stays");
    fs::remove_dir(mount.file("moved/e")).unwrap();
    fs::remove_dir_all(mount.file("moved")).unwrap();
    assert!(place.keys().is_empty(), "{:?}", place.keys());
    // Gone with somebody still reading and writing.
    fs::write(mount.file("open"), "open").unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.file("open"))
        .unwrap();
    fs::remove_file(mount.file("open")).unwrap();
    file.write_all_at(b"O", 0).unwrap();
    let mut text = [0; 4];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"Open");
    drop(file);
    assert!(place.keys().is_empty(), "{:?}", place.keys());
}

fn contents_change(place: &Place) {
    let mount = place.mount();
    let small = mount.file("small");
    let appending = || OpenOptions::new().append(true).open(&small).unwrap();
    let writing = || OpenOptions::new().write(true).open(&small).unwrap();
    fs::write(&small, "0123456789").unwrap();
    let mut file = appending();
    file.write_all(b"abc").unwrap();
    assert_eq!(close(file), 0);
    assert_eq!(place.get("small"), b"0123456789abc");
    let file = writing();
    file.write_all_at(b"xy", 3).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(b"z", 0).unwrap();
    assert_eq!(close(file), 0);
    assert_eq!(place.get("small"), b"z12xy56789abc");
    let file = writing();
    file.set_len(5).unwrap();
    assert_eq!(close(file), 0);
    assert_eq!(place.get("small"), b"z12xy");
    fs::write(&small, "new").unwrap();
    fs::write(&small, "").unwrap();
    assert_eq!(place.get("small"), b"");
}

fn contents_of_large_files_change(place: &Place) {
    let mount = place.mount();
    let mut large = noise(4, 40 << 20);
    let path = mount.file("large");
    let opened = || File::options().read(true).write(true).open(&path).unwrap();
    fs::write(&path, &large).unwrap();
    let file = opened();
    file.write_all_at(b"in the middle", 20 << 20).unwrap();
    large[20 << 20..][..13].copy_from_slice(b"in the middle");
    let mut some = [0; 20];
    file.read_exact_at(&mut some, (20 << 20) - 4).unwrap();
    assert!(
        some == large[(20 << 20) - 4..][..20],
        "it reads what it wrote"
    );
    assert_eq!(close(file), 0, "{}", mount.log());
    assert!(place.get("large") == large);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"at the end").unwrap();
    assert_eq!(close(file), 0, "{}", mount.log());
    large.extend_from_slice(b"at the end");
    assert!(place.get("large") == large);
    let file = opened();
    file.set_len(21 << 20).unwrap();
    assert_eq!(close(file), 0, "{}", mount.log());
    large.truncate(21 << 20);
    // Copied by the server, as far as it can.
    let mut copy = File::create(mount.file("copy")).unwrap();
    std::io::copy(&mut File::open(&path).unwrap(), &mut copy).unwrap();
    assert_eq!(close(copy), 0, "{}", mount.log());
    assert!(place.get("copy") == large);
    assert!(fs::read(mount.file("copy")).unwrap() == large);
}

fn a_save_that_renames_over_the_old_file(place: &Place) {
    let mount = place.mount();
    for text in ["first", "second", "third"] {
        let (temporary, report) = (mount.file("report.tmp"), mount.file("report.txt"));
        let mut file = File::create_new(&temporary).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::rename(&temporary, &report).unwrap();
        let (found, head) = place.get_all("report.txt");
        assert_eq!(found, text.as_bytes());
        assert_eq!(head["ContentType"], "text/plain", "{head}");
        assert_eq!(fs::read(&report).unwrap(), text.as_bytes());
    }
    assert_eq!(place.keys(), ["report.txt"]);
}
