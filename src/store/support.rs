//! Which conditions on writes the store honours.
//!
//! AWS honours all of them (docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
//! and conditional-deletes.html). Others refuse the headers with 501, overlook them, or know the
//! half: Ceph 16 wants `If-Match` without quotes, and overlooks conditions on completing,
//! copying and deleting. Where a condition does not hold, a HEAD is asked before the write, and
//! a change in between goes unnoticed, which `status` says.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::failure::Kind;
use super::verdict::Action;
use super::write::{Condition, Header, Payload};
use super::{Failure, Lease, StoreError};
use crate::auth::Asker;

/// What the store does with `If-Match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Match {
    /// As RFC 9110 has it, with the quotes of the tag.
    Quoted,
    /// Only without them.
    Bare,
    /// Not at all.
    No,
}

/// What the store honours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Support {
    /// Whether this was found out, rather than assumed.
    pub(crate) known: bool,
    /// `If-None-Match: *` on PUT.
    pub(crate) put_absent: bool,
    /// `If-Match` on PUT.
    pub(crate) put_match: Match,
    /// Both on completing a multipart upload.
    pub(crate) complete: bool,
    /// Both on copies.
    pub(crate) copy: bool,
    /// `If-Match` on DELETE.
    pub(crate) delete: bool,
}

impl Support {
    /// AWS.
    pub(crate) const FULL: Self = Self {
        known: true,
        put_absent: true,
        put_match: Match::Quoted,
        complete: true,
        copy: true,
        delete: true,
    };

    /// A store of which nothing is known: it gets neither conditions nor trust.
    pub(crate) const UNKNOWN: Self = Self {
        known: false,
        put_absent: false,
        put_match: Match::No,
        complete: false,
        copy: false,
        delete: false,
    };

    /// Whether a PUT under this condition is safe by itself.
    pub(super) fn holds_on_put(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Absent => self.put_absent,
            Condition::Is(_) => self.put_match != Match::No,
        }
    }

    /// The condition as the store wants it.
    pub(super) fn spell(&self, condition: &Condition) -> Condition {
        match condition {
            Condition::Is(etag) if self.put_match == Match::Bare => {
                Condition::Is(etag.trim_matches('"').to_owned())
            }
            other => other.clone(),
        }
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let put = self.put_absent && self.put_match != Match::No;
        let text = match (self.known, put, self.complete && self.copy && self.delete) {
            (false, ..) => "unknown",
            (_, true, true) => "all",
            (_, true, false) => "some",
            (_, false, _) if self.put_absent || self.put_match != Match::No => "some",
            (_, false, _) => "none",
        };
        f.write_str(text)
    }
}

impl Bucket {
    /// What the store is known to honour.
    pub(crate) fn support(&self) -> Support {
        *self.support.read()
    }

    /// Finds out what the store honours, once, before anything is written. What cannot be found
    /// out is not relied on.
    pub(crate) async fn find_out(&self) -> Support {
        if self.finding.initialized() || self.support().known {
            return self.support();
        }
        let (prefix, remembered) = self.probing();
        let found = self.finding.get_or_init(async || {
            if let Some(support) = remembered.as_deref().and_then(recall) {
                *self.support.write() = support;
                return;
            }
            let name = format!("{prefix}.s3mfa-mount-probe-{:016x}", random());
            match self.probe(&Asker::nobody(), &name).await {
                Ok(support) => {
                    tracing::info!("conditional writes at this store: {support}");
                    if let Some(path) = &remembered {
                        remember(path, &support);
                    }
                    *self.support.write() = support;
                }
                Err(error) => {
                    tracing::info!("what the store honours cannot be found out: {error}");
                }
            }
        });
        found.await;
        self.support()
    }

    /// Tries conditions that cannot hold, on a key that does not exist: a store that honours
    /// them does nothing.
    async fn probe(&self, asker: &Asker, key: &str) -> Result<Support, StoreError> {
        let mut attempt = self.attempt(asker, Action::Write, key).await?;
        loop {
            match probe(attempt.lease(), key).await {
                Ok(support) => return Ok(attempt.worked(support)),
                Err(failure) => attempt.again(failure).await?,
            }
        }
    }

    /// The store refuses a tag with quotes that is the right one. Returns whether there is
    /// another way to try.
    pub(crate) fn is_refused(&self) -> bool {
        let mut support = self.support.write();
        let next = match support.put_match {
            Match::Quoted => Match::Bare,
            Match::Bare => Match::No,
            Match::No => return false,
        };
        tracing::info!(
            "this store does not know its own tags ({:?})",
            support.put_match
        );
        support.put_match = next;
        true
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now())
}

fn recall(path: &Path) -> Option<Support> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn remember(path: &Path, support: &Support) {
    let write = |text: Vec<u8>| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(&text)
    };
    let written = serde_json::to_vec(support).map_err(std::io::Error::other);
    if let Err(error) = written.and_then(write) {
        tracing::debug!("{}: {error}", path.display());
    }
}

/// A tag that no object has.
const NO_TAG: &str = "\"00000000000000000000000000000000\"";

async fn probe(lease: &Lease, key: &str) -> Result<Support, Failure> {
    let s3 = &lease.s3;
    let header = Header {
        content_type: "application/octet-stream".to_owned(),
        ..Header::default()
    };
    let nothing = Payload::Bytes(Bytes::new());
    let impossible = Condition::Is(NO_TAG.to_owned());
    let put = s3.put(key, &nothing, &header, &impossible).await;
    let put = honoured(put.map(drop));
    if matches!(put, Ok(false)) {
        // It may have been overlooked, and the object made.
        s3.delete(key, &Condition::Always).await?;
        return Ok(Support {
            known: true,
            ..Support::UNKNOWN
        });
    }
    put?;
    // Whoever knows this one, the youngest of all, knows those on copies and uploads too. S3
    // answers 404 (measured: ministack's issue 1475), and 204 where there is no condition.
    let all = honoured(s3.delete(key, &impossible).await)?;
    Ok(Support {
        complete: all,
        copy: all,
        delete: all,
        ..Support::FULL
    })
}

/// Whether a condition that cannot hold was honoured.
fn honoured(answer: Result<(), Failure>) -> Result<bool, Failure> {
    match answer {
        Ok(()) => Ok(false),
        Err(failure) => match failure.kind {
            Kind::Changed | Kind::NotFound => Ok(true),
            // What was stored has no ETag that was told.
            Kind::Unsupported | Kind::Untold => Ok(false),
            _ => Err(failure),
        },
    }
}
