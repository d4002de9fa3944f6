//! The page cache: aligned pages of 1 MiB, filled in blocks of 64 KiB.
//!
//! A reply to the kernel is one slice, and a request of the kernel is at most 1 MiB, so most
//! requests lie within one page and are answered straight from it. A block is fetched by one
//! flight at a time; everybody else waits for that.
//!
//! Invariant: every page holds one permit of the budget for as long as it exists, so that
//! pages in use, in flight and in the cache together never exceed it.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::store::Failure;

/// The size of a page in bytes.
pub(crate) const PAGE: u64 = 1 << 20;

/// The size of a block in bytes.
pub(crate) const BLOCK: u64 = 64 << 10;

/// The fewest pages a cache has, whatever the budget: one to read, one to read ahead.
const FEWEST: u64 = 4;

/// Which page of which version of a file.
pub(crate) type PageId = (u64, u64);

/// Blocks of a page, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Blocks(u16);

impl Blocks {
    /// The blocks that the bytes `start..end` of a page touch.
    pub(crate) fn of(start: u64, end: u64) -> Self {
        let first = start / BLOCK;
        let last = end.div_ceil(BLOCK).min(PAGE / BLOCK);
        Self((first..last).fold(0, |bits, block| bits | 1 << block))
    }

    fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn plus(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first run of neighbours.
    fn first_run(self) -> Self {
        let start = self.0.trailing_zeros();
        let length = (self.0.checked_shr(start).unwrap_or(0)).trailing_ones();
        let ones = 1_u32.checked_shl(length).unwrap_or(0).wrapping_sub(1);
        Self(u16::try_from((ones << start.min(31)) & 0xffff).unwrap_or(0))
    }

    /// The bytes of a run within its page.
    fn bytes(self) -> std::ops::Range<u64> {
        let start = u64::from(self.0.trailing_zeros());
        let end = u64::from(16 - self.0.leading_zeros());
        start * BLOCK..end * BLOCK
    }
}

/// Up to 1 MiB of one version of a file.
#[derive(Debug)]
pub(crate) struct Page {
    data: RwLock<Box<[u8]>>,
    filling: Mutex<Filling>,
    /// Counts what happened to the page: blocks that came, flights that failed.
    events: watch::Sender<u64>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Filling {
    here: Blocks,
    coming: Blocks,
    /// The last flight that failed: at which event, for which blocks, and why.
    failure: Option<(u64, Blocks, Failure)>,
}

/// What a reader has to do for its blocks.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Nothing: they are here.
    Here,
    /// Wait: somebody fetches them.
    Coming,
    /// Fetch these, which are its own now.
    Fetch(Blocks),
}

impl Page {
    /// Hands out bytes that are here.
    pub(crate) fn with<R>(&self, start: u64, end: u64, take: impl FnOnce(&[u8]) -> R) -> R {
        let data = self.data.read();
        let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(data.len());
        take(&data[clip(start)..clip(end)])
    }

    /// Whether all these blocks are here.
    pub(crate) fn has(&self, wanted: Blocks) -> bool {
        wanted.minus(self.filling.lock().here).is_empty()
    }

    /// Takes on a run of missing blocks, unless there is none.
    pub(crate) fn claim(&self, wanted: Blocks) -> Claim {
        let mut filling = self.filling.lock();
        let missing = wanted.minus(filling.here);
        if missing.is_empty() {
            return Claim::Here;
        }
        let free = missing.minus(filling.coming);
        if free.is_empty() {
            return Claim::Coming;
        }
        let run = free.first_run();
        filling.coming = filling.coming.plus(run);
        Claim::Fetch(run)
    }

    /// What happens from now on.
    pub(crate) fn events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// The failure since an event that leaves some of these blocks missing.
    pub(crate) fn failure_since(&self, event: u64, wanted: Blocks) -> Option<Failure> {
        let filling = self.filling.lock();
        let (at, blocks, failure) = filling.failure.as_ref()?;
        (*at > event && blocks.meets(wanted)).then(|| failure.clone())
    }

    fn write(&self, at: usize, bytes: &[u8]) -> usize {
        let mut data = self.data.write();
        let length = bytes.len().min(data.len().saturating_sub(at));
        data[at..at + length].copy_from_slice(&bytes[..length]);
        length
    }

    fn arrived(&self, blocks: Blocks) {
        let mut filling = self.filling.lock();
        filling.here = filling.here.plus(blocks);
        filling.coming = filling.coming.minus(blocks);
        // Counted under the lock, so that events and what they tell of are in one order.
        self.events.send_modify(|count| *count += 1);
    }

    fn failed(&self, blocks: Blocks, failure: Failure) {
        let mut filling = self.filling.lock();
        let missing = blocks.minus(filling.here);
        filling.coming = filling.coming.minus(missing);
        self.events.send_modify(|count| {
            *count += 1;
            filling.failure = Some((*count, missing, failure));
        });
    }
}

/// The pages of a mount.
#[derive(Debug)]
pub(crate) struct Pages {
    cached: Mutex<LruCache<PageId, Arc<Page>>>,
    budget: Arc<Semaphore>,
    capacity: u64,
    /// Somebody let go of a page.
    released: Notify,
}

/// A page in use.
pub(crate) struct Held {
    page: Arc<Page>,
    /// Dropped after the page, as fields are dropped in their order: whoever is woken must find
    /// the page free.
    release: Release,
}

/// Wakes those who wait for a page.
struct Release(Arc<Pages>);

impl Held {
    /// The same page for somebody else.
    pub(crate) fn share(&self) -> Self {
        self.release.0.hold(Arc::clone(&self.page))
    }
}

impl std::ops::Deref for Held {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        // All of them: one permit for two pages that are let go would leave a waiter behind.
        self.0.released.notify_waiters();
    }
}

impl Pages {
    /// A cache of at most `memory` bytes, and of at least four pages.
    pub(crate) fn new(memory: u64) -> Arc<Self> {
        let capacity = (memory / PAGE).max(FEWEST);
        Arc::new(Self {
            cached: Mutex::new(LruCache::unbounded()),
            budget: Arc::new(Semaphore::new(
                usize::try_from(capacity).unwrap_or(usize::MAX),
            )),
            capacity,
            released: Notify::new(),
        })
    }

    /// How many bytes pages take now.
    pub(crate) fn used(&self) -> u64 {
        (self.capacity - self.budget.available_permits() as u64) * PAGE
    }

    /// A cached page, if it has all these blocks.
    pub(crate) fn ready(self: &Arc<Self>, id: PageId, wanted: Blocks) -> Option<Held> {
        let page = self.hold(Arc::clone(self.cached.lock().get(&id)?));
        page.has(wanted).then_some(page)
    }

    /// The page, made if need be; waits while all pages are in use.
    pub(crate) async fn page(self: &Arc<Self>, id: PageId, length: u64) -> Held {
        loop {
            let released = self.released.notified();
            if let Some(held) = self.page_now(id, length) {
                return held;
            }
            released.await;
        }
    }

    /// The page, made if there is room or something to evict.
    pub(crate) fn page_now(self: &Arc<Self>, id: PageId, length: u64) -> Option<Held> {
        let mut cached = self.cached.lock();
        if let Some(page) = cached.get(&id) {
            return Some(self.hold(Arc::clone(page)));
        }
        let permit = loop {
            match Arc::clone(&self.budget).try_acquire_owned() {
                Ok(permit) => break permit,
                Err(_) => evict(&mut cached)?,
            }
        };
        let length = usize::try_from(length.min(PAGE)).unwrap_or_default();
        let page = Arc::new(Page {
            data: RwLock::new(vec![0; length].into_boxed_slice()),
            filling: Mutex::default(),
            events: watch::Sender::new(0),
            _permit: permit,
        });
        cached.put(id, Arc::clone(&page));
        drop(cached);
        Some(self.hold(page))
    }

    /// A page that was read to its end is the next to go.
    pub(crate) fn consumed(&self, id: PageId) {
        self.cached.lock().demote(&id);
    }

    /// Lets go of everything that nobody is using.
    pub(crate) fn clear(&self) {
        self.cached.lock().clear();
        self.released.notify_waiters();
    }

    fn hold(self: &Arc<Self>, page: Arc<Page>) -> Held {
        Held {
            page,
            release: Release(Arc::clone(self)),
        }
    }
}

/// Drops the page that was unused for longest; `None` if all are in use.
fn evict(cached: &mut LruCache<PageId, Arc<Page>>) -> Option<()> {
    let idle = cached
        .iter()
        .rev()
        .find(|(_, page)| Arc::strong_count(page) == 1)
        .map(|(id, _)| *id)?;
    cached.pop(&idle).map(drop)
}

/// A run of bytes that one request fetches, over neighbouring pages.
pub(crate) struct Flight {
    /// The pages with the blocks that are claimed of each, in order, without gaps.
    targets: Vec<(Held, Blocks)>,
    /// Where the run starts in the file.
    pub(crate) start: u64,
    /// Where it ends: behind its last byte.
    pub(crate) end: u64,
    /// How far it has got.
    pub(crate) at: u64,
}

impl Flight {
    /// A run in the page that starts at `base`, in a file of `size` bytes.
    pub(crate) fn new(page: Held, claimed: Blocks, base: u64, size: u64) -> Self {
        let bytes = claimed.bytes();
        Self {
            targets: vec![(page, claimed)],
            start: base + bytes.start,
            end: (base + bytes.end).min(size),
            at: base + bytes.start,
        }
    }

    /// Appends a flight that starts where this one ends; gives it back if it does not.
    pub(crate) fn join(&mut self, next: Self) -> Option<Self> {
        if next.start != self.end {
            return Some(next);
        }
        self.end = next.end;
        // `Flight` has a `Drop`, which must find nothing left to fail.
        let mut next = next;
        self.targets.append(&mut next.targets);
        None
    }

    /// Takes in the next bytes. Returns how many were of use: the rest is behind the end.
    pub(crate) fn land(&mut self, mut bytes: &[u8]) -> usize {
        let offered = bytes.len();
        while self.at < self.end && !bytes.is_empty() {
            let index = usize::try_from(self.at / PAGE - self.start / PAGE).unwrap_or(usize::MAX);
            let Some((page, claimed)) = self.targets.get(index) else {
                break;
            };
            let within = self.at % PAGE;
            let room = (PAGE - within).min(self.end - self.at);
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let taken = page.write(usize::try_from(within).unwrap_or(0), &bytes[..room]) as u64;
            if taken == 0 {
                break;
            }
            bytes = &bytes[usize::try_from(taken).unwrap_or(0)..];
            self.at += taken;
            let complete = if self.at == self.end || within + taken == PAGE {
                Blocks::of(within, within + taken)
            } else {
                // A block that is cut short comes with the bytes that follow.
                Blocks::of(within, (within + taken) / BLOCK * BLOCK)
            };
            if within + taken >= BLOCK || self.at == self.end {
                let complete = Blocks(complete.0 & claimed.0);
                if !complete.is_empty() {
                    page.arrived(complete);
                }
            }
        }
        offered - bytes.len()
    }

    /// Whether everything has landed.
    pub(crate) fn is_complete(&self) -> bool {
        self.at >= self.end
    }

    /// Tells everybody who waits that the rest does not come.
    pub(crate) fn fail(mut self, failure: &Failure) {
        self.abandon(failure);
    }

    fn abandon(&mut self, failure: &Failure) {
        for (page, claimed) in self.targets.drain(..) {
            page.failed(claimed, failure.clone());
        }
    }
}

impl Drop for Flight {
    /// A task that is dropped must not leave readers waiting.
    fn drop(&mut self) {
        if !self.is_complete() && !self.targets.is_empty() {
            let failure = Failure::new(
                crate::store::failure::Kind::Other,
                crate::auth::Generation::default(),
                "the request was given up",
            );
            self.abandon(&failure);
        }
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
