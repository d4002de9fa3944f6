//! Sessions that other servers' STS gives out. None of the two checks codes: what is proved is
//! that their answers are understood, and that their tokens are sent along.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::place::Place;

on_each_server_with_sessions! {
    a_session_of_its_sts_reads_and_writes,
}

fn a_session_of_its_sts_reads_and_writes(place: &Place) {
    place.put("theirs", b"theirs");
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

/// A role of Ceph whose sessions last three seconds: fifty of them, one after the other, under
/// readers that never stop.
#[test]
fn fifty_renewals_in_a_row_and_no_reader_notices() {
    let Some(server) = crate::servers::ceph("fifty_renewals_in_a_row_and_no_reader_notices") else {
        return;
    };
    let place = Place::on(server);
    // Ceph reads no spaces in policies that are posted to it.
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/alice"]},"Action":["sts:AssumeRole"]}]}"#;
    let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::*"}]}"#;
    let role = ["--role-name", "reader"];
    let create = ["iam", "create-role", "--assume-role-policy-document", trust];
    place.aws(&[&create[..], &role].concat());
    let put = [
        "iam",
        "put-role-policy",
        "--policy-name",
        "all",
        "--policy-document",
        all,
    ];
    place.aws(&[&put[..], &role].concat());
    let content = crate::scene::noise(7, 3 << 20);
    for i in 0..4 {
        place.put(&format!("f{i}"), &content);
    }
    let mount = place.mount_with(&[
        "--role-arn",
        "arn:aws:iam:::role/reader",
        "--credentials",
        "role",
        "--duration",
        "3",
        "--metadata-ttl",
        "0",
        "--read-only",
        "--memory-limit",
        "4MiB",
    ]);
    let renewals = || {
        let log = mount.log();
        log.matches("a new session lives until").count()
    };
    let (done, read) = (AtomicBool::new(false), AtomicU64::new(0));
    let since = Instant::now();
    std::thread::scope(|scope| {
        for i in 0..4 {
            let (file, content, done, read) =
                (mount.file(&format!("f{i}")), &content, &done, &read);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // Opened anew each time, which asks S3; half of them also keep one open.
                    let opened = fs::File::open(&file).unwrap();
                    let mut piece = vec![0; 1 << 20];
                    for at in 0..3 {
                        opened.read_exact_at(&mut piece, at << 20).unwrap();
                        let from = usize::try_from(at << 20).unwrap();
                        assert!(piece == content[from..from + (1 << 20)]);
                    }
                    read.fetch_add(3, Ordering::Relaxed);
                }
            });
        }
        let renewed = crate::scene::holds_within(Duration::from_secs(240), || renewals() > 50);
        done.store(true, Ordering::Relaxed);
        assert!(renewed, "{} renewals only:\n{}", renewals(), mount.log());
    });
    eprintln!(
        "{} sessions in {:?}, {} MiB read",
        renewals(),
        since.elapsed(),
        read.load(Ordering::Relaxed)
    );
}
