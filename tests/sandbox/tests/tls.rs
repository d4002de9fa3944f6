//! The port with TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use aws_sdk_s3::error::SdkError;
use clients::*;
use s3mfa_sandbox::{Kind, Network, Sandbox};
use serde_json::{Value, json};

/// Denies whatever comes in the clear.
fn only_tls() -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": ["arn:aws:s3:::docs", "arn:aws:s3:::docs/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]})
}

fn secure() -> Sandbox {
    let sandbox = Sandbox::builder().tls().start().unwrap();
    sandbox.create_user("alice");
    sandbox.create_bucket("docs").put("hello.txt", "hello");
    sandbox
}

fn client(sandbox: &Sandbox) -> aws_sdk_s3::Client {
    let keys = long_term(&sandbox.create_user("alice"));
    let authority = sandbox.ca_pem().unwrap();
    s3_trusting((sandbox, sandbox.endpoint()), &keys, authority)
}

#[tokio::test]
async fn clients_that_trust_the_authority_are_served() {
    let sandbox = secure();
    let endpoint = sandbox.endpoint();
    assert_eq!(endpoint, format!("https://localhost:{}", sandbox.port()));
    assert!(sandbox.sso().start_url().starts_with(endpoint));
    let authority = sandbox.ca_pem().unwrap();
    assert!(authority.starts_with("-----BEGIN CERTIFICATE-----"));
    sandbox
        .create_bucket("docs")
        .set_policy(only_tls())
        .unwrap();
    let client = client(&sandbox);
    assert_eq!(get(&client, "docs", "hello.txt").await.unwrap(), "hello");
    // Over TLS, bodies come in unsigned pieces with their digest behind them.
    let body = bytes(3 << 20, 7);
    put(&client, "docs", "large", body.clone()).await.unwrap();
    assert_eq!(
        sandbox.create_bucket("docs").get("large").unwrap().to_vec(),
        body
    );
    let output = client.get_object().bucket("docs").key("large").send().await;
    let output = output.unwrap().body.collect().await.unwrap();
    assert_eq!(output.into_bytes().to_vec(), body);

    let keys = long_term(&sandbox.create_user("alice"));
    let by_number = format!("https://127.0.0.1:{}", sandbox.port());
    let client = s3_trusting((&sandbox, &by_number), &keys, authority);
    assert_eq!(list(&client, "docs").await.unwrap(), ["hello.txt", "large"]);
}

#[tokio::test]
async fn clients_that_do_not_are_not() {
    let sandbox = secure();
    let stranger = Sandbox::builder().tls().start().unwrap();
    let keys = long_term(&sandbox.create_user("alice"));
    let authority = stranger.ca_pem().unwrap();
    assert_ne!(sandbox.ca_pem(), Some(authority));
    let client = s3_trusting((&sandbox, sandbox.endpoint()), &keys, authority);
    let result = client.list_objects_v2().bucket("docs").send().await;
    assert!(
        matches!(result, Err(SdkError::DispatchFailure(_))),
        "{result:?}"
    );
    // Nor are those who speak in the clear.
    let answer = exchange(&sandbox, "GET", "/docs/hello.txt", &[], "");
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    assert_eq!(sandbox.counts().total(), 0);
}

#[tokio::test]
async fn in_the_clear_there_is_no_authority() {
    let scene = Scene::new();
    assert_eq!(scene.sandbox.ca_pem(), None);
    let client = scene.s3(&scene.long_term());
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    scene.docs.set_policy(only_tls()).unwrap();
    let error = get(&client, "docs", "hello.txt").await.unwrap_err();
    assert!(error.is(403, "AccessDenied"), "{error:?}");
}

#[tokio::test]
async fn faults_of_the_network_hit_it_too() {
    let sandbox = secure();
    let client = client(&sandbox);
    let faults = sandbox.faults();
    faults.lose_response(Kind::Get, 1);
    let request = client.get_object().bucket("docs").key("hello.txt");
    assert!(request.send().await.is_err());
    faults.network(Network::Closing);
    let request = client.get_object().bucket("docs").key("hello.txt");
    assert!(request.send().await.is_err());
    assert_eq!(sandbox.counts().of(Kind::Get), 1);
    faults.clear();
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
}
