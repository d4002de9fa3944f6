//! What the CLI has put, the mount shows.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use crate::place::Place;
use crate::scene::{errno, noise};
use crate::written::ODD;

on_each_server! {
    objects_of_the_cli_are_files,
    pieces_are_read_where_they_are,
    what_the_cli_changes_is_seen,
}

fn objects_of_the_cli_are_files(place: &Place) {
    let large = noise(2, 20 << 20);
    place.put("large.bin", &large);
    let attributes = json!({
        "mode": "33152", "mtime": "1600000000.5", "uid": "1234", "gid": "5678",
    });
    let extra = json!({"Metadata": attributes, "ContentType": "text/x-mine"});
    place.put_with("kept.txt", b"kept", &extra);
    place.put(ODD, b"odd");
    place.put("a/b/c.txt", b"deep");
    place.put("empty", b"");
    place.mark("made/");

    let mount = place.mount();
    let mut names: Vec<_> = fs::read_dir(mount.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut expected = ["a", "empty", "kept.txt", "large.bin", "made", ODD];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(fs::read(mount.file("large.bin")).unwrap() == large);
    assert_eq!(fs::read(mount.file(ODD)).unwrap(), b"odd");
    assert_eq!(fs::read(mount.file("a/b/c.txt")).unwrap(), b"deep");
    assert_eq!(fs::metadata(mount.file("empty")).unwrap().len(), 0);
    assert!(mount.file("made").is_dir());
    assert_eq!(errno(fs::metadata(mount.file("absent"))), libc::ENOENT);

    let kept = mount.file("kept.txt");
    assert_eq!(fs::read(&kept).unwrap(), b"kept");
    let about = fs::metadata(&kept).unwrap();
    assert_eq!(about.mode(), 0o100_600);
    assert_eq!((about.uid(), about.gid()), (1234, 5678));
    assert_eq!(
        about.modified().unwrap(),
        UNIX_EPOCH + Duration::from_millis(1_600_000_000_500)
    );
    // What somebody has set stays when the file changes.
    fs::write(&kept, "changed").unwrap();
    let (found, head) = place.get_all("kept.txt");
    assert_eq!(found, b"changed");
    assert_eq!(head["ContentType"], "text/x-mine", "{head}");
    assert_eq!(head["Metadata"]["mode"], "33152", "{head}");
}

fn pieces_are_read_where_they_are(place: &Place) {
    let large = noise(8, 20 << 20);
    place.put("large.bin", &large);
    let mount = place.mount();
    let file = fs::File::open(mount.file("large.bin")).unwrap();
    let end = large.len();
    for (at, length) in [
        (end - 1, 1),
        (12_345_678, 100_000),
        (0, 1),
        ((8 << 20) - 5, 10),
        (end - 4096, 4096),
        (1, 3 << 20),
    ] {
        let mut some = vec![0; length];
        file.read_exact_at(&mut some, at as u64).unwrap();
        assert!(some == large[at..][..length], "{length} bytes at {at}");
    }
    assert_eq!(file.read_at(&mut [0; 10], end as u64).unwrap(), 0);
    assert_eq!(file.read_at(&mut [0; 10], end as u64 - 3).unwrap(), 3);
}

fn what_the_cli_changes_is_seen(place: &Place) {
    place.put("f", b"first");
    let mount = place.mount_with(&["--credentials", "plain", "--metadata-ttl", "0"]);
    assert_eq!(fs::read(mount.file("f")).unwrap(), b"first");
    place.put("f", b"the second one");
    assert_eq!(fs::read(mount.file("f")).unwrap(), b"the second one");
    place.put("g", b"new");
    assert_eq!(fs::read(mount.file("g")).unwrap(), b"new");
    place.remove("f");
    assert_eq!(errno(fs::read(mount.file("f"))), libc::ENOENT);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
}
