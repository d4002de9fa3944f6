//! The gate for copies on the server: under a condition on what is copied, and one on what is
//! replaced; for stores that cannot check them, by HEAD before and after.
//!
//! A store that refuses copies as such says so with [`StoreError::Unsupported`], and the bytes go
//! through this machine: see the module `carry` of the filesystem.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::StoreError;
use super::bucket::Bucket;
use super::changes::{divided, gated};
use super::failure::{Failure, Kind};
use super::support::{Ability, SourceMatch, is_in_parts};
use super::verdict::Action;
use super::write::{Condition, Header, Source};
use crate::auth::Asker;

/// Where a part comes to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The key of the upload.
    pub(crate) key: &'a str,
    /// Its id.
    pub(crate) upload: &'a str,
    /// 1 to 10,000.
    pub(crate) number: i32,
}

impl Bucket {
    /// Has S3 copy a range of an object into a part. Returns the part's tag.
    ///
    /// Errors: [`StoreError::Unsupported`] if this store does not copy it.
    pub(crate) async fn copy_part(
        &self,
        asker: &Asker,
        place: Place<'_>,
        source: &Source,
        range: &Range<u64>,
    ) -> Result<String, StoreError> {
        let relies = self.find_out().await.holds_on_source(&source.etag);
        let copied = self.copy_part_as(asker, place, (source, relies), range);
        let copied = match copied.await {
            Err(StoreError::Changed) if relies && self.is_unchanged(asker, source).await? => {
                let copied = self.copy_part_as(asker, place, (source, false), range);
                let copied = copied.await?;
                self.distrust(source);
                Ok(copied)
            }
            copied => copied,
        };
        let is_new = self.support().part_copies == Ability::Untried;
        let length = range.end - range.start;
        let told = match &copied {
            // What is not told is not known.
            Ok(_) if is_new => {
                let size = self.part_size(asker, place.key, place.upload, place.number);
                size.await.ok().flatten()
            }
            _ => None,
        };
        let copied = match copied {
            Ok(_) if told.is_some_and(|told| told != length) => {
                let text = "the store has not copied what was asked for";
                Err(StoreError::Unsupported(text.to_owned()))
            }
            copied => copied,
        };
        match &copied {
            // The whole of an object would be copied by a store that overlooks the range, too.
            Ok(_) if is_new && told == Some(length) && range.start > 0 => {
                self.learn(|support| support.part_copies = Ability::Yes);
            }
            Ok(_) => {}
            Err(StoreError::Unsupported(_)) => self.learn(|support| {
                if support.part_copies == Ability::Untried {
                    support.part_copies = Ability::No;
                }
            }),
            Err(_) => {}
        }
        copied
    }

    async fn copy_part_as(
        &self,
        asker: &Asker,
        Place {
            key,
            upload,
            number,
        }: Place<'_>,
        (source, relies): (&Source, bool),
        range: &Range<u64>,
    ) -> Result<String, StoreError> {
        let unsent = source.unsent(relies);
        gated!(self, asker, Action::Write, key, copy, |lease| async {
            self.check(lease, &source.key, &unsent).await?;
            let s3 = &lease.s3;
            let copied = s3.copy_part(key, upload, number, (source, relies), range);
            let copied = copied.await?;
            self.check(lease, &source.key, &unsent).await?;
            Ok(copied)
        })
    }

    /// Has S3 copy a whole object of at most 5 GiB, with another header. Returns the tag.
    ///
    /// Errors: [`StoreError::Unsupported`] if this store does not copy it.
    pub(crate) async fn copy(
        &self,
        asker: &Asker,
        source: &Source,
        key: &str,
        header: &Header,
        condition: &Condition,
    ) -> Result<String, StoreError> {
        let mut is_refused = false;
        loop {
            let support = self.find_out().await;
            let relies = support.holds_on_source(&source.etag);
            let holds = !is_refused && support.copy;
            let (checked, sent) = divided(&support, holds, condition);
            let conditions = (&checked, &sent);
            let copied = self.copy_as(asker, (source, relies), key, header, conditions);
            let copied = match copied.await {
                // Both the source and what is replaced are what they have to be: it is the
                // condition on the source that some stores never find true.
                Err(StoreError::Changed)
                    if relies
                        && self.is_unchanged(asker, source).await?
                        && self.is_there(asker, key, condition).await? =>
                {
                    let copied = self.copy_as(asker, (source, false), key, header, conditions);
                    match copied.await {
                        Err(StoreError::Changed)
                            if self.overlooks(asker, key, &sent, condition).await =>
                        {
                            continue;
                        }
                        copied => {
                            let copied = copied?;
                            self.distrust(source);
                            Ok(copied)
                        }
                    }
                }
                Err(StoreError::Changed)
                    if !relies && self.overlooks(asker, key, &sent, condition).await =>
                {
                    continue;
                }
                Err(StoreError::Unsupported(_)) if self.may_go_without(&sent) => {
                    // It may be the condition that it does not know.
                    is_refused = true;
                    continue;
                }
                copied => copied,
            };
            match &copied {
                Ok(_) => self.learn(|support| {
                    support.copies = Ability::Yes;
                    support.copy &= !is_refused;
                }),
                Err(StoreError::Unsupported(_)) => self.learn(|support| {
                    if support.copies == Ability::Untried {
                        support.copies = Ability::No;
                    }
                }),
                Err(_) => {}
            }
            return copied;
        }
    }

    async fn copy_as(
        &self,
        asker: &Asker,
        (source, relies): (&Source, bool),
        key: &str,
        header: &Header,
        (checked, sent): (&Condition, &Condition),
    ) -> Result<String, StoreError> {
        let unsent = source.unsent(relies);
        gated!(self, asker, Action::Write, key, copy, |lease| async {
            self.check(lease, key, checked).await?;
            self.check(lease, &source.key, &unsent).await?;
            let copied = lease.s3.copy((source, relies), key, header, sent).await?;
            if source.key != key
                && let Err(changed) = self.check(lease, &source.key, &unsent).await
            {
                if !matches!(changed.kind, Kind::Changed | Kind::NotFound) {
                    // Nobody knows, and whoever asks again recognises the copy.
                    return Err(changed);
                }
                // Of which version this is a copy, nobody knows.
                let support = self.support();
                let copy = Condition::Is(copied);
                let (checked, sent) = divided(&support, support.delete, &copy);
                let is_ours = self.check(lease, key, &checked).await;
                let taken_back = match is_ours {
                    Ok(()) => lease.s3.delete(key, &sent).await,
                    is_ours => is_ours,
                };
                return Err(match taken_back {
                    Ok(()) => changed,
                    Err(failure) => Failure {
                        // It is not to be taken for what was meant.
                        kind: Kind::Other,
                        text: format!(
                            "what was copied changed meanwhile, and the copy cannot be taken back: {}",
                            failure.text
                        ),
                        ..failure
                    },
                });
            }
            Ok(copied)
        })
    }

    /// Whether the source of a copy is still what it was.
    async fn is_unchanged(&self, asker: &Asker, source: &Source) -> Result<bool, StoreError> {
        if source.version.is_some() {
            return Ok(true);
        }
        let condition = Condition::Is(source.etag.clone());
        self.is_there(asker, &source.key, &condition).await
    }

    /// Whether a condition holds, by HEAD.
    async fn is_there(
        &self,
        asker: &Asker,
        key: &str,
        condition: &Condition,
    ) -> Result<bool, StoreError> {
        let found = match self.head(asker, key).await {
            Err(StoreError::NotFound) => None,
            found => Some(found?),
        };
        Ok(match condition {
            Condition::Always => true,
            Condition::Absent => found.is_none(),
            Condition::Is(version) => found.is_some_and(|found| found.has_version(version)),
        })
    }

    /// The store has found the condition on a source wrong that was right.
    fn distrust(&self, source: &Source) {
        self.learn(|support| {
            support.source = match is_in_parts(&source.etag) {
                true if support.source == SourceMatch::All => SourceMatch::Whole,
                _ => SourceMatch::No,
            };
            tracing::info!(
                "conditions on the source of a copy at this store: {:?}",
                support.source
            );
        });
    }
}
