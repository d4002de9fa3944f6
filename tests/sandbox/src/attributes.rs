//! What an object has besides its bytes, as the headers of a write say it.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, header};
use s3s::dto::{Metadata, Timestamp, TimestampFormat};

use crate::refusal::Refusal;

/// The most bytes of user metadata, names and values together: Amazon S3 user guide, "Working with
/// object metadata".
const LARGEST_METADATA: usize = 2048;

/// Amazon S3 API reference, `PutObject`, `x-amz-storage-class`; those of general purpose buckets.
const STORAGE_CLASSES: [&str; 8] = [
    STANDARD,
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
];

/// The same page, `x-amz-acl`.
const CANNED_ACLS: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

/// The class that answers do not name.
pub(crate) const STANDARD: &str = "STANDARD";

/// The headers and settings an object keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) content_type: String,
    pub(crate) cache_control: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) website_redirect: Option<String>,
    /// The names without `x-amz-meta-`.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) storage_class: String,
    pub(crate) encryption: Encryption,
    pub(crate) acl: Option<String>,
    pub(crate) tagging: Option<String>,
}

/// How the object is said to be encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// `AES256`, which every object has since 2023 unless something else is asked for.
    #[default]
    S3,
    /// `aws:kms` or `aws:kms:dsse`, with the ARN of the key.
    Kms { algorithm: String, key: String },
}

impl Encryption {
    pub(crate) fn algorithm(&self) -> &str {
        match self {
            Self::S3 => "AES256",
            Self::Kms { algorithm, .. } => algorithm,
        }
    }

    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::S3 => None,
            Self::Kms { key, .. } => Some(key),
        }
    }

    /// Whether tags of such objects are the MD5 of their bytes: Amazon S3 API reference, `Object`,
    /// `ETag`.
    pub(crate) fn has_plain_etags(&self) -> bool {
        *self == Self::S3
    }
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            content_type: "binary/octet-stream".to_owned(),
            cache_control: None,
            content_disposition: None,
            content_encoding: None,
            content_language: None,
            expires: None,
            website_redirect: None,
            metadata: BTreeMap::new(),
            storage_class: STANDARD.to_owned(),
            encryption: Encryption::default(),
            acl: None,
            tagging: None,
        }
    }
}

impl Attributes {
    /// Reads the headers of PutObject, CreateMultipartUpload and CopyObject. The metadata comes from
    /// `s3s`, which decodes it. `kms_arn` is what key ids are put behind to make an ARN.
    pub(crate) fn read(
        headers: &HeaderMap,
        metadata: Option<Metadata>,
        kms_arn: &str,
    ) -> Result<Self, Refusal> {
        if headers.contains_key("x-amz-server-side-encryption-customer-algorithm") {
            return Err(Refusal::s3("NotImplemented"));
        }
        let metadata: BTreeMap<_, _> = metadata.unwrap_or_default().into_iter().collect();
        let size: usize = metadata
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if size > LARGEST_METADATA {
            return Err(Refusal::s3("MetadataTooLarge")
                .with("Size", size.to_string())
                .with("MaxSizeAllowed", LARGEST_METADATA.to_string()));
        }
        let mut attributes = Self {
            metadata,
            ..Self::default()
        };
        attributes.read_content_headers(headers);
        attributes.read_settings(headers, kms_arn)?;
        attributes.tagging = text(headers, "x-amz-tagging");
        Ok(attributes)
    }

    /// What a copy keeps of its source with `x-amz-metadata-directive: COPY`. Class, encryption and ACL
    /// are those of the request: Amazon S3 API reference, `CopyObject`.
    pub(crate) fn of_copy(
        source: &Self,
        headers: &HeaderMap,
        kms_arn: &str,
    ) -> Result<Self, Refusal> {
        let mut attributes = Self {
            storage_class: STANDARD.to_owned(),
            encryption: Encryption::default(),
            acl: None,
            website_redirect: None,
            ..source.clone()
        };
        attributes.read_settings(headers, kms_arn)?;
        Ok(attributes)
    }

    fn read_content_headers(&mut self, headers: &HeaderMap) {
        let get = |name: HeaderName| text(headers, name.as_str());
        if let Some(content_type) = get(header::CONTENT_TYPE) {
            self.content_type = content_type;
        }
        self.cache_control = get(header::CACHE_CONTROL);
        self.content_disposition = get(header::CONTENT_DISPOSITION);
        self.content_encoding =
            get(header::CONTENT_ENCODING).and_then(|encoding| without_chunking(&encoding));
        self.content_language = get(header::CONTENT_LANGUAGE);
        self.expires = get(header::EXPIRES)
            .and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, &text).ok());
    }

    fn read_settings(&mut self, headers: &HeaderMap, kms_arn: &str) -> Result<(), Refusal> {
        if let Some(class) = text(headers, "x-amz-storage-class") {
            if !STORAGE_CLASSES.contains(&class.as_str()) {
                return Err(
                    Refusal::s3("InvalidStorageClass").with("StorageClassRequested", class.clone())
                );
            }
            self.storage_class = class;
        }
        if let Some(acl) = text(headers, "x-amz-acl") {
            if !CANNED_ACLS.contains(&acl.as_str()) {
                return Err(Refusal::new(400, "InvalidArgument", "Invalid Argument")
                    .with("ArgumentName", "x-amz-acl")
                    .with("ArgumentValue", acl));
            }
            self.acl = Some(acl);
        }
        self.website_redirect = text(headers, "x-amz-website-redirect-location");
        self.encryption = encryption(headers, kms_arn)?;
        Ok(())
    }

    /// Whether reading takes a restore first: Amazon S3 user guide, "Working with archived objects".
    pub(crate) fn is_archived(&self) -> bool {
        matches!(self.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE")
    }
}

fn encryption(headers: &HeaderMap, kms_arn: &str) -> Result<Encryption, Refusal> {
    let key = text(headers, "x-amz-server-side-encryption-aws-kms-key-id");
    match text(headers, "x-amz-server-side-encryption").as_deref() {
        None | Some("AES256") if key.is_some() => Err(Refusal::new(
            400,
            "InvalidArgument",
            "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
        )
        .with("ArgumentName", "x-amz-server-side-encryption")),
        None | Some("AES256") => Ok(Encryption::S3),
        Some(algorithm @ ("aws:kms" | "aws:kms:dsse")) => Ok(Encryption::Kms {
            algorithm: algorithm.to_owned(),
            key: match key {
                Some(arn) if arn.starts_with("arn:") => arn,
                Some(id) => format!("{kms_arn}{id}"),
                // Stands for the key `aws/s3` of the account.
                None => format!("{kms_arn}00000000-0000-0000-0000-000000000000"),
            },
        }),
        Some(other) => Err(Refusal::new(
            400,
            "InvalidArgument",
            "The encryption method specified is not supported",
        )
        .with("ArgumentName", "x-amz-server-side-encryption")
        .with("ArgumentValue", other)),
    }
}

/// The framing of the request is not kept: Amazon S3 user guide, "Signature calculations for the
/// Authorization header: transferring payload in multiple chunks".
fn without_chunking(encoding: &str) -> Option<String> {
    let kept: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// The text of a header; an empty one counts as absent.
pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .filter(|text| !text.is_empty())
}
