//! Conditional writes: `If-Match` and `If-None-Match` on PUT, copy, complete and delete.

use http::HeaderMap;
use s3s::dto::ETagCondition;

use crate::attributes::text;
use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::store::Object;

/// How a store treats conditional writes. AWS has them since 2024 and 2025; other stores do not, or
/// not all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConditionalWrites {
    /// As AWS: on PutObject, CompleteMultipartUpload, CopyObject, DeleteObject and DeleteObjects.
    #[default]
    All,
    /// Every write with such a header is answered 501 `NotImplemented`, as AWS did before.
    Refused,
    /// The headers are ignored in silence, as by old stores. So are the conditions on the source of a
    /// copy.
    Ignored,
    /// PutObject has them; completing, copying (conditions on the source included) and deleting ignore
    /// them.
    PutOnly,
    /// As [`PutOnly`](Self::PutOnly), and an `If-Match` in quotes never matches: Ceph RGW 16.2.
    PutOnlyUnquoted,
    /// `If-None-Match` on PutObject and on completing, and `If-Match` nowhere but on the sources of
    /// copies: Swift 2.38.
    AbsentOnly,
}

impl ConditionalWrites {
    /// Whether the conditions on the source of a copy are looked at.
    pub(crate) fn has_copy_sources(self) -> bool {
        matches!(self, Self::All | Self::Refused | Self::AbsentOnly)
    }

    fn applies_to(self, write: Write) -> bool {
        match self {
            Self::All | Self::Refused => true,
            Self::Ignored => false,
            Self::PutOnly | Self::PutOnlyUnquoted => write == Write::Put,
            Self::AbsentOnly => matches!(write, Write::Put | Write::Complete),
        }
    }
}

/// The kind of a write, as far as conditions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Put,
    Complete,
    Copy,
    Delete,
}

/// The conditions of one write, read and understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    if_match: Option<ETagCondition>,
    /// `If-None-Match: *`
    must_be_new: bool,
    /// An `If-Match` that this store can never find true.
    never: bool,
    /// Another write comes in between, as a fault has it.
    conflicts: bool,
    /// The key is a directory that was never put, and is there all the same.
    implied: bool,
    /// An `If-Match` finds no object in parts.
    misses_parts: bool,
}

impl Conditions {
    /// Amazon S3 API reference, `PutObject`, `CopyObject`, `CompleteMultipartUpload` and
    /// `DeleteObject`: `If-None-Match` takes `*` only and no delete takes it.
    pub(crate) fn read(
        headers: &HeaderMap,
        write: Write,
        exchange: &Exchange,
    ) -> Result<Self, Refusal> {
        let store = exchange.conditional_writes;
        let (if_match, if_none_match) = (text(headers, "if-match"), text(headers, "if-none-match"));
        let if_match = if_match.filter(|_| store != ConditionalWrites::AbsentOnly);
        if !store.applies_to(write) {
            return Ok(Self::default());
        }
        if if_none_match.is_some() && (if_none_match.as_deref() != Some("*") || if_match.is_some())
        {
            return Err(not_implemented("If-None-Match"));
        }
        if if_none_match.is_some()
            && (store == ConditionalWrites::Refused || write == Write::Delete)
        {
            return Err(not_implemented("If-None-Match"));
        }
        if if_match.is_some() && store == ConditionalWrites::Refused {
            return Err(not_implemented("If-Match"));
        }
        let is_quoted = if_match
            .as_deref()
            .is_some_and(|text| text.starts_with('"'));
        let if_match = if_match
            .map(|text| ETagCondition::parse_http_header(text.as_bytes()))
            .transpose()
            .map_err(|_| Refusal::s3("InvalidArgument").with("ArgumentName", "If-Match"))?;
        Ok(Self {
            conflicts: exchange.conflicts && (if_match.is_some() || if_none_match.is_some()),
            if_match,
            must_be_new: if_none_match.is_some(),
            never: is_quoted && store == ConditionalWrites::PutOnlyUnquoted,
            implied: false,
            misses_parts: exchange.misses_parts,
        })
    }

    /// The same for a key that is there although nothing was put.
    pub(crate) fn on_implied(self, implied: bool) -> Self {
        Self { implied, ..self }
    }

    /// The condition of one entry of DeleteObjects.
    pub(crate) fn on_etag(etag: Option<ETagCondition>) -> Self {
        Self {
            if_match: etag,
            ..Self::default()
        }
    }

    /// Whether the object's tag must be known to decide: takes `s3:GetObject` too. Amazon S3 user
    /// guide, "How to prevent object overwrites with conditional writes" and "How to perform
    /// conditional deletes".
    pub(crate) fn names_an_etag(headers: &HeaderMap) -> bool {
        text(headers, "if-match").is_some_and(|value| value != "*")
    }

    /// Decides on what is at the key now. An absent object is 404 to `If-Match`, on writes (the same
    /// page) and on deletes (undocumented for general purpose buckets, but so it answers).
    pub(crate) fn check(&self, key: &str, present: Option<&Object>) -> Result<(), Refusal> {
        if self.conflicts {
            return Err(Refusal::s3("ConditionalRequestConflict"));
        }
        if self.implied && present.is_none() {
            return match (&self.if_match, self.must_be_new) {
                (Some(_), _) => Err(failed("If-Match")),
                (None, true) => Err(failed("If-None-Match")),
                (None, false) => Ok(()),
            };
        }
        if self.must_be_new && present.is_some() {
            return Err(failed("If-None-Match"));
        }
        let Some(condition) = &self.if_match else {
            return Ok(());
        };
        let Some(present) = present else {
            return Err(Refusal::no_such_key(key));
        };
        let matches = match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => etag.value() == present.etag,
        };
        let is_missed = self.misses_parts && present.etag.contains('-');
        if matches && !self.never && !is_missed {
            Ok(())
        } else {
            Err(failed("If-Match"))
        }
    }
}

fn failed(condition: &str) -> Refusal {
    Refusal::s3("PreconditionFailed").with("Condition", condition)
}

fn not_implemented(header: &str) -> Refusal {
    Refusal::s3("NotImplemented").with("Header", header)
}
