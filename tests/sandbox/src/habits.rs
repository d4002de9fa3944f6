//! What other stores do otherwise than AWS, one switch for each habit.
//!
//! A sandbox without a habit answers as AWS does. Each habit was seen at a real store or proxy, and
//! names it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use parking_lot::RwLock;

use crate::body::ServedBody;
use crate::counts::Kind;
use crate::request::Call;

/// One way in which a store differs from AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Habit {
    /// HEAD is answered without Content-Length, which RFC 9110 (8.6) allows: Cloudflare's R2,
    /// StorageGRID and proxies that compress.
    HeadWithoutLength,
}

/// A handle to the habits. All of it can be called at any time from any thread.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    on: Arc<RwLock<HashSet<Habit>>>,
}

impl Habits {
    /// Has the store do this from now on.
    pub fn adopt(&self, habit: Habit) {
        self.on.write().insert(habit);
    }

    /// Has the store do as AWS does again.
    pub fn drop(&self, habit: Habit) {
        self.on.write().remove(&habit);
    }

    /// Whether the store does this.
    pub(crate) fn has(&self, habit: Habit) -> bool {
        self.on.read().contains(&habit)
    }

    /// Changes the headers and the document of a successful answer of S3, before it gets its final
    /// form.
    pub(crate) fn change_document(
        &self,
        response: Response<Bytes>,
        call: &Call,
    ) -> Response<Bytes> {
        if self.on.read().is_empty() {
            return response;
        }
        let (mut parts, document) = response.into_parts();
        self.change_headers(&mut parts.headers, call);
        Response::from_parts(parts, document)
    }

    /// Changes the final form of any answer of S3.
    pub(crate) fn change_answer(&self, _response: &mut Response<ServedBody>, _call: &Call) {}

    fn change_headers(&self, headers: &mut HeaderMap, call: &Call) {
        if call.kind == Kind::Head && self.has(Habit::HeadWithoutLength) {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
}
