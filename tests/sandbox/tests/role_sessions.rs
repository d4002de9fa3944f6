//! Sessions of roles: how long they last, what they may do, and how policies name them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::Duration;

use clients::*;
use s3mfa_sandbox::policies;
use serde_json::{Value, json};

const ACCOUNT: &str = "123456789012";

#[tokio::test]
async fn sessions_are_as_long_as_the_role_allows() {
    let scene = Scene::new();
    let trust = policies::trust(scene.alice.arn());
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    let (long_term, session) = (scene.long_term(), scene.mfa_session().await);
    let ask = async |keys: &_, seconds: Option<i32>| {
        let sts = scene.sts(keys);
        let request = sts.assume_role().role_arn(role.arn());
        let request = request.role_session_name("test");
        request.set_duration_seconds(seconds).send().await
    };
    let length = |output: &aws_sdk_sts::operation::assume_role::AssumeRoleOutput| {
        let end = output.credentials().unwrap().expiration().secs();
        let now = scene.sandbox.clock().now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        end - i64::try_from(now.as_secs()).unwrap()
    };
    let usual = ask(&long_term, None).await.unwrap();
    assert!((3590..=3600).contains(&length(&usual)));
    let too_long =
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
    let too_long_for_a_chain = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
    // What no role may have comes before what this one may have, and that before what a chain may.
    for (keys, seconds, max, expected) in [
        (&long_term, 3601, 3600, too_long),
        (&session, 3601, 3600, too_long),
        (&session, 3601, 43_200, too_long_for_a_chain),
        (
            &session,
            43_201,
            43_200,
            "1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200",
        ),
    ] {
        role.set_max_session(Duration::from_secs(max));
        let error = refused(ask(keys, Some(seconds)).await);
        assert!(error.is(400, "ValidationError"), "{error:?}");
        assert_eq!(error.message, expected);
    }
    let longest = ask(&long_term, Some(43_200)).await.unwrap();
    assert!((43_190..=43_200).contains(&length(&longest)));
    ask(&session, Some(3600)).await.unwrap();

    // The sandbox's own limits hold for roles too.
    let error = refused(ask(&long_term, Some(60)).await);
    assert!(error.is(400, "ValidationError"), "{error:?}");
    scene.sandbox.sessions().allow_short_sessions(true);
    ask(&long_term, Some(60)).await.unwrap();
    let sessions = scene.sandbox.sessions();
    sessions.set_max_session(Duration::from_secs(30));
    let short = ask(&long_term, Some(60)).await.unwrap();
    assert!((20..=30).contains(&length(&short)));
}

#[tokio::test]
async fn sessions_of_roles_end_as_others_do() {
    let scene = Scene::new();
    let trust = policies::trust(scene.alice.arn());
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    let sts = scene.sts(&scene.long_term());
    let client = scene.s3(&assume(&sts, &role).await);
    scene.sandbox.clock().advance(Duration::from_secs(3601));
    let error = get(&client, "docs", "hello.txt").await.unwrap_err();
    assert!(error.is(400, "ExpiredToken"), "{error:?}");
    let keys = assume(&sts, &role).await;
    scene.sandbox.sessions().expire_all();
    let error = get(&scene.s3(&keys), "docs", "hello.txt")
        .await
        .unwrap_err();
    assert!(error.is(400, "ExpiredToken"), "{error:?}");
    let error = assume_refused(&scene.sts(&keys), role.arn()).await;
    assert!(error.is(403, "ExpiredToken"), "{error:?}");
    let client = scene.s3(&assume(&sts, &role).await);
    scene.sandbox.sessions().revoke_all();
    let error = get(&client, "docs", "hello.txt").await.unwrap_err();
    assert!(error.is(403, "InvalidAccessKeyId"), "{error:?}");
    assert_eq!(scene.sandbox.sessions().issued_count(), 3);
}

#[tokio::test]
async fn the_roles_policies_hold_for_live_sessions() {
    let scene = Scene::new();
    let trust = policies::trust(scene.alice.arn());
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    let sts = scene.sts(&scene.long_term());
    let client = scene.s3(&assume(&sts, &role).await);
    role.set_policies(Vec::<Value>::new()).unwrap();
    let error = get(&client, "docs", "hello.txt").await.unwrap_err();
    assert_eq!(
        error.message,
        "User: arn:aws:sts::123456789012:assumed-role/reader/test is not authorized to perform: s3:GetObject on \
         resource: \"arn:aws:s3:::docs/hello.txt\" because no identity-based policy allows the s3:GetObject action"
    );
    // A new trust policy is for new sessions.
    role.set_policies(vec![policies::ALLOW_ALL_S3]).unwrap();
    let bob = scene.sandbox.create_user("bob");
    role.set_trust_policy(policies::trust(bob.arn())).unwrap();
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    assert!(assume_refused(&sts, role.arn()).await.status == 403);
}

#[tokio::test]
async fn bucket_policies_name_roles_and_their_sessions() {
    let scene = Scene::new();
    let trust = policies::trust(scene.alice.arn());
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    role.set_policies(Vec::<Value>::new()).unwrap();
    let sts = scene.sts(&scene.long_term());
    let client = scene.s3(&assume(&sts, &role).await);
    let allow = |principal: &str, condition: Value| {
        scene.docs.set_policy(
            json!({"Statement": {"Effect": "Allow", "Principal": {"AWS": principal},
            "Action": "s3:GetObject", "Resource": "arn:aws:s3:::docs/*", "Condition": condition}}),
        )
    };
    let session = "arn:aws:sts::123456789012:assumed-role/reader/test";
    for principal in [role.arn(), session] {
        allow(principal, json!({})).unwrap();
        assert!(get(&client, "docs", "hello.txt").await.is_ok());
    }
    let own_id = format!("{}:test", role.id());
    for (key, value, is_so) in [
        ("aws:PrincipalArn", role.arn(), true),
        ("aws:PrincipalArn", session, false),
        ("aws:userid", own_id.as_str(), true),
        ("aws:userid", role.id(), false),
        ("aws:PrincipalType", "AssumedRole", true),
        ("aws:PrincipalAccount", ACCOUNT, true),
        ("aws:username", "alice", false),
    ] {
        allow(role.arn(), json!({"StringEquals": {key: value}})).unwrap();
        let got = get(&client, "docs", "hello.txt").await;
        assert_eq!(got.is_ok(), is_so, "{key} {value}: {got:?}");
    }
    allow(role.arn(), json!({"Null": {"aws:username": true}})).unwrap();
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    for principal in [
        scene.alice.arn(),
        "arn:aws:sts::123456789012:assumed-role/reader/other",
    ] {
        allow(principal, json!({})).unwrap();
        let got = get(&client, "docs", "hello.txt").await;
        assert!(got.unwrap_err().is(403, "AccessDenied"), "{principal}");
    }
    for principal in [
        "arn:aws:iam::123456789012:role/absent",
        "arn:aws:sts::123456789012:assumed-role/absent/test",
        "arn:aws:sts::123456789012:assumed-role/reader",
        "arn:aws:iam::123456789012:group/readers",
    ] {
        let error = allow(principal, json!({})).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            ("MalformedPolicy", "Invalid principal in policy")
        );
    }
}
