//! STS, on the same port as S3: a form posted to the root.

mod assume_role;
mod constraints;
mod mfa;
mod session_token;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result};

use crate::caller::{BadCredentials, Caller};
use crate::clock::iso8601;
use crate::cloud::SharedCloud;
use crate::exchange::Exchange;
use crate::query::{self, Form};
use crate::refusal::{self, Refusal, element};
use crate::request::is_sts;
use crate::sessions::Session;

/// The XML namespace of STS.
pub(crate) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The only version of the API.
const VERSION: &str = "2011-06-15";

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
        let version = form.get("Version").unwrap_or("NO_VERSION_SPECIFIED");
        if version != VERSION {
            return Err(unknown_action(action, version));
        }
        if matches!(caller, Caller::Anonymous) {
            return Err(Refusal::new(
                403,
                "MissingAuthenticationToken",
                "Request is missing Authentication Token",
            ));
        }
        match action {
            "GetCallerIdentity" => Ok(self.identity_of(&caller)),
            "GetSessionToken" => self.get_session_token(&caller, &form, exchange),
            "AssumeRole" => self.assume_role(&caller, &form, exchange),
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

    fn identity_of(&self, caller: &Caller) -> String {
        let mut xml = String::new();
        element(&mut xml, "Arn", caller.arn().unwrap_or_default());
        element(&mut xml, "UserId", caller.id().unwrap_or_default());
        element(&mut xml, "Account", &self.0.account);
        self.response("GetCallerIdentity", &xml)
    }

    fn response(&self, action: &str, result: &str) -> String {
        query::response(NAMESPACE, action, result, &self.0.random)
    }
}

fn credentials(session: &Session) -> String {
    let mut xml = String::from("<Credentials>");
    element(&mut xml, "AccessKeyId", &session.access_key_id);
    element(&mut xml, "SecretAccessKey", &session.secret_access_key);
    element(&mut xml, "SessionToken", &session.token);
    element(&mut xml, "Expiration", &iso8601(session.expiration));
    xml.push_str("</Credentials>");
    xml
}

fn unknown_action(action: &str, version: &str) -> Refusal {
    Refusal::new(
        400,
        "InvalidAction",
        format!("Could not find operation {action} for version {version}"),
    )
}
