//! The one request to IAM: which MFA devices does this user have?
//!
//! The SDK's client of IAM has some 170 requests and takes longer to build than everything else
//! together, so this one is put together here, out of the SDK's parts: its signer, its HTTP client
//! and its XML reader.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_smithy_xml::decode::{Document, try_data};
use percent_encoding::NON_ALPHANUMERIC;

use crate::aws::{Aws, home_region, is_aws, partition_of_region};

/// How long IAM may take: nobody can be asked before.
const PATIENCE: Duration = Duration::from_secs(10);

/// The request. A user may have up to eight devices, and IAM lists a hundred at once:
/// docs.aws.amazon.com/IAM/latest/APIReference/API_ListMFADevices.html.
const FORM: &str = "Action=ListMFADevices&Version=2010-05-08";

/// Why there is no list: not allowed, not known to this store, not reached.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(crate) struct IamError {
    text: String,
    /// The store has no such request, so it has no devices that one could ask for.
    pub(crate) is_unsupported: bool,
}

/// The serials of a user's MFA devices, passkeys among them; of the caller's own if no user is
/// named. A policy that lets users list their own devices (`user/${aws:username}`) wants the name.
pub(crate) async fn mfa_devices(
    aws: &Arc<Aws>,
    keys: &Credentials,
    user: Option<&str>,
) -> Result<Vec<String>, IamError> {
    let (url, region) = place(aws);
    let (aws_, keys_, url_) = (Arc::clone(aws), keys.clone(), url.clone());
    let form = match user {
        Some(user) => {
            let user = percent_encoding::utf8_percent_encode(user, NON_ALPHANUMERIC);
            format!("{FORM}&UserName={user}")
        }
        None => FORM.to_owned(),
    };
    let timeouts = TimeoutConfig::builder().operation_timeout(PATIENCE).build();
    let operation = Operation::builder()
        .service_name("iam")
        .operation_name("ListMFADevices")
        .http_client(aws.http.clone())
        .endpoint_url(&url)
        .no_auth()
        .sleep_impl(TokioSleep::new())
        .standard_retry(&RetryConfig::standard())
        .timeout_config(timeouts)
        .interceptor(aws.timekeeper())
        .serializer(move |()| request(&aws_, &keys_, &url_, region, &form))
        .deserializer(|response: &HttpResponse| {
            Ok::<_, aws_smithy_runtime_api::client::orchestrator::OrchestratorError<IamError>>(
                read(response),
            )
        })
        .build();
    match operation.invoke(()).await {
        Ok(answer) => answer,
        Err(_) => Err(IamError {
            text: format!("IAM at {url} cannot be reached"),
            is_unsupported: false,
        }),
    }
}

/// Where IAM is, and the region it signs for: docs.aws.amazon.com/general/latest/gr/iam-service.html.
/// Other stores have it where their STS is, if they have it.
fn place(aws: &Aws) -> (String, &'static str) {
    let endpoints = &aws.endpoints;
    let partition = partition_of_region(&endpoints.region);
    let region = home_region(partition);
    let others = endpoints.urls.sts.as_ref().filter(|url| !is_aws(url));
    if let Some(url) = endpoints.urls.iam.as_ref().or(others) {
        return (url.clone(), region);
    }
    let host = match partition {
        "aws" if endpoints.fips => "iam-fips.amazonaws.com".to_owned(),
        "aws" if endpoints.dual_stack => "iam.global.api.aws".to_owned(),
        "aws" => "iam.amazonaws.com".to_owned(),
        "aws-us-gov" => "iam.us-gov.amazonaws.com".to_owned(),
        "aws-cn" => format!("iam.{region}.amazonaws.com.cn"),
        "aws-iso" => format!("iam.{region}.c2s.ic.gov"),
        "aws-iso-b" => format!("iam.{region}.sc2s.sgov.gov"),
        "aws-iso-e" => format!("iam.{region}.cloud.adc-e.uk"),
        "aws-iso-f" => format!("iam.{region}.csp.hci.ic.gov"),
        _ => format!("iam.{region}.amazonaws.eu"),
    };
    (format!("https://{host}"), region)
}

/// The signed request.
fn request(
    aws: &Aws,
    keys: &Credentials,
    url: &str,
    region: &str,
    form: &str,
) -> Result<HttpRequest, BoxError> {
    let address = format!("{}/", url.trim_end_matches('/'));
    let host = url.split("://").nth(1).unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let headers = [
        ("host", host),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let identity = keys.clone().into();
    let settings = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("iam")
        .time(TimeSource::now(&aws.clock))
        .settings(SigningSettings::default())
        .build()?;
    let body = SignableBody::Bytes(form.as_bytes());
    let signable = SignableRequest::new("POST", &*address, headers.into_iter(), body)?;
    let (instructions, _) = sign(signable, &settings.into())?.into_parts();
    let mut request = HttpRequest::new(SdkBody::from(form));
    request.set_method("POST")?;
    request.set_uri(address.clone())?;
    let signed = instructions
        .headers()
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
    for (name, value) in signed {
        request.headers_mut().try_insert(name, value)?;
    }
    for (name, value) in headers {
        request.headers_mut().try_insert(name, value.to_owned())?;
    }
    Ok(request)
}

fn read(response: &HttpResponse) -> Result<Vec<String>, IamError> {
    let text = response
        .body()
        .bytes()
        .and_then(|b| std::str::from_utf8(b).ok());
    let text = text.unwrap_or_default();
    let status = response.status();
    if !status.is_success() {
        let code = values(text, "Code").pop().unwrap_or_default();
        let message = values(text, "Message").pop().unwrap_or_default();
        // Ceph and MinIO, in this order.
        let is_unsupported = matches!(status.as_u16(), 405 | 501)
            || matches!(code.as_str(), "InvalidAction" | "NotImplemented")
            || message.starts_with("Unsupported action");
        return Err(IamError {
            text: format!(
                "IAM lists no devices (HTTP {}, {}): {}",
                status.as_u16(),
                crate::words::tame(&code),
                crate::words::tame(&message)
            ),
            is_unsupported,
        });
    }
    Ok(values(text, "SerialNumber"))
}

/// The text of all elements of this name.
fn values(xml: &str, name: &str) -> Vec<String> {
    let mut document = Document::new(xml);
    let mut found = Vec::new();
    while let Some(element) = document.next_start_element() {
        if element.local() != name {
            continue;
        }
        match try_data(&mut document) {
            Ok(text) => found.push(text.into_owned()),
            Err(_) => return found,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serials_are_read_out_of_iams_answer() {
        let xml = "<ListMFADevicesResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
                   <ListMFADevicesResult><IsTruncated>false</IsTruncated><MFADevices>\
                   <member><UserName>alice</UserName>\
                   <SerialNumber>arn:aws:iam::123456789012:mfa/al&amp;ice</SerialNumber>\
                   <EnableDate>2026-01-01T00:00:00Z</EnableDate></member>\
                   <member><SerialNumber>GAHT12345678</SerialNumber></member>\
                   </MFADevices></ListMFADevicesResult></ListMFADevicesResponse>";
        assert_eq!(
            values(xml, "SerialNumber"),
            ["arn:aws:iam::123456789012:mfa/al&ice", "GAHT12345678"]
        );
        assert!(values("not xml <", "SerialNumber").is_empty());
    }
}
