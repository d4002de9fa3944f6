//! The ways to a session, at stores with an STS of their own: rows of the table of tests/ways that
//! these servers can play. Neither checks codes, and neither knows MFA in policies.

use std::fs;

use serde_json::{Value, json};

use crate::place::Place;

on_each_server_with_sessions! {
    keys_as_they_are,
    a_role_without_a_code,
    a_role_with_a_session_before_it,
    keys_that_a_command_prints,
    a_session_of_another_program,
    a_bucket_that_may_not_be_listed,
    a_bucket_that_locks_the_user_out,
}

/// A code, which nobody checks.
const CODE: [&str; 4] = [
    "--mfa-serial",
    "arn:aws:iam::000000000000:mfa/alice",
    "--mfa-process",
    "echo 123456",
];

/// Mounted, read and written, on this rung.
fn works(place: &Place, options: &[&str], rung: &str) {
    place.put("theirs", b"theirs");
    let mount = place.mount_with(options);
    assert_eq!(fs::read(mount.file("theirs")).unwrap(), b"theirs");
    fs::write(mount.file("ours"), "ours").unwrap();
    assert_eq!(place.get("ours"), b"ours");
    let status = place.control(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["mounts"][0]["credentials"], rung);
}

fn keys_as_they_are(place: &Place) {
    works(place, &[], "plain");
}

/// A role that alice may assume, and that may do everything with buckets. Ceph reads no spaces in
/// policies that are posted to it.
fn role(place: &Place, name: &str) -> String {
    let caller = place.user_arn();
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": [caller]}, "Action": ["sts:AssumeRole"],
    }]});
    let all = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*",
    }]});
    let (trust, all) = (trust.to_string(), all.to_string());
    let create = ["iam", "create-role", "--role-name", name];
    let made = place.aws(&[&create[..], &["--assume-role-policy-document", &trust]].concat());
    let put = ["iam", "put-role-policy", "--role-name", name];
    let policy = ["--policy-name", "all", "--policy-document", &all];
    place.aws(&[&put[..], &policy].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    made["Role"]["Arn"].as_str().unwrap().to_owned()
}

fn a_role_without_a_code(place: &Place) {
    let role = role(place, &format!("plain-{}", place.bucket));
    works(place, &["--role-arn", &role], "role");
}

fn a_role_with_a_session_before_it(place: &Place) {
    let role = role(place, &format!("chained-{}", place.bucket));
    let way = [
        "--role-arn",
        &role,
        "--credentials",
        "session-token-then-role",
    ];
    works(
        place,
        &[&way[..], &CODE].concat(),
        "session-token-then-role",
    );
}

fn keys_that_a_command_prints(place: &Place) {
    let (id, secret) = place.keys_of_the_user();
    let keys = json!({"Version": 1, "AccessKeyId": id, "SecretAccessKey": secret});
    fs::write(place.beside("keys"), keys.to_string()).unwrap();
    place.configure(&format!(
        "[profile p]\ncredential_process = cat {}\n",
        place.beside("keys").display()
    ));
    works(place, &["--profile", "p"], "plain");
}

fn a_session_of_another_program(place: &Place) {
    let printed = place.aws(&["sts", "get-session-token"]);
    let granted: Value = serde_json::from_str(&printed).unwrap();
    let text = |name: &str| granted["Credentials"][name].as_str().unwrap().to_owned();
    place.configure(&format!(
        "[profile t]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n",
        text("AccessKeyId"),
        text("SecretAccessKey"),
        text("SessionToken")
    ));
    works(place, &["--profile", "t"], "plain");
}

/// Denies the user something in the bucket's policy.
fn deny(place: &Place, action: &str) {
    let bucket = &place.bucket;
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": {"AWS": [place.user_arn()]}, "Action": [action],
        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
    }]})
    .to_string();
    place.aws(&[
        "s3api",
        "put-bucket-policy",
        "--bucket",
        bucket,
        "--policy",
        &policy,
    ]);
}

fn a_bucket_that_may_not_be_listed(place: &Place) {
    place.put("known", b"known");
    deny(place, "s3:ListBucket");
    let mount = place.mount_with(&["--read-only"]);
    assert!(
        mount.log().contains("cannot be listed with this session"),
        "{}",
        mount.log()
    );
    assert_eq!(fs::read(mount.file("known")).unwrap(), b"known");
    let listed = fs::read_dir(mount.path()).and_then(|mut names| names.next().transpose());
    assert_eq!(listed.unwrap_err().raw_os_error(), Some(libc::EACCES));
}

fn a_bucket_that_locks_the_user_out(place: &Place) {
    place.put("known", b"known");
    deny(place, "s3:*");
    let mount = place.mount_with(&["--read-only", "--lazy"]);
    let read = fs::read(mount.file("known"));
    assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EACCES));
}
