//! AssumeRole: who may, and what becomes of MFA.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::Duration;

use clients::*;
use s3mfa_sandbox::{Kind, policies};
use serde_json::{Value, json};

const ACCOUNT: &str = "123456789012";
const WRONG_CODE: &str = "MultiFactorAuthentication failed with invalid MFA one time pass code.";

fn not_authorized(caller: &str, role: &str) -> String {
    format!("User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}")
}

#[tokio::test]
async fn a_role_that_trusts_a_user_gives_her_a_session() {
    let scene = Scene::new();
    let trust = policies::trust(scene.alice.arn());
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    assert_eq!(role.name(), "reader");
    assert_eq!(role.arn(), "arn:aws:iam::123456789012:role/reader");
    assert!(role.id().starts_with("AROA") && role.id().len() == 21);

    let sts = scene.sts(&scene.long_term());
    let request = sts.assume_role().role_arn(role.arn());
    let output = request.role_session_name("a.b@c").send().await.unwrap();
    let session_arn = "arn:aws:sts::123456789012:assumed-role/reader/a.b@c";
    let session_id = format!("{}:a.b@c", role.id());
    let acting = output.assumed_role_user().unwrap();
    assert_eq!(acting.arn(), session_arn);
    assert_eq!(acting.assumed_role_id(), session_id);

    let keys = credentials(output.credentials().unwrap());
    assert!(keys.access_key_id().starts_with("ASIA"));
    let identity = scene.sts(&keys).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some(session_arn));
    assert_eq!(identity.user_id(), Some(session_id.as_str()));
    assert_eq!(identity.account(), Some(ACCOUNT));
    assert_eq!(
        get(&scene.s3(&keys), "docs", "hello.txt").await.unwrap(),
        "hello"
    );
    assert_eq!(scene.sandbox.counts().succeeded(Kind::AssumeRole), 1);

    let sts = scene.sts(&keys);
    let request = sts
        .get_session_token()
        .serial_number(scene.phone.serial())
        .token_code(scene.phone.unspent_code());
    assert_eq!(
        refused(request.send().await).message,
        "Cannot call GetSessionToken with session credentials"
    );
}

#[tokio::test]
async fn trust_in_the_account_leaves_it_to_the_users_policies() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let role = sandbox
        .create_role("reader", policies::trust(ACCOUNT))
        .unwrap();
    let sts = scene.sts(&scene.long_term());
    let denied = not_authorized(scene.alice.arn(), role.arn());
    let error = assume_refused(&sts, role.arn()).await;
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert_eq!(error.message, denied);

    let allow = policies::allow_assume_role(role.arn());
    sandbox.put_user_policy(&scene.alice, allow).unwrap();
    assume(&sts, &role).await;

    // That policy is no use where the role trusts somebody else, or does not exist.
    let bob = sandbox.create_user("bob");
    role.set_trust_policy(policies::trust(bob.arn())).unwrap();
    assert_eq!(assume_refused(&sts, role.arn()).await.message, denied);
    let absent = "arn:aws:iam::123456789012:role/absent";
    assert_eq!(
        assume_refused(&sts, absent).await.message,
        not_authorized(scene.alice.arn(), absent)
    );

    // Bob needs no policy, but may not have one against it either.
    let bobs = scene.sts(&long_term(&bob));
    assume(&bobs, &role).await;
    let deny = r#"{"Statement": {"Effect": "Deny", "Action": "sts:*", "Resource": "*"}}"#;
    sandbox.put_user_policy(&bob, deny).unwrap();
    assert!(
        assume_refused(&bobs, role.arn())
            .await
            .is(403, "AccessDenied")
    );
    let both = policies::merge(&[
        policies::trust("*"),
        json!({"Statement": {"Effect": "Deny", "Principal": {"AWS": scene.alice.arn()}, "Action": "sts:AssumeRole"}}),
    ]);
    role.set_trust_policy(both).unwrap();
    assert_eq!(assume_refused(&sts, role.arn()).await.message, denied);
}

#[tokio::test]
async fn a_role_may_ask_for_mfa() {
    let scene = Scene::new();
    let trust = policies::trust_with_mfa(scene.alice.arn());
    let role = scene.sandbox.create_role("admin", trust).unwrap();
    let sts = scene.sts(&scene.long_term());
    let denied = not_authorized(scene.alice.arn(), role.arn());
    assert_eq!(assume_refused(&sts, role.arn()).await.message, denied);
    let plain = scene.sts(&scene.plain_session().await);
    assert_eq!(assume_refused(&plain, role.arn()).await.message, denied);

    let with_code = || {
        let request = sts.assume_role().role_arn(role.arn());
        let request = request.role_session_name("test");
        request.serial_number(scene.phone.serial())
    };
    let code = scene.phone.unspent_code();
    with_code().token_code(&code).send().await.unwrap();
    let error = refused(with_code().token_code(&code).send().await);
    assert!(error.is(403, "AccessDenied") && error.message == WRONG_CODE);
    let session = scene.sts(&scene.mfa_session().await);
    assume(&session, &role).await;

    // How old the code is counts as well.
    let fresh = json!({"Statement": {"Effect": "Allow", "Principal": {"AWS": scene.alice.arn()},
        "Action": "sts:AssumeRole", "Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}}}});
    role.set_trust_policy(fresh).unwrap();
    assume(&session, &role).await;
    scene.sandbox.clock().advance(Duration::from_secs(301));
    assert_eq!(assume_refused(&session, role.arn()).await.message, denied);
    let code = scene.phone.unspent_code();
    with_code().token_code(code).send().await.unwrap();
    let counts = scene.sandbox.counts();
    assert_eq!((counts.codes_sent(), counts.spent_codes_sent()), (4, 1));
}

#[tokio::test]
async fn a_request_that_fails_uses_no_code_up() {
    let scene = Scene::new();
    let trust = policies::trust_with_external_id(scene.alice.arn(), "secret");
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    let sts = scene.sts(&scene.long_term());
    let code = scene.phone.unspent_code();
    let request = |external_id: &str, seconds: i32| {
        let request = sts.assume_role().role_arn(role.arn());
        let request = request
            .role_session_name("test")
            .external_id(external_id)
            .duration_seconds(seconds);
        request
            .serial_number(scene.phone.serial())
            .token_code(&code)
    };
    let error = refused(request("wrong", 900).send().await);
    assert_eq!(error.message, not_authorized(scene.alice.arn(), role.arn()));
    let error = refused(request("secret", 3601).send().await);
    assert!(error.is(400, "ValidationError"), "{error:?}");
    let error = refused(request("secret", 899).send().await);
    assert!(error.is(400, "ValidationError"), "{error:?}");
    request("secret", 900).send().await.unwrap();
    assert_eq!(
        refused(request("secret", 900).send().await).message,
        WRONG_CODE
    );

    // The device rules are those of GetSessionToken.
    let bob = scene.sandbox.create_user("bob");
    let foreign = scene.sandbox.create_device(&bob);
    let with = |serial: Option<&str>, code: Option<String>| {
        let request = sts.assume_role().role_arn(role.arn());
        let request = request.role_session_name("test").external_id("secret");
        request
            .set_serial_number(serial.map(str::to_owned))
            .set_token_code(code)
            .send()
    };
    let error = refused(with(Some(foreign.serial()), Some(foreign.code())).await);
    assert_eq!(
        error.message,
        "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
    );
    for half in [
        with(Some(scene.phone.serial()), None).await,
        with(None, Some(scene.phone.unspent_code())).await,
    ] {
        assert_eq!(
            refused(half).message,
            "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
        );
    }
    // Nothing but the external id was wrong.
    with(None, None).await.unwrap();
}

#[tokio::test]
async fn one_code_assumes_a_role_once_of_many_at_once() {
    let scene = Scene::new();
    let trust = policies::trust_with_mfa(scene.alice.arn());
    let role = scene.sandbox.create_role("admin", trust).unwrap();
    let code = scene.phone.unspent_code();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let sts = scene.sts(&scene.long_term());
            let request = sts.assume_role().role_arn(role.arn());
            let request = request.role_session_name("test").token_code(&code);
            tokio::spawn(request.serial_number(scene.phone.serial()).send())
        })
        .collect();
    let mut assumed = 0;
    for task in tasks {
        assumed += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(assumed, 1);
    assert_eq!(scene.sandbox.counts().spent_codes_sent(), 7);
}

#[tokio::test]
async fn a_code_for_the_role_is_no_mfa_for_the_bucket() {
    let scene = Scene::new();
    let trust = policies::trust_with_mfa(scene.alice.arn());
    let role = scene.sandbox.create_role("admin", trust).unwrap();
    let sts = scene.sts(&scene.long_term());
    let request = sts.assume_role().role_arn(role.arn());
    let request = request
        .role_session_name("test")
        .serial_number(scene.phone.serial())
        .token_code(scene.phone.unspent_code());
    let output = request.send().await.unwrap();
    let client = scene.s3(&credentials(output.credentials().unwrap()));
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    // The key is there and false: even the policy that long-term keys slip through denies it.
    for policy in [
        policies::require_mfa_null_age("docs"),
        policies::require_mfa_bool("docs"),
        policies::require_mfa_bool_if_exists("docs"),
    ] {
        scene.docs.set_policy(&policy).unwrap();
        let error = get(&client, "docs", "hello.txt").await.unwrap_err();
        assert!(error.is(403, "AccessDenied"), "{policy}: {error:?}");
        assert_eq!(
            error.message,
            "User: arn:aws:sts::123456789012:assumed-role/admin/test is not authorized to perform: s3:GetObject on \
             resource: \"arn:aws:s3:::docs/hello.txt\" with an explicit deny in a resource-based policy"
        );
    }
    // But there is no age, so a policy on the age alone lets it pass.
    let age = policies::require_mfa_age("docs", 60);
    scene.docs.set_policy(age).unwrap();
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
}

#[tokio::test]
async fn a_session_with_mfa_hands_it_on_to_the_role() {
    let scene = Scene::new();
    let trust = policies::trust_with_mfa(scene.alice.arn());
    let role = scene.sandbox.create_role("admin", trust).unwrap();
    let strict = policies::require_fresh_mfa("docs", 3600);
    scene.docs.set_policy(strict).unwrap();
    let session = scene.mfa_session().await;
    scene.sandbox.clock().advance(Duration::from_secs(1800));
    let sts = scene.sts(&session);
    let client = scene.s3(&assume(&sts, &role).await);
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    // The age counts from the session's code, and a new session of the role makes it no younger.
    scene.sandbox.clock().advance(Duration::from_secs(1801));
    let client = scene.s3(&assume(&sts, &role).await);
    let error = get(&client, "docs", "hello.txt").await.unwrap_err();
    assert!(error.is(403, "AccessDenied"), "{error:?}");

    scene
        .docs
        .set_policy(policies::require_mfa_bool("docs"))
        .unwrap();
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    scene.sandbox.chained_roles_carry_mfa(false);
    let without = scene.s3(&assume(&sts, &role).await);
    assert!(get(&without, "docs", "hello.txt").await.is_err());
    assert!(get(&client, "docs", "hello.txt").await.is_ok());

    // A session without MFA has none to hand on.
    scene.sandbox.chained_roles_carry_mfa(true);
    role.set_trust_policy(policies::trust(scene.alice.arn()))
        .unwrap();
    let plain = scene.sts(&scene.plain_session().await);
    let client = scene.s3(&assume(&plain, &role).await);
    assert!(get(&client, "docs", "hello.txt").await.is_err());
}

#[tokio::test]
async fn roles_assume_roles() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let trust = policies::trust(scene.alice.arn());
    let first = sandbox.create_role("first", trust).unwrap();
    let trust = policies::trust(first.arn());
    let second = sandbox.create_role("second", trust).unwrap();
    let alice = scene.sts(&scene.long_term());
    assert!(
        assume_refused(&alice, second.arn())
            .await
            .is(403, "AccessDenied")
    );
    let chained = scene.sts(&assume(&alice, &first).await);
    let keys = assume(&chained, &second).await;
    assert!(get(&scene.s3(&keys), "docs", "hello.txt").await.is_ok());
    // A role trusts a session by its name, too, and refuses the others.
    let session = "arn:aws:sts::123456789012:assumed-role/first/test";
    second.set_trust_policy(policies::trust(session)).unwrap();
    assume(&chained, &second).await;
    let other = session.replace("/test", "/other");
    second.set_trust_policy(policies::trust(&other)).unwrap();
    let error = assume_refused(&chained, second.arn()).await;
    assert_eq!(error.message, not_authorized(session, second.arn()));
    // It has no devices.
    let request = chained.assume_role().role_arn(second.arn());
    let request = request.role_session_name("test");
    let request = request
        .serial_number(scene.phone.serial())
        .token_code(scene.phone.unspent_code());
    let error = refused(request.send().await);
    assert!(error.message.contains("unable to validate MFA code"));
}

#[tokio::test]
async fn parameters_are_validated_before_anything_else() {
    let scene = Scene::new();
    let trust = policies::trust(scene.alice.arn());
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    let sts = scene.sts(&scene.long_term());
    let ask = async |arn: Option<&str>, name: Option<&str>, external_id: Option<&str>| {
        let request = sts.assume_role().set_role_arn(arn.map(str::to_owned));
        let request = request.set_role_session_name(name.map(str::to_owned));
        let request = request.set_external_id(external_id.map(str::to_owned));
        let error = refused(request.send().await);
        assert!(error.is(400, "ValidationError"), "{error:?}");
        error.message
    };
    let one = |value: &str, at: &str, must: &str| {
        format!(
            "1 validation error detected: Value {value} at '{at}' failed to satisfy constraint: Member must {must}"
        )
    };
    let arn = Some(role.arn());
    assert_eq!(
        ask(None, Some("test"), None).await,
        one("null", "roleArn", "not be null")
    );
    assert_eq!(
        ask(arn, None, None).await,
        one("null", "roleSessionName", "not be null")
    );
    assert_eq!(
        ask(arn, Some("x"), None).await,
        one(
            "'x'",
            "roleSessionName",
            "have length greater than or equal to 2"
        )
    );
    let long = "x".repeat(65);
    assert_eq!(
        ask(arn, Some(&long), None).await,
        one(
            &format!("'{long}'"),
            "roleSessionName",
            "have length less than or equal to 64"
        )
    );
    assert_eq!(
        ask(arn, Some("a/b"), None).await,
        one(
            "'a/b'",
            "roleSessionName",
            r"satisfy regular expression pattern: [\w+=,.@-]*"
        )
    );
    assert_eq!(
        ask(arn, Some("test"), Some("a b")).await,
        one(
            "'a b'",
            "externalId",
            r"satisfy regular expression pattern: [\w+=,.@:\/-]*"
        )
    );
    assert!(
        ask(Some(""), None, Some("1"))
            .await
            .starts_with("4 validation errors detected: ")
    );
    for malformed in ["nothing-valid-in-here", "arn::b:::something/test-role"] {
        assert_eq!(
            ask(Some(malformed), Some("test"), None).await,
            format!("{malformed} is invalid")
        );
    }
    let user = assume_refused(&sts, scene.alice.arn()).await;
    assert!(user.is(403, "AccessDenied"), "{user:?}");

    // What would limit the session is not ignored.
    let request = sts.assume_role().role_arn(role.arn());
    let request = request.role_session_name("test").policy("{}");
    let error = refused(request.send().await);
    assert!(error.is(501, "NotImplemented"), "{error:?}");
    assert_eq!(scene.sandbox.sessions().issued_count(), 0);
}

#[test]
fn trust_policies_are_read_strictly() {
    let scene = Scene::new();
    let create = |policy: &Value| scene.sandbox.create_role("r", policy);
    let fine = || json!({"Effect": "Allow", "Principal": {"AWS": scene.alice.arn()}, "Action": "sts:AssumeRole"});
    for (name, value, message) in [
        ("Resource", json!("*"), "Has prohibited field Resource"),
        (
            "Action",
            json!("s3:GetObject"),
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        (
            "Principal",
            json!({"AWS": "arn:aws:iam::123456789012:user/nobody"}),
            "Invalid principal in policy: \"AWS\":\"arn:aws:iam::123456789012:user/nobody\"",
        ),
        (
            "Condition",
            json!({"StringEquals": {"s3:prefix": "x"}}),
            "Policy has an invalid condition key: s3:prefix",
        ),
    ] {
        let mut statement = fine();
        statement[name] = value;
        let error = create(&json!({"Statement": statement})).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            ("MalformedPolicyDocument", message)
        );
    }
    let mut nobody = fine();
    nobody.as_object_mut().unwrap().remove("Principal");
    let error = create(&json!({"Statement": nobody})).unwrap_err();
    assert_eq!(error.message(), "Missing required field Principal");
    let role = create(&json!({"Statement": fine()})).unwrap();
    assert!(role.set_trust_policy("{").is_err());
    assert!(
        scene
            .docs
            .set_policy(json!({"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:*",
                "Resource": "arn:aws:s3:::docs/*", "Condition": {"Null": {"sts:ExternalId": true}}}}))
            .is_err()
    );
}
