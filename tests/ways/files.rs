//! The configuration files: nothing of what is in them is ever logged, whatever is wrong with them. How
//! they are read is the table of `profiles`.

use std::fs;

use s3mfa_sandbox::Kind;

use crate::case::{BARE, Stage};
use crate::scene::{PATIENCE, holds_within, run};
use crate::surroundings::{document, metadata};

/// What must be in no log.
const SECRET: &str = "wJalrXUtnFEMIabcKEYnotreal";

/// A secret as a log could have it: as text, as numbers, in hexadecimal.
fn is_told_in(log: &str) -> bool {
    let each = |write: fn(&u8) -> String, between: &str| {
        let bytes: Vec<_> = SECRET.as_bytes()[4..12].iter().map(write).collect();
        bytes.join(between)
    };
    log.contains(&SECRET[4..12])
        || log.contains(&each(u8::to_string, ", "))
        || log.contains(&each(|byte| format!("{byte:02x}"), ""))
        || log.contains(&each(|byte| format!("{byte:#x}"), ", "))
}

/// Files that are broken, each in its own way, around a secret.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let keys = format!("aws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {SECRET}\n");
    let with = |before: &[u8], after: &[u8]| [before, keys.as_bytes(), after].concat();
    vec![
        (
            "a comment in Latin-1",
            with(b"[default]\n# Schl\xfcssel\n", b""),
        ),
        ("a name in Latin-1", with(b"[J\xf6rg]\n", b"")),
        (
            "a secret in Latin-1",
            with(
                b"[default]\n",
                format!("aws_session_token = {SECRET}").as_bytes(),
            )
            .into_iter()
            .chain(*b"\xfc\n")
            .collect(),
        ),
        (
            "a line that is only a secret",
            with(b"[default]\n", format!("{SECRET}\n").as_bytes()),
        ),
        (
            "a key in two lines",
            with(
                b"[default]\n",
                format!("aws_session_token\n  {SECRET}\n").as_bytes(),
            ),
        ),
        ("no section", with(b"", b"")),
        ("half a section", with(b"[default\n", b"")),
        (
            "a section of a secret",
            with(format!("[{SECRET}\n[default]\n").as_bytes(), b""),
        ),
        (
            "a key that stands twice",
            with(b"[default]\n", keys.as_bytes()),
        ),
        (
            "NUL bytes",
            with(b"[default]\n", b"aws_session_token = \0\0\n\0\n"),
        ),
        (
            "a secret with a NUL byte",
            with(
                b"[default]\n",
                format!("aws_secret_access_key = {SECRET}\0\n").as_bytes(),
            ),
        ),
        (
            "a huge line",
            with(
                b"[default]\n",
                &[b"x = ".as_slice(), &vec![b'a'; 2 << 20], b"\n"].concat(),
            ),
        ),
        ("a huge file", with(b"[default]\n", &vec![b'\n'; 5 << 20])),
        (
            "UTF-16",
            keys.encode_utf16().flat_map(u16::to_le_bytes).fold(
                vec![0xff, 0xfe],
                |mut all, byte| {
                    all.push(byte);
                    all
                },
            ),
        ),
        (
            "a quote that nothing closes",
            with(b"[default]\ncredential_process = 'x\n", b""),
        ),
        (
            "half of the keys",
            format!(
                "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_acces_key = {SECRET}\n"
            )
            .into_bytes(),
        ),
        ("an empty file", Vec::new()),
    ]
}

#[test]
fn no_broken_file_puts_a_secret_into_the_log() {
    let stage = Stage::new();
    let scene = &stage.scene;
    for which in ["credentials", "config"] {
        for (name, bytes) in broken() {
            let home = scene.home().join(".aws");
            let _ = fs::remove_file(home.join("credentials"));
            fs::write(home.join("config"), "[default]\nregion = us-east-1\n").unwrap();
            fs::write(home.join(which), &bytes).unwrap();
            let mut command = scene.command();
            command.args(["credentials", "--prompt", "none", "--log-level", "trace"]);
            command.args(["--credentials", "plain"]);
            let outcome = run(&mut command);
            // Without a session, and so without keys on standard output.
            assert!(
                !is_told_in(&outcome.err),
                "{which}, {name}: {}",
                outcome.err
            );
            let is_named = outcome.err.contains(&format!("{}/{which}", home.display()));
            let is_told = match name {
                // Nothing is wrong with what is read.
                "a comment in Latin-1" | "a huge line" | "an empty file" => true,
                // Told where the keys are missed.
                "a quote that nothing closes" | "half of the keys" => true,
                _ => is_named,
            };
            assert!(is_told, "{which}, {name}: {}", outcome.err);
        }
    }
}

/// The SDK's provider for instances would read the files by itself, and log what it finds there.
#[test]
fn no_provider_of_the_sdk_reads_the_files() {
    let stage = Stage::new();
    let scene = &stage.scene;
    scene.bucket.clear_policy();
    let address = metadata(vec![
        ("/latest/api/token", "token".to_owned()),
        (
            "/latest/meta-data/iam/security-credentials/",
            "reader".to_owned(),
        ),
        (
            "/latest/meta-data/iam/security-credentials/reader",
            document(&stage.session_keys()),
        ),
    ]);
    // In the profile only, where this program must look it up then.
    stage.configure(&format!(
        "[default]\n[profile i]\nregion = us-east-1\nrole_arn = {{role}}\n\
         credential_source = Ec2InstanceMetadata\nec2_metadata_service_endpoint = {address}\n"
    ));
    let broken = format!("[default]\n# \u{fc}\naws_secret_access_key = {SECRET}\n");
    let latin: Vec<u8> = broken.chars().map(|c| u8::try_from(c).unwrap()).collect();
    fs::write(scene.home().join(".aws/credentials"), latin).unwrap();
    let mount = stage.mount_with(&["--profile", "i", "--log-level", "trace"], &[]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    let log = mount.log();
    assert!(!is_told_in(&log), "{log}");
    let speaks = |target: &str| log.lines().any(|line| line.contains(target));
    assert!(!speaks("config file") && !speaks("aws_runtime"), "{log}");
}

#[test]
fn keys_of_the_environment_that_have_ended_are_told_before_anything_is_sent() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let keys = stage.session_keys();
    let text = |key: &str| keys[key].as_str().unwrap().to_owned();
    let before = scene.sandbox.counts().of(Kind::GetSessionToken);
    let with = |end: &str| {
        let mut command = scene.command();
        command.args(["credentials", "--prompt", "none"]);
        command.env("AWS_ACCESS_KEY_ID", text("AccessKeyId"));
        command.env("AWS_SECRET_ACCESS_KEY", text("SecretAccessKey"));
        command.env("AWS_SESSION_TOKEN", text("SessionToken"));
        command.env("AWS_CREDENTIAL_EXPIRATION", end);
        run(&mut command)
    };
    let ended = with("2020-01-01T00:00:00Z");
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("AWS_CREDENTIAL_EXPIRATION"), "{ended:?}");
    let odd = with("soon");
    assert_eq!(odd.code, 2, "{odd:?}");
    let good = with("2099-01-01T00:00:00Z");
    assert_eq!(good.code, 0, "{good:?}");
    let printed: serde_json::Value = serde_json::from_str(&good.out).unwrap();
    assert_eq!(printed["Expiration"], "2099-01-01T00:00:00Z", "{good:?}");
    assert_eq!(scene.sandbox.counts().of(Kind::GetSessionToken), before);
}

/// A process that goes on printing keys that have ended is told, and not asked again and again.
#[test]
fn keys_of_a_process_that_have_ended_are_none() {
    let stage = Stage::new();
    let scene = &stage.scene;
    stage.configure(
        "[default]\n[profile p]\nregion = us-east-1\ncredential_process = sh -c 'echo run >>{home}/runs; echo \
         \"{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"ASIAOLD\\\", \\\"SecretAccessKey\\\": \\\"s\\\", \
         \\\"SessionToken\\\": \\\"t\\\", \\\"Expiration\\\": \\\"2020-01-01T00:00:00Z\\\"}\"'\n",
    );
    let path = scene.mountpoint("mnt");
    let outcome = scene.control(&["docs", path.to_str().unwrap(), "--profile", "p"]);
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert!(
        outcome.err.contains("ended at 2020-01-01T00:00:00Z"),
        "{outcome:?}"
    );
    let runs = fs::read_to_string(scene.home().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1, "{outcome:?}");
}

/// A file that is mended is read again: whoever waits needs no new mount.
#[test]
fn a_mended_file_is_read_at_the_next_login() {
    let stage = Stage::new();
    let scene = &stage.scene;
    scene.bucket.clear_policy();
    stage.configure(BARE);
    let path = scene.home().join(".aws/credentials");
    let good = fs::read_to_string(&path).unwrap();
    let mount = stage.mount_with(&[], &[]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    fs::write(&path, good.replace("[default]", "[default")).unwrap();
    let renew = || scene.control(&["renew", mount.path().to_str().unwrap()]);
    let refused = renew();
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.err.contains("line 1 of "), "{refused:?}");
    fs::write(&path, good).unwrap();
    assert!(
        holds_within(PATIENCE, || renew().code == 0),
        "{}",
        mount.log()
    );
}
