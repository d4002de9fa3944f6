//! IAM Identity Center: tokens that the AWS CLI has left, and signing in without it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::json;
use sha1::{Digest, Sha1};

use crate::case::Stage;
use crate::scene::{Mount, wait_until};

/// A profile of the newer style.
const CONFIG: &str = "[default]\n[sso-session corp]\nsso_start_url = {start}\n\
                      sso_region = us-east-1\n[profile s]\nregion = us-east-1\n\
                      sso_session = corp\nsso_account_id = {account}\nsso_role_name = reader\n";

/// The person may use the role `reader`.
pub fn may_use_the_role(stage: &Stage) {
    stage.scene.sandbox.sso().grant(&stage.role);
}

/// Leaves a token as `aws sso login` does, good for an hour.
pub fn cli_signs_in(stage: &Stage, session: &str) {
    leave_a_token(stage, session, Duration::from_secs(3600));
}

fn cache(stage: &Stage, session: &str) -> PathBuf {
    let digest = Sha1::digest(session.as_bytes());
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let directory = stage.scene.home().join(".aws/sso/cache");
    fs::create_dir_all(&directory).unwrap();
    directory.join(format!("{name}.json"))
}

fn leave_a_token(stage: &Stage, session: &str, life: Duration) {
    let sso = stage.scene.sandbox.sso();
    let signed_in = sso.sign_in();
    let end = |life| {
        let end = jiff::Timestamp::try_from(SystemTime::now() + life).unwrap();
        end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let token = json!({
        "startUrl": sso.start_url(),
        "region": sso.region(),
        "accessToken": signed_in.access_token,
        "expiresAt": end(life),
        "clientId": signed_in.client_id,
        "clientSecret": signed_in.client_secret,
        "registrationExpiresAt": end(Duration::from_secs(86_400)),
        "refreshToken": signed_in.refresh_token,
    });
    fs::write(cache(stage, session), token.to_string()).unwrap();
}

fn stage() -> Stage {
    let stage = Stage::new();
    stage.scene.bucket.clear_policy();
    stage.configure(CONFIG);
    may_use_the_role(&stage);
    stage
}

fn start(stage: &Stage) -> Mount {
    let options = ["--profile", "s", "--metadata-ttl", "0"];
    let path = stage.scene.mountpoint("mnt");
    Mount::start(&stage.scene, "docs", &path, &options)
}

/// The code that waits for an answer.
fn pending(stage: &Stage) -> String {
    let sso = stage.scene.sandbox.sso();
    wait_until("a sign-in", || !sso.pending().is_empty());
    sso.pending().remove(0)
}

fn read(mount: &Mount) -> String {
    fs::read_to_string(mount.file("f")).unwrap()
}

#[test]
fn a_token_that_ends_is_refreshed_and_nobody_is_asked() {
    let stage = stage();
    leave_a_token(&stage, "corp", Duration::ZERO);
    let before = fs::read_to_string(cache(&stage, "corp")).unwrap();
    let mount = start(&stage);
    mount.wait_until_mounted();
    assert_eq!(read(&mount), "content");
    assert_eq!(stage.scene.pinentry.shown(), 0);
    // The AWS CLI finds the new one.
    let after = fs::read_to_string(cache(&stage, "corp")).unwrap();
    assert_ne!(before, after);
    let token: serde_json::Value = serde_json::from_str(&after).unwrap();
    assert!(token["refreshToken"].is_string() && token["clientId"].is_string());
}

#[test]
fn without_a_token_the_dialog_shows_page_and_code_and_closes_when_it_is_allowed() {
    let stage = stage();
    let mount = start(&stage);
    let code = pending(&stage);
    let pinentry = &stage.scene.pinentry;
    wait_until("the dialog", || pinentry.shown() == 1);
    let told = pinentry.last("SETDESC").unwrap();
    assert!(told.contains(&format!("Code: {code}")), "{told}");
    assert!(
        told.contains("Page: http") && told.contains("Bucket: docs"),
        "{told}"
    );
    assert!(!mount.is_served());
    assert!(stage.scene.sandbox.sso().approve(&code));
    mount.wait_until_mounted();
    assert_eq!(read(&mount), "content");
    wait_until("the end of the dialog", || !pinentry.is_open());
    // The AWS CLI is signed in as well.
    assert!(cache(&stage, "corp").exists());
    assert_eq!(pinentry.asked(), 0);
}

#[test]
fn what_waits_goes_on_when_the_person_has_signed_in_again() {
    let stage = stage();
    cli_signs_in(&stage, "corp");
    let mount = start(&stage);
    mount.wait_until_mounted();
    let sandbox = &stage.scene.sandbox;
    sandbox.sso().expire_access_tokens();
    sandbox.sso().revoke_refresh_tokens();
    sandbox.sessions().expire_all();
    let file = mount.file("f");
    let reader = std::thread::spawn(move || fs::read_to_string(file));
    let code = pending(&stage);
    assert!(!reader.is_finished());
    assert!(sandbox.sso().approve(&code));
    assert_eq!(reader.join().unwrap().unwrap(), "content");
}

#[test]
fn who_signs_in_with_the_cli_meanwhile_is_signed_in() {
    let stage = stage();
    let mount = start(&stage);
    pending(&stage);
    cli_signs_in(&stage, "corp");
    mount.wait_until_mounted();
    assert_eq!(read(&mount), "content");
}

#[test]
fn one_sign_in_serves_several_programs() {
    let stage = stage();
    let mount = start(&stage);
    let code = pending(&stage);
    let path = stage.scene.mountpoint("other");
    let other = Mount::start(&stage.scene, "docs", &path, &["--profile", "s"]);
    // It waits for the first one's dialog.
    wait_until("the other's waiting", || {
        other.log().contains("another program asks")
    });
    assert_eq!(
        stage.scene.sandbox.sso().pending(),
        std::slice::from_ref(&code)
    );
    assert!(stage.scene.sandbox.sso().approve(&code));
    mount.wait_until_mounted();
    other.wait_until_mounted();
    assert_eq!(stage.scene.pinentry.shown(), 1);
}

#[test]
fn no_is_no_in_the_dialog_and_on_the_page() {
    let stage = stage();
    let mut mount = start(&stage);
    wait_until("the dialog", || stage.scene.pinentry.shown() == 1);
    assert!(stage.scene.pinentry.answer("cancel"));
    assert_eq!(mount.wait().code(), Some(3));
    assert!(mount.log().contains("cancelled"), "{}", mount.log());
    drop(mount);
    stage.scene.log_out();
    let mut mount = start(&stage);
    wait_until("a new sign-in", || {
        stage.scene.sandbox.sso().pending().len() == 2
    });
    let code = stage.scene.sandbox.sso().pending().pop().unwrap();
    assert!(stage.scene.sandbox.sso().deny(&code));
    assert_eq!(mount.wait().code(), Some(3));
}

#[test]
fn a_browser_is_opened_where_there_is_one() {
    let stage = stage();
    let home = stage.scene.home();
    let browser = home.join("browser");
    let seen = home.join("seen");
    let script = format!("#!/bin/sh\necho \"$1\" >{}\n", seen.display());
    fs::write(&browser, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&browser, mode).unwrap();
    let mut command = stage.scene.command();
    let path = stage.scene.mountpoint("mnt");
    command.env("BROWSER", &browser);
    command.args([
        "docs",
        path.to_str().unwrap(),
        "--foreground",
        "--profile",
        "s",
    ]);
    let mount = Mount::spawn(command, &path);
    let code = pending(&stage);
    wait_until("the browser", || seen.exists());
    wait_until("the page", || {
        fs::read_to_string(&seen).unwrap().contains(&code)
    });
    // Who has read the dialog need not keep it open.
    wait_until("the dialog", || stage.scene.pinentry.shown() == 1);
    assert!(stage.scene.pinentry.answer("ok"));
    assert!(stage.scene.sandbox.sso().approve(&code));
    mount.wait_until_mounted();
}
