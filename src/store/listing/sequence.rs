//! Whether pages follow one another: each behind the one before, and never in a circle.
//!
//! AWS sorts keys by their bytes. Stores on top of file systems walk trees, where `a/x` comes
//! before `a-b`, and those in Java may sort by UTF-16, so each order that the pages keep to is
//! as good as another. Whatever keeps to none is at least watched for circles.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::Flaw;

/// How many pages without a single new name may follow one another.
const EMPTY: u32 = 1000;

/// How many common prefixes are remembered, for stores that tell them again or in no order.
const REMEMBERED: usize = 100_000;

type Order = fn(&str, &str) -> Ordering;

const ORDERS: [Order; 3] = [
    |a, b| a.cmp(b),
    |a, b| a.encode_utf16().cmp(b.encode_utf16()),
    |a, b| tree(a).cmp(tree(b)),
];

/// A path as a walk through a tree sorts it: what is in a directory comes right behind its name.
fn tree(key: &str) -> impl Iterator<Item = u8> {
    key.bytes().map(|byte| if byte == b'/' { 0 } else { byte })
}

/// What the pages of a listing were like so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Which of [`ORDERS`] they have kept to.
    orders: [bool; ORDERS.len()],
    /// The last key, as the store has it, and the last common prefix.
    key: Option<String>,
    prefix: Option<String>,
    /// The common prefixes that were told, as hashes; not more than [`REMEMBERED`].
    told: Arc<HashSet<u64>>,
    /// How many pages had nothing new since the last that had.
    empty: u32,
    circle: Circle,
}

impl Default for Sequence {
    fn default() -> Self {
        Self {
            orders: [true; ORDERS.len()],
            key: None,
            prefix: None,
            told: Arc::default(),
            empty: 0,
            circle: Circle::default(),
        }
    }
}

impl Sequence {
    /// The last name of all: what is to come is behind it.
    pub(super) fn last(&self) -> Option<&str> {
        match (self.key.as_deref(), self.prefix.as_deref()) {
            (Some(key), Some(prefix)) => {
                let order = self.kept().next().unwrap_or(ORDERS[0]);
                Some(if order(key, prefix).is_lt() {
                    prefix
                } else {
                    key
                })
            }
            (key, prefix) => key.or(prefix),
        }
    }

    /// The last names of both kinds.
    pub(super) fn ends(&self) -> impl Iterator<Item = &str> {
        self.key.iter().chain(&self.prefix).map(String::as_str)
    }

    fn kept(&self) -> impl Iterator<Item = Order> {
        let orders = ORDERS.into_iter().zip(self.orders);
        orders.filter_map(|(order, kept)| kept.then_some(order))
    }

    fn keep_to(&mut self, is_kept: impl Fn(Order) -> bool) {
        for (kept, order) in self.orders.iter_mut().zip(ORDERS) {
            *kept &= is_kept(order);
        }
    }

    /// Adds a page, and takes out of it what was told at the end of the one before: stores that
    /// count from the marker on repeat it, and some repeat all common prefixes.
    ///
    /// # Errors
    ///
    /// A page that does not go on behind the one before.
    pub(super) fn follow<T>(
        &mut self,
        keys: &mut Vec<(String, T)>,
        prefixes: &mut Vec<String>,
    ) -> Result<(), Flaw> {
        if keys.is_empty() && prefixes.is_empty() {
            return self.follow_nothing();
        }
        let names = keys.iter().map(|(key, _)| key).chain(prefixes.iter());
        let page = Circle::hash(names);
        self.keep_to(|order| {
            keys.is_sorted_by(|(a, _), (b, _)| order(a, b).is_le())
                && prefixes.is_sorted_by(|a, b| order(a, b).is_le())
        });
        let last_key = keys.last().map(|(key, _)| key.clone());
        let last_prefix = prefixes.last().cloned();
        if let Some(last) = self.key.clone() {
            keys.retain(|(key, _)| *key != last);
            let had_order = self.kept().next().is_some();
            if let Some((first, _)) = keys.first() {
                self.keep_to(|order| order(&last, first).is_lt());
            }
            if had_order && self.kept().next().is_none() {
                return Err(Flaw::Standstill);
            }
        }
        if let Some(last) = self.prefix.clone() {
            // What is behind the last one was not told before. Of what is not, only what was.
            let orders: Vec<Order> = self.kept().collect();
            let is_behind = |prefix: &String| orders.iter().any(|o| o(&last, prefix).is_lt());
            let told = Arc::make_mut(&mut self.told);
            let mut is_lost = false;
            prefixes.retain(|prefix| {
                let is_new =
                    is_behind(prefix) || !told.contains(&Circle::hash([prefix].into_iter()));
                is_lost |= !is_behind(prefix) && is_new && told.len() >= REMEMBERED;
                is_new
            });
            if is_lost {
                return Err(Flaw::Standstill);
            }
            if let Some(first) = prefixes.first() {
                self.keep_to(|order| order(&last, first).is_lt());
            }
        }
        let told = Arc::make_mut(&mut self.told);
        for prefix in prefixes.iter() {
            if told.len() < REMEMBERED {
                told.insert(Circle::hash([prefix].into_iter()));
            }
        }
        if keys.is_empty() && prefixes.is_empty() {
            // Such as the same folded name, of a store that folds a page at a time.
            return self.follow_nothing();
        }
        if self.circle.closes(page) {
            return Err(Flaw::Standstill);
        }
        self.empty = 0;
        self.key = last_key.or(self.key.take());
        if !prefixes.is_empty() || self.prefix.is_none() {
            self.prefix = last_prefix.or(self.prefix.take());
        }
        Ok(())
    }

    fn follow_nothing(&mut self) -> Result<(), Flaw> {
        self.empty += 1;
        match self.empty {
            ..=EMPTY => Ok(()),
            _ => Err(Flaw::Standstill),
        }
    }
}

/// Finds a circle in a sequence of pages with the memory of one page (Brent's algorithm): at the
/// latest after three times its length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Circle {
    /// The page that is waited for, as a hash.
    waited_for: Option<u64>,
    power: u64,
    length: u64,
}

impl Circle {
    fn hash<'a>(names: impl Iterator<Item = &'a String>) -> u64 {
        let mut hasher = DefaultHasher::new();
        names.for_each(|name| name.hash(&mut hasher));
        hasher.finish()
    }

    fn closes(&mut self, page: u64) -> bool {
        if self.waited_for == Some(page) {
            return true;
        }
        if self.length == self.power {
            self.waited_for = Some(page);
            self.power = (self.power * 2).max(1);
            self.length = 0;
        }
        self.length += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Page<'a> = (&'a [&'a str], &'a [&'a str]);

    fn follow(sequence: &mut Sequence, page: Page<'_>) -> Result<(Vec<String>, Vec<String>), Flaw> {
        let mut keys: Vec<_> = page.0.iter().map(|key| ((*key).to_owned(), ())).collect();
        let mut prefixes: Vec<_> = page.1.iter().map(|&p| p.to_owned()).collect();
        sequence.follow(&mut keys, &mut prefixes)?;
        Ok((keys.into_iter().map(|(key, ())| key).collect(), prefixes))
    }

    fn all(pages: &[Page<'_>]) -> Result<Vec<String>, Flaw> {
        let mut sequence = Sequence::default();
        let mut names = Vec::new();
        for page in pages {
            let (keys, prefixes) = follow(&mut sequence, *page)?;
            names.extend(keys);
            names.extend(prefixes);
        }
        Ok(names)
    }

    #[test]
    fn pages_in_any_of_the_orders_follow_each_other() {
        // By bytes, by UTF-16, as trees are walked, and both kinds of entries.
        let sorted: [&[Page<'_>]; 4] = [
            &[
                (&["a", "a-b"], &[]),
                (&["a/x", "\u{ff5e}"], &[]),
                (&["😀"], &[]),
            ],
            &[(&["a-b", "a/x"], &[]), (&["😀", "\u{ff5e}"], &[])],
            &[(&["a/x", "a/y"], &[]), (&["a-b"], &[]), (&["a.c"], &[])],
            &[(&["a", "c"], &["b/"]), (&["e"], &["d/", "f/"])],
        ];
        for pages in sorted {
            let told: usize = pages.iter().map(|page| page.0.len() + page.1.len()).sum();
            assert_eq!(all(pages).unwrap().len(), told, "{pages:?}");
        }
    }

    #[test]
    fn a_page_that_begins_with_the_end_of_the_last_says_it_once() {
        let names = all(&[(&["a", "b"], &[]), (&["b", "c"], &[])]).unwrap();
        assert_eq!(names, ["a", "b", "c"]);
        // All prefixes on each page, and a prefix that the marker does not skip.
        let names = all(&[(&["a"], &["x/", "y/"]), (&["b"], &["x/", "y/"])]).unwrap();
        assert_eq!(names, ["a", "x/", "y/", "b"]);
        let names = all(&[(&[], &["x/"]), (&[], &["x/", "y/"])]).unwrap();
        assert_eq!(names, ["x/", "y/"]);
    }

    #[test]
    fn pages_that_do_not_go_on_are_noticed() {
        let circles: [&[Page<'_>]; 3] = [
            &[(&["a", "b"], &[]), (&["a", "b"], &[])],
            &[(&["a", "b", "c"], &[]), (&["b", "c", "d"], &[])],
            // Sorted as trees are: what is no order by bytes is no excuse.
            &[(&["a/x", "a-b"], &[]), (&["a/x", "a-b"], &[])],
        ];
        for pages in circles {
            assert!(all(pages).is_err(), "{pages:?}");
        }
    }

    /// A store that folds a page at a time, and one that sorts as people do.
    #[test]
    fn no_folded_name_is_lost_or_told_twice() {
        let names = all(&[(&[], &["a/"]), (&[], &["a/"]), (&[], &["b/"])]).unwrap();
        assert_eq!(names, ["a/", "b/"]);
        let names = all(&[
            (&[], &["a/", "c/"]),
            (&[], &["D/", "e/"]),
            (&[], &["a/", "F/"]),
        ]);
        assert_eq!(names.unwrap(), ["a/", "c/", "D/", "e/", "F/"]);
        let mut sequence = Sequence::default();
        let same = |_| follow(&mut sequence, (&[], &["a/"]));
        assert!((0..EMPTY + 2).map(same).any(|page| page.is_err()));
    }

    #[test]
    fn a_circle_without_any_order_is_found() {
        let pages: [Page<'_>; 3] = [
            (&["b", "a", "c"], &[]),
            (&["z", "x", "y"], &[]),
            (&["q", "p", "r"], &[]),
        ];
        let mut sequence = Sequence::default();
        let rounds = pages.iter().cycle().take(30);
        let gone: Vec<_> = rounds.map(|page| follow(&mut sequence, *page)).collect();
        assert!(gone[..3].iter().all(Result::is_ok));
        assert!(gone.iter().any(Result::is_err));
    }

    #[test]
    fn nothing_new_is_borne_for_a_while() {
        let mut sequence = Sequence::default();
        follow(&mut sequence, (&["a"], &[])).unwrap();
        for _ in 0..EMPTY {
            follow(&mut sequence, (&[], &[])).unwrap();
        }
        assert!(follow(&mut sequence, (&[], &[])).is_err());
    }

    #[test]
    fn the_last_name_is_that_of_both_kinds() {
        let mut sequence = Sequence::default();
        follow(&mut sequence, (&["a", "c"], &["b/"])).unwrap();
        assert_eq!(sequence.last(), Some("c"));
        follow(&mut sequence, (&["d"], &["e/"])).unwrap();
        assert_eq!(sequence.last(), Some("e/"));
    }
}
