//! How much room data files take, and whether there is more.
//!
//! It counts blocks of 4 KiB that were written, in a bitmap for each file. Asking the filesystem
//! would be simpler and wrong: ZFS tells seconds later, XFS counts gigabytes that it allocates
//! on a guess, and neither says in advance what an overwrite will take.
//!
//! Invariant: `used` is the number of bits in all bitmaps, times 4 KiB. Bits are set before the
//! bytes are written, so the limit holds however many write at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// What is counted: the usual block of a filesystem.
pub(super) const BLOCK: u64 = 4 << 10;

/// How many words a chunk of the bitmap has: it covers 16 MiB.
const WORDS: usize = 64;

/// How many blocks a chunk covers.
const CHUNK: u64 = WORDS as u64 * 64;

/// The room of all files together.
#[derive(Debug)]
pub(super) struct Usage {
    limit: Option<u64>,
    used: AtomicU64,
}

impl Usage {
    /// Nothing is used yet.
    pub(super) fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
        })
    }

    /// The bytes in use.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes room if there is some. What needs none always succeeds.
    fn take(&self, bytes: u64) -> bool {
        let limit = self.limit.unwrap_or(u64::MAX);
        bytes == 0
            || self
                .used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                    used.checked_add(bytes).filter(|sum| *sum <= limit)
                })
                .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The room of one file. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Account {
    usage: Arc<Usage>,
    written: Mutex<Bitmap>,
}

/// Blocks that were taken for a write: words of the bitmap and the bits that are new in them.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<(u64, u64)>);

impl Account {
    /// An empty file.
    pub(super) fn new(usage: &Arc<Usage>) -> Self {
        Self {
            usage: Arc::clone(usage),
            written: Mutex::default(),
        }
    }

    /// The limit that it counts against.
    pub(super) fn limit(&self) -> u64 {
        self.usage.limit.unwrap_or(u64::MAX)
    }

    /// Counts bytes that are there already, over the limit or not.
    pub(super) fn found(&self, bytes: Range<u64>) {
        let mut written = self.written.lock();
        let new = written.missing(touched(bytes));
        self.usage.used.fetch_add(new.bytes(), Ordering::Relaxed);
        written.set(&new);
    }

    /// Takes room for bytes that are about to be written; `None` if that is over the limit.
    pub(super) fn take(&self, bytes: Range<u64>) -> Option<Taken> {
        let mut written = self.written.lock();
        let new = written.missing(touched(bytes));
        self.usage.take(new.bytes()).then(|| {
            written.set(&new);
            new
        })
    }

    /// Gives back what a write took of which only `written` was written.
    pub(super) fn undo(&self, taken: &Taken, written: Range<u64>) {
        let mut bitmap = self.written.lock();
        let from = touched(written).end;
        let mut count = 0;
        for (word, bits) in &taken.0 {
            count += bitmap.clear_bits(*word, *bits & mask(*word, from..u64::MAX));
        }
        self.usage.give_back(count * BLOCK);
    }

    /// Gives back the whole blocks among bytes that were cut off or punched out.
    pub(super) fn freed(&self, bytes: Range<u64>) {
        let blocks = bytes.start.div_ceil(BLOCK)..bytes.end / BLOCK;
        let count = self.written.lock().clear(blocks);
        self.usage.give_back(count * BLOCK);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.freed(0..u64::MAX);
    }
}

impl Taken {
    fn bytes(&self) -> u64 {
        let count: u64 = self.0.iter().map(|(_, bits)| ones(*bits)).sum();
        count * BLOCK
    }
}

/// The blocks of a file that were written.
#[derive(Debug, Default)]
struct Bitmap(BTreeMap<u64, Box<[u64; WORDS]>>);

impl Bitmap {
    fn word(&self, word: u64) -> u64 {
        let (chunk, index) = place(word);
        self.0.get(&chunk).map_or(0, |words| words[index])
    }

    fn missing(&self, blocks: Range<u64>) -> Taken {
        if blocks.is_empty() {
            return Taken::default();
        }
        let words = blocks.start / 64..blocks.end.div_ceil(64);
        Taken(
            words
                .map(|word| (word, mask(word, blocks.clone()) & !self.word(word)))
                .filter(|(_, bits)| *bits != 0)
                .collect(),
        )
    }

    fn set(&mut self, new: &Taken) {
        for (word, bits) in &new.0 {
            let (chunk, index) = place(*word);
            let words = self.0.entry(chunk).or_insert_with(|| Box::new([0; WORDS]));
            words[index] |= bits;
        }
    }

    /// Returns how many were set.
    fn clear_bits(&mut self, word: u64, bits: u64) -> u64 {
        let (chunk, index) = place(word);
        let Some(words) = self.0.get_mut(&chunk) else {
            return 0;
        };
        let count = ones(words[index] & bits);
        words[index] &= !bits;
        count
    }

    /// Returns how many were set. Costs as much as there is, however far the range goes.
    fn clear(&mut self, blocks: Range<u64>) -> u64 {
        if blocks.is_empty() {
            return 0;
        }
        let mut count = 0;
        let chunks = blocks.start / CHUNK..blocks.end.div_ceil(CHUNK);
        for (chunk, words) in self.0.range_mut(chunks.clone()) {
            for (index, bits) in words.iter_mut().enumerate() {
                let gone = *bits & mask(chunk * WORDS as u64 + index as u64, blocks.clone());
                count += ones(gone);
                *bits &= !gone;
            }
        }
        let empty = self
            .0
            .range(chunks)
            .filter(|(_, words)| words.iter().all(|bits| *bits == 0));
        for chunk in empty.map(|(chunk, _)| *chunk).collect::<Vec<_>>() {
            self.0.remove(&chunk);
        }
        count
    }
}

/// The blocks that bytes touch.
fn touched(bytes: Range<u64>) -> Range<u64> {
    if bytes.is_empty() {
        return 0..0;
    }
    bytes.start / BLOCK..bytes.end.div_ceil(BLOCK)
}

fn ones(bits: u64) -> u64 {
    u64::from(bits.count_ones())
}

fn place(word: u64) -> (u64, usize) {
    let index = usize::try_from(word % WORDS as u64).unwrap_or(0);
    (word / WORDS as u64, index)
}

/// The bits of a word that belong to blocks in a range.
fn mask(word: u64, blocks: Range<u64>) -> u64 {
    let first = word * 64;
    // The bits from the one of block `at` on.
    let from = |at: u64| {
        u32::try_from(at.saturating_sub(first))
            .ok()
            .and_then(|shift| u64::MAX.checked_shl(shift))
            .unwrap_or(0)
    };
    from(blocks.start) & !from(blocks.end)
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
