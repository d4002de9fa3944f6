//! Faults do what they say, and the books are right.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::{Duration, Instant};

use clients::*;
use s3mfa_sandbox::{FOREVER, Kind, Matcher};

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within five seconds");
}

#[tokio::test]
async fn stalled_requests_wait_for_their_release() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    scene.sandbox.faults().stall(Kind::Get, FOREVER);
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, "docs", "hello.txt").await })
        })
        .collect();
    until(|| scene.sandbox.faults().stalled() == 3).await;
    assert!(head(&client, "docs", "hello.txt").await.is_ok());
    let counts = scene.sandbox.counts();
    assert_eq!(
        (
            counts.of(Kind::Get),
            counts.succeeded(Kind::Get),
            counts.in_flight()
        ),
        (3, 0, 3)
    );
    assert_eq!(scene.sandbox.requests()[0].status, None);
    scene.sandbox.faults().release();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), "hello");
    }
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    until(|| scene.sandbox.counts().in_flight() == 0).await;
    assert_eq!(scene.sandbox.counts().succeeded(Kind::Get), 4);
}

#[tokio::test]
async fn a_client_that_gives_up_is_booked_as_such() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    scene
        .sandbox
        .faults()
        .stall(Matcher::kind(Kind::Get).prefix("hello"), 1);
    let patience = Duration::from_millis(100);
    assert!(
        tokio::time::timeout(patience, get(&client, "docs", "hello.txt"))
            .await
            .is_err()
    );
    until(|| scene.sandbox.counts().abandoned() == 1).await;
    assert_eq!(scene.sandbox.faults().stalled(), 0);
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
}

#[tokio::test]
async fn statuses_are_answered_as_many_times_as_asked() {
    let scene = Scene::new();
    let (client, sts) = (scene.s3(&scene.long_term()), scene.sts(&scene.long_term()));
    scene.docs.put("other", "");
    let faults = scene.sandbox.faults();
    faults.status(Matcher::any().prefix("hello"), 503, "SlowDown", 2);
    faults.status(Kind::List, 500, "InternalError", 1);
    faults.status(Kind::GetCallerIdentity, 400, "Throttling", 1);
    assert!(get(&client, "docs", "other").await.is_ok());
    let error = get(&client, "docs", "hello.txt").await.unwrap_err();
    assert!(
        error.is(503, "SlowDown") && error.message == "Please reduce your request rate.",
        "{error:?}"
    );
    let error = head(&client, "docs", "hello.txt").await.unwrap_err();
    assert_eq!((error.status, error.body.as_str()), (503, ""));
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    assert!(
        list(&client, "docs")
            .await
            .unwrap_err()
            .is(500, "InternalError")
    );
    assert!(list(&client, "docs").await.is_ok());
    let error = refused(sts.get_caller_identity().send().await);
    assert!(
        error.is(400, "Throttling") && error.message == "Rate exceeded",
        "{error:?}"
    );
    assert_eq!(scene.sandbox.counts().with_code("SlowDown"), 2);
}

#[tokio::test]
async fn connections_are_dropped_and_responses_lost() {
    let scene = Scene::new();
    let (client, sts) = (scene.s3(&scene.long_term()), scene.sts(&scene.long_term()));
    scene.sandbox.faults().drop_connection(Kind::Get, 1);
    let error = client
        .get_object()
        .bucket("docs")
        .key("hello.txt")
        .send()
        .await
        .unwrap_err();
    assert!(error.raw_response().is_none(), "{error:?}");
    assert!(get(&client, "docs", "hello.txt").await.is_ok());

    // The code is spent, but nobody learns the session.
    scene
        .sandbox
        .faults()
        .lose_response(Kind::GetSessionToken, 1);
    let code = scene.phone.unspent_code();
    let ask = || {
        sts.get_session_token()
            .serial_number(scene.phone.serial())
            .token_code(&code)
            .send()
    };
    assert!(ask().await.unwrap_err().raw_response().is_none());
    assert!(refused(ask().await).is(403, "AccessDenied"));
    let counts = scene.sandbox.counts();
    assert_eq!(
        (
            counts.abandoned(),
            counts.codes_sent(),
            counts.spent_codes_sent()
        ),
        (2, 2, 1)
    );
    assert_eq!(scene.sandbox.sessions().issued_count(), 1);
}

#[tokio::test]
async fn bodies_are_cut_after_their_length_was_announced() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    scene.docs.put("large", vec![7; 3_000_000]);
    scene
        .sandbox
        .faults()
        .truncate_body(Matcher::any().prefix("large"), 1_000_000, 1);
    let mut output = client
        .get_object()
        .bucket("docs")
        .key("large")
        .send()
        .await
        .unwrap();
    assert_eq!(output.content_length(), Some(3_000_000));
    let mut received = 0;
    let cut = loop {
        match output.body.next().await {
            Some(Ok(bytes)) => received += bytes.len(),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(cut);
    assert_eq!(received, 1_000_000);
    assert_eq!(
        get(&client, "docs", "large").await.unwrap().len(),
        3_000_000
    );
}

#[tokio::test]
async fn latency_and_throttling_take_their_time() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    scene.docs.put("large", vec![7; 200_000]);
    let begin = Instant::now();
    scene
        .sandbox
        .faults()
        .latency_for(Kind::Head, Duration::from_millis(400));
    head(&client, "docs", "hello.txt").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(400));
    scene.sandbox.faults().throttle(250_000);
    let begin = Instant::now();
    assert_eq!(get(&client, "docs", "large").await.unwrap().len(), 200_000);
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(780) && took < Duration::from_secs(5),
        "{took:?}"
    );
    // Whoever waits for a slow line does not wait on when it is fast again.
    scene.sandbox.faults().throttle(1);
    let slow = tokio::spawn({
        let client = client.clone();
        async move { get(&client, "docs", "large").await }
    });
    until(|| scene.sandbox.counts().of(Kind::Get) == 2).await;
    scene.sandbox.faults().clear();
    assert_eq!(slow.await.unwrap().unwrap().len(), 200_000);
    let begin = Instant::now();
    head(&client, "docs", "hello.txt").await.unwrap();
    get(&client, "docs", "large").await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn sessions_expire_in_the_middle_of_a_long_read() {
    let scene = Scene::new();
    let client = scene.s3(&scene.mfa_session().await);
    scene.docs.put("large", vec![7; 1_000_000]);
    scene.sandbox.faults().expire_after_bytes(1_500_000);
    assert_eq!(
        get(&client, "docs", "large").await.unwrap().len(),
        1_000_000
    );
    assert_eq!(
        get(&client, "docs", "large").await.unwrap().len(),
        1_000_000
    );
    assert!(
        get(&client, "docs", "large")
            .await
            .unwrap_err()
            .is(400, "ExpiredToken")
    );
    let renewed = scene.s3(&scene.mfa_session().await);
    assert!(get(&renewed, "docs", "large").await.is_ok());
    let records = scene.sandbox.requests();
    let sessions: Vec<_> = records
        .iter()
        .filter(|r| r.kind == Kind::Get)
        .map(|r| (r.session, r.status))
        .collect();
    assert_eq!(
        sessions,
        [
            (Some(1), Some(200)),
            (Some(1), Some(200)),
            (Some(1), Some(400)),
            (Some(2), Some(200))
        ]
    );
    assert_eq!(scene.sandbox.counts().bytes_served(), 3_000_000);
}

#[tokio::test]
async fn the_books_tell_requests_apart_and_can_be_closed() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    client
        .list_objects_v2()
        .bucket("docs")
        .prefix("hel lo/")
        .send()
        .await
        .unwrap();
    get(&client, "docs", "a b/ü").await.unwrap_err();
    let records = scene.sandbox.requests();
    assert_eq!(
        (records[0].kind, records[0].prefix.as_deref()),
        (Kind::List, Some("hel lo/"))
    );
    assert_eq!(
        (records[1].kind, records[1].key.as_deref()),
        (Kind::Get, Some("a b/ü"))
    );
    assert_eq!(
        (records[1].status, records[1].code.as_deref()),
        (Some(404), Some("NoSuchKey"))
    );
    assert_eq!(records[1].bucket.as_deref(), Some("docs"));
    assert_eq!(
        records[1].access_key_id.as_deref(),
        Some(scene.alice.access_key_id())
    );
    assert!(
        records[1]
            .user_agent
            .as_deref()
            .unwrap()
            .contains("aws-sdk-rust")
    );
    let counts = scene.sandbox.counts();
    assert_eq!(
        (
            counts.total(),
            counts.of(Kind::List),
            counts.of(Kind::Get),
            counts.of(Kind::Head)
        ),
        (2, 1, 1, 0)
    );
    assert_eq!(
        (
            counts.with_status(Kind::Get, 404),
            counts.with_code("NoSuchKey")
        ),
        (1, 1)
    );
    scene.sandbox.reset_counts();
    assert_eq!(
        (
            scene.sandbox.counts().total(),
            scene.sandbox.requests().len()
        ),
        (0, 0)
    );
}
