//! The AWS CLI's token cache, `~/.aws/sso/cache`.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use super::super::AuthError;
use super::super::identity::SsoProfile;
use crate::clock::{moment, rfc3339};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// One token's file. Its name is the SHA-1 of the session's name, or of the start URL in profiles
/// of the older style (botocore, `SSOTokenLoader._generate_cache_key`).
#[derive(Debug)]
pub(super) struct Cache(PathBuf);

/// A token as the CLI writes it. Without `Debug`: it is a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token {
    pub(super) start_url: String,
    pub(super) region: String,
    pub(super) access_token: Zeroizing<String>,
    /// RFC 3339.
    pub(super) expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_secret: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registration_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<Zeroizing<String>>,
}

impl Token {
    /// Whether it can be used at a moment.
    pub(super) fn is_alive(&self, now: SystemTime) -> bool {
        moment(&self.expires_at).is_some_and(|end| end > now)
    }

    /// Whether it carries what a new one can be got with.
    pub(super) fn can_refresh(&self, now: SystemTime) -> bool {
        let is_registered = self
            .registration_expires_at
            .as_deref()
            .is_none_or(|end| moment(end).is_some_and(|end| end > now));
        let parts = self.client_id.is_some() && self.client_secret.is_some();
        parts && is_registered && self.refresh_token.is_some()
    }
}

/// When something ends that lives for so many seconds from now, as the CLI writes it.
pub(super) fn ends_in(now: SystemTime, seconds: i32) -> String {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    rfc3339(now + std::time::Duration::from_secs(seconds))
}

impl Cache {
    /// The file of a profile's token.
    pub(super) fn of(profile: &SsoProfile) -> Result<Self, AuthError> {
        let home = crate::home::directory().ok_or_else(|| {
            AuthError::Refused("SSO needs HOME, below which its tokens are kept".to_owned())
        })?;
        let key = profile.session.as_ref().unwrap_or(&profile.start_url);
        let digest = Sha1::digest(key.as_bytes());
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let directory = home.join(".aws/sso/cache");
        Ok(Self(directory.join(format!("{name}.json"))))
    }

    /// Where it is.
    pub(super) fn into_path(self) -> PathBuf {
        self.0
    }

    /// The token that is there, alive or not.
    pub(super) fn read(&self) -> Option<Token> {
        let mut text = Zeroizing::new(String::new());
        let file = std::fs::File::open(&self.0).ok()?;
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Replaces it, as a whole. Without it the next program signs in again.
    pub(super) fn write(&self, token: &Token) {
        let write = || -> std::io::Result<()> {
            let bytes = Zeroizing::new(serde_json::to_vec(token)?);
            if let Some(directory) = self.0.parent() {
                let mut builder = std::fs::DirBuilder::new();
                builder.recursive(true).mode(0o700).create(directory)?;
            }
            let draft = self
                .0
                .with_extension(format!("draft-{}", std::process::id()));
            let _ = std::fs::remove_file(&draft);
            let mut file = std::fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&bytes)?;
            std::fs::rename(&draft, &self.0)
        };
        if let Err(error) = write() {
            tracing::warn!(
                "the SSO token cannot be kept in {}: {error}",
                self.0.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(session: Option<&str>) -> SsoProfile {
        SsoProfile {
            session: session.map(str::to_owned),
            start_url: "https://x.awsapps.com/start".to_owned(),
            region: "us-east-1".to_owned(),
            account_id: String::new(),
            role_name: String::new(),
            scopes: Vec::new(),
        }
    }

    #[test]
    fn the_file_has_the_name_that_the_cli_gives_it() {
        let name = |profile: &SsoProfile| {
            let cache = Cache::of(profile).unwrap();
            cache.0.file_name().unwrap().to_str().unwrap().to_owned()
        };
        // sha1sum of "my-sso".
        assert_eq!(
            name(&profile(Some("my-sso"))),
            "0ad374308c5a4e22f723adf10145eafad7c4031c.json"
        );
        assert_ne!(name(&profile(None)), name(&profile(Some("my-sso"))));
    }

    #[test]
    fn the_clis_own_file_is_understood() {
        // As aws-cli 2 writes it.
        let text = r#"{"startUrl": "https://x.awsapps.com/start", "region": "us-east-1",
            "accessToken": "secret", "expiresAt": "2026-08-22T10:00:00Z", "clientId": "id",
            "clientSecret": "more", "registrationExpiresAt": "2026-10-01T10:00:00Z",
            "refreshToken": "again"}"#;
        let token: Token = serde_json::from_str(text).unwrap();
        let at = |text| moment(text).unwrap();
        assert!(token.is_alive(at("2026-08-22T09:59:59Z")));
        assert!(!token.is_alive(at("2026-08-22T10:00:00Z")));
        assert!(token.can_refresh(at("2026-09-30T10:00:00Z")));
        assert!(!token.can_refresh(at("2026-10-02T10:00:00Z")));
        // The older style has no more than this, and Python's idea of UTC.
        let old = r#"{"startUrl": "u", "region": "r", "accessToken": "s",
            "expiresAt": "2020-06-17T10:02:08UTC"}"#;
        let old: Token = serde_json::from_str(old).unwrap();
        assert!(old.is_alive(at("2020-06-17T10:02:07Z")));
        assert!(!old.can_refresh(at("2020-06-17T10:02:07Z")));
    }
}
