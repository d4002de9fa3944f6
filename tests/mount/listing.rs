//! Directories over several pages, and large ones.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use crate::scene::Scene;

fn names(path: &std::path::Path) -> Vec<String> {
    fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_file_and_a_directory_of_one_name_pages_apart_are_one_directory() {
    let scene = Scene::new();
    scene.bucket.put("a", "file");
    for i in 1..=5000 {
        scene.bucket.put(&format!("a-{i}"), "");
    }
    scene.bucket.put("a/b", "below");
    let mount = scene.mount(&[]);
    let listed = names(mount.path());
    let expected: BTreeSet<String> = (1..=5000)
        .map(|i| format!("a-{i}"))
        .chain(["a".to_owned()])
        .collect();
    assert_eq!(listed.len(), expected.len(), "no name twice");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(fs::metadata(mount.file("a")).unwrap().is_dir());
    assert_eq!(fs::read_to_string(mount.file("a/b")).unwrap(), "below");
    let entry = fs::read_dir(mount.path())
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.file_name() == "a");
    assert!(entry.unwrap().file_type().unwrap().is_dir());
}

#[test]
fn a_hundred_thousand_names_are_complete_and_the_first_show_soon() {
    let scene = Scene::new();
    scene.bucket.put_empty_many("big/f", 100_000);
    let mount = scene.mount(&[]);
    let latency = Duration::from_millis(100);
    scene.sandbox.faults().latency(latency);
    let start = Instant::now();
    let mut entries = fs::read_dir(mount.file("big")).unwrap();
    entries.next().unwrap().unwrap();
    let first = start.elapsed();
    // Resolving the name takes a request, the first page another; and pages have to be read.
    assert!(first < latency * 4 + Duration::from_secs(1), "{first:?}");
    scene.sandbox.faults().clear();
    assert_eq!(entries.count(), 99_999);
    eprintln!(
        "first name after {first:?}, all after {:?}",
        start.elapsed()
    );
}

#[test]
fn a_directory_that_was_just_listed_answers_lookups_without_s3() {
    let scene = Scene::new();
    for i in 0..500 {
        scene.bucket.put(&format!("dir/f{i}"), "x");
    }
    let mount = scene.mount(&["--metadata-ttl", "60"]);
    assert_eq!(names(&mount.file("dir")).len(), 500);
    scene.sandbox.reset_counts();
    for i in 0..500 {
        assert_eq!(
            fs::metadata(mount.file(&format!("dir/f{i}")))
                .unwrap()
                .len(),
            1
        );
    }
    assert!(!mount.file("dir/absent").exists());
    assert_eq!(scene.sandbox.counts().total(), 0);
}

#[test]
fn keys_that_cannot_be_paths_are_left_out_and_counted() {
    let scene = Scene::new();
    for key in ["ok", "a//b", "c/./d", "e/../f", &"x".repeat(300)] {
        scene.bucket.put(key, "x");
    }
    let mount = scene.mount(&[]);
    let mut listed = names(mount.path());
    listed.sort();
    assert_eq!(listed, ["a", "c", "e", "ok"]);
    for dir in ["a", "c", "e"] {
        assert_eq!(names(&mount.file(dir)), Vec::<String>::new(), "{dir}");
    }
    let left_out = mount.status(&scene)["skipped_keys"].as_u64().unwrap();
    assert!(left_out >= 4, "{left_out}");
    assert!(mount.log().contains("left out"));
}

#[test]
fn a_change_from_outside_shows_after_the_ttl() {
    let scene = Scene::new();
    scene.bucket.put("f", "one");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "one");
    scene.bucket.put("f", "twice");
    assert_eq!(fs::metadata(mount.file("f")).unwrap().len(), 5);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "twice");
    scene.bucket.remove("f");
    assert!(!mount.file("f").exists());
    // A file that became a directory.
    scene.bucket.put("f/below", "x");
    assert!(fs::metadata(mount.file("f")).unwrap().is_dir());
    assert_eq!(fs::read_to_string(mount.file("f/below")).unwrap(), "x");
}

#[test]
fn many_lookups_in_one_directory_become_one_listing() {
    let scene = Scene::new();
    for i in 0..2000 {
        scene.bucket.put(&format!("dir/f{i}"), "x");
    }
    let mount = scene.mount(&["--metadata-ttl", "60"]);
    scene.sandbox.reset_counts();
    for i in 0..2000 {
        assert_eq!(
            fs::metadata(mount.file(&format!("dir/f{i}")))
                .unwrap()
                .len(),
            1
        );
    }
    assert!(!mount.file("dir/absent").exists());
    let counts = scene.sandbox.counts();
    assert!(counts.total() < 25, "{counts:?}");
}

#[test]
fn an_absent_name_is_asked_for_once() {
    let scene = Scene::new();
    let mount = scene.mount(&["--metadata-ttl", "60"]);
    assert!(!mount.file(".hidden").exists());
    scene.sandbox.reset_counts();
    assert!(!mount.file(".hidden").exists());
    assert_eq!(scene.sandbox.counts().total(), 0);
}

#[test]
fn a_directory_that_is_rewound_shows_as_it_is_then() {
    use nix::dir::Dir;
    use nix::fcntl::OFlag;
    let scene = Scene::new();
    scene.bucket.put("dir/a", "");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut dir = Dir::open(&mount.file("dir"), flags, nix::sys::stat::Mode::empty()).unwrap();
    let mut names = || {
        // Iterating rewinds when it is done.
        let names = dir
            .iter()
            .map(|entry| entry.unwrap().file_name().to_owned());
        names
            .filter(|name| !name.to_bytes().starts_with(b"."))
            .count()
    };
    assert_eq!(names(), 1);
    scene.bucket.put("dir/b", "");
    assert_eq!(names(), 2);
}
