//! What one request's stages tell each other.

use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;
use parking_lot::Mutex;
use s3s::{S3Error, s3_error};

use crate::refusal::Refusal;

/// Travels in the request's extensions, so that the stages inside `s3s` can hand their refusal, with
/// all elements AWS sends, to the stage that writes the answer.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    refusal: Option<Refusal>,
    body: Option<Bytes>,
    session: Option<u64>,
    code_was_spent: bool,
}

impl Exchange {
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
    pub(crate) fn set_body(&self, body: Bytes) {
        self.notes.lock().body = Some(body);
    }

    pub(crate) fn take_body(&self) -> Option<Bytes> {
        self.notes.lock().body.take()
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
}
