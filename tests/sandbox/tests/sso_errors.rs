//! The errors of IAM Identity Center, as they come over the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use clients::forms::Answer;
use clients::*;

#[test]
fn errors_are_told_as_the_service_tells_them() {
    let scene = Scene::new();
    let post = |path: &str, body: &str| {
        let json = [("content-type", "application/json")];
        Answer::read(&exchange(&scene.sandbox, "POST", path, &json, body))
    };
    let start = scene.sandbox.sso().start_url().to_owned();
    let answer = post(
        "/client/register",
        r#"{"clientName":"x","clientType":"public"}"#,
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: application/json"));
    let client: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let with = |rest: &str| {
        let (id, secret) = (&client["clientId"], &client["clientSecret"]);
        format!(r#"{{"clientId":{id},"clientSecret":{secret},{rest}}}"#)
    };
    for (path, body, status, kind, error) in [
        (
            "/client/register",
            r#"{"clientName":"x","clientType":"confidential"}"#.to_owned(),
            400,
            "InvalidClientMetadataException",
            "invalid_client_metadata",
        ),
        (
            "/client/register",
            r#"{"clientName":"x","clientType":"public","scopes":["odd"]}"#.to_owned(),
            400,
            "InvalidScopeException",
            "invalid_scope",
        ),
        (
            "/client/register",
            r#"{"clientName":"x","clientType":"public","grantTypes":["authorization_code"]}"#
                .to_owned(),
            400,
            "UnsupportedGrantTypeException",
            "unsupported_grant_type",
        ),
        (
            "/device_authorization",
            with(r#""startUrl":"https://example.awsapps.com/start""#),
            400,
            "InvalidRequestException",
            "invalid_request",
        ),
        (
            "/device_authorization",
            format!(r#"{{"clientId":"x","clientSecret":"y","startUrl":"{start}"}}"#),
            401,
            "InvalidClientException",
            "invalid_client",
        ),
        (
            "/token",
            with(r#""grantType":"password""#),
            400,
            "UnsupportedGrantTypeException",
            "unsupported_grant_type",
        ),
        (
            "/token",
            with(r#""grantType":"refresh_token""#),
            400,
            "InvalidRequestException",
            "invalid_request",
        ),
        (
            "/token",
            "not JSON".to_owned(),
            400,
            "InvalidRequestException",
            "invalid_request",
        ),
    ] {
        let answer = post(path, &body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        let header = format!(
            "x-amzn-errortype: {kind}:http://internal.amazon.com/coral/com.amazonaws.sso.oidc/"
        );
        assert!(answer.head.contains(&header.to_lowercase()), "{answer:?}");
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["error"], error);
        assert!(body["error_description"].is_string());
    }
    let answer = post(
        "/device_authorization",
        &with(&format!(r#""startUrl":"{start}/#/""#)),
    );
    assert_eq!(answer.status, 200, "{answer:?}");

    let path = "/federation/credentials?role_name=x&account_id=123456789012";
    let token = [("x-amz-sso_bearer_token", "wrong")];
    let answer = Answer::read(&exchange(&scene.sandbox, "GET", path, &token, ""));
    assert_eq!(answer.status, 401);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap(),
        serde_json::json!({
            "message": "Session token not found or invalid",
            "__type": "com.amazonaws.switchboard.portal#UnauthorizedException",
        })
    );
}
