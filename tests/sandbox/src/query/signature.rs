//! Signatures of forms, version 4. Those of S3 are verified by `s3s`, which knows no IAM.
//!
//! IAM guide, "Create a signed AWS API request". The canonical form is made here; the keys and the MAC
//! are those of `aws-sigv4`.

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use bytes::Bytes;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::attributes::text;
use crate::caller::{BadCredentials, Caller, token_of};
use crate::clock;
use crate::cloud::Cloud;
use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::service::QueryService;

/// What a canonical query leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

/// Tells who signed a form. What is not signed at all is from nobody.
///
/// The order is that of STS: who they are, their token, its end, and only then the signature.
pub(super) fn verify(
    cloud: &Cloud,
    service: QueryService,
    parts: &Parts,
    body: &Bytes,
    exchange: &Exchange,
) -> Result<Caller, Refusal> {
    let Some(authorization) = parts.headers.get("authorization") else {
        return Ok(Caller::Anonymous);
    };
    let authorization = String::from_utf8_lossy(authorization.as_bytes());
    let date = text(&parts.headers, "x-amz-date");
    let signed = Authorization::parse(&authorization, date.is_some())?;
    let (secret, caller) = secret_of(cloud, signed.access_key_id, parts, exchange)?;
    let date = date.unwrap_or_default();
    let Some(time) = clock::parse_amz_date(&date).filter(|_| date.starts_with(signed.date)) else {
        let day = date.split('T').next().unwrap_or_default();
        return Err(Refusal::client_signature(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != \
             '{day}', from '{date}'.",
            signed.date
        )));
    };
    if !signed.signed_headers.contains(&"host") {
        return Err(Refusal::client_signature(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        ));
    }
    let request = canonical_request(parts, &signed.signed_headers, body);
    let name = service.signing_name();
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}/{}/{name}/aws4_request\n{}",
        signed.date,
        signed.region,
        sha256_hex(request.as_bytes())
    );
    let key = generate_signing_key(&secret, time, signed.region, name);
    if calculate_signature(key, to_sign.as_bytes()) != signed.signature {
        return Err(Refusal::wrong_client_signature());
    }
    // A token beside long-term keys is looked at only now.
    caller
}

/// The secret that a signature is verified with, and who it belongs to, if it is anybody.
fn secret_of(
    cloud: &Cloud,
    access_key_id: &str,
    parts: &Parts,
    exchange: &Exchange,
) -> Result<(String, Result<Caller, Refusal>), Refusal> {
    let token = token_of(&parts.headers, &parts.uri);
    match Caller::identify(cloud, Some(access_key_id), token) {
        Ok(Caller::User(user)) => {
            let secret = user.secret_access_key().to_owned();
            Ok((secret, Ok(Caller::User(user))))
        }
        Ok(Caller::Session(session)) => {
            exchange.set_session(session.number);
            let secret = session.secret_access_key.clone();
            Ok((secret, Ok(Caller::Session(session))))
        }
        Err(BadCredentials::Expired(session)) => {
            exchange.set_session(session.number);
            Err(Refusal::expired_client_token())
        }
        Err(BadCredentials::WrongToken(_)) => {
            let refusal = Refusal::invalid_client_token();
            match cloud.users.by_access_key(access_key_id) {
                Some(user) => Ok((user.secret_access_key().to_owned(), Err(refusal))),
                None => Err(refusal),
            }
        }
        Ok(Caller::Anonymous) | Err(BadCredentials::Unknown(_)) => {
            Err(Refusal::invalid_client_token())
        }
    }
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str, has_date: bool) -> Result<Self, Refusal> {
        let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
        let part = |name: &str| {
            let mut parts = rest.split(',').map(str::trim);
            parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let (credential, signed_headers, signature) =
            (part("Credential"), part("SignedHeaders"), part("Signature"));
        let mut missing = String::new();
        for (name, value) in [
            ("Credential", credential),
            ("Signature", signature),
            ("SignedHeaders", signed_headers),
        ] {
            if value.is_none() {
                missing += &format!("Authorization header requires '{name}' parameter. ");
            }
        }
        if !has_date {
            missing += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
        }
        let incomplete = |what: String| {
            Refusal::new(
                400,
                "IncompleteSignature",
                what + "Authorization=" + algorithm,
            )
        };
        let (Some(credential), Some(signed_headers), Some(signature)) =
            (credential, signed_headers, signature)
        else {
            return Err(incomplete(missing));
        };
        if !missing.is_empty() || algorithm != "AWS4-HMAC-SHA256" {
            return Err(incomplete(missing));
        }
        let scope: Vec<&str> = credential.split('/').collect();
        let [access_key_id, date, region, _service, "aws4_request"] = scope[..] else {
            return Err(Refusal::client_signature(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
            )));
        };
        Ok(Self {
            access_key_id,
            date,
            region,
            signed_headers: signed_headers.split(';').collect(),
            signature,
        })
    }
}

fn canonical_request(parts: &Parts, signed_headers: &[&str], body: &Bytes) -> String {
    let query = parts.uri.query().unwrap_or_default();
    let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let mut pairs: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| format!("{}={}", encode(&name), encode(&value)))
        .collect();
    pairs.sort();
    let mut request = format!("{}\n/\n{}\n", parts.method, pairs.join("&"));
    for name in signed_headers {
        let values = parts.headers.get_all(*name).iter();
        let values: Vec<_> = values
            .map(|value| {
                let value = String::from_utf8_lossy(value.as_bytes());
                value
                    .split(' ')
                    .filter(|word| !word.is_empty())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        request += &format!("{name}:{}\n", values.join(","));
    }
    request + &format!("\n{}\n{}", signed_headers.join(";"), sha256_hex(body))
}

fn sha256_hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
