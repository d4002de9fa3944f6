//! The gate for requests that change the bucket: waits for a session, checks the condition where
//! the store does not, sends, and sends again with the next session.
//!
//! A request whose answer was lost has acted, and its repetition is refused by its own
//! condition. Who sends such a request compares what is there with what it sent, before it
//! speaks of a conflict.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::StoreError;
use super::bucket::{Bucket, Lease};
use super::failure::{Failure, Kind};
use super::verdict::Action;
use super::write::{Condition, Header, Payload, Source, Stored};
use crate::auth::Asker;

/// Sends with one session after another: `$send` is a request with `$lease`.
macro_rules! gated {
    ($bucket:expr, $asker:expr, $action:expr, $key:expr, $count:ident, |$lease:ident| $send:expr) => {{
        let send = async {
            let mut attempt = $bucket.attempt($asker, $action, $key).await?;
            loop {
                $bucket.requests().$count.fetch_add(1, Ordering::Relaxed);
                let outcome = {
                    let $lease = attempt.lease();
                    $send.await
                };
                match outcome {
                    Ok(value) => break Ok::<_, StoreError>(attempt.worked(value)),
                    Err(failure) => attempt.again(failure).await?,
                }
            }
        };
        send.await
    }};
}

impl Bucket {
    /// Writes a whole object. Returns its tag.
    pub(crate) async fn put(
        &self,
        asker: &Asker,
        key: &str,
        payload: &Payload,
        header: &Header,
        condition: &Condition,
    ) -> Result<String, StoreError> {
        let support = self.find_out().await;
        let holds = support.holds_on_put(condition);
        let (checked, sent) = divided(holds, condition);
        let sent = support.spell(&sent);
        gated!(self, asker, Action::Write, key, put, |lease| async {
            self.check(lease, key, &checked).await?;
            lease.s3.put(key, payload, header, &sent).await
        })
    }

    /// Begins a multipart upload. Returns its id.
    pub(crate) async fn begin_upload(
        &self,
        asker: &Asker,
        key: &str,
        header: &Header,
    ) -> Result<String, StoreError> {
        gated!(self, asker, Action::Write, key, put, |lease| lease
            .s3
            .begin_upload(key, header))
    }

    /// Sends a part. Returns its tag.
    pub(crate) async fn put_part(
        &self,
        asker: &Asker,
        key: &str,
        upload: &str,
        number: i32,
        payload: &Payload,
    ) -> Result<String, StoreError> {
        gated!(self, asker, Action::Write, key, put, |lease| lease
            .s3
            .put_part(key, upload, number, payload))
    }

    /// Has S3 copy a range of an object into a part. Returns the part's tag.
    pub(crate) async fn copy_part(
        &self,
        asker: &Asker,
        key: &str,
        upload: &str,
        number: i32,
        source: &Source,
        range: &Range<u64>,
    ) -> Result<String, StoreError> {
        let unsent = source.unsent();
        gated!(self, asker, Action::Write, key, copy, |lease| async {
            self.check(lease, &source.key, &unsent).await?;
            let s3 = &lease.s3;
            let copied = s3.copy_part(key, upload, number, source, range).await?;
            self.check(lease, &source.key, &unsent).await?;
            Ok(copied)
        })
    }

    /// Puts the parts together. Returns the object's tag.
    pub(crate) async fn complete(
        &self,
        asker: &Asker,
        key: &str,
        upload: &str,
        parts: &[Stored],
        condition: &Condition,
    ) -> Result<String, StoreError> {
        let (checked, sent) = divided(self.find_out().await.complete, condition);
        gated!(self, asker, Action::Write, key, put, |lease| async {
            self.check(lease, key, &checked).await?;
            lease.s3.complete(key, upload, parts, &sent).await
        })
    }

    /// Throws an upload away.
    pub(crate) async fn abort(
        &self,
        asker: &Asker,
        key: &str,
        upload: &str,
    ) -> Result<(), StoreError> {
        gated!(self, asker, Action::Write, key, delete, |lease| lease
            .s3
            .abort(key, upload))
    }

    /// Has S3 copy a whole object of at most 5 GiB, with another header. Returns the tag.
    pub(crate) async fn copy(
        &self,
        asker: &Asker,
        source: &Source,
        key: &str,
        header: &Header,
        condition: &Condition,
    ) -> Result<String, StoreError> {
        let (checked, sent) = divided(self.find_out().await.copy, condition);
        let unsent = source.unsent();
        gated!(self, asker, Action::Write, key, copy, |lease| async {
            self.check(lease, key, &checked).await?;
            self.check(lease, &source.key, &unsent).await?;
            let copied = lease.s3.copy(source, key, header, &sent).await?;
            if source.key != key
                && let Err(changed) = self.check(lease, &source.key, &unsent).await
            {
                // Of which version this is a copy, nobody knows.
                lease.s3.delete(key, &Condition::Is(copied)).await?;
                return Err(changed);
            }
            Ok(copied)
        })
    }

    /// Deletes an object. What is not there is deleted already, whoever did it.
    pub(crate) async fn delete(
        &self,
        asker: &Asker,
        key: &str,
        condition: &Condition,
    ) -> Result<(), StoreError> {
        let (checked, sent) = divided(self.find_out().await.delete, condition);
        let outcome = gated!(self, asker, Action::Delete, key, delete, |lease| async {
            self.check(lease, key, &checked).await?;
            lease.s3.delete(key, &sent).await
        });
        match outcome {
            Err(StoreError::NotFound) => Ok(()),
            outcome => outcome,
        }
    }

    /// Checks a condition by HEAD, for stores that do not check it themselves: each time just
    /// before the request is sent, however long that has waited for a session.
    async fn check(&self, lease: &Lease, key: &str, condition: &Condition) -> Result<(), Failure> {
        if *condition == Condition::Always {
            return Ok(());
        }
        self.requests().head.fetch_add(1, Ordering::Relaxed);
        let found = match lease.s3.head(key).await {
            Err(failure) if failure.kind == Kind::NotFound => None,
            found => Some(found?),
        };
        let kind = match (condition, found) {
            (Condition::Absent, None) => return Ok(()),
            (Condition::Is(version), Some(found)) if found.has_version(version) => return Ok(()),
            (Condition::Is(_), None) => Kind::NotFound,
            _ => Kind::Changed,
        };
        let text = "something else stands there";
        Err(Failure::new(kind, lease.generation(), text))
    }
}

/// What is to be checked here of a condition, and what the store is told.
fn divided(is_known: bool, condition: &Condition) -> (Condition, Condition) {
    if is_known && condition.can_be_sent() {
        (Condition::Always, condition.clone())
    } else {
        (condition.clone(), Condition::Always)
    }
}
