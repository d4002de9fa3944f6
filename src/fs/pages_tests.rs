#![allow(clippy::unwrap_used)]
use super::*;
use crate::auth::Generation;
use crate::store::failure::Kind;

const KIB: u64 = 1 << 10;

fn failure() -> Failure {
    Failure::new(Kind::Other, Generation(1), "no")
}

/// Claims and lands `bytes` of a page in chunks, as a body would arrive.
fn fill(pages: &Arc<Pages>, id: PageId, wanted: Blocks, size: u64, chunk: usize) {
    let held = pages.page_now(id, size - id.1 * PAGE).unwrap();
    let Claim::Fetch(run) = held.claim(wanted) else {
        unreachable!("nothing was fetched yet");
    };
    let mut flight = Flight::new(held, run, id.1 * PAGE, size);
    let body: Vec<u8> = (flight.start..flight.end)
        .map(|at| (at % 251) as u8)
        .collect();
    for bytes in body.chunks(chunk) {
        assert_eq!(flight.land(bytes), bytes.len());
    }
    assert!(flight.is_complete());
}

#[test]
fn blocks_cover_the_bytes_that_are_asked_for() {
    assert_eq!(Blocks::of(0, 1), Blocks(1));
    assert_eq!(Blocks::of(64 * KIB - 1, 64 * KIB + 1), Blocks(0b11));
    assert_eq!(Blocks::of(0, PAGE), Blocks(u16::MAX));
    assert_eq!(Blocks::of(0, 0), Blocks(0));
    assert_eq!(Blocks(0b1101_1100).first_run(), Blocks(0b1_1100));
    assert_eq!(Blocks(u16::MAX).first_run(), Blocks(u16::MAX));
    assert_eq!(Blocks(0b1_1100).bytes(), 2 * BLOCK..5 * BLOCK);
}

#[test]
fn what_lands_in_odd_chunks_is_read_back_whole() {
    let size = PAGE + 100 * KIB + 7;
    for chunk in [1000, 65_536, 65_537, 2_000_000] {
        let pages = Pages::new(8 * PAGE);
        fill(&pages, (1, 0), Blocks::of(0, PAGE), size, chunk);
        fill(&pages, (1, 1), Blocks::of(0, PAGE), size, chunk);
        for (index, length) in [(0, PAGE), (1, 100 * KIB + 7)] {
            let held = pages.ready((1, index), Blocks::of(0, length)).unwrap();
            held.with(0, length, |bytes| {
                assert_eq!(bytes.len() as u64, length);
                let at = |i: usize| ((index * PAGE + i as u64) % 251) as u8;
                assert!(bytes.iter().enumerate().all(|(i, b)| *b == at(i)));
            });
        }
    }
}

#[test]
fn a_block_is_fetched_once() {
    let pages = Pages::new(8 * PAGE);
    let held = pages.page_now((1, 0), PAGE).unwrap();
    let wanted = Blocks::of(0, 3 * BLOCK);
    assert!(matches!(held.claim(wanted), Claim::Fetch(run) if run == wanted));
    assert!(matches!(held.claim(wanted), Claim::Coming));
    let more = Blocks::of(0, 4 * BLOCK);
    assert!(matches!(held.claim(more), Claim::Fetch(run) if run == Blocks(0b1000)));
}

#[test]
fn a_block_counts_only_once_it_is_whole() {
    let pages = Pages::new(8 * PAGE);
    let held = pages.page_now((1, 0), PAGE).unwrap();
    let Claim::Fetch(run) = held.claim(Blocks::of(0, 2 * BLOCK)) else {
        unreachable!();
    };
    let mut flight = Flight::new(held, run, 0, 10 * PAGE);
    flight.land(&vec![1; 64 * 1024 - 1]);
    assert!(pages.ready((1, 0), Blocks(1)).is_none());
    flight.land(&[1]);
    assert!(pages.ready((1, 0), Blocks(1)).is_some());
    assert!(pages.ready((1, 0), Blocks(3)).is_none());
}

#[test]
fn a_failed_flight_is_told_and_can_be_flown_again() {
    let pages = Pages::new(8 * PAGE);
    let held = pages.page_now((1, 0), PAGE).unwrap();
    let events = held.events();
    let before = *events.borrow();
    let Claim::Fetch(run) = held.claim(Blocks(0b11)) else {
        unreachable!();
    };
    let held_again = pages.page_now((1, 0), PAGE).unwrap();
    let mut flight = Flight::new(held, run, 0, 10 * PAGE);
    flight.land(&vec![1; 64 * 1024]);
    flight.fail(&failure());
    assert!(
        held_again.failure_since(before, Blocks(0b01)).is_none(),
        "it came"
    );
    assert!(held_again.failure_since(before, Blocks(0b10)).is_some());
    let now = *events.borrow();
    assert!(
        held_again.failure_since(now, Blocks(0b10)).is_none(),
        "an old one"
    );
    assert!(matches!(held_again.claim(Blocks(0b11)), Claim::Fetch(run) if run == Blocks(0b10)));
}

#[test]
fn a_flight_that_is_dropped_lets_its_readers_go() {
    let pages = Pages::new(8 * PAGE);
    let held = pages.page_now((1, 0), PAGE).unwrap();
    let Claim::Fetch(run) = held.claim(Blocks(1)) else {
        unreachable!();
    };
    drop(Flight::new(held, run, 0, PAGE));
    let held = pages.page_now((1, 0), PAGE).unwrap();
    assert!(held.failure_since(0, Blocks(1)).is_some());
}

#[test]
fn the_budget_holds_and_idle_pages_make_room() {
    let pages = Pages::new(4 * PAGE);
    let held: Vec<Held> = (0..4)
        .map(|i| pages.page_now((1, i), PAGE).unwrap())
        .collect();
    assert_eq!(pages.used(), 4 * PAGE);
    assert!(pages.page_now((1, 4), PAGE).is_none(), "all are in use");
    drop(held);
    assert!(pages.page_now((1, 4), PAGE).is_some());
    assert_eq!(pages.used(), 4 * PAGE);
    pages.clear();
    assert_eq!(pages.used(), 0);
}

#[test]
fn consumed_pages_go_first() {
    let pages = Pages::new(4 * PAGE);
    for index in 0..4 {
        fill(&pages, (1, index), Blocks(1), 10 * PAGE, 65_536);
    }
    pages.consumed((1, 3));
    drop(pages.page_now((1, 9), PAGE));
    assert!(pages.ready((1, 3), Blocks(1)).is_none());
    assert!(pages.ready((1, 0), Blocks(1)).is_some());
}

#[tokio::test]
async fn a_reader_waits_for_a_page_that_is_let_go() {
    let pages = Pages::new(4 * PAGE);
    let mut held: Vec<Held> = (0..4)
        .map(|i| pages.page_now((1, i), PAGE).unwrap())
        .collect();
    let waiting = tokio::spawn({
        let pages = Arc::clone(&pages);
        async move { pages.page((2, 0), PAGE).await.has(Blocks(0)) }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    held.pop();
    assert!(waiting.await.unwrap());
}

#[test]
fn neighbouring_flights_become_one_request() {
    let pages = Pages::new(4 * PAGE);
    let flight = |index: u64, blocks| {
        let held = pages.page_now((1, index), PAGE).unwrap();
        let Claim::Fetch(run) = held.claim(blocks) else {
            unreachable!();
        };
        Flight::new(held, run, index * PAGE, 3 * PAGE)
    };
    let mut first = flight(0, Blocks::of(PAGE - BLOCK, PAGE));
    assert!(first.join(flight(1, Blocks::of(0, PAGE))).is_none());
    assert_eq!((first.start, first.end), (PAGE - BLOCK, 2 * PAGE));
    assert!(
        first.join(flight(2, Blocks::of(BLOCK, PAGE))).is_some(),
        "a gap"
    );
    let body = vec![7; usize::try_from(PAGE + BLOCK).unwrap()];
    assert_eq!(first.land(&body), body.len());
    assert!(first.is_complete());
    assert!(pages.ready((1, 1), Blocks::of(0, PAGE)).is_some());
}
