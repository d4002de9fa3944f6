//! IAM Identity Center: the device flow, refresh tokens, and the keys of roles.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::Credentials;
use aws_sdk_sso::operation::get_role_credentials::GetRoleCredentialsOutput;
use aws_sdk_ssooidc::operation::create_token::CreateTokenOutput;
use aws_sdk_ssooidc::operation::register_client::RegisterClientOutput;
use clients::*;
use s3mfa_sandbox::{Kind, Role, Sso, policies};

const ACCOUNT: &str = "123456789012";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const SCOPE: &str = "sso:account:access";

/// A client of IAM Identity Center, as the AWS CLI is one.
struct Program<'a> {
    scene: &'a Scene,
    oidc: aws_sdk_ssooidc::Client,
    client: RegisterClientOutput,
}

impl<'a> Program<'a> {
    async fn register(scene: &'a Scene, scope: Option<&str>) -> Self {
        let oidc = ssooidc(&scene.sandbox);
        let request = oidc.register_client().client_name("test");
        let request = request.client_type("public");
        let request = request.set_scopes(scope.map(|scope| vec![scope.to_owned()]));
        let client = request.send().await.unwrap();
        Self {
            scene,
            oidc,
            client,
        }
    }

    /// Starts, and returns the device code and the user code.
    async fn start(&self) -> (String, String) {
        let request = self.oidc.start_device_authorization();
        let request = request
            .client_id(self.client.client_id().unwrap())
            .client_secret(self.client.client_secret().unwrap());
        let request = request.start_url(self.scene.sandbox.sso().start_url());
        let output = request.send().await.unwrap();
        assert_eq!((output.expires_in(), output.interval()), (600, 1));
        let page = output.verification_uri().unwrap();
        assert!(page.starts_with(self.scene.sandbox.sso().start_url()));
        let user_code = output.user_code().unwrap().to_owned();
        assert_eq!(
            output.verification_uri_complete().unwrap(),
            format!("{page}?user_code={user_code}")
        );
        (output.device_code().unwrap().to_owned(), user_code)
    }

    async fn create(
        &self,
        grant: &str,
        device_code: Option<&str>,
        refresh_token: Option<&str>,
    ) -> Result<CreateTokenOutput, Refused> {
        let request = self.oidc.create_token().grant_type(grant);
        let request = request
            .client_id(self.client.client_id().unwrap())
            .client_secret(self.client.client_secret().unwrap());
        let request = request
            .set_device_code(device_code.map(str::to_owned))
            .set_refresh_token(refresh_token.map(str::to_owned));
        match request.send().await {
            Ok(output) => Ok(output),
            error => Err(refused(error)),
        }
    }

    async fn poll(&self, device_code: &str) -> Result<CreateTokenOutput, Refused> {
        self.create(DEVICE_CODE, Some(device_code), None).await
    }

    async fn refresh(&self, token: &str) -> Result<CreateTokenOutput, Refused> {
        self.create("refresh_token", None, Some(token)).await
    }
}

async fn keys_of(
    scene: &Scene,
    role: &str,
    account: &str,
    token: &str,
) -> Result<GetRoleCredentialsOutput, Refused> {
    let sso = sso(&scene.sandbox);
    let request = sso.get_role_credentials().role_name(role);
    let request = request.account_id(account).access_token(token);
    match request.send().await {
        Ok(output) => Ok(output),
        error => Err(refused(error)),
    }
}

fn keys(output: &GetRoleCredentialsOutput) -> Credentials {
    let keys = output.role_credentials().unwrap();
    Credentials::new(
        keys.access_key_id().unwrap(),
        keys.secret_access_key().unwrap(),
        keys.session_token().map(str::to_owned),
        None,
        "test",
    )
}

/// A role that the person may use, and nobody else may assume.
fn granted(scene: &Scene) -> (Role, Sso) {
    let bob = scene.sandbox.create_user("bob");
    let trust = policies::trust(bob.arn());
    let role = scene.sandbox.create_role("Reader", trust).unwrap();
    let sso = scene.sandbox.sso();
    sso.grant(&role);
    (role, sso)
}

fn is_error(error: &Refused, status: u16, code: &str, name: &str) -> bool {
    error.is(status, code) && error.body.contains(&format!("\"error\":\"{name}\""))
}

#[tokio::test]
async fn somebody_signs_in_and_gets_the_keys_of_a_role() {
    let scene = Scene::new();
    let (_, center) = granted(&scene);
    let program = Program::register(&scene, Some(SCOPE)).await;
    let (device_code, user_code) = program.start().await;
    assert_eq!(center.pending(), [user_code.as_str()]);
    let error = program.poll(&device_code).await.unwrap_err();
    assert!(error.is(400, "AuthorizationPendingException"), "{error:?}");
    assert_eq!(
        error.body,
        "{\"error\":\"authorization_pending\",\"error_description\":\"Authorization is still pending\"}"
    );
    // Two questions within a second of each other, unless the machine is asleep.
    let mut error = program.poll(&device_code).await.unwrap_err();
    for _ in 0..5 {
        if error.code == "SlowDownException" {
            break;
        }
        error = program.poll(&device_code).await.unwrap_err();
    }
    assert!(
        is_error(&error, 400, "SlowDownException", "slow_down"),
        "{error:?}"
    );
    scene.sandbox.clock().advance(Duration::from_secs(1));
    let error = program.poll(&device_code).await.unwrap_err();
    assert!(error.is(400, "AuthorizationPendingException"), "{error:?}");

    assert!(center.approve(&user_code));
    assert!(!center.approve(&user_code) && center.pending().is_empty());
    let tokens = program.poll(&device_code).await.unwrap();
    assert_eq!(tokens.token_type(), Some("Bearer"));
    assert_eq!(tokens.expires_in(), 3600);
    assert!(tokens.refresh_token().is_some());
    // The code is used up.
    let error = program.poll(&device_code).await.unwrap_err();
    assert!(
        is_error(&error, 400, "InvalidGrantException", "invalid_grant"),
        "{error:?}"
    );

    let token = tokens.access_token().unwrap();
    let output = keys_of(&scene, "Reader", ACCOUNT, token).await.unwrap();
    let now = SystemTime::now() + scene.sandbox.clock().ahead();
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let end = output.role_credentials().unwrap().expiration();
    let length = end - i64::try_from(now.as_millis()).unwrap();
    assert!((3_590_000..=3_600_000).contains(&length), "{length}");
    let keys = keys(&output);
    assert!(keys.access_key_id().starts_with("ASIA"));
    let client = scene.s3(&keys);
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    let identity = scene.sts(&keys).get_caller_identity().send().await.unwrap();
    assert_eq!(
        identity.arn(),
        Some("arn:aws:sts::123456789012:assumed-role/Reader/person")
    );
    assert_eq!(center.issued_tokens(), 1);
    let counts = scene.sandbox.counts();
    assert_eq!(counts.of(Kind::RegisterClient), 1);
    assert_eq!(counts.of(Kind::StartDeviceAuthorization), 1);
    assert_eq!(counts.of(Kind::CreateToken), 5);
    assert_eq!(counts.succeeded(Kind::GetRoleCredentials), 1);
}

#[tokio::test]
async fn the_sessions_carry_no_mfa_and_say_so() {
    let scene = Scene::new();
    let (_, center) = granted(&scene);
    let output = keys_of(&scene, "Reader", ACCOUNT, &center.access_token()).await;
    let client = scene.s3(&keys(&output.unwrap()));
    for (policy, is_open) in [
        (policies::require_mfa_null_age("docs"), false),
        (policies::require_mfa_bool("docs"), false),
        (policies::require_mfa_bool_if_exists("docs"), false),
        (policies::require_mfa_age("docs", 60), true),
    ] {
        scene.docs.set_policy(&policy).unwrap();
        let got = get(&client, "docs", "hello.txt").await;
        assert_eq!(got.is_ok(), is_open, "{policy}: {got:?}");
    }
}

#[tokio::test]
async fn codes_are_denied_and_expire() {
    let scene = Scene::new();
    let center = scene.sandbox.sso();
    let program = Program::register(&scene, Some(SCOPE)).await;
    let (denied, user_code) = program.start().await;
    assert!(center.deny(&user_code) && !center.approve(&user_code));
    let error = program.poll(&denied).await.unwrap_err();
    assert!(
        is_error(&error, 400, "AccessDeniedException", "access_denied"),
        "{error:?}"
    );
    let (late, user_code) = program.start().await;
    let (other, other_code) = program.start().await;
    assert_eq!(center.pending(), [user_code.as_str(), &other_code]);
    scene.sandbox.clock().advance(Duration::from_secs(600));
    assert!(center.pending().is_empty() && !center.approve(&user_code));
    let error = program.poll(&late).await.unwrap_err();
    assert!(
        is_error(&error, 400, "ExpiredTokenException", "expired_token"),
        "{error:?}"
    );
    // A code is for the client that asked for it.
    let stranger = Program::register(&scene, Some(SCOPE)).await;
    let error = stranger.poll(&other).await.unwrap_err();
    assert!(
        is_error(&error, 400, "InvalidGrantException", "invalid_grant"),
        "{error:?}"
    );
    assert_eq!(center.issued_tokens(), 0);
}

#[tokio::test]
async fn refresh_tokens_give_new_tokens() {
    let scene = Scene::new();
    let (_, center) = granted(&scene);
    let program = Program::register(&scene, Some(SCOPE)).await;
    let (device_code, user_code) = program.start().await;
    center.approve(&user_code);
    let first = program.poll(&device_code).await.unwrap();
    scene.sandbox.clock().advance(Duration::from_secs(3600));
    let token = first.access_token().unwrap();
    let error = keys_of(&scene, "Reader", ACCOUNT, token).await.unwrap_err();
    assert!(error.is(401, "UnauthorizedException"), "{error:?}");

    let old = first.refresh_token().unwrap();
    center.set_token_life(Duration::from_secs(60));
    let second = program.refresh(old).await.unwrap();
    assert_eq!(second.expires_in(), 60);
    let token = second.access_token().unwrap();
    keys_of(&scene, "Reader", ACCOUNT, token).await.unwrap();
    program.refresh(old).await.unwrap();
    center.rotate_refresh_tokens(true);
    program.refresh(old).await.unwrap();
    let error = program.refresh(old).await.unwrap_err();
    assert!(error.is(400, "InvalidGrantException"), "{error:?}");
    assert_eq!(
        error.body,
        "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid refresh token provided\"}"
    );
    let newer = second.refresh_token().unwrap();
    let stranger = Program::register(&scene, Some(SCOPE)).await;
    assert!(stranger.refresh(newer).await.is_err());
    let third = program.refresh(newer).await.unwrap();
    center.revoke_refresh_tokens();
    let error = program
        .refresh(third.refresh_token().unwrap())
        .await
        .unwrap_err();
    assert!(
        is_error(&error, 400, "InvalidGrantException", "invalid_grant"),
        "{error:?}"
    );
    center.expire_clients();
    let error = program.poll("anything").await.unwrap_err();
    assert!(
        is_error(&error, 401, "InvalidClientException", "invalid_client"),
        "{error:?}"
    );
}

#[tokio::test]
async fn without_the_scope_there_is_no_refresh_token() {
    let scene = Scene::new();
    let program = Program::register(&scene, None).await;
    let issued = program.client.client_id_issued_at();
    let days = (program.client.client_secret_expires_at() - issued) / 86_400;
    assert_eq!(days, 90);
    let (device_code, user_code) = program.start().await;
    scene.sandbox.sso().approve(&user_code);
    let tokens = program.poll(&device_code).await.unwrap();
    assert_eq!(
        (tokens.expires_in(), tokens.refresh_token()),
        (28_800, None)
    );
    scene
        .sandbox
        .clock()
        .advance(Duration::from_secs(90 * 86_400));
    let error = program.poll(&device_code).await.unwrap_err();
    assert!(error.is(401, "InvalidClientException"), "{error:?}");
}

#[tokio::test]
async fn keys_are_for_whom_the_role_was_granted_to() {
    let scene = Scene::new();
    let (role, center) = granted(&scene);
    let token = center.access_token();
    let other = scene
        .sandbox
        .create_role("Writer", policies::trust(scene.alice.arn()))
        .unwrap();
    for (name, account) in [
        (other.name(), ACCOUNT),
        ("Absent", ACCOUNT),
        ("Reader", "210987654321"),
    ] {
        let error = keys_of(&scene, name, account, &token).await.unwrap_err();
        assert!(error.is(403, "ForbiddenException"), "{error:?}");
        assert_eq!(error.message, "No access");
    }
    role.set_max_session(Duration::from_secs(60));
    let output = keys_of(&scene, "Reader", ACCOUNT, &token).await.unwrap();
    let client = scene.s3(&keys(&output));
    center.expire_access_tokens();
    let error = keys_of(&scene, "Reader", ACCOUNT, &token)
        .await
        .unwrap_err();
    assert!(error.is(401, "UnauthorizedException"), "{error:?}");
    assert_eq!(error.message, "Session token not found or invalid");
    // What was issued lives on, and ends as other sessions do.
    assert!(get(&client, "docs", "hello.txt").await.is_ok());
    scene.sandbox.clock().advance(Duration::from_secs(60));
    let error = get(&client, "docs", "hello.txt").await.unwrap_err();
    assert!(error.is(400, "ExpiredToken"), "{error:?}");
}

#[tokio::test]
async fn a_sign_in_is_as_good_as_a_flow() {
    let scene = Scene::new();
    let (_, center) = granted(&scene);
    let sign_in = center.sign_in();
    keys_of(&scene, "Reader", ACCOUNT, &sign_in.access_token)
        .await
        .unwrap();
    let request = ssooidc(&scene.sandbox).create_token();
    let request = request
        .client_id(&sign_in.client_id)
        .client_secret(&sign_in.client_secret);
    let request = request
        .grant_type("refresh_token")
        .refresh_token(&sign_in.refresh_token);
    let token = request.send().await.unwrap().access_token.unwrap();
    keys_of(&scene, "Reader", ACCOUNT, &token).await.unwrap();
    let secrets = center.secrets();
    for secret in [token, sign_in.refresh_token, sign_in.client_secret] {
        assert!(secrets.contains(&secret));
    }
    assert!(sign_in.registration_expires_at > sign_in.expires_at);
}

#[tokio::test]
async fn other_services_are_out_of_its_way() {
    let scene = Scene::new();
    let bucket = scene.sandbox.create_bucket("federation");
    bucket.put("credentials", "an object");
    let client = scene.s3(&scene.long_term());
    assert_eq!(
        get(&client, "federation", "credentials").await.unwrap(),
        "an object"
    );
    // Faults tell them apart, and hit them too.
    let faults = scene.sandbox.faults();
    faults.status(Kind::CreateToken, 500, "InternalServerException", 1);
    faults.status(s3mfa_sandbox::Matcher::s3(), 503, "SlowDown", 1);
    let program = Program::register(&scene, None).await;
    let error = program.poll("x").await.unwrap_err();
    assert!(error.is(500, "InternalServerException"), "{error:?}");
    let error = program.poll("x").await.unwrap_err();
    assert!(error.is(400, "InvalidGrantException"), "{error:?}");
    assert!(
        get(&client, "docs", "hello.txt")
            .await
            .unwrap_err()
            .is(503, "SlowDown")
    );
}
