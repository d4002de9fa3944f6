//! AWS's errors: status, code and text, in the shapes of S3, of the Query protocol and of JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use http::header::{HeaderName, HeaderValue};
use serde_json::json;

use crate::clock;
use crate::service::{JsonService, QueryService};

/// A request that is refused, with everything the answer needs.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: Cow<'static, str>,
    /// Further elements of S3's error, such as `Token-0`.
    pub(crate) details: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// The usual refusal of S3 with that code.
    pub(crate) fn s3(code: &str) -> Self {
        let (status, message) = usual(code);
        Self::new(status, code.to_owned(), message)
    }

    pub(crate) fn with(mut self, element: &'static str, value: impl Into<String>) -> Self {
        self.details.push((element, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// AWS's own body echoes the live token; whoever logs error bodies leaks it.
    pub(crate) fn expired_token(token: &str) -> Self {
        Self::s3("ExpiredToken").with("Token-0", token)
    }

    pub(crate) fn invalid_token(token: &str) -> Self {
        Self::s3("InvalidToken").with("Token-0", token)
    }

    pub(crate) fn invalid_access_key_id(access_key_id: &str) -> Self {
        Self::s3("InvalidAccessKeyId").with("AWSAccessKeyId", access_key_id)
    }

    pub(crate) fn no_such_bucket(bucket: &str) -> Self {
        Self::s3("NoSuchBucket").with("BucketName", bucket)
    }

    pub(crate) fn no_such_key(key: &str) -> Self {
        Self::s3("NoSuchKey").with("Key", key)
    }

    pub(crate) fn access_denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, "AccessDenied", message)
    }

    pub(crate) fn missing_client_token() -> Self {
        let message = "Request is missing Authentication Token";
        Self::new(403, "MissingAuthenticationToken", message)
    }

    pub(crate) fn invalid_client_token() -> Self {
        let message = "The security token included in the request is invalid.";
        Self::new(403, "InvalidClientTokenId", message)
    }

    pub(crate) fn expired_client_token() -> Self {
        let message = "The security token included in the request is expired";
        Self::new(403, "ExpiredToken", message)
    }

    pub(crate) fn client_signature(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, "SignatureDoesNotMatch", message)
    }

    pub(crate) fn wrong_client_signature() -> Self {
        Self::client_signature(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        )
    }

    pub(crate) fn request_time_too_skewed(request: &str, server: SystemTime) -> Self {
        Self::s3("RequestTimeTooSkewed")
            .with("RequestTime", request)
            .with("ServerTime", clock::iso8601(server))
            .with("MaxAllowedSkewMilliseconds", "900000")
    }

    /// The body S3 sends: elements directly below `<Error>`.
    pub(crate) fn s3_xml(&self, request_id: &str, host_id: &str) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        element(&mut xml, "Code", &self.code);
        element(&mut xml, "Message", &self.message);
        for (name, value) in &self.details {
            element(&mut xml, name, value);
        }
        element(&mut xml, "RequestId", request_id);
        element(&mut xml, "HostId", host_id);
        xml.push_str("</Error>");
        xml
    }

    /// The body of a service with the Query protocol: an `<Error>` inside `<ErrorResponse>`.
    pub(crate) fn query_xml(&self, service: QueryService, request_id: &str) -> String {
        let kind = if self.status >= 500 {
            "Receiver"
        } else {
            "Sender"
        };
        // What no operation was found for is refused by what stands before all services of AWS.
        let namespace = if self.code == "InvalidAction" {
            "http://webservices.amazon.com/AWSFault/2005-15-09"
        } else {
            service.namespace()
        };
        let mut xml = format!("<ErrorResponse xmlns=\"{namespace}\">\n  <Error>\n    ");
        element(&mut xml, "Type", kind);
        element(&mut xml, "Code", &self.code);
        if !self.message.is_empty() {
            element(&mut xml, "Message", &self.message);
        }
        xml.push_str("\n  </Error>\n  ");
        element(&mut xml, "RequestId", request_id);
        xml.push_str("\n</ErrorResponse>\n");
        xml
    }
}

impl Refusal {
    /// The body of a service that speaks JSON.
    pub(crate) fn json(&self, service: JsonService) -> String {
        let body = match service {
            JsonService::SsoOidc => json!({
                "error": error_of(&self.code), "error_description": self.message,
            }),
            JsonService::SsoPortal => json!({
                "message": self.message, "__type": format!("{}#{}", service.namespace(), self.code),
            }),
        };
        body.to_string()
    }
}

/// The name of an error in OAuth: of `SlowDownException`, it is `slow_down`.
fn error_of(code: &str) -> String {
    let name = code.strip_suffix("Exception").unwrap_or(code);
    let mut error = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !error.is_empty() {
            error.push('_');
        }
        error.push(c.to_ascii_lowercase());
    }
    error
}

/// Appends `<name>value</name>`, escaped.
pub(crate) fn element(xml: &mut String, name: &str, value: &str) {
    let _ = write!(xml, "<{name}>");
    for c in value.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\r' => xml.push_str("&#13;"),
            c if c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\u{7f}') => {
                let _ = write!(xml, "&#x{:x};", u32::from(c));
            }
            c => xml.push(c),
        }
    }
    let _ = write!(xml, "</{name}>");
}

/// The status and text of S3's codes: Amazon S3 API reference, "Error responses".
fn usual(code: &str) -> (u16, &'static str) {
    match code {
        "AccessDenied" => (403, "Access Denied"),
        "AuthorizationHeaderMalformed" => (
            400,
            "The authorization header that you provided is not valid.",
        ),
        "BadDigest" => (
            400,
            "The Content-MD5 or checksum value that you specified did not match what the server received.",
        ),
        "ConditionalRequestConflict" => (
            409,
            "The conditional request cannot succeed due to a conflicting operation against this resource.",
        ),
        "EntityTooLarge" => (400, "Your proposed upload exceeds the maximum allowed size"),
        "EntityTooSmall" => (
            400,
            "Your proposed upload is smaller than the minimum allowed size",
        ),
        "ExpiredToken" => (400, "The provided token has expired."),
        "IncompleteBody" => (
            400,
            "You did not provide the number of bytes specified by the Content-Length HTTP header",
        ),
        "InternalError" => (500, "We encountered an internal error. Please try again."),
        "InternalFailure" => (
            500,
            "The request processing has failed because of an unknown error.",
        ),
        "InvalidAccessKeyId" => (
            403,
            "The AWS Access Key Id you provided does not exist in our records.",
        ),
        "InvalidArgument" => (400, "Invalid Argument"),
        "InvalidBucketName" => (400, "The specified bucket is not valid."),
        "InvalidDigest" => (400, "The Content-MD5 you specified was invalid."),
        "InvalidObjectState" => (
            403,
            "The operation is not valid for the object's storage class",
        ),
        "InvalidPart" => (
            400,
            "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
        ),
        "InvalidPartOrder" => (
            400,
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
        ),
        "InvalidRange" => (416, "The requested range is not satisfiable"),
        "InvalidRequest" => (400, "Invalid Request"),
        "InvalidStorageClass" => (400, "The storage class you specified is not valid"),
        "InvalidToken" => (400, "The provided token is malformed or otherwise invalid."),
        "InvalidURI" => (400, "Couldn't parse the specified URI."),
        "KeyTooLongError" => (400, "Your key is too long"),
        "MalformedXML" => (
            400,
            "The XML you provided was not well-formed or did not validate against our published schema",
        ),
        "MetadataTooLarge" => (
            400,
            "Your metadata headers exceed the maximum allowed metadata size",
        ),
        "MethodNotAllowed" => (
            405,
            "The specified method is not allowed against this resource.",
        ),
        "MissingContentLength" => (411, "You must provide the Content-Length HTTP header."),
        "NoSuchBucket" => (404, "The specified bucket does not exist"),
        "NoSuchBucketPolicy" => (404, "The bucket policy does not exist"),
        "NoSuchKey" => (404, "The specified key does not exist."),
        "NoSuchUpload" => (
            404,
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
        ),
        "NotImplemented" => (
            501,
            "A header you provided implies functionality that is not implemented",
        ),
        "NotModified" => (304, "Not Modified"),
        "ObjectNotInActiveTierError" => (
            403,
            "The source object of the COPY operation is not in the active tier and is only stored in Amazon S3 Glacier.",
        ),
        "OperationAborted" => (
            409,
            "A conflicting conditional operation is currently in progress against this resource. Please try again.",
        ),
        "PreconditionFailed" => (
            412,
            "At least one of the pre-conditions you specified did not hold",
        ),
        "RequestTimeTooSkewed" => (
            403,
            "The difference between the request time and the current time is too large.",
        ),
        "RequestTimeout" => (
            400,
            "Your socket connection to the server was not read from or written to within the timeout period.",
        ),
        "ServiceUnavailable" => (503, "Please reduce your request rate."),
        "SignatureDoesNotMatch" => (
            403,
            "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
        ),
        "SlowDown" => (503, "Please reduce your request rate."),
        "Throttling" => (400, "Rate exceeded"),
        "TokenRefreshRequired" => (400, "The provided token must be refreshed."),
        "TooManyRequests" => (429, "Please reduce your request rate."),
        "XAmzContentSHA256Mismatch" => (
            400,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ),
        _ => (400, "The request is not valid."),
    }
}
