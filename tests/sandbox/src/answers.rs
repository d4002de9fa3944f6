//! The final form of every answer.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::body::ServedBody;
use crate::cloud::SharedCloud;
use crate::counts::Kind;
use crate::exchange::Exchange;
use crate::preconditions::http_date;
use crate::query::REQUEST_ID;
use crate::refusal::Refusal;
use crate::request::Call;
use crate::service::Service;

/// Makes answers.
pub(crate) struct Answers<'a>(pub(crate) &'a SharedCloud);

impl Answers<'_> {
    pub(crate) fn success(
        &self,
        response: Response<Bytes>,
        call: &Call,
        exchange: &Exchange,
        truncate: Option<u64>,
    ) -> Response<ServedBody> {
        let service = call.kind.service();
        let (mut parts, document) = response.into_parts();
        if call.kind == Kind::Head && parts.headers.contains_key(header::CONTENT_RANGE) {
            parts.status = StatusCode::PARTIAL_CONTENT;
        }
        let body = if call.is_head {
            ServedBody::plain(Bytes::new())
        } else if let Some(object) = exchange.take_body() {
            ServedBody::object(object, truncate, self.0.clone())
        } else {
            ServedBody::plain(document)
        };
        let content_type = match service {
            Service::S3 if call.kind == Kind::GetBucketPolicy => {
                Some(HeaderValue::from_static("application/json"))
            }
            // `s3s` has set it.
            Service::S3 => None,
            service => Some(content_type(service)),
        };
        if let Some(content_type) = content_type {
            parts.headers.insert(header::CONTENT_TYPE, content_type);
        }
        if exchange.is_charged() {
            parts.headers.insert(
                HeaderName::from_static("x-amz-request-charged"),
                HeaderValue::from_static("requester"),
            );
        }
        let mut response = Response::from_parts(parts, body);
        self.sign_off(&mut response, service, self.request_id(service));
        response
    }

    pub(crate) fn refusal(&self, refusal: Refusal, call: &Call) -> Response<ServedBody> {
        let service = call.kind.service();
        let request_id = self.request_id(service);
        // HEAD has no body by definition, and 304 has none either.
        let is_bare = call.is_head || refusal.status == 304;
        let body = match service {
            Service::S3 if is_bare => ServedBody::plain(Bytes::new()),
            Service::S3 => {
                ServedBody::plain(refusal.s3_xml(&request_id, &self.0.random.base64(56)))
            }
            Service::Query(service) => ServedBody::plain(refusal.query_xml(service, &request_id)),
            Service::Json(service) => ServedBody::plain(refusal.json(service)),
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
        if refusal.status != 304 {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, content_type(service));
        }
        if let Service::Json(service) = service {
            let kind = format!(
                "{}:http://internal.amazon.com/coral/{}/",
                refusal.code,
                service.namespace()
            );
            if let Ok(kind) = HeaderValue::try_from(kind) {
                let name = HeaderName::from_static("x-amzn-errortype");
                response.headers_mut().insert(name, kind);
            }
        }
        response.headers_mut().extend(refusal.headers);
        self.sign_off(&mut response, service, request_id);
        response
    }

    fn request_id(&self, service: Service) -> String {
        match service {
            Service::S3 => self.0.random.hex(16),
            _ => self.0.random.uuid(),
        }
    }

    /// Adds the headers that all answers have. The date is the server's idea of the time.
    fn sign_off(&self, response: &mut Response<ServedBody>, service: Service, request_id: String) {
        let headers = response.headers_mut();
        if let Ok(request_id) = HeaderValue::try_from(request_id) {
            let name = match service {
                Service::S3 => HeaderName::from_static("x-amz-request-id"),
                _ => REQUEST_ID,
            };
            // Of those with the id in their XML, it is there already.
            headers.entry(name).or_insert(request_id);
        }
        if let Ok(date) = HeaderValue::try_from(http_date(self.0.clock.time_of_day())) {
            headers.insert(header::DATE, date);
        }
        if service == Service::S3 {
            headers.insert(header::SERVER, HeaderValue::from_static("AmazonS3"));
        }
    }
}

fn content_type(service: Service) -> HeaderValue {
    HeaderValue::from_static(match service {
        Service::S3 => "application/xml",
        Service::Query(_) => "text/xml",
        Service::Json(_) => "application/json",
    })
}
