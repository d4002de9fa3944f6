//! Listings of stores that do not list as AWS does.
//!
//! A listing is whole or an error, a name is its own or is not shown, and one object has one time.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use s3mfa_sandbox::{Habit, Kind, PutOptions};

use crate::scene::{Scene, errno, wait_until};

/// A bucket whose store has some habits from the start.
fn scene(habits: &[Habit]) -> Scene {
    let scene = Scene::new();
    adopt(&scene, habits);
    scene
}

fn adopt(scene: &Scene, habits: &[Habit]) {
    for habit in habits {
        scene.sandbox.habits().adopt(*habit);
    }
}

fn names(path: &Path) -> BTreeSet<String> {
    let entries: Vec<String> = fs::read_dir(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let names: BTreeSet<String> = entries.iter().cloned().collect();
    assert_eq!(names.len(), entries.len(), "no name twice: {entries:?}");
    names
}

/// Names that are legal on Linux and in S3, and hard to spell in a listing.
fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "plain",
        "a+b",
        "a b",
        " lead",
        "trail ",
        "a  b",
        "a + b",
        "+",
        " ",
        "++",
        "100%",
        "%41",
        "A",
        "a%2Bb",
        "a%20b",
        "%2525",
        "%25",
        "%",
        "%%",
        "%zz",
        "%2",
        "%2F",
        "a%2Fb",
        "%c3%bc",
        "%ff",
        "ü",
        "u\u{308}",
        "日本語",
        "😀",
        "\u{ff5e}",
        "'",
        "\"",
        "<b>",
        "&",
        "&amp;",
        "&#x1;",
        "#",
        "?",
        "a=b&c",
        "a:b;c,d",
        "a\\b",
        "~",
        "*",
        "(1)",
        "[x]",
        "{y}",
        "!",
        "@$",
        "^`|",
        "...",
        "-",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{202e}rtl",
        "\u{fffd}",
        "\u{fffe}",
        "\u{ffff}",
        "]]>",
        "<!--",
        "a.b",
        ".hidden",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend((1..0x20).map(|c| format!("c{}c", char::from_u32(c).unwrap())));
    names.push("ö".repeat(127));
    names
}

/// Has files and directories of odd names listed, read, renamed and removed.
fn every_name_is_its_own(habits: &[Habit]) {
    let scene = scene(habits);
    let odd = odd_names();
    let all: BTreeSet<String> = odd.iter().cloned().collect();
    for name in &odd {
        scene.bucket.put(&format!("files/{name}"), name.clone());
        scene
            .bucket
            .put(&format!("dirs/{name}/below"), name.clone());
    }
    let mount = scene.mount(&[]);
    let file = |name: &str| mount.file(name);
    assert_eq!(names(&file("files")), all, "{habits:?}");
    assert_eq!(names(&file("dirs")), all, "{habits:?}");
    for name in &odd {
        let path = file("files").join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), *name, "{habits:?}");
        let path = file("dirs").join(name);
        assert_eq!(
            names(&path),
            ["below".to_owned()].into(),
            "{name:?} {habits:?}"
        );
        assert_eq!(fs::read_to_string(path.join("below")).unwrap(), *name);
    }
    fs::rename(file("files"), file("moved +%41")).unwrap();
    fs::rename(file("dirs"), file("moved +%41/\u{1}dirs")).unwrap();
    for name in &odd {
        let key = format!("moved +%41/{name}");
        assert_eq!(scene.bucket.get(&key).unwrap(), name.as_str(), "{habits:?}");
        let key = format!("moved +%41/\u{1}dirs/{name}/below");
        assert_eq!(scene.bucket.get(&key).unwrap(), name.as_str(), "{habits:?}");
    }
    for pair in odd.chunks_exact(2).take(12) {
        let (from, to) = (&pair[0], &pair[1]);
        let directory = file("moved +%41");
        fs::rename(directory.join(from), directory.join(to)).unwrap();
        assert_eq!(fs::read_to_string(directory.join(to)).unwrap(), *from);
    }
    fs::remove_dir_all(file("moved +%41")).unwrap();
    assert_eq!(scene.bucket.keys(), Vec::<String>::new(), "{habits:?}");
}

#[test]
fn odd_names_are_their_own_where_names_are_encoded_as_aws_does_it() {
    every_name_is_its_own(&[]);
    every_name_is_its_own(&[Habit::PagesOfTen]);
}

#[test]
fn odd_names_are_their_own_where_a_space_is_a_plus_here_and_percent_20_there() {
    every_name_is_its_own(&[Habit::ListEncodesSpacesAsPercent20]);
    every_name_is_its_own(&[Habit::ListMixesSpaces]);
}

#[test]
fn odd_names_are_their_own_where_too_much_or_too_little_is_encoded() {
    every_name_is_its_own(&[Habit::ListEncodesSlashes]);
    every_name_is_its_own(&[Habit::ListLeavesPlus]);
    every_name_is_its_own(&[Habit::ListEncodesKeysOnly, Habit::ControlsAsTheyAre]);
}

#[test]
fn odd_names_are_their_own_where_encoding_is_said_and_not_done() {
    every_name_is_its_own(&[Habit::ListEchoesEncodingOnly, Habit::ControlsAsTheyAre]);
}

#[test]
fn odd_names_are_their_own_where_encoding_is_overlooked_or_refused() {
    every_name_is_its_own(&[Habit::ListOverlooksEncoding]);
    every_name_is_its_own(&[Habit::RefusesEncodingType, Habit::ControlsAsTheyAre]);
}

#[test]
fn odd_names_are_their_own_where_pages_have_markers() {
    every_name_is_its_own(&[Habit::ListV1Only, Habit::PagesOfTen]);
    every_name_is_its_own(&[
        Habit::RefusesListV2,
        Habit::PagesOfTen,
        Habit::ListEchoesEncodingOnly,
        Habit::ControlsAsTheyAre,
    ]);
}

#[test]
fn a_bucket_whose_first_key_is_no_xml_is_mounted() {
    let scene = scene(&[Habit::ListEchoesEncodingOnly, Habit::ControlsAsTheyAre]);
    scene.bucket.put("\u{1}\u{ffff}", "first");
    let mount = scene.mount(&[]);
    let first = mount.file("\u{1}\u{ffff}");
    assert_eq!(fs::read_to_string(first).unwrap(), "first");
}

#[test]
fn a_name_that_the_store_cannot_tell_is_not_shown_under_another_one() {
    let scene = scene(&[Habit::ListOverlooksEncoding, Habit::ControlsReplaced]);
    for name in ["a\u{1}", "b\u{fffd}", "c"] {
        scene.bucket.put(&format!("dir/{name}"), name);
    }
    let mount = scene.mount(&["--metadata-ttl", "60"]);
    let dir = mount.file("dir");
    let told: BTreeSet<String> = ["b\u{fffd}", "c"].map(str::to_owned).into();
    assert_eq!(names(&dir), told);
    assert!(mount.log().contains("left out"), "{}", mount.log());
    // It is there all the same, and its directory is not empty without the others.
    assert_eq!(fs::read_to_string(dir.join("a\u{1}")).unwrap(), "a\u{1}");
    assert_eq!(errno(fs::rename(&dir, mount.file("moved"))), libc::EIO);
    assert_eq!(scene.bucket.keys().len(), 3, "{:?}", scene.bucket.keys());
    for name in told {
        fs::remove_file(dir.join(name)).unwrap();
    }
    assert_eq!(errno(fs::remove_dir(&dir)), libc::ENOTEMPTY);
    fs::remove_file(dir.join("a\u{1}")).unwrap();
    fs::remove_dir(&dir).unwrap();
}

/// Lists, renames and removes a directory of more than one page.
fn a_directory_is_whole(habits: &[Habit]) {
    let scene = scene(habits);
    let files = (0..27).map(|i| format!("f{i:02}"));
    let directories: Vec<String> = (0..14).map(|i| format!("f{i:02}-dir")).collect();
    let all: BTreeSet<String> = files.clone().chain(directories.clone()).collect();
    for name in files {
        scene.bucket.put(&format!("d/{name}"), "x");
    }
    for name in &directories {
        // More than a page of keys in one of them, with its marker and without.
        let below = if name == "f05-dir" { 25 } else { 1 };
        scene.bucket.put_empty_many(&format!("d/{name}/k"), below);
        if name < &"f07".to_owned() {
            scene.bucket.put(&format!("d/{name}/"), "");
        }
    }
    let keys = scene.bucket.keys();
    let mount = scene.mount(&[]);
    assert_eq!(names(&mount.file("d")), all, "{habits:?}");
    for name in &directories {
        let path = mount.file("d").join(name);
        assert!(fs::metadata(&path).unwrap().is_dir(), "{name} {habits:?}");
        let below = if name == "f05-dir" { 25 } else { 1 };
        assert_eq!(names(&path).len(), below, "{name} {habits:?}");
    }
    fs::rename(mount.file("d"), mount.file("e")).unwrap();
    let moved = keys.iter().map(|key| key.replacen("d/", "e/", 1));
    let moved: Vec<String> = moved.collect();
    wait_until("the rename", || {
        let there: Vec<String> = scene.bucket.keys();
        there.iter().filter(|key| *key != "e/").eq(moved.iter())
    });
    fs::remove_dir_all(mount.file("e")).unwrap();
    assert_eq!(scene.bucket.keys(), Vec::<String>::new(), "{habits:?}");
}

#[test]
fn a_store_that_knows_v1_alone_is_listed_with_markers() {
    use Habit::{ListV1Only, MarkersInclude, PagesOfTen, RefusesListV2};
    a_directory_is_whole(&[PagesOfTen, ListV1Only]);
    a_directory_is_whole(&[PagesOfTen, RefusesListV2]);
    a_directory_is_whole(&[PagesOfTen, ListV1Only, MarkersInclude]);
}

#[test]
fn a_listing_that_leaves_out_its_end_or_its_token_is_listed_to_the_end() {
    use Habit::{ListNeverTruncated, ListWithoutToken, ListWithoutTruncated, PagesOfTen};
    a_directory_is_whole(&[PagesOfTen, ListWithoutToken]);
    a_directory_is_whole(&[PagesOfTen, ListWithoutTruncated]);
    a_directory_is_whole(&[PagesOfTen, ListNeverTruncated]);
    a_directory_is_whole(&[PagesOfTen, ListWithoutToken, ListWithoutTruncated]);
    a_directory_is_whole(&[PagesOfTen, ListWithoutToken, Habit::MarkersInclude]);
}

#[test]
fn a_store_that_does_not_fold_or_count_as_aws_does_is_listed_whole() {
    use Habit::{FoldersAreContents, ListOverlooksDelimiter, PagesOfTen};
    a_directory_is_whole(&[PagesOfTen, FoldersAreContents]);
    a_directory_is_whole(&[PagesOfTen, ListOverlooksDelimiter]);
    a_directory_is_whole(&[PagesOfTen, ListOverlooksDelimiter, Habit::ListV1Only]);
    a_directory_is_whole(&[PagesOfTen, Habit::KeyCountOfObjects]);
    a_directory_is_whole(&[Habit::ListTellsTwice]);
}

/// Has listings go wrong while a directory is in use: nothing is told to be absent or moved by
/// halves, and when they are right again, all is well.
fn a_bad_listing_is_an_error(habits: &[Habit]) {
    let scene = Scene::new();
    for i in 0..30 {
        scene.bucket.put(&format!("d/f{i:02}"), "x");
    }
    let keys = scene.bucket.keys();
    let mount = scene.mount(&["--metadata-ttl", "1"]);
    let dir = mount.file("d");
    fs::metadata(&dir).unwrap();
    adopt(&scene, habits);
    let listed = fs::read_dir(&dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    assert_eq!(errno(listed), libc::EIO, "{habits:?}");
    for name in ["f00", "f29"] {
        let found = fs::metadata(dir.join(name));
        let is_absent = found
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        assert!(!is_absent, "{name} {habits:?}");
    }
    let renamed = fs::rename(&dir, mount.file("e"));
    assert!(renamed.is_err(), "{habits:?}");
    assert!(fs::remove_dir(&dir).is_err(), "{habits:?}");
    assert_eq!(scene.bucket.keys(), keys, "{habits:?}");
    let log = mount.log();
    assert!(log.contains("cannot be used"), "{habits:?}: {log}");
    for habit in habits {
        scene.sandbox.habits().drop(*habit);
    }
    assert_eq!(names(&dir).len(), 30, "{habits:?}");
    fs::rename(&dir, mount.file("e")).unwrap();
    assert_eq!(names(&mount.file("e")).len(), 30, "{habits:?}");
}

#[test]
fn a_listing_that_is_cut_or_another_document_is_an_error() {
    let habits = [
        Habit::ListCutShort,
        Habit::ListEmptied,
        Habit::ListIsAPage,
        Habit::ListLosesTheLast,
    ];
    std::thread::scope(|scope| {
        for habit in habits {
            scope.spawn(move || a_bad_listing_is_an_error(&[habit]));
        }
    });
}

#[test]
fn a_listing_that_is_an_error_inside_of_a_success_is_asked_for_again() {
    let scene = Scene::new();
    scene.bucket.put("d/f", "x");
    let mount = scene.mount(&[]);
    let faults = scene.sandbox.faults();
    faults.error_inside_200(Kind::List, "InternalError", 2);
    assert_eq!(names(&mount.file("d")), ["f".to_owned()].into());
}

#[test]
fn a_listing_that_goes_round_in_circles_or_astray_is_an_error() {
    a_bad_listing_is_an_error(&[Habit::ListTokenRepeats, Habit::PagesOfTen]);
    a_bad_listing_is_an_error(&[Habit::ListTellsTheFirstOnly]);
    let scene = Scene::new();
    scene.bucket.put("a", "");
    scene.bucket.put("d/f", "x");
    let mount = scene.mount(&[]);
    adopt(&scene, &[Habit::ListOverlooksPrefix]);
    assert_eq!(errno(fs::read_dir(mount.file("d"))), libc::EIO);
    assert_eq!(errno(fs::metadata(mount.file("d/f"))), libc::EIO);
}

#[test]
fn a_bucket_that_cannot_be_listed_is_not_called_unreachable() {
    let scene = scene(&[Habit::ListIsAPage]);
    let mut mount = scene.start(&[]);
    scene.pinentry.wait_until_asked(1);
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    assert_eq!(mount.wait().code(), Some(4));
    let log = mount.log();
    assert!(log.contains("<html>") && log.contains("list"), "{log}");
    assert!(!log.contains("cannot be reached"), "{log}");
}

/// The times of a file: as it is listed, looked up, opened, and listed once more.
fn times(path: &Path) -> Vec<(i64, i64)> {
    let time = |metadata: fs::Metadata| (metadata.mtime(), metadata.mtime_nsec());
    let listed = |path: &Path| {
        let entries = fs::read_dir(path.parent().unwrap()).unwrap();
        let mut entries = entries.map(Result::unwrap);
        let entry = entries.find(|entry| entry.file_name() == path.file_name().unwrap());
        time(entry.unwrap().metadata().unwrap())
    };
    let mut times = vec![listed(path)];
    let file = fs::File::open(path).unwrap();
    times.push(time(file.metadata().unwrap()));
    drop(fs::read(path).unwrap());
    times.push(time(fs::metadata(path).unwrap()));
    times.push(listed(path));
    times
}

#[test]
fn an_object_has_one_time_however_it_is_told() {
    let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for habits in [
        &[Habit::ListInMilliseconds][..],
        &[Habit::ListWithoutDates],
        &[],
    ] {
        let scene = scene(habits);
        let options = PutOptions::new().modified(moment);
        scene.bucket.put_with("d/f", "x", options);
        for _ in 0..2 {
            let mount = scene.mount(&["--metadata-ttl", "0"]);
            for time in times(&mount.file("d/f")) {
                assert_eq!(time, (1_700_000_000, 0), "{habits:?}");
            }
        }
    }
}
