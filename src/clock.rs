//! The wall clock: as something a test can hold still, and as AWS has it.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use parking_lot::Mutex;

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

/// For how long answers that agree with the present correction speak for it.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// How many answers must agree on another time of day.
const AGREED: u32 = 2;

/// How many must when the one before them has agreed with the present one: the wrong node of a pool may
/// answer twice.
const AGREED_AGAINST_OTHERS: u32 = 3;

/// The machine's clock, corrected by what servers say the time is.
///
/// Sessions expire, codes change and signatures age by AWS's clock, so this is the one that they
/// are measured with. Without a word from a server it is the machine's.
///
/// One answer alone corrects nothing: a cache repeats an old `Date`, and one node of many may have a
/// clock of its own. What a request was refused for counts at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerClock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    /// How many milliseconds the server's clock is ahead of the machine's.
    ahead: AtomicI64,
    heard: Mutex<Heard>,
}

/// What answers have said of late.
#[derive(Debug, Default)]
struct Heard {
    /// When one has last agreed with the present correction, by the machine's clock.
    agreed: Option<SystemTime>,
    /// What the last ones said instead.
    rumour: Option<Rumour>,
}

/// A time of day that is not believed yet.
#[derive(Debug)]
struct Rumour {
    /// How many milliseconds the server would be ahead.
    ahead: i64,
    /// The last `Date` that said so, and the id of the request that it answered. An answer that
    /// repeats both is a copy.
    date: SystemTime,
    request: Option<String>,
    /// How many have said so.
    voices: u32,
}

/// What a server's time of day came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// An answer like any other.
    Passing,
    /// A refusal that gives this machine's time of day as its reason.
    Refusal,
}

impl ServerClock {
    /// Hears the server's time, at a moment of the machine's clock. Returns whether that changed
    /// anything.
    ///
    /// A word in passing changes something when the next answer agrees with it, which must be one to
    /// another request; when one has agreed with the present correction within the last minute, it
    /// takes one more.
    pub(crate) fn hear(
        &self,
        server: SystemTime,
        machine: SystemTime,
        word: Word,
        request: Option<&str>,
    ) -> bool {
        let apart = |a: i64, b: i64| Duration::from_millis(a.saturating_sub(b).unsigned_abs());
        let agrees = |a: i64, b: i64| apart(a, b) < TOLERANCE;
        let ahead = difference(server, machine);
        let ahead = if agrees(ahead, 0) { 0 } else { ahead };
        let mut heard = self.0.heard.lock();
        let present = self.0.ahead.load(Ordering::Relaxed);
        // Back to no correction is a change, however small.
        if agrees(ahead, present) && (ahead != 0 || present == 0) {
            heard.rumour = None;
            heard.agreed = Some(machine);
            return false;
        }
        let is_trusted = heard
            .agreed
            .is_some_and(|at| apart(difference(machine, at), 0) < TRUSTED_FOR);
        let needed = if is_trusted {
            AGREED_AGAINST_OTHERS
        } else {
            AGREED
        };
        let before = heard
            .rumour
            .take()
            .filter(|rumour| agrees(ahead, rumour.ahead));
        let voices = match &before {
            Some(rumour) if server > rumour.date => rumour.voices + 1,
            Some(rumour) if request.is_some() && request != rumour.request.as_deref() => {
                rumour.voices + 1
            }
            Some(rumour) => rumour.voices,
            None => 1,
        };
        if word == Word::Passing && voices < needed {
            heard.rumour = Some(Rumour {
                ahead,
                date: before.map_or(server, |rumour| rumour.date.max(server)),
                request: request.map(str::to_owned),
                voices,
            });
            return false;
        }
        *heard = Heard::default();
        self.0.ahead.store(ahead, Ordering::Relaxed);
        drop(heard);
        if apart(ahead, 0) >= WORTH_TELLING {
            tracing::warn!("{}", self.complaint());
        }
        true
    }

    /// How far the machine's clock is off, in words; empty if it is right.
    pub(crate) fn complaint(&self) -> String {
        let ahead = self.0.ahead.load(Ordering::Relaxed);
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
        self.0.ahead.load(Ordering::Relaxed) / 1000
    }
}

impl Clock for ServerClock {
    fn now(&self) -> SystemTime {
        let ahead = self.0.ahead.load(Ordering::Relaxed);
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

    const SECOND: Duration = Duration::from_secs(1);
    const TWENTY: Duration = Duration::from_secs(1200);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn a_second_of_latency_is_no_wrong_clock() {
        let clock = ServerClock::default();
        let machine = SystemTime::now();
        assert!(!clock.hear(machine - 2 * SECOND, machine, Word::Refusal, None));
        assert_eq!(clock.complaint(), "");
    }

    #[test]
    fn a_wrong_clock_that_requests_are_refused_for_is_corrected_and_told_in_words() {
        let clock = ServerClock::default();
        let machine = SystemTime::now();
        assert!(clock.hear(machine + TWENTY, machine, Word::Refusal, None));
        assert!(Clock::now(&clock) >= machine + TWENTY);
        assert!(clock.complaint().contains("20 minutes behind AWS's"));
        // The same again is no news.
        assert!(!clock.hear(machine + TWENTY, machine, Word::Refusal, None));
        assert!(clock.hear(machine - TWENTY, machine, Word::Refusal, None));
        assert!(clock.complaint().contains("20 minutes ahead of AWS's"));
        // Somebody has set the clock.
        assert!(clock.hear(machine, machine, Word::Refusal, None));
        assert_eq!(clock.complaint(), "");
    }

    #[test]
    fn a_date_in_passing_counts_when_a_second_answer_agrees() {
        for offset in [-600, 600] {
            let clock = ServerClock::default();
            let machine = SystemTime::now();
            let server = |at: SystemTime| match offset {
                ..0 => at - Duration::from_secs(600),
                _ => at + Duration::from_secs(600),
            };
            assert!(!clock.hear(server(machine), machine, Word::Passing, None));
            assert_eq!(clock.seconds_ahead(), 0);
            let later = machine + SECOND;
            assert!(clock.hear(server(later), later, Word::Passing, None));
            assert_eq!(clock.seconds_ahead(), offset);
        }
    }

    #[test]
    fn a_cache_that_repeats_one_date_is_no_second_answer() {
        let clock = ServerClock::default();
        let machine = SystemTime::now();
        let date = machine + YEAR;
        for millis in 0..50 {
            let at = machine + Duration::from_millis(100 * millis);
            assert!(!clock.hear(date, at, Word::Passing, None), "{millis}");
        }
    }

    #[test]
    fn one_node_of_ten_with_a_clock_of_its_own_moves_nothing() {
        for first in 0..10 {
            let clock = ServerClock::default();
            let machine = SystemTime::now();
            for answer in first..1000 {
                let at = machine + answer * SECOND;
                // Now and then it answers twice in a row.
                let is_off = answer % 10 == 9 || answer % 100 == 0;
                let date = if is_off { at + YEAR } else { at };
                assert!(
                    !clock.hear(date, at, Word::Passing, None),
                    "{first} {answer}"
                );
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_is_followed_within_a_few_answers() {
        let clock = ServerClock::default();
        let machine = SystemTime::now();
        for answer in 0..100 {
            let at = machine + answer * SECOND;
            clock.hear(at, at, Word::Passing, None);
        }
        // The machine is an hour ahead from now on.
        let hour = Duration::from_secs(3600);
        let moved = (100..110).position(|answer| {
            let at = machine + answer * SECOND;
            clock.hear(at, at + hour, Word::Passing, None)
        });
        assert_eq!(moved, Some(1));
        assert_eq!(clock.seconds_ahead(), -3600);
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
