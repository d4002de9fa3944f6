//! What is stored: a draft as it was at one moment.

use std::sync::Arc;
use std::time::SystemTime;

use super::draft::State;
use super::extents::Extents;
use super::file::Remote;
use super::upload::copied;
use crate::store::metadata::Metadata;
use crate::store::write::{Condition, Header};
use crate::store::{Facts, Object};

/// What is stored: a draft as it was at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) key: String,
    pub(super) content: Extents,
    pub(super) delta: Extents,
    pub(super) sources: Vec<Arc<Remote>>,
    pub(super) base: Option<Object>,
    pub(super) posix: Metadata,
    pub(super) kept: Option<Arc<Facts>>,
    pub(super) content_type: String,
    pub(super) version: u64,
    pub(super) dirty: bool,
    pub(super) nonce: String,
    /// Somebody has set the time of the last change.
    pub(super) timed: bool,
    /// What did not change is fetched and sent: the store does not copy it.
    pub(super) carried: bool,
}

impl Snapshot {
    pub(super) fn of(state: &State) -> Self {
        Self {
            key: state.key.clone(),
            content: state.content.clone(),
            delta: state.delta.clone(),
            sources: state.sources.clone(),
            base: state.base.clone(),
            posix: state.posix.clone(),
            kept: state.kept.clone(),
            content_type: state.content_type(),
            version: state.version,
            dirty: state.dirty,
            nonce: state.nonce.clone(),
            timed: state.timed,
            carried: false,
        }
    }

    /// The mark of this upload.
    pub(super) fn mark(&self) -> String {
        format!("{}-{}", self.nonce, self.version)
    }

    /// What the object carries.
    pub(super) fn header(&self) -> Header {
        Header {
            content_type: self.content_type.clone(),
            metadata: self.carried().write().into_iter().collect(),
            kept: self.kept.clone(),
        }
    }

    /// The attributes that the object carries, as far as there is room for them.
    fn carried(&self) -> Metadata {
        let posix = Metadata {
            nonce: Some(self.mark()),
            ..self.posix.clone()
        };
        let before = self.kept.as_deref().map(|facts| &facts.posix);
        posix.fitted(before, self.timed)
    }

    /// Whether an object has the bytes of the one that this is a copy of, and what the copy
    /// carries.
    pub(super) fn is_copied_as(&self, found: &Object) -> bool {
        let source = copied(self);
        let facts = found.facts.as_ref();
        source.is_some_and(|source| source.etag == found.etag)
            && facts.is_some_and(|facts| facts.posix == self.carried())
    }

    /// What must stand under the name for this to replace it.
    pub(super) fn condition(&self) -> Condition {
        match &self.base {
            Some(base) => Condition::Is(base.etag.clone()),
            None => Condition::Absent,
        }
    }

    /// What stands there once it is stored.
    pub(super) fn object(&self, etag: String) -> Object {
        let mut facts = self.kept.as_deref().cloned().unwrap_or_default();
        facts.posix = self.carried();
        facts.content_type = Some(self.content_type.clone());
        facts.version_id = None;
        facts.complete = true;
        Object {
            size: self.content.size(),
            modified: SystemTime::now(),
            etag,
            facts: Some(facts.into()),
        }
    }
}
