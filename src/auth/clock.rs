//! The wall clock, as something a test can hold still.

use std::fmt::Debug;
use std::time::SystemTime;

/// Tells the time of day.
///
/// Expiry and MFA age are wall-clock facts: the monotonic clock stands still while a laptop
/// sleeps, and a session dies in its sleep all the same.
pub(crate) trait Clock: Debug + Send + Sync + 'static {
    /// Returns the present moment.
    fn now(&self) -> SystemTime;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Writes a moment as local wall-clock time, `14:05`, for prompts and status lines.
pub(crate) fn wall_time(moment: SystemTime) -> String {
    local(moment, "%H:%M")
}

/// Writes a moment as RFC 3339 in UTC, `2026-11-22T14:05:09Z`, for programs.
pub(crate) fn rfc3339(moment: SystemTime) -> String {
    jiff::Timestamp::try_from(moment)
        .map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

fn local(moment: SystemTime, format: &str) -> String {
    jiff::Timestamp::try_from(moment)
        .map(|t| {
            t.to_zoned(jiff::tz::TimeZone::system())
                .strftime(format)
                .to_string()
        })
        .unwrap_or_else(|_| "an unknown time".to_owned())
}
