//! Times on their way from the kernel.

use std::time::{Duration, SystemTime};

use fuser::TimeOrNow;

/// The moment that setattr(2)'s relatives name.
pub(super) fn moment(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => decoded(time),
        TimeOrNow::Now => SystemTime::now(),
    }
}

/// What fuser has made of the kernel's seconds and nanoseconds, put right.
///
/// `-2 s + 500,000,000 ns` is -1.5 s (`struct timespec64` of Linux). fuser 0.18 takes the
/// nanoseconds off instead of adding them (`system_time_from_time` in its `src/time.rs`), and makes
/// -2.5 s of it. Times in whole seconds, and from 1970 on, are right. So are those that it sends.
fn decoded(time: SystemTime) -> SystemTime {
    let Err(before) = time.duration_since(SystemTime::UNIX_EPOCH) else {
        return time;
    };
    let fraction = Duration::from_nanos(u64::from(before.duration().subsec_nanos()));
    time + 2 * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_before_1970_counts_forward() {
        let epoch = SystemTime::UNIX_EPOCH;
        let second = Duration::from_secs(1);
        let half = second / 2;
        // The kernel's (-2, 500,000,000), (-1, 1), (-1, 0) and (1, 1).
        assert_eq!(decoded(epoch - 2 * second - half), epoch - second - half);
        let nano = Duration::from_nanos(1);
        assert_eq!(decoded(epoch - second - nano), epoch - second + nano);
        assert_eq!(decoded(epoch - second), epoch - second);
        assert_eq!(decoded(epoch + second + nano), epoch + second + nano);
    }
}
