//! Keys, signatures, tokens and clocks are checked as AWS checks them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::Duration;

use aws_sdk_s3::config::Credentials;
use clients::*;
use s3mfa_sandbox::{ExpiryStyle, Kind, Sandbox, Skew};

fn unix_now() -> i64 {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

const DENIED_KEY: &str = "The AWS Access Key Id you provided does not exist in our records.";

#[tokio::test]
async fn right_keys_open_the_bucket() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    assert_eq!(get(&client, "docs", "hello.txt").await.unwrap(), "hello");
    assert_eq!(list(&client, "docs").await.unwrap(), ["hello.txt"]);
    assert!(scene.alice.access_key_id().starts_with("AKIA"));
    assert_eq!(scene.alice.access_key_id().len(), 20);
    assert_eq!(scene.alice.secret_access_key().len(), 40);
}

#[tokio::test]
async fn a_wrong_secret_is_a_wrong_signature() {
    let scene = Scene::new();
    let wrong = Credentials::new(scene.alice.access_key_id(), "wrong", None, None, "test");
    let error = get(&scene.s3(&wrong), "docs", "hello.txt")
        .await
        .unwrap_err();
    assert!(error.is(403, "SignatureDoesNotMatch"), "{error:?}");
    assert!(error.message.starts_with(
        "The request signature we calculated does not match the signature you provided."
    ));
    let error = refused(scene.sts(&wrong).get_caller_identity().send().await);
    assert!(error.is(403, "SignatureDoesNotMatch"), "{error:?}");
    assert!(
        error
            .body
            .contains("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_unknown_key_is_not_in_the_records() {
    let scene = Scene::new();
    let unknown = Credentials::new("AKIAUNKNOWNUNKNOWN12", "wrong", None, None, "test");
    let error = get(&scene.s3(&unknown), "docs", "hello.txt")
        .await
        .unwrap_err();
    assert!(error.is(403, "InvalidAccessKeyId"), "{error:?}");
    assert_eq!(error.message, DENIED_KEY);
    let error = refused(scene.sts(&unknown).get_caller_identity().send().await);
    assert!(error.is(403, "InvalidClientTokenId"), "{error:?}");
    assert_eq!(
        error.message,
        "The security token included in the request is invalid."
    );

    scene.sandbox.delete_access_key(&scene.alice);
    let error = get(&scene.s3(&scene.long_term()), "docs", "hello.txt")
        .await
        .unwrap_err();
    assert!(error.is(403, "InvalidAccessKeyId"), "{error:?}");
}

#[tokio::test]
async fn a_session_needs_its_own_token() {
    let scene = Scene::new();
    let session = scene.mfa_session().await;
    let token = session.session_token().unwrap();
    assert!(token.len() > 400);
    assert_eq!(
        get(&scene.s3(&session), "docs", "hello.txt").await.unwrap(),
        "hello"
    );
    let with = |token: Option<&str>| {
        let token = token.map(str::to_owned);
        let keys = Credentials::new(
            session.access_key_id(),
            session.secret_access_key(),
            token,
            None,
            "test",
        );
        scene.s3(&keys)
    };
    let error = get(&with(None), "docs", "hello.txt").await.unwrap_err();
    assert!(error.is(403, "InvalidAccessKeyId"), "{error:?}");
    assert_eq!(error.message, DENIED_KEY);

    let mut altered = token.to_owned();
    altered.replace_range(100..101, if &token[100..101] == "A" { "B" } else { "A" });
    let other = scene.mfa_session().await;
    for wrong in [altered.as_str(), "garbage", other.session_token().unwrap()] {
        let error = get(&with(Some(wrong)), "docs", "hello.txt")
            .await
            .unwrap_err();
        assert!(error.is(400, "InvalidToken"), "{error:?}");
        assert_eq!(
            error.message,
            "The provided token is malformed or otherwise invalid."
        );
        assert!(
            error.body.contains(&format!("<Token-0>{wrong}</Token-0>")),
            "{error:?}"
        );
    }
    let keys = Credentials::new(
        scene.alice.access_key_id(),
        scene.alice.secret_access_key(),
        Some(token.to_owned()),
        None,
        "test",
    );
    let error = get(&scene.s3(&keys), "docs", "hello.txt")
        .await
        .unwrap_err();
    assert!(error.is(400, "InvalidToken"), "{error:?}");
}

#[tokio::test]
async fn an_expired_session_says_so_and_echoes_the_token() {
    let scene = Scene::new();
    let session = scene.mfa_session().await;
    let client = scene.s3(&session);
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    assert_eq!(scene.sandbox.sessions().live_count(), 1);
    scene.sandbox.clock().advance(Duration::from_secs(43_200));
    assert_eq!(scene.sandbox.sessions().live_count(), 0);
    let error = get(&client, "docs", "hello.txt").await.unwrap_err();
    assert!(error.is(400, "ExpiredToken"), "{error:?}");
    assert_eq!(error.message, "The provided token has expired.");
    let echo = format!("<Token-0>{}</Token-0>", session.session_token().unwrap());
    assert!(error.body.contains(&echo), "{error:?}");
    assert!(
        list(&client, "docs")
            .await
            .unwrap_err()
            .is(400, "ExpiredToken")
    );
    let error = refused(scene.sts(&session).get_caller_identity().send().await);
    assert!(error.is(403, "ExpiredToken"), "{error:?}");
    assert_eq!(
        error.message,
        "The security token included in the request is expired"
    );

    // Time that passes for everyone makes no signature old.
    assert!(
        get(&scene.s3(&scene.long_term()), "docs", "hello.txt")
            .await
            .is_ok()
    );
    let renewed = scene.mfa_session().await;
    assert!(get(&scene.s3(&renewed), "docs", "hello.txt").await.is_ok());
}

#[tokio::test]
async fn expired_sessions_are_answered_in_every_style_seen() {
    let scene = Scene::new();
    let client = scene.s3(&scene.mfa_session().await);
    scene.sandbox.sessions().expire_all();
    use ExpiryStyle::*;
    for (style, get_status, code, head_status) in [
        (Expired400, 400, "ExpiredToken", 400),
        (Expired403, 403, "ExpiredToken", 403),
        (AccessDenied403, 403, "AccessDenied", 403),
        (AccessDeniedException403, 403, "AccessDeniedException", 403),
        (BareHead400, 400, "ExpiredToken", 400),
        (BareHead403, 400, "ExpiredToken", 403),
    ] {
        scene.sandbox.expiry_style(style);
        let error = get(&client, "docs", "hello.txt").await.unwrap_err();
        assert!(error.is(get_status, code), "{style:?}: {error:?}");
        let error = head(&client, "docs", "hello.txt").await.unwrap_err();
        assert_eq!(
            (error.status, error.body.as_str()),
            (head_status, ""),
            "{style:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn revoked_sessions_are_unknown_keys() {
    let scene = Scene::new();
    let session = scene.mfa_session().await;
    scene.sandbox.sessions().revoke_all();
    let error = get(&scene.s3(&session), "docs", "hello.txt")
        .await
        .unwrap_err();
    assert!(error.is(403, "InvalidAccessKeyId"), "{error:?}");
}

#[tokio::test]
async fn anonymous_requests_need_a_policy_that_lets_everyone_in() {
    let scene = Scene::new();
    let answer = exchange(&scene.sandbox, "GET", "/docs/hello.txt", &[], "");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains("<Code>AccessDenied</Code><Message>Access Denied</Message>"),
        "{answer}"
    );
    let open = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::docs/*"}}"#;
    scene.docs.set_policy(open).unwrap();
    let answer = exchange(&scene.sandbox, "GET", "/docs/hello.txt", &[], "");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhello"),
        "{answer}"
    );
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let answer = exchange(&scene.sandbox, "POST", "/", &form, body);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains("<Code>MissingAuthenticationToken</Code>"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_wrong_clock_is_refused_beyond_fifteen_minutes() {
    let scene = Scene::new();
    // A fresh client each time: the SDK learns the difference from the Date header.
    let (s3, sts) = (
        || scene.s3(&scene.long_term()),
        || scene.sts(&scene.long_term()),
    );
    for which in [Skew::ServerAhead, Skew::ServerBehind] {
        scene.sandbox.skew(Duration::from_secs(14 * 60), which);
        assert!(get(&s3(), "docs", "hello.txt").await.is_ok());
        scene.sandbox.skew(Duration::from_secs(16 * 60), which);
        let error = get(&s3(), "docs", "hello.txt").await.unwrap_err();
        assert!(error.is(403, "RequestTimeTooSkewed"), "{error:?}");
        assert_eq!(
            error.message,
            "The difference between the request time and the current time is too large."
        );
        assert!(
            error
                .body
                .contains("<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>")
        );
        assert!(error.body.contains("<RequestTime>20") && error.body.contains("<ServerTime>20"));
        let error = refused(sts().get_caller_identity().send().await);
        assert!(error.is(403, "SignatureDoesNotMatch"), "{error:?}");
        let start = match which {
            Skew::ServerAhead => "Signature expired: ",
            Skew::ServerBehind => "Signature not yet current: ",
        };
        assert!(
            error.message.starts_with(start) && error.message.contains("15 min."),
            "{error:?}"
        );
    }
    scene.sandbox.skew(Duration::ZERO, Skew::ServerAhead);
    assert!(get(&s3(), "docs", "hello.txt").await.is_ok());
}

#[tokio::test]
async fn the_server_and_the_phone_are_right_when_the_client_is_not() {
    let scene = Scene::new();
    let ten_minutes = Duration::from_secs(600);
    for (which, sign) in [(Skew::ServerAhead, 1), (Skew::ServerBehind, -1)] {
        scene.sandbox.skew(ten_minutes, which);
        // The phone shows the server's code, which is twenty steps from the one a slow client would
        // make by itself.
        assert_ne!(
            scene.phone.code(),
            scene.phone.code_at(std::time::SystemTime::now())
        );
        let request = scene.sts(&scene.long_term()).get_session_token();
        let request = request
            .serial_number(scene.phone.serial())
            .token_code(scene.phone.unspent_code());
        let session = request.send().await.unwrap().credentials.unwrap();
        let ahead = scene.sandbox.clock().ahead().as_secs();
        let by_client = session.expiration().secs() - unix_now() - i64::try_from(ahead).unwrap();
        let length = by_client - sign * 600;
        assert!((43_190..=43_200).contains(&length), "{which:?}: {length}");
        let client = scene.s3(&credentials(&session));
        assert!(get(&client, "docs", "hello.txt").await.is_ok());
        // The session dies by the server's clock, and its MFA is old by it.
        scene.sandbox.skew(Duration::from_secs(840), which);
        scene
            .docs
            .set_policy(s3mfa_sandbox::policies::require_fresh_mfa("docs", 120))
            .unwrap();
        let aged = get(&client, "docs", "hello.txt").await;
        assert_eq!(aged.is_err(), which == Skew::ServerAhead, "{aged:?}");
        scene.docs.clear_policy();
        scene
            .sandbox
            .clock()
            .advance(Duration::from_secs(43_200 - 200));
        let died = get(&client, "docs", "hello.txt").await;
        assert_eq!(died.is_err(), which == Skew::ServerAhead, "{died:?}");
        scene.sandbox.skew(Duration::ZERO, which);
    }
}

#[tokio::test]
async fn a_signature_for_another_region_is_malformed() {
    let sandbox = Sandbox::builder()
        .region("eu-west-1")
        .seed(7)
        .start()
        .unwrap();
    let alice = sandbox.create_user("alice");
    sandbox.create_bucket("docs").put("hello.txt", "hello");
    let keys = long_term(&alice);
    assert!(get(&s3(&sandbox, &keys), "docs", "hello.txt").await.is_ok());
    let error = get(&s3_in(&sandbox, &keys, "us-east-1"), "docs", "hello.txt")
        .await
        .unwrap_err();
    assert!(error.is(400, "AuthorizationHeaderMalformed"), "{error:?}");
    assert_eq!(
        error.message,
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'"
    );
    assert!(
        error.body.contains("<Region>eu-west-1</Region>"),
        "{error:?}"
    );
    let result = s3_in(&sandbox, &keys, "us-east-1")
        .head_bucket()
        .bucket("docs")
        .send()
        .await;
    let region = result
        .as_ref()
        .unwrap_err()
        .raw_response()
        .unwrap()
        .headers()
        .get("x-amz-bucket-region");
    assert_eq!(region, Some("eu-west-1"));
    let error = refused(
        sts_in(&sandbox, &keys, "us-east-1")
            .get_caller_identity()
            .send()
            .await,
    );
    assert!(error.is(403, "SignatureDoesNotMatch"), "{error:?}");
}

#[tokio::test]
async fn every_amz_header_must_be_signed() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let request = client
        .get_object()
        .bucket("docs")
        .key("hello.txt")
        .presigned(presigning())
        .await
        .unwrap();
    assert!(exchange(&scene.sandbox, "GET", request.uri(), &[], "").starts_with("HTTP/1.1 200"));
    let answer = exchange(
        &scene.sandbox,
        "GET",
        request.uri(),
        &[("x-amz-security-token", "slipped in")],
        "",
    );
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains("There were headers present in the request which were not signed"),
        "{answer}"
    );
    assert!(
        answer.contains("<HeadersNotSigned>x-amz-security-token</HeadersNotSigned>"),
        "{answer}"
    );
}

#[test]
fn signatures_of_the_old_version_are_not_supported() {
    let scene = Scene::new();
    let old = format!(
        "AWS {}:frJIUN8DYpKDtOLCwo//yllqDzg=",
        scene.alice.access_key_id()
    );
    let answer = exchange(
        &scene.sandbox,
        "GET",
        "/docs/hello.txt",
        &[("Authorization", &old)],
        "",
    );
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("Please use AWS4-HMAC-SHA256."), "{answer}");
}

#[test]
fn a_seed_makes_the_keys_the_same() {
    let keys = |seed| {
        let sandbox = Sandbox::builder().seed(seed).start().unwrap();
        let alice = sandbox.create_user("alice");
        let secret = sandbox.create_device(&alice).secret_base32();
        (
            alice.access_key_id().to_owned(),
            alice.secret_access_key().to_owned(),
            secret,
        )
    };
    assert_eq!(keys(1), keys(1));
    assert_ne!(keys(1), keys(2));
}

#[tokio::test]
async fn errors_of_head_have_no_body() {
    let scene = Scene::new();
    let client = scene.s3(&scene.mfa_session().await);
    let present = |key: &str| client.head_object().bucket("docs").key(key);
    let absent = present("absent").presigned(presigning()).await.unwrap();
    let answer = exchange(&scene.sandbox, "HEAD", absent.uri(), &[], "");
    assert!(
        answer.starts_with("HTTP/1.1 404") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    let there = present("hello.txt").presigned(presigning()).await.unwrap();
    let answer = exchange(&scene.sandbox, "HEAD", there.uri(), &[], "");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    assert!(
        answer.to_lowercase().contains("content-length: 5\r\n"),
        "{answer}"
    );
    scene
        .docs
        .set_policy(s3mfa_sandbox::policies::deny_get_on_prefix("docs", ""))
        .unwrap();
    let answer = exchange(&scene.sandbox, "HEAD", there.uri(), &[], "");
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    scene.sandbox.sessions().expire_all();
    let answer = exchange(&scene.sandbox, "HEAD", there.uri(), &[], "");
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    let codes: Vec<_> = scene
        .sandbox
        .requests()
        .into_iter()
        .filter(|r| r.kind == Kind::Head)
        .map(|r| r.code)
        .collect();
    let expected = [
        Some("NoSuchKey"),
        None,
        Some("AccessDenied"),
        Some("ExpiredToken"),
    ];
    assert_eq!(
        codes.iter().map(Option::as_deref).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn a_sandbox_may_be_dropped_anywhere() {
    fn shared_between_threads<T: Send + Sync + 'static>(_: &T) {}
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let port = runtime.block_on(async {
        let scene = Scene::new();
        shared_between_threads(&scene);
        assert!(
            get(&scene.s3(&scene.long_term()), "docs", "hello.txt")
                .await
                .is_ok()
        );
        scene.sandbox.port()
    });
    let gone = |_| std::net::TcpStream::connect(("127.0.0.1", port)).is_err();
    let soon = (0..100).any(|n| {
        std::thread::sleep(Duration::from_millis(if n == 0 { 0 } else { 20 }));
        gone(n)
    });
    assert!(soon);
}
