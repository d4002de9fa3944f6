//! Single requests to S3, each signed by the session it is given.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::RequestPayer;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::{Failure, Kind};
use super::limit::Limit;
use super::listing::{Dialect, Listed};
use super::metadata::Metadata;
use super::retry;
use super::told::{self, Told};
use super::write::Settings;
use super::{Entry, Facts, Object, Page, Query, headers, tag};
use crate::auth::{Generation, Session};
use crate::aws::Aws;
use crate::words::tame;

/// How long one attempt may take until its answer begins.
const ATTEMPT: Duration = Duration::from_secs(30);

/// How long one request may take with all its attempts.
pub(super) const REQUEST: Duration = Duration::from_secs(120);

/// How long a body may stand still before it is given up and resumed.
const STALL: Duration = Duration::from_secs(20);

/// The first pause before a request is sent again, as the SDK has it.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// How often an object is looked at that is replaced between two looks.
const LOOKS: u32 = 3;

/// How many HEADs are asked at once for what a listing does not tell.
const HEADS: usize = 32;

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
    region: Arc<str>,
    pub(super) dialect: Arc<Dialect>,
    download: Arc<Limit>,
    slots: Arc<Semaphore>,
    /// The store has objects without ETags: what it tells besides has to do.
    untagged: Arc<AtomicBool>,
    /// The store has objects without a time, wherever it is asked.
    undated: Arc<AtomicBool>,
}

/// What the answer to HEAD or GET tells besides size, time and tag, from either type of the SDK.
macro_rules! facts {
    ($output:ident) => {{
        let metadata = $output.metadata.unwrap_or_default();
        let pairs = metadata
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        Facts {
            posix: Metadata::read(pairs),
            content_type: $output.content_type,
            cache_control: $output.cache_control,
            content_disposition: $output.content_disposition,
            content_encoding: $output.content_encoding,
            content_language: $output.content_language,
            expires: $output.expires_string,
            website_redirect: $output.website_redirect_location,
            storage_class: $output.storage_class.map(|class| class.as_str().to_owned()),
            sse: $output
                .server_side_encryption
                .map(|sse| sse.as_str().to_owned()),
            sse_kms_key_id: $output.ssekms_key_id,
            version_id: $output.version_id,
            complete: true,
        }
    }};
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
        Some(chunk.map_err(|error| tame(&error.to_string())))
    }
}

impl S3 {
    /// Signs for `bucket` with the session's keys.
    pub(crate) fn new(
        endpoint: &Endpoint,
        slots: Arc<Semaphore>,
        bucket: Arc<str>,
        session: &Session,
        dialect: Arc<Dialect>,
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
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(endpoint.aws.http.clone())
            .time_source(endpoint.aws.clock.clone())
            // The clock is corrected for all services at once; doing it twice would undo it.
            .disable_clock_skew_correction(true)
            .interceptor(endpoint.aws.timekeeper())
            .interceptor(headers::Reader)
            .retry_classifier(retry::Passing)
            .region(Region::new(endpoint.region.clone()))
            .use_fips(endpoint.aws.endpoints.fips)
            .use_dual_stack(endpoint.aws.endpoints.dual_stack)
            .force_path_style(endpoint.aws.endpoints.path_style)
            .credentials_provider(session.credentials.clone())
            // Expiry, single flight and refusals are the gate's; a second cache would serve
            // dead credentials.
            .identity_cache(IdentityCache::no_cache())
            .retry_config(retry::config(endpoint.pause))
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
            region: endpoint.region.as_str().into(),
            dialect,
            download: Arc::clone(&endpoint.download),
            slots,
            untagged: Arc::default(),
            undated: Arc::default(),
        }
    }

    /// The session that signs.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// How it writes.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same with other settings.
    pub(super) fn with_settings(&self, settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            ..self.clone()
        }
    }

    /// Whether an object's ACL gives a group a right. `group` is the end of its URI.
    pub(super) async fn grants(&self, key: &str, group: &str) -> Result<bool, Failure> {
        let request = self.client.get_object_acl().bucket(&*self.bucket).key(key);
        let answer = request
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error))?;
        let grants = answer.grants.unwrap_or_default();
        let grantees = grants
            .iter()
            .filter_map(|grant| grant.grantee.as_ref()?.uri());
        Ok(grantees.into_iter().any(|uri| uri.ends_with(group)))
    }

    /// The region that it signs for.
    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// What the object of this key is.
    ///
    /// HEAD may leave something out, and its refusals have no body: then a GET of one byte is asked,
    /// and after that a listing. See [`told`].
    ///
    /// Errors: [`Kind::Untold`] if none of them tells the size, and a tag or a time.
    pub(crate) async fn head(&self, key: &str) -> Result<Object, Failure> {
        for _ in 0..LOOKS {
            let mut told = match self.ask_head(key).await {
                Ok(told) => told,
                Err(failure) if is_to_be_asked_again(&failure) => Told::default(),
                Err(failure) => return Err(failure),
            };
            if !self.is_enough(&told) {
                told = match told.and_of_the_same(self.ask_get(key).await?) {
                    Some(told) => told,
                    // It was replaced in between.
                    None => continue,
                };
            }
            let mut is_all_asked = true;
            if !self.is_enough(&told) {
                told = match self.ask_list(key).await {
                    Ok(listed) => match (told.clone().and(listed), told.object()) {
                        (Some(told), _) => told,
                        // A store whose listings have times of their own.
                        (None, Some(_)) => told,
                        (None, None) => continue,
                    },
                    // Who may read need not be allowed to list, and a listing may come behind.
                    Err(failure) if told.object().is_some() => {
                        tracing::debug!("{key}: {}", failure.text);
                        is_all_asked = failure.kind == Kind::NotFound;
                        told
                    }
                    Err(failure) => return Err(failure),
                };
            }
            let Some(object) = told.object() else {
                let text = format!(
                    "neither HEAD nor GET nor a listing tells {}: nothing can be done with \
                     an object of which that is unknown. A proxy between here and the store may \
                     take it out: try the store's own address (--endpoint-url)",
                    told.missing()
                );
                return Err(Failure::new(Kind::Untold, self.generation, text));
            };
            // One answer that did not come teaches nothing of the store.
            if told.etag.is_none() && is_all_asked {
                self.untagged.store(true, Ordering::Relaxed);
            }
            if told.modified.is_none() && is_all_asked {
                self.undated.store(true, Ordering::Relaxed);
            }
            return Ok(object);
        }
        let text = format!("{}: it changes all the time", tame(key));
        Err(Failure::new(Kind::Busy, self.generation, text))
    }

    /// Whether what is told of an object is all that can be had. A time that only HEAD tells counts:
    /// without it, one file would have one time when it is listed, and another when it is opened.
    fn is_enough(&self, told: &Told) -> bool {
        let has_tag = told.etag.is_some() || self.untagged.load(Ordering::Relaxed);
        let has_time = told.modified.is_some() || self.undated.load(Ordering::Relaxed);
        has_tag && has_time && told.object().is_some()
    }

    async fn ask_head(&self, key: &str) -> Result<Told, Failure> {
        let _slot = self.slot().await?;
        let request = self.client.head_object().bucket(&*self.bucket).key(key);
        let request = request
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone());
        let output = request
            .send()
            .await
            .map_err(|error| Failure::read(self.generation, &error))?;
        let (size, modified) = (output.content_length, output.last_modified);
        let etag = output.e_tag.clone();
        let facts = facts!(output);
        Ok(Told::new(size, modified, etag.as_deref(), Some(facts)))
    }

    /// HEAD by way of GET: one byte, for the sake of `Content-Range`, and of the error's body.
    async fn ask_get(&self, key: &str) -> Result<Told, Failure> {
        let _slot = self.slot().await?;
        let request = self.client.get_object().bucket(&*self.bucket).key(key);
        let request = request
            .set_request_payer(self.payer())
            .set_expected_bucket_owner(self.settings.expected_bucket_owner.clone())
            .range("bytes=0-0");
        match request.send().await {
            Ok(output) => {
                let size = match &output.content_range {
                    Some(range) => told::total(range).and_then(|total| i64::try_from(total).ok()),
                    // The range was overlooked: this is the length of all of it. Of one byte, it may be
                    // that of the range.
                    None => output.content_length.filter(|length| *length != 1),
                };
                let (modified, etag) = (output.last_modified, output.e_tag.clone());
                let facts = facts!(output);
                Ok(Told::new(size, modified, etag.as_deref(), Some(facts)))
            }
            Err(error) => {
                let failure = Failure::read(self.generation, &error);
                if failure.kind != Kind::Range {
                    return Err(failure);
                }
                // Only an object without a single byte has no byte 0: `bytes */0`.
                let headers = error.raw_response().map(|response| response.headers());
                let range = headers.and_then(|headers| headers.get("content-range"));
                let size = range.and_then(told::total);
                let size = size.and_then(|size| i64::try_from(size).ok());
                Ok(Told::new(size, None, None, None))
            }
        }
    }

    /// What a listing says about exactly this key.
    async fn ask_list(&self, key: &str) -> Result<Told, Failure> {
        // A key sorts before everything that it is a prefix of.
        let query = Query {
            prefix: key.to_owned(),
            limit: Some(1),
            ..Query::default()
        };
        let mut lines = self.page(&query).await?.entries.into_iter();
        match lines.find(|listed| listed.key() == key) {
            Some(Listed::Object(_, told)) => Ok(told),
            _ => Err(Failure::new(Kind::NotFound, self.generation, "not listed")),
        }
    }

    /// What a listing says about exactly this key.
    pub(crate) async fn entry(&self, key: &str) -> Result<Object, Failure> {
        match self.ask_list(key).await?.object() {
            Some(object) => Ok(object),
            None => self.head(key).await,
        }
    }

    /// One page of keys. What it leaves out of an object is asked for with HEAD.
    pub(crate) async fn list(&self, query: &Query) -> Result<Page, Failure> {
        let page = self.page(query).await?;
        let entries = stream::iter(page.entries).map(|listed| async {
            let (key, told) = match listed {
                Listed::Prefix(prefix) => return Ok(Some(Entry::Prefix(prefix))),
                Listed::Object(key, told) => (key, told),
            };
            if self.is_enough(&told)
                && let Some(object) = told.object()
            {
                return Ok(Some(Entry::Object(key, object)));
            }
            match self.head(&key).await {
                Ok(object) => Ok(Some(Entry::Object(key, object))),
                Err(failure) if failure.kind == Kind::NotFound => Ok(None),
                Err(failure) => match (failure.kind.clone(), told.object()) {
                    // What may be listed need not be readable.
                    (Kind::Denied | Kind::Bare, Some(object)) => {
                        Ok(Some(Entry::Object(key, object)))
                    }
                    _ => Err(failure),
                },
            }
        });
        let entries: Vec<Option<Entry>> = entries.buffered(HEADS).try_collect().await?;
        Ok(Page {
            entries: entries.into_iter().flatten().collect(),
            unreadable: page.unreadable,
            is_sure: page.is_sure,
            next: page.next,
        })
    }

    /// The keys and prefixes of one page alone: whatever a listing leaves out of an object.
    pub(crate) async fn names(&self, query: &Query) -> Result<Page<String>, Failure> {
        let page = self.page(query).await?;
        let names = page.entries.into_iter().map(|listed| match listed {
            Listed::Object(key, _) | Listed::Prefix(key) => key,
        });
        Ok(Page {
            entries: names.collect(),
            unreadable: page.unreadable,
            is_sure: page.is_sure,
            next: page.next,
        })
    }

    /// The bytes of a range, if the object is still this version, or has a version with this id that
    /// is.
    pub(crate) async fn get(
        &self,
        key: &str,
        object: &Object,
        version: Option<&str>,
        range: Range<u64>,
    ) -> Result<Body, Failure> {
        let slot = self.slot().await?;
        let condition = tag::is_strong(&object.etag).then(|| object.etag.clone());
        let answer = self
            .client
            .get_object()
            .bucket(&*self.bucket)
            .key(key)
            .set_version_id(version.map(str::to_owned))
            .set_if_match(condition)
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
                "{}: asked for bytes from {}, got them from {starts}",
                tame(key),
                range.start
            );
            return Err(Failure::new(Kind::Other, self.generation, text));
        }
        let size = match answer.content_range() {
            Some(range) => told::total(range).and_then(|total| i64::try_from(total).ok()),
            None => answer.content_length,
        };
        let told = Told::new(size, answer.last_modified, answer.e_tag.as_deref(), None);
        let is_it = told.size.is_none_or(|size| size == object.size)
            && match (&told.etag, told.modified) {
                (Some(tag), _) if tag::is_told(&object.etag) => tag::is_same(tag, &object.etag),
                (_, Some(modified)) if !tag::is_told(&object.etag) => {
                    tag::stand_in(modified, object.size) == object.etag
                }
                // It does not say which version these bytes are of: nothing else may be there.
                _ => {
                    drop(slot);
                    return self.unsaid(key, object, answer.body).await;
                }
            };
        if !is_it {
            let text = "it is another version by now";
            return Err(Failure::new(Kind::Changed, self.generation, text));
        }
        Ok(self.body(answer.body, slot))
    }

    /// The bytes of an answer that does not say of which version they are: a version that is there
    /// before and after the answer began is theirs.
    async fn unsaid(
        &self,
        key: &str,
        object: &Object,
        stream: ByteStream,
    ) -> Result<Body, Failure> {
        if !self.head(key).await?.is_version(object) {
            let text = "it is another version by now";
            return Err(Failure::new(Kind::Changed, self.generation, text));
        }
        Ok(self.body(stream, self.slot().await?))
    }

    fn body(&self, stream: ByteStream, slot: OwnedSemaphorePermit) -> Body {
        Body {
            stream,
            limit: Arc::clone(&self.download),
            _slot: slot,
        }
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

/// Whether HEAD has only shown that it cannot tell: its refusals have no body, and an answer that
/// cannot be read may be one to HEAD alone. hyper calls a length that is no number a broken connection.
fn is_to_be_asked_again(failure: &Failure) -> bool {
    match failure.kind {
        Kind::Bare | Kind::Untold => true,
        Kind::Unreachable(_) => failure.text.contains("content-length"),
        _ => false,
    }
}

/// The first byte of `bytes 100-199/1234` (RFC 9110, 14.4); what cannot be read starts nowhere.
fn range_start(header: &str) -> u64 {
    header
        .strip_prefix("bytes ")
        .and_then(|range| range.split('-').next()?.parse().ok())
        .unwrap_or(u64::MAX)
}
