//! Sessions that other servers' STS gives out. None of the two checks codes: what is proved is
//! that their answers are understood, and that their tokens are sent along.

use std::fs;

use crate::place::Place;

on_each_server! {
    a_session_of_its_sts_reads_and_writes,
}

fn a_session_of_its_sts_reads_and_writes(place: &Place) {
    place.put("theirs", b"theirs", &[]);
    let mount = place.mount_with(&[
        "--credentials",
        "session-token",
        "--mfa-serial",
        "arn:aws:iam::000000000000:mfa/alice",
        "--mfa-process",
        "echo 123456",
    ]);
    assert!(
        mount.log().contains("a new session lives until"),
        "{}",
        mount.log()
    );
    assert_eq!(fs::read(mount.file("theirs")).unwrap(), b"theirs");
    fs::write(mount.file("ours"), "ours").unwrap();
    fs::rename(mount.file("ours"), mount.file("renamed")).unwrap();
    assert_eq!(place.get("renamed"), b"ours");
    assert_eq!(place.keys(), ["renamed", "theirs"]);
}
