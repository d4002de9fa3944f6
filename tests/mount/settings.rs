//! Options of every write that the store refuses or overlooks: told when mounting.

use s3mfa_sandbox::{Habit, Kind};

use crate::scene::{Scene, wait_until};

#[test]
fn an_option_that_the_store_refuses_is_told_when_mounting() {
    for (option, value) in [("--storage-class", "WRONG"), ("--acl", "everybody")] {
        let scene = Scene::new();
        let mut mount = scene.start(&[option, value]);
        wait_until("a prompt", || scene.pinentry.asked() == 1);
        assert!(scene.pinentry.answer(&scene.device.unspent_code()));
        assert_eq!(mount.wait().code(), Some(4), "{}", mount.log());
        let log = mount.log();
        let said = format!("nothing can be written to docs with {option} {value}");
        assert!(log.contains(&said) && log.contains("--read-only"), "{log}");
        assert!(scene.bucket.keys().is_empty());
        assert!(scene.bucket.uploads().is_empty());
    }
}

#[test]
fn an_option_that_the_store_overlooks_is_told_when_mounting() {
    let scene = Scene::new();
    let habits = scene.sandbox.habits();
    habits.adopt(Habit::OverlooksOptions);
    habits.adopt(Habit::OverlooksOwner);
    let options = [
        "--storage-class",
        "STANDARD_IA",
        "--sse",
        "aws:kms",
        "--expected-bucket-owner",
        "123456789012",
    ];
    let mount = scene.mount(&options);
    let log = mount.log();
    for option in [
        "--storage-class STANDARD_IA",
        "--sse aws:kms",
        "--expected-bucket-owner 123456789012",
    ] {
        assert!(log.contains(&format!("{option} has no effect")), "{log}");
    }
    assert!(scene.bucket.keys().is_empty());
}

#[test]
fn an_option_that_the_store_honours_costs_no_word_and_leaves_nothing() {
    let scene = Scene::new();
    let mount = scene.mount(&["--storage-class", "STANDARD_IA", "--sse", "aws:kms"]);
    assert!(!mount.log().contains("has no effect"), "{}", mount.log());
    std::fs::write(mount.file("f"), "f").unwrap();
    let object = scene.bucket.object("f").unwrap();
    assert_eq!(object.storage_class, "STANDARD_IA");
    assert_eq!(object.encryption, "aws:kms");
    assert_eq!(scene.bucket.keys(), ["f"]);
    assert!(scene.bucket.uploads().is_empty());
}

#[test]
fn a_mount_that_only_reads_tries_nothing() {
    let scene = Scene::new();
    let _mount = scene.mount(&["--read-only", "--storage-class", "WRONG"]);
    let counts = scene.sandbox.counts();
    assert_eq!(counts.writes(), 0);
    assert_eq!(counts.of(Kind::CreateMultipartUpload), 0);
}
