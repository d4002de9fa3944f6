//! What others say of an object outlives whatever is done to it here.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use s3mfa_sandbox::PutOptions;

use crate::scene::{Scene, errno, noise};

/// What is done to a file, and the name that it has then.
type Change = fn(&Path) -> &'static str;

/// What is put, as it is told.
const EXPIRES: &str = "Wed, 21 Oct 2037 07:28:00 GMT";

const CHANGES: [Change; 4] = [
    |path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        "d/f"
    },
    |path| {
        let file = OpenOptions::new().append(true).open(path);
        file.unwrap().write_all(b"more").unwrap();
        "d/f"
    },
    |path| {
        fs::rename(path, path.with_file_name("g")).unwrap();
        "d/g"
    },
    |path| {
        let directory = path.parent().unwrap();
        fs::rename(directory, directory.with_file_name("e")).unwrap();
        "e/f"
    },
];

#[test]
fn expiry_and_redirects_outlive_every_change() {
    let scene = Scene::new();
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let expires = UNIX_EPOCH + Duration::from_secs(2_139_722_880);
    let told = || {
        PutOptions::new()
            .content_type("text/x-mine")
            .content_encoding("identity")
            .expires(expires)
            .website_redirect("/other")
            .metadata("mine", "v")
    };
    for change in CHANGES {
        for size in [4, 12 << 20, 20 << 20] {
            scene.bucket.put_with("d/f", noise(1, size), told());
            scene.bucket.put_with("d/", "", told());
            let key = change(&mount.file("d/f"));
            let directory = key.split_once('/').unwrap().0;
            for key in [key.to_owned(), format!("{directory}/")] {
                let object = scene.bucket.object(&key).unwrap();
                assert_eq!(object.expires.as_deref(), Some(EXPIRES), "{key} of {size}");
                assert_eq!(object.website_redirect.as_deref(), Some("/other"), "{key}");
                assert_eq!(object.content_encoding.as_deref(), Some("identity"));
                assert_eq!(object.content_type, "text/x-mine");
                assert_eq!(object.metadata["mine"], "v");
            }
            fs::remove_dir_all(mount.file(directory)).unwrap();
        }
    }
}

/// Metadata that leaves this many bytes of the 2,048 that S3 has for it.
fn all_but(left: usize) -> BTreeMap<String, String> {
    let value = "v".repeat(2048 - 2 * "someone-1".len() - 1000 - left);
    [
        ("someone-1".to_owned(), "w".repeat(1000)),
        ("someone-2".to_owned(), value),
    ]
    .into()
}

#[test]
fn metadata_of_others_leaves_this_program_less_room_and_no_file_unusable() {
    let scene = Scene::new();
    let mut mount = scene.mount(&["--metadata-ttl", "0"]);
    for left in [0, 20, 60, 100] {
        let others = all_but(left);
        let options = || {
            let options =
                PutOptions::new().modified(UNIX_EPOCH + Duration::from_secs(1_577_836_800));
            others
                .iter()
                .fold(options, |o, (name, value)| o.metadata(name, value))
        };
        let is_kept = |key: &str| {
            let now = scene.bucket.metadata(key).unwrap();
            assert!(
                others
                    .iter()
                    .all(|(name, value)| now.get(name) == Some(value)),
                "{key} with {left} bytes left: {:?}",
                now.keys()
            );
        };
        for change in &CHANGES[1..] {
            for size in [4, 20 << 20] {
                scene.bucket.put_with("d/f", noise(1, size), options());
                scene.bucket.put_with("d/", "", options());
                let key = change(&mount.file("d/f"));
                is_kept(key);
                let directory = key.split_once('/').unwrap().0;
                is_kept(&format!("{directory}/"));
                fs::remove_dir_all(mount.file(directory)).unwrap();
            }
        }
        // What somebody asks for is done, or is an error: `mode33152` are nine bytes.
        scene.bucket.put_with("f", "f", options());
        scene.bucket.put_with("d/", "", options());
        for (name, key) in [("f", "f"), ("d", "d/")] {
            let changed = fs::set_permissions(mount.file(name), fs::Permissions::from_mode(0o700));
            is_kept(key);
            if left < 9 {
                assert_eq!(errno(changed), libc::ENOSPC);
            } else {
                changed.unwrap();
                let found = fs::metadata(mount.file(name)).unwrap();
                assert_eq!(
                    found.mode() & 0o7777,
                    0o700,
                    "{name} with {left} bytes left"
                );
            }
        }
    }
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
}
