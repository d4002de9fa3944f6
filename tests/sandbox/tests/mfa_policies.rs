//! Buckets that demand MFA, and who gets in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::Duration;

use clients::*;
use s3mfa_sandbox::policies;
use serde_json::{Value, json};

async fn opens(client: &aws_sdk_s3::Client) -> bool {
    let (get, head, list) = (
        get(client, "docs", "hello.txt").await,
        head(client, "docs", "hello.txt").await,
        list(client, "docs").await,
    );
    assert_eq!(get.is_ok(), head.is_ok());
    assert_eq!(get.is_ok(), list.is_ok());
    for error in [get.err(), list.err()].into_iter().flatten() {
        assert!(error.is(403, "AccessDenied"), "{error:?}");
        assert!(
            error
                .message
                .ends_with(" with an explicit deny in a resource-based policy"),
            "{error:?}"
        );
    }
    if let Some(error) = head.err() {
        assert_eq!((error.status, error.body.as_str()), (403, ""));
    }
    get_ok(client).await
}

async fn get_ok(client: &aws_sdk_s3::Client) -> bool {
    get(client, "docs", "hello.txt").await.is_ok()
}

#[tokio::test]
async fn who_gets_in_under_the_policies_of_the_guides() {
    let scene = Scene::new();
    let long_term = scene.s3(&scene.long_term());
    let plain = scene.s3(&scene.plain_session().await);
    let mfa = scene.s3(&scene.mfa_session().await);
    // Long-term keys, a session without MFA, one with a fresh code, the same an hour and a second later.
    let table: [(&str, Value, [bool; 4]); 6] = [
        ("none", json!(null), [true, true, true, true]),
        (
            "null age",
            policies::require_mfa_null_age("docs"),
            [false, false, true, true],
        ),
        (
            "age",
            policies::require_mfa_age("docs", 3600),
            [true, true, true, false],
        ),
        (
            "null age and age",
            policies::require_fresh_mfa("docs", 3600),
            [false, false, true, false],
        ),
        (
            "bool",
            policies::require_mfa_bool("docs"),
            [true, false, true, true],
        ),
        (
            "bool if exists",
            policies::require_mfa_bool_if_exists("docs"),
            [false, false, true, true],
        ),
    ];
    for later in [false, true] {
        for (name, policy, expected) in &table {
            match policy {
                Value::Null => scene.docs.clear_policy(),
                policy => scene.docs.set_policy(policy).unwrap(),
            }
            let fourth = if later { 3 } else { 2 };
            assert_eq!(
                opens(&long_term).await,
                expected[0],
                "{name}, long-term keys"
            );
            assert_eq!(
                opens(&plain).await,
                expected[1],
                "{name}, session without MFA"
            );
            assert_eq!(
                opens(&mfa).await,
                expected[fourth],
                "{name}, session with MFA, later: {later}"
            );
        }
        scene.sandbox.clock().advance(Duration::from_secs(3601));
    }
    // A new code is what makes the MFA young again.
    scene
        .docs
        .set_policy(policies::require_fresh_mfa("docs", 3600))
        .unwrap();
    assert!(!opens(&mfa).await);
    assert!(opens(&scene.s3(&scene.mfa_session().await)).await);
}

#[tokio::test]
async fn a_prefix_can_demand_mfa_alone() {
    let scene = Scene::new();
    scene.docs.put("tax/2026.txt", "secret");
    scene
        .docs
        .set_policy(policies::require_mfa_on_prefix("docs", "tax/"))
        .unwrap();
    let plain = scene.s3(&scene.plain_session().await);
    assert!(get(&plain, "docs", "hello.txt").await.is_ok());
    assert_eq!(
        list(&plain, "docs").await.unwrap(),
        ["hello.txt", "tax/2026.txt"]
    );
    assert!(
        get(&plain, "docs", "tax/2026.txt")
            .await
            .unwrap_err()
            .is(403, "AccessDenied")
    );
    let mfa = scene.s3(&scene.mfa_session().await);
    assert_eq!(get(&mfa, "docs", "tax/2026.txt").await.unwrap(), "secret");
}

#[tokio::test]
async fn denials_are_worded_as_aws_words_them() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let start = "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: ";
    scene
        .docs
        .set_policy(policies::deny_get_on_prefix("docs", ""))
        .unwrap();
    assert_eq!(
        get(&client, "docs", "hello.txt").await.unwrap_err().message,
        format!(
            "{start}s3:GetObject on resource: \"arn:aws:s3:::docs/hello.txt\" with an explicit deny in a resource-based policy"
        )
    );
    scene.docs.clear_policy();
    let deny = json!({"Statement": [{"Effect": "Deny", "Action": "s3:List*", "Resource": "*"}]});
    scene.sandbox.put_user_policy(&scene.alice, deny).unwrap();
    assert_eq!(
        list(&client, "docs").await.unwrap_err().message,
        format!(
            "{start}s3:ListBucket on resource: \"arn:aws:s3:::docs\" with an explicit deny in an identity-based policy"
        )
    );
    scene
        .sandbox
        .set_user_policies(&scene.alice, Vec::<Value>::new())
        .unwrap();
    assert_eq!(
        get(&client, "docs", "hello.txt").await.unwrap_err().message,
        format!(
            "{start}s3:GetObject on resource: \"arn:aws:s3:::docs/hello.txt\" because no identity-based policy allows the s3:GetObject action"
        )
    );
    let error = refused(client.list_buckets().send().await);
    assert!(error.is(403, "AccessDenied"), "{error:?}");
}

#[tokio::test]
async fn a_resource_policy_alone_lets_its_user_in() {
    let scene = Scene::new();
    scene
        .sandbox
        .set_user_policies(&scene.alice, Vec::<Value>::new())
        .unwrap();
    let client = scene.s3(&scene.long_term());
    let allow = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": scene.alice.arn()}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::docs/*"}]});
    scene.docs.set_policy(allow).unwrap();
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    assert!(
        list(&client, "docs")
            .await
            .unwrap_err()
            .is(403, "AccessDenied")
    );
}

#[tokio::test]
async fn listing_may_be_allowed_by_prefix() {
    let scene = Scene::new();
    scene.docs.put("home/alice/x", "");
    let only_home = json!({"Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::docs",
        "Condition": {"StringLike": {"s3:prefix": "home/alice/*"}}}]});
    scene
        .sandbox
        .set_user_policies(&scene.alice, vec![only_home])
        .unwrap();
    let client = scene.s3(&scene.long_term());
    let list = |prefix: &str| {
        client
            .list_objects_v2()
            .bucket("docs")
            .prefix(prefix)
            .send()
    };
    assert_eq!(list("home/alice/").await.unwrap().key_count(), Some(1));
    assert!(refused(list("home/").await).is(403, "AccessDenied"));
    assert!(refused(client.list_objects_v2().bucket("docs").send().await).is(403, "AccessDenied"));
}

#[tokio::test]
async fn absent_keys_are_hidden_from_those_who_may_not_list() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let error = get(&client, "docs", "absent").await.unwrap_err();
    assert!(error.is(404, "NoSuchKey"), "{error:?}");
    assert!(error.body.contains("<Key>absent</Key>"), "{error:?}");
    assert_eq!(
        head(&client, "docs", "absent").await.unwrap_err().status,
        404
    );
    scene.docs.set_policy(policies::deny_list("docs")).unwrap();
    let error = get(&client, "docs", "absent").await.unwrap_err();
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert!(
        error
            .message
            .contains("s3:ListBucket on resource: \"arn:aws:s3:::docs\""),
        "{error:?}"
    );
    assert_eq!(
        head(&client, "docs", "absent").await.unwrap_err().status,
        403
    );
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
}

#[tokio::test]
async fn an_absent_bucket_is_404() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let error = get(&client, "nothing-here", "x").await.unwrap_err();
    assert!(error.is(404, "NoSuchBucket"), "{error:?}");
    assert!(
        error.body.contains("<BucketName>nothing-here</BucketName>"),
        "{error:?}"
    );
    assert!(
        list(&client, "nothing-here")
            .await
            .unwrap_err()
            .is(404, "NoSuchBucket")
    );
    let error = refused(client.head_bucket().bucket("nothing-here").send().await);
    assert_eq!((error.status, error.body.as_str()), (404, ""));
    scene
        .sandbox
        .set_user_policies(&scene.alice, Vec::<Value>::new())
        .unwrap();
    assert!(
        get(&client, "nothing-here", "x")
            .await
            .unwrap_err()
            .is(403, "AccessDenied")
    );
}

#[test]
fn a_bucket_policy_names_existing_users() {
    let scene = Scene::new();
    let names = |arn: &str| {
        scene.docs.set_policy(
            json!({"Statement": [{"Effect": "Deny", "Principal": {"AWS": arn}, "Action": "s3:*",
            "Resource": "arn:aws:s3:::docs/*"}]}),
        )
    };
    assert!(names(scene.alice.arn()).is_ok());
    let error = names("arn:aws:iam::123456789012:user/nobody").unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        ("MalformedPolicy", "Invalid principal in policy")
    );
}
