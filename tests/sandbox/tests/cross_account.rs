//! Buckets of other accounts: both sides have to allow, and refusals say nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use aws_sdk_s3::config::Credentials;
use clients::*;
use s3mfa_sandbox::{Bucket, policies};
use serde_json::{Value, json};

const OTHER: &str = "210987654321";

fn foreign(scene: &Scene) -> Bucket {
    let bucket = scene.sandbox.create_bucket_of("theirs", OTHER);
    bucket.put("hello.txt", "hello");
    bucket
}

fn allow(principal: &Value, actions: &Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": actions,
        "Resource": ["arn:aws:s3:::theirs", "arn:aws:s3:::theirs/*"]}]})
}

async fn denied(scene: &Scene, keys: &Credentials) {
    let error = get(&scene.s3(keys), "theirs", "hello.txt")
        .await
        .unwrap_err();
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert_eq!(error.message, "Access Denied");
}

#[tokio::test]
async fn both_sides_have_to_allow() {
    let scene = Scene::new();
    let theirs = foreign(&scene);
    let keys = scene.long_term();
    let client = scene.s3(&keys);
    // Her own policy allows all of S3.
    denied(&scene, &keys).await;
    for principal in [
        json!({"AWS": scene.alice.arn()}),
        json!({"AWS": scene.sandbox.account()}),
        json!("*"),
    ] {
        theirs
            .set_policy(allow(&principal, &json!("s3:*")))
            .unwrap();
        assert!(get(&client, "theirs", "hello.txt").await.is_ok());
        put(&client, "theirs", "new", "x").await.unwrap();
    }
    // Nor does the bucket's policy suffice, not even one that names her.
    scene
        .sandbox
        .set_user_policies(&scene.alice, Vec::<Value>::new())
        .unwrap();
    denied(&scene, &keys).await;
    let named = json!({"AWS": scene.alice.arn()});
    theirs.set_policy(allow(&named, &json!("s3:*"))).unwrap();
    denied(&scene, &keys).await;
    scene
        .docs
        .set_policy(json!({"Statement": {"Effect": "Allow", "Principal": named,
            "Action": "s3:GetObject", "Resource": "arn:aws:s3:::docs/*"}}))
        .unwrap();
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    // Whoever is of no account has nothing but the bucket's policy.
    assert!(exchange(&scene.sandbox, "GET", "/theirs/hello.txt", &[], "").contains(" 403 "));
    theirs
        .set_policy(allow(&json!("*"), &json!("s3:*")))
        .unwrap();
    assert!(exchange(&scene.sandbox, "GET", "/theirs/hello.txt", &[], "").contains(" 200 "));
}

#[tokio::test]
async fn mfa_is_asked_for_without_a_word() {
    let scene = Scene::new();
    let theirs = foreign(&scene);
    let open = allow(&json!({"AWS": scene.sandbox.account()}), &json!("s3:*"));
    let strict = policies::require_mfa_null_age("theirs");
    theirs.set_policy(policies::merge(&[open, strict])).unwrap();
    denied(&scene, &scene.long_term()).await;
    denied(&scene, &scene.plain_session().await).await;
    let client = scene.s3(&scene.mfa_session().await);
    assert!(get(&client, "theirs", "hello.txt").await.is_ok());
    assert_eq!(list(&client, "theirs").await.unwrap(), ["hello.txt"]);
}

#[tokio::test]
async fn roles_cross_accounts_as_users_do() {
    let scene = Scene::new();
    let theirs = foreign(&scene);
    let trust = policies::trust(scene.alice.arn());
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    let keys = assume(&scene.sts(&scene.long_term()), &role).await;
    let named = json!({"AWS": role.arn()});
    theirs
        .set_policy(allow(&named, &json!("s3:GetObject")))
        .unwrap();
    assert!(get(&scene.s3(&keys), "theirs", "hello.txt").await.is_ok());
    denied(&scene, &scene.long_term()).await;
    role.set_policies(Vec::<Value>::new()).unwrap();
    denied(&scene, &keys).await;
}

#[tokio::test]
async fn the_other_account_is_the_owner() {
    let scene = Scene::new();
    let theirs = foreign(&scene);
    let mut policy = allow(&json!("*"), &json!(["s3:GetObject", "s3:GetBucketPolicy"]));
    policy["Statement"][0]["Condition"] = json!({"StringEquals": {"s3:ResourceAccount": OTHER}});
    theirs.set_policy(policy).unwrap();
    let client = scene.s3(&scene.long_term());
    let expect = |owner: &str| {
        let request = client.get_object().bucket("theirs").key("hello.txt");
        request.expected_bucket_owner(owner).send()
    };
    expect(OTHER).await.unwrap();
    assert!(refused(expect(scene.sandbox.account()).await).is(403, "AccessDenied"));
    // Absent keys are hidden, for she may not list.
    let error = get(&client, "theirs", "absent").await.unwrap_err();
    assert!(error.is(403, "AccessDenied") && error.message == "Access Denied");
    // The policy is shown to nobody of another account.
    let error = refused(client.get_bucket_policy().bucket("theirs").send().await);
    assert!(error.is(405, "MethodNotAllowed"), "{error:?}");
    let error = refused(client.get_bucket_versioning().bucket("theirs").send().await);
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    // A bucket that is there is not taken over.
    let docs = scene.sandbox.create_bucket_of("docs", OTHER);
    assert_eq!(docs.keys(), ["hello.txt"]);
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
}
