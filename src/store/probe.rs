//! Finds out what a store honours: each condition by itself, on a key of its own.
//!
//! A condition counts only if it keeps a wrong request from acting and lets the right one through:
//! Ceph 16 refuses each tag in quotes, also the right one. The key is there for the time being, has
//! one byte, and is deleted at the end, whatever becomes of the rest. Some twenty requests, once a
//! store.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::bucket::Bucket;
use super::failure::{Failure, Kind};
use super::support::{Ability, MOST_PARTS, Match, SourceMatch, Support, is_in_parts};
use super::verdict::Action;
use super::write::{Condition, Header, Payload, Source, Stored};
use super::{Lease, Object, StoreError, tag};
use crate::auth::Asker;

/// A tag that no object has.
const NO_TAG: &str = "\"00000000000000000000000000000000\"";

impl Bucket {
    /// Tries everything on a key that does not exist. It is gone again when this returns.
    ///
    /// Errors: if nothing may be written or deleted there, or nothing can be reached.
    pub(super) async fn probe(&self, asker: &Asker, key: &str) -> Result<Support, StoreError> {
        let mut attempt = self.attempt(asker, Action::Write, key).await?;
        loop {
            let probe = Probe {
                bucket: self,
                lease: attempt.lease(),
                key,
            };
            match probe.run().await {
                Ok(support) => return Ok(attempt.worked(support)),
                Err(failure) => attempt.again(failure).await?,
            }
        }
    }

    /// The most parts that an upload to this store can have.
    ///
    /// AWS takes 10,000, Swift 1,000 unless it is told otherwise. Parts with high numbers are sent to an
    /// upload of their own, which is thrown away: Ceph completes no upload that has others than
    /// those listed.
    pub(crate) async fn find_most_parts(
        &self,
        asker: &Asker,
        key: &str,
    ) -> Result<u32, StoreError> {
        if let Some(known) = self.find_out().await.parts {
            return Ok(known);
        }
        let mut attempt = self.attempt(asker, Action::Write, key).await?;
        loop {
            let probe = Probe {
                bucket: self,
                lease: attempt.lease(),
                key,
            };
            match probe.parts().await {
                Ok(parts) => {
                    self.learn(|support| support.parts = Some(parts));
                    return Ok(attempt.worked(parts));
                }
                Err(failure) => attempt.again(failure).await?,
            }
        }
    }
}

/// What is tried, with one session.
struct Probe<'a> {
    bucket: &'a Bucket,
    lease: &'a Lease,
    key: &'a str,
}

impl Probe<'_> {
    async fn run(&self) -> Result<Support, Failure> {
        // Who may not delete must not begin to write. What is there is of an attempt before.
        answered(self.delete(&Condition::Always).await)?;
        let found = self.conditions().await;
        let gone = self.delete(&Condition::Always).await;
        let mut found = found?;
        found.marked = self.directories().await?;
        match gone {
            Err(failure) if failure.kind != Kind::NotFound => Err(failure),
            _ => Ok(found),
        }
    }

    /// Whether an object that stands for a directory keeps its metadata: SeaweedFS drops it. `None` if
    /// none may be put.
    async fn directories(&self) -> Result<Option<bool>, Failure> {
        let key = format!("{}/", self.key);
        let marked = Header {
            metadata: HashMap::from([("mode".to_owned(), "16877".to_owned())]),
            ..header()
        };
        let s3 = &self.lease.s3;
        self.counts_put();
        let nothing = Payload::Bytes(Bytes::new());
        match s3.put(&key, &nothing, &marked, &Condition::Always).await {
            Err(failure) if failure.kind == Kind::Untold => {}
            put => {
                if answered(put)?.is_none() {
                    return Ok(None);
                }
            }
        }
        self.bucket.requests().head.fetch_add(1, Ordering::Relaxed);
        let there = answered(s3.head(&key).await);
        self.counts_delete();
        let gone = answered(s3.delete(&key, &Condition::Always).await);
        let facts = there?.and_then(|object| object.facts);
        gone?;
        Ok(facts.map(|facts| facts.posix.mode.is_some()))
    }

    async fn conditions(&self) -> Result<Support, Failure> {
        let mut found = Support {
            known: true,
            ..Support::UNKNOWN
        };
        let mut put = self.put(&Condition::Absent).await;
        if matches!(&put, Err(failure) if failure.kind == Kind::Unsupported) {
            put = self.put(&Condition::Always).await;
        }
        let mut etag = match put {
            Err(failure) if failure.kind == Kind::Untold => self.there().await?.etag,
            put => put?,
        };
        found.put_absent = self.keeps(self.put(&Condition::Absent).await)?;
        if self.keeps(self.put(&never()).await)? {
            for (spelling, own) in [
                (Match::Quoted, etag.clone()),
                (Match::Bare, etag.trim_matches('"').to_owned()),
            ] {
                if tag::is_strong(&etag)
                    && let Some(new) = self.acted(self.put(&Condition::Is(own)).await).await?
                {
                    (found.put_match, etag) = (spelling, new);
                    break;
                }
            }
        }
        etag = self.of_copies(&mut found, etag).await?;
        etag = self.of_uploads(&mut found, etag).await?;
        if is_in_parts(&etag) && found.copies == Ability::Yes && found.source == SourceMatch::All {
            // A copy of it onto itself, which has a tag of another kind where it works.
            match self
                .acted(self.copy(&etag, &Condition::Always).await)
                .await?
            {
                Some(new) => etag = new,
                None => found.source = SourceMatch::Whole,
            }
        }
        found.parts = answered(self.parts().await)?;
        found.delete = self.keeps(self.delete(&never()).await)?
            && tag::is_strong(&etag)
            && answered(self.delete(&Condition::Is(etag)).await)?.is_some();
        Ok(found)
    }

    /// Tries copies onto itself. Returns the tag of what is there then.
    async fn of_copies(&self, found: &mut Support, etag: String) -> Result<String, Failure> {
        if !tag::is_strong(&etag) {
            return Ok(etag);
        }
        let copied = match self.copy(&etag, &Condition::Always).await {
            Ok(etag) => Some(etag),
            Err(failure) if failure.kind == Kind::Unsupported => {
                found.copies = Ability::No;
                return Ok(etag);
            }
            Err(failure) if is_an_answer(&failure) => None,
            Err(failure) => return Err(failure),
        };
        // A store that overlooks what is to be copied has put an object without bytes.
        let there = self.there().await?;
        if there.size != 1 {
            (found.copies, found.part_copies) = (Ability::No, Ability::No);
            return Ok(there.etag);
        }
        let Some(mut now) = copied else {
            return Ok(there.etag);
        };
        found.copies = Ability::Yes;
        if !tag::is_strong(&now) {
            return Ok(now);
        }
        match self
            .acted(self.copy(NO_TAG, &Condition::Always).await)
            .await?
        {
            None => found.source = SourceMatch::All,
            Some(etag) => (found.source, now) = (SourceMatch::No, etag),
        }
        match self.copy(&now, &Condition::Absent).await {
            Err(failure) if failure.kind == Kind::Changed => {}
            copied => return Ok(self.acted(copied).await?.unwrap_or(now)),
        }
        if self.keeps(self.copy(&now, &never()).await)?
            && let copied = self.copy(&now, &Condition::Is(now.clone())).await
            && let Some(etag) = self.acted(copied).await?
        {
            (found.copy, now) = (true, etag);
        }
        Ok(now)
    }

    /// Puts an upload of one byte together. Returns the tag of what is there then.
    async fn of_uploads(&self, found: &mut Support, etag: String) -> Result<String, Failure> {
        let s3 = &self.lease.s3;
        let Some(upload) = answered(s3.begin_upload(self.key, &header()).await)? else {
            return Ok(etag);
        };
        let completed = self.complete(found, &upload, &etag).await;
        if !matches!(completed, Ok(Some(_))) {
            // One that is gone is thrown away already.
            let _ = s3.abort(self.key, &upload).await;
        }
        Ok(completed?.unwrap_or(etag))
    }

    async fn complete(
        &self,
        found: &mut Support,
        upload: &str,
        etag: &str,
    ) -> Result<Option<String>, Failure> {
        let s3 = &self.lease.s3;
        self.counts_put();
        let Some(part) = answered(s3.put_part(self.key, upload, 1, &byte()).await)? else {
            return Ok(None);
        };
        let parts = [Stored {
            number: 1,
            etag: part,
        }];
        let complete = async |condition: &Condition| {
            self.counts_put();
            s3.complete(self.key, upload, &parts, condition).await
        };
        for condition in [never(), Condition::Absent] {
            let refused = complete(&condition).await;
            let is_kept = matches!(&refused, Err(failure) if failure.kind == Kind::Changed);
            let acted = self.acted(refused).await?;
            if acted.is_some() || !is_kept {
                // Any other refusal says nothing of the condition.
                return Ok(acted);
            }
        }
        if tag::is_strong(etag)
            && self.there().await?.etag == etag
            && let completed = complete(&Condition::Is(etag.to_owned())).await
            && let Some(etag) = self.acted(completed).await?
        {
            found.complete = true;
            return Ok(Some(etag));
        }
        Ok(None)
    }

    /// Finds the highest number that a part can have.
    async fn parts(&self) -> Result<u32, Failure> {
        let s3 = &self.lease.s3;
        let upload = s3.begin_upload(self.key, &header()).await?;
        let most = self.most_of(&upload).await;
        let _ = s3.abort(self.key, &upload).await;
        most
    }

    async fn most_of(&self, upload: &str) -> Result<u32, Failure> {
        let s3 = &self.lease.s3;
        let takes = async |number: u32| {
            self.counts_put();
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            match s3.put_part(self.key, upload, number, &byte()).await {
                Ok(_) => Ok(Ok(())),
                Err(failure) => match failure.kind {
                    Kind::TooManyParts(named) => Ok(Err(named)),
                    _ => Err(failure),
                },
            }
        };
        let named = match takes(MOST_PARTS).await? {
            Ok(()) => return Ok(MOST_PARTS),
            Err(named) => named,
        };
        if let Some(named) = named
            && takes(named).await?.is_ok()
        {
            return Ok(named);
        }
        // The store does not say which number is the last: it is between these.
        let (mut taken, mut refused) = (0, MOST_PARTS);
        while refused - taken > 1 {
            let middle = taken + (refused - taken) / 2;
            match takes(middle).await? {
                Ok(()) => taken = middle,
                Err(_) => refused = middle,
            }
        }
        if taken == 0 {
            let text = "the store takes no part at all";
            return Err(Failure::new(Kind::Other, self.lease.generation(), text));
        }
        Ok(taken)
    }

    async fn put(&self, condition: &Condition) -> Result<String, Failure> {
        self.counts_put();
        let s3 = &self.lease.s3;
        s3.put(self.key, &byte(), &header(), condition).await
    }

    async fn copy(&self, etag: &str, condition: &Condition) -> Result<String, Failure> {
        self.bucket.requests().copy.fetch_add(1, Ordering::Relaxed);
        let source = Source {
            key: self.key.to_owned(),
            etag: etag.to_owned(),
            version: None,
        };
        let s3 = &self.lease.s3;
        s3.copy((&source, true), self.key, &header(), condition)
            .await
    }

    async fn delete(&self, condition: &Condition) -> Result<(), Failure> {
        self.counts_delete();
        self.lease.s3.delete(self.key, condition).await
    }

    /// The tag of what is there now, if a request has acted. A store that has done it and does not tell
    /// the tag is asked for that: Ceph 16 does so when it puts parts together.
    async fn acted(&self, answer: Result<String, Failure>) -> Result<Option<String>, Failure> {
        match answer {
            Err(failure) if failure.kind == Kind::Untold => Ok(Some(self.there().await?.etag)),
            answer => answered(answer),
        }
    }

    async fn there(&self) -> Result<Object, Failure> {
        self.bucket.requests().head.fetch_add(1, Ordering::Relaxed);
        self.lease.s3.head(self.key).await
    }

    fn counts_delete(&self) {
        let requests = self.bucket.requests();
        requests.delete.fetch_add(1, Ordering::Relaxed);
    }

    fn counts_put(&self) {
        self.bucket.requests().put.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a condition that cannot hold has kept the request from acting.
    fn keeps<T>(&self, answer: Result<T, Failure>) -> Result<bool, Failure> {
        match answer {
            Ok(_) => Ok(false),
            Err(failure) => match failure.kind {
                Kind::Changed | Kind::NotFound => Ok(true),
                _ if is_an_answer(&failure) => Ok(false),
                _ => Err(failure),
            },
        }
    }
}

fn header() -> Header {
    Header {
        content_type: "application/octet-stream".to_owned(),
        ..Header::default()
    }
}

/// What the key has, and each part.
fn byte() -> Payload {
    Payload::Bytes(Bytes::from_static(b"x"))
}

/// A condition that cannot hold.
fn never() -> Condition {
    Condition::Is(NO_TAG.to_owned())
}

/// What was answered, if the store does it.
fn answered<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(failure) if is_an_answer(&failure) => {
            tracing::debug!("tried at this store: {failure}");
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Whether a refusal says something of the store, rather than of the session or the network.
fn is_an_answer(failure: &Failure) -> bool {
    !matches!(
        failure.kind,
        Kind::Token
            | Kind::Denied
            | Kind::Bare
            | Kind::Region(_)
            | Kind::Signature
            | Kind::Unreachable(_)
            | Kind::Busy
    )
}
