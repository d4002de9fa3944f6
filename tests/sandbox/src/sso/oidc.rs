//! Where clients get tokens: RegisterClient, StartDeviceAuthorization and CreateToken.
//!
//! IAM Identity Center OIDC API reference. The texts of errors are AWS's where people have printed
//! them: those of a pending authorization, a wrong client and a wrong refresh token.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::directory::{CODE, Client, INTERVAL, Polled, Tokens};
use crate::clock::unix_seconds;
use crate::cloud::Cloud;
use crate::counts::Kind;
use crate::refusal::Refusal;

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const REFRESH_TOKEN: &str = "refresh_token";

/// The scope that lets a client ask for the keys of roles; refresh tokens come with it.
const SCOPE: &str = "sso:account:access";

pub(super) fn answer(cloud: &Cloud, kind: Kind, document: &Bytes) -> Result<Value, Refusal> {
    let Ok(Value::Object(request)) = serde_json::from_slice(document) else {
        return Err(invalid_request("Invalid request"));
    };
    let request = Request(request);
    match kind {
        Kind::RegisterClient => register(cloud, &request),
        Kind::StartDeviceAuthorization => start(cloud, &request),
        _ => create_token(cloud, &request),
    }
}

struct Request(Map<String, Value>);

impl Request {
    fn required(&self, name: &str) -> Result<&str, Refusal> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| invalid_request(format!("Missing required parameter: {name}")))
    }

    fn list(&self, name: &str) -> Result<Vec<&str>, Refusal> {
        let wrong = || invalid_request(format!("Invalid parameter: {name}"));
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .map(|item| item.as_str().ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    /// The client that asks.
    fn client(&self, cloud: &Cloud) -> Result<Client, Refusal> {
        let (id, secret) = (self.required("clientId")?, self.required("clientSecret")?);
        let client = cloud.sso.client(id, secret);
        client.ok_or_else(|| Refusal::new(401, "InvalidClientException", "Invalid client provided"))
    }
}

fn register(cloud: &Cloud, request: &Request) -> Result<Value, Refusal> {
    request.required("clientName")?;
    if request.required("clientType")? != "public" {
        let message = "Invalid client type provided";
        return Err(Refusal::new(400, "InvalidClientMetadataException", message));
    }
    let scopes = request.list("scopes")?;
    if scopes.iter().any(|scope| *scope != SCOPE) {
        let message = "Invalid scopes provided";
        return Err(Refusal::new(400, "InvalidScopeException", message));
    }
    let mut grants = request.list("grantTypes")?.into_iter();
    if let Some(grant) = grants.find(|grant| ![DEVICE_CODE, REFRESH_TOKEN].contains(grant)) {
        return Err(unsupported_grant(grant));
    }
    let client = cloud.sso.register(!scopes.is_empty(), &cloud.random);
    Ok(json!({
        "clientId": client.id,
        "clientSecret": client.secret,
        "clientIdIssuedAt": unix_seconds(client.issued),
        "clientSecretExpiresAt": unix_seconds(client.expiration),
    }))
}

fn start(cloud: &Cloud, request: &Request) -> Result<Value, Refusal> {
    let client = request.client(cloud)?;
    let start_url = request.required("startUrl")?;
    // As people copy it from a browser.
    if start_url.trim_end_matches(['/', '#']) != cloud.sso_start_url {
        return Err(invalid_request("Invalid start url provided"));
    }
    let (device_code, user_code) = cloud.sso.start(&client, &cloud.random);
    let page = format!("{}/#/device", cloud.sso_start_url);
    Ok(json!({
        "deviceCode": device_code,
        "userCode": user_code,
        "verificationUri": page,
        "verificationUriComplete": format!("{page}?user_code={user_code}"),
        "expiresIn": CODE.as_secs(),
        "interval": INTERVAL.as_secs(),
    }))
}

fn create_token(cloud: &Cloud, request: &Request) -> Result<Value, Refusal> {
    let client = request.client(cloud)?;
    let refuse = |code: &'static str, message: &'static str| Refusal::new(400, code, message);
    let tokens = match request.required("grantType")? {
        DEVICE_CODE => {
            let code = request.required("deviceCode")?;
            match cloud.sso.poll(&client, code, &cloud.random) {
                Polled::Tokens(tokens) => tokens,
                Polled::Pending => {
                    let message = "Authorization is still pending";
                    return Err(refuse("AuthorizationPendingException", message));
                }
                Polled::TooSoon => return Err(refuse("SlowDownException", "Slow down")),
                Polled::Denied => return Err(refuse("AccessDeniedException", "Access denied")),
                Polled::Expired => {
                    return Err(refuse("ExpiredTokenException", "Device code has expired"));
                }
                Polled::Unknown => {
                    return Err(refuse(
                        "InvalidGrantException",
                        "Invalid device code provided",
                    ));
                }
            }
        }
        REFRESH_TOKEN => {
            let token = request.required("refreshToken")?;
            let tokens = cloud.sso.refresh(&client, token, &cloud.random);
            let message = "Invalid refresh token provided";
            tokens.ok_or_else(|| refuse("InvalidGrantException", message))?
        }
        other => return Err(unsupported_grant(other)),
    };
    let Tokens {
        access,
        life,
        refresh,
    } = tokens;
    let mut answer = json!({
        "accessToken": access, "tokenType": "Bearer", "expiresIn": life.as_secs(),
    });
    if let Some(refresh) = refresh {
        answer["refreshToken"] = refresh.into();
    }
    Ok(answer)
}

fn invalid_request(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(400, "InvalidRequestException", message)
}

/// The codes of browsers that come back to the client are not supported: there is no browser.
fn unsupported_grant(grant: &str) -> Refusal {
    Refusal::new(
        400,
        "UnsupportedGrantTypeException",
        format!("Unsupported grant type provided: {grant}"),
    )
}
