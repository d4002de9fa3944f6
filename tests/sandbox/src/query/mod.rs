//! AWS's Query protocol, of STS and IAM: a signed form comes in, and XML goes out.

pub(crate) mod constraints;
mod form;
mod signature;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response};

use crate::cloud::SharedCloud;
use crate::exchange::Exchange;
use crate::iam;
use crate::refusal::Refusal;
use crate::service::QueryService;
use crate::sts;

pub(crate) use form::Form;

/// The header with the id of a request, of services other than S3.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Answers a request of a service with this protocol.
pub(crate) fn answer(
    cloud: &SharedCloud,
    service: QueryService,
    parts: &Parts,
    body: &Bytes,
    exchange: &Exchange,
) -> Result<Response<Bytes>, Refusal> {
    let caller = signature::verify(cloud, service, parts, body, exchange)?;
    let form = Form::read(body);
    let action = form.get("Action").unwrap_or_default();
    let version = form.get("Version").unwrap_or("NO_VERSION_SPECIFIED");
    let result = if version != service.version() {
        None
    } else {
        match service {
            QueryService::Sts => sts::perform(cloud, action, &caller, &form, exchange)?,
            QueryService::Iam => iam::perform(cloud, action, &caller, &form)?,
        }
    };
    let Some(result) = result else {
        let message = format!("Could not find operation {action} for version {version}");
        return Err(Refusal::new(400, "InvalidAction", message));
    };
    let (namespace, request_id) = (service.namespace(), cloud.random.uuid());
    let mut response = Response::new(Bytes::from(format!(
        "<{action}Response xmlns=\"{namespace}\">\n  <{action}Result>{result}</{action}Result>\n  \
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>\n</{action}Response>\n"
    )));
    if let Ok(request_id) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(REQUEST_ID, request_id);
    }
    Ok(response)
}
