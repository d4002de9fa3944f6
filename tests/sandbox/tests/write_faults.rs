//! Faults on writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use aws_sdk_s3::types::CompletedPart;
use clients::*;
use s3mfa_sandbox::{FOREVER, Kind, Matcher, Network};

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
async fn a_lost_response_is_of_a_request_that_was_served() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let faults = scene.sandbox.faults();
    // The second put from now.
    faults.lose_response(Matcher::kind(Kind::Put).nth(2), 1);
    put(&client, "docs", "a", "1").await.unwrap();
    let request = client
        .put_object()
        .bucket("docs")
        .key("b")
        .body(b"2".to_vec().into());
    assert!(request.send().await.unwrap_err().raw_response().is_none());
    assert_eq!(scene.docs.get("b").unwrap(), "2");
    put(&client, "docs", "c", "3").await.unwrap();
    assert_eq!(scene.docs.history().len(), 3);

    let mut upload = Multipart::begin(&client, "large").await;
    faults.lose_response(Matcher::any().part(2), 1);
    upload.part(1, bytes(PART, 0)).await.unwrap();
    let lost = upload.part_request(2, bytes(10, 0)).send().await;
    assert!(lost.unwrap_err().raw_response().is_none());
    assert_eq!(scene.docs.uploads()[0].parts.len(), 2);
    upload.part(2, bytes(10, 0)).await.unwrap();
    faults.lose_response(Kind::CompleteMultipartUpload, 1);
    assert!(
        upload
            .complete_request()
            .send()
            .await
            .unwrap_err()
            .raw_response()
            .is_none()
    );
    assert!(scene.docs.uploads().is_empty());
    upload.complete().await.unwrap();
    assert_eq!(scene.docs.history_of("large").len(), 1);

    for kind in [
        Kind::Copy,
        Kind::Delete,
        Kind::AbortMultipartUpload,
        Kind::CreateMultipartUpload,
    ] {
        faults.lose_response(kind, 1);
    }
    let copy = client
        .copy_object()
        .bucket("docs")
        .key("copy")
        .copy_source("docs/a");
    assert!(copy.send().await.unwrap_err().raw_response().is_none());
    assert_eq!(scene.docs.get("copy").unwrap(), "1");
    let delete = client.delete_object().bucket("docs").key("a");
    assert!(delete.send().await.unwrap_err().raw_response().is_none());
    assert_eq!(scene.docs.get("a"), None);
    let create = client.create_multipart_upload().bucket("docs").key("x");
    assert!(create.send().await.unwrap_err().raw_response().is_none());
    assert_eq!(scene.docs.uploads().len(), 1);
}

#[tokio::test]
async fn a_dropped_or_refused_write_has_no_effect() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let faults = scene.sandbox.faults();
    let body = bytes(3_000_000, 0);
    faults.drop_connection(Kind::Put, 1);
    let request = client
        .put_object()
        .bucket("docs")
        .key("a")
        .body(body.clone().into());
    assert!(request.send().await.unwrap_err().raw_response().is_none());
    // A client that is still sending gets its answer all the same.
    for (status, code) in [
        (503, "SlowDown"),
        (500, "InternalError"),
        (429, "TooManyRequests"),
    ] {
        faults.status(Kind::Put, status, code, 1);
        let error = put(&client, "docs", "a", body.clone()).await.unwrap_err();
        assert!(error.is(status, code), "{error:?}");
    }
    for kind in [
        Kind::UploadPart,
        Kind::CompleteMultipartUpload,
        Kind::Delete,
        Kind::DeleteObjects,
        Kind::ListParts,
    ] {
        faults.status(kind, 503, "SlowDown", 1);
    }
    let mut upload = Multipart::begin(&client, "a").await;
    assert!(
        upload
            .part(1, bytes(PART, 0))
            .await
            .unwrap_err()
            .is(503, "SlowDown")
    );
    upload.part(1, bytes(PART, 0)).await.unwrap();
    assert!(upload.complete().await.unwrap_err().is(503, "SlowDown"));
    let list = || {
        client
            .list_parts()
            .bucket("docs")
            .key("a")
            .upload_id(&upload.id)
            .send()
    };
    assert!(refused(list().await).is(503, "SlowDown"));
    let delete = || {
        client
            .delete_object()
            .bucket("docs")
            .key("hello.txt")
            .send()
    };
    assert!(refused(delete().await).is(503, "SlowDown"));
    assert_eq!(scene.docs.keys(), ["hello.txt"]);
    assert!(scene.docs.history().is_empty());
    // The connection the answer came on is good for more.
    upload.complete().await.unwrap();
    delete().await.unwrap();
}

#[tokio::test]
async fn an_upload_that_is_cut_stores_nothing() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let faults = scene.sandbox.faults();
    faults.cut_upload(Matcher::writes().prefix("cut"), 1_000_000, 2);
    let request = client
        .put_object()
        .bucket("docs")
        .key("cut")
        .body(bytes(3_000_000, 0).into());
    assert!(request.send().await.unwrap_err().raw_response().is_none());
    let mut upload = Multipart::begin(&client, "cut").await;
    // The beginning had no body, so it used nothing up but its turn.
    put(&client, "docs", "short", "x").await.unwrap();
    assert_eq!(scene.docs.get("cut"), None);
    faults.cut_upload(Kind::UploadPart, 1_000_000, 1);
    assert!(
        upload
            .part_request(1, bytes(PART, 0))
            .send()
            .await
            .unwrap_err()
            .raw_response()
            .is_none()
    );
    assert!(scene.docs.uploads()[0].parts.is_empty());
    upload.part(1, bytes(PART, 0)).await.unwrap();
    // A client that hangs up itself.
    let request = client.put_object().bucket("docs").key("left");
    let url = request
        .presigned(presigning())
        .await
        .unwrap()
        .uri()
        .to_owned();
    let target = url.trim_start_matches(scene.sandbox.endpoint());
    let port = scene.sandbox.port();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head =
        format!("PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9\r\n\r\nhalf");
    stream.write_all(head.as_bytes()).unwrap();
    until(|| scene.sandbox.counts().in_flight() == 1).await;
    drop(stream);
    until(|| scene.sandbox.counts().in_flight() == 0).await;
    assert_eq!(scene.docs.get("left"), None);
    assert_eq!(scene.sandbox.counts().abandoned(), 3);
}

#[tokio::test]
async fn answers_are_held_after_the_deed() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let faults = scene.sandbox.faults();
    faults.hold_answer(Kind::Put, 1);
    let task = tokio::spawn({
        let client = client.clone();
        async move { put(&client, "docs", "a", "1").await }
    });
    until(|| faults.stalled() == 1).await;
    assert_eq!(scene.docs.get("a").unwrap(), "1");
    assert!(!task.is_finished());
    // The next ones pass, and see it.
    assert_eq!(get(&client, "docs", "a").await.unwrap(), "1");
    put(&client, "docs", "a", "2").await.unwrap();
    faults.release();
    task.await.unwrap().unwrap();
    faults.stall(Kind::Put, FOREVER);
    let task = tokio::spawn({
        let client = client.clone();
        async move { put(&client, "docs", "b", "1").await }
    });
    until(|| faults.stalled() == 1).await;
    assert_eq!(scene.docs.get("b"), None);
    faults.clear();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn sessions_expire_before_or_after_any_request() {
    // Begin, two parts, complete: each of them may be the one.
    for n in 1..=4 {
        let scene = Scene::new();
        let client = scene.s3(&scene.mfa_session().await);
        scene.sandbox.faults().expire_before(Matcher::s3().nth(n));
        assert_eq!(successes(&client).await, n - 1, "before the {n}th");
        assert_eq!(scene.docs.get("a"), None);
        assert_eq!(scene.sandbox.counts().with_code("ExpiredToken"), 1);
        // A new session is not hit.
        let renewed = scene.s3(&scene.mfa_session().await);
        assert_eq!(successes(&renewed).await, 4);
        let scene = Scene::new();
        let client = scene.s3(&scene.mfa_session().await);
        scene.sandbox.faults().expire_after(Matcher::s3().nth(n));
        assert_eq!(successes(&client).await, n, "after the {n}th");
        assert_eq!(scene.docs.get("a").is_some(), n == 4);
    }
}

/// How many requests of a multipart upload succeed before one fails.
async fn successes(client: &aws_sdk_s3::Client) -> u64 {
    let create = client.create_multipart_upload().bucket("docs").key("a");
    let Ok(created) = create.send().await else {
        return 0;
    };
    let mut upload = Multipart {
        client,
        key: "a",
        id: created.upload_id().unwrap().to_owned(),
        parts: Vec::new(),
    };
    if upload.part(1, bytes(PART, 0)).await.is_err() {
        return 1;
    }
    if upload.part(2, bytes(10, 0)).await.is_err() {
        return 2;
    }
    if upload.complete().await.is_err() {
        3
    } else {
        4
    }
}

#[tokio::test]
async fn an_answer_of_200_can_be_an_error() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let faults = scene.sandbox.faults();
    let mut upload = Multipart::begin(&client, "a").await;
    upload.part(1, bytes(10, 0)).await.unwrap();
    faults.error_inside_200(Kind::CompleteMultipartUpload, "InternalError", 1);
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.code, "InternalError", "{error:?}");
    assert_eq!(scene.docs.get("a"), None);
    upload.complete().await.unwrap();
    faults.error_inside_200(Kind::Copy, "SlowDown", 1);
    let copy = client
        .copy_object()
        .bucket("docs")
        .key("b")
        .copy_source("docs/a");
    assert_eq!(refused(copy.send().await).code, "SlowDown");
    assert_eq!(scene.docs.get("b"), None);
}

#[tokio::test]
async fn the_network_goes_and_comes_back() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let faults = scene.sandbox.faults();
    let send = |key: &str| {
        client
            .put_object()
            .bucket("docs")
            .key(key)
            .body(b"x".to_vec().into())
            .send()
    };
    put(&client, "docs", "a", "x").await.unwrap();
    faults.network(Network::Closing);
    for _ in 0..3 {
        assert!(send("b").await.unwrap_err().raw_response().is_none());
    }
    faults.network(Network::Up);
    put(&client, "docs", "b", "x").await.unwrap();
    // An upload under way is cut with it.
    faults.throttle_uploads(200_000);
    let task = tokio::spawn({
        let client = client.clone();
        async move {
            let request = client.put_object().bucket("docs").key("c");
            request.body(bytes(3_000_000, 0).into()).send().await
        }
    });
    until(|| scene.sandbox.counts().in_flight() == 1).await;
    faults.network(Network::Closing);
    assert!(task.await.unwrap().unwrap_err().raw_response().is_none());
    faults.clear();
    assert_eq!(scene.docs.get("c"), None);

    faults.network(Network::Silent);
    let patience = Duration::from_millis(200);
    assert!(tokio::time::timeout(patience, send("d")).await.is_err());
    let hanging = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .put_object()
                .bucket("docs")
                .key("e")
                .body(b"x".to_vec().into())
                .send()
                .await
        }
    });
    tokio::time::sleep(patience).await;
    assert!(!hanging.is_finished());
    faults.network(Network::Up);
    assert!(hanging.await.unwrap().is_err());
    assert_eq!(scene.docs.keys(), ["a", "b", "hello.txt"]);
    put(&client, "docs", "d", "x").await.unwrap();
}

#[tokio::test]
async fn slow_lines_and_late_answers_take_their_time() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    scene.sandbox.faults().throttle_uploads(500_000);
    let begin = Instant::now();
    put(&client, "docs", "a", bytes(400_000, 0)).await.unwrap();
    let took = begin.elapsed();
    assert!(
        took > Duration::from_millis(500) && took < Duration::from_secs(5),
        "{took:?}"
    );
    scene.sandbox.faults().clear();
    scene
        .sandbox
        .faults()
        .latency_for(Kind::Delete, Duration::from_millis(300));
    let begin = Instant::now();
    client
        .delete_object()
        .bucket("docs")
        .key("a")
        .send()
        .await
        .unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn parts_of_one_upload_may_come_at_once() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let mut upload = Multipart::begin(&client, "a").await;
    let tasks: Vec<_> = (1..=8)
        .map(|number| {
            let request = upload.part_request(number, bytes(PART, number as usize));
            tokio::spawn(async move { (number, request.send().await.unwrap()) })
        })
        .collect();
    for task in tasks {
        let (number, output) = task.await.unwrap();
        upload.note(number, output.e_tag().unwrap());
    }
    upload.parts.sort_by_key(CompletedPart::part_number);
    upload.complete().await.unwrap();
    let whole: Vec<u8> = (1..=8).flat_map(|number| bytes(PART, number)).collect();
    assert!(scene.docs.get("a").unwrap() == whole);
}
