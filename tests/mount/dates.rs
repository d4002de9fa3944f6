//! How old files are: what other tools have stored keeps its age, whatever is done to it but
//! writing.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3mfa_sandbox::{Kind, PutOptions};

use crate::scene::{Mount, Scene, noise};

/// 2020-01-01, in seconds since 1970.
const THEN: u64 = 1_577_836_800;

fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(THEN)
}

/// An object as other tools store it: without a word about times.
fn put_then(scene: &Scene, key: &str, bytes: Vec<u8>) {
    let options = PutOptions::new().modified(then());
    scene.bucket.put_with(key, bytes, options);
}

fn remount(scene: &Scene, mut mount: Mount) -> Mount {
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
    drop(mount);
    scene.mount(&[])
}

fn set_xattr(path: &Path, name: &str, value: &str) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: both strings end with a zero, and the value is as long as is said.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    assert_eq!(done, 0, "{:?}", std::io::Error::last_os_error());
}

fn set_times(path: &Path, times: FileTimes) {
    // Not through a handle that writes: that would be stored with what is written.
    File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn what_is_not_written_to_stays_as_old_as_it_is() {
    let scene = Scene::new();
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("chmod", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("chown", |path| chown(path, Some(1234), Some(1234)).unwrap()),
        ("setfattr", |path| set_xattr(path, "user.note", "hi")),
        ("touch -a", |path| {
            set_times(path, FileTimes::new().set_accessed(SystemTime::now()));
        }),
        ("mv", |path| {
            let (mut aside, back) = (path.as_os_str().to_owned(), path);
            aside.push(OsStr::new("2"));
            fs::rename(path, &aside).unwrap();
            fs::rename(&aside, back).unwrap();
        }),
    ];
    for (name, change) in &changes {
        for (size, key) in [
            (5, format!("{name} small")),
            (20 << 20, format!("{name} large")),
        ] {
            put_then(&scene, &key, noise(1, size));
            let path = mount.file(&key);
            assert_eq!(fs::metadata(&path).unwrap().mtime() as u64, THEN);
            change(&path);
            let found = fs::metadata(&path).unwrap();
            assert_eq!(found.modified().unwrap(), then(), "{key}");
            let kept = &scene.bucket.metadata(&key).unwrap()["mtime"];
            assert_eq!(*kept, THEN.to_string(), "{key}");
            assert!(found.ctime() as u64 > THEN, "{key}");
        }
    }
    put_then(&scene, "d/", Vec::new());
    for name in ["d/f", "d/below/g", "plain/f"] {
        put_then(&scene, name, noise(1, 5));
    }
    for directory in ["d", "plain"] {
        let to = mount.file(&format!("{directory} moved"));
        fs::rename(mount.file(directory), to).unwrap();
    }
    // A chmod makes no directory younger, either.
    put_then(&scene, "e/", Vec::new());
    let e = mount.file("e");
    fs::set_permissions(&e, fs::Permissions::from_mode(0o700)).unwrap();
    let mount = remount(&scene, mount);
    let mut old: Vec<String> = [
        "d moved",
        "d moved/f",
        "d moved/below/g",
        "plain moved/f",
        "e",
    ]
    .map(str::to_owned)
    .into();
    for (name, _) in changes {
        old.push(format!("{name} small"));
        old.push(format!("{name} large"));
    }
    for name in old {
        let found = fs::metadata(mount.file(&name)).unwrap();
        assert_eq!(found.modified().unwrap(), then(), "{name}");
    }
    // Who writes makes it new.
    fs::write(mount.file("chmod small"), "new").unwrap();
    let found = fs::metadata(mount.file("chmod small")).unwrap();
    assert!(found.modified().unwrap() > then() + Duration::from_secs(1));
}

#[test]
fn a_renamed_directory_changes_its_own_ctime_and_nothing_below() {
    let scene = Scene::new();
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    fs::create_dir_all(mount.file("d/e")).unwrap();
    fs::write(mount.file("d/f"), "f").unwrap();
    put_then(&scene, "d/others", noise(1, 5));
    put_then(&scene, "plain/f", noise(1, 5));
    let stat = |mount: &Mount, name: &str| {
        let found = fs::metadata(mount.file(name)).unwrap();
        let ctime = (found.ctime(), found.ctime_nsec());
        ((found.mtime(), found.mtime_nsec()), ctime)
    };
    let names = ["/e", "/f", "/others"];
    let below = |mount: &Mount, directory: &str| {
        names.map(|name| stat(mount, &format!("{directory}{name}")))
    };
    let (before, inside) = (stat(&mount, "d"), below(&mount, "d"));
    let plain = stat(&mount, "plain");
    fs::rename(mount.file("d"), mount.file("d2")).unwrap();
    fs::rename(mount.file("plain"), mount.file("plain2")).unwrap();
    let after = stat(&mount, "d2");
    assert_eq!(after.0, before.0, "names in it have not changed");
    assert!(after.1 > before.1, "{after:?} {before:?}");
    assert_eq!(below(&mount, "d2"), inside);
    let moved = stat(&mount, "plain2");
    assert!(
        moved.0 == plain.0 && moved.1 > plain.1,
        "{moved:?} {plain:?}"
    );
    // Its marker knows when names in it have changed, which was in memory alone before.
    let mount = remount(&scene, mount);
    assert_eq!(stat(&mount, "d2").0, before.0);
    assert_eq!(below(&mount, "d2"), inside);
}

#[test]
fn a_directory_that_changes_is_not_one_that_is_read() {
    let scene = Scene::new();
    put_then(&scene, "plain/f", noise(1, 5));
    let mount = scene.mount(&[]);
    let accessed = || fs::metadata(mount.path()).unwrap().accessed().unwrap();
    let before = accessed();
    fs::write(mount.file("new"), "new").unwrap();
    assert_eq!(accessed(), before);
    assert!(before > then());
}

#[test]
fn fractions_of_times_before_1970_do_not_drift() {
    let scene = Scene::new();
    fs::write(scene.home().join("original"), "").unwrap();
    let mount = scene.mount(&[]);
    fs::write(mount.file("f"), "f").unwrap();
    fs::create_dir(mount.file("d")).unwrap();
    for time in [
        UNIX_EPOCH - Duration::new(315_619_199, 500_000_000),
        UNIX_EPOCH - Duration::new(0, 1),
        UNIX_EPOCH - Duration::new(1, 999_999_999),
        UNIX_EPOCH - Duration::new(86_400, 0),
        UNIX_EPOCH + Duration::new(1, 250_000_000),
    ] {
        for name in ["f", "d"] {
            let path = mount.file(name);
            let mut next = time;
            // As programs do that copy times.
            for _ in 0..3 {
                set_times(
                    &path,
                    FileTimes::new().set_modified(next).set_accessed(next),
                );
                let found = fs::metadata(&path).unwrap();
                next = found.modified().unwrap();
                assert_eq!((next, found.accessed().unwrap()), (time, time), "{name}");
            }
        }
    }
    let time = UNIX_EPOCH - Duration::new(1_000_000_000, 750_000_000);
    set_times(&mount.file("f"), FileTimes::new().set_modified(time));
    let mount = remount(&scene, mount);
    assert_eq!(
        fs::metadata(mount.file("f")).unwrap().modified().unwrap(),
        time
    );
    let kept = &scene.bucket.metadata("f").unwrap()["mtime"];
    assert_eq!(kept, "-1000000000.750000000");
}

#[test]
fn what_is_so_already_is_not_stored_again() {
    let scene = Scene::new();
    put_then(&scene, "others", noise(1, 5));
    put_then(&scene, "d/", Vec::new());
    let mount = scene.mount(&[]);
    for name in ["others", "d"] {
        let path = mount.file(name);
        let found = fs::metadata(&path).unwrap();
        let before = scene.sandbox.counts();
        fs::set_permissions(&path, found.permissions()).unwrap();
        chown(&path, Some(found.uid()), Some(found.gid())).unwrap();
        set_times(&path, FileTimes::new().set_modified(then()));
        let counts = scene.sandbox.counts();
        assert_eq!(counts.writes(), before.writes(), "{name}");
        assert!(fs::metadata(&path).unwrap().ctime() >= found.ctime());
    }
    set_xattr(&mount.file("others"), "user.note", "hi");
    let copies = || scene.sandbox.counts().of(Kind::Copy);
    let before = copies();
    set_xattr(&mount.file("others"), "user.note", "hi");
    let path = std::ffi::CString::new(mount.file("others").as_os_str().as_bytes()).unwrap();
    // SAFETY: the string ends with a zero.
    #[allow(unsafe_code)]
    let cut = unsafe { libc::truncate(path.as_ptr(), 5) };
    assert_eq!((cut, copies()), (0, before));
    assert!(scene.bucket.history_of("others").len() == 1);
}
