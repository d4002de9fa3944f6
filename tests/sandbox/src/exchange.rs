//! What one request's stages tell each other.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;
use parking_lot::Mutex;
use s3s::{S3Error, s3_error};

use crate::conditions::ConditionalWrites;
use crate::counts::Kind;
use crate::refusal::Refusal;
use crate::uploads::CompletedUploads;

/// Travels in the request's extensions, so that the stages inside `s3s` can hand their refusal, with
/// all elements AWS sends, to the stage that writes the answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) kind: Kind,
    pub(crate) conditional_writes: ConditionalWrites,
    pub(crate) completed_uploads: CompletedUploads,
    /// Whether a condition meets another write.
    pub(crate) conflicts: bool,
    /// Whether `If-Match` finds no objects in parts.
    pub(crate) misses_parts: bool,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    refusal: Option<Refusal>,
    body: Option<VecDeque<Bytes>>,
    document: Option<Bytes>,
    session: Option<u64>,
    code_was_spent: bool,
    is_broken: bool,
    is_charged: bool,
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new(
            Kind::Other,
            ConditionalWrites::All,
            CompletedUploads::default(),
            false,
        )
    }
}

impl Exchange {
    pub(crate) fn new(
        kind: Kind,
        conditional_writes: ConditionalWrites,
        completed_uploads: CompletedUploads,
        conflicts: bool,
    ) -> Self {
        Self {
            kind,
            conditional_writes,
            completed_uploads,
            conflicts,
            misses_parts: false,
            notes: Mutex::default(),
        }
    }

    pub(crate) fn of(extensions: &Extensions) -> Arc<Self> {
        extensions.get::<Arc<Self>>().cloned().unwrap_or_default()
    }

    /// Keeps the refusal for the answer. The returned error only stops `s3s`.
    pub(crate) fn refuse(&self, refusal: Refusal) -> S3Error {
        self.notes.lock().refusal = Some(refusal);
        s3_error!(AccessDenied)
    }

    pub(crate) fn take_refusal(&self) -> Option<Refusal> {
        self.notes.lock().refusal.take()
    }

    /// Sets the bytes of an object; they bypass `s3s`, so that they can be sent without copying.
    pub(crate) fn set_body(&self, body: VecDeque<Bytes>) {
        self.notes.lock().body = Some(body);
    }

    pub(crate) fn take_body(&self) -> Option<VecDeque<Bytes>> {
        self.notes.lock().body.take()
    }

    /// Keeps the XML of a request, which `s3s` keeps to itself, for its digests.
    pub(crate) fn set_document(&self, document: Bytes) {
        self.notes.lock().document = Some(document);
    }

    pub(crate) fn document(&self) -> Bytes {
        self.notes.lock().document.clone().unwrap_or_default()
    }

    pub(crate) fn set_session(&self, number: u64) {
        self.notes.lock().session = Some(number);
    }

    pub(crate) fn session(&self) -> Option<u64> {
        self.notes.lock().session
    }

    /// Notes that the request carried a code whose step had been accepted before.
    pub(crate) fn set_code_was_spent(&self) {
        self.notes.lock().code_was_spent = true;
    }

    pub(crate) fn code_was_spent(&self) -> bool {
        self.notes.lock().code_was_spent
    }

    /// Notes that the request's body ended early: there is nobody left to answer.
    pub(crate) fn set_broken(&self) {
        self.notes.lock().is_broken = true;
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.notes.lock().is_broken
    }

    /// Notes that the requester pays, which the answer says.
    pub(crate) fn set_charged(&self) {
        self.notes.lock().is_charged = true;
    }

    pub(crate) fn is_charged(&self) -> bool {
        self.notes.lock().is_charged
    }
}
