//! A real account of AWS, if one is named: what no document says is settled there, and what this
//! program and the sandbox take for granted is tried.
//!
//! ```sh
//! S3MFA_LIVE_PROFILE=admin-of-a-test-account cargo test --test others live -- --nocapture
//! ```
//!
//! The profile is one of the AWS CLI's, and may manage IAM and S3. Everything that is made is called
//! `s3mfa-live-...`, and goes at the end, whatever happens; what could not be removed is named.
//! `S3MFA_LIVE_REGION` is another region than `us-east-1`; `S3MFA_LIVE_SLOW=1` also waits the 15
//! minutes until a session has ended; `S3MFA_LIVE_LOGIN_PROFILE` is a profile of `aws login`.
//!
//! Without an account the same steps are rehearsed at ministack, which checks no codes: nothing is
//! settled there, but each step is known to work.

mod account;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use account::{Account, Keys, Live, TOO_LONG};
use serde_json::{Value, json};

use crate::scene::{holds_within, parts};

/// Never what was granted, which may be secret.
fn outcome(of: &Result<Value, String>) -> String {
    match of {
        Ok(_) => "allowed".to_owned(),
        Err(error) => format!("denied ({error})"),
    }
}

fn tell(number: u32, question: &str, answer: &str) {
    eprintln!("[{number}] {question}\n    {answer}");
}

/// The open questions, in the order of the list.
fn settle(live: &mut Live) {
    let is_real = matches!(live.account, Account::Profile(_));
    // Codes and errors come first: a code that STS refuses for another reason.
    let code = live.code();
    let refused = live.session_token_for(&code, TOO_LONG);
    let again = live.session_token_for(&code, "900");
    let spent = match &again {
        Ok(_) => "no".to_owned(),
        Err(error) => format!("yes: {error}"),
    };
    let first = refused.err().unwrap_or_else(|| "granted".to_owned());
    tell(
        5,
        "Is a code spent by a request that fails its validation?",
        &format!("{spent} (the request that failed: {first})"),
    );
    let granted = match again {
        Ok(granted) => granted,
        Err(_) => live.session_token("900").unwrap(),
    };
    let (session, began) = (Keys::of(&granted["Credentials"]), SystemTime::now());
    if is_real {
        live.deny(&json!({"Null": {"aws:MultiFactorAuthAge": "true"}}));
        live.settled("the policy", || match live.reads(&live.keys) {
            Err(_) => Ok(Value::Null),
            Ok(_) => Err("still lets keys without MFA in".to_owned()),
        });
        assert!(live.reads(&session).is_ok(), "a session with MFA is denied");
    }
    let role = live.assume(&session).unwrap();
    let through_role = live.reads(&role);
    tell(
        1,
        "Does a role that is assumed with a session carry its MFA to the bucket's policy?",
        &outcome(&through_role),
    );
    // An age that the session has passed, and the role has not.
    let limit = Duration::from_secs(60);
    if is_real {
        live.deny(&json!({"NumericGreaterThan": {"aws:MultiFactorAuthAge": "60"}}));
        let passed = limit + Duration::from_secs(30);
        holds_within(passed * 2, || began.elapsed().unwrap_or_default() > passed);
        live.settled("the policy", || match live.reads(&session) {
            Err(_) => Ok(Value::Null),
            Ok(_) => Err("still lets an old code in".to_owned()),
        });
    }
    let young = live.assume(&session).unwrap();
    let with_the_role = live.reads(&young);
    tell(
        2,
        "Is a role's session denied when the code behind it is too old, however young the role is?",
        &outcome(&with_the_role),
    );
    let endpoint = match &live.account {
        Account::Profile(_) => format!("https://s3.{}.amazonaws.com", live.region),
        Account::Rehearsal(server) => server.endpoint.clone(),
    };
    let url = format!("{endpoint}/{}/f", live.name);
    tell(
        6,
        "What does S3 say of a code that is too old?",
        &live.verbatim(&session, "s3", &url),
    );
    match std::env::var("S3MFA_LIVE_LOGIN_PROFILE") {
        Ok(profile) if is_real => {
            live.admin(&["s3api", "delete-bucket-policy", "--bucket", &live.name]);
            let mut command = live.cli();
            command.env("AWS_PROFILE", profile);
            let args = ["sts", "get-session-token"];
            tell(
                3,
                "What are the keys of `aws login`, to STS?",
                &format!("{:?}", Live::output(command, &args).map(|_| "long-term")),
            );
        }
        _ => tell(
            3,
            "Do the keys of `aws login` carry MFA?",
            "not asked: no S3MFA_LIVE_LOGIN_PROFILE",
        ),
    }
    if std::env::var_os("S3MFA_LIVE_SLOW").is_some() && is_real {
        let ends = Duration::from_secs(930);
        holds_within(ends * 2, || began.elapsed().unwrap_or_default() > ends);
        let url = format!(
            "https://sts.{}.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
            live.region
        );
        tell(
            4,
            "What does STS say to a session that has ended?",
            &live.verbatim(&session, "sts", &url),
        );
    } else {
        tell(
            4,
            "What does STS say to a session that has ended?",
            "not asked: no S3MFA_LIVE_SLOW",
        );
    }
}

/// What this program does there.
fn mounts(live: &mut Live) {
    let is_real = matches!(live.account, Account::Profile(_));
    if is_real {
        live.deny(&json!({"Null": {"aws:MultiFactorAuthAge": "true"}}));
        live.settled("the policy", || match live.reads(&live.keys) {
            Err(_) => Ok(Value::Null),
            Ok(_) => Err("still lets keys without MFA in".to_owned()),
        });
    }
    let serial = live.serial.clone();
    let mut ways = vec![vec![
        "--mfa-serial",
        &*serial,
        "--credentials",
        "session-token",
    ]];
    if is_real {
        // IAM is asked, or the name guessed.
        ways.push(vec!["--mfa-serial", "auto"]);
    }
    for way in ways {
        let mount = live.mount(&way);
        let file = mount.file("f");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "content", "{way:?}");
        let ours: PathBuf = mount.file("ours");
        std::fs::write(&ours, "ours").unwrap();
        std::fs::rename(&ours, mount.file("renamed")).unwrap();
        assert_eq!(
            std::fs::read_to_string(mount.file("renamed")).unwrap(),
            "ours"
        );
        std::fs::remove_file(mount.file("renamed")).unwrap();
    }
}

#[test]
fn live() {
    let Ok(profile) = std::env::var("S3MFA_LIVE_PROFILE") else {
        // Not even under CI: it costs an account.
        // Nor with `eprintln!`, which the test runner keeps to itself when a test passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED live: S3MFA_LIVE_PROFILE names no account"
        );
        return;
    };
    let mut live = Live::new(Account::Profile(profile));
    mounts(&mut live);
    settle(&mut live);
}

#[test]
fn live_rehearsal() {
    if !parts::are_here("live_rehearsal", &["curl"], "apt-get install curl") {
        return;
    }
    let Some(server) = crate::servers::ministack("live_rehearsal") else {
        return;
    };
    let mut live = Live::new(Account::Rehearsal(server));
    mounts(&mut live);
    settle(&mut live);
}
