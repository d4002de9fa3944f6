//! The sandbox's clock, which tests can move forward, and set apart from the client's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// A handle to the sandbox's clock: the server's time of day plus everything it was advanced by.
///
/// It decides when sessions are issued and expire, how old an MFA authentication is, and which
/// TOTP step is the present one. It runs on by itself and can only be advanced, as time passes.
/// Advancing it lets time pass for everyone, so it never makes a signature look skewed. For that
/// there is [`Sandbox::skew`](crate::Sandbox::skew), which sets the server's time of day, and this
/// clock with it, apart from the wall clock that clients go by.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    hands: Arc<Hands>,
}

#[derive(Debug, Default)]
struct Hands {
    ahead_nanos: AtomicU64,
    /// How far the server's time of day is ahead of the wall clock; negative if it is behind.
    skew_millis: AtomicI64,
}

impl Clock {
    /// Returns the present time of the sandbox.
    pub fn now(&self) -> SystemTime {
        self.time_of_day() + self.ahead()
    }

    /// The server's time of day, which signatures are checked against: advancing does not move it.
    pub(crate) fn time_of_day(&self) -> SystemTime {
        let millis = self.hands.skew_millis.load(Ordering::SeqCst);
        let by = Duration::from_millis(millis.unsigned_abs());
        if millis < 0 {
            SystemTime::now() - by
        } else {
            SystemTime::now() + by
        }
    }

    pub(crate) fn set_skew_millis(&self, millis: i64) {
        self.hands.skew_millis.store(millis, Ordering::SeqCst);
    }

    /// Lets `by` pass at once.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX / 2);
        self.hands.ahead_nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Returns how far the clock has been advanced. A skew is not in it.
    pub fn ahead(&self) -> Duration {
        Duration::from_nanos(self.hands.ahead_nanos.load(Ordering::SeqCst))
    }
}

/// Whole seconds since the Unix epoch; 0 for times before it.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Drops the fraction of a second: S3 keeps whole seconds.
pub(crate) fn whole_second(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix_seconds(time))
}

/// `2026-08-22T10:00:00Z`, the form STS and S3 print times in.
pub(crate) fn iso8601(time: SystemTime) -> String {
    format_utc(time, "%Y-%m-%dT%H:%M:%SZ")
}

/// `20260822T100000Z`, the form of the `x-amz-date` header.
pub(crate) fn amz_date(time: SystemTime) -> String {
    format_utc(time, "%Y%m%dT%H%M%SZ")
}

/// Reads an `x-amz-date` header.
pub(crate) fn parse_amz_date(text: &str) -> Option<SystemTime> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(SystemTime::from(zoned.timestamp()))
}

fn format_utc(time: SystemTime, format: &str) -> String {
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    timestamp.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_moves_every_handle() {
        let clock = Clock::default();
        let other = clock.clone();
        let before = other.now();
        clock.advance(Duration::from_secs(3600));
        assert!(other.now() >= before + Duration::from_secs(3600));
    }

    #[test]
    fn a_skew_moves_the_time_of_day_and_the_clock_with_it() {
        let clock = Clock::default();
        let hour = Duration::from_secs(3600);
        clock.advance(hour);
        clock.set_skew_millis(-600_000);
        let wall = SystemTime::now();
        assert!(clock.time_of_day() < wall - Duration::from_secs(590));
        assert!(clock.now() < wall + hour - Duration::from_secs(590));
        assert_eq!(clock.ahead(), hour);
    }

    #[test]
    fn amz_dates_are_read_back() {
        let time = UNIX_EPOCH + Duration::from_secs(1_780_000_000);
        assert_eq!(parse_amz_date(&amz_date(time)), Some(time));
        assert_eq!(parse_amz_date("yesterday"), None);
        assert_eq!(iso8601(UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
