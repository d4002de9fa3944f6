//! The threads that wait for an answer: a terminal is borrowed from one of them.

use std::sync::Arc;

use tokio::sync::watch;

/// The threads that wait at this moment, shared with who adds and removes them.
#[derive(Debug, Clone)]
pub(crate) struct Waiters(Arc<watch::Sender<Vec<u32>>>);

impl Default for Waiters {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Waiters {
    /// A thread waits. 0 is none, and lends nothing.
    pub(crate) fn add(&self, tid: u32) {
        if tid != 0 {
            self.0.send_modify(|tids| tids.push(tid));
        }
    }

    /// It waits no more.
    pub(crate) fn remove(&self, tid: u32) {
        self.0.send_if_modified(|tids| {
            let at = tids.iter().position(|waiting| *waiting == tid);
            at.map(|at| tids.swap_remove(at)).is_some()
        });
    }

    /// The first for which `of` finds something, in the order in which they came, mostly.
    pub(super) fn find<T>(&self, of: impl Fn(u32) -> Option<T>) -> Option<(u32, T)> {
        let tids = self.0.borrow().clone();
        tids.into_iter().find_map(|tid| Some((tid, of(tid)?)))
    }

    /// Returns once a thread waits no more.
    pub(super) async fn gone(&self, tid: u32) {
        let mut tids = self.0.subscribe();
        // The sender lives as long as this.
        let _ = tids.wait_for(|tids| !tids.contains(&tid)).await;
    }
}
