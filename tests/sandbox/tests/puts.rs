//! PutObject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RequestChecksumCalculation, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use clients::*;
use s3mfa_sandbox::{Kind, policies};

#[tokio::test]
async fn what_is_put_is_there() {
    let scene = Scene::new();
    let client = scene.s3(&scene.mfa_session().await);
    let etag = put(&client, "docs", "dir/ü ber+&.txt", "hello")
        .await
        .unwrap();
    assert_eq!(etag, "\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(
        get(&client, "docs", "dir/ü ber+&.txt").await.unwrap(),
        "hello"
    );
    assert_eq!(
        put(&client, "docs", "empty", "").await.unwrap(),
        "\"d41d8cd98f00b204e9800998ecf8427e\""
    );
    assert_eq!(get(&client, "docs", "empty").await.unwrap(), "");
    put(&client, "docs", "dir/", "").await.unwrap();
    put(&client, "docs", "hello.txt", "replaced").await.unwrap();
    assert_eq!(scene.docs.get("hello.txt").unwrap(), "replaced");
    assert_eq!(
        list(&client, "docs").await.unwrap(),
        ["dir/", "dir/ü ber+&.txt", "empty", "hello.txt"]
    );
    let object = scene.docs.object("empty").unwrap();
    assert_eq!(
        (object.size, object.content_type.as_str()),
        (0, "application/octet-stream")
    );
    let history = scene.docs.history();
    let keys: Vec<_> = history
        .iter()
        .map(|change| {
            (
                change.sequence,
                change.operation,
                change.key.as_str(),
                change.size,
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            (1, Kind::Put, "dir/ü ber+&.txt", 5),
            (2, Kind::Put, "empty", 0),
            (3, Kind::Put, "dir/", 0),
            (4, Kind::Put, "hello.txt", 8),
        ]
    );
    assert_eq!(
        (history[0].etag.as_str(), history[0].session),
        (etag.as_str(), Some(1))
    );
    assert!(!history[0].is_delete);
    let counts = scene.sandbox.counts();
    assert_eq!(
        (
            counts.of(Kind::Put),
            counts.succeeded(Kind::Put),
            counts.writes()
        ),
        (4, 4, 4)
    );
}

#[tokio::test]
async fn large_bodies_arrive_in_every_framing() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let body = bytes(3_000_000, 1);
    // A trailer with a checksum, in signed chunks.
    put(&client, "docs", "chunked", body.clone()).await.unwrap();
    assert!(scene.docs.get("chunked").unwrap() == body);
    assert_eq!(scene.docs.object("chunked").unwrap().content_encoding, None);
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        let request = client.put_object().bucket("docs").key("digested");
        let request = request
            .checksum_algorithm(algorithm)
            .body(body.clone().into());
        request.send().await.unwrap();
        // The client verifies what comes back.
        let request = client.get_object().bucket("docs").key("digested");
        let output = request
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .unwrap();
        assert!(output.body.collect().await.unwrap().into_bytes() == body);
    }
    assert!(scene.sandbox.counts().bytes_received() >= 6 * 3_000_000);
    let records = scene.sandbox.requests();
    assert!(records[0].bytes_received >= 3_000_000);
}

#[tokio::test]
async fn wrong_digests_store_nothing() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let put = || {
        client
            .put_object()
            .bucket("docs")
            .key("new")
            .body(ByteStream::from_static(b"hello"))
    };
    let error = refused(
        put()
            .content_md5("XUFAKrxLKna5cZ2REBfFkg==")
            .checksum_crc32("AAAAAA==")
            .send()
            .await,
    );
    assert!(error.is(400, "BadDigest"), "{error:?}");
    let error = refused(put().content_md5("1B2M2Y8AsgTpgAmY7PhCfg==").send().await);
    assert!(error.is(400, "BadDigest"), "{error:?}");
    assert_eq!(
        error.message,
        "The Content-MD5 you specified did not match what we received."
    );
    let error = refused(put().content_md5("short").send().await);
    assert!(error.is(400, "InvalidDigest"), "{error:?}");
    for (name, request) in [
        ("crc32c", put().checksum_crc32_c("AAAAAA==")),
        ("crc64", put().checksum_crc64_nvme("AAAAAAAAAAA=")),
        ("sha1", put().checksum_sha1("AAAA")),
        ("sha256", put().checksum_sha256("AAAA")),
    ] {
        let error = refused(request.send().await);
        assert!(error.is(400, "BadDigest"), "{name}: {error:?}");
    }
    assert_eq!(scene.docs.keys(), ["hello.txt"]);
    assert!(scene.docs.history().is_empty());
    put()
        .content_md5("XUFAKrxLKna5cZ2REBfFkg==")
        .send()
        .await
        .unwrap();
    let sha256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let output = put().checksum_sha256(sha256).send().await.unwrap();
    assert_eq!(output.checksum_sha256(), Some(sha256));
    let head = client
        .head_object()
        .bucket("docs")
        .key("new")
        .checksum_mode(ChecksumMode::Enabled);
    assert_eq!(head.send().await.unwrap().checksum_sha256(), Some(sha256));
}

/// Sends another body than the one that was signed.
#[derive(Debug)]
struct Tamper(&'static str);

impl Intercept for Tamper {
    fn name(&self) -> &'static str {
        "Tamper"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *context.request_mut().body_mut() = self.0.into();
        Ok(())
    }
}

#[tokio::test]
async fn bodies_that_are_not_what_was_signed_store_nothing() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let put = client.put_object().bucket("docs").key("new");
    // With the checksum in the head, the body is signed as a whole.
    let put = put.checksum_crc32("NhCmhg==");
    let put = put.body(ByteStream::from_static(b"hello"));
    let result = put.customize().interceptor(Tamper("jello")).send().await;
    let error = refused(result);
    assert!(error.is(400, "XAmzContentSHA256Mismatch"), "{error:?}");
    let request = client.put_object().bucket("docs").key("new");
    let url = request
        .presigned(presigning())
        .await
        .unwrap()
        .uri()
        .to_owned();
    let answer = exchange(&scene.sandbox, "PUT", &url, &[], "hello");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let tampered = url.replace("/new?", "/other?");
    let answer = exchange(&scene.sandbox, "PUT", &tampered, &[], "hello");
    assert!(
        answer.contains("<Code>SignatureDoesNotMatch</Code>"),
        "{answer}"
    );
    assert_eq!(scene.docs.keys(), ["hello.txt", "new"]);
}

#[tokio::test]
async fn forms_of_browsers_are_no_way_in() {
    let scene = Scene::new();
    let open = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:*",
        "Resource": ["arn:aws:s3:::docs", "arn:aws:s3:::docs/*"]}}"#;
    scene.docs.set_policy(open).unwrap();
    let form = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nnew\r\n\
                --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhello\r\n--x--\r\n";
    let headers = [("Content-Type", "multipart/form-data; boundary=x")];
    let answer = exchange(&scene.sandbox, "POST", "/docs", &headers, form);
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
    assert_eq!(scene.docs.keys(), ["hello.txt"]);
}

#[tokio::test]
async fn limits_of_keys_and_sizes() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    put(&client, "docs", &"k".repeat(1024), "x").await.unwrap();
    let error = put(&client, "docs", &"k".repeat(1025), "x")
        .await
        .unwrap_err();
    assert!(error.is(400, "KeyTooLongError"), "{error:?}");
    assert!(
        error
            .body
            .contains("<Size>1025</Size><MaxSizeAllowed>1024</MaxSizeAllowed>")
    );
    let error = put(&client, "nowhere", "new", "x").await.unwrap_err();
    assert!(error.is(404, "NoSuchBucket"), "{error:?}");
    let request = client.put_object().bucket("docs").key("huge");
    let url = request
        .presigned(presigning())
        .await
        .unwrap()
        .uri()
        .to_owned();
    // The answer comes although the body does not.
    let length = (5_u64 << 30) + 1;
    let answer = exchange(
        &scene.sandbox,
        "PUT",
        &url,
        &[("Content-Length", &length.to_string())],
        "",
    );
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("<Code>EntityTooLarge</Code>"), "{answer}");
    assert!(
        answer.contains("<ProposedSize>5368709121</ProposedSize>"),
        "{answer}"
    );
    let answer = exchange(&scene.sandbox, "PUT", &url, &[], "");
    assert!(
        answer.contains("<Code>MissingContentLength</Code>"),
        "{answer}"
    );
    assert_eq!(scene.docs.get("huge"), None);
}

#[tokio::test]
async fn writing_takes_permission_and_mfa() {
    let scene = Scene::new();
    scene
        .docs
        .set_policy(policies::require_mfa_null_age("docs"))
        .unwrap();
    let (long_term, mfa) = (
        scene.s3(&scene.long_term()),
        scene.s3(&scene.mfa_session().await),
    );
    let error = put(&long_term, "docs", "new", "x").await.unwrap_err();
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert_eq!(
        error.message,
        "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: s3:PutObject on resource: \
         \"arn:aws:s3:::docs/new\" with an explicit deny in a resource-based policy"
    );
    put(&mfa, "docs", "new", "x").await.unwrap();
    scene.sandbox.sessions().expire_all();
    let error = put(&mfa, "docs", "newer", "x").await.unwrap_err();
    assert!(error.is(400, "ExpiredToken"), "{error:?}");
    // Reading is not writing.
    scene.docs.clear_policy();
    let reader = r#"{"Statement": {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}}"#;
    scene
        .sandbox
        .set_user_policies(&scene.alice, vec![reader])
        .unwrap();
    let error = put(&long_term, "docs", "newer", "x").await.unwrap_err();
    assert!(
        error
            .message
            .ends_with("because no identity-based policy allows the s3:PutObject action"),
        "{error:?}"
    );
    // An ACL and tags take more than the object.
    let writer = r#"{"Statement": {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}}"#;
    scene
        .sandbox
        .set_user_policies(&scene.alice, vec![writer])
        .unwrap();
    put(&long_term, "docs", "newer", "x").await.unwrap();
    let request = long_term
        .put_object()
        .bucket("docs")
        .key("newer")
        .tagging("a=b");
    assert!(
        refused(request.send().await)
            .message
            .contains("s3:PutObjectTagging")
    );
    let request = long_term
        .put_object()
        .bucket("docs")
        .key("newer")
        .acl("private".into());
    assert!(
        refused(request.send().await)
            .message
            .contains("s3:PutObjectAcl")
    );
    assert_eq!(scene.docs.keys(), ["hello.txt", "new", "newer"]);
}

#[tokio::test]
async fn the_time_is_the_sandboxs() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    put(&client, "docs", "early", "x").await.unwrap();
    scene.sandbox.clock().advance(Duration::from_secs(86_400));
    put(&client, "docs", "late", "x").await.unwrap();
    let modified = |key: &str| scene.docs.modified(key).unwrap();
    let apart = modified("late").duration_since(modified("early")).unwrap();
    assert!((86_400..86_410).contains(&apart.as_secs()), "{apart:?}");
    let output = client
        .head_object()
        .bucket("docs")
        .key("late")
        .send()
        .await
        .unwrap();
    let seconds = output.last_modified().unwrap().secs();
    let page = client
        .list_objects_v2()
        .bucket("docs")
        .prefix("late")
        .send()
        .await
        .unwrap();
    assert_eq!(page.contents()[0].last_modified().unwrap().secs(), seconds);
}

#[tokio::test]
async fn a_bucket_with_object_lock_wants_a_digest_with_every_body() {
    let scene = Scene::new();
    let client = scene.s3(&scene.mfa_session().await);
    scene.docs.set_object_lock(true);
    let bare = client.config().to_builder();
    let bare = bare.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    let bare = aws_sdk_s3::Client::from_conf(bare.build());
    let bare = bare.put_object().bucket("docs").key("f");
    let error = refused(bare.body(ByteStream::from_static(b"")).send().await);
    assert!(error.is(400, "InvalidRequest"), "{error:?}");
    let put = client.put_object().bucket("docs").key("f");
    let put = put.content_md5("1B2M2Y8AsgTpgAmY7PhCfg==");
    put.body(ByteStream::from_static(b"")).send().await.unwrap();
    let summed = client.put_object().bucket("docs").key("g");
    let summed = summed.checksum_algorithm(ChecksumAlgorithm::Crc32);
    let summed = summed.body(ByteStream::from_static(b"g")).send().await;
    summed.unwrap();
    assert!(scene.docs.get("g").is_some());
}
