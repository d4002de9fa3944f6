//! The reads and writes that are not answered yet, whose pages the kernel has locked.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;

/// What is asked of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Its pages hold nothing yet, and are filled with a living session or not at all.
    Read,
    /// Its pages may hold what they held before, and what is written.
    Write,
}

/// One that is not answered: what it asks, and of which bytes.
pub(crate) type Asked = (Action, Range<u64>);

/// Bytes of an inode.
pub(crate) type Bytes = (u64, Range<u64>);

/// The reads and writes that are not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// By inode.
    ranges: Mutex<HashMap<u64, Vec<Asked>>>,
    /// The handles that the kernel keeps no pages for.
    direct: Mutex<HashSet<u64>>,
    /// Who hears of pages that were filled while there was no session.
    filled: Mutex<Option<mpsc::Sender<Bytes>>>,
}

impl Unanswered {
    /// What of an inode has its pages locked.
    pub(crate) fn of(&self, inode: u64) -> Vec<Asked> {
        self.ranges.lock().get(&inode).cloned().unwrap_or_default()
    }

    /// Tells `listener` of each range that was written without a session.
    pub(crate) fn tell(&self, listener: mpsc::Sender<Bytes>) {
        *self.filled.lock() = Some(listener);
    }

    pub(super) fn opened_direct(&self, handle: u64) {
        self.direct.lock().insert(handle);
    }

    pub(super) fn released(&self, handle: u64) {
        self.direct.lock().remove(&handle);
    }

    /// Counts a request until the result is dropped; `None` if it locks no pages: with `O_DIRECT`
    /// in its `flags`, or on a handle without any.
    pub(super) fn begin(
        self: &Arc<Self>,
        action: Action,
        inode: u64,
        handle: u64,
        flags: i32,
        bytes: Range<u64>,
    ) -> Option<Request> {
        if flags & libc::O_DIRECT != 0 || self.direct.lock().contains(&handle) {
            return None;
        }
        let mut ranges = self.ranges.lock();
        ranges
            .entry(inode)
            .or_default()
            .push((action, bytes.clone()));
        Some(Request {
            unanswered: Arc::clone(self),
            inode,
            action,
            bytes,
        })
    }
}

/// One that is not answered.
pub(super) struct Request {
    unanswered: Arc<Unanswered>,
    inode: u64,
    action: Action,
    bytes: Range<u64>,
}

impl Request {
    /// It is answered, with bytes that nobody may see without a session: the kernel has to give
    /// them back.
    pub(super) fn have_taken_back(self) {
        let (unanswered, inode) = (Arc::clone(&self.unanswered), self.inode);
        let bytes = self.bytes.clone();
        drop(self);
        if let Some(listener) = &*unanswered.filled.lock() {
            // Without anybody who listens the mount is ending, and all goes.
            let _ = listener.send((inode, bytes));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut ranges = self.unanswered.ranges.lock();
        if let Some(of_inode) = ranges.get_mut(&self.inode) {
            let is_this = |other: &Asked| *other == (self.action, self.bytes.clone());
            if let Some(this) = of_inode.iter().position(is_this) {
                of_inode.swap_remove(this);
            }
            if of_inode.is_empty() {
                ranges.remove(&self.inode);
            }
        }
    }
}
