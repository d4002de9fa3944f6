//! The way of a request through faults, checks and `s3s` to its answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use s3s::Body;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::sync::watch;

use crate::access::{Access, Secrets};
use crate::body::ServedBody;
use crate::clock;
use crate::cloud::SharedCloud;
use crate::counts::{Kind, Outcome, Ticket};
use crate::exchange::Exchange;
use crate::faults::{Hits, Network};
use crate::preconditions::http_date;
use crate::receiving::Receiving;
use crate::refusal::{self, Refusal};
use crate::request::{Call, is_sts};
use crate::s3::{BUCKET_REGION, Operations};
use crate::sts::Sts;

/// The largest body of a request to STS that is read.
const LARGEST_FORM: usize = 64 * 1024;

/// The largest answer of `s3s` that is taken over; listings are about 500 KiB at most.
const LARGEST_DOCUMENT: usize = 64 * 1024 * 1024;

/// How long the rest of a refused request is read before it is answered.
const DRAIN: Duration = Duration::from_secs(5);

/// Stands before `s3s`, and gives every answer its final form.
pub(crate) struct Front {
    cloud: SharedCloud,
    service: S3Service,
}

fn service(cloud: SharedCloud) -> S3Service {
    let mut config = S3Config::default();
    // The front checks the time itself, against a clock that tests can skew.
    config.presigned_url_max_skew_time_secs = u32::MAX;
    let mut builder = S3ServiceBuilder::new(Operations(cloud.clone()));
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(Secrets(cloud.clone()));
    builder.set_access(Access(cloud.clone()));
    builder.set_route(Sts(cloud));
    builder.build()
}

/// Enters the outcome in the books, also when the client gives up and the request is dropped.
struct Entry<'a> {
    cloud: &'a SharedCloud,
    ticket: Ticket,
    kind: Kind,
    exchange: Arc<Exchange>,
    body: Option<Receiving>,
    answer: Option<(u16, Option<String>)>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let (status, code) = match self.answer.take() {
            Some((status, code)) => (Some(status), code),
            None => (None, None),
        };
        let session = self.exchange.session();
        self.cloud.ledger.ended(
            self.ticket,
            self.kind,
            Outcome {
                status,
                code,
                session,
                code_was_spent: self.exchange.code_was_spent(),
                bytes_received: self.body.as_ref().map_or(0, Receiving::received),
            },
        );
    }
}

impl Front {
    pub(crate) fn new(cloud: SharedCloud) -> Self {
        Self {
            service: service(cloud.clone()),
            cloud,
        }
    }

    pub(crate) fn watch_network(&self) -> watch::Receiver<Network> {
        self.cloud.faults.watch_network()
    }

    /// An error closes the connection.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> io::Result<Response<ServedBody>> {
        let (parts, incoming) = request.into_parts();
        let (mut incoming, mut form) = (Some(incoming), None);
        if is_sts(&parts.method, parts.uri.path())
            && let Some(incoming) = incoming.take()
        {
            let collected = Limited::new(incoming, LARGEST_FORM).collect().await;
            form = Some(collected.map_err(io::Error::other)?.to_bytes());
        }
        let call = Call::read(&parts, form.as_ref());
        let faults = &self.cloud.faults;
        let ticket = self.cloud.ledger.arrived(&call);
        let hits = faults.take(&call);
        let exchange = Arc::new(Exchange::new(
            call.kind,
            faults.conditional_writes_now(),
            faults.completed_uploads_now(),
            hits.conflict,
        ));
        let receiving = incoming.map(|incoming| {
            Receiving::new(
                incoming,
                hits.cut_upload,
                self.cloud.clone(),
                exchange.clone(),
            )
        });
        let mut entry = Entry {
            cloud: &self.cloud,
            ticket,
            kind: call.kind,
            exchange: exchange.clone(),
            body: receiving.clone(),
            answer: None,
        };

        if hits.stall {
            faults.hold().await;
        }
        if !hits.latency.is_zero() {
            tokio::time::sleep(hits.latency).await;
        }
        if hits.drop {
            return Err(io::Error::other("the connection was dropped"));
        }
        if hits.expire_before {
            faults.expire_sessions();
        }
        let answer = match self.refuse_early(&call, &hits) {
            Some(refusal) => Err(refusal),
            None => {
                let body = match (form, &receiving) {
                    (Some(form), _) => Body::from(form),
                    (None, Some(receiving)) if call.kind == Kind::DeleteObjects => {
                        let document = Limited::new(receiving.clone(), LARGEST_DOCUMENT)
                            .collect()
                            .await
                            .map_err(io::Error::other)?
                            .to_bytes();
                        exchange.set_document(document.clone());
                        Body::from(document)
                    }
                    (None, Some(receiving)) => Body::http_body(receiving.clone()),
                    (None, None) => Body::empty(),
                };
                let mut request = Request::from_parts(parts, body);
                request.extensions_mut().insert(exchange.clone());
                self.ask(request, &call, &exchange).await
            }
        };
        if exchange.is_broken() {
            return Err(io::Error::other("the request ended early"));
        }
        if hits.expire_after {
            faults.expire_sessions();
        }
        if hits.hold_answer {
            faults.hold().await;
        }
        if hits.lose_response {
            return Err(io::Error::other("the response was lost"));
        }
        let code = answer
            .as_ref()
            .err()
            .map(|refusal| refusal.code.clone().into_owned());
        let response = match answer {
            Ok(response) => self.finish(response, &call, &exchange, hits.truncate),
            Err(refusal) if call.kind.is_sts() => self.sts_refusal(refusal),
            Err(refusal) => {
                if let Some(mut receiving) = receiving
                    && refusal.code != "EntityTooLarge"
                {
                    let rest = receiving.drain(call.expects_continue);
                    let _ = tokio::time::timeout(DRAIN, rest).await;
                }
                self.s3_refusal(refusal, call.is_head)
            }
        };
        entry.answer = Some((response.status().as_u16(), code));
        Ok(response)
    }

    /// What is refused on sight: faults, a wrong clock, a signature for somewhere else.
    fn refuse_early(&self, call: &Call, hits: &Hits) -> Option<Refusal> {
        if let Some((status, code)) = &hits.status {
            let mut refusal = Refusal::s3(code);
            refusal.status = *status;
            return Some(refusal);
        }
        if let Some(code) = &hits.error_inside_200 {
            let mut refusal = Refusal::s3(code);
            refusal.status = 200;
            return Some(refusal);
        }
        let server = self.cloud.clock.time_of_day();
        if let Some(order) = call.skew(server) {
            let date = call.date.clone().unwrap_or_default();
            if !call.kind.is_sts() {
                return Some(Refusal::request_time_too_skewed(&date, server));
            }
            let quarter = Duration::from_secs(15 * 60);
            let now = clock::amz_date(server);
            // To STS a wrong clock is a wrong signature.
            return Some(Refusal::new(
                403,
                "SignatureDoesNotMatch",
                if order.is_lt() {
                    let limit = clock::amz_date(server - quarter);
                    format!(
                        "Signature expired: {date} is now earlier than {limit} ({now} - 15 min.)"
                    )
                } else {
                    let limit = clock::amz_date(server + quarter);
                    format!(
                        "Signature not yet current: {date} is still later than {limit} ({now} + 15 min.)"
                    )
                },
            ));
        }
        if call.is_signed_v2 {
            let message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";
            return Some(Refusal::new(400, "InvalidRequest", message));
        }
        if let Some(names) = call.unsigned.as_deref().filter(|_| !call.kind.is_sts()) {
            let message = "There were headers present in the request which were not signed";
            return Some(Refusal::access_denied(message).with("HeadersNotSigned", names));
        }
        let (region, service) = call.scope.as_ref()?;
        let expected = &self.cloud.region;
        if call.kind.is_sts() {
            let message = if service != "sts" {
                "Credential should be scoped to correct service: 'sts'. "
            } else if region != expected {
                "Credential should be scoped to a valid region. "
            } else {
                return None;
            };
            return Some(Refusal::new(403, "SignatureDoesNotMatch", message));
        }
        let malformed = "The authorization header is malformed;";
        if service != "s3" {
            let message = format!(
                "{malformed} incorrect service \"{service}\". This endpoint belongs to \"s3\"."
            );
            return Some(Refusal::new(400, "AuthorizationHeaderMalformed", message));
        }
        if region != expected {
            let message =
                format!("{malformed} the region '{region}' is wrong; expecting '{expected}'");
            let refusal = Refusal::new(400, "AuthorizationHeaderMalformed", message)
                .with("Region", expected.clone());
            return Some(refusal.header(BUCKET_REGION, expected));
        }
        None
    }

    /// Has `s3s` serve the request, and takes refusals out of its answer.
    async fn ask(
        &self,
        request: Request<Body>,
        call: &Call,
        exchange: &Exchange,
    ) -> Result<Response<Bytes>, Refusal> {
        let response = self
            .service
            .call(request)
            .await
            .map_err(|_| Refusal::s3("InternalError"))?;
        if let Some(refusal) = exchange.take_refusal() {
            return Err(refusal);
        }
        let (parts, body) = response.into_parts();
        let document = match Limited::new(body, LARGEST_DOCUMENT).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(_) => return Err(Refusal::s3("InternalError")),
        };
        if parts.status.is_client_error() || parts.status.is_server_error() {
            let refusal = refusal_of(parts.status, &document);
            return Err(match refusal.code.as_ref() {
                _ if call.kind.is_sts() => refusal::as_sts(refusal),
                "KeyTooLongError" => refusal
                    .with("Size", call.key.as_ref().map_or(0, String::len).to_string())
                    .with("MaxSizeAllowed", "1024"),
                _ => refusal,
            });
        }
        Ok(Response::from_parts(parts, document))
    }

    fn finish(
        &self,
        response: Response<Bytes>,
        call: &Call,
        exchange: &Exchange,
        truncate: Option<u64>,
    ) -> Response<ServedBody> {
        let (mut parts, document) = response.into_parts();
        if call.kind == Kind::Head && parts.headers.contains_key(header::CONTENT_RANGE) {
            parts.status = StatusCode::PARTIAL_CONTENT;
        }
        let body = if call.is_head {
            ServedBody::plain(Bytes::new())
        } else if let Some(object) = exchange.take_body() {
            ServedBody::object(object, truncate, self.cloud.clone())
        } else {
            ServedBody::plain(document)
        };
        if call.kind.is_sts() {
            parts
                .headers
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        }
        if exchange.is_charged() {
            parts.headers.insert(
                HeaderName::from_static("x-amz-request-charged"),
                HeaderValue::from_static("requester"),
            );
        }
        let mut response = Response::from_parts(parts, body);
        self.sign_off(&mut response, call.kind.is_sts(), None);
        response
    }

    fn s3_refusal(&self, refusal: Refusal, is_head: bool) -> Response<ServedBody> {
        let request_id = self.cloud.random.hex(16);
        // HEAD has no body by definition, and 304 has none either.
        let is_bare = is_head || refusal.status == 304;
        let body = if is_bare {
            ServedBody::plain(Bytes::new())
        } else {
            ServedBody::plain(refusal.s3_xml(&request_id, &self.cloud.random.base64(56)))
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
        if refusal.status != 304 {
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/xml"),
            );
        }
        response.headers_mut().extend(refusal.headers);
        self.sign_off(&mut response, false, Some(request_id));
        response
    }

    fn sts_refusal(&self, refusal: Refusal) -> Response<ServedBody> {
        let request_id = self.cloud.random.uuid();
        let mut response = Response::new(ServedBody::plain(refusal.sts_xml(&request_id)));
        *response.status_mut() =
            StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        self.sign_off(&mut response, true, Some(request_id));
        response
    }

    /// Adds the headers that all answers have. The date is the server's idea of the time.
    fn sign_off(
        &self,
        response: &mut Response<ServedBody>,
        is_sts: bool,
        request_id: Option<String>,
    ) {
        const S3_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
        const STS_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
        let (name, server) = if is_sts {
            (STS_REQUEST_ID, None)
        } else {
            (S3_REQUEST_ID, Some(HeaderValue::from_static("AmazonS3")))
        };
        let random = &self.cloud.random;
        let request_id = request_id.unwrap_or_else(|| {
            if is_sts {
                random.uuid()
            } else {
                random.hex(16)
            }
        });
        let headers = response.headers_mut();
        if let Ok(request_id) = HeaderValue::try_from(request_id) {
            headers.insert(name, request_id);
        }
        if let Ok(date) = HeaderValue::try_from(http_date(self.cloud.clock.time_of_day())) {
            headers.insert(header::DATE, date);
        }
        if let Some(server) = server {
            headers.insert(header::SERVER, server);
        }
    }
}

/// Reads the code out of an error of `s3s`, which knows AWS's codes and statuses but not all texts.
fn refusal_of(status: StatusCode, document: &[u8]) -> Refusal {
    let document = String::from_utf8_lossy(document);
    let text = |name: &str| {
        let (_, rest) = document.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text.to_owned())
    };
    let mut refusal = Refusal::s3(text("Code").as_deref().unwrap_or("InternalError"));
    refusal.status = status.as_u16();
    // Of a denial, the text says why: "Request has expired", for one.
    if refusal.code == "AccessDenied"
        && let Some(message) = text("Message")
    {
        refusal.message = message.into();
    }
    refusal
}
