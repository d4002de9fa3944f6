//! Multipart uploads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedPart};
use clients::*;
use s3mfa_sandbox::{CompletedUploads, Kind};

#[tokio::test]
async fn parts_become_an_object_on_completion() {
    let scene = Scene::new();
    let client = scene.s3(&scene.mfa_session().await);
    let mut upload = Multipart::begin(&client, "large").await;
    // Out of order, with gaps in the numbers, one of them twice.
    upload.part(10_000, bytes(1000, 3)).await.unwrap();
    upload.part(7, bytes(PART, 99)).await.unwrap();
    upload.part(7, bytes(PART, 2)).await.unwrap();
    let first = upload.part(1, bytes(PART, 1)).await.unwrap();
    assert_eq!(scene.docs.get("large"), None);
    let uploads = scene.docs.uploads();
    assert_eq!((uploads.len(), uploads[0].key.as_str()), (1, "large"));
    assert_eq!(uploads[0].upload_id, upload.id);
    let parts: Vec<_> = uploads[0]
        .parts
        .iter()
        .map(|part| (part.number, part.size))
        .collect();
    assert_eq!(parts, [(1, PART as u64), (7, PART as u64), (10_000, 1000)]);
    assert_eq!(uploads[0].parts[0].etag, first);
    upload.parts.sort_by_key(CompletedPart::part_number);
    let etag = upload.complete().await.unwrap();
    assert!(etag.ends_with("-3\""), "{etag}");
    let whole = [bytes(PART, 1), bytes(PART, 2), bytes(1000, 3)].concat();
    assert!(scene.docs.get("large").unwrap() == whole);
    assert_eq!(scene.docs.etag("large"), Some(etag.clone()));
    assert!(scene.docs.uploads().is_empty());
    // A range over the seam of two parts.
    let range = format!("bytes={}-{}", PART - 10, PART + 9);
    let request = client.get_object().bucket("docs").key("large").range(range);
    let body = request
        .send()
        .await
        .unwrap()
        .body
        .collect()
        .await
        .unwrap()
        .into_bytes();
    assert!(body == whole[PART - 10..PART + 10]);
    let output = client
        .get_object()
        .bucket("docs")
        .key("large")
        .send()
        .await
        .unwrap();
    assert_eq!(output.e_tag(), Some(etag.as_str()));
    assert!(output.body.collect().await.unwrap().into_bytes() == whole);
    let history = scene.docs.history();
    assert_eq!(history.len(), 1);
    assert_eq!(
        (
            history[0].operation,
            history[0].size,
            history[0].etag.as_str()
        ),
        (
            Kind::CompleteMultipartUpload,
            whole.len() as u64,
            etag.as_str()
        )
    );
    let counts = scene.sandbox.counts();
    assert_eq!(
        (
            counts.of(Kind::CreateMultipartUpload),
            counts.of(Kind::UploadPart),
            counts.of(Kind::CompleteMultipartUpload)
        ),
        (1, 4, 1)
    );
    let record = &scene.sandbox.requests()[2];
    assert_eq!(
        (record.part_number, record.upload_id.as_ref()),
        (Some(10_000), Some(&upload.id))
    );
}

#[tokio::test]
async fn what_cannot_be_completed() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let mut upload = Multipart::begin(&client, "large").await;
    let error = upload.complete().await.unwrap_err();
    assert!(error.is(400, "MalformedXML"), "{error:?}");
    upload.part(1, bytes(PART - 1, 0)).await.unwrap();
    upload.part(2, bytes(5, 0)).await.unwrap();
    let error = upload.complete().await.unwrap_err();
    assert!(error.is(400, "EntityTooSmall"), "{error:?}");
    assert!(
        error
            .body
            .contains("<MinSizeAllowed>5242880</MinSizeAllowed>"),
        "{error:?}"
    );
    upload.parts.reverse();
    assert!(
        upload
            .complete()
            .await
            .unwrap_err()
            .is(400, "InvalidPartOrder")
    );
    upload.parts.reverse();
    upload.note(3, "\"5d41402abc4b2a76b9719d911017c592\"");
    assert!(upload.complete().await.unwrap_err().is(400, "InvalidPart"));
    upload.parts.truncate(1);
    upload.note(1, "\"5d41402abc4b2a76b9719d911017c592\"");
    assert!(upload.complete().await.unwrap_err().is(400, "InvalidPart"));
    for number in [0, 10_001] {
        let error = refused(upload.part_request(number, vec![1]).send().await);
        assert!(error.is(400, "InvalidArgument"), "{error:?}");
        assert_eq!(
            error.message,
            "Part number must be an integer between 1 and 10000, inclusive"
        );
    }
    assert_eq!(scene.docs.get("large"), None);
    assert_eq!(scene.docs.uploads().len(), 1);
    // Only the last listed part may be small; those that are not listed go.
    upload.parts.clear();
    upload.part(2, bytes(6, 0)).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(scene.docs.get("large").unwrap().len(), 6);
}

#[tokio::test]
async fn an_upload_that_ended_does_not_exist() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let mut upload = Multipart::begin(&client, "a").await;
    upload.part(1, bytes(10, 0)).await.unwrap();
    // It belongs to its key.
    let elsewhere = Multipart {
        client: &client,
        key: "b",
        id: upload.id.clone(),
        parts: upload.parts.clone(),
    };
    assert!(
        elsewhere
            .complete()
            .await
            .unwrap_err()
            .is(404, "NoSuchUpload")
    );
    assert!(elsewhere.abort().await.unwrap_err().is(404, "NoSuchUpload"));
    upload.abort().await.unwrap();
    for error in [
        upload.abort().await.unwrap_err(),
        upload.complete().await.unwrap_err(),
        upload.part(2, vec![1]).await.unwrap_err(),
        refused(upload.copy_request(2, "docs/hello.txt").send().await),
    ] {
        assert!(error.is(404, "NoSuchUpload"), "{error:?}");
        assert_eq!(
            error.message,
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted \
             or completed."
        );
    }
    // Somebody else aborts it.
    let mut upload = Multipart::begin(&client, "a").await;
    assert!(scene.docs.abort_upload(&upload.id));
    assert!(!scene.docs.abort_upload(&upload.id));
    assert!(
        upload
            .part(1, vec![1])
            .await
            .unwrap_err()
            .is(404, "NoSuchUpload")
    );
    assert_eq!(scene.docs.keys(), ["hello.txt"]);
}

#[tokio::test]
async fn completing_again_answers_the_same() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let mut upload = Multipart::begin(&client, "a").await;
    upload.part(1, bytes(10, 0)).await.unwrap();
    let complete = || upload.complete_request().if_none_match("*").send();
    let etag = complete().await.unwrap().e_tag().unwrap().to_owned();
    scene.docs.put("a", "of somebody else");
    assert_eq!(complete().await.unwrap().e_tag(), Some(etag.as_str()));
    // It is not stored again.
    assert_eq!(scene.docs.get("a").unwrap(), "of somebody else");
    assert_eq!(scene.docs.history().len(), 1);
    scene
        .sandbox
        .faults()
        .completed_uploads(CompletedUploads::Conditional);
    assert!(refused(complete().await).is(412, "PreconditionFailed"));
    scene
        .sandbox
        .faults()
        .completed_uploads(CompletedUploads::Forgotten);
    assert!(refused(complete().await).is(404, "NoSuchUpload"));
    scene.sandbox.faults().clear();
    assert!(complete().await.is_ok());
    let mut other = Multipart {
        client: &client,
        key: "a",
        id: upload.id.clone(),
        parts: upload.parts.clone(),
    };
    other.note(1, "\"5d41402abc4b2a76b9719d911017c592\"");
    assert!(other.complete().await.unwrap_err().is(404, "NoSuchUpload"));
}

#[tokio::test]
async fn an_upload_outlives_the_session_that_began_it() {
    let scene = Scene::new();
    let first = scene.s3(&scene.mfa_session().await);
    let mut upload = Multipart::begin(&first, "a").await;
    upload.part(1, bytes(PART, 0)).await.unwrap();
    scene.sandbox.sessions().expire_all();
    assert!(
        upload
            .part(2, bytes(10, 0))
            .await
            .unwrap_err()
            .is(400, "ExpiredToken")
    );
    let second = scene.s3(&scene.mfa_session().await);
    upload.client = &second;
    upload.part(2, bytes(10, 0)).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(scene.docs.get("a").unwrap().len(), PART + 10);
    assert_eq!(scene.docs.history()[0].session, Some(2));
}

#[tokio::test]
async fn each_step_takes_its_permission() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let mut upload = Multipart::begin(&client, "a").await;
    upload.part(1, bytes(10, 0)).await.unwrap();
    let allow = |actions: &str| {
        let policy = format!(
            r#"{{"Statement": {{"Effect": "Allow", "Action": [{actions}], "Resource": "*"}}}}"#
        );
        scene
            .sandbox
            .set_user_policies(&scene.alice, vec![policy])
            .unwrap();
    };
    let list_parts = || {
        client
            .list_parts()
            .bucket("docs")
            .key("a")
            .upload_id(&upload.id)
            .send()
    };
    let list_uploads = || client.list_multipart_uploads().bucket("docs").send();
    allow(
        r#""s3:AbortMultipartUpload", "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts""#,
    );
    list_parts().await.unwrap();
    list_uploads().await.unwrap();
    assert!(
        upload
            .complete()
            .await
            .unwrap_err()
            .message
            .contains("s3:PutObject ")
    );
    let error = refused(upload.part_request(2, vec![1]).send().await);
    assert!(error.message.contains("s3:PutObject "), "{error:?}");
    let begin = client
        .create_multipart_upload()
        .bucket("docs")
        .key("b")
        .send()
        .await;
    assert!(refused(begin).message.contains("s3:PutObject "));
    allow(r#""s3:PutObject""#);
    assert!(
        refused(list_parts().await)
            .message
            .contains("s3:ListMultipartUploadParts ")
    );
    assert!(
        refused(list_uploads().await)
            .message
            .contains("s3:ListBucketMultipartUploads ")
    );
    assert!(
        upload
            .abort()
            .await
            .unwrap_err()
            .message
            .contains("s3:AbortMultipartUpload ")
    );
    upload.complete().await.unwrap();
}

#[tokio::test]
async fn parts_and_uploads_are_listed_in_pages() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let mut upload = Multipart::begin(&client, "dir/a b").await;
    for number in [1, 2, 5] {
        upload.part(number, bytes(10, 0)).await.unwrap();
    }
    let list = || {
        client
            .list_parts()
            .bucket("docs")
            .key("dir/a b")
            .upload_id(&upload.id)
    };
    let page = list().max_parts(2).send().await.unwrap();
    let numbers: Vec<_> = page
        .parts()
        .iter()
        .map(|part| part.part_number().unwrap())
        .collect();
    assert_eq!((numbers, page.is_truncated()), (vec![1, 2], Some(true)));
    let marker = page.next_part_number_marker().unwrap();
    let page = list().part_number_marker(marker).send().await.unwrap();
    assert_eq!((page.parts().len(), page.is_truncated()), (1, Some(false)));
    let part = &page.parts()[0];
    assert_eq!((part.part_number(), part.size()), (Some(5), Some(10)));
    assert_eq!(part.e_tag(), upload.parts[2].e_tag());

    for key in ["dir/b", "dir/b", "dir/sub/c", "dir/sub/d", "e"] {
        Multipart::begin(&client, key).await;
    }
    let list = || client.list_multipart_uploads().bucket("docs");
    for size in [1, 2, 100] {
        let (mut names, mut key, mut id) = (Vec::new(), None, None);
        loop {
            let page = list()
                .prefix("dir/")
                .delimiter("/")
                .max_uploads(size)
                .set_key_marker(key)
                .set_upload_id_marker(id)
                .send()
                .await
                .unwrap();
            names.extend(
                page.uploads()
                    .iter()
                    .map(|upload| upload.key().unwrap().to_owned()),
            );
            names.extend(
                page.common_prefixes()
                    .iter()
                    .map(|group| group.prefix().unwrap().to_owned()),
            );
            if page.is_truncated() != Some(true) {
                break;
            }
            key = page.next_key_marker().map(str::to_owned);
            id = page.next_upload_id_marker().map(str::to_owned);
        }
        assert_eq!(
            names,
            ["dir/a b", "dir/b", "dir/b", "dir/sub/"],
            "pages of {size}"
        );
    }
    let page = list().key_marker("dir/b").send().await.unwrap();
    let keys: Vec<_> = page
        .uploads()
        .iter()
        .map(|upload| upload.key().unwrap())
        .collect();
    assert_eq!(keys, ["dir/sub/c", "dir/sub/d", "e"]);
    let initiator = page.uploads()[0].initiator().unwrap();
    assert_eq!(initiator.id(), Some(scene.alice.arn()));
}

#[tokio::test]
async fn checksums_of_parts_make_the_checksum_of_the_whole() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let create = || client.create_multipart_upload().bucket("docs").key("a");
    let begin = create()
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .send()
        .await
        .unwrap();
    assert_eq!(begin.checksum_type(), Some(&ChecksumType::Composite));
    let mut upload = Multipart {
        client: &client,
        key: "a",
        id: begin.upload_id().unwrap().to_owned(),
        parts: Vec::new(),
    };
    // The client's own CRC32 is not what was announced.
    let error = refused(upload.part_request(1, bytes(10, 0)).send().await);
    assert!(error.is(400, "InvalidRequest"), "{error:?}");
    assert_eq!(
        error.message,
        "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: crc32"
    );
    let request = upload
        .part_request(1, bytes(10, 0))
        .checksum_algorithm(ChecksumAlgorithm::Sha256);
    let output = request.send().await.unwrap();
    upload.note(1, output.e_tag().unwrap());
    let error = upload.complete().await.unwrap_err();
    assert!(error.is(400, "InvalidRequest"), "{error:?}");
    assert!(
        error
            .message
            .starts_with("The upload was created using a sha256 checksum."),
        "{error:?}"
    );
    let part = |checksum: &str| {
        let part = CompletedPart::builder()
            .part_number(1)
            .e_tag(output.e_tag().unwrap());
        part.checksum_sha256(checksum).build()
    };
    upload.parts = vec![part("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")];
    assert!(upload.complete().await.unwrap_err().is(400, "InvalidPart"));
    upload.parts = vec![part(output.checksum_sha256().unwrap())];
    let completed = upload.complete_request().send().await.unwrap();
    let whole = completed.checksum_sha256().unwrap();
    assert!(whole.ends_with("=-1"), "{whole}");
    let head = client
        .head_object()
        .bucket("docs")
        .key("a")
        .checksum_mode(ChecksumMode::Enabled);
    assert_eq!(head.send().await.unwrap().checksum_sha256(), Some(whole));

    // One of the whole object is verified by the client as any other.
    let begin = create()
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject);
    upload.id = begin.send().await.unwrap().upload_id().unwrap().to_owned();
    upload.parts.clear();
    for (number, size) in [(1, PART), (2, 10)] {
        let request = upload.part_request(number, bytes(size, 0));
        let output = request
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .send()
            .await
            .unwrap();
        upload.note(number, output.e_tag().unwrap());
    }
    upload.complete().await.unwrap();
    let request = client
        .get_object()
        .bucket("docs")
        .key("a")
        .checksum_mode(ChecksumMode::Enabled);
    let output = request.send().await.unwrap();
    assert!(output.checksum_crc64_nvme().is_some());
    assert_eq!(
        output.body.collect().await.unwrap().into_bytes().len(),
        PART + 10
    );
}

#[tokio::test]
async fn a_large_upload_takes_no_longer_than_its_bytes() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let mut upload = Multipart::begin(&client, "large").await;
    let part = bytes(PART, 0);
    for number in 1..=20 {
        upload.part(number, part.clone()).await.unwrap();
    }
    let begin = std::time::Instant::now();
    upload.complete().await.unwrap();
    assert!(begin.elapsed().as_secs() < 2, "{:?}", begin.elapsed());
    assert_eq!(scene.docs.object("large").unwrap().size, 20 * PART as u64);
}
