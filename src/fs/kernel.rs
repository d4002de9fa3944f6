//! Taking back what the kernel has cached.
//!
//! fuser's notifier must not be called from a callback or under a lock that one takes: the
//! kernel waits for requests on the way. An inode with a read that is not answered yet has
//! locked folios, and taking its pages back waits for that answer, which may wait for a
//! person. So quiet inodes go first, on one thread, and each busy one has a thread of its own.

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;

use fuser::{INodeNo, Notifier};
use tokio::sync::oneshot;

/// Stack of a thread that makes one system call, in bytes.
const STACK: usize = 128 << 10;

/// Takes pages back, on threads of its own.
#[derive(Debug, Clone)]
pub(crate) struct KernelCache {
    orders: mpsc::Sender<Order>,
}

struct Order {
    inodes: Vec<u64>,
    busy: HashSet<u64>,
    done: oneshot::Sender<()>,
}

impl KernelCache {
    /// Starts the thread; it ends with the last clone of the result.
    pub(crate) fn new(notifier: Notifier) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("kernel-cache".to_owned())
            .spawn(move || {
                for order in inbox {
                    obey(&notifier, order);
                }
            })?;
        Ok(Self { orders })
    }

    /// Takes all pages of these inodes back. The receiver hears when the quiet ones are done.
    pub(crate) fn take_back(&self, inodes: Vec<u64>, busy: HashSet<u64>) -> oneshot::Receiver<()> {
        let (done, heard) = oneshot::channel();
        // Without the thread the mount is ending, and the kernel drops its pages by itself.
        let _ = self.orders.send(Order { inodes, busy, done });
        heard
    }
}

fn obey(notifier: &Notifier, order: Order) {
    let (busy, quiet): (Vec<u64>, Vec<u64>) =
        order.inodes.iter().partition(|i| order.busy.contains(i));
    for inode in busy {
        let notifier = notifier.clone();
        let started = thread::Builder::new()
            .name("kernel-cache-busy".to_owned())
            .stack_size(STACK)
            .spawn(move || take_back(&notifier, inode));
        if let Err(error) = started {
            tracing::error!("cannot take back the kernel's pages of inode {inode}: {error}");
        }
    }
    for inode in quiet {
        take_back(notifier, inode);
    }
    let _ = order.done.send(());
}

fn take_back(notifier: &Notifier, inode: u64) {
    // Offset and length 0: all pages, and the attributes.
    if let Err(error) = notifier.inval_inode(INodeNo(inode), 0, 0) {
        tracing::debug!("taking back inode {inode}: {error}");
    }
}
