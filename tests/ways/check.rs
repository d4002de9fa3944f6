//! `check` and `policy`, as transcripts.

use std::fs;
use std::time::Duration;

use s3mfa_sandbox::policies::{self, merge};
use s3mfa_sandbox::{Skew, User};
use serde_json::{Value, json};

use crate::case::{BARE, ROLE_WITH_DEVICE, Stage, WITH_DEVICE};
use crate::scene::run;
use crate::transcript::{tame, transcript};

/// Runs `check` with a person who answers with a code, and compares what it prints.
fn check(name: &str, stage: &Stage, args: &[&str], code: i32) -> String {
    let scene = &stage.scene;
    // A command that needs no code gets none.
    let process = format!("echo {}", scene.device.unspent_code());
    let mut command = scene.command();
    command.arg("check").args(args);
    command.args(["--mfa-process", &process]);
    let outcome = run(&mut command);
    let printed = tame(stage, &outcome.out).replace(&process, "echo CODE");
    transcript(name, &printed);
    assert_eq!(outcome.code, code, "{outcome:?}");
    outcome.out
}

/// Alice may find her devices, and read the policy.
fn stage() -> Stage {
    let stage = Stage::new();
    let scene = &stage.scene;
    let policy = policies::list_own_devices(scene.sandbox.account(), "alice");
    scene.sandbox.put_user_policy(&scene.alice, policy).unwrap();
    stage.configure(WITH_DEVICE);
    stage
}

#[test]
fn a_bucket_as_it_should_be() {
    check("good", &stage(), &["docs"], 0);
}

#[test]
fn an_age_limit_of_a_policy_that_may_be_read() {
    let stage = stage();
    let policy = policies::require_fresh_mfa("docs", 3600);
    stage.scene.bucket.set_policy(policy).unwrap();
    check("age_limit", &stage, &["docs"], 0);
}

#[test]
fn through_a_role() {
    let stage = stage();
    stage.configure(ROLE_WITH_DEVICE);
    check("role", &stage, &["docs", "--profile", "r"], 0);
}

#[test]
fn for_a_program() {
    let printed = check("json", &stage(), &["docs", "--json"], 0);
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report["version"], 1);
    assert_eq!(report["mountable"], true);
    assert!(report["steps"].as_array().unwrap().len() > 6);
}

// Eight accounts that are broken, each in its own way.

#[test]
fn broken_no_device() {
    let stage = stage();
    stage.configure(BARE);
    stage.scene.sandbox.delete_device(&stage.scene.device);
    check("no_device", &stage, &["docs"], 3);
}

#[test]
fn broken_only_a_passkey() {
    let stage = stage();
    stage.configure(BARE);
    stage.scene.sandbox.delete_device(&stage.scene.device);
    stage
        .scene
        .sandbox
        .create_passkey(&stage.scene.alice, "key");
    check("only_a_passkey", &stage, &["docs"], 3);
}

#[test]
fn broken_wrong_serial() {
    let stage = stage();
    stage.configure("[default]\nregion = us-east-1\nmfa_serial = arn:aws:iam::{account}:mfa/bob\n");
    check("wrong_serial", &stage, &["docs"], 3);
}

#[test]
fn broken_key_disabled() {
    let stage = stage();
    stage.scene.sandbox.delete_access_key(&stage.scene.alice);
    check("key_disabled", &stage, &["docs"], 3);
}

#[test]
fn broken_no_mfa_enforced() {
    let stage = stage();
    stage.scene.bucket.clear_policy();
    check("no_mfa_enforced", &stage, &["docs"], 0);
}

#[test]
fn broken_everybody_is_locked_out() {
    let stage = stage();
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": ["arn:aws:s3:::docs", "arn:aws:s3:::docs/*"],
    }]});
    stage.scene.bucket.set_policy(policy).unwrap();
    check("locked_out", &stage, &["docs"], 4);
}

#[test]
fn broken_clock() {
    let stage = stage();
    let twenty_minutes = Duration::from_secs(1200);
    stage.scene.sandbox.skew(twenty_minutes, Skew::ServerAhead);
    check("clock", &stage, &["docs"], 0);
}

#[test]
fn broken_no_list_bucket() {
    let stage = stage();
    let policy = [
        policies::require_mfa_null_age("docs"),
        policies::deny_list("docs"),
    ];
    stage.scene.bucket.set_policy(merge(&policy)).unwrap();
    check("no_list_bucket", &stage, &["docs"], 0);
}

#[test]
fn a_policy_that_lets_sessions_without_mfa_in_is_named() {
    let stage = stage();
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": ["arn:aws:s3:::docs", "arn:aws:s3:::docs/*"],
        "Condition": {"Null": {"aws:MultiFactorAuthPresent": true}},
    }]});
    stage.scene.bucket.set_policy(policy).unwrap();
    check("null_present", &stage, &["docs"], 0);
}

#[test]
fn a_policy_that_lets_long_term_keys_in_is_named() {
    let stage = stage();
    let policy = policies::require_mfa_bool("docs");
    stage.scene.bucket.set_policy(policy).unwrap();
    check("bool", &stage, &["docs"], 0);
}

#[test]
fn a_bucket_that_is_not_there() {
    check("absent", &stage(), &["nowhere"], 4);
}

#[test]
fn a_role_that_may_not_is_told_which_policy_lacks_what() {
    let stage = stage();
    stage.configure(ROLE_WITH_DEVICE);
    stage.scene.bucket.clear_policy();
    stage.role.set_policies(Vec::<Value>::new()).unwrap();
    check(
        "role_without_permission",
        &stage,
        &["docs", "--profile", "r"],
        4,
    );
}

#[test]
fn mfa_delete_is_said_to_be_unsupported() {
    let stage = stage();
    stage.scene.bucket.set_mfa_delete(true);
    check("mfa_delete", &stage, &["docs"], 0);
}

/// What `policy` prints does what it promises.
#[test]
fn the_policies_that_are_printed_enforce_mfa() {
    let stage = stage();
    let scene = &stage.scene;
    let printed = |args: &[&str]| {
        let outcome = scene.control(&[&["policy"], args].concat());
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.out
    };
    transcript("policies", &printed(&["docs", "--max-age", "3600"]));
    transcript("policies_of_a_prefix", &printed(&["docs/tax"]));
    let bucket = printed(&["docs", "--kind", "bucket", "--max-age", "3600"]);
    scene.bucket.set_policy(bucket.as_str()).unwrap();
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let read = || fs::read_to_string(mount.file("f"));
    assert_eq!(read().unwrap(), "content");
    // The limit is known before S3 denies anything.
    crate::scene::wait_until("the limit", || {
        mount.status(scene)["session"]["mfa_age_limit"] == 3600
    });
    drop(mount);
    // The user's policy, alone.
    scene.bucket.clear_policy();
    let user: User = scene.alice.clone();
    let account = scene.sandbox.account();
    let policy = printed(&["docs", "--kind", "user", "--account", account]);
    // The sandbox knows no policy variables.
    let policy = policy.replace("${aws:username}", "alice");
    scene
        .sandbox
        .set_user_policies(&user, vec![policy])
        .unwrap();
    let outcome = scene.control(&[
        "docs",
        scene.mountpoint("without").to_str().unwrap(),
        "--credentials",
        "plain",
    ]);
    assert!(
        outcome.code != 0 || outcome.err.contains("cannot be listed"),
        "{outcome:?}"
    );
    crate::scene::detach(&scene.mountpoint("without"));
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    fs::write(mount.file("new"), "new").unwrap();
    // The trust policy.
    let trust = printed(&["docs", "--kind", "trust", "--account", account]);
    stage.role.set_trust_policy(trust.as_str()).unwrap();
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let stage = Stage::new();
    let printed = |args: &[&str]| {
        let outcome = stage.scene.control(args);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome.out
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("mfa-serial"), "{shell}");
    }
    let page = printed(&["man"]);
    assert!(
        page.starts_with(".ie") && page.contains(".TH s3mfa-mount 1"),
        "{page}"
    );
    assert!(page.contains("prompt\\-timeout"));
    assert!(printed(&["man", "check"]).contains("s3mfa\\-mount\\-check"));
}
