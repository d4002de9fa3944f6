//! Taking back what the kernel has cached.
//!
//! fuser's notifier must not be called from a callback or under a lock that one takes: the
//! kernel waits for requests on the way. A read that is not answered yet has its pages locked,
//! and taking those back would wait, in a sleep that not even SIGKILL ends, for an answer that
//! may wait for a person. So what is being read is left out: those pages hold nothing yet, and
//! will be filled with a living session or not at all.
//!
//! A read that begins between the look and the call still holds up a thread, and keeps a daemon
//! that is killed just then from dying until the mount is taken away by force, as the next start
//! does. Sessions mostly end under a burst of reads, so those get a moment to become known.

use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;
use tokio::sync::mpsc as done;

use super::fuse::Reads;

/// How many threads take back: most may be held up, and it goes on.
const THREADS: usize = 16;

/// What reads that were on their way when the session ended get to become known.
const SETTLE: Duration = Duration::from_millis(50);

/// Stack of a thread that makes one system call after another, in bytes.
const STACK: usize = 128 << 10;

/// How long whoever locks waits for the pages to be gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// The kernel's page size is a multiple of this on every machine.
const KERNEL_PAGE: u64 = 4096;

/// Takes pages back, on threads of its own.
#[derive(Debug, Clone)]
pub(crate) struct KernelCache {
    orders: mpsc::Sender<Order>,
}

struct Order {
    inode: u64,
    /// Closes when all clones are dropped.
    _done: done::Sender<()>,
}

impl KernelCache {
    /// Starts the threads; they end with the last clone of the result.
    pub(crate) fn new(notifier: &Notifier, reads: &Arc<Reads>) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..THREADS {
            let (inbox, reads) = (Arc::clone(&inbox), Arc::clone(reads));
            let notifier = notifier.clone();
            thread::Builder::new()
                .name("kernel-cache".to_owned())
                .stack_size(STACK)
                .spawn(move || {
                    loop {
                        // The lock is let go before the kernel is called.
                        let next = inbox.lock().recv();
                        match next {
                            Ok(order) => take_back(&notifier, &reads, order.inode),
                            Err(_) => return,
                        }
                    }
                })?;
        }
        Ok(Self { orders })
    }

    /// Takes all pages of these inodes back. Returns when that is done, or is held up.
    pub(crate) async fn take_back(&self, inodes: Vec<u64>) {
        tokio::time::sleep(SETTLE).await;
        let (done, mut finished) = done::channel(1);
        for inode in inodes {
            // Without the threads the mount is ending, and the kernel drops its pages by itself.
            let _ = self.orders.send(Order {
                inode,
                _done: done.clone(),
            });
        }
        drop(done);
        if tokio::time::timeout(PATIENCE, finished.recv())
            .await
            .is_err()
        {
            tracing::warn!("the kernel is slow to give its cached pages back");
        }
    }
}

fn take_back(notifier: &Notifier, reads: &Reads, inode: u64) {
    for free in around(reads.unanswered(inode)) {
        let offset = i64::try_from(free.start).unwrap_or(i64::MAX);
        // Length 0 is "to the end".
        let length = match free.end {
            u64::MAX => 0,
            end => i64::try_from(end - free.start).unwrap_or(0),
        };
        if let Err(error) = notifier.inval_inode(INodeNo(inode), offset, length) {
            tracing::debug!("taking back inode {inode}: {error}");
        }
    }
}

/// What lies before, between and behind some ranges, in whole pages of the kernel.
fn around(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut free = Vec::new();
    let mut at = 0;
    for range in ranges {
        let start = range.start / KERNEL_PAGE * KERNEL_PAGE;
        if start > at {
            free.push(at..start);
        }
        at = at.max(range.end.next_multiple_of(KERNEL_PAGE));
    }
    free.push(at..u64::MAX);
    free
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)]
    use super::*;

    #[test]
    fn what_is_being_read_is_left_out_in_whole_pages() {
        assert_eq!(around(vec![]), [0..u64::MAX]);
        assert_eq!(around(vec![0..100]), [4096..u64::MAX]);
        let two = vec![200_000..204_800, 8192..12_288];
        assert_eq!(around(two), [0..8192, 12_288..196_608, 204_800..u64::MAX]);
        let overlapping = vec![0..10_000, 4096..20_000];
        assert_eq!(around(overlapping), [20_480..u64::MAX]);
    }
}
