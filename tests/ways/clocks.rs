//! Clocks that are wrong, and codes that come too late.

use std::fs;
use std::time::Duration;

use s3mfa_sandbox::Skew;

use crate::case::Stage;

const TWENTY_MINUTES: Duration = Duration::from_secs(1200);

fn a_wrong_clock(which: Skew, words: &str) {
    let stage = Stage::new();
    let scene = &stage.scene;
    scene.sandbox.skew(TWENTY_MINUTES, which);
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(scene.pinentry.asked(), 1);
    let told = format!("this machine's clock is 20 minutes {words} AWS's");
    assert!(mount.log().contains(&told), "{}", mount.log());
    assert!(mount.log().contains("timedatectl"), "{}", mount.log());
    // Once it is known, nothing is sent twice.
    scene.sandbox.reset_counts();
    assert_eq!(fs::read_to_string(mount.file("open/f")).unwrap(), "content");
    let counts = scene.sandbox.counts();
    assert_eq!(counts.with_code("RequestTimeTooSkewed"), 0);
    // Writing, and a session that ends, work as ever.
    fs::write(mount.file("new"), "new").unwrap();
    assert_eq!(scene.bucket.get("new").unwrap(), "new");
    scene.sandbox.sessions().expire_all();
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    answering.join().unwrap();
}

#[test]
fn a_clock_that_is_behind_is_told_and_corrected() {
    a_wrong_clock(Skew::ServerAhead, "behind");
}

#[test]
fn a_clock_that_is_ahead_is_told_and_corrected() {
    a_wrong_clock(Skew::ServerBehind, "ahead of");
}

#[test]
fn a_used_code_is_not_sent_again_by_any_program() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let used = scene.device.code();
    scene.sandbox.sessions().expire_all();
    drop(mount);
    let spent = scene.sandbox.counts().spent_codes_sent();
    // Another program, which has not seen the code being used.
    let pinentry = scene.pinentry.clone();
    let device = scene.device.clone();
    let asked = pinentry.asked();
    let answering = std::thread::spawn(move || {
        pinentry.wait_until_asked(asked + 1);
        assert!(pinentry.answer(&used));
        pinentry.wait_until_asked(asked + 2);
        let error = pinentry.last("SETERROR").unwrap();
        assert!(error.contains("already used"), "{error}");
        assert!(error.contains("The next one shows in"), "{error}");
        assert!(pinentry.answer(&device.unspent_code()));
    });
    let printed = scene.control(&["credentials"]);
    answering.join().unwrap();
    assert_eq!(printed.code, 0, "{printed:?}");
    assert_eq!(scene.sandbox.counts().spent_codes_sent(), spent);
}

#[test]
fn a_code_of_the_last_second_of_its_step_is_good() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let clock = scene.sandbox.clock();
    let left = scene.device.spare_seconds();
    clock.advance(Duration::from_secs(left - 1));
    // It is typed at the end of its step, and arrives in the next one.
    let code = scene.device.code();
    let answering = scene
        .pinentry
        .answer_after(Duration::from_secs(2), move || code);
    let mount = scene.start(&[]);
    mount.wait_until_mounted();
    answering.join().unwrap();
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(scene.pinentry.asked(), 1);
}
