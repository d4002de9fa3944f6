//! The table: one row for each scenario, and what becomes of it.
//!
//! Policies are those that AWS's guides print ([`s3mfa_sandbox::policies`] names the pages); profiles
//! are those of the AWS CLI, Cyberduck and aws-vault.

use s3mfa_sandbox::policies::{self, merge};
use serde_json::{Value, json};

use crate::case::Answer::{Code, HardwareCode, Words};
use crate::case::End::{Denied, Mounted, Refused};
use crate::case::{BARE, Case, ROLE, ROLE_WITH_DEVICE, WITH_DEVICE};

/// A user may list their own devices, as AWS's self-service policy has it.
fn may_list_devices(stage: &crate::case::Stage) {
    let scene = &stage.scene;
    let policy = policies::list_own_devices(scene.sandbox.account(), "alice");
    scene.sandbox.put_user_policy(&scene.alice, policy).unwrap();
}

/// A user may do anything in S3 with MFA, and nothing without.
fn may_with_mfa_only(stage: &crate::case::Stage) {
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "s3:*", "Resource": "*",
        "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
    }]});
    let scene = &stage.scene;
    scene
        .sandbox
        .set_user_policies(&scene.alice, vec![policy])
        .unwrap();
}

/// Nobody but the user is denied in the user's own policy, without MFA.
fn is_denied_without_mfa(stage: &crate::case::Stage) {
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Action": "s3:*", "Resource": "*",
        "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
    }]});
    let scene = &stage.scene;
    scene.sandbox.put_user_policy(&scene.alice, policy).unwrap();
}

/// Another account's bucket lets this one's users in, with MFA.
fn theirs() -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "s3:*",
         "Resource": ["arn:aws:s3:::theirs", "arn:aws:s3:::theirs/*"]},
        {"Effect": "Deny", "Principal": "*", "Action": "s3:*",
         "Resource": ["arn:aws:s3:::theirs", "arn:aws:s3:::theirs/*"],
         "Condition": {"Null": {"aws:MultiFactorAuthAge": true}}},
    ]})
}

/// A profile of IAM Identity Center.
const SSO: &str = "[default]\n[sso-session corp]\nsso_start_url = {start}\nsso_region = us-east-1\n\
                   [profile s]\nregion = us-east-1\nsso_session = corp\n\
                   sso_account_id = {account}\nsso_role_name = reader\n";

/// The mistake that AWS's guide warns of: SSO carries the key, and it is false.
fn null_present(bucket: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
        "Condition": {"Null": {"aws:MultiFactorAuthPresent": true}},
    }]})
}

const WEB_IDENTITY: &str = "[default]\n[profile w]\nregion = us-east-1\nrole_arn = {role}\n\
                            web_identity_token_file = {home}/token\n";

/// The person has signed in with the AWS CLI.
fn is_signed_in(stage: &crate::case::Stage) {
    crate::sso::may_use_the_role(stage);
    crate::sso::cli_signs_in(stage, "corp");
}

/// An identity provider has written a token, which the role trusts.
pub fn has_a_web_identity(stage: &crate::case::Stage) {
    let sandbox = &stage.scene.sandbox;
    let token = sandbox.web_identity_token("alice");
    std::fs::write(stage.scene.home().join("token"), token).unwrap();
    let trust = policies::trust_web_identity(sandbox.oidc_provider(), "alice");
    stage.role.set_trust_policy(trust).unwrap();
}

macro_rules! rows {
    ($($name:ident: $case:expr => $end:expr;)+) => {
        $(#[test]
        fn $name() {
            $case.ends($end);
        })+
    };
}

rows! {
    // Long-term keys and a device: GetSessionToken.
    null_age: Case::new(policies::require_mfa_null_age("docs"), WITH_DEVICE).answers(&[Code])
        => Mounted("session-token");
    bool_if_exists_present: Case::new(policies::require_mfa_bool_if_exists("docs"), WITH_DEVICE)
        .answers(&[Code]) => Mounted("session-token");
    bool_present: Case::new(policies::require_mfa_bool("docs"), WITH_DEVICE).answers(&[Code])
        => Mounted("session-token");
    age_in_time: Case::new(policies::require_fresh_mfa("docs", 3600), WITH_DEVICE)
        .answers(&[Code]) => Mounted("session-token");
    deny_in_the_users_own_policy: Case::new(None, WITH_DEVICE).with(is_denied_without_mfa)
        .answers(&[Code]) => Mounted("session-token");
    allow_only_with_mfa: Case::new(None, WITH_DEVICE).with(may_with_mfa_only).answers(&[Code])
        => Mounted("session-token");
    no_list_bucket: Case::new(
        merge(&[policies::require_mfa_null_age("docs"), policies::deny_list("docs")]), WITH_DEVICE)
        .answers(&[Code]) => Mounted("session-token");
    of_another_account: Case::new(theirs(), WITH_DEVICE).bucket("theirs").answers(&[Code])
        => Mounted("session-token");
    wrong_code_then_right: Case::new(policies::require_mfa_null_age("docs"), WITH_DEVICE)
        .answers(&[Words("000000"), Code]) => Mounted("session-token");

    // Long-term keys and no word of a device: as they are, and up the ladder when S3 says so.
    open_to_all: Case::new(None, BARE) => Mounted("plain");
    bool_lets_long_term_keys_pass: Case::new(policies::require_mfa_bool("docs"), BARE)
        => Mounted("plain");
    device_found_by_iam: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .with(may_list_devices).answers(&[Code]) => Mounted("session-token");
    device_guessed: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .answers(&[Words(""), Code]) => Mounted("session-token");
    device_typed: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .answers(&[Words("arn:aws:iam::123456789012:mfa/alice"), Code]) => Mounted("session-token");
    devices_chosen: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .with(|stage| {
            may_list_devices(stage);
            stage.scene.sandbox.create_passkey(&stage.scene.alice, "key");
            stage.scene.sandbox.create_hardware_device(&stage.scene.alice);
        })
        .answers(&[Words("1"), Code]) => Mounted("session-token");
    no_device: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .with(|stage| {
            may_list_devices(stage);
            stage.scene.sandbox.delete_device(&stage.scene.device);
        })
        => Refused(3, "this user has no MFA device, so there is no code to ask for. Add an \
                       authenticator app (IAM console, Security credentials, Assign MFA device)");
    only_a_passkey: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .with(|stage| {
            may_list_devices(stage);
            stage.scene.sandbox.delete_device(&stage.scene.device);
            stage.scene.sandbox.create_passkey(&stage.scene.alice, "key");
        })
        => Refused(3, "gives no code for AWS's API. Add an authenticator app");
    prefix_only: Case::new(policies::require_mfa_on_prefix("docs", "secret/"), BARE)
        .with(may_list_devices).reads("secret/f").answers(&[Code]) => Mounted("session-token");
    beside_the_prefix: Case::new(policies::require_mfa_on_prefix("docs", "secret/"), BARE)
        .with(may_list_devices).reads("open/f") => Mounted("plain");
    plain_on_purpose: Case::new(policies::require_mfa_null_age("docs"), WITH_DEVICE)
        .options(&["--credentials", "plain"])
        => Refused(4, "denies everything to this session");

    // Devices.
    user_for_device: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .options(&["--mfa-serial", "arn:aws:iam::{account}:user/alice"]).answers(&[Code])
        => Mounted("session-token");
    unknown_device: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .options(&["--mfa-serial", "arn:aws:iam::{account}:mfa/bob"]).answers(&[Code])
        => Refused(3, "AWS does not know the MFA device arn:aws:iam::{account}:mfa/bob as one of \
                       this user's");
    hardware_device: Case::new(policies::require_mfa_null_age("docs"),
        "[default]\nregion = us-east-1\nmfa_serial = {hardware}\n")
        .answers(&[HardwareCode]) => Mounted("session-token");
    passkey_named: Case::new(policies::require_mfa_null_age("docs"), BARE)
        .options(&["--mfa-serial", "arn:aws:iam::{account}:u2f/user/alice/key-ABC"])
        => Refused(2, "is a passkey or security key, which gives no code");

    // Roles.
    trust_with_mfa_through_a_session: Case::new(None, ROLE_WITH_DEVICE)
        .options(&["--profile", "r"]).answers(&[Code]) => Mounted("session-token-then-role");
    bucket_with_mfa_through_a_role: Case::new(
        policies::require_mfa_null_age("docs"), ROLE_WITH_DEVICE)
        .options(&["--profile", "r"]).answers(&[Code]) => Mounted("session-token-then-role");
    trust_with_mfa_directly: Case::new(None, ROLE_WITH_DEVICE)
        .options(&["--profile", "r", "--credentials", "role"]).answers(&[Code])
        => Mounted("role");
    role_directly_into_a_bucket_with_mfa: Case::new(
        policies::require_mfa_null_age("docs"), ROLE_WITH_DEVICE)
        .options(&["--profile", "r", "--credentials", "role"]).answers(&[Code])
        => Refused(4, "denies everything to this session");
    role_without_a_word_of_mfa: Case::new(None, ROLE)
        .with(may_list_devices).options(&["--profile", "r"]).answers(&[Code])
        => Mounted("session-token-then-role");
    role_without_mfa: Case::new(None, ROLE)
        .with(|stage| {
            let trust = policies::trust(stage.scene.alice.arn());
            stage.role.set_trust_policy(trust).unwrap();
        })
        .options(&["--profile", "r"]) => Mounted("role");
    role_of_a_role: Case::new(None,
        "[default]\nmfa_serial = {serial}\n[profile r]\nrole_arn = {role}\n\
         source_profile = default\n[profile far]\nrole_arn = {far}\nsource_profile = r\n")
        .options(&["--profile", "far"]).answers(&[Code]) => Mounted("session-token-then-role");
    role_on_the_command_line: Case::new(None, WITH_DEVICE)
        .options(&["--role-arn", "{role}"]).answers(&[Code])
        => Mounted("session-token-then-role");
    role_with_an_external_id: Case::new(None, ROLE_WITH_DEVICE)
        .with(|stage| {
            let trust = policies::trust_with_external_id(stage.scene.alice.arn(), "x-1");
            stage.role.set_trust_policy(trust).unwrap();
        })
        .options(&["--profile", "r", "--external-id", "x-1"]).answers(&[Code])
        => Mounted("session-token-then-role");
    role_for_longer_than_a_chain_may_last: Case::new(None, ROLE_WITH_DEVICE)
        .options(&["--profile", "r", "--duration", "43200"]).answers(&[Code])
        => Mounted("session-token-then-role");
    role_that_trusts_somebody_else: Case::new(None, ROLE_WITH_DEVICE)
        .with(|stage| {
            let bob = stage.scene.sandbox.create_user("bob");
            stage.role.set_trust_policy(policies::trust(bob.arn())).unwrap();
        })
        .options(&["--profile", "r"]).answers(&[Code, Code])
        => Refused(3, "is not authorized to perform: sts:AssumeRole on resource: {role}");

    // Keys from elsewhere.
    process: Case::new(None,
        "[default]\n[profile p]\ncredential_process = echo '{\"Version\": 1, \"AccessKeyId\": \
         \"{key}\", \"SecretAccessKey\": \"{secret}\"}'\n")
        .options(&["--profile", "p"]) => Mounted("plain");
    process_with_a_device: Case::new(policies::require_mfa_null_age("docs"),
        "[default]\n[profile p]\nmfa_serial = {serial}\ncredential_process = echo '{\"Version\": 1, \
         \"AccessKeyId\": \"{key}\", \"SecretAccessKey\": \"{secret}\"}'\n")
        .options(&["--profile", "p"]).answers(&[Code]) => Mounted("session-token");
    process_that_fails: Case::new(None, "[default]\n[profile p]\ncredential_process = false\n")
        .options(&["--profile", "p"])
        => Refused(3, "the profile's credential_process gave no keys");
    web_identity: Case::new(None, WEB_IDENTITY).with(has_a_web_identity)
        .options(&["--profile", "w"]) => Mounted("plain");
    web_identity_that_has_expired: Case::new(None, WEB_IDENTITY)
        .with(|stage| {
            has_a_web_identity(stage);
            stage.scene.sandbox.expire_web_identity_tokens();
        })
        .options(&["--profile", "w"])
        => Refused(3, "the web identity token in {home}/token has expired: have the identity \
                       provider write a new one");
    web_identity_that_is_not_there: Case::new(None, WEB_IDENTITY).options(&["--profile", "w"])
        => Refused(3, "the web identity token in {home}/token cannot be read");
    keys_that_do_not_belong_together: Case::new(None, "[default]\n[profile x]\n\
         aws_access_key_id = {key}\naws_secret_access_key = wrong\nmfa_serial = {serial}\n")
        .options(&["--profile", "x"]).answers(&[Code])
        => Refused(3, "the profile's aws_secret_access_key does not belong to its aws_access_key_id");
    plain_keys_that_do_not_belong_together: Case::new(None, "[default]\n[profile x]\n\
         region = us-east-1\naws_access_key_id = {key}\naws_secret_access_key = wrong\n")
        .options(&["--profile", "x"])
        => Refused(3, "the aws_secret_access_key does not belong to the aws_access_key_id");
    role_in_the_place_of_the_profiles: Case::new(None,
        "[default]\n[profile r]\nregion = us-east-1\nsource_profile = default\n\
         role_arn = arn:aws:iam::{account}:role/nobody\nmfa_serial = {serial}\n")
        .options(&["--profile", "r", "--role-arn", "{role}"]).answers(&[Code])
        => Mounted("session-token-then-role");
    temporary_keys_that_have_ended: Case::new(None, "[default]\n[profile x]\n\
         region = us-east-1\naws_access_key_id = ASIAXXXXXXXXXXXXXXXX\n\
         aws_secret_access_key = gone\naws_session_token = gone\n")
        .options(&["--profile", "x"])
        => Refused(3, "the keys of \"x\" are temporary and have ended: get new ones");
    keys_that_were_deleted: Case::new(policies::require_mfa_null_age("docs"), WITH_DEVICE)
        .with(|stage| stage.scene.sandbox.delete_access_key(&stage.scene.alice))
        .answers(&[Code])
        => Refused(3, "AWS does not know the access key: it may be deleted or disabled");

    // IAM Identity Center: MFA was used to sign in, and S3 does not hear of it.
    sso: Case::new(None, SSO).with(is_signed_in).options(&["--profile", "s"]) => Mounted("sso");
    sso_and_null_present: Case::new(null_present("docs"), SSO).with(is_signed_in)
        .options(&["--profile", "s"]) => Mounted("sso");
    sso_and_bool_if_exists: Case::new(policies::require_mfa_bool_if_exists("docs"), SSO)
        .with(is_signed_in).options(&["--profile", "s"])
        => Refused(4, "denies everything to this session (sso)");
    sso_without_that_role: Case::new(None, &SSO.replace("= reader", "= admin"))
        .with(is_signed_in).options(&["--profile", "s"])
        => Refused(3, "IAM Identity Center gives you no role \"admin\" in the account {account}: \
                       check sso_role_name and sso_account_id");
    sso_then_a_role: Case::new(None,
        &format!("{SSO}[profile far]\nregion = us-east-1\nrole_arn = {{far}}\nsource_profile = s\n"))
        .with(is_signed_in).options(&["--profile", "far"]) => Mounted("sso");
    sso_asked_for_a_code: Case::new(None, SSO)
        .options(&["--profile", "s", "--credentials", "session-token"])
        => Refused(2, "AWS grants no session with a code to those");

    // A real no.
    no_prefix_for_anybody: Case::new(
        merge(&[policies::require_mfa_null_age("docs"), policies::deny_get_on_prefix("docs", "secret/")]),
        WITH_DEVICE)
        .reads("secret/f").answers(&[Code]) => Denied("denied, while the session works elsewhere");
}
