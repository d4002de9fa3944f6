//! Conditional writes, and stores that have not all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use aws_sdk_s3::primitives::ByteStream;
use clients::*;
use s3mfa_sandbox::{ConditionalWrites, Kind};

const HELLO_MD5: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

/// The four writes that take conditions, each onto `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Put,
    Complete,
    Copy,
    Delete,
}

const CREATING: [Op; 3] = [Op::Put, Op::Complete, Op::Copy];
const ALL: [Op; 4] = [Op::Put, Op::Complete, Op::Copy, Op::Delete];

async fn write(
    client: &aws_sdk_s3::Client,
    op: Op,
    key: &str,
    if_match: Option<&str>,
    if_none_match: Option<&str>,
) -> Result<(), Refused> {
    let (if_match, if_none_match) = (
        if_match.map(str::to_owned),
        if_none_match.map(str::to_owned),
    );
    match op {
        Op::Put => {
            let request = client.put_object().bucket("docs").key(key);
            let request = request.body(ByteStream::from_static(b"put"));
            let request = request
                .set_if_match(if_match)
                .set_if_none_match(if_none_match);
            let result = request.send().await;
            if result.is_ok() {
                Ok(())
            } else {
                Err(refused(result))
            }
        }
        Op::Complete => {
            let mut upload = Multipart::begin(client, key).await;
            upload.part(1, b"completed".to_vec()).await.unwrap();
            let request = upload.complete_request();
            let request = request
                .set_if_match(if_match)
                .set_if_none_match(if_none_match);
            let result = request.send().await;
            if result.is_ok() {
                return Ok(());
            }
            // A refused upload is still there.
            upload.abort().await.unwrap();
            Err(refused(result))
        }
        Op::Copy => {
            let request = client.copy_object().bucket("docs").key(key);
            let request = request.copy_source("docs/source");
            let request = request
                .set_if_match(if_match)
                .set_if_none_match(if_none_match);
            let result = request.send().await;
            if result.is_ok() {
                Ok(())
            } else {
                Err(refused(result))
            }
        }
        Op::Delete => {
            let request = client.delete_object().bucket("docs").key(key);
            let result = request.set_if_match(if_match).send().await;
            if result.is_ok() {
                Ok(())
            } else {
                Err(refused(result))
            }
        }
    }
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.docs.put("source", "copied");
    scene
}

#[tokio::test]
async fn new_objects_only() {
    let scene = scene();
    let client = scene.s3(&scene.long_term());
    for op in CREATING {
        let error = write(&client, op, "hello.txt", None, Some("*"))
            .await
            .unwrap_err();
        assert!(error.is(412, "PreconditionFailed"), "{op:?}: {error:?}");
        assert_eq!(
            error.message,
            "At least one of the pre-conditions you specified did not hold"
        );
        assert!(
            error.body.contains("<Condition>If-None-Match</Condition>"),
            "{error:?}"
        );
        let key = format!("new {op:?}");
        write(&client, op, &key, None, Some("*")).await.unwrap();
        assert!(write(&client, op, &key, None, Some("*")).await.is_err());
        for (if_match, if_none_match) in [(None, Some(HELLO_MD5)), (Some(HELLO_MD5), Some("*"))] {
            let error = write(&client, op, "hello.txt", if_match, if_none_match)
                .await
                .unwrap_err();
            assert!(error.is(501, "NotImplemented"), "{op:?}: {error:?}");
        }
    }
    assert_eq!(scene.docs.get("hello.txt").unwrap(), "hello");
    assert_eq!(scene.docs.history().len(), 3);
}

#[tokio::test]
async fn known_objects_only() {
    let scene = scene();
    let client = scene.s3(&scene.long_term());
    for op in ALL {
        scene.docs.put("key", "hello");
        let error = write(&client, op, "key", Some("\"other\""), None)
            .await
            .unwrap_err();
        assert!(error.is(412, "PreconditionFailed"), "{op:?}: {error:?}");
        assert!(
            error.body.contains("<Condition>If-Match</Condition>"),
            "{error:?}"
        );
        assert_eq!(scene.docs.get("key").unwrap(), "hello");
        let error = write(&client, op, "absent", Some(HELLO_MD5), None)
            .await
            .unwrap_err();
        assert!(error.is(404, "NoSuchKey"), "{op:?}: {error:?}");
        let error = write(&client, op, "absent", Some("*"), None)
            .await
            .unwrap_err();
        assert!(error.is(404, "NoSuchKey"), "{op:?}: {error:?}");
        write(&client, op, "key", Some(HELLO_MD5), None)
            .await
            .unwrap();
        assert_ne!(
            scene.docs.get("key").as_deref(),
            Some(b"hello".as_slice()),
            "{op:?}"
        );
        scene.docs.put("key", "hello");
        write(&client, op, "key", Some("*"), None).await.unwrap();
        // Without its quotes it is the same tag.
        scene.docs.put("key", "hello");
        write(&client, op, "key", Some(HELLO_MD5.trim_matches('"')), None)
            .await
            .unwrap();
    }
    assert_eq!(scene.docs.get("absent"), None);
}

#[tokio::test]
async fn of_many_writers_one_wins() {
    let scene = scene();
    let client = scene.s3(&scene.long_term());
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let client = client.clone();
            let op = CREATING[n % 3];
            tokio::spawn(async move { write(&client, op, "race", None, Some("*")).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(error.is(412, "PreconditionFailed"), "{error:?}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(scene.docs.history_of("race").len(), 1);
}

#[tokio::test]
async fn naming_a_tag_takes_reading() {
    let scene = scene();
    let client = scene.s3(&scene.long_term());
    let writer = r#"{"Statement": {"Effect": "Allow",
        "Action": ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], "Resource": "*"}}"#;
    scene
        .sandbox
        .set_user_policies(&scene.alice, vec![writer])
        .unwrap();
    for op in [Op::Put, Op::Complete, Op::Delete] {
        let error = write(&client, op, "hello.txt", Some(HELLO_MD5), None)
            .await
            .unwrap_err();
        assert!(
            error.is(403, "AccessDenied") && error.message.contains("s3:GetObject "),
            "{op:?}: {error:?}"
        );
    }
    write(&client, Op::Put, "new", None, Some("*"))
        .await
        .unwrap();
    write(&client, Op::Delete, "new", Some("*"), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn conflicts_are_answered_as_often_as_asked() {
    let scene = scene();
    let client = scene.s3(&scene.long_term());
    let faults = scene.sandbox.faults();
    for op in CREATING {
        let kind = match op {
            Op::Put => Kind::Put,
            Op::Complete => Kind::CompleteMultipartUpload,
            _ => Kind::Copy,
        };
        faults.conflict(kind, 2);
        let key = format!("new {op:?}");
        // Without a condition there is no conflict.
        write(&client, op, "other", None, None).await.unwrap();
        for _ in 0..2 {
            let error = write(&client, op, &key, None, Some("*")).await.unwrap_err();
            assert!(
                error.is(409, "ConditionalRequestConflict"),
                "{op:?}: {error:?}"
            );
            assert_eq!(
                error.message,
                "The conditional request cannot succeed due to a conflicting operation against this resource."
            );
        }
        assert_eq!(scene.docs.get(&key), None);
        write(&client, op, &key, None, Some("*")).await.unwrap();
    }
}

#[tokio::test]
async fn stores_without_conditional_writes() {
    let scene = scene();
    let client = scene.s3(&scene.long_term());
    let faults = scene.sandbox.faults();
    // Whether a condition that fails is answered 412, 501, or ignored.
    let table = [
        (
            ConditionalWrites::All,
            [412, 412, 412, 412],
            [412, 412, 412],
        ),
        (
            ConditionalWrites::Refused,
            [501, 501, 501, 501],
            [501, 501, 501],
        ),
        (
            ConditionalWrites::Ignored,
            [200, 200, 200, 200],
            [200, 200, 200],
        ),
        (
            ConditionalWrites::PutOnly,
            [412, 200, 200, 200],
            [412, 200, 200],
        ),
        (
            ConditionalWrites::PutOnlyUnquoted,
            [412, 200, 200, 200],
            [412, 200, 200],
        ),
    ];
    for (how, if_match, if_none_match) in table {
        faults.conditional_writes(how);
        for (op, expected) in ALL.into_iter().zip(if_match) {
            scene.docs.put("key", "hello");
            let result = write(&client, op, "key", Some("\"other\""), None).await;
            let status = result.map_or_else(|error| error.status, |()| 200);
            assert_eq!(status, expected, "{how:?} {op:?} If-Match");
        }
        for (op, expected) in CREATING.into_iter().zip(if_none_match) {
            scene.docs.put("key", "hello");
            let result = write(&client, op, "key", None, Some("*")).await;
            let status = result.map_or_else(|error| error.status, |()| 200);
            assert_eq!(status, expected, "{how:?} {op:?} If-None-Match");
        }
        let copy = client
            .copy_object()
            .bucket("docs")
            .key("x")
            .copy_source("docs/source");
        let copied = copy.copy_source_if_match("\"other\"").send().await;
        let honoured = matches!(how, ConditionalWrites::All | ConditionalWrites::Refused);
        assert_eq!(copied.is_err(), honoured, "{how:?}");
    }
    scene.docs.put("key", "hello");
    let error = write(&client, Op::Put, "key", Some(HELLO_MD5), None)
        .await
        .unwrap_err();
    assert!(error.is(412, "PreconditionFailed"), "{error:?}");
    let unquoted = HELLO_MD5.trim_matches('"');
    write(&client, Op::Put, "key", Some(unquoted), None)
        .await
        .unwrap();
    faults.clear();
    let error = write(&client, Op::Delete, "key", Some("\"other\""), None)
        .await
        .unwrap_err();
    assert!(error.is(412, "PreconditionFailed"), "{error:?}");
}
