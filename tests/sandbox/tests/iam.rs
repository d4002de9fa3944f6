//! ListMFADevices of IAM, and the kinds of devices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use aws_sdk_s3::config::Credentials;
use clients::forms::{Answer, CONTENT_TYPE, post};
use clients::*;
use s3mfa_sandbox::{Kind, Sandbox, policies};

const ACCOUNT: &str = "123456789012";
const IAM: (&str, &str) = ("iam", "us-east-1");
const LIST: &str = "Action=ListMFADevices&Version=2010-05-08";
const WRONG_SERIAL: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";

/// Asks for the devices of `alice` by name.
fn list(scene: &Scene, keys: &Credentials) -> Answer {
    let form = format!("{LIST}&UserName=alice");
    post(&scene.sandbox, IAM, keys, &form)
}

fn allow_own(scene: &Scene) {
    let policy = policies::list_own_devices(ACCOUNT, "alice");
    let policies = vec![policies::allow_all_s3(), policy];
    scene
        .sandbox
        .set_user_policies(&scene.alice, policies)
        .unwrap();
}

#[tokio::test]
async fn a_users_devices_are_listed_in_the_order_they_came() {
    let scene = Scene::new();
    allow_own(&scene);
    let passkey = scene.sandbox.create_passkey(&scene.alice, "laptop");
    let hardware = scene.sandbox.create_hardware_device(&scene.alice);
    let second = scene.sandbox.create_device(&scene.alice);
    let bob = scene.sandbox.create_user("bob");
    scene.sandbox.create_device(&bob);
    assert!(passkey.starts_with("arn:aws:iam::123456789012:u2f/user/alice/laptop-"));
    assert_eq!(second.serial(), "arn:aws:iam::123456789012:mfa/alice-2");
    let serial = hardware.serial();
    assert!(serial.starts_with("GAHT") && serial.len() == 12, "{serial}");
    assert!(serial[4..].bytes().all(|byte| byte.is_ascii_digit()));

    let answer = list(&scene, &scene.long_term());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.starts_with(
        "<ListMFADevicesResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">"
    ));
    assert!(answer.head.contains("content-type: text/xml"), "{answer:?}");
    let serials = [scene.phone.serial(), &passkey, serial, second.serial()];
    assert_eq!(answer.all("SerialNumber"), serials);
    assert_eq!(answer.all("UserName"), ["alice"; 4]);
    assert!(
        answer
            .all("EnableDate")
            .iter()
            .all(|date| date.starts_with("20") && date.ends_with('Z'))
    );
    assert_eq!(answer.text("IsTruncated"), "false");
    let id = answer.text("RequestId");
    assert!(answer.head.contains(&format!("x-amzn-requestid: {id}")));
    assert_eq!(scene.sandbox.counts().succeeded(Kind::ListMfaDevices), 1);

    scene.sandbox.delete_device(&scene.phone);
    let answer = list(&scene, &scene.long_term());
    assert_eq!(answer.all("SerialNumber"), serials[1..]);
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let scene = Scene::new();
    allow_own(&scene);
    for _ in 0..4 {
        scene.sandbox.create_device(&scene.alice);
    }
    let mut serials = Vec::new();
    let mut marker = String::new();
    let mut pages = 0;
    loop {
        let form = format!("{LIST}&UserName=alice&MaxItems=2{marker}");
        let answer = post(&scene.sandbox, IAM, &scene.long_term(), &form);
        serials.extend(answer.all("SerialNumber").into_iter().map(str::to_owned));
        pages += 1;
        if answer.text("IsTruncated") == "false" {
            break;
        }
        marker = format!("&Marker={}", answer.text("Marker").replace('=', "%3D"));
    }
    assert_eq!((serials.len(), pages), (5, 3));
    serials.dedup();
    assert_eq!(serials.len(), 5);
}

#[tokio::test]
async fn it_takes_a_permission() {
    let scene = Scene::new();
    let keys = scene.long_term();
    let denied = "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: iam:ListMFADevices on resource:";
    let why = "because no identity-based policy allows the iam:ListMFADevices action";
    let answer = list(&scene, &keys);
    assert!(
        answer.is(403, "AccessDenied", &format!("{denied} user alice {why}")),
        "{answer:?}"
    );
    assert!(
        answer
            .body
            .starts_with("<ErrorResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">")
    );
    assert_eq!(answer.text("Type"), "Sender");
    allow_own(&scene);
    assert_eq!(list(&scene, &keys).status, 200);
    let of_bob = format!("{LIST}&UserName=bob");
    let answer = post(&scene.sandbox, IAM, &keys, &of_bob);
    assert!(
        answer.is(403, "AccessDenied", &format!("{denied} user bob {why}")),
        "{answer:?}"
    );

    // Without a name it is the own devices that are answered, but all that are asked for.
    let answer = post(&scene.sandbox, IAM, &keys, LIST);
    assert!(
        answer.is(403, "AccessDenied", &format!("{denied} * {why}")),
        "{answer:?}"
    );
    let all =
        r#"{"Statement": {"Effect": "Allow", "Action": "iam:ListMFADevices", "Resource": "*"}}"#;
    scene.sandbox.put_user_policy(&scene.alice, all).unwrap();
    let answer = post(&scene.sandbox, IAM, &keys, LIST);
    assert_eq!(answer.all("SerialNumber"), [scene.phone.serial()]);
    let answer = post(&scene.sandbox, IAM, &keys, &of_bob);
    assert!(
        answer.is(
            404,
            "NoSuchEntity",
            "The user with name bob cannot be found."
        ),
        "{answer:?}"
    );
    let deny = r#"{"Statement": {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}}"#;
    scene.sandbox.put_user_policy(&scene.alice, deny).unwrap();
    let answer = list(&scene, &keys);
    assert!(
        answer
            .text("Message")
            .ends_with("user alice with an explicit deny in an identity-based policy"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn sessions_need_mfa_and_roles_a_name() {
    let scene = Scene::new();
    allow_own(&scene);
    let answer = list(&scene, &scene.plain_session().await);
    let invalid = "The security token included in the request is invalid";
    assert!(
        answer.is(403, "InvalidClientTokenId", invalid),
        "{answer:?}"
    );
    let session = scene.mfa_session().await;
    assert_eq!(list(&scene, &session).status, 200);

    let trust = policies::trust(scene.alice.arn());
    let role = scene.sandbox.create_role("reader", trust).unwrap();
    role.set_policies(vec![policies::list_own_devices(ACCOUNT, "alice")])
        .unwrap();
    let keys = assume(&scene.sts(&scene.long_term()), &role).await;
    assert_eq!(list(&scene, &keys).status, 200);
    let answer = post(&scene.sandbox, IAM, &keys, LIST);
    assert!(
        answer.is(
            400,
            "ValidationError",
            "Must specify userName when calling with non-User credentials"
        ),
        "{answer:?}"
    );
    scene.sandbox.sessions().expire_all();
    let answer = list(&scene, &session);
    let expired = "The security token included in the request is expired";
    assert!(answer.is(403, "ExpiredToken", expired), "{answer:?}");
}

#[test]
fn signatures_are_verified() {
    let sandbox = Sandbox::builder().region("eu-west-1").start().unwrap();
    let alice = sandbox.create_user("alice");
    sandbox
        .set_user_policies(&alice, vec![policies::list_own_devices(ACCOUNT, "alice")])
        .unwrap();
    let form = format!("{LIST}&UserName=alice");
    let keys = long_term(&alice);
    assert_eq!(post(&sandbox, IAM, &keys, &form).status, 200);

    let wrong = |secret: &str, token: Option<&str>| {
        let token = token.map(str::to_owned);
        Credentials::new(alice.access_key_id(), secret, token, None, "test")
    };
    let mismatch = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
    let answer = post(&sandbox, IAM, &wrong("wrong", None), &form);
    assert!(
        answer.is(403, "SignatureDoesNotMatch", mismatch),
        "{answer:?}"
    );
    // A token that does not belong is looked at after the signature.
    let answer = post(&sandbox, IAM, &wrong("wrong", Some("token")), &form);
    assert_eq!(answer.text("Code"), "SignatureDoesNotMatch");
    let own = wrong(alice.secret_access_key(), Some("token"));
    let answer = post(&sandbox, IAM, &own, &form);
    assert_eq!(answer.text("Code"), "InvalidClientTokenId");
    let unknown = Credentials::new("AKIAUNKNOWNUNKNOWN12", "wrong", None, None, "test");
    let answer = post(&sandbox, IAM, &unknown, &form);
    assert_eq!(answer.text("Code"), "InvalidClientTokenId");

    // IAM has one region, whichever the sandbox's is.
    let answer = post(&sandbox, ("iam", "eu-west-1"), &keys, &form);
    let region = "Credential should be scoped to a valid region. ";
    assert!(
        answer.is(403, "SignatureDoesNotMatch", region),
        "{answer:?}"
    );
    let answer = post(&sandbox, ("s3", "us-east-1"), &keys, &form);
    let service = "Credential should be scoped to correct service: 'iam'. ";
    assert!(
        answer.is(403, "SignatureDoesNotMatch", service),
        "{answer:?}"
    );
    let answer = exchange(&sandbox, "POST", "/", &[CONTENT_TYPE], &form);
    let answer = Answer::read(&answer);
    let unsigned = "Request is missing Authentication Token";
    assert!(
        answer.is(403, "MissingAuthenticationToken", unsigned),
        "{answer:?}"
    );
    let half = [
        CONTENT_TYPE,
        ("authorization", "AWS4-HMAC-SHA256 Credential=x"),
    ];
    let answer = Answer::read(&exchange(&sandbox, "POST", "/", &half, &form));
    assert!(
        answer.is(
            400,
            "IncompleteSignature",
            "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256"
        ),
        "{answer:?}"
    );
}

/// A signed request whose bytes are changed on the way is refused, whatever it is that changed.
#[test]
fn what_is_signed_cannot_be_changed() {
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    let scene = Scene::new();
    allow_own(&scene);
    let form = format!("{LIST}&UserName=alice");
    let endpoint = scene.sandbox.endpoint();
    let host = endpoint.trim_start_matches("http://");
    let identity = scene.long_term().into();
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("iam")
        .time(std::time::SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    // A header with odd spaces is signed in its canonical form.
    let note = ("x-note", "  two   words ");
    let request = SignableRequest::new(
        "POST",
        format!("{endpoint}/?b=2&a=1%20x"),
        [("host", host), note].into_iter(),
        SignableBody::Bytes(form.as_bytes()),
    );
    let (signed, _) = sign(request.unwrap(), &params).unwrap().into_parts();
    let signed: Vec<_> = signed.headers().collect();
    let send = |target: &str, note: &str, form: &str| {
        let mut headers = signed.clone();
        headers.push(("x-note", note));
        Answer::read(&exchange(&scene.sandbox, "POST", target, &headers, form)).status
    };
    assert_eq!(send("/?b=2&a=1%20x", note.1, &form), 200);
    assert_eq!(send("/?a=1+x&b=2", "two words", &form), 200);
    assert_eq!(send("/?b=2&a=1", note.1, &form), 403);
    assert_eq!(send("/?b=2&a=1%20x", "two", &form), 403);
    let other = form.replace("alice", "alicf");
    assert_eq!(send("/?b=2&a=1%20x", note.1, &other), 403);
}

#[test]
fn parameters_and_actions_are_checked() {
    let scene = Scene::new();
    let ask = |form: &str| post(&scene.sandbox, IAM, &scene.long_term(), form);
    let answer = ask(&format!("{LIST}&UserName=a%2Fb"));
    assert!(answer.is(400, "ValidationError", "The specified value for userName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-"), "{answer:?}");
    let answer = ask(&format!("{LIST}&MaxItems=0"));
    assert!(answer.is(400, "ValidationError", "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"), "{answer:?}");
    let answer = ask("Action=ListUsers&Version=2010-05-08");
    assert!(
        answer.is(
            400,
            "InvalidAction",
            "Could not find operation ListUsers for version 2010-05-08"
        ),
        "{answer:?}"
    );
    let answer = ask("Action=GetCallerIdentity&Version=2011-06-15");
    assert_eq!(answer.text("Code"), "InvalidAction");
    assert_eq!(scene.sandbox.counts().of(Kind::OtherIam), 2);
}

#[tokio::test]
async fn hardware_gives_codes_and_passkeys_do_not() {
    let scene = Scene::new();
    let hardware = scene.sandbox.create_hardware_device(&scene.alice);
    let passkey = scene.sandbox.create_passkey(&scene.alice, "laptop");
    let sts = scene.sts(&scene.long_term());
    let ask = |serial: &str, code: String| {
        let request = sts.get_session_token().serial_number(serial);
        request.token_code(code).send()
    };
    let session = ask(hardware.serial(), hardware.code()).await.unwrap();
    scene
        .docs
        .set_policy(policies::require_mfa_null_age("docs"))
        .unwrap();
    let client = scene.s3(&credentials(session.credentials().unwrap()));
    assert!(get(&client, "docs", "hello.txt").await.is_ok());

    let error = refused(ask(&passkey, "123456".to_owned()).await);
    assert!(error.is(403, "AccessDenied"), "{error:?}");
    assert_eq!(error.message, WRONG_SERIAL);
    let code = hardware.unspent_code();
    scene.sandbox.delete_device(&hardware);
    let error = refused(ask(hardware.serial(), code).await);
    assert_eq!(error.message, WRONG_SERIAL);
    // Its place is free again, and a new device there is another one.
    scene.sandbox.delete_device(&scene.phone);
    let renewed = scene.sandbox.create_device(&scene.alice);
    assert_eq!(renewed.serial(), scene.phone.serial());
    let error = refused(ask(renewed.serial(), scene.phone.unspent_code()).await);
    assert_eq!(
        error.message,
        "MultiFactorAuthentication failed with invalid MFA one time pass code."
    );
    ask(renewed.serial(), renewed.unspent_code()).await.unwrap();
}
