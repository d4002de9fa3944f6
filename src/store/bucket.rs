//! The gate: waits for a session, signs, sends, and knows what to do with a no.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{OnceCell, Semaphore};

use super::failure::{Failure, Kind};
use super::inspect::Inspector;
use super::listing::Dialect;
use super::s3::{Body, Endpoint, S3};
use super::support::Support;
use super::verdict::{Action, Evidence, FRESH, Scope, Verdict};
use super::{Object, Page, Query, StoreError};
use crate::auth::{Asker, AuthError, Generation, Reason, Rung, Session, Sessions};
use crate::aws::is_aws;

/// How many sessions one request may wear out: its own, and one more for a race.
const RENEWALS: u32 = 2;

/// How often a request is sent again with a session that somebody else renewed.
const REPLAYS: u32 = 5;

/// How often S3 may name another region within [`SETTLING`]: a bucket is in one. The region of
/// the command line may be wrong, and the one that is named first may be that of the endpoint.
const MOVES: usize = 2;

/// The time in which those count.
const SETTLING: Duration = Duration::from_secs(60);

/// The bucket of one mount.
pub(crate) struct Bucket {
    name: Arc<str>,
    endpoint: RwLock<Endpoint>,
    slots: Arc<Semaphore>,
    sessions: Arc<Sessions>,
    evidence: Mutex<Evidence>,
    signer: Mutex<Option<S3>>,
    /// When S3 has named another region, the last ones.
    moved: Mutex<Vec<Instant>>,
    requests: Requests,
    dialect: Arc<Dialect>,
    pub(super) support: RwLock<Support>,
    pub(super) finding: OnceCell<()>,
    /// When that has failed last.
    pub(super) not_found_out: Mutex<Option<Instant>>,
    /// It is AWS itself, of which everything is known.
    pub(super) is_aws: bool,
}

/// How many requests were sent, by kind.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) head: AtomicU64,
    pub(crate) list: AtomicU64,
    pub(crate) get: AtomicU64,
    pub(crate) put: AtomicU64,
    pub(crate) copy: AtomicU64,
    pub(crate) delete: AtomicU64,
    pub(crate) replayed: AtomicU64,
}

/// The right to send requests with one session, without waiting for another.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    session: Arc<Session>,
    pub(super) s3: S3,
}

impl Lease {
    /// The session that signs.
    pub(crate) fn generation(&self) -> Generation {
        self.s3.generation()
    }

    fn region(&self) -> &str {
        self.s3.region()
    }
}

impl Bucket {
    /// Reaches the bucket `name` with the sessions of `sessions`.
    pub(crate) fn new(name: &str, endpoint: Endpoint, sessions: Arc<Sessions>) -> Self {
        let support = match endpoint.aws.endpoints.urls.s3 {
            // AWS itself honours them all.
            None => Support::FULL,
            Some(ref url) if is_aws(url) => Support::FULL,
            Some(_) => Support::UNKNOWN,
        };
        Self {
            name: name.into(),
            slots: Arc::new(Semaphore::new(endpoint.max_requests)),
            dialect: Arc::new(Dialect::of(&endpoint)),
            endpoint: RwLock::new(endpoint),
            sessions,
            evidence: Mutex::default(),
            signer: Mutex::default(),
            moved: Mutex::default(),
            requests: Requests::default(),
            support: RwLock::new(support),
            is_aws: support.known,
            finding: OnceCell::new(),
            not_found_out: Mutex::default(),
        }
    }

    /// Where an object is, for people.
    pub(crate) fn url(&self, key: &str) -> String {
        let endpoint = self.endpoint.read();
        match &endpoint.aws.endpoints.urls.s3 {
            Some(url) => format!("{}/{}/{key}", url.trim_end_matches('/'), self.name),
            None => format!(
                "https://{}.s3.{}.amazonaws.com/{key}",
                self.name, endpoint.region
            ),
        }
    }

    /// Where to try what the store honours, and where to remember it.
    pub(super) fn probing(&self) -> (String, Option<PathBuf>) {
        let endpoint = self.endpoint.read();
        (endpoint.prefix.clone(), endpoint.remembered.clone())
    }

    /// What was sent so far.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Signs for another region from now on: the one that S3 named. `signed_for` is the one that
    /// it refused. Returns whether there is another one to sign for.
    ///
    /// Errors: if S3 names another one each time.
    fn move_to(&self, region: &str, signed_for: &str) -> Result<bool, StoreError> {
        let mut endpoint = self.endpoint.write();
        if endpoint.region == region {
            // Another request has heard so before, unless it is the very one that was refused.
            return Ok(signed_for != region);
        }
        let mut moved = self.moved.lock();
        moved.retain(|at| at.elapsed() < SETTLING);
        if moved.len() >= MOVES {
            return Err(StoreError::NoRegion {
                before: endpoint.region.clone(),
                now: region.to_owned(),
            });
        }
        moved.push(Instant::now());
        tracing::info!("the bucket is in {region}");
        region.clone_into(&mut endpoint.region);
        drop((endpoint, moved));
        *self.signer.lock() = None;
        Ok(true)
    }

    /// What the object of this key is.
    pub(crate) async fn head(&self, asker: &Asker, key: &str) -> Result<Object, StoreError> {
        let mut attempt = self.attempt(asker, Action::Read, key).await?;
        loop {
            self.requests.head.fetch_add(1, Ordering::Relaxed);
            match attempt.lease().s3.head(key).await {
                Ok(object) => return Ok(attempt.worked(object)),
                Err(failure) => attempt.again(failure).await?,
            }
        }
    }

    /// What a listing says about exactly this key.
    pub(crate) async fn entry(&self, asker: &Asker, key: &str) -> Result<Object, StoreError> {
        let mut attempt = self.attempt(asker, Action::List, key).await?;
        loop {
            self.requests.list.fetch_add(1, Ordering::Relaxed);
            match attempt.lease().s3.entry(key).await {
                Ok(object) => return Ok(attempt.worked(object)),
                Err(failure) => attempt.again(failure).await?,
            }
        }
    }

    /// What HEAD tells of an object, if it is the one that a listing has told of; `None` if it is
    /// another by now.
    ///
    /// At Swift, the copy of an object in parts has one tag in listings and another in headers.
    pub(crate) async fn listed(
        &self,
        asker: &Asker,
        key: &str,
        listed: &Object,
    ) -> Result<Option<Object>, StoreError> {
        let found = self.head(asker, key).await?;
        if found.is_version(listed) {
            return Ok(Some(found));
        }
        if self.is_aws || found.size != listed.size {
            return Ok(None);
        }
        let again = match self.entry(asker, key).await {
            Err(StoreError::NotFound) => return Ok(None),
            again => again?,
        };
        Ok(again.is_version(listed).then_some(found))
    }

    /// One page of keys.
    pub(crate) async fn list(&self, asker: &Asker, query: &Query) -> Result<Page, StoreError> {
        let mut attempt = self.attempt(asker, Action::List, &query.prefix).await?;
        loop {
            self.requests.list.fetch_add(1, Ordering::Relaxed);
            match attempt.lease().s3.list(query).await {
                Ok(page) => return Ok(attempt.worked(page)),
                Err(failure) => attempt.again(failure).await?,
            }
        }
    }

    /// The keys and prefixes of one page alone.
    pub(crate) async fn names(
        &self,
        asker: &Asker,
        query: &Query,
    ) -> Result<Page<String>, StoreError> {
        let mut attempt = self.attempt(asker, Action::List, &query.prefix).await?;
        loop {
            self.requests.list.fetch_add(1, Ordering::Relaxed);
            match attempt.lease().s3.names(query).await {
                Ok(names) => return Ok(attempt.worked(names)),
                Err(failure) => attempt.again(failure).await?,
            }
        }
    }

    /// Begins something that needs a session, and waits for one if there is none.
    pub(crate) async fn attempt<'a>(
        &'a self,
        asker: &'a Asker,
        action: Action,
        key: &str,
    ) -> Result<Attempt<'a>, StoreError> {
        let session = self.sessions.current(asker).await?;
        Ok(Attempt {
            bucket: self,
            asker,
            scope: Scope {
                action,
                key: key.to_owned(),
            },
            lease: self.sign_with(session),
            renewals: 0,
            replays: 0,
            moves: 0,
            denied: false,
            climbed: false,
            outgrown: None,
        })
    }

    /// Bytes, with the session of a lease and no other: a refusal comes back as it is.
    pub(crate) async fn get(
        &self,
        lease: &Lease,
        key: &str,
        object: &Object,
        version: Option<&str>,
        range: Range<u64>,
    ) -> Result<Body, Failure> {
        self.requests.get.fetch_add(1, Ordering::Relaxed);
        lease.s3.get(key, object, version, range).await
    }

    /// A lease on the live session, if there is one: for what must never wait for a person.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.sessions.live().map(|session| self.sign_with(session))
    }

    /// Whether nothing shows that the secret of the live session's keys is right, where they are used as
    /// they are: see [`Inspector::doubt`]. A session of STS was granted to a right one.
    pub(crate) async fn doubt(&self, prefix: &str) -> Option<String> {
        let session = self.sessions.live()?;
        if session.rung != Rung::Plain || self.evidence.lock().is_accepted(session.generation) {
            return None;
        }
        let endpoint = self.endpoint.read().clone();
        Inspector::doubt(&endpoint, &self.name, &session.credentials, prefix).await
    }

    /// Whether there is a session, or one is to be had without anybody being asked.
    pub(crate) async fn opens_for_nobody(&self) -> bool {
        self.sessions.current(&Asker::nobody()).await.is_ok()
    }

    /// Runs `serve` if content may be served. See [`Sessions::while_live`].
    pub(crate) fn while_live<R>(&self, serve: impl FnOnce() -> R) -> Option<R> {
        self.sessions.while_live(serve)
    }

    fn sign_with(&self, session: Arc<Session>) -> Lease {
        let mut signer = self.signer.lock();
        let s3 = match &*signer {
            Some(s3) if s3.generation() == session.generation => s3.clone(),
            _ => {
                let s3 = S3::new(
                    &self.endpoint.read(),
                    Arc::clone(&self.slots),
                    Arc::clone(&self.name),
                    &session,
                    Arc::clone(&self.dialect),
                );
                *signer = Some(s3.clone());
                s3
            }
        };
        Lease { session, s3 }
    }

    /// Whether a failure speaks of a session that is no longer the live one.
    fn is_outdated(&self, failure: &Failure) -> bool {
        matches!(failure.kind, Kind::Token | Kind::Denied | Kind::Bare)
            && self
                .sessions
                .live()
                .is_none_or(|live| live.generation != failure.generation)
    }

    /// Whether S3 never accepted this session, although it is fresh: another one will not do
    /// better, and asking for a code would not end.
    fn is_misfit(&self, lease: &Lease) -> bool {
        let age = self.sessions.age(&lease.session);
        // Keys that are used as they are may have ended, which a login finds out.
        lease.session.rung != Rung::Plain
            && lease.session.is_new
            && age < FRESH
            && !self.evidence.lock().is_accepted(lease.generation())
    }

    /// What a 403 means.
    async fn judge(&self, lease: &Lease, scope: &Scope) -> Judgement {
        if lease.session.credentials.session_token().is_none() {
            // Long-term keys do not wear out.
            return Judgement::Real;
        }
        let generation = lease.generation();
        let mut age = self.sessions.age(&lease.session);
        if !lease.session.is_new && !self.evidence.lock().is_accepted(generation) {
            // Found, and never seen to work: it may be dead however young it is.
            age = age.max(FRESH);
        }
        let verdict = self.evidence.lock().denied(generation, age, scope);
        match verdict {
            Verdict::Real => return Judgement::Real,
            Verdict::Ask(witness) if self.still_works(lease, &witness).await => {
                return Judgement::Real;
            }
            Verdict::Ask(_) | Verdict::Renew => {}
        }
        if age < FRESH {
            return Judgement::WornOut;
        }
        let elsewhere = self.evidence.lock().elsewhere(generation, scope);
        match elsewhere {
            Some(witness) if self.still_works(lease, &witness).await => {
                self.evidence.lock().limit(scope);
                Judgement::TooOldHere
            }
            _ => Judgement::WornOut,
        }
    }

    /// Whether something that worked with a session before works with it now.
    async fn still_works(&self, lease: &Lease, witness: &Scope) -> bool {
        let answer = match witness.action {
            // A witness changes nothing, so it is one of these two.
            Action::Read | Action::Write | Action::Delete => {
                self.requests.head.fetch_add(1, Ordering::Relaxed);
                lease.s3.head(&witness.key).await.map(drop)
            }
            Action::List => {
                self.requests.list.fetch_add(1, Ordering::Relaxed);
                let query = Query {
                    prefix: witness.key.clone(),
                    limit: Some(1),
                    ..Query::default()
                };
                lease.s3.names(&query).await.map(drop)
            }
        };
        !matches!(
            answer.map_err(|f| f.kind),
            Err(Kind::Token | Kind::Denied | Kind::Bare)
        )
    }

    /// Remembers a denial that is real.
    fn settle(&self, lease: &Lease, scope: &Scope, failure: &Failure) {
        let age = self.sessions.age(&lease.session);
        let is_new = self.evidence.lock().settle(lease.generation(), age, scope);
        if !is_new {
            return;
        }
        match self.evidence.lock().is_accepted(lease.generation()) {
            true => tracing::warn!(
                "denied, while the session works elsewhere: {}. If this prefix demands a fresher \
                 code, `s3mfa-mount renew` gives it one. Further denials under it are not logged",
                failure.text
            ),
            false => tracing::warn!(
                "denied, and nothing has worked with this session so far: {}. Further denials under \
                 the same prefix are not logged",
                failure.text
            ),
        }
    }
}

/// What a 403 means.
enum Judgement {
    /// The policy means it.
    Real,
    /// The session has ended, or is too old for the bucket.
    WornOut,
    /// The session is too old for this part of the bucket, and good for the rest.
    TooOldHere,
}

/// Something that is tried with one session after another, until it works or cannot.
pub(crate) struct Attempt<'a> {
    bucket: &'a Bucket,
    asker: &'a Asker,
    scope: Scope,
    lease: Lease,
    renewals: u32,
    replays: u32,
    /// How often S3 has named another region.
    moves: usize,
    /// A denial was answered with a new session already: the next one is real.
    denied: bool,
    /// It was answered with a session that stands higher.
    climbed: bool,
    /// How old the code was whose session had worn out.
    outgrown: Option<Duration>,
}

impl Attempt<'_> {
    /// The session to try with now.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// It worked, which is worth remembering.
    pub(crate) fn worked<T>(self, value: T) -> T {
        self.note();
        value
    }

    /// It failed. Returns when it is worth trying again; an error is final.
    pub(crate) async fn again(&mut self, failure: Failure) -> Result<(), StoreError> {
        let sessions = &self.bucket.sessions;
        let reason = match failure.kind.clone() {
            // Somebody renewed meanwhile, or the mount was locked: its failures are moot.
            _ if self.bucket.is_outdated(&failure) && self.replays < REPLAYS => {
                self.replays += 1;
                Reason::Rejected(sessions.now())
            }
            Kind::Token if self.renewals < RENEWALS && !self.bucket.is_misfit(&self.lease) => {
                self.renewals += 1;
                Reason::Rejected(sessions.now())
            }
            Kind::Denied | Kind::Bare => {
                let (bucket, lease) = (self.bucket, &self.lease);
                // What nobody waits for must not end a session that may be good for the rest.
                let may_end_it = (self.asker.identify)(self.asker.tid).may_prompt;
                if self.denied {
                    bucket.settle(lease, &self.scope, &failure);
                    return Err(StoreError::Denied(failure.text));
                }
                if !may_end_it {
                    return Err(StoreError::Denied(failure.text));
                }
                let reason = Reason::TooOld(sessions.age(&lease.session));
                match bucket.judge(lease, &self.scope).await {
                    Judgement::Real => return self.climb(failure).await,
                    Judgement::TooOldHere => {
                        self.denied = true;
                        let generation = failure.generation;
                        let session = sessions.refresh(generation, reason, self.asker).await?;
                        self.lease = bucket.sign_with(session);
                        return Ok(());
                    }
                    Judgement::WornOut => {
                        self.denied = true;
                        let session = &lease.session;
                        self.outgrown = session.rung.has_mfa().then(|| sessions.age(session));
                        reason
                    }
                }
            }
            Kind::Region(region) if self.moves < MOVES => {
                if !self.bucket.move_to(&region, self.lease.region())? {
                    return Err(failure.into());
                }
                self.moves += 1;
                self.lease = self.bucket.sign_with(Arc::clone(&self.lease.session));
                return Ok(());
            }
            Kind::Region(now) => {
                let before = self.lease.region().to_owned();
                return Err(StoreError::NoRegion { before, now });
            }
            Kind::NotFound | Kind::Changed => {
                // Both are told only to those who may know.
                self.note();
                return Err(failure.into());
            }
            // Who stores something names it.
            Kind::Untold if self.scope.action != Action::Write => {
                let key = crate::words::tame(&self.scope.key);
                return Err(StoreError::Untold(format!("{key}: {}", failure.text)));
            }
            _ => return Err(failure.into()),
        };
        let requests = &self.bucket.requests;
        requests.replayed.fetch_add(1, Ordering::Relaxed);
        let session = sessions
            .renew(failure.generation, reason, self.asker)
            .await?;
        self.lease = self.bucket.sign_with(session);
        Ok(())
    }

    /// What a session without MFA is denied, one with MFA may be allowed: goes there, if there is a
    /// way. If not, the denial stands.
    async fn climb(&mut self, failure: Failure) -> Result<(), StoreError> {
        let (bucket, lease) = (self.bucket, &self.lease);
        match bucket.sessions.climb(&lease.session, self.asker).await {
            Ok(Some(session)) => {
                // One that was found may be too old for this bucket.
                (self.denied, self.climbed) = (session.is_new, true);
                self.lease = bucket.sign_with(session);
                Ok(())
            }
            Err(AuthError::NoDevice(why)) => {
                Err(StoreError::Denied(format!("{}; {why}", failure.text)))
            }
            Err(error) => Err(error.into()),
            Ok(None) => {
                bucket.settle(lease, &self.scope, &failure);
                Err(StoreError::Denied(failure.text))
            }
        }
    }

    fn note(&self) {
        let mut evidence = self.bucket.evidence.lock();
        evidence.worked(self.lease.generation(), &self.scope);
        drop(evidence);
        let sessions = &self.bucket.sessions;
        if self.climbed {
            sessions.worked(&self.lease.session);
        }
        if let Some(age) = self.outgrown {
            sessions.learn_age_limit(age);
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Kind::NotFound => Self::NotFound,
            // With If-Match, a range behind the end cannot be of the object that was opened.
            Kind::Changed | Kind::Range => Self::Changed,
            Kind::Archived => Self::Archived,
            Kind::Denied | Kind::Bare => Self::Denied(failure.text),
            Kind::Region(region) => Self::Region(region),
            Kind::Unreachable(timed_out) => Self::Unreachable {
                timed_out,
                message: failure.text,
            },
            Kind::Token => Self::Service(format!(
                "S3 refuses a session that STS has just granted ({}): check --region and \
                 --sts-endpoint-url",
                failure.text
            )),
            Kind::Busy => Self::Busy(failure.text),
            Kind::NoUpload | Kind::BadPart => Self::NoUpload(failure.text),
            Kind::TooManyParts(most) => Self::TooManyParts {
                most,
                text: failure.text,
            },
            Kind::TooLarge => Self::TooLarge(failure.text),
            Kind::LongKey => Self::LongKey,
            Kind::Unsupported => Self::Unsupported(failure.text),
            Kind::Garbled => Self::Garbled(failure.text),
            Kind::Signature => Self::Signature(failure.text),
            Kind::Untold => Self::Untold(failure.text),
            Kind::Listing => Self::Listing(failure.text),
            Kind::Other => Self::Service(failure.text),
        }
    }
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
