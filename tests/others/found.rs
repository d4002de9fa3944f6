//! What the CLI has put, the mount shows.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, UNIX_EPOCH};

use crate::place::Place;
use crate::scene::{errno, noise};
use crate::written::ODD;

on_each_server! {
    objects_of_the_cli_are_files,
    what_the_cli_changes_is_seen,
}

fn objects_of_the_cli_are_files(place: &Place) {
    let large = noise(2, 20 << 20);
    place.put("large.bin", &large, &[]);
    let attributes = "mode=33152,mtime=1600000000.5,uid=1234,gid=5678";
    place.put(
        "kept.txt",
        b"kept",
        &["--metadata", attributes, "--content-type", "text/x-mine"],
    );
    place.put(ODD, b"odd", &[]);
    place.put("a/b/c.txt", b"deep", &[]);
    place.put("empty", b"", &[]);
    place.aws(&[
        "s3api",
        "put-object",
        "--bucket",
        &place.bucket,
        "--key",
        "made/",
    ]);

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
    let mut some = vec![0; 100_000];
    let file = fs::File::open(mount.file("large.bin")).unwrap();
    file.read_exact_at(&mut some, 12_345_678).unwrap();
    assert!(some == large[12_345_678..][..100_000]);
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

fn what_the_cli_changes_is_seen(place: &Place) {
    place.put("f", b"first", &[]);
    let mount = place.mount_with(&["--credentials", "plain", "--metadata-ttl", "0"]);
    assert_eq!(fs::read(mount.file("f")).unwrap(), b"first");
    place.put("f", b"the second one", &[]);
    assert_eq!(fs::read(mount.file("f")).unwrap(), b"the second one");
    place.put("g", b"new", &[]);
    assert_eq!(fs::read(mount.file("g")).unwrap(), b"new");
    place.aws(&[
        "s3api",
        "delete-object",
        "--bucket",
        &place.bucket,
        "--key",
        "f",
    ]);
    assert_eq!(errno(fs::read(mount.file("f"))), libc::ENOENT);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
}
