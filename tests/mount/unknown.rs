//! Stores that do not tell everything: sizes, ETags and dates that are left out or cannot be read.
//!
//! What was not told is found out in another way, or is an error: nothing is ever taken for empty,
//! and nothing is replaced by less than it was.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use s3mfa_sandbox::Habit;

use crate::scene::{Mount, Scene, errno, noise};

/// A bucket whose store has some habits from the start.
fn scene(habits: &[Habit]) -> Scene {
    let scene = Scene::new();
    for habit in habits {
        scene.sandbox.habits().adopt(*habit);
    }
    scene
}

/// Does with files what people do, small and large, and looks at what is in the bucket then.
fn everything_is_as_ever(scene: &Scene) {
    let large = noise(3, 20 << 20);
    for key in [
        "read", "append", "poke", "grow", "old", "mode", "gone", "dir/a", "dir/b",
    ] {
        scene.bucket.put(key, "precious");
    }
    for key in ["large", "large-mode", "large-old"] {
        scene.bucket.put(key, large.clone());
    }
    scene.bucket.put("empty", "");
    let mount = scene.mount(&[]);
    let file = |name: &str| mount.file(name);

    assert_eq!(fs::metadata(file("read")).unwrap().len(), 8);
    assert_eq!(fs::read_to_string(file("read")).unwrap(), "precious");
    assert_eq!(fs::metadata(file("empty")).unwrap().len(), 0);
    assert_eq!(fs::read_to_string(file("empty")).unwrap(), "");
    let listed: Vec<(String, u64)> = fs::read_dir(file("dir"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let size = entry.metadata().unwrap().len();
            (entry.file_name().into_string().unwrap(), size)
        })
        .collect();
    assert_eq!(listed, [("a".to_owned(), 8), ("b".to_owned(), 8)]);

    let mut append = OpenOptions::new()
        .append(true)
        .open(file("append"))
        .unwrap();
    append.write_all(b"+more").unwrap();
    append.sync_all().unwrap();
    drop(append);
    assert_eq!(scene.bucket.get("append").unwrap(), "precious+more");

    let poke = OpenOptions::new().write(true).open(file("poke")).unwrap();
    poke.write_all_at(b"P", 0).unwrap();
    poke.sync_all().unwrap();
    assert_eq!(scene.bucket.get("poke").unwrap(), "Precious");

    let poke = OpenOptions::new().write(true).open(file("large")).unwrap();
    poke.write_all_at(b"P", 100).unwrap();
    poke.sync_all().unwrap();
    let mut changed = large.clone();
    changed[100] = b'P';
    assert!(scene.bucket.get("large").unwrap() == changed);

    let grow = OpenOptions::new().write(true).open(file("grow")).unwrap();
    grow.set_len(10).unwrap();
    grow.sync_all().unwrap();
    assert_eq!(scene.bucket.get("grow").unwrap(), "precious\0\0");

    fs::rename(file("old"), file("new")).unwrap();
    fs::rename(file("large-old"), file("large-new")).unwrap();
    fs::rename(file("dir"), file("directory")).unwrap();
    assert_eq!(scene.bucket.get("new").unwrap(), "precious");
    assert!(scene.bucket.get("large-new").unwrap() == large);
    assert_eq!(scene.bucket.get("directory/a").unwrap(), "precious");
    assert_eq!(scene.bucket.get("directory/b").unwrap(), "precious");
    assert!(scene.bucket.get("old").is_none() && scene.bucket.get("dir/a").is_none());

    for name in ["mode", "large-mode"] {
        fs::set_permissions(file(name), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::metadata(file(name)).unwrap().mode() & 0o7777, 0o600);
    }
    assert_eq!(scene.bucket.get("mode").unwrap(), "precious");
    assert!(scene.bucket.get("large-mode").unwrap() == large);

    fs::remove_file(file("gone")).unwrap();
    assert!(scene.bucket.get("gone").is_none());
    fs::write(file("made"), "made here").unwrap();
    fs::write(file("made"), "made again").unwrap();
    assert_eq!(scene.bucket.get("made").unwrap(), "made again");
    fs::create_dir(file("folder")).unwrap();
    fs::write(file("folder/in it"), &large).unwrap();
    assert!(scene.bucket.get("folder/in it").unwrap() == large);
    assert!(scene.bucket.uploads().is_empty());
}

#[test]
fn a_head_without_a_length_is_no_empty_file() {
    everything_is_as_ever(&scene(&[Habit::HeadWithoutLength]));
}

#[test]
fn a_total_that_is_unknown_is_asked_of_a_listing() {
    everything_is_as_ever(&scene(&[Habit::HeadWithoutLength, Habit::TotalsUnknown]));
}

#[test]
fn a_size_and_a_tag_that_only_listings_tell_are_enough() {
    everything_is_as_ever(&scene(&[
        Habit::HeadWithoutLength,
        Habit::HeadersWithoutEtag,
    ]));
}

#[test]
fn objects_without_any_tag_are_known_by_their_time_and_size() {
    everything_is_as_ever(&scene(&[Habit::HeadersWithoutEtag, Habit::ListWithoutEtag]));
}

#[test]
fn a_listing_without_sizes_or_tags_is_completed() {
    everything_is_as_ever(&scene(&[Habit::ListWithoutSize, Habit::ListWithoutEtag]));
}

#[test]
fn weak_tags_are_compared_and_not_sent() {
    everything_is_as_ever(&scene(&[Habit::WeakEtags]));
}

#[test]
fn headers_that_cannot_be_read_hide_nothing() {
    let scene = scene(&[Habit::IsoDates, Habit::OddHeaders]);
    everything_is_as_ever(&scene);
}

#[test]
fn a_change_whose_answer_cannot_be_read_is_looked_after() {
    everything_is_as_ever(&scene(&[Habit::ResultsCutShort]));
}

#[test]
fn what_no_answer_tells_is_an_error_that_names_the_file() {
    let scene = scene(&[
        Habit::HeadWithoutLength,
        Habit::ListWithoutSize,
        Habit::TotalsUnknown,
    ]);
    scene.bucket.put("f", "precious");
    scene.bucket.put("dir/f", "precious");
    let mount = scene.mount(&[]);
    assert_eq!(errno(fs::metadata(mount.file("f"))), libc::EIO);
    let log = mount.log();
    assert!(
        log.contains("f: neither HEAD nor GET nor a listing tells its size"),
        "{log}"
    );
    assert!(File::open(mount.file("f")).is_err());
    assert!(fs::rename(mount.file("f"), mount.file("g")).is_err());
    assert!(fs::rename(mount.file("dir"), mount.file("other")).is_err());
    assert_eq!(scene.bucket.get("f").unwrap(), "precious");
    assert_eq!(scene.bucket.get("dir/f").unwrap(), "precious");
}

#[test]
fn somebody_elses_change_is_seen_without_tags() {
    let scene = scene(&[Habit::HeadersWithoutEtag, Habit::ListWithoutEtag]);
    scene.bucket.put("f", "first");
    let mount: Mount = scene.mount(&[]);
    let mut file = OpenOptions::new()
        .append(true)
        .open(mount.file("f"))
        .unwrap();
    file.write_all(b" mine").unwrap();
    scene.bucket.put("f", "theirs, longer");
    assert!(file.sync_all().is_err());
    assert_eq!(scene.bucket.get("f").unwrap(), "theirs, longer");
    let mut keys = scene.bucket.keys().into_iter();
    let beside = keys.find(|key| key.starts_with("f (conflict")).unwrap();
    assert_eq!(scene.bucket.get(&beside).unwrap(), "first mine");
}
