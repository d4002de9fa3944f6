//! Taking back what the kernel has cached.
//!
//! fuser's notifier must not be called from a callback or under a lock that one takes: the
//! kernel waits for requests on the way. A read or write that is not answered yet has its pages
//! locked, and taking those back would wait, in a sleep that not even SIGKILL ends, for an answer
//! that may wait for a person. So what is being read is left out: those pages hold nothing yet, and
//! will be filled with a living session or not at all. What is being written is left out until it
//! is answered, which takes a moment ([`super::over`]), and is taken back then.
//!
//! A request that begins between the look and the call still holds up a thread, and keeps a daemon
//! that is killed just then from dying until the mount is taken away by force, as the next start
//! does. Sessions mostly end under a burst of reads, so those get a moment to become known; and
//! files are taken back in pieces, so that one page holds up no others.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;
use tokio::sync::mpsc as reports;
use tokio::time::Instant;

use super::fuse::{Action, Unanswered};

/// How many threads take back: most may be held up, and it goes on.
const THREADS: usize = 16;

/// What requests that were on their way when the session ended get to become known.
const SETTLE: Duration = Duration::from_millis(50);

/// Stack of a thread that makes one system call after another, in bytes.
const STACK: usize = 128 << 10;

/// How long whoever locks waits for the pages to be gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a write that is not answered is left alone before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The kernel's page size is a multiple of this on every machine.
const KERNEL_PAGE: u64 = 4096;

/// How much is taken back by one call, in bytes.
const PIECE: u64 = 4 << 20;

/// The most pieces of one file.
const PIECES: u64 = 256;

/// Takes pages back, on threads of its own.
#[derive(Debug, Clone)]
pub(crate) struct KernelCache {
    orders: mpsc::Sender<Order>,
}

/// A piece of a file whose pages are to go.
#[derive(Debug)]
struct Order {
    inode: u64,
    range: Range<u64>,
    done: reports::UnboundedSender<Report>,
}

/// What became of it: the ranges that were being written, and so are still there.
type Report = (u64, Vec<Range<u64>>);

impl KernelCache {
    /// Starts the threads; they end with the last clone of the result.
    pub(crate) fn new(notifier: &Notifier, unanswered: &Arc<Unanswered>) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..THREADS {
            let (inbox, unanswered) = (Arc::clone(&inbox), Arc::clone(unanswered));
            let notifier = notifier.clone();
            start(move || {
                loop {
                    // The lock is let go before the kernel is called.
                    let next = inbox.lock().recv();
                    match next {
                        Ok(order) => take_back(&notifier, &unanswered, &order),
                        Err(_) => return,
                    }
                }
            })?;
        }
        // What is written without a session must not stay either.
        let (listener, filled) = mpsc::channel();
        unanswered.tell(listener);
        let forward = orders.clone();
        start(move || {
            while let Ok((inode, range)) = filled.recv() {
                let (done, _) = reports::unbounded_channel();
                let order = Order { inode, range, done };
                if forward.send(order).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders })
    }

    /// Takes all pages of these inodes back, of which the sizes are told. Returns when that is
    /// done, or held up: the inodes of which pages may be left.
    pub(crate) async fn take_back(&self, inodes: Vec<(u64, u64)>) -> Vec<u64> {
        tokio::time::sleep(SETTLE).await;
        let deadline = Instant::now() + PATIENCE;
        let (done, mut finished) = reports::unbounded_channel();
        let mut left: HashMap<u64, usize> = HashMap::new();
        let send = |inode, range: Range<u64>| {
            let order = Order {
                inode,
                range,
                done: done.clone(),
            };
            // Without the threads the mount is ending, and the kernel drops its pages by itself.
            self.orders.send(order).is_ok()
        };
        for (inode, size) in inodes {
            for piece in pieces(size) {
                if send(inode, piece) {
                    *left.entry(inode).or_default() += 1;
                }
            }
        }
        while !left.is_empty() {
            let Ok(Some((inode, written))) =
                tokio::time::timeout_at(deadline, finished.recv()).await
            else {
                break;
            };
            if !written.is_empty() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let again = written
                .into_iter()
                .filter(|range| send(inode, range.clone()));
            let more = again.count();
            if let Some(count) = left.get_mut(&inode) {
                *count = (*count + more).saturating_sub(1);
                if *count == 0 {
                    left.remove(&inode);
                }
            }
        }
        left.into_keys().collect()
    }
}

fn start(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = thread::Builder::new()
        .name("kernel-cache".to_owned())
        .stack_size(STACK);
    thread.spawn(work).map(drop)
}

/// A file in pieces; the last one has whatever may lie behind its end.
fn pieces(size: u64) -> Vec<Range<u64>> {
    let piece = (size / PIECES).next_multiple_of(PIECE).max(PIECE);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at + piece < size {
        pieces.push(at..at + piece);
        at += piece;
    }
    pieces.push(at..u64::MAX);
    pieces
}

fn take_back(notifier: &Notifier, unanswered: &Unanswered, order: &Order) {
    let (inode, meant) = (order.inode, &order.range);
    let meets = |range: &Range<u64>| range.start < meant.end && meant.start < range.end;
    let busy = unanswered.of(inode);
    let busy = busy.into_iter().filter(|(_, range)| meets(range));
    let (written, read): (Vec<_>, Vec<_>) = busy.partition(|(action, _)| *action == Action::Write);
    let locked = read.into_iter().chain(written.iter().cloned());
    for free in around(meant, locked.map(|(_, range)| range).collect()) {
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
    let written = written.into_iter();
    let rest = written.map(|(_, range)| range.start.max(meant.start)..range.end.min(meant.end));
    // Nobody may wait for it any more.
    let _ = order.done.send((inode, rest.collect()));
}

/// What of a range lies before, between and behind others, in whole pages of the kernel.
fn around(whole: &Range<u64>, mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut free = Vec::new();
    let mut at = whole.start / KERNEL_PAGE * KERNEL_PAGE;
    for range in ranges {
        let start = range.start / KERNEL_PAGE * KERNEL_PAGE;
        if start > at {
            free.push(at..start.min(whole.end));
        }
        at = at.max(range.end.next_multiple_of(KERNEL_PAGE));
    }
    if at < whole.end {
        free.push(at..whole.end);
    }
    free
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)]
    use super::*;

    #[test]
    fn what_is_being_read_is_left_out_in_whole_pages() {
        let all = 0..u64::MAX;
        assert_eq!(around(&all, vec![]), [0..u64::MAX]);
        assert_eq!(around(&all, vec![0..100]), [4096..u64::MAX]);
        let two = vec![200_000..204_800, 8192..12_288];
        let left = [0..8192, 12_288..196_608, 204_800..u64::MAX];
        assert_eq!(around(&all, two), left);
        let overlapping = vec![0..10_000, 4096..20_000];
        assert_eq!(around(&all, overlapping), [20_480..u64::MAX]);
        assert_eq!(around(&(8192..16_384), vec![0..9000]), [12_288..16_384]);
        assert_eq!(
            around(&(8192..16_384), vec![12_288..90_000]),
            [8192..12_288]
        );
        assert_eq!(around(&(8192..16_384), vec![0..90_000]), []);
    }

    #[test]
    fn a_file_is_taken_back_in_pieces() {
        assert_eq!(pieces(0), [0..u64::MAX]);
        assert_eq!(pieces(PIECE), [0..u64::MAX]);
        assert_eq!(pieces(PIECE + 1), [0..PIECE, PIECE..u64::MAX]);
        let large = pieces(5 << 40);
        assert!(large.len() <= 257, "{}", large.len());
        assert!(large.windows(2).all(|two| two[0].end == two[1].start));
    }
}
