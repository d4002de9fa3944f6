//! What a bucket tells about itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use aws_sdk_s3::types::{BucketVersioningStatus, MfaDeleteStatus};
use clients::*;
use s3mfa_sandbox::{Kind, Sandbox, policies};
use serde_json::{Value, json};

#[tokio::test]
async fn the_policy_is_answered_as_it_was_set() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let ask = |bucket: &str| client.get_bucket_policy().bucket(bucket).send();
    let error = refused(ask("docs").await);
    assert!(error.is(404, "NoSuchBucketPolicy"), "{error:?}");
    assert_eq!(error.message, "The bucket policy does not exist");
    assert!(error.body.contains("<BucketName>docs</BucketName>"));

    let text = "{ \"Statement\": {\"Effect\": \"Deny\", \"Principal\": \"*\",\n \"Action\": \"s3:DeleteObject\", \
                \"Resource\": \"arn:aws:s3:::docs/*\"} }";
    scene.docs.set_policy(text).unwrap();
    assert_eq!(ask("docs").await.unwrap().policy(), Some(text));
    let value = policies::require_mfa_null_age("docs");
    scene
        .docs
        .set_policy(policies::merge(&[
            value.clone(),
            json!({"Statement": {"Effect": "Allow", "Principal": {"AWS": scene.alice.arn()},
                "Action": "s3:GetBucketPolicy", "Resource": "arn:aws:s3:::docs"}}),
        ]))
        .unwrap();
    // The age limit can be read by those who hold to it.
    assert!(refused(ask("docs").await).is(403, "AccessDenied"));
    let with_mfa = scene.s3(&scene.mfa_session().await);
    let answer = with_mfa.get_bucket_policy().bucket("docs").send().await;
    let answer: Value = serde_json::from_str(answer.unwrap().policy().unwrap()).unwrap();
    assert_eq!(answer["Statement"][0], value["Statement"][0]);
    scene.docs.clear_policy();
    assert_eq!(refused(ask("docs").await).status, 404);
    assert!(refused(ask("nothing-here").await).is(404, "NoSuchBucket"));
    assert_eq!(scene.sandbox.counts().of(Kind::GetBucketPolicy), 6);
}

#[tokio::test]
async fn versioning_tells_of_mfa_delete() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let ask = || client.get_bucket_versioning().bucket("docs").send();
    let answer = ask().await.unwrap();
    assert_eq!((answer.status(), answer.mfa_delete()), (None, None));
    scene.docs.set_mfa_delete(true);
    let answer = ask().await.unwrap();
    assert_eq!(answer.status(), Some(&BucketVersioningStatus::Enabled));
    assert_eq!(answer.mfa_delete(), Some(&MfaDeleteStatus::Enabled));
    assert_eq!(
        scene.sandbox.counts().succeeded(Kind::GetBucketVersioning),
        2
    );
}

#[tokio::test]
async fn each_question_takes_its_permission() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let only = |action: &str| {
        let policy = json!({"Statement": {"Effect": "Allow", "Action": action, "Resource": "*"}});
        scene
            .sandbox
            .set_user_policies(&scene.alice, vec![policy])
            .unwrap();
    };
    scene.docs.set_mfa_delete(true);
    only("s3:GetBucketVersioning");
    assert!(
        client
            .get_bucket_versioning()
            .bucket("docs")
            .send()
            .await
            .is_ok()
    );
    let error = refused(client.get_bucket_policy().bucket("docs").send().await);
    assert_eq!(
        error.message,
        "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: s3:GetBucketPolicy on resource: \
         \"arn:aws:s3:::docs\" because no identity-based policy allows the s3:GetBucketPolicy action"
    );
    only("s3:GetBucketPolicy");
    let error = refused(client.get_bucket_policy().bucket("docs").send().await);
    assert!(error.is(404, "NoSuchBucketPolicy"), "{error:?}");
    let error = refused(client.get_bucket_versioning().bucket("docs").send().await);
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    let error = refused(client.head_bucket().bucket("docs").send().await);
    assert_eq!((error.status, error.body.as_str()), (403, ""));
}

#[tokio::test]
async fn heads_of_buckets_tell_the_region() {
    let sandbox = Sandbox::builder().region("eu-west-1").start().unwrap();
    let alice = sandbox.create_user("alice");
    sandbox.create_bucket("docs");
    let client = s3(&sandbox, &long_term(&alice));
    let answer = client.head_bucket().bucket("docs").send().await.unwrap();
    assert_eq!(answer.bucket_region(), Some("eu-west-1"));
    let answer = client.get_bucket_location().bucket("docs").send().await;
    let location = answer.unwrap().location_constraint().cloned();
    assert_eq!(location.unwrap().as_str(), "eu-west-1");
}
