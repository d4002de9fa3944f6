//! STS, on the same port as S3: a form posted to the root.

use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result};

use crate::caller::{BadCredentials, Caller};
use crate::clock::iso8601;
use crate::cloud::SharedCloud;
use crate::device::Redeemed;
use crate::exchange::Exchange;
use crate::refusal::{self, Refusal, element};
use crate::request::is_sts;
use crate::users::User;

/// The XML namespace of STS.
pub(crate) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The only version of the API.
const VERSION: &str = "2011-06-15";

/// Bounds and default of `DurationSeconds` of GetSessionToken, in seconds: AWS STS API reference.
const SHORTEST: u64 = 900;
const LONGEST: u64 = 129_600;
const USUAL: u64 = 43_200;

const WRONG_CODE: &str = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
// Both spaces are AWS's.
const WRONG_SERIAL: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA \
                            serial number is valid and associated with this user.";
const HALF_MFA: &str =
    "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";
const TEMPORARY_KEYS: &str = "Cannot call GetSessionToken with session credentials";

/// The service. Its signatures are verified by `s3s` as those of S3 are.
pub(crate) struct Sts(pub(crate) SharedCloud);

#[async_trait::async_trait]
impl S3Route for Sts {
    fn is_match(
        &self,
        method: &Method,
        uri: &Uri,
        _headers: &HeaderMap,
        _extensions: &mut Extensions,
    ) -> bool {
        is_sts(method, uri.path())
    }

    async fn check_access(&self, _req: &mut S3Request<Body>) -> S3Result<()> {
        // The answer to an unsigned request has to be in the shape of STS, so `call` sees to it.
        Ok(())
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let exchange = Exchange::of(&req.extensions);
        let body = req.input.store_all_limited(64 * 1024).await;
        let answer = match body {
            Ok(body) => self.answer(&req, &body, &exchange),
            // The body is not the one that was signed.
            Err(_) => Err(refusal::as_sts(Refusal::s3("SignatureDoesNotMatch"))),
        };
        match answer {
            Ok(xml) => Ok(S3Response::with_status(Body::from(xml), StatusCode::OK)),
            Err(refusal) => Err(exchange.refuse(refusal)),
        }
    }
}

impl Sts {
    fn answer(
        &self,
        req: &S3Request<Body>,
        body: &Bytes,
        exchange: &Exchange,
    ) -> Result<String, Refusal> {
        let caller = self.identify(req, exchange)?;
        let form = Form::read(body);
        let action = form.get("Action").unwrap_or_default();
        if form.get("Version") != Some(VERSION) {
            return Err(unknown_action(
                action,
                form.get("Version").unwrap_or("null"),
            ));
        }
        let user = match caller.user() {
            Some(user) => user,
            None => {
                return Err(Refusal::new(
                    403,
                    "MissingAuthenticationToken",
                    "Request is missing Authentication Token",
                ));
            }
        };
        match action {
            "GetCallerIdentity" => Ok(self.identity_of(user)),
            "GetSessionToken" => match caller {
                Caller::User(_) => self.get_session_token(user, &form, exchange),
                _ => Err(Refusal::access_denied(TEMPORARY_KEYS)),
            },
            // The account has no roles, and to AWS an absent one is one that may not be assumed.
            "AssumeRole" => Err(Refusal::access_denied(format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {}",
                user.arn(),
                form.get("RoleArn").unwrap_or_default()
            ))),
            other => Err(unknown_action(other, VERSION)),
        }
    }

    fn identify(&self, req: &S3Request<Body>, exchange: &Exchange) -> Result<Caller, Refusal> {
        let caller = Caller::identify(&self.0, req.credentials.as_ref(), &req.headers, &req.uri);
        let caller = caller.map_err(|bad| match bad {
            BadCredentials::Unknown(_) | BadCredentials::WrongToken(_) => {
                refusal::invalid_client_token_id()
            }
            BadCredentials::Expired(session) => {
                exchange.set_session(session.number);
                refusal::as_sts(Refusal::s3("ExpiredToken"))
            }
        })?;
        if let Caller::Session(session) = &caller {
            exchange.set_session(session.number);
        }
        Ok(caller)
    }

    fn identity_of(&self, user: &User) -> String {
        let mut xml = String::new();
        element(&mut xml, "Arn", user.arn());
        element(&mut xml, "UserId", user.id());
        element(&mut xml, "Account", &self.0.account);
        self.response("GetCallerIdentity", &xml)
    }

    /// Checks in AWS's order: the form of the parameters, then the device, then the code. Only a
    /// request that succeeds uses a code up.
    fn get_session_token(
        &self,
        user: &User,
        form: &Form,
        exchange: &Exchange,
    ) -> Result<String, Refusal> {
        let (serial, code) = (form.get("SerialNumber"), form.get("TokenCode"));
        let device = serial.and_then(|serial| self.0.users.device_of(user, serial));
        let shortest = if self.0.sessions.are_short_allowed() {
            1
        } else {
            SHORTEST
        };
        let seconds = validate(form.get("DurationSeconds"), serial, code, shortest)?;
        let with_mfa = match (serial, code) {
            (None, None) => false,
            (Some(_), Some(code)) => {
                let device = device.ok_or(Refusal::access_denied(WRONG_SERIAL))?;
                match device.redeem(code) {
                    Redeemed::Accepted => true,
                    Redeemed::Wrong => return Err(Refusal::access_denied(WRONG_CODE)),
                    Redeemed::Spent => {
                        exchange.set_code_was_spent();
                        return Err(Refusal::access_denied(WRONG_CODE));
                    }
                }
            }
            _ => return Err(Refusal::access_denied(HALF_MFA)),
        };
        let session =
            self.0
                .sessions
                .issue(user, Duration::from_secs(seconds), with_mfa, &self.0.random);
        let mut xml = String::from("<Credentials>");
        element(&mut xml, "AccessKeyId", &session.access_key_id);
        element(&mut xml, "SecretAccessKey", &session.secret_access_key);
        element(&mut xml, "SessionToken", &session.token);
        element(&mut xml, "Expiration", &iso8601(session.expiration));
        xml.push_str("</Credentials>");
        Ok(self.response("GetSessionToken", &xml))
    }

    fn response(&self, action: &str, result: &str) -> String {
        let request_id = self.0.random.uuid();
        format!(
            "<{action}Response xmlns=\"{NAMESPACE}\">\n  <{action}Result>{result}</{action}Result>\n  \
             <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>\n</{action}Response>\n"
        )
    }
}

/// The parameters of a request.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(body: &Bytes) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

fn unknown_action(action: &str, version: &str) -> Refusal {
    Refusal::new(
        400,
        "InvalidAction",
        format!("Could not find operation {action} for version {version}"),
    )
}

/// Checks the parameters against the constraints of the service model, and returns the seconds.
fn validate(
    duration: Option<&str>,
    serial: Option<&str>,
    code: Option<&str>,
    shortest: u64,
) -> Result<u64, Refusal> {
    let mut faults = Vec::new();
    let mut fault = |value: &str, at: &str, constraint: &str| {
        faults.push(format!(
            "Value '{value}' at '{at}' failed to satisfy constraint: Member must {constraint}"
        ));
    };
    let seconds = match duration.map(str::parse::<u64>) {
        None => USUAL,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => {
            return Err(Refusal::new(
                400,
                "MalformedInput",
                "DurationSeconds is not a whole number of seconds",
            ));
        }
    };
    if seconds < shortest {
        fault(
            &seconds.to_string(),
            "durationSeconds",
            "have value greater than or equal to 900",
        );
    }
    if seconds > LONGEST {
        fault(
            &seconds.to_string(),
            "durationSeconds",
            "have value less than or equal to 129600",
        );
    }
    if let Some(serial) = serial {
        let length = serial.chars().count();
        if length < 9 {
            fault(
                serial,
                "serialNumber",
                "have length greater than or equal to 9",
            );
        }
        if length > 256 {
            fault(
                serial,
                "serialNumber",
                "have length less than or equal to 256",
            );
        }
        if !serial
            .chars()
            .all(|c| c.is_alphanumeric() || "_+=/:,.@-".contains(c))
        {
            fault(
                serial,
                "serialNumber",
                r"satisfy regular expression pattern: [\w+=/:,.@-]*",
            );
        }
    }
    if let Some(code) = code {
        let length = code.chars().count();
        if length < 6 {
            fault(code, "tokenCode", "have length greater than or equal to 6");
        }
        if length > 6 {
            fault(code, "tokenCode", "have length less than or equal to 6");
        }
        if !code.bytes().all(|byte| byte.is_ascii_digit()) {
            fault(
                code,
                "tokenCode",
                r"satisfy regular expression pattern: [\d]*",
            );
        }
    }
    if faults.is_empty() {
        return Ok(seconds);
    }
    let (errors, count) = (
        if faults.len() == 1 { "error" } else { "errors" },
        faults.len(),
    );
    Err(Refusal::new(
        400,
        "ValidationError",
        format!(
            "{count} validation {errors} detected: {}",
            faults.join("; ")
        ),
    ))
}
