use proptest::prelude::*;

use super::*;

fn at(seconds: u64, nanoseconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

fn before(seconds: u64, nanoseconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH - Duration::new(seconds, nanoseconds)
}

fn read(name: &str, value: &str) -> Metadata {
    Metadata::read([(name, value)])
}

fn pairs(metadata: &Metadata) -> Vec<(String, String)> {
    metadata.write()
}

#[test]
fn what_s3fs_writes_is_read_and_written_the_same() {
    // A file of mode 0640 with the attribute user.note=hi.
    let stored = [
        ("atime", "1700000000.250000000"),
        ("ctime", "1700000001"),
        ("gid", "1000"),
        ("mode", "33184"),
        ("mtime", "1700000000.250000000"),
        ("uid", "1000"),
        ("xattr", "%7B%22user.note%22%3A%22aGk%3D%22%7D"),
    ];
    let metadata = Metadata::read(stored);
    let expected = Metadata {
        mode: Some(0o100_640),
        uid: Some(1000),
        gid: Some(1000),
        mtime: Some(at(1_700_000_000, 250_000_000)),
        atime: Some(at(1_700_000_000, 250_000_000)),
        ctime: Some(at(1_700_000_001, 0)),
        xattrs: [("user.note".to_owned(), b"hi".to_vec())].into(),
        ..Metadata::default()
    };
    assert_eq!(metadata, expected);
    let stored = stored.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(pairs(&metadata), stored);
    // Some stores send names in another case.
    assert_eq!(read("Mode", "33184").mode, Some(0o100_640));
    // No attributes at all, as s3fs leaves it when the last was removed.
    assert_eq!(read("xattr", "%7B%7D"), Metadata::default());
}

#[test]
fn modes_come_in_decimal_and_in_octal() {
    for (text, mode) in [
        ("33188", Some(0o100_644)),
        ("16877", Some(0o040_755)),
        ("41471", Some(0o120_777)),
        // rclone with --metadata.
        ("100644", Some(0o100_644)),
        ("40755", Some(0o040_755)),
        ("120777", Some(0o120_777)),
        // Octal with a leading 0, as strtoll of base 0 takes it; hexadecimal too.
        ("0100600", Some(0o100_600)),
        ("0644", Some(0o644)),
        ("0x81a4", Some(0o100_644)),
        // Without a type it is decimal.
        ("420", Some(0o644)),
        ("0", None),
        ("", None),
        ("-1", None),
        ("rw-r--r--", None),
        ("99999999999", None),
    ] {
        assert_eq!(read("mode", text).mode, mode, "{text}");
    }
    assert!(read("mode", "41471").is_symlink());
    assert!(read("mode", "16877").is_directory());
    assert!(!read("mode", "33188").is_symlink());
}

#[test]
fn times_of_s3fs_and_rclone() {
    for (text, time) in [
        ("0", Some(at(0, 0))),
        ("1354040105", Some(at(1_354_040_105, 0))),
        ("1354040105.123456789", Some(at(1_354_040_105, 123_456_789))),
        // rclone drops zeros; more digits than nine say nothing.
        ("1354040105.5", Some(at(1_354_040_105, 500_000_000))),
        ("1354040105.000000001", Some(at(1_354_040_105, 1))),
        (
            "1354040105.1234567899",
            Some(at(1_354_040_105, 123_456_789)),
        ),
        ("1.", Some(at(1, 0))),
        (".5", Some(at(0, 500_000_000))),
        ("-1.5", Some(before(1, 500_000_000))),
        ("-0.5", Some(before(0, 500_000_000))),
        ("-2208988800", Some(before(2_208_988_800, 0))),
        ("253402300800", Some(at(253_402_300_800, 0))),
        ("", None),
        (".", None),
        ("-", None),
        ("+1", None),
        ("1.-5", None),
        ("1e9", None),
        ("UTIME_OMIT", None),
        ("99999999999999999999", None),
        ("18446744073709551615", None),
        ("2026-11-22T14:03:07Z", None),
    ] {
        assert_eq!(read("mtime", text).mtime, time, "{text}");
    }
    assert_eq!(write_time(before(1, 500_000_000)), "-1.500000000");
}

#[test]
fn names_of_other_tools_are_read_and_kept() {
    let stored = [
        ("goog-reserved-file-mtime", "1700000000"),
        ("goog-reserved-posix-mode", "640"),
        ("group", "7"),
        ("owner", "6"),
        ("project", "=?UTF-8?B?w6Q=?="),
    ];
    let mut metadata = Metadata::read(stored);
    assert_eq!(metadata.mode, Some(0o640));
    assert_eq!((metadata.uid, metadata.gid), (Some(6), Some(7)));
    assert_eq!(metadata.mtime, Some(at(1_700_000_000, 0)));
    assert_eq!(metadata.other.len(), 5);
    // What is set here goes before.
    metadata.uid = Some(60);
    let again: BTreeMap<String, String> = metadata.clone().into();
    assert_eq!(Metadata::from(again.clone()).uid, Some(60));
    assert_eq!(again["owner"], "6");
    assert_eq!(again["project"], "=?UTF-8?B?w6Q=?=");
    assert_eq!(read("permissions", "33188").mode, Some(0o100_644));
}

#[test]
fn a_symlink_of_geesefs_leads_somewhere() {
    let link = read("--symlink-target", "..%2Fa%20b");
    assert!(link.is_symlink());
    assert_eq!(link.target().as_deref(), Some("../a b"));
    assert_eq!(read("mode", "41471").target(), None);
}

#[test]
fn what_cannot_be_read_stays_until_it_is_replaced() {
    let stored = [
        ("gid", "staff"),
        ("mode", "?"),
        ("mtime", "yesterday"),
        ("xattr", "%7Bbroken"),
    ];
    let mut metadata = Metadata::read(stored);
    assert_eq!(
        (metadata.mode, metadata.gid, metadata.mtime),
        (None, None, None)
    );
    let kept = stored.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(pairs(&metadata), kept);
    metadata.mode = Some(0o100_644);
    metadata.xattrs.insert("user.a".to_owned(), Vec::new());
    let again = Metadata::from(BTreeMap::from(metadata.clone()));
    assert_eq!(again.mode, Some(0o100_644));
    assert_eq!(again.xattrs, metadata.xattrs);
    // One value that is not base64 costs only itself.
    let xattrs = read(
        "xattr",
        "%7B%22user.a%22%3A%22*%22%2C%22user.b%22%3A%22aGk%22%7D",
    )
    .xattrs;
    assert_eq!(xattrs, [("user.b".to_owned(), b"hi".to_vec())].into());
}

#[test]
fn new_bytes_make_old_checksums_wrong() {
    let mut metadata = Metadata::read([
        ("md5chksum", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("s3cmd-attrs", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ("s3mfa-nonce", "n"),
        ("project", "x"),
    ]);
    assert_eq!(metadata.nonce.as_deref(), Some("n"));
    metadata.bytes_change();
    assert_eq!(pairs(&metadata), [("project".to_owned(), "x".to_owned())]);
}

#[test]
fn the_size_counts_names_and_values() {
    assert_eq!(Metadata::default().size(), 0);
    assert_eq!(read("uid", "1000").size(), "x-amz-meta-uid1000".len());
    let mut metadata = Metadata::default();
    metadata.xattrs.insert("user.a".to_owned(), vec![0; 2048]);
    assert!(metadata.size() > LIMIT);
}

#[test]
fn types_go_by_the_extension() {
    for (name, kind) in [
        ("index.html", "text/html"),
        ("PHOTO.JPG", "image/jpeg"),
        ("a.tar.gz", "application/gzip"),
        ("app.js.map~", "text/javascript"),
        ("data.parquet", "application/vnd.apache.parquet"),
        ("a.zst", "application/zstd"),
        ("README", UNKNOWN),
        ("v1.html/README", UNKNOWN),
        ("a.unheard-of", UNKNOWN),
        ("", UNKNOWN),
        (".", UNKNOWN),
        ("folder/", DIRECTORY),
    ] {
        assert_eq!(content_type(name), kind, "{name}");
    }
}

fn any_time() -> impl Strategy<Value = Option<SystemTime>> {
    let seconds = prop_oneof![Just(0_u64), 0..4_000_000_000_u64, 0..i64::MAX as u64];
    let nanoseconds = prop_oneof![Just(0), 0..1_000_000_000_u32];
    prop::option::of((any::<bool>(), seconds, nanoseconds).prop_map(
        |(negative, seconds, nanoseconds)| {
            if negative {
                before(seconds, nanoseconds)
            } else {
                at(seconds, nanoseconds)
            }
        },
    ))
}

fn any_mode() -> impl Strategy<Value = Option<u32>> {
    let kinds = vec![FIFO, CHARACTER, FOLDER, BLOCK, REGULAR, SYMLINK, SOCKET];
    let mode = (prop::sample::select(kinds), 0..=0o7777_u32).prop_map(|(kind, bits)| kind | bits);
    prop::option::of(mode)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        mode in any_mode(),
        ids in any::<(Option<u32>, Option<u32>)>(),
        times in (any_time(), any_time(), any_time()),
        xattrs in prop::collection::btree_map(".{1,20}", any::<Vec<u8>>(), 0..4),
        nonce in prop::option::of("[a-z0-9]{1,20}"),
        other in prop::collection::btree_map("[a-z]{9,12}", "[ -~]{0,20}", 0..4),
    ) {
        let metadata = Metadata {
            mode,
            uid: ids.0,
            gid: ids.1,
            mtime: times.0,
            atime: times.1,
            ctime: times.2,
            xattrs,
            nonce,
            other,
        };
        let written = metadata.write();
        let again = Metadata::read(written.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        prop_assert_eq!(&again, &metadata);
        prop_assert!(written.iter().all(|(name, value)| name.is_ascii() && value.is_ascii()));
        let text = serde_json::to_string(&metadata).unwrap();
        prop_assert_eq!(serde_json::from_str::<Metadata>(&text).unwrap(), metadata);
    }

    #[test]
    fn anything_can_be_read_and_written(
        stored in prop::collection::btree_map(
            prop_oneof!["mode|uid|gid|mtime|atime|ctime|xattr|owner", "[a-z-]{1,9}"],
            prop_oneof!["[0-9.x-]{0,12}", "\\PC{0,30}"],
            0..9,
        ),
    ) {
        let metadata = Metadata::from(stored.clone());
        let written = BTreeMap::from(metadata.clone());
        // Only what could not be read is replaced, by what another tool's name said.
        let other = |name: &String| metadata.other.contains_key(name);
        for (name, value) in stored.iter().filter(|(name, _)| other(name)) {
            prop_assert!(written.get(name) == Some(value) || [MODE, UID, GID, MTIME].contains(&name.as_str()));
        }
        let again = Metadata::from(written);
        prop_assert_eq!(
            (again.mode, again.uid, again.gid, again.mtime, again.atime, again.ctime),
            (metadata.mode, metadata.uid, metadata.gid, metadata.mtime, metadata.atime, metadata.ctime)
        );
        prop_assert_eq!(&again.xattrs, &metadata.xattrs);
        prop_assert_eq!(Metadata::from(BTreeMap::from(again.clone())), again);
    }
}

/// All that this program adds by itself, and a mode that somebody has asked for.
fn added() -> Metadata {
    Metadata {
        mode: Some(0o100_600),
        mtime: Some(at(1_700_000_000, 250_000_000)),
        atime: Some(at(1_700_000_000, 250_000_000)),
        ctime: Some(at(1_700_000_001, 500_000_000)),
        nonce: Some("0123456789abcdef-12".to_owned()),
        ..Metadata::default()
    }
}

#[test]
fn what_this_program_adds_gives_way_and_nothing_else() {
    let names = |metadata: &Metadata| -> Vec<String> {
        metadata.write().into_iter().map(|(name, _)| name).collect()
    };
    let all = added();
    let with = |left: usize| {
        let mut others = Metadata::default();
        let room = LIMIT - PREFIX.len() - "others".len() - left;
        others.other.insert("others".to_owned(), "o".repeat(room));
        let mut metadata = all.clone();
        metadata.other.clone_from(&others.other);
        (others, metadata)
    };
    let size = all.size();
    for (left, kept) in [
        (
            size,
            &["atime", "ctime", "mode", "mtime", "others", "s3mfa-nonce"][..],
        ),
        (
            size - 1,
            &["ctime", "mode", "mtime", "others", "s3mfa-nonce"],
        ),
        (size - 40, &["mode", "mtime", "others", "s3mfa-nonce"]),
        (size - 100, &["mode", "mtime", "others"]),
        (25, &["mode", "others"]),
    ] {
        let (others, metadata) = with(left);
        let fitted = metadata.fitted(Some(&others), false);
        assert_eq!(names(&fitted), kept, "with {left} of {size} bytes left");
        assert!(metadata.has_room(Some(&others), false));
    }
    // A time that somebody has set does not give way, and what has no room at all is refused.
    let (others, metadata) = with(25);
    assert_eq!(
        names(&metadata.fitted(Some(&others), true)),
        ["mode", "mtime", "others"]
    );
    let (others, metadata) = with(5);
    assert!(metadata.has_room(Some(&others), false) && !metadata.has_room(Some(&others), true));
    // Without others, the limit is that of the strictest store.
    let mut own = added();
    own.xattrs.insert("user.a".to_owned(), vec![0; 1490]);
    assert!(own.size() > LIMIT && !own.has_room(None, false));
}

#[test]
fn times_that_were_there_stay_and_take_no_more_room_than_before() {
    let mut before = Metadata::read([("mtime", "1600000000"), ("atime", "1600000000")]);
    let room = LIMIT - before.size() - PREFIX.len() - "others".len();
    before.other.insert("others".to_owned(), "o".repeat(room));
    assert_eq!(before.size(), LIMIT);
    let changed = Metadata {
        other: before.other.clone(),
        mode: None,
        ..added()
    };
    let fitted = changed.fitted(Some(&before), false);
    assert_eq!(fitted.size(), LIMIT);
    assert_eq!(fitted.mtime, Some(at(1_700_000_000, 0)));
    assert_eq!(fitted.atime, before.atime);
    assert!(changed.has_room(Some(&before), false));
}
