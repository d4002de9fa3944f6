//! DeleteObject and DeleteObjects.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use aws_sdk_s3::operation::delete_objects::builders::DeleteObjectsFluentBuilder;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use clients::*;
use s3mfa_sandbox::{Kind, policies};
use serde_json::json;

fn entry(key: &str, etag: Option<&str>) -> ObjectIdentifier {
    let entry = ObjectIdentifier::builder().key(key);
    entry.set_e_tag(etag.map(str::to_owned)).build().unwrap()
}

fn delete_many(
    client: &aws_sdk_s3::Client,
    entries: Vec<ObjectIdentifier>,
    quiet: bool,
) -> DeleteObjectsFluentBuilder {
    let delete = Delete::builder().set_objects(Some(entries)).quiet(quiet);
    client
        .delete_objects()
        .bucket("docs")
        .delete(delete.build().unwrap())
}

#[tokio::test]
async fn deleting_what_is_not_there_is_done_already() {
    let scene = Scene::new();
    let client = scene.s3(&scene.mfa_session().await);
    let delete = |key: &str| client.delete_object().bucket("docs").key(key).send();
    delete("hello.txt").await.unwrap();
    delete("hello.txt").await.unwrap();
    delete("never/there").await.unwrap();
    assert_eq!(scene.docs.keys(), [""; 0]);
    assert_eq!(scene.sandbox.counts().with_status(Kind::Delete, 204), 3);
    let history = scene.docs.history();
    assert_eq!(history.len(), 1);
    assert_eq!(
        (history[0].operation, history[0].is_delete, history[0].size),
        (Kind::Delete, true, 5)
    );
    let error = refused(
        client
            .delete_object()
            .bucket("nowhere")
            .key("x")
            .send()
            .await,
    );
    assert!(error.is(404, "NoSuchBucket"), "{error:?}");
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    scene.docs.put_empty_many("n/", 1001);
    let keys: Vec<_> = (0..1001)
        .map(|n| entry(&format!("n/{n:06}"), None))
        .collect();
    let error = refused(delete_many(&client, keys.clone(), true).send().await);
    assert!(error.is(400, "MalformedXML"), "{error:?}");
    let output = delete_many(&client, keys[..1000].to_vec(), true)
        .send()
        .await
        .unwrap();
    assert!(output.deleted().is_empty() && output.errors().is_empty());
    assert_eq!(scene.docs.keys(), ["hello.txt", "n/001000"]);
    let entries = vec![entry("n/001000", None), entry("a & <ü>", None)];
    let output = delete_many(&client, entries, false).send().await.unwrap();
    let deleted: Vec<_> = output
        .deleted()
        .iter()
        .map(|object| object.key().unwrap())
        .collect();
    assert_eq!(deleted, ["n/001000", "a & <ü>"]);
    assert_eq!(scene.docs.history().len(), 1001);
    assert_eq!(scene.sandbox.counts().of(Kind::DeleteObjects), 3);
}

#[tokio::test]
async fn each_key_has_its_own_permission_and_condition() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    for key in ["kept/a", "b", "c", "d"] {
        scene.docs.put(key, key);
    }
    let policy = json!({"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject",
        "Resource": "arn:aws:s3:::docs/kept/*"}});
    scene.docs.set_policy(policy).unwrap();
    let etag = scene.docs.etag("c").unwrap();
    let entries = vec![
        entry("kept/a", None),
        entry("b", None),
        entry("c", Some(&etag)),
        entry("d", Some("\"other\"")),
        entry("absent", Some("\"other\"")),
    ];
    let output = delete_many(&client, entries, false).send().await.unwrap();
    let deleted: Vec<_> = output
        .deleted()
        .iter()
        .map(|object| object.key().unwrap())
        .collect();
    assert_eq!(deleted, ["b", "c"]);
    let errors: Vec<_> = output
        .errors()
        .iter()
        .map(|error| (error.key().unwrap(), error.code().unwrap()))
        .collect();
    assert_eq!(
        errors,
        [
            ("kept/a", "AccessDenied"),
            ("d", "PreconditionFailed"),
            ("absent", "NoSuchKey")
        ]
    );
    let message = output.errors()[0].message().unwrap();
    assert!(
        message.contains("s3:DeleteObject on resource: \"arn:aws:s3:::docs/kept/a\""),
        "{message}"
    );
    assert_eq!(scene.docs.keys(), ["d", "hello.txt", "kept/a"]);
    let error = refused(
        client
            .delete_object()
            .bucket("docs")
            .key("kept/a")
            .send()
            .await,
    );
    assert!(error.is(403, "AccessDenied"), "{error:?}");
}

#[tokio::test]
async fn deleting_takes_mfa_where_the_policy_says_so() {
    let scene = Scene::new();
    scene
        .docs
        .set_policy(policies::require_mfa_null_age("docs"))
        .unwrap();
    let long_term = scene.s3(&scene.long_term());
    let error = refused(
        long_term
            .delete_object()
            .bucket("docs")
            .key("hello.txt")
            .send()
            .await,
    );
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    let output = delete_many(&long_term, vec![entry("hello.txt", None)], true)
        .send()
        .await
        .unwrap();
    assert_eq!(output.errors()[0].code(), Some("AccessDenied"));
    assert_eq!(scene.docs.keys(), ["hello.txt"]);
    let mfa = scene.s3(&scene.mfa_session().await);
    mfa.delete_object()
        .bucket("docs")
        .key("hello.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(scene.docs.keys(), [""; 0]);
}

#[tokio::test]
async fn ready_made_policies_deny_writing_or_deleting() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    scene
        .docs
        .set_policy(policies::deny_delete_on_prefix("docs", "h"))
        .unwrap();
    let delete = || {
        client
            .delete_object()
            .bucket("docs")
            .key("hello.txt")
            .send()
    };
    assert!(refused(delete().await).is(403, "AccessDenied"));
    put(&client, "docs", "hello.txt", "over").await.unwrap();
    scene
        .docs
        .set_policy(policies::deny_writes_on_prefix("docs", "h"))
        .unwrap();
    assert!(refused(delete().await).is(403, "AccessDenied"));
    let error = put(&client, "docs", "hello.txt", "x").await.unwrap_err();
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    let begin = client.create_multipart_upload().bucket("docs").key("h");
    assert!(refused(begin.send().await).is(403, "AccessDenied"));
    put(&client, "docs", "other", "x").await.unwrap();
    assert_eq!(get(&client, "docs", "hello.txt").await.unwrap(), "over");
}

#[tokio::test]
async fn the_list_of_keys_needs_a_digest_that_is_right() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let request = delete_many(&client, vec![entry("hello.txt", None)], true);
    let operation = request.customize().mutate_request(|request| {
        request.headers_mut().remove("x-amz-checksum-crc32");
        request
            .headers_mut()
            .insert("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    });
    let error = refused(operation.send().await);
    assert!(
        error.is(400, "BadDigest") || error.is(400, "InvalidRequest"),
        "{error:?}"
    );
    assert_eq!(scene.docs.keys(), ["hello.txt"]);
}
