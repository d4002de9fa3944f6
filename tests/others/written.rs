//! What is written through the mount, the CLI reads.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::place::Place;
use crate::scene::noise;

on_each_server! {
    every_kind_of_object_is_read_by_the_cli,
    attributes_links_and_directories_are_kept_as_others_keep_them,
}

/// A name with all that URLs, signatures and XML trip over.
pub const ODD: &str = "Größe & Maß – 1+1=2? #%41 (copy) 'x' \"y\" <z>.txt";

fn every_kind_of_object_is_read_by_the_cli(place: &Place) {
    let mount = place.mount();
    let large = noise(1, 20 << 20);
    let files: [(&str, &[u8], &str); 5] = [
        ("small.txt", b"hello\n", "text/plain"),
        ("empty.json", b"", "application/json"),
        ("large.bin", &large, "application/octet-stream"),
        (ODD, b"odd", "text/plain"),
        ("unknown", b"?", "application/octet-stream"),
    ];
    for (name, bytes, _) in files {
        fs::write(mount.file(name), bytes).unwrap();
    }
    let mut names = files.map(|(name, ..)| name.to_owned());
    names.sort();
    assert_eq!(place.keys(), names);
    for (name, bytes, content_type) in files {
        let (found, head) = place.get_all(name);
        assert!(found == bytes, "{name}");
        assert_eq!(head["ContentType"], content_type, "{name}: {head}");
        assert_eq!(head["ContentLength"], bytes.len(), "{name}: {head}");
        assert!(head.get("ContentEncoding").is_none(), "{name}: {head}");
    }
    // And this side still sees it as it is.
    for (name, bytes, _) in files {
        assert!(fs::read(mount.file(name)).unwrap() == bytes, "{name}");
    }
    let (_, head) = place.get_all("large.bin");
    let tag = head["ETag"].as_str().unwrap();
    assert!(
        tag.trim_matches('"').ends_with("-3"),
        "in three parts: {head}"
    );
}

fn attributes_links_and_directories_are_kept_as_others_keep_them(place: &Place) {
    let time = UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    {
        let mut mount = place.mount();
        let path = mount.file("f.txt");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"x").unwrap();
        drop(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let owned = nix::unistd::geteuid().is_root();
        if owned {
            chown(&path, Some(1234), Some(5678)).unwrap();
        }
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
        fs::create_dir(mount.file("d")).unwrap();
        fs::set_permissions(mount.file("d"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("f.txt", mount.file("l")).unwrap();

        assert_eq!(place.keys(), ["d/", "f.txt", "l"]);
        let (found, head) = place.get_all("f.txt");
        assert_eq!(found, b"x");
        let metadata = &head["Metadata"];
        assert_eq!(metadata["mode"], 0o100_640.to_string(), "{head}");
        assert_eq!(metadata["mtime"], "1600000000.123456789", "{head}");
        if owned {
            assert_eq!(
                (&metadata["uid"], &metadata["gid"]),
                (&"1234".into(), &"5678".into())
            );
        }
        assert_eq!(head["ContentType"], "text/plain", "{head}");
        let (_, head) = place.get_all("d/");
        assert_eq!(head["Metadata"]["mode"], 0o040_700.to_string(), "{head}");
        assert_eq!(head["ContentType"], "application/x-directory", "{head}");
        assert_eq!(head["ContentLength"], 0, "{head}");
        let (target, head) = place.get_all("l");
        assert_eq!(head["Metadata"]["mode"], 0o120_777.to_string(), "{head}");
        assert_eq!(target, b"f.txt");
        mount.signal(libc::SIGTERM);
        assert!(mount.wait().success(), "{}", mount.log());
    }
    let mount = place.mount();
    let about = fs::metadata(mount.file("f.txt")).unwrap();
    assert_eq!(about.permissions().mode() & 0o7777, 0o640);
    assert_eq!(about.modified().unwrap(), time);
    assert_eq!(
        fs::metadata(mount.file("d")).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    assert_eq!(
        fs::read_link(mount.file("l")).unwrap().to_str(),
        Some("f.txt")
    );
    assert!(about.modified().unwrap() < SystemTime::now());
}
