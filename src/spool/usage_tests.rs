#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Take(u64, u64),
    Found(u64, u64),
    Undo(u64, u64, u64),
    Freed(u64, u64),
    CutOff(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Around the borders of blocks, words and chunks.
    let at = || {
        prop_oneof![
            0..10 * BLOCK,
            60 * BLOCK..70 * BLOCK,
            CHUNK * BLOCK - 2 * BLOCK..CHUNK * BLOCK + 2 * BLOCK
        ]
    };
    let length = || prop_oneof![0..3 * BLOCK, 0..300 * BLOCK];
    prop_oneof![
        (at(), length()).prop_map(|(a, l)| Step::Take(a, a + l)),
        (at(), length()).prop_map(|(a, l)| Step::Found(a, a + l)),
        (at(), length(), length()).prop_map(|(a, l, k)| Step::Undo(a, a + l, a + k.min(l))),
        (at(), length()).prop_map(|(a, l)| Step::Freed(a, a + l)),
        at().prop_map(Step::CutOff),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_counted_like_a_set(steps in prop::collection::vec(step(), 1..40)) {
        let limit = 500 * BLOCK;
        let usage = Usage::new(Some(limit));
        let account = Account::new(&usage);
        let mut set = BTreeSet::new();
        let of = |start: u64, end: u64| {
            if start == end { 0..0 } else { start / BLOCK..end.div_ceil(BLOCK) }
        };
        for step in steps {
            match step {
                Step::Take(start, end) => {
                    let fits = {
                        let new = of(start, end).filter(|b| !set.contains(b)).count() as u64;
                        new == 0 || usage.used() + new * BLOCK <= limit
                    };
                    prop_assert_eq!(account.take(start..end).is_some(), fits);
                    if fits {
                        set.extend(of(start, end));
                    }
                }
                Step::Found(start, end) => {
                    account.found(start..end);
                    set.extend(of(start, end));
                }
                Step::Undo(start, end, kept) => {
                    if let Some(taken) = account.take(start..end) {
                        account.undo(&taken, start..kept);
                        set.extend(of(start, kept));
                    }
                }
                Step::Freed(start, end) => {
                    account.freed(start..end);
                    set.retain(|b| *b < start.div_ceil(BLOCK) || *b >= end / BLOCK);
                }
                Step::CutOff(at) => {
                    account.freed(at..u64::MAX);
                    set.retain(|b| *b < at.div_ceil(BLOCK));
                }
            }
            prop_assert_eq!(usage.used(), set.len() as u64 * BLOCK);
        }
        drop(account);
        prop_assert_eq!(usage.used(), 0);
    }
}

#[test]
fn the_limit_holds_however_many_write() {
    let limit = 1000 * BLOCK;
    let usage = Usage::new(Some(limit));
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let account = Account::new(&usage);
                for i in 0..400 {
                    if account.take(i * 2 * BLOCK..(i * 2 + 1) * BLOCK).is_some() {
                        taken.fetch_add(BLOCK, Ordering::Relaxed);
                    }
                    assert!(usage.used() <= limit);
                }
                std::mem::forget(account);
            });
        }
    });
    assert_eq!(taken.load(Ordering::Relaxed), limit);
    assert_eq!(usage.used(), limit);
}

#[test]
fn a_block_at_the_end_of_everything_is_cheap() {
    let usage = Usage::new(None);
    let account = Account::new(&usage);
    let end = i64::MAX as u64;
    account.take(end - 1..end).unwrap();
    assert_eq!(usage.used(), BLOCK);
    account.freed(0..u64::MAX);
    assert_eq!(usage.used(), 0);
}
