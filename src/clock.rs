//! The wall clock: as something a test can hold still, and as AWS has it.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;

/// How far the machine may be off before that is corrected.
///
/// `Date` has whole seconds and is as old as the answer's way; a correction for less than this
/// would be noise.
const TOLERANCE: Duration = Duration::from_secs(5);

/// How far the machine may be off before a person hears of it: AWS refuses at 15 minutes, codes
/// fail long before that on a device that takes its time from here.
const WORTH_TELLING: Duration = Duration::from_secs(60);

/// Tells the time of day.
///
/// Expiry and MFA age are wall-clock facts: the monotonic clock stands still while a laptop
/// sleeps, and a session dies in its sleep all the same.
pub(crate) trait Clock: Debug + Send + Sync + 'static {
    /// Returns the present moment.
    fn now(&self) -> SystemTime;
}

/// The machine's clock, corrected by what servers say the time is.
///
/// Sessions expire, codes change and signatures age by AWS's clock, so this is the one that they
/// are measured with. Without a word from a server it is the machine's.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerClock {
    /// How many milliseconds the server's clock is ahead of the machine's.
    ahead: Arc<AtomicI64>,
}

impl ServerClock {
    /// Hears the server's time, at a moment of the machine's clock. Returns whether that changed
    /// anything.
    pub(crate) fn hear(&self, server: SystemTime, machine: SystemTime) -> bool {
        let ahead = difference(server, machine);
        let off = |millis: i64| Duration::from_millis(millis.unsigned_abs());
        let ahead = if off(ahead) < TOLERANCE { 0 } else { ahead };
        let before = self.ahead.load(Ordering::Relaxed);
        if off(ahead - before) < TOLERANCE && (ahead != 0 || before == 0) {
            return false;
        }
        self.ahead.store(ahead, Ordering::Relaxed);
        if off(ahead) >= WORTH_TELLING {
            tracing::warn!("{}", self.complaint());
        }
        true
    }

    /// How far the machine's clock is off, in words; empty if it is right.
    pub(crate) fn complaint(&self) -> String {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead.unsigned_abs() < u64::try_from(TOLERANCE.as_millis()).unwrap_or(u64::MAX) {
            return String::new();
        }
        let seconds = ahead.unsigned_abs() / 1000;
        let by = match seconds {
            0..120 => format!("{seconds} seconds"),
            _ => format!("{} minutes", (seconds + 30) / 60),
        };
        let direction = if ahead > 0 { "behind" } else { "ahead of" };
        format!(
            "this machine's clock is {by} {direction} AWS's. Requests are corrected for it; set it \
             all the same: timedatectl set-ntp true"
        )
    }

    /// How far the server is ahead of the machine, in whole seconds.
    pub(crate) fn seconds_ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed) / 1000
    }
}

impl Clock for ServerClock {
    fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let by = Duration::from_millis(ahead.unsigned_abs());
        let machine = SystemTime::now();
        let server = if ahead < 0 {
            machine.checked_sub(by)
        } else {
            machine.checked_add(by)
        };
        server.unwrap_or(machine)
    }
}

impl TimeSource for ServerClock {
    fn now(&self) -> SystemTime {
        Clock::now(self)
    }
}

/// `a - b` in milliseconds.
fn difference(a: SystemTime, b: SystemTime) -> i64 {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match a.duration_since(b) {
        Ok(span) => millis(span),
        Err(error) => -millis(error.duration()),
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

/// Reads a moment as RFC 3339 has it, or as Python's `%Z` spells UTC (`2026-11-22T14:05:09UTC`).
pub(crate) fn moment(text: &str) -> Option<SystemTime> {
    let text = match text.strip_suffix("UTC") {
        Some(bare) => format!("{bare}Z"),
        None => text.to_owned(),
    };
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_latency_is_no_wrong_clock() {
        let clock = ServerClock::default();
        let machine = SystemTime::now();
        assert!(!clock.hear(machine - Duration::from_secs(2), machine));
        assert_eq!(clock.complaint(), "");
    }

    #[test]
    fn a_wrong_clock_is_corrected_and_told_in_words() {
        let clock = ServerClock::default();
        let machine = SystemTime::now();
        let twenty = Duration::from_secs(1200);
        assert!(clock.hear(machine + twenty, machine));
        assert!(Clock::now(&clock) >= machine + twenty);
        assert!(clock.complaint().contains("20 minutes behind AWS's"));
        // The same again is no news.
        assert!(!clock.hear(machine + twenty, machine));
        assert!(clock.hear(machine - twenty, machine));
        assert!(clock.complaint().contains("20 minutes ahead of AWS's"));
        // Somebody has set the clock.
        assert!(clock.hear(machine, machine));
        assert_eq!(clock.complaint(), "");
    }

    #[test]
    fn moments_are_read_as_aws_and_python_write_them() {
        let expected = moment("2026-08-22T10:00:00Z");
        assert!(expected.is_some());
        for text in [
            "2026-08-22T10:00:00UTC",
            "2026-08-22T10:00:00+00:00",
            "2026-08-22T12:00:00+02:00",
            "2026-08-22T10:00:00.000000000Z",
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
        assert_eq!(moment("tomorrow"), None);
    }
}
