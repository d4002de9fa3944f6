//! Ready-made policies, as AWS's guides print them.

use serde_json::{Value, json};

/// The identity policy that every new user has: all of S3.
pub const ALLOW_ALL_S3: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;

/// Returns [`ALLOW_ALL_S3`] as a value.
pub fn allow_all_s3() -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
}

/// Denies everything on the bucket to callers without MFA, long-term keys and sessions alike.
///
/// Amazon S3 user guide, "Requiring MFA": `"Null": {"aws:MultiFactorAuthAge": true}`.
pub fn require_mfa_null_age(bucket: &str) -> Value {
    deny(bucket, json!({"Null": {"aws:MultiFactorAuthAge": true}}))
}

/// Denies everything on the bucket once the MFA is more than `seconds` old.
///
/// The same page: `"NumericGreaterThan": {"aws:MultiFactorAuthAge": 3600}`. Callers without MFA are
/// *not* denied by it, because the key is absent; [`require_fresh_mfa`] is both together.
pub fn require_mfa_age(bucket: &str, seconds: u64) -> Value {
    deny(
        bucket,
        json!({"NumericGreaterThan": {"aws:MultiFactorAuthAge": seconds}}),
    )
}

/// Denies everything on the bucket without MFA and with an MFA more than `seconds` old.
pub fn require_fresh_mfa(bucket: &str, seconds: u64) -> Value {
    let mut policy = require_mfa_null_age(bucket);
    if let (Some(both), Some(age)) = (
        policy["Statement"].as_array_mut(),
        require_mfa_age(bucket, seconds)["Statement"].as_array(),
    ) {
        both.extend(age.iter().cloned());
    }
    policy
}

/// Denies everything on the bucket unless MFA was used; an absent key counts as not used.
///
/// IAM user guide: `"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}`.
pub fn require_mfa_bool_if_exists(bucket: &str) -> Value {
    deny(
        bucket,
        json!({"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}),
    )
}

/// Denies everything on the bucket to sessions without MFA.
///
/// `"Bool": {"aws:MultiFactorAuthPresent": "false"}` is the mistake the IAM guide warns of: long-term
/// keys pass, because they carry no such key.
pub fn require_mfa_bool(bucket: &str) -> Value {
    deny(
        bucket,
        json!({"Bool": {"aws:MultiFactorAuthPresent": "false"}}),
    )
}

/// Denies everything on the objects under `prefix` to callers without MFA; the rest of the bucket is open.
///
/// Amazon S3 user guide, "Requiring MFA", the example of `/taxdocuments/*`.
pub fn require_mfa_on_prefix(bucket: &str, prefix: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
        "Condition": {"Null": {"aws:MultiFactorAuthAge": true}},
    }]})
}

/// Denies to read the objects under `prefix` to everybody.
pub fn deny_get_on_prefix(bucket: &str, prefix: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject",
        "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
    }]})
}

/// Denies to write and to delete the objects under `prefix` to everybody. Multipart uploads cannot
/// begin there either.
pub fn deny_writes_on_prefix(bucket: &str, prefix: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": ["s3:PutObject", "s3:DeleteObject"],
        "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
    }]})
}

/// Denies to delete the objects under `prefix` to everybody. They can still be written over.
pub fn deny_delete_on_prefix(bucket: &str, prefix: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject",
        "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
    }]})
}

/// Denies to list the bucket to everybody, so that absent keys answer 403 instead of 404.
pub fn deny_list(bucket: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:ListBucket",
        "Resource": format!("arn:aws:s3:::{bucket}"),
    }]})
}

/// The trust policy of a role that a principal may assume: the ARN of a user, a role or a session, an
/// account, or `*`.
pub fn trust(principal: &str) -> Value {
    trust_if(principal, json!({}))
}

/// The trust policy of a role that a principal may assume with MFA only: a code in the request, or a
/// session that has MFA.
///
/// IAM user guide, "Configuring MFA-protected API access":
/// `"Bool": {"aws:MultiFactorAuthPresent": "true"}`.
pub fn trust_with_mfa(principal: &str) -> Value {
    trust_if(
        principal,
        json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}}),
    )
}

/// The trust policy of a role that a principal may assume who knows the external id.
///
/// IAM user guide, "Access to AWS accounts owned by third parties".
pub fn trust_with_external_id(principal: &str, external_id: &str) -> Value {
    trust_if(
        principal,
        json!({"StringEquals": {"sts:ExternalId": external_id}}),
    )
}

fn trust_if(principal: &str, condition: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole",
        "Condition": condition,
    }]})
}

/// The trust policy of a role that the bearer of a token may assume: the ARN of the provider that
/// signed it ([`Sandbox::oidc_provider`](crate::Sandbox::oidc_provider)), and the subject it is about.
///
/// IAM user guide, "Create a role for OpenID Connect federation".
pub fn trust_web_identity(provider: &str, subject: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {
            "oidc.example.com:aud": "sts.amazonaws.com", "oidc.example.com:sub": subject,
        }},
    }]})
}

/// The identity policy of somebody who may assume a role. They need it where the role's trust policy
/// names their account and not themselves.
pub fn allow_assume_role(role: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role,
    }]})
}

/// The identity policy of a user who may list the own MFA devices.
///
/// IAM user guide, "Allows IAM users to self-manage an MFA device", the statement
/// `AllowUserToManageTheirOwnMFA`. It does not suffice for a request that names no user: see the
/// [map of differences](crate).
pub fn list_own_devices(account: &str, user: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "AllowUserToManageTheirOwnMFA", "Effect": "Allow",
        "Action": ["iam:EnableMFADevice", "iam:ListMFADevices", "iam:ResyncMFADevice"],
        "Resource": format!("arn:aws:iam::{account}:user/{user}"),
    }]})
}

/// The statements of several policies in one.
pub fn merge(policies: &[Value]) -> Value {
    let statements = policies
        .iter()
        .flat_map(|policy| match &policy["Statement"] {
            Value::Array(list) => list.clone(),
            single => vec![single.clone()],
        });
    json!({"Version": "2012-10-17", "Statement": statements.collect::<Vec<_>>()})
}

fn deny(bucket: &str, condition: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
        "Condition": condition,
    }]})
}
