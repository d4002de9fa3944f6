//! GetSessionToken and GetCallerIdentity, as STS does them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clients::*;
use s3mfa_sandbox::Kind;

const WRONG_CODE: &str = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
const WRONG_SERIAL: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";

/// Asks for a session with the parameters, and returns its refusal.
async fn refusal(
    scene: &Scene,
    serial: Option<&str>,
    code: Option<&str>,
    seconds: Option<i32>,
) -> Refused {
    let sts = scene.sts(&scene.long_term());
    let request = sts.get_session_token();
    let request = request
        .set_serial_number(serial.map(str::to_owned))
        .set_token_code(code.map(str::to_owned));
    refused(request.set_duration_seconds(seconds).send().await)
}

#[tokio::test]
async fn a_code_opens_a_session_once() {
    let scene = Scene::new();
    let sts = scene.sts(&scene.long_term());
    let code = scene.phone.code();
    let ask = || {
        sts.get_session_token()
            .serial_number(scene.phone.serial())
            .token_code(&code)
            .send()
    };
    let before = SystemTime::now();
    let session = ask().await.unwrap().credentials.unwrap();
    assert!(session.access_key_id().starts_with("ASIA"));
    let expiration =
        UNIX_EPOCH + Duration::from_secs(u64::try_from(session.expiration().secs()).unwrap());
    let length = expiration.duration_since(before).unwrap().as_secs();
    assert!((43_198..=43_201).contains(&length), "{length}");

    let error = refused(ask().await);
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert_eq!(error.message, WRONG_CODE);
    assert!(
        error.body.contains("<Type>Sender</Type>") && error.body.contains("<RequestId>"),
        "{error:?}"
    );
    let counts = scene.sandbox.counts();
    assert_eq!((counts.codes_sent(), counts.spent_codes_sent()), (2, 1));
    assert_eq!(
        (
            counts.succeeded(Kind::GetSessionToken),
            counts.refused(Kind::GetSessionToken)
        ),
        (1, 1)
    );

    let code = scene.phone.unspent_code();
    let ask = || {
        sts.get_session_token()
            .serial_number(scene.phone.serial())
            .token_code(&code)
            .send()
    };
    ask().await.unwrap();
    assert_eq!(refused(ask().await).message, WRONG_CODE);
    assert_eq!(scene.sandbox.sessions().issued_count(), 2);
}

#[tokio::test]
async fn a_wrong_code_is_refused_and_uses_nothing_up() {
    let scene = Scene::new();
    let right = scene.phone.unspent_code();
    let wrong = if right == "000000" {
        "000001"
    } else {
        "000000"
    };
    let serial = Some(scene.phone.serial());
    let error = refusal(&scene, serial, Some(wrong), None).await;
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert_eq!(error.message, WRONG_CODE);
    let stale = scene
        .phone
        .code_at(scene.sandbox.clock().now() - Duration::from_secs(90));
    assert_eq!(
        refusal(&scene, serial, Some(&stale), None).await.message,
        WRONG_CODE
    );
    // Neither a refused duration nor a wrong device uses up the right code.
    assert!(
        refusal(&scene, serial, Some(&right), Some(1))
            .await
            .is(400, "ValidationError")
    );
    assert!(
        refusal(&scene, None, Some(&right), None)
            .await
            .is(403, "AccessDenied")
    );
    scene.mfa_session().await;
    let counts = scene.sandbox.counts();
    assert_eq!((counts.codes_sent(), counts.spent_codes_sent()), (5, 0));
}

#[tokio::test]
async fn the_device_must_be_the_users_own() {
    let scene = Scene::new();
    let bob = scene.sandbox.create_user("bob");
    let foreign = scene.sandbox.create_device(&bob);
    let code = foreign.unspent_code();
    for serial in [
        foreign.serial(),
        "arn:aws:iam::123456789012:mfa/nobody",
        scene.alice.arn(),
    ] {
        let error = refusal(&scene, Some(serial), Some(&code), None).await;
        assert!(error.is(403, "AccessDenied"), "{error:?}");
        assert_eq!(error.message, WRONG_SERIAL);
    }
    // Her second device is as good as the first.
    let second = scene.sandbox.create_device(&scene.alice);
    assert_eq!(second.serial(), "arn:aws:iam::123456789012:mfa/alice-2");
    let sts = scene.sts(&scene.long_term());
    sts.get_session_token()
        .serial_number(second.serial())
        .token_code(second.code())
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn serial_and_code_come_together_or_not_at_all() {
    let scene = Scene::new();
    let text = "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";
    let code = scene.phone.code();
    for error in [
        refusal(&scene, Some(scene.phone.serial()), None, None).await,
        refusal(&scene, None, Some(&code), None).await,
    ] {
        assert!(error.is(403, "AccessDenied"), "{error:?}");
        assert_eq!(error.message, text);
    }
    scene.plain_session().await;
}

#[tokio::test]
async fn parameters_out_of_bounds_are_validation_errors() {
    let scene = Scene::new();
    let serial = Some(scene.phone.serial());
    let head = |count: usize| {
        format!(
            "{count} validation error{} detected: ",
            if count == 1 { "" } else { "s" }
        )
    };
    let constraint = |value: &str, at: &str, must: &str| {
        format!("Value '{value}' at '{at}' failed to satisfy constraint: Member must {must}")
    };
    for (code, must) in [
        ("1234567", "have length less than or equal to 6"),
        ("12345", "have length greater than or equal to 6"),
        ("12345x", r"satisfy regular expression pattern: [\d]*"),
    ] {
        let error = refusal(&scene, serial, Some(code), None).await;
        assert!(error.is(400, "ValidationError"), "{error:?}");
        assert_eq!(
            error.message,
            head(1) + &constraint(code, "tokenCode", must)
        );
    }
    let error = refusal(&scene, Some("short"), Some("12345x"), None).await;
    let both = constraint(
        "short",
        "serialNumber",
        "have length greater than or equal to 9",
    ) + "; "
        + &constraint(
            "12345x",
            "tokenCode",
            r"satisfy regular expression pattern: [\d]*",
        );
    assert_eq!(error.message, head(2) + &both);
    for (seconds, must) in [
        (899, "have value greater than or equal to 900"),
        (129_601, "have value less than or equal to 129600"),
    ] {
        let error = refusal(&scene, None, None, Some(seconds)).await;
        assert!(error.is(400, "ValidationError"), "{error:?}");
        assert_eq!(
            error.message,
            head(1) + &constraint(&seconds.to_string(), "durationSeconds", must)
        );
    }
    let sts = scene.sts(&scene.long_term());
    for seconds in [900, 129_600] {
        sts.get_session_token()
            .duration_seconds(seconds)
            .send()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn sessions_can_be_shorter_than_aws_makes_them() {
    let scene = Scene::new();
    scene
        .sandbox
        .sessions()
        .set_max_session(Duration::from_secs(60));
    let client = scene.s3(&scene.mfa_session().await);
    scene.sandbox.clock().advance(Duration::from_secs(58));
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    scene.sandbox.clock().advance(Duration::from_secs(2));
    assert!(
        get(&client, "docs", "hello.txt")
            .await
            .unwrap_err()
            .is(400, "ExpiredToken")
    );

    // The bound on what may be asked for stands, unless it is lifted.
    assert!(
        refusal(&scene, None, None, Some(2))
            .await
            .is(400, "ValidationError")
    );
    scene.sandbox.sessions().allow_short_sessions(true);
    let sts = scene.sts(&scene.long_term());
    sts.get_session_token()
        .duration_seconds(2)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn session_credentials_get_no_session() {
    let scene = Scene::new();
    let sts = scene.sts(&scene.mfa_session().await);
    let code = scene.phone.unspent_code();
    let request = sts
        .get_session_token()
        .serial_number(scene.phone.serial())
        .token_code(&code);
    let error = refused(request.send().await);
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert_eq!(
        error.message,
        "Cannot call GetSessionToken with session credentials"
    );
    assert_eq!(scene.phone.unspent_code(), code);
}

#[tokio::test]
async fn everyone_may_ask_who_they_are() {
    let scene = Scene::new();
    scene
        .sandbox
        .set_user_policies(&scene.alice, Vec::<&str>::new())
        .unwrap();
    for keys in [
        scene.long_term(),
        scene.plain_session().await,
        scene.mfa_session().await,
    ] {
        let identity = scene.sts(&keys).get_caller_identity().send().await.unwrap();
        assert_eq!(identity.arn(), Some("arn:aws:iam::123456789012:user/alice"));
        assert_eq!(identity.account(), Some("123456789012"));
        assert_eq!(identity.user_id(), Some(scene.alice.id()));
    }
    assert_eq!(scene.sandbox.counts().of(Kind::GetCallerIdentity), 3);
}

#[tokio::test]
async fn roles_and_unknown_actions_are_refused() {
    let scene = Scene::new();
    let sts = scene.sts(&scene.long_term());
    let role = "arn:aws:iam::123456789012:role/reader";
    let error = refused(
        sts.assume_role()
            .role_arn(role)
            .role_session_name("test")
            .send()
            .await,
    );
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert_eq!(
        error.message,
        format!(
            "User: {} is not authorized to perform: sts:AssumeRole on resource: {role}",
            scene.alice.arn()
        )
    );
    let error = refused(sts.get_federation_token().name("test").send().await);
    assert!(error.is(400, "InvalidAction"), "{error:?}");
    assert_eq!(scene.sandbox.counts().of(Kind::OtherSts), 1);
}

#[tokio::test]
async fn one_code_is_good_for_one_of_many_at_once() {
    let scene = Scene::new();
    let code = scene.phone.unspent_code();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let sts = scene.sts(&scene.long_term());
            let request = sts
                .get_session_token()
                .serial_number(scene.phone.serial())
                .token_code(&code);
            tokio::spawn(request.send())
        })
        .collect();
    let mut opened = 0;
    for task in tasks {
        opened += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(opened, 1);
    assert_eq!(scene.sandbox.counts().spent_codes_sent(), 7);
}
