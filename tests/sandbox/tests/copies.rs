//! CopyObject and UploadPartCopy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::{Duration, Instant, UNIX_EPOCH};

use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{MetadataDirective, StorageClass, TaggingDirective};
use clients::*;
use s3mfa_sandbox::{Kind, PutOptions, policies};

const HELLO_MD5: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

fn copy(client: &aws_sdk_s3::Client, from: &str, to: &str) -> CopyObjectFluentBuilder {
    let request = client.copy_object().bucket("docs").key(to);
    request.copy_source(format!("docs/{from}"))
}

#[tokio::test]
async fn a_copy_takes_the_metadata_along_unless_told_otherwise() {
    let scene = Scene::new();
    let client = scene.s3(&scene.mfa_session().await);
    let put = client.put_object().bucket("docs").key("ü b");
    let put = put
        .body(b"hello".to_vec().into())
        .content_type("text/plain");
    let put = put
        .metadata("mtime", "1")
        .cache_control("no-store")
        .tagging("a=b");
    let put = put
        .storage_class(StorageClass::StandardIa)
        .acl("public-read".into());
    put.send().await.unwrap();
    let output = copy(&client, "%C3%BC%20b", "copy").send().await.unwrap();
    let result = output.copy_object_result().unwrap();
    assert_eq!(result.e_tag(), Some(HELLO_MD5));
    let object = scene.docs.object("copy").unwrap();
    assert_eq!(
        result.last_modified(),
        Some(&DateTime::from(object.modified))
    );
    assert_eq!(scene.docs.get("copy").unwrap(), "hello");
    assert_eq!(
        (
            object.content_type.as_str(),
            object.metadata["mtime"].as_str()
        ),
        ("text/plain", "1")
    );
    assert_eq!(object.cache_control.as_deref(), Some("no-store"));
    assert_eq!(object.tagging.as_deref(), Some("a=b"));
    // Class and ACL are those of the request.
    assert_eq!(
        (object.storage_class.as_str(), object.acl),
        ("STANDARD", None)
    );

    let request = copy(&client, "copy", "replaced").metadata("mtime", "2");
    let request = request
        .tagging_directive(TaggingDirective::Replace)
        .tagging("c=d");
    request
        .metadata_directive(MetadataDirective::Replace)
        .send()
        .await
        .unwrap();
    let object = scene.docs.object("replaced").unwrap();
    assert_eq!(
        (
            object.content_type.as_str(),
            object.metadata["mtime"].as_str()
        ),
        ("binary/octet-stream", "2")
    );
    assert_eq!(
        (object.cache_control, object.tagging.as_deref()),
        (None, Some("c=d"))
    );
    let history = scene.docs.history_of("replaced");
    assert_eq!(
        (history.len(), history[0].operation, history[0].size),
        (1, Kind::Copy, 5)
    );
    assert_eq!(scene.sandbox.counts().of(Kind::Copy), 2);
    let record = scene.sandbox.requests().pop().unwrap();
    assert_eq!(record.copy_source.as_deref(), Some("docs/copy"));
    let error = refused(copy(&client, "absent", "x").send().await);
    assert!(error.is(404, "NoSuchKey"), "{error:?}");
    let error = refused(
        copy(&client, "copy", "x")
            .copy_source("nowhere/x")
            .send()
            .await,
    );
    assert!(error.is(404, "NoSuchBucket"), "{error:?}");
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let error = refused(copy(&client, "hello.txt", "hello.txt").send().await);
    assert!(error.is(400, "InvalidRequest"), "{error:?}");
    assert_eq!(
        error.message,
        "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
         metadata, storage class, website redirect location or encryption attributes."
    );
    let request = copy(&client, "hello.txt", "hello.txt").metadata("mode", "420");
    let request = request.metadata_directive(MetadataDirective::Replace);
    request.send().await.unwrap();
    assert_eq!(scene.docs.metadata("hello.txt").unwrap()["mode"], "420");
    let request = copy(&client, "hello.txt", "hello.txt");
    request
        .storage_class(StorageClass::StandardIa)
        .send()
        .await
        .unwrap();
    let object = scene.docs.object("hello.txt").unwrap();
    assert_eq!(
        (
            object.storage_class.as_str(),
            object.metadata["mode"].as_str()
        ),
        ("STANDARD_IA", "420")
    );
    assert_eq!(scene.docs.get("hello.txt").unwrap(), "hello");
}

#[tokio::test]
async fn a_copy_of_a_multipart_object_has_a_tag_of_its_own() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let mut upload = Multipart::begin(&client, "a").await;
    upload.part(1, b"hello".to_vec()).await.unwrap();
    assert!(upload.complete().await.unwrap().ends_with("-1\""));
    copy(&client, "a", "b").send().await.unwrap();
    assert_eq!(scene.docs.etag("b").as_deref(), Some(HELLO_MD5));
}

#[tokio::test]
async fn conditions_on_the_source() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let modified = UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    scene
        .docs
        .put_with("hello.txt", "hello", PutOptions::new().modified(modified));
    let (same, older) = (
        DateTime::from_secs(1_780_000_000),
        DateTime::from_secs(1_779_999_999),
    );
    let copy = || copy(&client, "hello.txt", "new");
    for (name, request) in [
        ("match", copy().copy_source_if_match("\"other\"")),
        ("none match", copy().copy_source_if_none_match(HELLO_MD5)),
        ("unmodified", copy().copy_source_if_unmodified_since(older)),
        ("modified", copy().copy_source_if_modified_since(same)),
    ] {
        let error = refused(request.send().await);
        assert!(error.is(412, "PreconditionFailed"), "{name}: {error:?}");
    }
    assert_eq!(scene.docs.get("new"), None);
    let request = copy()
        .copy_source_if_match(HELLO_MD5)
        .copy_source_if_unmodified_since(older);
    request.send().await.unwrap();
    let request = copy()
        .copy_source_if_none_match("\"other\"")
        .copy_source_if_modified_since(older);
    request.send().await.unwrap();

    let upload = Multipart::begin(&client, "parts").await;
    let part = || upload.copy_request(1, "docs/hello.txt");
    for (name, request) in [
        ("match", part().copy_source_if_match("\"other\"")),
        ("none match", part().copy_source_if_none_match(HELLO_MD5)),
        ("unmodified", part().copy_source_if_unmodified_since(older)),
        ("modified", part().copy_source_if_modified_since(same)),
    ] {
        let error = refused(request.send().await);
        assert!(error.is(412, "PreconditionFailed"), "{name}: {error:?}");
    }
    part().copy_source_if_match(HELLO_MD5).send().await.unwrap();
}

#[tokio::test]
async fn parts_are_copied_by_range() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let source = bytes(2 * PART + 100, 0);
    scene.docs.put("source", source.clone());
    let mut upload = Multipart::begin(&client, "target").await;
    let first = upload
        .copy_request(1, "docs/source")
        .copy_source_range(format!("bytes=0-{}", PART - 1));
    let first = first.send().await.unwrap();
    upload.note(1, first.copy_part_result().unwrap().e_tag().unwrap());
    upload.part(2, bytes(PART, 7)).await.unwrap();
    let last = format!("bytes={}-{}", 2 * PART, 2 * PART + 99);
    let third = upload
        .copy_request(3, "docs/source")
        .copy_source_range(last)
        .send()
        .await
        .unwrap();
    upload.note(3, third.copy_part_result().unwrap().e_tag().unwrap());
    // What was copied stays, whatever becomes of the source.
    scene.docs.put("source", "gone");
    for (range, message) in [
        (
            "bytes=0-4",
            "Range specified is not valid for source object of size: 4",
        ),
        (
            "bytes=2-1",
            "The x-amz-copy-source-range value must be of the form",
        ),
        (
            "bytes=1-",
            "The x-amz-copy-source-range value must be of the form",
        ),
        (
            "0-1",
            "The x-amz-copy-source-range value must be of the form",
        ),
    ] {
        let error = refused(
            upload
                .copy_request(4, "docs/source")
                .copy_source_range(range)
                .send()
                .await,
        );
        assert!(
            error.is(400, "InvalidArgument") && error.message.starts_with(message),
            "{error:?}"
        );
    }
    let etag = upload.complete().await.unwrap();
    assert!(etag.ends_with("-3\""));
    let whole = [&source[..PART], &bytes(PART, 7), &source[2 * PART..]].concat();
    assert!(scene.docs.get("target").unwrap() == whole);
    assert_eq!(scene.sandbox.counts().of(Kind::UploadPartCopy), 6);
    assert_eq!(scene.docs.history().len(), 1);
    let record = &scene.sandbox.requests()[1];
    assert_eq!(record.copy_source_range.as_deref(), Some("bytes=0-5242879"));
}

#[tokio::test]
async fn sources_over_5_gib_are_copied_in_parts() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let begin = Instant::now();
    // 6 GiB without the memory.
    scene.docs.put_repeated("huge", bytes(64 << 20, 0), 96);
    let size = scene.docs.object("huge").unwrap().size;
    assert_eq!(size, 6 << 30);
    let error = refused(copy(&client, "huge", "copy").send().await);
    assert!(error.is(400, "InvalidRequest"), "{error:?}");
    assert_eq!(
        error.message,
        "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120"
    );
    let mut upload = Multipart::begin(&client, "copy").await;
    assert!(refused(upload.copy_request(1, "docs/huge").send().await).is(400, "InvalidRequest"));
    let five_gib = 5_u64 << 30;
    for (number, first, last) in [(1, 0, five_gib - 1), (2, five_gib, size - 1)] {
        let request = upload.copy_request(number, "docs/huge");
        let request = request.copy_source_range(format!("bytes={first}-{last}"));
        let output = request.send().await.unwrap();
        upload.note(number, output.copy_part_result().unwrap().e_tag().unwrap());
    }
    upload.complete().await.unwrap();
    assert_eq!(scene.docs.object("copy").unwrap().size, size);
    let range = format!("bytes={}-{}", five_gib - 2, five_gib + 1);
    let request = client.get_object().bucket("docs").key("copy").range(range);
    let body = request
        .send()
        .await
        .unwrap()
        .body
        .collect()
        .await
        .unwrap()
        .into_bytes();
    let at = |n: u64| ((n % (64 << 20)) % 251) as u8;
    assert_eq!(
        body,
        (five_gib - 2..five_gib + 2).map(at).collect::<Vec<_>>()
    );
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn copying_takes_reading_the_source_and_writing_the_target() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    scene
        .docs
        .set_policy(policies::deny_get_on_prefix("docs", "hello"))
        .unwrap();
    let error = refused(copy(&client, "hello.txt", "new").send().await);
    assert!(
        error.is(403, "AccessDenied") && error.message.contains("s3:GetObject "),
        "{error:?}"
    );
    let upload = Multipart::begin(&client, "new").await;
    let error = refused(upload.copy_request(1, "docs/hello.txt").send().await);
    assert!(
        error.is(403, "AccessDenied") && error.message.contains("s3:GetObject "),
        "{error:?}"
    );
    scene.docs.clear_policy();
    let reader = r#"{"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}}"#;
    scene
        .sandbox
        .set_user_policies(&scene.alice, vec![reader])
        .unwrap();
    let error = refused(copy(&client, "hello.txt", "new").send().await);
    assert!(
        error.is(403, "AccessDenied") && error.message.contains("s3:PutObject "),
        "{error:?}"
    );
    // A source in a bucket that demands MFA.
    scene
        .sandbox
        .set_user_policies(&scene.alice, vec![policies::allow_all_s3()])
        .unwrap();
    let vault = scene.sandbox.create_bucket("vault");
    vault.put("secret", "x");
    vault
        .set_policy(policies::require_mfa_null_age("vault"))
        .unwrap();
    let from_vault =
        |client: &aws_sdk_s3::Client| copy(client, "", "new").copy_source("vault/secret");
    assert!(refused(from_vault(&client).send().await).is(403, "AccessDenied"));
    from_vault(&scene.s3(&scene.mfa_session().await))
        .send()
        .await
        .unwrap();
    assert_eq!(scene.docs.get("new").unwrap(), "x");
}
