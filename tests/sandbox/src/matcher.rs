//! Which requests a fault hits.

use crate::counts::Kind;
use crate::request::Call;
use crate::service::Service;

/// Which requests a fault hits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    scope: Scope,
    prefix: Option<String>,
    key: Option<String>,
    part: Option<i32>,
    only_conditional: bool,
    skip: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    Everything,
    S3,
    Writes,
    Kind(Kind),
}

impl Matcher {
    /// Matches every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Matches every request to S3, and none to other services.
    pub fn s3() -> Self {
        Self::of(Scope::S3)
    }

    /// Matches the requests to S3 that [write](Kind::is_write).
    pub fn writes() -> Self {
        Self::of(Scope::Writes)
    }

    /// Matches requests of one kind.
    pub fn kind(kind: Kind) -> Self {
        Self::of(Scope::Kind(kind))
    }

    fn of(scope: Scope) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    /// Narrows the matcher to objects whose key, and listings whose prefix, starts with `prefix`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Narrows the matcher to requests for that key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Narrows the matcher to requests for the part of that number.
    pub fn part(mut self, number: i32) -> Self {
        self.part = Some(number);
        self
    }

    /// Narrows the matcher to writes with `If-Match` or `If-None-Match`.
    pub fn conditional(mut self) -> Self {
        self.only_conditional = true;
        self
    }

    /// Lets the first `n - 1` matching requests pass, so that the `n`th from now is the first one hit;
    /// 1 is the next one. They count from when the fault is switched on.
    pub fn nth(mut self, n: u64) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// How many matching requests pass before the first one is hit.
    pub(crate) fn skip(&self) -> u64 {
        self.skip
    }

    pub(crate) fn matches(&self, call: &Call) -> bool {
        let named = call
            .key
            .as_deref()
            .or(call.prefix.as_deref())
            .unwrap_or_default();
        let in_scope = match self.scope {
            Scope::Everything => true,
            Scope::S3 => call.kind.service() == Service::S3,
            Scope::Writes => call.kind.is_write(),
            Scope::Kind(kind) => kind == call.kind,
        };
        in_scope
            && (!self.only_conditional || call.is_conditional_write())
            && (self.part.is_none() || self.part == call.part_number)
            && (self.key.is_none() || self.key == call.key)
            && self
                .prefix
                .as_deref()
                .is_none_or(|prefix| named.starts_with(prefix))
    }
}

impl From<Kind> for Matcher {
    fn from(kind: Kind) -> Self {
        Self::kind(kind)
    }
}
