//! What a request asks for, read from its head before anything is verified.

use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::clock;
use crate::counts::Kind;
use crate::query::Form;
use crate::service::{Door, QueryService};

/// A request as the books and the faults see it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) bucket: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) upload_id: Option<String>,
    pub(crate) part_number: Option<i32>,
    pub(crate) copy_source: Option<String>,
    pub(crate) copy_source_range: Option<String>,
    pub(crate) expects_continue: bool,
    pub(crate) user_agent: Option<String>,
    pub(crate) access_key_id: Option<String>,
    /// The region and the service of the credential scope.
    pub(crate) scope: Option<(String, String)>,
    /// The `x-amz-date` header as sent.
    pub(crate) date: Option<String>,
    pub(crate) is_head: bool,
    /// Whether a request to STS carries a `TokenCode`.
    pub(crate) has_code: bool,
    /// `x-amz-` headers that the signature does not cover, separated by commas.
    pub(crate) unsigned: Option<String>,
    /// Whether it is signed with version 2 of the signature, which AWS has given up.
    pub(crate) is_signed_v2: bool,
}

impl Call {
    /// `document` is the body of a request to a service other than S3.
    pub(crate) fn read(parts: &Parts, door: Door, document: &Bytes) -> Self {
        let query: Vec<(String, String)> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let asked = |name: &str| {
            query
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.clone())
        };
        let path = percent_decode_str(parts.uri.path())
            .decode_utf8_lossy()
            .into_owned();
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = match path.split_once('/') {
            Some((bucket, key)) => (bucket, key),
            None => (path, ""),
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (bucket, key) = (some(bucket), some(key));
        let credential = credential(&parts.headers).or_else(|| asked("X-Amz-Credential"));
        let (access_key_id, scope) = credential.as_deref().map_or((None, None), parse_credential);
        let form = (door == Door::Form).then(|| Form::read(document));
        let kind = match (door, &form) {
            (Door::Form, Some(form)) => {
                let signed_for = scope.as_ref().map(|(_, service)| service.as_str());
                form_kind(QueryService::of_form(signed_for, form), form)
            }
            (Door::Json(_), _) => json_kind(parts.uri.path()),
            _ => {
                let is_copy = parts.headers.contains_key("x-amz-copy-source");
                s3_kind(
                    &parts.method,
                    bucket.is_some(),
                    key.is_some(),
                    is_copy,
                    &query,
                )
            }
        };
        Self {
            kind,
            bucket,
            key,
            prefix: if kind == Kind::List {
                asked("prefix")
            } else {
                None
            },
            range: header(&parts.headers, "range"),
            if_match: header(&parts.headers, "if-match"),
            if_none_match: header(&parts.headers, "if-none-match"),
            upload_id: asked("uploadId"),
            part_number: asked("partNumber").and_then(|number| number.parse().ok()),
            copy_source: header(&parts.headers, "x-amz-copy-source")
                .map(|source| percent_decode_str(&source).decode_utf8_lossy().into_owned()),
            copy_source_range: header(&parts.headers, "x-amz-copy-source-range"),
            expects_continue: parts.headers.contains_key("expect"),
            user_agent: header(&parts.headers, "user-agent"),
            access_key_id,
            scope,
            date: header(&parts.headers, "x-amz-date").or_else(|| asked("X-Amz-Date")),
            has_code: form
                .is_some_and(|form| form.get("TokenCode").is_some_and(|code| !code.is_empty())),
            is_head: parts.method == Method::HEAD,
            unsigned: unsigned(&parts.headers, asked("X-Amz-SignedHeaders")),
            is_signed_v2: header(&parts.headers, "authorization")
                .is_some_and(|value| value.starts_with("AWS "))
                || asked("Signature").is_some(),
        }
    }

    /// Whether the request is a write with a condition on what it replaces.
    pub(crate) fn is_conditional_write(&self) -> bool {
        self.kind.is_write() && (self.if_match.is_some() || self.if_none_match.is_some())
    }

    /// Whether the request says that it was made more than 15 minutes before (`Less`) or after
    /// (`Greater`) the server's time.
    pub(crate) fn skew(&self, server: SystemTime) -> Option<std::cmp::Ordering> {
        const ALLOWED_SECONDS: u64 = 15 * 60;
        let made = clock::unix_seconds(clock::parse_amz_date(self.date.as_deref()?)?);
        let server = clock::unix_seconds(server);
        (made.abs_diff(server) > ALLOWED_SECONDS).then(|| made.cmp(&server))
    }
}

fn json_kind(path: &str) -> Kind {
    match path {
        "/client/register" => Kind::RegisterClient,
        "/device_authorization" => Kind::StartDeviceAuthorization,
        "/token" => Kind::CreateToken,
        _ => Kind::GetRoleCredentials,
    }
}

fn form_kind(service: QueryService, form: &Form) -> Kind {
    match (service, form.get("Action").unwrap_or_default()) {
        (QueryService::Iam, "ListMFADevices") => Kind::ListMfaDevices,
        (QueryService::Iam, _) => Kind::OtherIam,
        (_, "GetSessionToken") => Kind::GetSessionToken,
        (_, "GetCallerIdentity") => Kind::GetCallerIdentity,
        (_, "AssumeRole") => Kind::AssumeRole,
        (_, "AssumeRoleWithWebIdentity") => Kind::AssumeRoleWithWebIdentity,
        _ => Kind::OtherSts,
    }
}

/// What ListObjects may be asked with.
const LISTING: [&str; 5] = ["delimiter", "encoding-type", "marker", "max-keys", "prefix"];

/// The subresources and options of a GET that leave it a plain one.
const PLAIN: [&str; 9] = [
    "x-id",
    "partNumber",
    "versionId",
    "response-content-type",
    "response-content-language",
    "response-expires",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
];

fn s3_kind(
    method: &Method,
    has_bucket: bool,
    has_key: bool,
    is_copy: bool,
    query: &[(String, String)],
) -> Kind {
    let has = |name: &str| query.iter().any(|(n, _)| n == name);
    let is_plain = query
        .iter()
        .all(|(name, _)| PLAIN.contains(&name.as_str()) || name.starts_with("X-Amz-"));
    let is_old_listing = query
        .iter()
        .all(|(name, _)| LISTING.contains(&name.as_str()) || name.starts_with("X-Amz-"));
    match (method, has_bucket, has_key) {
        (&Method::GET, true, true) if has("uploadId") => Kind::ListParts,
        (&Method::GET, true, true) if is_plain => Kind::Get,
        (&Method::HEAD, true, true) => Kind::Head,
        (&Method::HEAD, true, false) => Kind::HeadBucket,
        (&Method::GET, true, false) if has("uploads") => Kind::ListMultipartUploads,
        (&Method::GET, true, false) if has("list-type") => Kind::List,
        (&Method::GET, true, false) if has("versions") => Kind::ListVersions,
        (&Method::GET, true, false) if has("location") => Kind::GetBucketLocation,
        (&Method::GET, true, false) if has("policy") => Kind::GetBucketPolicy,
        (&Method::GET, true, false) if has("versioning") => Kind::GetBucketVersioning,
        (&Method::GET, true, false) if is_old_listing => Kind::List,
        (&Method::GET, false, _) => Kind::ListBuckets,
        (&Method::PUT, true, true) if has("uploadId") && is_copy => Kind::UploadPartCopy,
        (&Method::PUT, true, true) if has("uploadId") => Kind::UploadPart,
        (&Method::PUT, true, true) if is_plain && is_copy => Kind::Copy,
        (&Method::PUT, true, true) if is_plain => Kind::Put,
        (&Method::POST, true, true) if has("uploadId") => Kind::CompleteMultipartUpload,
        (&Method::POST, true, true) if has("uploads") => Kind::CreateMultipartUpload,
        (&Method::POST, true, false) if has("delete") => Kind::DeleteObjects,
        (&Method::DELETE, true, true) if has("uploadId") => Kind::AbortMultipartUpload,
        (&Method::DELETE, true, true) if is_plain => Kind::Delete,
        _ => Kind::Other,
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn credential(headers: &HeaderMap) -> Option<String> {
    let authorization = header(headers, "authorization")?;
    let (_, rest) = authorization.split_once("Credential=")?;
    rest.split([',', ' ']).next().map(str::to_owned)
}

fn unsigned(headers: &HeaderMap, in_query: Option<String>) -> Option<String> {
    let authorization = header(headers, "authorization");
    let in_header = authorization.as_deref().and_then(|value| {
        let (_, rest) = value.split_once("SignedHeaders=")?;
        rest.split([',', ' ']).next().map(str::to_owned)
    });
    let signed = in_header.or(in_query)?;
    let is_signed = |name: &str| {
        signed
            .split(';')
            .any(|signed| signed.eq_ignore_ascii_case(name))
    };
    let missing: Vec<&str> = headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with("x-amz-") && !is_signed(name))
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// Splits `KEY/DATE/REGION/SERVICE/aws4_request`.
fn parse_credential(credential: &str) -> (Option<String>, Option<(String, String)>) {
    let parts: Vec<&str> = credential.split('/').collect();
    match parts.as_slice() {
        [key, _date, region, service, _terminator] => (
            Some((*key).to_owned()),
            Some(((*region).to_owned(), (*service).to_owned())),
        ),
        _ => (None, None),
    }
}
