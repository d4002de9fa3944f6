//! A line of limited speed that all bodies of one direction share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

/// A line. Its rate can change while bytes wait for it.
#[derive(Debug)]
pub(crate) struct Line {
    /// Bytes per second; 0 for no limit.
    rate: AtomicU64,
    /// When the line is free again.
    free: Mutex<Option<Instant>>,
    /// Wakes those who wait when the rate changes.
    changes: watch::Sender<u64>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            rate: AtomicU64::new(0),
            free: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Line {
    pub(crate) fn set_rate(&self, bytes_per_second: u64) {
        self.rate.store(bytes_per_second, Ordering::SeqCst);
        *self.free.lock() = None;
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn rate(&self) -> u64 {
        self.rate.load(Ordering::SeqCst)
    }

    /// Books `bytes`, and returns the wait until they may pass, which ends early when the rate changes.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut changes = self.changes.subscribe();
        let rate = self.rate();
        if rate == 0 {
            return None;
        }
        let now = Instant::now();
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut free_at = self.free.lock();
        let free = free_at.map_or(now, |free| free.max(now)) + takes;
        *free_at = Some(free);
        Some(async move {
            let _ = tokio::time::timeout(free - now, changes.changed()).await;
        })
    }
}
