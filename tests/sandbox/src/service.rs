//! The services on the one port, and how they are told apart.

use http::Method;

use crate::query::Form;

/// The only region of IAM: AWS General Reference, "AWS Identity and Access Management endpoints".
const IAM_REGION: &str = "us-east-1";

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Sts,
    Iam,
}

impl Service {
    /// The service that a form is for: the one it is signed for, else the one whose version it names.
    pub(crate) fn of_form(signed_for: Option<&str>, form: &Form) -> Self {
        match signed_for {
            Some("iam") => Self::Iam,
            Some("sts") => Self::Sts,
            _ if form.get("Version") == Some(Self::Iam.version()) => Self::Iam,
            _ => Self::Sts,
        }
    }

    /// The name in the scope of a signature.
    pub(crate) fn signing_name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Sts => "sts",
            Self::Iam => "iam",
        }
    }

    /// The region in the scope of a signature, in a sandbox of that region.
    pub(crate) fn signing_region(self, region: &str) -> &str {
        match self {
            Self::S3 | Self::Sts => region,
            Self::Iam => IAM_REGION,
        }
    }

    /// The only version of its API.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::S3 => "2006-03-01",
            Self::Sts => "2011-06-15",
            Self::Iam => "2010-05-08",
        }
    }

    /// The namespace of its XML.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::S3 => "http://s3.amazonaws.com/doc/2006-03-01/",
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
        }
    }
}

/// Whether a request is a form for a service with the Query protocol: they are posted to the root.
pub(crate) fn is_form(method: &Method, path: &str) -> bool {
    method == Method::POST && path == "/"
}
