//! An OpenID Connect provider that the account trusts, and the tokens it signs.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clock::{Clock, unix_seconds};
use crate::random::Random;
use crate::refusal::Refusal;

/// Where the provider would be.
const HOST: &str = "oidc.example.com";

/// Whom the tokens are meant for.
const AUDIENCE: &str = "sts.amazonaws.com";

/// How long a token is good for.
const LIFE: Duration = Duration::from_secs(3600);

/// Bytes of a signature, as of RSA with 2048 bits.
const SIGNATURE_BYTES: usize = 256;

/// What a token says.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    expiration: SystemTime,
}

impl Claims {
    pub(crate) fn audience(&self) -> &'static str {
        AUDIENCE
    }

    /// The condition keys of trust policies.
    pub(crate) fn keys(&self) -> [(String, &str); 2] {
        [
            (format!("{HOST}:aud"), AUDIENCE),
            (format!("{HOST}:sub"), &self.subject),
        ]
    }
}

/// The provider. It knows its tokens by heart, so their signatures are random.
#[derive(Debug)]
pub(crate) struct Provider {
    arn: String,
    clock: Clock,
    issued: Mutex<HashMap<String, Claims>>,
}

impl Provider {
    pub(crate) fn new(account: &str, clock: Clock) -> Self {
        Self {
            arn: format!("arn:aws:iam::{account}:oidc-provider/{HOST}"),
            clock,
            issued: Mutex::default(),
        }
    }

    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    pub(crate) fn issue(&self, subject: &str, random: &Random) -> String {
        let now = self.clock.now();
        let expiration = now + LIFE;
        let head = json!({"alg": "RS256", "kid": "sandbox", "typ": "JWT"});
        let body = json!({
            "iss": format!("https://{HOST}"), "aud": AUDIENCE, "sub": subject,
            "iat": unix_seconds(now), "exp": unix_seconds(expiration),
        });
        let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        let token = format!(
            "{}.{}.{}",
            encode(head.to_string().as_bytes()),
            encode(body.to_string().as_bytes()),
            encode(&random.bytes(SIGNATURE_BYTES))
        );
        let subject = subject.to_owned();
        let claims = Claims {
            subject,
            expiration,
        };
        self.issued.lock().insert(token.clone(), claims);
        token
    }

    pub(crate) fn expire_all(&self) {
        let now = self.clock.now();
        for claims in self.issued.lock().values_mut() {
            claims.expiration = claims.expiration.min(now);
        }
    }

    /// What a token says, if it is one of ours and alive.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let invalid = |message: String| Err(Refusal::new(400, "InvalidIdentityToken", message));
        let Some(issuer) = issuer_of(token) else {
            return invalid(
                "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
                    .to_owned(),
            );
        };
        if issuer != format!("https://{HOST}") {
            return invalid(format!(
                "No OpenIDConnect provider found in your account for {issuer}"
            ));
        }
        let Some(claims) = self.issued.lock().get(token).cloned() else {
            // Both spaces are AWS's.
            return invalid(
                "Couldn't retrieve verification key from your identity provider,  please reference \
                 AssumeRoleWithWebIdentity documentation for requirements"
                    .to_owned(),
            );
        };
        let now = self.clock.now();
        if now >= claims.expiration {
            return Err(Refusal::new(
                400,
                "ExpiredTokenException",
                format!(
                    "Token expired: current date/time {} must be before the expiration date/time {}",
                    unix_seconds(now),
                    unix_seconds(claims.expiration)
                ),
            ));
        }
        Ok(claims)
    }
}

/// Who signed a token, if it has the form of one.
fn issuer_of(token: &str) -> Option<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [head, body, signature] = parts[..] else {
        return None;
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let read = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).ok();
    decode(signature)?;
    read(head)?;
    Some(read(body)?.get("iss")?.as_str()?.to_owned())
}
