//! `status`, `renew`, `lock` and `unmount`, as transcripts.

use std::time::Duration;

use serde_json::Value;

use crate::case::{Stage, WITH_DEVICE};
use crate::scene::{Mount, wait_until};
use crate::transcript::{tame, transcript};

fn stage() -> Stage {
    let stage = Stage::new();
    stage.configure(WITH_DEVICE);
    stage
}

/// Runs a command, and compares everything that it prints and how it ends.
fn control(name: &str, stage: &Stage, args: &[&str]) {
    let outcome = stage.scene.control(args);
    let printed = format!(
        "$ s3mfa-mount {}\n{}{}[exit code {}]\n",
        args.join(" "),
        outcome.out,
        outcome.err,
        outcome.code
    );
    transcript(name, &tame(stage, &printed));
}

/// The status of a mount whose figures do not depend on the moment.
fn status(name: &str, stage: &Stage, mount: &Mount) {
    let path = mount.path().to_str().unwrap();
    let text = stage.scene.control(&["status", path]);
    assert_eq!(text.code, 0, "{text:?}");
    let mut tamed = String::new();
    for line in tame(stage, &text.out).lines() {
        // Counters, which depend on what went on in the background meanwhile.
        let counts = ["  requests", "  memory", "  cache"];
        if !counts.iter().any(|counter| line.starts_with(counter)) {
            tamed.push_str(&without_ages(line));
            tamed.push('\n');
        }
    }
    transcript(name, &tamed);
}

fn without_ages(line: &str) -> String {
    match line.split_once("code given ") {
        Some((head, _)) => format!("{head}code given N s ago"),
        None => line.to_owned(),
    }
}

#[test]
fn nothing_is_mounted() {
    let stage = stage();
    control("status_of_nothing", &stage, &["status"]);
    control("status_of_nothing_json", &stage, &["status", "--json"]);
    control("renew_of_nothing", &stage, &["renew"]);
    control("lock_of_nothing", &stage, &["lock"]);
    control("unmount_of_nothing", &stage, &["unmount", "/nowhere"]);
    control("status_of_a_place", &stage, &["status", "/nowhere"]);
}

#[test]
fn a_mount_that_lives_is_locked_and_is_renewed() {
    let stage = stage();
    let scene = &stage.scene;
    let mount = scene.mount(&["--prompt-timeout", "1"]);
    let path = mount.path().to_str().unwrap();
    status("status_live", &stage, &mount);
    control("lock", &stage, &["lock", path]);
    status("status_locked", &stage, &mount);
    // Nobody answers; who is asked to renew answers then.
    let answering = scene.pinentry.answer_after(Duration::ZERO, {
        let device = scene.device.clone();
        move || device.unspent_code()
    });
    control("renew", &stage, &["renew", path]);
    answering.join().unwrap();
    status("status_renewed", &stage, &mount);
    control("unmount", &stage, &["unmount", path]);
}

#[test]
fn a_person_who_says_no() {
    let stage = stage();
    let scene = &stage.scene;
    let mount = scene.mount(&[]);
    scene.sandbox.sessions().expire_all();
    let reading = std::thread::spawn({
        let file = mount.file("f");
        move || std::fs::read(file)
    });
    scene.pinentry.wait_until_asked(2);
    assert!(scene.pinentry.answer("cancel"));
    assert!(reading.join().unwrap().is_err());
    status("status_cooling_down", &stage, &mount);
    // `renew` asks all the same, and hears a no as well.
    let cancelling = std::thread::spawn({
        let pinentry = scene.pinentry.clone();
        move || {
            pinentry.wait_until_asked(3);
            pinentry.answer("cancel")
        }
    });
    let path = mount.path().to_str().unwrap();
    control("renew_cancelled", &stage, &["renew", path]);
    assert!(cancelling.join().unwrap());
}

/// What programs read: the names of everything, and which kind of thing it is.
#[test]
fn status_for_a_program() {
    let stage = stage();
    let mount = stage.scene.mount(&[]);
    wait_until("the session", || {
        mount.status(&stage.scene)["session"]["state"] == "live"
    });
    let printed = stage.scene.control(&["status", "--json"]);
    let status: Value = serde_json::from_str(&printed.out).unwrap();
    transcript("status_json", &format!("{:#}\n", shape(&status)));
}

/// A document with the kinds of its values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null or more".into(),
        Value::Bool(_) => "yes or no".into(),
        Value::Number(_) => "a number".into(),
        Value::String(_) => "a text".into(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(fields) => {
            let shapes = fields
                .iter()
                .map(|(name, value)| (name.clone(), shape(value)));
            Value::Object(shapes.collect())
        }
    }
}
