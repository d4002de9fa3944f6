//! `credentials`: the session of the mounts, for other programs.

use std::process::Command;

use s3mfa_sandbox::{Kind, policies};

use crate::case::{ROLE_WITH_DEVICE, Stage};
use crate::scene::parts;

/// The AWS CLI of PyPI, in the virtual environment.
fn aws_cli() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/aws")
}

#[test]
fn the_aws_cli_lists_the_bucket_without_a_prompt_of_its_own() {
    let install = "python3 -m venv target/tools/venv && \
                   target/tools/venv/bin/pip install awscli==1.46.3";
    if !parts::are_here(
        "the_aws_cli_lists_the_bucket_without_a_prompt_of_its_own",
        &[aws_cli().to_str().unwrap()],
        install,
    ) {
        return;
    }
    let stage = Stage::new();
    let scene = &stage.scene;
    let program = env!("CARGO_BIN_EXE_s3mfa-mount");
    stage.configure(&format!(
        "[default]\nregion = us-east-1\nmfa_serial = {{serial}}\n[profile cli]\n\
         region = us-east-1\ncredential_process = {program} credentials --profile default\n"
    ));
    let _mount = scene.mount(&[]);
    let list = || {
        let output = Command::new(aws_cli())
            .env_clear()
            .envs(scene.environment())
            .args([
                "--profile",
                "cli",
                "--endpoint-url",
                scene.sandbox.endpoint(),
            ])
            .args(["s3", "ls", "s3://docs/"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = list();
    assert!(
        listed.contains(" f") && listed.contains("PRE secret/"),
        "{listed}"
    );
    assert_eq!(scene.pinentry.asked(), 1, "that of the mount");
    // Without a mount, too, and the mount that comes later needs none then.
    scene.log_out();
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    list();
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 2);
    let told = scene.pinentry.last("SETDESC").unwrap();
    assert!(told.contains("For: "), "{told}");
    // A mount with that profile is the same identity, and starts no program for it.
    let mount = crate::scene::Mount::start(
        scene,
        "docs",
        &scene.mountpoint("second"),
        &["--profile", "cli"],
    );
    mount.wait_until_mounted();
    assert_eq!(scene.pinentry.asked(), 2);
}

#[test]
fn a_roles_keys_are_printed_with_their_end() {
    let stage = Stage::new();
    let scene = &stage.scene;
    stage.configure(ROLE_WITH_DEVICE);
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let printed = scene.control(&["credentials", "--profile", "r"]);
    answering.join().unwrap();
    assert_eq!(printed.code, 0, "{printed:?}");
    let keys: serde_json::Value = serde_json::from_str(&printed.out).unwrap();
    assert!(keys["AccessKeyId"].as_str().unwrap().starts_with("ASIA"));
    let printed = scene.control(&["credentials", "--profile", "r"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert_eq!(scene.pinentry.asked(), 1);
    assert_eq!(scene.sandbox.counts().of(Kind::GetSessionToken), 1);
}

#[test]
fn what_goes_wrong_is_one_sentence_and_no_keys() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let outcome = scene.control(&["credentials", "--profile", "absent"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (2, ""));
    assert!(outcome.err.contains("there are: default"), "{outcome:?}");
    let outcome = scene.control(&["credentials", "--prompt", "none"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (3, ""));
    assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
    scene
        .bucket
        .set_policy(policies::require_mfa_null_age("docs"))
        .unwrap();
}
