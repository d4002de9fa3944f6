//! The services on the one port, and how they are told apart.

use http::Method;
use http::request::Parts;

use crate::query::Form;

/// The only region of IAM: AWS General Reference, "AWS Identity and Access Management endpoints".
const IAM_REGION: &str = "us-east-1";

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Query(QueryService),
    Json(JsonService),
}

/// A service with the Query protocol: signed forms are posted to its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryService {
    Sts,
    Iam,
}

/// A service that speaks JSON, and takes no signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonService {
    /// IAM Identity Center, where clients get tokens.
    SsoOidc,
    /// IAM Identity Center, where tokens get keys.
    SsoPortal,
}

/// What the head of a request tells about its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    S3,
    /// A form; it tells the service itself.
    Form,
    Json(JsonService),
}

impl Door {
    /// Buckets may have the names of the paths of other services, but requests for them are signed or
    /// have other parameters.
    pub(crate) fn of(parts: &Parts) -> Self {
        let is_signed = parts.headers.contains_key("authorization");
        let is_portal = || {
            let query = parts.uri.query().unwrap_or_default();
            parts.headers.contains_key("x-amz-sso_bearer_token") || query.contains("role_name=")
        };
        match (&parts.method, parts.uri.path()) {
            (&Method::POST, "/") => Self::Form,
            (&Method::POST, "/client/register" | "/device_authorization" | "/token")
                if !is_signed =>
            {
                Self::Json(JsonService::SsoOidc)
            }
            (&Method::GET, "/federation/credentials") if !is_signed && is_portal() => {
                Self::Json(JsonService::SsoPortal)
            }
            _ => Self::S3,
        }
    }
}

impl QueryService {
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
            Self::Sts => "sts",
            Self::Iam => "iam",
        }
    }

    /// The region in the scope of a signature, in a sandbox of that region.
    pub(crate) fn signing_region(self, region: &str) -> &str {
        match self {
            Self::Sts => region,
            Self::Iam => IAM_REGION,
        }
    }

    /// The only version of its API.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Sts => "2011-06-15",
            Self::Iam => "2010-05-08",
        }
    }

    /// The namespace of its XML.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
        }
    }
}

impl JsonService {
    /// Where its errors come from, as its errors say.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::SsoOidc => "com.amazonaws.sso.oidc",
            Self::SsoPortal => "com.amazonaws.switchboard.portal",
        }
    }
}
