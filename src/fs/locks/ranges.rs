//! Which bytes an owner has locked.

/// Ranges from their first to their last byte; none overlaps another.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, first: u64, last: u64) -> bool {
        self.0
            .iter()
            .any(|(from, to)| *from <= last && first <= *to)
    }

    pub(super) fn add(&mut self, first: u64, last: u64) {
        self.remove(first, last);
        self.0.push((first, last));
    }

    pub(super) fn remove(&mut self, first: u64, last: u64) {
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for (from, to) in self.0.drain(..) {
            if to < first || last < from {
                left.push((from, to));
                continue;
            }
            if from < first {
                left.push((from, first - 1));
            }
            if last < to {
                left.push((last + 1, to));
            }
        }
        self.0 = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut ranges = Ranges::default();
        ranges.add(0, u64::MAX);
        ranges.remove(10, 19);
        assert!(ranges.has(0, 9) && ranges.has(20, 20) && !ranges.has(10, 19));
        ranges.remove(0, 9);
        ranges.remove(20, u64::MAX);
        assert!(ranges.is_empty());
    }
}
