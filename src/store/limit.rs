//! A limit on bytes per second.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets so many bytes pass in a second, on average.
#[derive(Debug)]
pub(crate) struct Limit {
    per_second: Option<u64>,
    /// When everything that was let pass has passed.
    free: Mutex<Instant>,
}

impl Limit {
    /// `None` lets everything pass.
    pub(crate) fn new(per_second: Option<u64>) -> Self {
        Self {
            per_second,
            free: Mutex::new(Instant::now()),
        }
    }

    /// Waits until bytes may pass. They pass at once then: only the pause before the next ones is
    /// longer.
    pub(crate) async fn take(&self, bytes: u64) {
        let Some(per_second) = self.per_second else {
            return;
        };
        let start = {
            let mut free = self.free.lock();
            let start = (*free).max(Instant::now());
            let seconds = bytes as f64 / per_second as f64;
            *free = start + Duration::from_secs_f64(seconds);
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_average_holds() {
        let limit = Limit::new(Some(1000));
        let begun = Instant::now();
        for _ in 0..11 {
            limit.take(500).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        let unlimited = Limit::new(None);
        unlimited.take(u64::MAX).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }
}
