//! The AWS CLI's own cache of assumed roles, `~/.aws/cli/cache`: a role that it has assumed with a
//! code needs no second code here.
//!
//! The names of its files are botocore's (`AssumeRoleCredentialFetcher._create_cache_key`): the SHA-1
//! of the request's arguments as Python writes them in JSON. Two users that assume one role without a
//! code share a file, so what it holds is compared with what was asked for.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use serde::Deserialize;
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use super::identity::Role;
use super::identity::serial::Serial;
use super::session::Demand;
use super::shared::Kept;
use crate::clock;

/// What must be left of a session's life for it to be of use.
const LEAST: Duration = Duration::from_secs(60);

/// The longest file that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// What the CLI writes: the answer of AssumeRole.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Cached {
    credentials: CachedKeys,
    assumed_role_user: Option<CachedUser>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CachedKeys {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CachedUser {
    arn: String,
}

/// A session of this role that the CLI got, if there is one that will do.
pub(crate) fn find(
    role: &Role,
    serial: Option<&Serial>,
    demand: &Demand,
    now: SystemTime,
) -> Option<Kept> {
    let name = format!("{}.json", name(role, serial));
    let path = crate::home::directory()?.join(".aws/cli/cache").join(name);
    let file = std::fs::File::open(path).ok()?;
    // The code was typed some time before; this is the latest that it can have been.
    let written = file.metadata().ok()?.modified().ok()?;
    let mut text = Zeroizing::new(String::new());
    std::io::Read::read_to_string(&mut std::io::Read::take(file, LONGEST), &mut text).ok()?;
    // The CLI writes in place, so a file may be half of one.
    let cached: Cached = serde_json::from_str(&text).ok()?;
    let is_this_role = cached
        .assumed_role_user
        .is_none_or(|user| is_session_of(&user.arn, &role.arn));
    let expires = clock::moment(&cached.credentials.expiration)?;
    let is_refused = demand.rejected.as_deref() == Some(&cached.credentials.access_key_id);
    let is_fresh = demand.after.is_none_or(|after| written > after);
    if !is_this_role || is_refused || !is_fresh || expires < now + LEAST {
        return None;
    }
    let keys = cached.credentials;
    let credentials = Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.session_token),
        Some(expires),
        "AWS CLI",
    );
    Some(Kept::new(&credentials, Some(expires), written))
}

/// Whether `arn:aws:sts::A:assumed-role/NAME/SESSION` is a session of `arn:aws:iam::A:role/PATH/NAME`.
fn is_session_of(session: &str, role: &str) -> bool {
    let parts = |arn: &str, kind: &str| {
        let (head, rest) = arn.split_once(kind)?;
        Some((head.rsplit(':').nth(1)?.to_owned(), rest.to_owned()))
    };
    match (parts(session, "assumed-role/"), parts(role, "role/")) {
        (Some((a, session)), Some((b, role))) => {
            a == b && session.split('/').next() == role.rsplit('/').next()
        }
        _ => false,
    }
}

/// The name of the file, without its extension.
fn name(role: &Role, serial: Option<&Serial>) -> String {
    let mut arguments = Vec::new();
    // Sorted by key, as Python's `sort_keys`.
    if let Some(seconds) = role.duration {
        arguments.push(format!("\"DurationSeconds\": {seconds}"));
    }
    let texts = [
        ("ExternalId", role.external_id.as_deref()),
        ("RoleArn", Some(role.arn.as_str())),
        ("RoleSessionName", role.session_name.as_deref()),
        ("SerialNumber", serial.map(Serial::as_str)),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            arguments.push(format!("\"{key}\": {}", python_string(value)));
        }
    }
    let json = format!("{{{}}}", arguments.join(", "));
    let digest = Sha1::digest(json.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A string as Python's `json.dumps` writes it: ASCII, the rest as `\uXXXX`.
fn python_string(text: &str) -> String {
    let mut json = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit).map(char::from) {
            Ok('"') => json.push_str("\\\""),
            Ok('\\') => json.push_str("\\\\"),
            Ok('\n') => json.push_str("\\n"),
            Ok('\r') => json.push_str("\\r"),
            Ok('\t') => json.push_str("\\t"),
            Ok(c @ ' '..='~') => json.push(c),
            _ => json.push_str(&format!("\\u{unit:04x}")),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(arn: &str) -> Role {
        Role {
            arn: arn.to_owned(),
            ..Role::default()
        }
    }

    #[test]
    fn files_have_the_names_that_botocore_gives_them() {
        // The first is botocore's own test; the others were made with its function.
        assert_eq!(
            name(&role("myrole"), None),
            "793d6e2f27667ab2da104824407e486bfec24a47"
        );
        let mut test = role("arn:aws:iam::123456789012:role/testrole");
        assert_eq!(
            name(&test, None),
            "93280308bae25c77fca6e33631a26d67f56ced45"
        );
        let serial = Serial::parse("arn:aws:iam::123456789012:mfa/testuser").unwrap();
        assert_eq!(
            name(&test, Some(&serial)),
            "f5a838690da430bb60a6bbcb52c0094318253670"
        );
        test.duration = Some(43_200);
        test.external_id = Some("x\"é".to_owned());
        test.session_name = Some("alice".to_owned());
        assert_eq!(
            name(&test, Some(&serial)),
            "c161e189e08e3a4a4a32723e9f7fbba48bd247fe"
        );
    }

    #[test]
    fn a_session_of_another_role_is_not_taken() {
        let session = "arn:aws:sts::123456789012:assumed-role/reader/alice";
        assert!(is_session_of(
            session,
            "arn:aws:iam::123456789012:role/reader"
        ));
        assert!(is_session_of(
            session,
            "arn:aws:iam::123456789012:role/team/reader"
        ));
        assert!(!is_session_of(
            session,
            "arn:aws:iam::123456789012:role/admin"
        ));
        assert!(!is_session_of(
            session,
            "arn:aws:iam::999988887777:role/reader"
        ));
    }
}
