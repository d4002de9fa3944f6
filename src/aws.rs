//! How AWS, or another store, is reached: addresses, region, certificates, and its time of day.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Region};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;
use aws_types::SdkConfig;

use crate::clock::{ServerClock, Word};
use crate::proxy;

/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(60);

/// Where the services are, as it was said; nothing is opened yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// The region to sign for.
    pub(crate) region: String,
    /// The addresses that were given; AWS's own where none was.
    pub(crate) urls: Urls,
    /// Only FIPS 140 endpoints of AWS.
    pub(crate) fips: bool,
    /// Endpoints of AWS that speak IPv6 as well.
    pub(crate) dual_stack: bool,
    /// `bucket` in the path rather than in the host name.
    pub(crate) path_style: bool,
    /// Certificates to trust besides the system's.
    pub(crate) ca_bundle: Option<PathBuf>,
}

/// Addresses of services that are not AWS's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Urls {
    pub(crate) s3: Option<String>,
    pub(crate) sts: Option<String>,
    pub(crate) iam: Option<String>,
    pub(crate) sso: Option<String>,
    pub(crate) sso_oidc: Option<String>,
    /// The metadata service of the instance, with its address family.
    pub(crate) imds: Option<String>,
}

impl Endpoints {
    /// Whether the bucket is at AWS itself.
    pub(crate) fn is_s3_of_aws(&self) -> bool {
        self.urls.s3.as_deref().is_none_or(is_aws)
    }
}

/// The parts that every client of a service is built with.
#[derive(Debug)]
pub(crate) struct Aws {
    pub(crate) endpoints: Endpoints,
    pub(crate) http: SharedHttpClient,
    pub(crate) clock: ServerClock,
}

/// Why no client can be built.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct AwsError(String);

impl Aws {
    /// Reads the certificates and makes the client that all services share.
    pub(crate) fn new(endpoints: Endpoints) -> Result<Arc<Self>, AwsError> {
        let mut trust = TrustStore::default();
        if let Some(path) = &endpoints.ca_bundle {
            let pem = std::fs::read(path).map_err(|error| {
                AwsError(format!(
                    "the certificates in {} cannot be read: {error}",
                    path.display()
                ))
            })?;
            trust = trust.with_pem_certificate(pem);
        }
        let tls = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|error| AwsError(format!("TLS cannot be set up: {error}")))?;
        // The builder of HTTPS clients knows no proxies (`HTTPS_PROXY`, `NO_PROXY`); the one of
        // their connectors does.
        let http = proxy::client(|proxies| {
            let tls = tls.clone();
            aws_smithy_http_client::Builder::new().build_with_connector_fn(
                move |settings, components| {
                    let mut connector = Connector::builder()
                        .proxy_config(proxies.clone())
                        .pool_idle_timeout(IDLE)
                        .tls_provider(Provider::Rustls(CryptoMode::Ring))
                        .tls_context(tls.clone());
                    connector.set_connector_settings(settings.cloned());
                    connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
                    connector.build()
                },
            )
        });
        Ok(Arc::new(Self {
            endpoints,
            http,
            clock: ServerClock::default(),
        }))
    }

    /// What the clients of all services but S3 have in common. A request takes `patience` at most.
    ///
    /// The caller adds [`Self::timekeeper`], which is a matter of each client.
    pub(crate) fn service(
        &self,
        region: &str,
        url: Option<&String>,
        patience: TimeoutConfig,
        retries: RetryConfig,
    ) -> SdkConfig {
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(self.http.clone())
            .time_source(self.clock.clone())
            .region(Region::new(region.to_owned()))
            .use_fips(self.endpoints.fips)
            .use_dual_stack(self.endpoints.dual_stack)
            .timeout_config(patience)
            .retry_config(retries);
        config.set_endpoint_url(url.cloned());
        config.build()
    }

    /// Hears the server's time in every answer.
    pub(crate) fn timekeeper(&self) -> Timekeeper {
        Timekeeper(self.clock.clone())
    }

    /// Where STS is, for people.
    pub(crate) fn sts_place(&self) -> String {
        match &self.endpoints.urls.sts {
            Some(url) => url.clone(),
            None => format!("the region {}", self.endpoints.region),
        }
    }
}

/// Compares the `Date` of every answer with the machine's clock.
#[derive(Debug)]
pub(crate) struct Timekeeper(ServerClock);

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Timekeeper {
    fn name(&self) -> &'static str {
        "Timekeeper"
    }

    // Not before the deserialization: the body of a refusal has been read only then.
    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        // A cache that says so has kept the answer, and its date, for a while (RFC 9111, 5.1).
        if response.headers().get("age").is_some() {
            return Ok(());
        }
        let date = response.headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        if let Some(date) = date.and_then(|date| SystemTime::try_from(date).ok()) {
            let is_refusal = matches!(response.status().as_u16(), 400 | 401 | 403)
                && response.body().bytes().is_some_and(blames_the_clock);
            let word = if is_refusal {
                Word::Refusal
            } else {
                Word::Passing
            };
            let headers = response.headers();
            let id = headers.get("x-amz-request-id");
            let id = id.or_else(|| headers.get("x-amzn-requestid"));
            self.0.hear(date, SystemTime::now(), word, id);
        }
        Ok(())
    }
}

/// Whether a refusal gives the time of day as its reason: S3 has a code for that (Amazon S3 API
/// reference, "Error responses"), to STS it is a wrong signature.
fn blames_the_clock(body: &[u8]) -> bool {
    const WORDS: [&str; 4] = [
        "RequestTimeTooSkewed",
        "RequestExpired",
        "Signature expired",
        "Signature not yet current",
    ];
    let contains = |word: &str| body.windows(word.len()).any(|part| part == word.as_bytes());
    WORDS.into_iter().any(contains)
}

/// The partition of an ARN, `aws-cn` of `arn:aws-cn:iam::123456789012:mfa/alice`.
pub(crate) fn partition(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:")?.split(':').next()
}

/// Whether an endpoint is one of AWS's own: docs.aws.amazon.com/general/latest/gr/s3.html.
pub(crate) fn is_aws(url: &str) -> bool {
    let host = url.split("//").nth(1).unwrap_or(url);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

/// The partition that a region is in: docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries.
pub(crate) fn partition_of_region(region: &str) -> &'static str {
    match region {
        r if r.starts_with("cn-") => "aws-cn",
        r if r.starts_with("us-gov-") => "aws-us-gov",
        r if r.starts_with("us-iso-") => "aws-iso",
        r if r.starts_with("us-isob-") => "aws-iso-b",
        r if r.starts_with("eu-isoe-") => "aws-iso-e",
        r if r.starts_with("us-isof-") => "aws-iso-f",
        r if r.starts_with("eusc-") => "aws-eusc",
        _ => "aws",
    }
}

/// The region to begin with in a partition where none is said: IAM signs for it, too.
pub(crate) fn home_region(partition: &str) -> &'static str {
    match partition {
        "aws-cn" => "cn-north-1",
        "aws-us-gov" => "us-gov-west-1",
        "aws-iso" => "us-iso-east-1",
        "aws-iso-b" => "us-isob-east-1",
        "aws-iso-e" => "eu-isoe-west-1",
        "aws-iso-f" => "us-isof-south-1",
        "aws-eusc" => "eusc-de-east-1",
        _ => "us-east-1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_tells_where_to_begin() {
        let begin = |arn| partition(arn).map(home_region);
        assert_eq!(
            begin("arn:aws-cn:iam::123456789012:mfa/alice"),
            Some("cn-north-1")
        );
        assert_eq!(
            begin("arn:aws-us-gov:iam::123456789012:role/r"),
            Some("us-gov-west-1")
        );
        assert_eq!(
            begin("arn:aws:iam::123456789012:mfa/alice"),
            Some("us-east-1")
        );
        assert_eq!(begin("GAHT12345678"), None);
    }

    #[test]
    fn every_home_region_is_in_its_partition() {
        for partition in [
            "aws",
            "aws-cn",
            "aws-us-gov",
            "aws-iso",
            "aws-iso-b",
            "aws-iso-e",
            "aws-iso-f",
            "aws-eusc",
        ] {
            assert_eq!(partition_of_region(home_region(partition)), partition);
        }
    }
}
