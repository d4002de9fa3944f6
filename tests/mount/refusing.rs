//! What happens when the person says no, or says something wrong.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use s3mfa_sandbox::Kind;

use crate::scene::{Scene, errno, wait_until};

#[test]
fn cancel_fails_everything_that_waits_and_a_cool_down_follows() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--prompt-cooldown", "2", "--metadata-ttl", "0"]);
    scene.sandbox.sessions().expire_all();
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let file = mount.file("f");
            thread::spawn(move || errno(fs::read(file)))
        })
        .collect();
    scene.pinentry.wait_until_asked(2);
    assert!(scene.pinentry.answer("cancel"));
    let start = Instant::now();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), libc::EKEYEXPIRED);
    }
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    // Quiet for two seconds, then for ten.
    assert_eq!(errno(fs::read(mount.file("f"))), libc::EKEYEXPIRED);
    assert_eq!(scene.pinentry.asked(), 2);
    assert!(mount.status(&scene)["session"]["cooling_down_until"].is_string());
    wait_until("the end of the cool-down", || {
        mount.status(&scene)["session"]["cooling_down_until"].is_null()
    });
    let refusing = scene.pinentry.answer_next("cancel".to_owned());
    assert_eq!(errno(fs::read(mount.file("f"))), libc::EKEYEXPIRED);
    refusing.join().unwrap();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(errno(fs::read(mount.file("f"))), libc::EKEYEXPIRED);
    assert_eq!(
        scene.pinentry.asked(),
        3,
        "still quiet after what was enough before"
    );

    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let renewed = scene.control(&["renew", mount.path().to_str().unwrap()]);
    answering.join().unwrap();
    assert_eq!(renewed.code, 0, "{renewed:?}");
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert!(mount.status(&scene)["session"]["cooling_down_until"].is_null());
}

#[test]
fn nobody_answers_and_all_fail_at_the_deadline_but_a_late_answer_opens() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--prompt-timeout", "2", "--metadata-ttl", "0"]);
    scene.sandbox.sessions().expire_all();
    let start = Instant::now();
    assert_eq!(errno(fs::read(mount.file("f"))), libc::EKEYEXPIRED);
    let waited = start.elapsed();
    assert!(
        waited >= Duration::from_secs(2) && waited < Duration::from_secs(4),
        "{waited:?}"
    );
    assert!(scene.pinentry.is_open());
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    wait_until("the late session", || {
        mount.status(&scene)["session"]["state"] == "live"
    });
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(scene.pinentry.asked(), 2);
}

/// Plays answers to the first prompts of a mount, then the right code.
fn login_after(answers: &[&str], complaints: &[&str]) {
    let scene = Scene::new();
    let mount = scene.start(&[]);
    for (i, (answer, complaint)) in answers.iter().zip(complaints).enumerate() {
        scene.pinentry.wait_until_asked(i + 1);
        assert!(scene.pinentry.answer(answer));
        scene.pinentry.wait_until_asked(i + 2);
        let error = scene.pinentry.last("SETERROR").unwrap();
        assert!(error.contains(complaint), "{answer}: {error}");
    }
    assert_eq!(
        scene.sandbox.counts().of(Kind::GetSessionToken),
        0,
        "checked here"
    );
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    mount.wait_until_mounted();
}

#[test]
fn what_cannot_be_a_code_is_said_in_the_dialog_and_not_sent() {
    login_after(
        &["12345", "12a456"],
        &["has six digits, this one has 5", "digits only"],
    );
}

#[test]
fn blanks_in_a_code_do_not_matter() {
    let scene = Scene::new();
    let code = scene.device.unspent_code();
    let typed = format!(" {} {} ", &code[..3], &code[3..]);
    let mount = scene.start(&[]);
    scene.pinentry.wait_until_asked(1);
    assert!(scene.pinentry.answer(&typed));
    mount.wait_until_mounted();
    assert_eq!(scene.pinentry.asked(), 1);
}

#[test]
fn a_wrong_code_is_said_in_the_dialog_and_the_third_is_the_last() {
    let scene = Scene::new();
    let right: u32 = scene.device.code().parse().unwrap();
    let mut mount = scene.start(&[]);
    for i in 1..=3 {
        scene.pinentry.wait_until_asked(usize::try_from(i).unwrap());
        if i > 1 {
            let error = scene.pinentry.last("SETERROR").unwrap();
            assert!(
                error.contains("refused the code") && error.contains("of 3"),
                "{error}"
            );
        }
        // Half a million away from the codes of these minutes, in all likelihood.
        let wrong = format!("{:06}", (right + 500_000 + i) % 1_000_000);
        assert!(scene.pinentry.answer(&wrong));
    }
    assert_eq!(mount.wait().code(), Some(3));
    assert_eq!(scene.pinentry.asked(), 3);
    assert_eq!(scene.sandbox.counts().codes_sent(), 3);
    assert!(
        mount.log().contains("no session after 3 codes"),
        "{}",
        mount.log()
    );
}

#[test]
fn a_code_that_was_used_is_never_sent_again() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let used = scene.device.unspent_code();
    let mount = scene.start(&["--metadata-ttl", "0"]);
    scene.pinentry.wait_until_asked(1);
    assert!(scene.pinentry.answer(&used));
    mount.wait_until_mounted();
    scene.sandbox.sessions().expire_all();
    let file = mount.file("f");
    let reader = thread::spawn(move || fs::read_to_string(file));
    scene.pinentry.wait_until_asked(2);
    assert!(scene.pinentry.answer(&used));
    scene.pinentry.wait_until_asked(3);
    let error = scene.pinentry.last("SETERROR").unwrap();
    assert!(
        error.contains("already used") && error.contains("next one shows in"),
        "{error}"
    );
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    assert_eq!(reader.join().unwrap().unwrap(), "content");
    assert_eq!(scene.sandbox.counts().spent_codes_sent(), 0);
    assert_eq!(scene.sandbox.counts().codes_sent(), 2);
}

#[test]
fn a_device_of_somebody_else_is_named_and_asked_about_once() {
    let scene = Scene::new();
    let bob = scene.sandbox.create_user("bob");
    let device = scene.sandbox.create_device(&bob);
    let mut mount = scene.start(&["--mfa-serial", device.serial()]);
    scene.pinentry.wait_until_asked(1);
    assert!(scene.pinentry.answer(&device.unspent_code()));
    assert_eq!(mount.wait().code(), Some(3));
    assert!(mount.log().contains("mfa/bob"), "{}", mount.log());
    assert_eq!(scene.pinentry.asked(), 1);
}

/// A handle would be good until the kernel forgets the inode, and stale afterwards.
#[test]
fn handles_that_would_not_last_are_refused_at_once() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&[]);
    let path = std::ffi::CString::new(mount.file("f").into_os_string().into_encoded_bytes());
    let path = path.unwrap();
    // `struct file_handle` with room for the largest one.
    let mut handle = [0_u32; 64];
    handle[0] = 128;
    let mut mount_id = 0;
    // SAFETY: the buffer has the room that it says.
    #[allow(unsafe_code)]
    let outcome = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            handle.as_mut_ptr().cast(),
            &raw mut mount_id,
            0,
        )
    };
    let outcome = nix::errno::Errno::result(outcome);
    assert_eq!(outcome, Err(nix::errno::Errno::EOPNOTSUPP));
}
