//! What the store honours, and what it can do.
//!
//! AWS honours all conditions (docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
//! and conditional-deletes.html) and copies on the server. Others refuse the headers with 501,
//! overlook them, or know some: Ceph 16 wants `If-Match` without quotes, and overlooks conditions
//! on completing, copying and deleting; Swift 2.38 knows `If-Match` on DELETE alone, and never finds
//! the tag of an object in parts there; nor does Swift 2.30 on the source of a copy. Where a condition does not hold, a
//! HEAD is asked before the write, and a change in between goes unnoticed, which `status` says.
//!
//! What can be tried without harm is tried before the first write ([`super::probe`]); the rest is
//! learned from refusals. Both are remembered for the store.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::bucket::Bucket;
use super::write::Condition;
use crate::auth::Asker;

/// What is remembered otherwise than this is found out anew.
const REVISION: u32 = 4;

/// How long it is remembered: a store may be another version one day, and a proxy be gone.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long nothing is tried again after that has failed for the moment.
const AGAIN: Duration = Duration::from_secs(30);

/// The most parts of an upload at AWS, and everywhere else
/// (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
pub(crate) const MOST_PARTS: u32 = 10_000;

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

/// What the store does with a condition on the source of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceMatch {
    /// It holds.
    All,
    /// It holds for objects that were put whole, and is never true for one in parts, whose tag ends
    /// in their number: Swift 2.30.
    Whole,
    /// It is overlooked, or never true.
    No,
}

/// Whether the store can do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ability {
    /// It has not been tried.
    Untried,
    /// It has worked.
    Yes,
    /// It was refused, and has never worked.
    No,
}

/// What the store honours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Support {
    pub(super) revision: u32,
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
    /// Whether conditions on what is replaced or deleted find the tags of objects in parts.
    pub(crate) in_parts: bool,
    /// `x-amz-copy-source-if-match`.
    pub(crate) source: SourceMatch,
    /// CopyObject.
    pub(crate) copies: Ability,
    /// UploadPartCopy.
    pub(crate) part_copies: Ability,
    /// Whether objects that stand for directories keep their metadata, if that is known.
    pub(crate) marked: Option<bool>,
    /// The most parts of an upload, if that is known.
    pub(crate) parts: Option<u32>,
}

impl Support {
    /// AWS.
    pub(crate) const FULL: Self = Self {
        revision: REVISION,
        known: true,
        put_absent: true,
        put_match: Match::Quoted,
        complete: true,
        copy: true,
        delete: true,
        in_parts: true,
        source: SourceMatch::All,
        copies: Ability::Yes,
        part_copies: Ability::Yes,
        marked: Some(true),
        parts: Some(MOST_PARTS),
    };

    /// A store of which nothing is known: it gets neither conditions nor trust.
    pub(crate) const UNKNOWN: Self = Self {
        revision: REVISION,
        known: false,
        put_absent: false,
        put_match: Match::No,
        complete: false,
        copy: false,
        delete: false,
        in_parts: true,
        source: SourceMatch::No,
        copies: Ability::Untried,
        part_copies: Ability::Untried,
        marked: None,
        parts: None,
    };

    /// Whether a PUT under this condition is safe by itself.
    pub(super) fn holds_on_put(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Absent => self.put_absent,
            Condition::Is(_) => self.put_match != Match::No,
        }
    }

    /// Whether the store finds the tag of a condition, where it honours that.
    pub(super) fn finds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Always | Condition::Absent => true,
            Condition::Is(etag) => self.in_parts || !is_in_parts(etag),
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

    /// Whether a copy under the condition that its source has this tag is safe by itself.
    pub(crate) fn holds_on_source(&self, etag: &str) -> bool {
        match self.source {
            SourceMatch::All => true,
            SourceMatch::Whole => !is_in_parts(etag),
            SourceMatch::No => false,
        }
    }
}

/// Whether a tag is that of an object in parts: it ends in their number
/// (docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html, `ETag`).
pub(super) fn is_in_parts(etag: &str) -> bool {
    let parts = etag.trim_matches('"').rsplit_once('-');
    parts.is_some_and(|(_, parts)| {
        !parts.is_empty() && parts.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let put = self.put_absent && self.put_match != Match::No;
        let rest = self.complete && self.copy && self.delete && self.source == SourceMatch::All;
        let text = match (self.known, put, rest) {
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
        let is_early = || {
            let failed = *self.not_found_out.lock();
            failed.is_some_and(|failed| failed.elapsed() < AGAIN)
        };
        if self.finding.initialized() || self.support().known || is_early() {
            return self.support();
        }
        let (_, remembered) = self.probing();
        let found = self.finding.get_or_try_init(async || {
            if let Some(support) = remembered.as_deref().and_then(recall) {
                *self.support.write() = support;
                return Ok(());
            }
            let name = self.probe_key();
            match self.probe(&Asker::nobody(), &name).await {
                Ok(support) => {
                    tracing::info!("conditional writes at this store: {support}");
                    if support.marked == Some(false) {
                        tracing::warn!(
                            "this store keeps no metadata of objects whose names end with a slash: \
                             modes, owners and times of directories are lost when they are forgotten"
                        );
                    }
                    self.learn(|known| *known = support);
                }
                Err(error) => {
                    tracing::info!("what the store honours cannot be found out: {error}");
                    if matches!(error, StoreError::Session(_)) {
                        return Err(());
                    }
                    if passes(&error) {
                        *self.not_found_out.lock() = Some(Instant::now());
                        return Err(());
                    }
                }
            }
            Ok(())
        });
        // Without it, everything is checked before it is sent.
        let _ = found.await;
        self.support()
    }

    /// A key for what is tried, which nobody has.
    pub(super) fn probe_key(&self) -> String {
        let (prefix, _) = self.probing();
        format!("{prefix}.s3mfa-mount-probe-{:016x}", random())
    }

    /// Takes over what an answer has shown. Of AWS itself everything is known, and one odd answer
    /// says nothing.
    pub(super) fn learn(&self, change: impl FnOnce(&mut Support)) {
        if self.is_aws {
            return;
        }
        let changed = {
            let mut support = self.support.write();
            let before = *support;
            change(&mut support);
            (*support != before && support.known).then_some(*support)
        };
        if let (Some(support), (_, Some(path))) = (changed, self.probing()) {
            tracing::debug!("what is known of this store: {support:?}");
            // It is no loss if this run ends before.
            let write = move || remember(&path, &support);
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(write)),
                Err(_) => write(),
            }
        }
    }

    /// A part was refused because of its number: what was known of that is not so, unless the store
    /// has named its limit.
    pub(crate) fn learn_most_parts(&self, refused: &StoreError) {
        if let StoreError::TooManyParts { most, .. } = refused {
            self.learn(|support| support.parts = *most);
        }
    }

    /// The store refuses a tag that is the right one. Returns whether there is another spelling to
    /// try: not where it was found out which is understood.
    pub(crate) fn is_refused(&self) -> bool {
        let support = self.support();
        if support.known {
            return false;
        }
        let before = support.put_match;
        let next = match before {
            Match::Quoted => Match::Bare,
            Match::Bare => Match::No,
            Match::No => return false,
        };
        tracing::info!("this store does not know its own tags ({before:?})");
        let mut support = self.support.write();
        support.put_match = next;
        true
    }
}

/// Whether trying a store has failed for something that has nothing to do with it, or was met by
/// another trial.
fn passes(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Busy(_)
            | StoreError::Unreachable { .. }
            | StoreError::Garbled(_)
            | StoreError::Changed
    )
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now())
}

fn recall(path: &Path) -> Option<Support> {
    let written = std::fs::metadata(path).ok()?.modified().ok()?;
    if written.elapsed().is_ok_and(|age| age > REMEMBERED) {
        return None;
    }
    let support: Support = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (support.revision == REVISION).then_some(support)
}

fn remember(path: &Path, support: &Support) {
    use std::os::unix::fs::OpenOptionsExt as _;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_an_object_in_parts_is_told_by_their_number() {
        assert!(is_in_parts("\"9b2cf535f27731c974343645a3985328-2\""));
        assert!(is_in_parts("d41d8cd98f00b204e9800998ecf8427e-10000"));
        for whole in [
            "\"9b2cf535f27731c974343645a3985328\"",
            "\"a-b\"",
            "\"a-\"",
            "",
        ] {
            assert!(!is_in_parts(whole), "{whole}");
        }
    }

    #[test]
    fn what_an_older_program_has_remembered_is_found_out_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("support");
        remember(&path, &Support::FULL);
        assert_eq!(recall(&path), Some(Support::FULL));
        let older = r#"{"known":true,"put_absent":true,"put_match":"quoted","complete":true,
            "copy":true,"delete":true}"#;
        std::fs::write(&path, older).unwrap();
        assert_eq!(recall(&path), None);
    }
}
