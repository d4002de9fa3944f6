//! AssumeRoleWithWebIdentity: a provider's token instead of keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::Duration;

use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityOutput;
use clients::*;
use s3mfa_sandbox::{Kind, Role, policies};
use serde_json::json;

/// Asks for a session of the role. The client has no keys to sign with.
async fn ask(
    scene: &Scene,
    role: &str,
    token: &str,
) -> Result<AssumeRoleWithWebIdentityOutput, Refused> {
    let sts = sts_without_keys(&scene.sandbox);
    let request = sts.assume_role_with_web_identity().role_arn(role);
    let request = request.role_session_name("pod").web_identity_token(token);
    match request.send().await {
        Ok(output) => Ok(output),
        error => Err(refused(error)),
    }
}

fn role(scene: &Scene) -> Role {
    let provider = scene.sandbox.oidc_provider();
    let trust = policies::trust_web_identity(provider, "system:serviceaccount:apps:web");
    scene.sandbox.create_role("web", trust).unwrap()
}

#[tokio::test]
async fn a_token_assumes_the_role_that_trusts_its_subject() {
    let scene = Scene::new();
    let role = role(&scene);
    let token = scene
        .sandbox
        .web_identity_token("system:serviceaccount:apps:web");
    assert_eq!(token.split('.').count(), 3);
    let output = ask(&scene, role.arn(), &token).await.unwrap();
    let session = "arn:aws:sts::123456789012:assumed-role/web/pod";
    assert_eq!(output.assumed_role_user().unwrap().arn(), session);
    assert_eq!(output.audience(), Some("sts.amazonaws.com"));
    assert_eq!(output.provider(), Some(scene.sandbox.oidc_provider()));
    assert_eq!(
        output.subject_from_web_identity_token(),
        Some("system:serviceaccount:apps:web")
    );
    let keys = credentials(output.credentials().unwrap());
    let client = scene.s3(&keys);
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    let identity = scene.sts(&keys).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some(session));
    // The token is good for more than one session, and none of them has MFA.
    ask(&scene, role.arn(), &token).await.unwrap();
    scene
        .docs
        .set_policy(policies::require_mfa_bool("docs"))
        .unwrap();
    assert!(get(&client, "docs", "hello.txt").await.is_err());
    let counts = scene.sandbox.counts();
    assert_eq!(counts.succeeded(Kind::AssumeRoleWithWebIdentity), 2);
}

#[tokio::test]
async fn the_role_decides_about_the_subject() {
    let scene = Scene::new();
    let role = role(&scene);
    let token = scene
        .sandbox
        .web_identity_token("system:serviceaccount:apps:db");
    let denied = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
    let plain = scene
        .sandbox
        .create_role("plain", policies::trust(scene.alice.arn()))
        .unwrap();
    let absent = "arn:aws:iam::123456789012:role/absent";
    for arn in [role.arn(), plain.arn(), absent] {
        let error = ask(&scene, arn, &token).await.unwrap_err();
        assert!(error.is(403, "AccessDenied"), "{error:?}");
        assert_eq!(error.message, denied);
    }
    // Nor do keys help where the role trusts the provider alone.
    let error = assume_refused(&scene.sts(&scene.long_term()), role.arn()).await;
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    let other = "arn:aws:iam::123456789012:oidc-provider/other.example.com";
    let trust = policies::trust_web_identity(other, "system:serviceaccount:apps:db");
    role.set_trust_policy(trust).unwrap();
    assert!(ask(&scene, role.arn(), &token).await.is_err());
    let error = ask(&scene, scene.sandbox.oidc_provider(), &token)
        .await
        .unwrap_err();
    assert!(error.is(400, "ValidationError") && error.message == "Request ARN is invalid");
}

#[tokio::test]
async fn tokens_expire() {
    let scene = Scene::new();
    let role = role(&scene);
    let token = || {
        scene
            .sandbox
            .web_identity_token("system:serviceaccount:apps:web")
    };
    let first = token();
    scene.sandbox.clock().advance(Duration::from_secs(3600));
    let error = ask(&scene, role.arn(), &first).await.unwrap_err();
    assert!(error.is(400, "ExpiredTokenException"), "{error:?}");
    assert!(
        error
            .message
            .starts_with("Token expired: current date/time 1")
            && error
                .message
                .contains("must be before the expiration date/time 1")
    );
    let second = token();
    let session = ask(&scene, role.arn(), &second).await.unwrap();
    scene.sandbox.expire_web_identity_tokens();
    let error = ask(&scene, role.arn(), &second).await.unwrap_err();
    assert!(error.is(400, "ExpiredTokenException"), "{error:?}");
    // Sessions outlive the tokens they were issued for.
    let client = scene.s3(&credentials(session.credentials().unwrap()));
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    assert!(ask(&scene, role.arn(), &token()).await.is_ok());
}

#[tokio::test]
async fn tokens_of_others_are_invalid() {
    let scene = Scene::new();
    let role = role(&scene);
    let token = scene
        .sandbox
        .web_identity_token("system:serviceaccount:apps:web");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(signature.len()));
    // {"alg":"none"} and {"iss":"https://accounts.example.org"}
    let foreign = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2FjY291bnRzLmV4YW1wbGUub3JnIn0.AAAA";
    for (token, message) in [
        (
            "opaque",
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
        ),
        (
            foreign,
            "No OpenIDConnect provider found in your account for https://accounts.example.org",
        ),
        (
            &forged,
            "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements",
        ),
    ] {
        let error = ask(&scene, role.arn(), token).await.unwrap_err();
        assert!(error.is(400, "InvalidIdentityToken"), "{error:?}");
        assert_eq!(error.message, message);
    }
    let error = ask(&scene, role.arn(), "x").await.unwrap_err();
    assert!(error.is(400, "ValidationError"), "{error:?}");
    assert!(error.message.contains("'webIdentityToken'"));
}

#[test]
fn providers_are_named_in_trust_policies_alone() {
    let scene = Scene::new();
    let provider = json!({"Federated": scene.sandbox.oidc_provider()});
    let of_bucket = json!({"Statement": {"Effect": "Allow", "Principal": provider, "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::docs/*"}});
    assert!(scene.docs.set_policy(of_bucket).is_err());
    let key = json!({"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::docs/*", "Condition": {"StringEquals": {"oidc.example.com:sub": "x"}}}});
    assert!(scene.docs.set_policy(key).is_err());
    let odd = policies::trust_web_identity("arn:aws:iam::123456789012:user/alice", "x");
    let error = scene.sandbox.create_role("r", odd).unwrap_err();
    assert_eq!(error.code(), "MalformedPolicyDocument");
}
