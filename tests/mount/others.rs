//! What other users get to see of a mount that lets them in.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use s3mfa_sandbox::{Kind, Matcher, PutOptions};

use crate::scene::{Mount, Scene, parts, run};

/// The user `nobody`, and no group that could help.
const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// Whether these tests can be run here.
fn can_be_somebody_else(test: &str) -> bool {
    parts::is_root(test) && parts::are_here(test, &["setpriv"], "apt-get install util-linux")
}

/// A command that is run as `nobody`: its exit code and what it said.
fn as_nobody(command: &[&str]) -> (i32, String) {
    let mut child = Command::new(NOBODY[0]);
    let said = run(child.args(&NOBODY[1..]).args(command));
    (said.code, said.out + &said.err)
}

fn has(mode: u32, kind: u32, uid: u32) -> PutOptions {
    PutOptions::new()
        .metadata("mode", (kind | mode).to_string())
        .metadata("uid", uid.to_string())
        .metadata("gid", uid.to_string())
}

/// A bucket with something for everybody, and something for its owner alone.
fn scene() -> Scene {
    let scene = Scene::new();
    let pass = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.home(), pass).unwrap();
    let bucket = &scene.bucket;
    bucket.put_with("secret", "TOPSECRET", has(0o600, libc::S_IFREG, 0));
    bucket.put_with("shared", "for all", has(0o644, libc::S_IFREG, 0));
    bucket.put_with("his", "his own", has(0o600, libc::S_IFREG, 65534));
    bucket.put("plain", "as uploaded");
    bucket.put_with("closed/", "", has(0o700, libc::S_IFDIR, 0));
    bucket.put("closed/x", "INDIR");
    bucket.put_with("closed/inner/", "", has(0o755, libc::S_IFDIR, 0));
    bucket.put("closed/inner/y", "INDIR");
    bucket.put_with("open/", "", has(0o755, libc::S_IFDIR, 0));
    bucket.put("open/x", "in the open");
    bucket.put("bare/x", "without a marker");
    bucket.put_with("link", "open/x", has(0o777, libc::S_IFLNK, 0));
    bucket.put_with("closed/link", "x", has(0o777, libc::S_IFLNK, 0));
    scene
}

fn at(mount: &Mount, name: &str) -> String {
    mount.file(name).to_str().unwrap().to_owned()
}

/// What must be refused is, twice each, and what is allowed is not.
fn only_what_modes_allow(mount: &Mount) {
    for _ in 0..2 {
        for command in [
            ["cat", "secret"],
            ["ls", "closed"],
            ["cat", "closed/x"],
            ["cat", "closed/inner/y"],
            ["ls", "closed/inner"],
            ["readlink", "closed/link"],
            ["stat", "closed/x"],
        ] {
            let (code, said) = as_nobody(&[command[0], &at(mount, command[1])]);
            assert!(code != 0, "{command:?} was let in");
            assert!(
                said.contains("Permission denied") || said.is_empty(),
                "{command:?}: {said}"
            );
        }
        for (name, content) in [
            ("shared", "for all"),
            ("his", "his own"),
            ("plain", "as uploaded"),
            ("open/x", "in the open"),
            ("bare/x", "without a marker"),
            ("link", "in the open"),
        ] {
            let said = as_nobody(&["cat", &at(mount, name)]);
            assert_eq!(said, (0, content.to_owned()), "{name}");
        }
        for name in ["open", "bare"] {
            assert_eq!(as_nobody(&["ls", &at(mount, name)]), (0, "x\n".to_owned()));
        }
    }
}

#[test]
fn a_listing_opens_nothing_to_others() {
    if !can_be_somebody_else("a_listing_opens_nothing_to_others") {
        return;
    }
    let scene = scene();
    for (first, options) in [
        ("nothing", &["--metadata-ttl", "60"][..]),
        ("by the owner", &["--metadata-ttl", "60"]),
        ("by somebody else", &["--metadata-ttl", "60"]),
        ("by the owner", &[]),
        ("by the owner", &["--metadata-ttl", "0"]),
        ("by somebody else", &["--posix-metadata"]),
    ] {
        let options = [&["--allow-other"], options].concat();
        let mount = scene.mount(&options);
        let listed = match first {
            "by the owner" => run(Command::new("ls").arg("-lR").arg(mount.path())).code,
            "by somebody else" => as_nobody(&["ls", "-l", mount.path().to_str().unwrap()]).0,
            _ => 0,
        };
        assert_eq!(listed, 0, "{options:?}");
        only_what_modes_allow(&mount);
        drop(mount);
        // What was learned may not make it worse.
    }
}

#[test]
fn what_cannot_be_known_stays_closed_and_the_owner_comes_in() {
    if !can_be_somebody_else("what_cannot_be_known_stays_closed_and_the_owner_comes_in") {
        return;
    }
    let scene = scene();
    let mount = scene.mount(&["--allow-other"]);
    assert_eq!(as_nobody(&["ls", mount.path().to_str().unwrap()]).0, 0);
    let heads = Matcher::kind(Kind::Head);
    scene
        .sandbox
        .faults()
        .status(heads, 501, "NotImplemented", u64::MAX);
    for name in ["secret", "shared", "open/x"] {
        assert!(as_nobody(&["cat", &at(&mount, name)]).0 != 0, "{name}");
    }
    assert_eq!(fs::read_dir(mount.file("closed")).unwrap().count(), 3);
    scene.sandbox.faults().clear();
    only_what_modes_allow(&mount);
    assert_eq!(
        fs::read_to_string(mount.file("secret")).unwrap(),
        "TOPSECRET"
    );
}

#[test]
fn who_was_let_in_to_an_old_version_is_looked_at_again() {
    if !can_be_somebody_else("who_was_let_in_to_an_old_version_is_looked_at_again") {
        return;
    }
    let scene = scene();
    let mount = scene.mount(&["--allow-other", "--metadata-ttl", "60"]);
    assert_eq!(as_nobody(&["cat", &at(&mount, "shared")]).0, 0);
    let other = has(0o600, libc::S_IFREG, 0);
    scene.bucket.put_with("shared", "not any more", other);
    let (code, said) = as_nobody(&["cat", &at(&mount, "shared")]);
    assert!(code != 0 && !said.contains("not any more"), "{said}");
}

#[test]
fn the_directory_that_is_mounted_has_a_mode_too() {
    if !can_be_somebody_else("the_directory_that_is_mounted_has_a_mode_too") {
        return;
    }
    let scene = scene();
    let place = scene.mountpoint("mnt");
    for (source, lets_in) in [("docs/closed", false), ("docs/open", true)] {
        let answering = (!scene.pinentry.is_open() && scene.pinentry.asked() == 0)
            .then(|| scene.pinentry.answer_next(scene.device.unspent_code()));
        let mount = Mount::start(&scene, source, &place, &["--allow-other"]);
        mount.wait_until_mounted();
        if let Some(answering) = answering {
            answering.join().unwrap();
        }
        for _ in 0..2 {
            let (code, said) = as_nobody(&["cat", &at(&mount, "x")]);
            assert_eq!(code == 0, lets_in, "{source}: {said}");
        }
    }
}

#[test]
fn everything_belongs_to_the_user_that_is_named() {
    if !can_be_somebody_else("everything_belongs_to_the_user_that_is_named") {
        return;
    }
    let scene = scene();
    let mount = scene.mount(&["--allow-other", "--uid", "65534", "--gid", "65534"]);
    assert_eq!(as_nobody(&["ls", mount.path().to_str().unwrap()]).0, 0);
    for name in ["secret", "closed/x", "closed/inner/y"] {
        assert_eq!(as_nobody(&["cat", &at(&mount, name)]).0, 0, "{name}");
    }
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid=65533", "--regid=65533", "--clear-groups", "cat"]);
    let refused = run(stranger.arg(at(&mount, "secret")));
    assert!(refused.code != 0, "{refused:?}");
}

#[test]
fn nothing_changes_where_nobody_else_is_let_in() {
    let scene = scene();
    let mount = scene.mount(&[]);
    fs::read_dir(mount.path()).unwrap().for_each(drop);
    scene.sandbox.reset_counts();
    let found = fs::metadata(mount.file("plain")).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o644);
    assert_eq!(scene.sandbox.counts().of(Kind::Head), 0);
}
