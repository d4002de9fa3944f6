//! What to read before it is asked for.
//!
//! The kernel asks for 128 KiB at a time and two requests at once, which over a network is
//! slow; it cannot be made to ask for more without being root. So the daemon reads ahead by
//! itself: a little at first, twice as much whenever the reader has come half way, nothing for
//! readers that jump.

use std::ops::Range;

use super::pages::PAGE;

/// The first step: one page, so that a reader of one header costs little.
const FIRST: u64 = PAGE;

/// How far a request may be from where the last one ended and still be part of one stream:
/// the kernel's requests overtake each other.
const SLACK: u64 = PAGE;

/// One handle's stream.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Where the stream has got to.
    next: u64,
    /// How far ahead it reads; 0 for readers that jump.
    size: u64,
    /// Up to where it has been asked for.
    until: u64,
}

impl Window {
    /// Tells what to fetch now that `read` is asked for; `most` bounds the window.
    pub(crate) fn advance(&mut self, read: Range<u64>, most: u64) -> Option<Range<u64>> {
        let starts = self.next == 0 && read.start == 0;
        let follows = self.next > 0
            && read.start.abs_diff(self.next) <= SLACK
            // Exactly in front of where it jumped from is a jump back.
            && read.end > self.next.saturating_sub(SLACK);
        if !starts && !follows {
            *self = Self {
                next: read.end,
                size: 0,
                until: read.end,
            };
            return None;
        }
        self.next = self.next.max(read.end);
        self.until = self.until.max(self.next);
        if self.until - self.next > self.size / 2 {
            return None;
        }
        self.size = (self.size * 2).max(FIRST).min(most);
        let end = (self.next + self.size).next_multiple_of(PAGE);
        let ahead = self.until..end;
        (!ahead.is_empty()).then(|| {
            self.until = end;
            ahead
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MOST: u64 = 32 * PAGE;

    fn stream(window: &mut Window, from: u64, requests: u64) -> Vec<Range<u64>> {
        (0..requests)
            .filter_map(|i| {
                let at = from + i * 128 * KIB;
                window.advance(at..at + 128 * KIB, MOST)
            })
            .collect()
    }

    #[test]
    fn a_stream_starts_small_and_doubles_up_to_its_bound() {
        let mut window = Window::default();
        let ahead = stream(&mut window, 0, 4096);
        assert_eq!(ahead[0].start, 128 * KIB);
        assert!(ahead[0].end <= 2 * PAGE, "{ahead:?}");
        let lengths: Vec<u64> = ahead.iter().map(|r| r.end - r.start).collect();
        assert!(lengths.iter().all(|l| *l <= MOST + PAGE), "{lengths:?}");
        assert!(lengths.iter().any(|l| *l >= MOST / 2), "{lengths:?}");
        // Without gaps or overlaps.
        assert!(ahead.windows(2).all(|two| two[0].end == two[1].start));
    }

    #[test]
    fn a_reader_that_jumps_gets_nothing_ahead() {
        let mut window = Window::default();
        for i in 1..100 {
            let at = (i * 7919 % 101) * 10 * PAGE + 4096;
            assert_eq!(window.advance(at..at + 4 * KIB, MOST), None);
        }
    }

    #[test]
    fn a_stream_that_starts_in_the_middle_is_noticed() {
        let mut window = Window::default();
        let ahead = stream(&mut window, 100 * PAGE, 4);
        assert_eq!(ahead[0].start, 100 * PAGE + 256 * KIB);
    }

    #[test]
    fn requests_that_overtake_each_other_are_one_stream() {
        let mut window = Window::default();
        window.advance(0..128 * KIB, MOST);
        window.advance(256 * KIB..384 * KIB, MOST);
        window.advance(128 * KIB..256 * KIB, MOST);
        assert!(window.size > 0);
        assert_eq!(window.next, 384 * KIB);
    }
}
