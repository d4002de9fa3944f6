//! What the environment says, and what AWS puts around programs that run there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use s3mfa_sandbox::policies;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::case::Answer::Code;
use crate::case::End::{Mounted, Refused};
use crate::case::{BARE, Case, ROLE_WITH_DEVICE, Stage, WITH_DEVICE};

/// A service of metadata, as instances and containers have it: path and answer. Returns its address.
/// It lives as long as the test's process.
pub fn metadata(answers: Vec<(&'static str, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            let path = first.split(' ').nth(1).unwrap().to_owned();
            // The rest of the request's head.
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let answer = answers.iter().find(|(known, _)| *known == path);
            let (status, body) = match answer {
                Some((_, body)) => ("200 OK", body.as_str()),
                None => ("404 Not Found", ""),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: \
                 21600\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    format!("http://{address}")
}

/// Keys as metadata services print them.
pub fn document(keys: &Value) -> String {
    json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
        "AccessKeyId": keys["AccessKeyId"], "SecretAccessKey": keys["SecretAccessKey"],
        "Token": keys["SessionToken"], "Expiration": keys["Expiration"],
    })
    .to_string()
}

fn must_have_mfa(stage: &Stage) {
    let policy = policies::require_mfa_null_age("docs");
    stage.scene.bucket.set_policy(policy).unwrap();
}

#[test]
fn aws_profile() {
    for name in ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"] {
        Case::new(policies::require_mfa_null_age("docs"), ROLE_WITH_DEVICE)
            .variable(name, "r")
            .answers(&[Code])
            .ends(Mounted("session-token-then-role"));
    }
}

#[test]
fn aws_profile_that_is_not_there() {
    Case::new(None, BARE)
        .variable("AWS_PROFILE", "nobody")
        .ends(Refused(2, "nobody"));
}

#[test]
fn aws_mfa_serial() {
    Case::new(policies::require_mfa_null_age("docs"), BARE)
        .variable("AWS_MFA_SERIAL", "{serial}")
        .answers(&[Code])
        .ends(Mounted("session-token"));
}

#[test]
fn files_elsewhere() {
    Case::new(policies::require_mfa_null_age("docs"), "")
        .with(|stage| {
            let home = stage.scene.home();
            fs::write(home.join("config"), stage.fill(WITH_DEVICE)).unwrap();
            fs::rename(home.join(".aws/credentials"), home.join("keys")).unwrap();
        })
        .variable("AWS_CONFIG_FILE", "{home}/config")
        .variable("AWS_SHARED_CREDENTIALS_FILE", "{home}/keys")
        .answers(&[Code])
        .ends(Mounted("session-token"));
}

/// The environment's region goes before the profile's, and the command line's before both.
#[test]
fn aws_region() {
    let elsewhere = WITH_DEVICE.replace("us-east-1", "eu-central-1");
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        Case::new(policies::require_mfa_null_age("docs"), &elsewhere)
            .variable(name, "us-east-1")
            .answers(&[Code])
            .ends(Mounted("session-token"));
    }
    Case::new(policies::require_mfa_null_age("docs"), &elsewhere)
        .variable("AWS_REGION", "eu-west-1")
        .options(&["--region", "us-east-1"])
        .answers(&[Code])
        .ends(Mounted("session-token"));
}

#[test]
fn sts_of_another_region() {
    Case::new(policies::require_mfa_null_age("docs"), WITH_DEVICE)
        .variable("AWS_REGION", "eu-central-1")
        .answers(&[Code])
        .ends(Refused(3, "this STS belongs to another region"));
}

#[test]
fn keys_of_the_environment() {
    Case::new(policies::require_mfa_null_age("docs"), WITH_DEVICE)
        .with(|stage| fs::remove_file(stage.scene.home().join(".aws/credentials")).unwrap())
        .variable("AWS_ACCESS_KEY_ID", "{key}")
        .variable("AWS_SECRET_ACCESS_KEY", "{secret}")
        .answers(&[Code])
        .ends(Mounted("session-token"));
}

/// A session that another program has got, under both names that its token may have in a profile.
#[test]
fn static_session_keys() {
    for token in ["aws_session_token", "aws_security_token"] {
        Case::new(policies::require_mfa_null_age("docs"), BARE)
            .with(move |stage| {
                let keys = stage.session_keys();
                let text = |key: &str| keys[key].as_str().unwrap().to_owned();
                stage.configure(&format!(
                    "[default]\n[profile t]\nregion = us-east-1\naws_access_key_id = {}\n\
                     aws_secret_access_key = {}\n{token} = {}\n",
                    text("AccessKeyId"),
                    text("SecretAccessKey"),
                    text("SessionToken")
                ));
            })
            .options(&["--profile", "t"])
            .ends(Mounted("plain"));
    }
}

#[test]
fn web_identity_of_the_environment() {
    Case::new(None, BARE)
        .with(|stage| {
            crate::table::has_a_web_identity(stage);
            fs::remove_file(stage.scene.home().join(".aws/credentials")).unwrap();
        })
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", "{home}/token")
        .variable("AWS_ROLE_ARN", "{role}")
        .variable("AWS_ROLE_SESSION_NAME", "from-outside")
        .ends(Mounted("plain"));
}

/// The role of a container, whose keys come with a token that a file holds.
#[test]
fn container() {
    let stage = Stage::new();
    must_have_mfa(&stage);
    let address = metadata(vec![("/creds", document(&stage.session_keys()))]);
    fs::remove_file(stage.scene.home().join(".aws/credentials")).unwrap();
    let mount = stage.mount_with(
        &[],
        &[(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &format!("{address}/creds"),
        )],
    );
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(mount.status(&stage.scene)["credentials"], "plain");
}

/// The role of an instance, by `credential_source`, through the second version of its service.
#[test]
fn instance() {
    let stage = Stage::new();
    must_have_mfa(&stage);
    let address = metadata(vec![
        ("/latest/api/token", "token".to_owned()),
        (
            "/latest/meta-data/iam/security-credentials/",
            "reader".to_owned(),
        ),
        (
            "/latest/meta-data/iam/security-credentials/reader",
            document(&stage.session_keys()),
        ),
    ]);
    stage.configure(
        "[default]\n[profile i]\nregion = us-east-1\nrole_arn = {role}\n\
         credential_source = Ec2InstanceMetadata\n",
    );
    let environment = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", address.as_str())];
    let mount = stage.mount_with(&["--profile", "i"], &environment);
    // The session carries MFA, and a role that is assumed with it has it, too.
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(mount.status(&stage.scene)["credentials"], "role");
}

/// The session that `aws login` has left: docs.aws.amazon.com/cli/latest/userguide/cli-configure-sign-in.html.
#[test]
fn aws_login() {
    let stage = Stage::new();
    must_have_mfa(&stage);
    let keys = stage.session_keys();
    let arn = stage.scene.alice.arn();
    let name: String = Sha256::digest(arn.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let cache = stage.scene.home().join(".aws/login/cache");
    fs::create_dir_all(&cache).unwrap();
    let token = json!({
        "accessToken": {
            "accessKeyId": keys["AccessKeyId"], "secretAccessKey": keys["SecretAccessKey"],
            "sessionToken": keys["SessionToken"], "accountId": stage.scene.sandbox.account(),
            "expiresAt": keys["Expiration"],
        },
        "tokenType": "aws_sigv4", "refreshToken": "r", "idToken": "i",
        "clientId": "arn:aws:signin:::devtools/same-device", "dpopKey": "none",
    });
    fs::write(cache.join(format!("{name}.json")), token.to_string()).unwrap();
    stage.configure(&format!(
        "[default]\n[profile l]\nregion = us-east-1\nlogin_session = {arn}\n"
    ));
    let mount = stage.mount_with(&["--profile", "l"], &[]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    // Without it there is a next step to read.
    fs::remove_dir_all(&cache).unwrap();
    let refused = stage.scene.control(&[
        "docs",
        stage.scene.mountpoint("other").to_str().unwrap(),
        "--profile",
        "l",
    ]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(
        refused.err.contains("run `aws login --profile l`"),
        "{refused:?}"
    );
}

/// The keys of the profile that are about roles and codes, all of them sent.
#[test]
fn what_the_profile_says_of_the_session_is_sent() {
    let stage = Stage::new();
    stage.scene.bucket.clear_policy();
    let code = stage.scene.home().join("code");
    fs::write(&code, stage.scene.device.unspent_code()).unwrap();
    stage.configure(&format!(
        "{ROLE_WITH_DEVICE}role_session_name = audit\nduration_seconds = 1800\n\
         mfa_process = cat {{home}}/code\n"
    ));
    let options = ["--profile", "r", "--credentials", "role"];
    let mount = stage.mount_with(&options, &[]);
    assert_eq!(stage.scene.pinentry.asked(), 0);
    let (arn, lasts) = stage.last_session();
    assert_eq!(
        arn,
        format!(
            "arn:aws:sts::{}:assumed-role/reader/audit",
            stage.scene.sandbox.account()
        )
    );
    assert_eq!(lasts, 1800);
    drop(mount);
}

/// Marks of aws-vault's profiles, which the trust policy must allow, and keys of a profile that is
/// included.
#[test]
fn marks_of_a_session_and_what_is_included() {
    let stage = Stage::new();
    stage.scene.bucket.clear_policy();
    let alice = stage.scene.alice.arn();
    let trust = |actions: Value| {
        json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": alice}, "Action": actions,
        }]})
    };
    stage
        .role
        .set_trust_policy(trust(json!("sts:AssumeRole")))
        .unwrap();
    stage.configure(
        "[default]\nregion = us-east-1\n[profile team]\nregion = us-east-1\n\
         session_tags = team=storage, project = mount\ntransitive_session_tags = team\n\
         source_identity = alice\n[profile r]\ninclude_profile = team\nrole_arn = {role}\n\
         source_profile = default\n",
    );
    let options = ["--profile", "r", "--credentials", "role"];
    let refused = stage.scene.control(
        &[
            &["docs", stage.scene.mountpoint("other").to_str().unwrap()],
            &options[..],
        ]
        .concat(),
    );
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("sts:TagSession"), "{refused:?}");
    let all = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];
    stage.role.set_trust_policy(trust(json!(all))).unwrap();
    // S3 lets in who has the tags.
    let deny = |(key, value): (&str, &str)| {
        json!({
            "Effect": "Deny", "Principal": "*", "Action": "s3:*",
            "Resource": ["arn:aws:s3:::docs", "arn:aws:s3:::docs/*"],
            "Condition": {"StringNotEquals": {key: value}},
        })
    };
    let marks = [
        ("aws:PrincipalTag/team", "storage"),
        ("aws:PrincipalTag/project", "mount"),
        ("aws:SourceIdentity", "alice"),
    ];
    let tagged = json!({"Version": "2012-10-17", "Statement": marks.map(deny)});
    stage.scene.bucket.set_policy(tagged).unwrap();
    let mount = stage.mount_with(&options, &[]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
}

/// What `aws configure mfa-login` writes opens no other session; the profile that it names does.
#[test]
fn a_session_in_the_profile_gives_way_to_its_source() {
    Case::new(
        policies::require_mfa_null_age("docs"),
        "[default]\nregion = us-east-1\n[profile t]\nregion = us-east-1\n\
         aws_access_key_id = ASIAXXXXXXXXXXXXXXXX\naws_secret_access_key = gone\n\
         aws_session_token = gone\nsource_profile = default\nmfa_serial = {serial}\n",
    )
    .options(&["--profile", "t"])
    .answers(&[Code])
    .ends(Mounted("session-token"));
}

/// A token that a command prints.
#[test]
fn web_identity_of_a_command() {
    Case::new(
        None,
        "[default]\n[profile w]\nregion = us-east-1\nrole_arn = {role}\n\
         web_identity_token_process = cat {home}/token\n",
    )
    .with(crate::table::has_a_web_identity)
    .options(&["--profile", "w"])
    .ends(Mounted("plain"));
}

/// The command line goes before the profile.
#[test]
fn what_the_command_line_says_of_the_session_is_sent() {
    let stage = Stage::new();
    stage.configure(&format!("{ROLE_WITH_DEVICE}role_session_name = audit\n"));
    let process = format!("echo {}", stage.scene.device.unspent_code());
    let mount = stage.mount_with(
        &[
            "--profile",
            "r",
            "--role-session-name",
            "by-hand",
            "--duration",
            "1200",
            "--mfa-process",
            &process,
        ],
        &[],
    );
    let (arn, lasts) = stage.last_session();
    assert!(arn.ends_with("/by-hand"), "{arn}");
    assert_eq!(lasts, 1200);
    drop(mount);
}

/// AWS would refuse it after a code was typed.
#[test]
fn a_session_that_aws_would_not_grant_is_refused_before_a_code_is_typed() {
    let stage = Stage::new();
    let path = stage.scene.mountpoint("mnt");
    let mut command = stage.scene.command();
    command.args(["docs", path.to_str().unwrap(), "--duration", "60"]);
    command.env_remove("AWS_ENDPOINT_URL_STS");
    let refused = crate::scene::run(&mut command);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("900 to 129600 s"), "{refused:?}");
}
