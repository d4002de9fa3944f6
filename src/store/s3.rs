//! Single requests to S3, each signed by the session it is given.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::RequestPayer;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::{Failure, Kind};
use super::limit::Limit;
use super::write::{Settings, facts, tag};
use super::{Entry, Object, Page, Query};
use crate::auth::{Generation, Session};
use crate::aws::Aws;

/// How long one attempt may take until its answer begins.
const ATTEMPT: Duration = Duration::from_secs(30);

/// How long one request may take with all its attempts.
pub(super) const REQUEST: Duration = Duration::from_secs(120);

/// How long a body may stand still before it is given up and resumed.
const STALL: Duration = Duration::from_secs(20);

/// The first pause before a request is sent again, as the SDK has it.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// How S3 is reached.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Its HTTP client is shared by all sessions, so that connections outlive them.
    pub(crate) aws: Arc<Aws>,
    /// The region to sign for: that of [`Self::aws`] until S3 names another.
    pub(crate) region: String,
    /// How many requests may run at once.
    pub(crate) max_requests: usize,
    /// How objects are written, and who pays.
    pub(crate) settings: Settings,
    /// How fast bytes may come.
    pub(crate) download: Arc<Limit>,
    /// What stands before the name of an object that is made to find out what the store
    /// honours.
    pub(crate) prefix: String,
    /// Where what was found out is remembered.
    pub(crate) remembered: Option<PathBuf>,
    /// The longest that the first pause before a request is sent again may be; each is up to
    /// twice as long as the one before.
    pub(crate) pause: Duration,
}

/// One bucket, reached with one session's keys.
#[derive(Debug, Clone)]
pub(crate) struct S3 {
    pub(super) client: aws_sdk_s3::Client,
    pub(super) bucket: Arc<str>,
    pub(super) generation: Generation,
    pub(super) settings: Arc<Settings>,
    download: Arc<Limit>,
    slots: Arc<Semaphore>,
}

/// Bytes that are on their way.
pub(crate) struct Body {
    stream: ByteStream,
    limit: Arc<Limit>,
    _slot: OwnedSemaphorePermit,
}

impl Body {
    /// The next bytes, `None` at the end; the caller counts whether it is the true end.
    pub(crate) async fn next(&mut self) -> Option<Result<bytes::Bytes, String>> {
        let chunk = self.stream.next().await?;
        if let Ok(bytes) = &chunk {
            self.limit.take(bytes.len() as u64).await;
        }
        Some(chunk.map_err(|error| crate::words::tame(&error.to_string())))
    }
}

impl S3 {
    /// Signs for `bucket` with the session's keys.
    pub(crate) fn new(
        endpoint: &Endpoint,
        slots: Arc<Semaphore>,
        bucket: Arc<str>,
        session: &Session,
    ) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(REQUEST)
            .build();
        // The default bucket of 500 retry tokens is shared by the process: 300 requests that
        // fail together would leave none for the rest.
        let retries = RetryPartition::custom("s3mfa-mount")
            .token_bucket(TokenBucket::unlimited())
            .build();
        let retry = RetryConfig::standard()
            .with_max_attempts(5)
            .with_initial_backoff(endpoint.pause);
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(endpoint.aws.http.clone())
            .time_source(endpoint.aws.clock.clone())
            // The clock is corrected for all services at once; doing it twice would undo it.
            .disable_clock_skew_correction(true)
            .interceptor(endpoint.aws.timekeeper())
            .retry_classifier(TooSkewed)
            .region(Region::new(endpoint.region.clone()))
            .use_fips(endpoint.aws.endpoints.fips)
            .use_dual_stack(endpoint.aws.endpoints.dual_stack)
            .force_path_style(endpoint.aws.endpoints.path_style)
            .credentials_provider(session.credentials.clone())
            // Expiry, single flight and refusals are the gate's; a second cache would serve
            // dead credentials.
            .identity_cache(IdentityCache::no_cache())
            .retry_config(retry)
            .retry_partition(retries)
            .timeout_config(timeouts)
            // Older stores refuse the trailers in which the SDK sends its checksums.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled()
                    .grace_period(STALL)
                    .build(),
            );
        config.set_endpoint_url(endpoint.aws.endpoints.urls.s3.clone());
        Self {
            client: aws_sdk_s3::Client::from_conf(config.build()),
            bucket,
            generation: session.generation,
            settings: Arc::new(endpoint.settings.clone()),
            download: Arc::clone(&endpoint.download),
            slots,
        }
    }

    /// The session that signs.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// What the object of this key is.
    ///
    /// HEAD's refusals have no body: a bare 400 or 403 is asked again as a GET of one byte,
    /// whose answer has a code.
    pub(crate) async fn head(&self, key: &str) -> Result<Object, Failure> {
        let answer = {
            let _slot = self.slot().await?;
            self.client
                .head_object()
                .bucket(&*self.bucket)
                .key(key)
                .set_request_payer(self.payer())
                .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
                .send()
                .await
        };
        match answer {
            Ok(output) => Ok(facts(output)),
            Err(error) => {
                let failure = Failure::read(self.generation, &error);
                match failure.kind {
                    Kind::Bare => self.probe(key).await,
                    _ => Err(failure),
                }
            }
        }
    }

    /// HEAD by way of GET: one byte, for the sake of the error's body.
    async fn probe(&self, key: &str) -> Result<Object, Failure> {
        let _slot = self.slot().await?;
        let request = self
            .client
            .get_object()
            .bucket(&*self.bucket)
            .key(key)
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .range("bytes=0-0");
        match request.send().await {
            Ok(output) => {
                // `bytes 0-0/1234`: the size stands behind the slash.
                let total = output
                    .content_range()
                    .and_then(|r| r.rsplit('/').next()?.parse().ok());
                Ok(Object {
                    size: total.unwrap_or_else(|| size(output.content_length)),
                    modified: time(output.last_modified),
                    etag: tag(output.e_tag),
                    facts: None,
                })
            }
            Err(error) => {
                let failure = Failure::read(self.generation, &error);
                // Only an object without a single byte has no byte 0: its listing tells the rest.
                match failure.kind {
                    Kind::Range => self.entry(key).await,
                    _ => Err(failure),
                }
            }
        }
    }

    /// What a listing says about exactly this key.
    pub(crate) async fn entry(&self, key: &str) -> Result<Object, Failure> {
        // A key sorts before everything that it is a prefix of.
        let page = self
            .list(&Query {
                prefix: key.to_owned(),
                limit: Some(1),
                ..Query::default()
            })
            .await?;
        match page.entries.into_iter().next() {
            Some(Entry::Object(found, object)) if found == key => Ok(object),
            _ => Err(Failure::new(Kind::NotFound, self.generation, "not listed")),
        }
    }

    /// One page of keys.
    pub(crate) async fn list(&self, query: &Query) -> Result<Page, Failure> {
        let _slot = self.slot().await?;
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&*self.bucket)
            .prefix(&query.prefix)
            .set_delimiter(query.folded.then(|| "/".to_owned()))
            .set_continuation_token(query.token.clone())
            .set_max_keys(query.limit)
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error))?;
        let prefixes = answer.common_prefixes.unwrap_or_default();
        let objects = answer.contents.unwrap_or_default();
        let mut entries = Vec::with_capacity(prefixes.len() + objects.len());
        entries.extend(
            prefixes
                .into_iter()
                .filter_map(|p| p.prefix)
                .map(Entry::Prefix),
        );
        for object in objects {
            let facts = Object {
                size: size(object.size),
                modified: time(object.last_modified),
                etag: tag(object.e_tag),
                facts: None,
            };
            if let Some(key) = object.key {
                entries.push(Entry::Object(key, facts));
            }
        }
        entries.sort_by(|a, b| a.key().cmp(b.key()));
        let next = answer.next_continuation_token;
        Ok(Page {
            entries,
            next: next.filter(|_| answer.is_truncated == Some(true)),
        })
    }

    /// The bytes of a range, if the object still has this tag.
    pub(crate) async fn get(
        &self,
        key: &str,
        etag: &str,
        range: Range<u64>,
    ) -> Result<Body, Failure> {
        let slot = self.slot().await?;
        let answer = self
            .client
            .get_object()
            .bucket(&*self.bucket)
            .key(key)
            .set_if_match((!etag.is_empty()).then(|| etag.to_owned()))
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .range(format!(
                "bytes={}-{}",
                range.start,
                range.end.saturating_sub(1)
            ))
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error))?;
        // A proxy or a store that overlooks the range or the condition must not get its bytes
        // into the wrong place.
        let starts = answer.content_range().map_or(0, range_start);
        if starts != range.start {
            let text = format!(
                "asked for bytes from {}, got them from {starts}",
                range.start
            );
            return Err(Failure::new(Kind::Other, self.generation, text));
        }
        let told = tag(answer.e_tag.clone());
        if !told.is_empty() && !etag.is_empty() && told != etag {
            return Err(Failure::new(Kind::Changed, self.generation, "another ETag"));
        }
        Ok(Body {
            stream: answer.body,
            limit: Arc::clone(&self.download),
            _slot: slot,
        })
    }

    /// Who pays, if not the owner of the bucket.
    pub(super) fn payer(&self) -> Option<RequestPayer> {
        let asks = self.settings.requester_pays;
        asks.then_some(RequestPayer::Requester)
    }

    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.map_err(|_| Failure::new(Kind::Other, self.generation, "the mount is ending"))
    }
}

/// What S3 refused because of this machine's clock is sent again: the refusal has put it right.
#[derive(Debug)]
struct TooSkewed;

impl ClassifyRetry for TooSkewed {
    fn name(&self) -> &'static str {
        "TooSkewed"
    }

    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let response = context.response();
        let refused = response.filter(|response| response.status().as_u16() == 403);
        let body = refused.and_then(|response| response.body().bytes());
        let code = b"<Code>RequestTimeTooSkewed</Code>";
        let is_about_time =
            body.is_some_and(|body| body.windows(code.len()).any(|window| window == code));
        match is_about_time {
            true => RetryAction::transient_error(),
            false => RetryAction::NoActionIndicated,
        }
    }
}

/// The first byte of `bytes 100-199/1234` (RFC 9110, 14.4); what cannot be read starts nowhere.
fn range_start(header: &str) -> u64 {
    header
        .strip_prefix("bytes ")
        .and_then(|range| range.split('-').next()?.parse().ok())
        .unwrap_or(u64::MAX)
}

pub(super) fn size(length: Option<i64>) -> u64 {
    u64::try_from(length.unwrap_or_default()).unwrap_or_default()
}

pub(super) fn time(stamp: Option<DateTime>) -> SystemTime {
    stamp
        .and_then(|stamp| SystemTime::try_from(stamp).ok())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
