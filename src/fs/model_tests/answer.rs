//! What an operation comes to, in words that both sides share.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::fs::inodes::Type;

/// The way to a name from the root, by its components.
pub(super) type Path = Vec<String>;

/// A value, or an errno.
pub(super) type Told<T> = Result<T, i32>;

/// Bytes that are not printed at length.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Content(pub(super) Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        write!(f, "{} bytes:", self.0.len())?;
        // Runs that count up, as those that are written here do.
        let mut shown = 0;
        while at < self.0.len() && shown < 6 {
            let is_zero = self.0[at] == 0;
            let goes_on = |i: usize| {
                let (before, now) = (self.0[i - 1], self.0[i]);
                match is_zero {
                    true => now == 0,
                    false => now == before % 251 + 1,
                }
            };
            let end = (at + 1..self.0.len())
                .find(|i| !goes_on(*i))
                .unwrap_or(self.0.len());
            write!(f, " {at}..{end} from {}", self.0[at])?;
            at = end;
            shown += 1;
        }
        if at < self.0.len() {
            write!(f, " …")
        } else {
            Ok(())
        }
    }
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Count(u64),
    Bytes(Content),
    Names(Vec<(String, Type)>),
    Texts(Vec<String>),
    Attributes(Attributes),
}

/// When something was changed, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Somebody has set this time, which is long ago.
    Set(SystemTime),
    /// By the test itself.
    Now,
}

/// Times that are set are before this one: 2009.
pub(super) const LONG_AGO: u64 = 1_240_000_000;

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        if time < SystemTime::UNIX_EPOCH + Duration::from_secs(LONG_AGO) {
            Self::Set(time)
        } else {
            Self::Now
        }
    }
}

/// What stat(2) tells, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) kind: Type,
    /// Of directories nobody promises one.
    pub(super) size: Option<u64>,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) links: Option<u64>,
    pub(super) modified: Moment,
}

impl Attributes {
    /// Whether they are what they should be. That names in a directory were changed is not
    /// remembered over a remount.
    pub(super) fn agree_with(&self, model: &Self) -> bool {
        let mut expected = model.clone();
        if expected.kind == Type::Directory && expected.modified == Moment::Now {
            expected.modified = self.modified;
        }
        *self == expected
    }
}

impl Answer {
    /// Whether it is what it should be.
    pub(super) fn agrees_with(&self, model: &Self) -> bool {
        match (self, model) {
            (Self::Attributes(told), Self::Attributes(model)) => told.agree_with(model),
            (told, model) => told == model,
        }
    }
}

/// The time that a number stands for, fractions among them.
pub(super) fn time(number: u32) -> SystemTime {
    let nanoseconds = match number % 3 {
        0 => 0,
        1 => 500_000_000,
        _ => number % 1_000_000_000,
    };
    let seconds = u64::from(number) % (LONG_AGO - 1);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}
