//! GetObject and HeadObject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::DateTime;
use clients::*;
use s3mfa_sandbox::{Kind, PutOptions};

const HELLO_MD5: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

#[tokio::test]
async fn an_object_comes_with_what_it_was_put_with() {
    let scene = Scene::new();
    let put_at = UNIX_EPOCH + Duration::from_millis(1_780_000_000_900);
    let options = PutOptions::new()
        .content_type("text/plain")
        .metadata("Mtime", "1780000000")
        .modified(put_at);
    scene.docs.put_with("dir/ü ber+&.txt", "hello", options);
    assert_eq!(
        scene.docs.etag("dir/ü ber+&.txt").as_deref(),
        Some(HELLO_MD5)
    );
    let client = scene.s3(&scene.long_term());
    let output = client
        .get_object()
        .bucket("docs")
        .key("dir/ü ber+&.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(output.e_tag(), Some(HELLO_MD5));
    assert_eq!(output.content_length(), Some(5));
    assert_eq!(output.content_type(), Some("text/plain"));
    assert_eq!(output.accept_ranges(), Some("bytes"));
    assert_eq!(output.content_range(), None);
    assert_eq!(
        output.last_modified(),
        Some(&DateTime::from_secs(1_780_000_000))
    );
    assert_eq!(output.metadata().unwrap()["mtime"], "1780000000");
    assert_eq!(output.body.collect().await.unwrap().into_bytes(), "hello");
    let output = client
        .head_object()
        .bucket("docs")
        .key("dir/ü ber+&.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (output.e_tag(), output.content_length()),
        (Some(HELLO_MD5), Some(5))
    );
    assert_eq!(
        (output.content_type(), output.accept_ranges()),
        (Some("text/plain"), Some("bytes"))
    );
    assert_eq!(
        output.last_modified(),
        Some(&DateTime::from_secs(1_780_000_000))
    );
    assert_eq!(output.metadata().unwrap()["mtime"], "1780000000");
    let output = client
        .head_object()
        .bucket("docs")
        .key("hello.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(output.content_type(), Some("binary/octet-stream"));
}

#[tokio::test]
async fn ranges() {
    let scene = Scene::new();
    scene.docs.put("digits", "0123456789");
    scene.docs.put("empty", "");
    let client = scene.s3(&scene.long_term());
    for (range, content_range, text) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=-99", "bytes 0-9/10", "0123456789"),
        ("bytes=9-99", "bytes 9-9/10", "9"),
        ("bytes=0-0", "bytes 0-0/10", "0"),
    ] {
        let output = client
            .get_object()
            .bucket("docs")
            .key("digits")
            .range(range)
            .send()
            .await
            .unwrap();
        assert_eq!(output.content_range(), Some(content_range));
        assert_eq!(output.content_length(), i64::try_from(text.len()).ok());
        assert_eq!(output.body.collect().await.unwrap().into_bytes(), text);
        let output = client
            .head_object()
            .bucket("docs")
            .key("digits")
            .range(range)
            .send()
            .await
            .unwrap();
        assert_eq!(output.content_length(), i64::try_from(text.len()).ok());
        assert_eq!(output.content_range(), Some(content_range));
    }
    let counts = scene.sandbox.counts();
    assert_eq!(
        (
            counts.with_status(Kind::Get, 206),
            counts.with_status(Kind::Head, 206)
        ),
        (6, 6)
    );
    for (key, range) in [
        ("digits", "bytes=10-"),
        ("digits", "bytes=-0"),
        ("empty", "bytes=0-0"),
    ] {
        let result = client
            .get_object()
            .bucket("docs")
            .key(key)
            .range(range)
            .send()
            .await;
        let length = scene.docs.get(key).unwrap().len();
        let headers = result
            .as_ref()
            .unwrap_err()
            .raw_response()
            .unwrap()
            .headers();
        assert_eq!(
            headers.get("content-range"),
            Some(format!("bytes */{length}").as_str())
        );
        let error = refused(result);
        assert!(error.is(416, "InvalidRange"), "{error:?}");
        assert!(
            error
                .body
                .contains(&format!("<ActualObjectSize>{length}</ActualObjectSize>")),
            "{error:?}"
        );
    }
    assert_eq!(
        scene.sandbox.requests()[0].range.as_deref(),
        Some("bytes=2-4")
    );
}

#[tokio::test]
async fn conditions() {
    let scene = Scene::new();
    let modified = UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    scene
        .docs
        .put_with("hello.txt", "hello", PutOptions::new().modified(modified));
    let client = scene.s3(&scene.long_term());
    let get = || client.get_object().bucket("docs").key("hello.txt");
    let head = || client.head_object().bucket("docs").key("hello.txt");
    let (same, older, newer) = (
        DateTime::from_secs(1_780_000_000),
        DateTime::from_secs(1_779_999_999),
        DateTime::from_secs(1_780_000_001),
    );

    get()
        .if_match(HELLO_MD5)
        .if_unmodified_since(older)
        .send()
        .await
        .unwrap();
    get().if_match("*").send().await.unwrap();
    get()
        .if_none_match("\"other\"")
        .if_modified_since(newer)
        .send()
        .await
        .unwrap();
    get()
        .if_unmodified_since(same)
        .if_modified_since(older)
        .send()
        .await
        .unwrap();
    head()
        .if_match(HELLO_MD5)
        .if_none_match("\"other\"")
        .send()
        .await
        .unwrap();

    let error = refused(get().if_match("\"other\"").send().await);
    assert!(error.is(412, "PreconditionFailed"), "{error:?}");
    assert!(
        error.body.contains("<Condition>If-Match</Condition>"),
        "{error:?}"
    );
    let error = refused(get().if_unmodified_since(older).send().await);
    assert!(error.is(412, "PreconditionFailed"), "{error:?}");
    let error = refused(head().if_match("\"other\"").send().await);
    assert_eq!((error.status, error.body.as_str()), (412, ""));

    for result in [
        get().if_none_match(HELLO_MD5).send().await,
        get().if_modified_since(same).send().await,
    ] {
        let headers = result
            .as_ref()
            .unwrap_err()
            .raw_response()
            .unwrap()
            .headers();
        assert_eq!(headers.get("etag"), Some(HELLO_MD5));
        let error = refused(result);
        assert_eq!((error.status, error.body.as_str()), (304, ""));
    }
    assert_eq!(
        refused(head().if_none_match(HELLO_MD5).send().await).status,
        304
    );
}

#[tokio::test]
async fn a_large_object_arrives_whole_while_it_is_replaced() {
    let scene = Scene::new();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    scene.docs.put("large", bytes.clone());
    let client = scene.s3(&scene.long_term());
    let output = client
        .get_object()
        .bucket("docs")
        .key("large")
        .send()
        .await
        .unwrap();
    scene.docs.put("large", "short");
    assert!(output.body.collect().await.unwrap().into_bytes() == bytes);
    assert_eq!(get(&client, "docs", "large").await.unwrap(), "short");
    assert_eq!(scene.sandbox.counts().bytes_served(), 5_000_005);
}

#[tokio::test]
async fn what_is_not_served_is_not_implemented() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let acl = client.get_object_acl().bucket("docs").key("hello.txt");
    assert!(refused(acl.send().await).is(501, "NotImplemented"));
    let delete = client.delete_object().bucket("docs").key("hello.txt");
    let error = refused(delete.version_id("null").send().await);
    assert!(error.is(501, "NotImplemented"), "{error:?}");
    assert_eq!(scene.docs.keys(), ["hello.txt"]);
}

/// Amazon S3 user guide, "Working with objects in a versioning-enabled bucket": what was there before
/// has the version `null`, and so has everything in a bucket that never kept versions.
#[tokio::test]
async fn versions_are_kept_from_when_the_bucket_keeps_them() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let listed = async || {
        let page = client.list_object_versions().bucket("docs").send().await;
        let versions = page.unwrap().versions.unwrap_or_default().into_iter();
        let told = versions.map(|version| {
            let id = version.version_id.unwrap();
            (version.key.unwrap(), id, version.is_latest.unwrap())
        });
        told.collect::<Vec<_>>()
    };
    let read = async |key: &str, version: &str| {
        let get = client.get_object().bucket("docs").key(key);
        let output = get.version_id(version).send().await?;
        let id = output.version_id.clone();
        let bytes = output.body.collect().await.unwrap().into_bytes();
        Ok::<_, SdkError<GetObjectError>>((bytes, id))
    };
    let hello = ("hello.txt".to_owned(), "null".to_owned(), true);
    assert_eq!(listed().await, std::slice::from_ref(&hello));
    let (first, id) = read("hello.txt", "null").await.unwrap();
    assert_eq!(id, None, "the bucket keeps no versions");
    scene.docs.keep_versions();
    assert_eq!(listed().await, [hello]);
    scene.docs.put("hello.txt", "newer");
    let now = listed().await;
    assert_eq!(now.len(), 2, "{now:?}");
    assert!(now[0].2 && now[0].1 != "null", "{now:?}");
    assert!(!now[1].2 && now[1].1 == "null", "{now:?}");
    let before = read("hello.txt", "null").await.unwrap();
    assert_eq!(before, (first, Some("null".to_owned())));
    let (bytes, id) = read("hello.txt", &now[0].1).await.unwrap();
    assert_eq!((&bytes[..], id.as_ref()), (&b"newer"[..], Some(&now[0].1)));
    assert!(refused(read("hello.txt", "none").await).is(404, "NoSuchVersion"));
}

#[tokio::test]
async fn the_bucket_tells_where_it_is() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let output = client.head_bucket().bucket("docs").send().await.unwrap();
    assert_eq!(output.bucket_region(), Some("us-east-1"));
    let output = client
        .get_bucket_location()
        .bucket("docs")
        .send()
        .await
        .unwrap();
    assert!(
        output
            .location_constraint()
            .is_none_or(|c| c.as_str().is_empty()),
        "{output:?}"
    );
    let counts = scene.sandbox.counts();
    assert_eq!(
        (
            counts.of(Kind::HeadBucket),
            counts.of(Kind::GetBucketLocation)
        ),
        (1, 1)
    );
}
