//! What objects keep besides their bytes, and what buckets ask for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ObjectStorageClass, RequestPayer, ServerSideEncryption, StorageClass};
use clients::*;
use s3mfa_sandbox::PutOptions;

#[tokio::test]
async fn headers_come_back_as_they_were_put() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let expires = DateTime::from(UNIX_EPOCH + Duration::from_secs(1_900_000_000));
    let put = client
        .put_object()
        .bucket("docs")
        .key("new")
        .body(ByteStream::from_static(b"hello"));
    let put = put
        .content_type("text/plain; charset=utf-8")
        .content_encoding("gzip");
    let put = put
        .content_disposition("attachment; filename=\"x\"")
        .content_language("de");
    #[allow(deprecated)]
    let put = put
        .cache_control("max-age=1")
        .expires(expires)
        .website_redirect_location("/other");
    let put = put
        .metadata("Mtime", "1780000000.5")
        .metadata("name", "Größe ✓")
        .tagging("a=b&c=d");
    put.send().await.unwrap();
    // Parts carry none of it; the beginning of an upload does.
    let begin = client
        .create_multipart_upload()
        .bucket("docs")
        .key("parts")
        .content_type("text/html");
    let begin = begin
        .metadata("mtime", "2")
        .storage_class(StorageClass::OnezoneIa)
        .send()
        .await
        .unwrap();
    let mut upload = Multipart {
        client: &client,
        key: "parts",
        id: begin.upload_id().unwrap().to_owned(),
        parts: Vec::new(),
    };
    upload.part(1, bytes(10, 0)).await.unwrap();
    upload.complete().await.unwrap();

    let get = client
        .get_object()
        .bucket("docs")
        .key("new")
        .send()
        .await
        .unwrap();
    let head = client
        .head_object()
        .bucket("docs")
        .key("new")
        .send()
        .await
        .unwrap();
    assert_eq!(get.content_type(), Some("text/plain; charset=utf-8"));
    assert_eq!(
        (get.content_type(), get.content_encoding()),
        (head.content_type(), head.content_encoding())
    );
    assert_eq!(head.content_encoding(), Some("gzip"));
    assert_eq!(
        head.content_disposition(),
        Some("attachment; filename=\"x\"")
    );
    assert_eq!(
        (head.content_language(), head.cache_control()),
        (Some("de"), Some("max-age=1"))
    );
    assert_eq!(head.expires_string(), Some("Sun, 17 Mar 2030 17:46:40 GMT"));
    assert_eq!(head.website_redirect_location(), Some("/other"));
    assert_eq!(head.metadata().unwrap()["mtime"], "1780000000.5");
    assert_eq!(scene.docs.metadata("new").unwrap()["name"], "Größe ✓");
    assert_eq!(get.tag_count(), Some(2));
    assert_eq!(
        head.server_side_encryption(),
        Some(&ServerSideEncryption::Aes256)
    );
    assert_eq!(head.storage_class(), None);
    let head = client
        .head_object()
        .bucket("docs")
        .key("parts")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            head.content_type(),
            head.metadata().unwrap()["mtime"].as_str()
        ),
        (Some("text/html"), "2")
    );
    assert_eq!(head.storage_class(), Some(&StorageClass::OnezoneIa));
    let page = client
        .list_objects_v2()
        .bucket("docs")
        .send()
        .await
        .unwrap();
    let classes: Vec<_> = page
        .contents()
        .iter()
        .map(|object| object.storage_class().unwrap().clone())
        .collect();
    assert_eq!(
        classes,
        [
            ObjectStorageClass::Standard,
            ObjectStorageClass::Standard,
            ObjectStorageClass::OnezoneIa
        ]
    );
}

#[tokio::test]
async fn metadata_has_a_limit() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let put = |size: usize| {
        let put = client
            .put_object()
            .bucket("docs")
            .key("new")
            .body(ByteStream::from_static(b"x"));
        put.metadata("name", "v".repeat(size)).send()
    };
    put(2044).await.unwrap();
    let error = refused(put(2045).await);
    assert!(error.is(400, "MetadataTooLarge"), "{error:?}");
    assert_eq!(
        error.message,
        "Your metadata headers exceed the maximum allowed metadata size"
    );
    assert!(
        error
            .body
            .contains("<Size>2049</Size><MaxSizeAllowed>2048</MaxSizeAllowed>"),
        "{error:?}"
    );
}

#[tokio::test]
async fn classes_and_encryption_must_exist() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let put = || {
        client
            .put_object()
            .bucket("docs")
            .key("new")
            .body(ByteStream::from_static(b"hello"))
    };
    let error = refused(put().storage_class("COLD".into()).send().await);
    assert!(error.is(400, "InvalidStorageClass"), "{error:?}");
    let error = refused(put().server_side_encryption("rot13".into()).send().await);
    assert!(error.is(400, "InvalidArgument"), "{error:?}");
    let error = refused(put().ssekms_key_id("1234").send().await);
    assert!(error.is(400, "InvalidArgument"), "{error:?}");
    let error = refused(put().acl("nobody".into()).send().await);
    assert!(error.is(400, "InvalidArgument"), "{error:?}");
    assert_eq!(scene.docs.keys(), ["hello.txt"]);

    let kms = put()
        .server_side_encryption(ServerSideEncryption::AwsKms)
        .ssekms_key_id("1234");
    let output = kms
        .acl("bucket-owner-full-control".into())
        .send()
        .await
        .unwrap();
    let arn = "arn:aws:kms:us-east-1:123456789012:key/1234";
    assert_eq!(output.ssekms_key_id(), Some(arn));
    // Such tags say nothing about the bytes.
    assert_ne!(output.e_tag(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    let head = client
        .head_object()
        .bucket("docs")
        .key("new")
        .send()
        .await
        .unwrap();
    assert_eq!(
        head.server_side_encryption(),
        Some(&ServerSideEncryption::AwsKms)
    );
    assert_eq!(
        (head.ssekms_key_id(), head.e_tag()),
        (Some(arn), output.e_tag())
    );
    let object = scene.docs.object("new").unwrap();
    assert_eq!(object.acl.as_deref(), Some("bucket-owner-full-control"));
    assert_eq!(
        (object.encryption.as_str(), object.kms_key.as_deref()),
        ("aws:kms", Some(arn))
    );
}

#[tokio::test]
async fn archived_objects_are_seen_and_not_read() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let put = client
        .put_object()
        .bucket("docs")
        .key("cold")
        .body(ByteStream::from_static(b"hello"));
    put.storage_class(StorageClass::Glacier)
        .send()
        .await
        .unwrap();
    scene.docs.put_with(
        "colder",
        "hello",
        PutOptions::new().storage_class("DEEP_ARCHIVE"),
    );
    for (key, class) in [
        ("cold", StorageClass::Glacier),
        ("colder", StorageClass::DeepArchive),
    ] {
        let head = client
            .head_object()
            .bucket("docs")
            .key(key)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (head.storage_class(), head.content_length()),
            (Some(&class), Some(5))
        );
        let error = get(&client, "docs", key).await.unwrap_err();
        assert!(error.is(403, "InvalidObjectState"), "{error:?}");
        assert_eq!(
            error.message,
            "The operation is not valid for the object's storage class"
        );
        let copy = client
            .copy_object()
            .bucket("docs")
            .key("x")
            .copy_source(format!("docs/{key}"));
        let error = refused(copy.send().await);
        assert!(error.is(403, "ObjectNotInActiveTierError"), "{error:?}");
    }
    put_over(&client, "cold").await;
    assert_eq!(get(&client, "docs", "cold").await.unwrap(), "warm");
}

async fn put_over(client: &aws_sdk_s3::Client, key: &str) {
    put(client, "docs", key, "warm").await.unwrap();
}

#[tokio::test]
async fn owners_are_expected_and_requesters_pay() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let put = |owner: &str| {
        let put = client
            .put_object()
            .bucket("docs")
            .key("new")
            .body(ByteStream::from_static(b"x"));
        put.expected_bucket_owner(owner).send()
    };
    put("123456789012").await.unwrap();
    let error = refused(put("210987654321").await);
    assert!(
        error.is(403, "AccessDenied") && error.message == "Access Denied",
        "{error:?}"
    );
    scene.docs.set_owner("210987654321");
    put("210987654321").await.unwrap();
    let head = client
        .head_object()
        .bucket("docs")
        .key("new")
        .expected_bucket_owner("123456789012");
    assert_eq!(refused(head.send().await).status, 403);
    let copy = client
        .copy_object()
        .bucket("docs")
        .key("copy")
        .copy_source("docs/new");
    let error = refused(
        copy.expected_source_bucket_owner("123456789012")
            .send()
            .await,
    );
    assert!(error.is(403, "AccessDenied"), "{error:?}");

    scene.docs.set_requester_pays(true);
    assert!(
        get(&client, "docs", "new")
            .await
            .unwrap_err()
            .is(403, "AccessDenied")
    );
    assert!(
        list(&client, "docs")
            .await
            .unwrap_err()
            .is(403, "AccessDenied")
    );
    assert!(
        clients::put(&client, "docs", "newer", "x")
            .await
            .unwrap_err()
            .is(403, "AccessDenied")
    );
    let request = client
        .get_object()
        .bucket("docs")
        .key("new")
        .request_payer(RequestPayer::Requester);
    assert!(request.send().await.unwrap().request_charged().is_some());
    scene.docs.set_requester_pays(false);
    get(&client, "docs", "new").await.unwrap();
}
