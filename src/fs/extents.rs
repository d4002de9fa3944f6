//! Where the bytes of a file that is being changed come from.
//!
//! A changed file is a patchwork: bytes that were written here lie in the spool file, at the same
//! offset; bytes that nobody touched are still those of an object in the bucket; the rest was
//! never written and reads as zeros. Only the map is kept here, never a byte.
//!
//! Invariants of the map: runs are not empty, do not overlap and end within the size; two runs
//! that touch and continue each other are one, so that a file written from its beginning to its
//! end is one entry, however many writes it took.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Where a run of bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum From {
    /// In the spool file, at the same offset.
    Local,
    /// In an object.
    #[serde(untagged)]
    Remote {
        /// Which one: the owner of the map numbers them.
        source: u32,
        /// Where the run's first byte is in that object.
        offset: u64,
    },
}

impl From {
    /// The same run without its first bytes.
    pub(crate) fn skip(self, bytes: u64) -> Self {
        match self {
            Self::Local => Self::Local,
            Self::Remote { source, offset } => Self::Remote {
                source,
                offset: offset.saturating_add(bytes),
            },
        }
    }

    /// Whether `next` goes on where this ends after `length` bytes.
    fn continues(self, length: u64, next: Self) -> bool {
        self.skip(length) == next
    }
}

/// A run of bytes with one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which bytes of the file.
    pub(crate) range: Range<u64>,
    /// Where they are; `None` for zeros.
    pub(crate) from: Option<From>,
}

/// The map of one file.
///
/// Serialized as `{"size": 9, "from": [[0, 5, "local"], [5, 9, {"source": 0, "offset": 5}]]}`:
/// start, end, where. What is read back is checked first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub(crate) struct Extents {
    size: u64,
    /// By their start: the end, and where.
    map: BTreeMap<u64, (u64, From)>,
}

/// [`Extents`] as they are written down.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    size: u64,
    from: Vec<(u64, u64, From)>,
}

/// A map that breaks its invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes {start}..{end} of the map are empty, overlap or lie beyond the size {size}")]
pub(crate) struct Damaged {
    start: u64,
    end: u64,
    size: u64,
}

impl Extents {
    /// An empty file.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A file that is an object of `size` bytes.
    pub(crate) fn of_object(source: u32, size: u64) -> Self {
        let mut extents = Self::new();
        extents.put(0..size, From::Remote { source, offset: 0 });
        extents
    }

    /// The size of the file in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Cuts the file, or grows it with zeros.
    pub(crate) fn set_size(&mut self, size: u64) {
        if size < self.size {
            self.cut(size..self.size);
        }
        self.size = size;
    }

    /// Whether this is the other one, or that with more bytes of the spool at its end.
    pub(crate) fn has_only_grown_from(&self, before: &Self) -> bool {
        let last = self.map.keys().next_back();
        let mut pairs = self.map.iter().zip(&before.map);
        self.map.len() == before.map.len()
            && pairs.all(|((start, (end, from)), (old_start, (old_end, old_from)))| {
                let is_longer = Some(start) == last
                    && *from == From::Local
                    && (*old_end, *end) == (before.size, self.size)
                    && end > old_end;
                (start, from) == (old_start, old_from) && (end == old_end || is_longer)
            })
    }

    /// Replaces a range; the file grows if it ends further back, with zeros up to its start.
    ///
    /// An empty range changes nothing, as `write(2)` of no bytes does not.
    pub(crate) fn put(&mut self, range: Range<u64>, from: From) {
        if range.is_empty() {
            return;
        }
        self.cut(range.clone());
        self.size = self.size.max(range.end);
        self.join(range, from);
    }

    /// Makes zeros of a range, as far as it lies within the file.
    pub(crate) fn zero(&mut self, range: Range<u64>) {
        self.cut(range);
    }

    /// The runs that make up a range, as far as it lies within the file: in order and without
    /// gaps, neighbours never of one run.
    pub(crate) fn pieces(&self, range: Range<u64>) -> Vec<Piece> {
        let end = range.end.min(self.size);
        let mut at = range.start;
        let mut pieces = Vec::new();
        if at >= end {
            return pieces;
        }
        let before = self.map.range(..=at).next_back();
        let inside = self.map.range(at + 1..end);
        for (&start, &(stop, from)) in before.into_iter().chain(inside) {
            if stop <= at {
                continue;
            }
            if start > at {
                pieces.push(Piece {
                    range: at..start,
                    from: None,
                });
                at = start;
            }
            let stop = stop.min(end);
            pieces.push(Piece {
                range: at..stop,
                from: Some(from.skip(at - start)),
            });
            at = stop;
        }
        if at < end {
            pieces.push(Piece {
                range: at..end,
                from: None,
            });
        }
        pieces
    }

    /// Whether the spool file has all of a range; nothing beyond the end is in it.
    pub(crate) fn covers_local(&self, range: Range<u64>) -> bool {
        range.is_empty()
            || self
                .map
                .range(..=range.start)
                .next_back()
                .is_some_and(|(_, &(end, from))| from == From::Local && end >= range.end)
    }

    /// How many bytes are in the spool file.
    pub(crate) fn local_bytes(&self) -> u64 {
        self.sum(|from| from == From::Local)
    }

    /// How many bytes are those of objects.
    pub(crate) fn remote_bytes(&self) -> u64 {
        self.sum(|from| from != From::Local)
    }

    #[cfg(test)]
    /// The objects that bytes come from.
    pub(crate) fn sources(&self) -> std::collections::BTreeSet<u32> {
        self.map
            .values()
            .filter_map(|&(_, from)| match from {
                From::Local => None,
                From::Remote { source, .. } => Some(source),
            })
            .collect()
    }

    /// The object that the file is, from its first byte to its last, if it is exactly one.
    ///
    /// `size_of` tells the sizes of objects in bytes. An empty file is no object.
    pub(crate) fn is_whole_source(&self, size_of: impl Fn(u32) -> Option<u64>) -> Option<u32> {
        let (&start, &(end, from)) = self.map.first_key_value()?;
        match from {
            From::Remote { source, offset: 0 }
                if start == 0 && end == self.size && size_of(source) == Some(end) =>
            {
                Some(source)
            }
            _ => None,
        }
    }

    /// How many pieces are not zeros.
    pub(crate) fn count(&self) -> usize {
        self.map.len()
    }

    fn sum(&self, which: impl Fn(From) -> bool) -> u64 {
        self.map
            .iter()
            .filter(|&(_, &(_, from))| which(from))
            .map(|(start, (end, _))| end - start)
            .sum()
    }

    /// Takes a range out of the map.
    fn cut(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut rest = None;
        if let Some((&start, run)) = self.map.range_mut(..range.start).next_back()
            && run.0 > range.start
        {
            if run.0 > range.end {
                rest = Some((run.0, run.1.skip(range.end - start)));
            }
            run.0 = range.start;
        }
        while let Some((&start, &(end, from))) = self.map.range(range.clone()).next() {
            self.map.remove(&start);
            if end > range.end {
                rest = Some((end, from.skip(range.end - start)));
            }
        }
        if let Some(rest) = rest {
            self.map.insert(range.end, rest);
        }
    }

    /// Adds a run where there is none, and makes it one with its neighbours where it can be.
    fn join(&mut self, range: Range<u64>, from: From) {
        let (mut start, mut end, mut first) = (range.start, range.end, from);
        if let Some((&before, &(stop, other))) = self.map.range(..start).next_back()
            && stop == start
            && other.continues(stop - before, from)
        {
            (start, first) = (before, other);
        }
        if let Some(&(stop, other)) = self.map.get(&end)
            && from.continues(range.end - range.start, other)
        {
            self.map.remove(&end);
            end = stop;
        }
        self.map.insert(start, (end, first));
    }
}

impl std::convert::From<Extents> for Stored {
    fn from(extents: Extents) -> Self {
        let from = extents
            .map
            .iter()
            .map(|(&start, &(end, from))| (start, end, from))
            .collect();
        Self {
            size: extents.size,
            from,
        }
    }
}

impl TryFrom<Stored> for Extents {
    type Error = Damaged;

    fn try_from(stored: Stored) -> Result<Self, Damaged> {
        let size = stored.size;
        let mut extents = Self {
            size,
            map: BTreeMap::new(),
        };
        let mut at = 0;
        for (start, end, from) in stored.from {
            let overflows = matches!(from, From::Remote { offset, .. }
                if offset.checked_add(end.saturating_sub(start)).is_none());
            if start < at || end <= start || end > size || overflows {
                return Err(Damaged { start, end, size });
            }
            extents.join(start..end, from);
            at = end;
        }
        Ok(extents)
    }
}

#[cfg(test)]
#[path = "extents_tests.rs"]
mod tests;
