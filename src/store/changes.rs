//! The gate for requests that change the bucket: waits for a session, checks the condition where
//! the store does not, sends, and sends again with the next session.
//!
//! A request whose answer was lost has acted, and its repetition is refused by its own
//! condition. Who sends such a request compares what is there with what it sent, before it
//! speaks of a conflict.

use std::sync::atomic::Ordering;

use super::StoreError;
use super::bucket::{Bucket, Lease};
use super::failure::{Failure, Kind};
use super::support::{Match, Support, is_in_parts};
use super::verdict::Action;
use super::write::{Condition, Header, Payload, Stored};
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

pub(super) use gated;

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
        let mut is_refused = false;
        loop {
            let support = self.find_out().await;
            let holds = !is_refused && support.holds_on_put(condition);
            let (checked, sent) = divided(&support, holds, condition);
            let sent = support.spell(&sent);
            let put = gated!(self, asker, Action::Write, key, put, |lease| async {
                self.check(lease, key, &checked).await?;
                lease.s3.put(key, payload, header, &sent).await
            });
            match put {
                // It may be something else that it does not know.
                Err(StoreError::Unsupported(_)) if self.may_go_without(&sent) => is_refused = true,
                Ok(put) if is_refused => {
                    self.learn(|support| match condition {
                        Condition::Absent => support.put_absent = false,
                        _ => support.put_match = Match::No,
                    });
                    return Ok(put);
                }
                Err(StoreError::Changed) if self.overlooks(asker, key, &sent, condition).await => {}
                Err(StoreError::Changed) if self.is_as_wanted(asker, key, condition).await => {
                    let always = Condition::Always;
                    return gated!(self, asker, Action::Write, key, put, |lease| lease
                        .s3
                        .put(key, payload, header, &always));
                }
                put => return put,
            }
        }
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

    /// Puts the parts together. Returns the object's tag.
    pub(crate) async fn complete(
        &self,
        asker: &Asker,
        key: &str,
        upload: &str,
        parts: &[Stored],
        condition: &Condition,
    ) -> Result<String, StoreError> {
        let mut is_refused = false;
        loop {
            let support = self.find_out().await;
            let holds = !is_refused && support.complete;
            let (checked, sent) = divided(&support, holds, condition);
            let completed = gated!(self, asker, Action::Write, key, put, |lease| async {
                self.check(lease, key, &checked).await?;
                lease.s3.complete(key, upload, parts, &sent).await
            });
            match completed {
                Err(StoreError::Unsupported(_)) if self.may_go_without(&sent) => is_refused = true,
                Ok(completed) if is_refused => {
                    self.learn(|support| support.complete = false);
                    return Ok(completed);
                }
                // Ceph says of an upload that is gone that it is being put together, and says so for
                // ever (500 InternalError, seen in the tests of its own S3 suite).
                Err(error @ StoreError::Busy(_)) if !self.is_aws => {
                    let number = parts.first().map_or(1, |part| part.number);
                    return match self.part_size(asker, key, upload, number).await {
                        Err(gone @ StoreError::NoUpload(_)) => Err(gone),
                        _ => Err(error),
                    };
                }
                Err(StoreError::Changed) if self.overlooks(asker, key, &sent, condition).await => {}
                completed => return completed,
            }
        }
    }

    /// How many bytes a part has, by the list of parts; `None` if that does not say.
    ///
    /// Errors: [`StoreError::NoUpload`] if the upload is gone.
    pub(super) async fn part_size(
        &self,
        asker: &Asker,
        key: &str,
        upload: &str,
        number: i32,
    ) -> Result<Option<u64>, StoreError> {
        gated!(self, asker, Action::Write, key, list, |lease| lease
            .s3
            .part_size(key, upload, number))
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

    /// Deletes an object. What is not there is deleted already, whoever did it.
    pub(crate) async fn delete(
        &self,
        asker: &Asker,
        key: &str,
        condition: &Condition,
    ) -> Result<(), StoreError> {
        let mut is_refused = false;
        loop {
            let support = self.find_out().await;
            let holds = !is_refused && support.delete;
            let (checked, sent) = divided(&support, holds, condition);
            let deleted = gated!(self, asker, Action::Delete, key, delete, |lease| async {
                self.check(lease, key, &checked).await?;
                lease.s3.delete(key, &sent).await
            });
            match deleted {
                Err(StoreError::NotFound) => return Ok(()),
                Err(StoreError::Unsupported(_)) if self.may_go_without(&sent) => is_refused = true,
                Ok(()) if is_refused => {
                    self.learn(|support| support.delete = false);
                    return Ok(());
                }
                Err(StoreError::Changed) if self.overlooks(asker, key, &sent, condition).await => {}
                Err(StoreError::Changed) if self.is_as_wanted(asker, key, condition).await => {
                    let always = Condition::Always;
                    let deleted = gated!(self, asker, Action::Delete, key, delete, |lease| {
                        lease.s3.delete(key, &always)
                    });
                    return match deleted {
                        Err(StoreError::NotFound) => Ok(()),
                        deleted => deleted,
                    };
                }
                deleted => return deleted,
            }
        }
    }

    /// Whether a request that the store does not know can be sent without its condition, which is
    /// checked by HEAD then.
    pub(super) fn may_go_without(&self, sent: &Condition) -> bool {
        !self.is_aws && *sent != Condition::Always
    }

    /// Whether the store has refused a condition that is true, because it finds no tags of objects in
    /// parts. If so, that is learned, and the request can be tried again.
    pub(super) async fn overlooks(
        &self,
        asker: &Asker,
        key: &str,
        sent: &Condition,
        condition: &Condition,
    ) -> bool {
        let Condition::Is(etag) = condition else {
            return false;
        };
        if self.is_aws || *sent == Condition::Always || !is_in_parts(etag) {
            return false;
        }
        let found = self.head(asker, key).await;
        let overlooks = found.is_ok_and(|found| found.has_version(etag));
        if overlooks {
            tracing::info!("conditions at this store find no objects in parts");
            self.learn(|support| support.in_parts = false);
        }
        overlooks
    }

    /// Whether a marker is what it has to be, although the store has found it otherwise: SeaweedFS
    /// 4.48 answers HEAD of a directory that was never put, with a tag that no condition finds true,
    /// and lists no such key.
    async fn is_as_wanted(&self, asker: &Asker, key: &str, condition: &Condition) -> bool {
        if self.is_aws || !key.ends_with('/') {
            return false;
        }
        match condition {
            Condition::Always => false,
            Condition::Absent => {
                matches!(self.entry(asker, key).await, Err(StoreError::NotFound))
            }
            Condition::Is(version) => {
                let found = self.head(asker, key).await;
                found.is_ok_and(|found| found.has_version(version))
            }
        }
    }

    /// Checks a condition by HEAD, for stores that do not check it themselves: each time just
    /// before the request is sent, however long that has waited for a session.
    pub(super) async fn check(
        &self,
        lease: &Lease,
        key: &str,
        condition: &Condition,
    ) -> Result<(), Failure> {
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
pub(super) fn divided(
    support: &Support,
    holds: bool,
    condition: &Condition,
) -> (Condition, Condition) {
    if holds && support.finds(condition) && condition.can_be_sent() {
        (Condition::Always, condition.clone())
    } else {
        (condition.clone(), Condition::Always)
    }
}
