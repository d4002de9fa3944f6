//! What is refused on sight: faults, a wrong clock, a signature for somewhere else.

use std::cmp::Ordering;
use std::time::Duration;

use http::header;

use crate::clock;
use crate::cloud::Cloud;
use crate::faults::Hits;
use crate::other_stores;
use crate::refusal::Refusal;
use crate::request::Call;
use crate::s3::BUCKET_REGION;
use crate::service::{QueryService, Service};

/// How far a request's time may be from the server's.
const QUARTER: Duration = Duration::from_secs(15 * 60);

pub(crate) fn refuse_on_sight(cloud: &Cloud, call: &Call, hits: &Hits) -> Option<Refusal> {
    by_fault(hits).or_else(|| match call.kind.service() {
        Service::S3 => by_s3(cloud, call),
        Service::Query(service) => by_query(cloud, call, service),
        Service::Json(_) => None,
    })
}

fn by_fault(hits: &Hits) -> Option<Refusal> {
    if let Some((status, code)) = &hits.status {
        let mut refusal = Refusal::s3(code);
        refusal.status = *status;
        if let Some(pause) = hits.retry_after {
            refusal = refusal.header(header::RETRY_AFTER, &pause.as_secs().to_string());
        }
        return Some(refusal);
    }
    let mut refusal = Refusal::s3(hits.error_inside_200.as_deref()?);
    refusal.status = 200;
    Some(refusal)
}

fn by_s3(cloud: &Cloud, call: &Call) -> Option<Refusal> {
    if let Some(refusal) = other_stores::refuse(cloud, call) {
        return Some(refusal);
    }
    let server = cloud.clock.time_of_day();
    if call.skew(server).is_some() {
        let date = call.date.as_deref().unwrap_or_default();
        return Some(Refusal::request_time_too_skewed(date, server));
    }
    if call.is_signed_v2 {
        let message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";
        return Some(Refusal::new(400, "InvalidRequest", message));
    }
    if let Some(names) = &call.unsigned {
        let message = "There were headers present in the request which were not signed";
        return Some(Refusal::access_denied(message).with("HeadersNotSigned", names));
    }
    let (region, service) = call.scope.as_ref()?;
    let malformed = "The authorization header is malformed;";
    if service != "s3" {
        let message = format!(
            "{malformed} incorrect service \"{service}\". This endpoint belongs to \"s3\"."
        );
        return Some(Refusal::new(400, "AuthorizationHeaderMalformed", message));
    }
    let expected = &cloud.region;
    if region != expected {
        let message = format!("{malformed} the region '{region}' is wrong; expecting '{expected}'");
        let refusal = Refusal::new(400, "AuthorizationHeaderMalformed", message)
            .with("Region", expected.clone());
        return Some(refusal.header(BUCKET_REGION, expected));
    }
    None
}

/// To services with the Query protocol, a wrong clock is a wrong signature.
fn by_query(cloud: &Cloud, call: &Call, service: QueryService) -> Option<Refusal> {
    let server = cloud.clock.time_of_day();
    if let Some(order) = call.skew(server) {
        let date = call.date.as_deref().unwrap_or_default();
        let now = clock::amz_date(server);
        return Some(Refusal::client_signature(if order == Ordering::Less {
            let limit = clock::amz_date(server - QUARTER);
            format!("Signature expired: {date} is now earlier than {limit} ({now} - 15 min.)")
        } else {
            let limit = clock::amz_date(server + QUARTER);
            format!(
                "Signature not yet current: {date} is still later than {limit} ({now} + 15 min.)"
            )
        }));
    }
    let (region, name) = call.scope.as_ref()?;
    let mut message = String::new();
    if region != service.signing_region(&cloud.region) {
        message += "Credential should be scoped to a valid region. ";
    }
    let expected = service.signing_name();
    if name != expected {
        message += &format!("Credential should be scoped to correct service: '{expected}'. ");
    }
    (!message.is_empty()).then(|| Refusal::client_signature(message))
}
