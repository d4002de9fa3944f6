use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;
const PART: u64 = 8 * MIB;
const COPY: u64 = 512 * MIB;

/// Checks what must be true of every plan, and counts the bytes it uploads.
fn check(extents: &Extents, parts: &[Part]) -> u64 {
    assert!(parts.len() <= MOST_PARTS as usize, "{} parts", parts.len());
    let mut at = 0;
    let mut uploaded = 0;
    for (part, number) in parts.iter().zip(1..) {
        assert_eq!(part.number, number);
        assert_eq!(part.range.start, at);
        at = part.range.end;
        let length = part.range.end - part.range.start;
        let last = usize::try_from(number).unwrap() == parts.len();
        assert!(length >= SMALLEST_PART || last && length > 0, "{part:?}");
        assert!(length <= LARGEST_PART, "{part:?}");
        match part.job {
            Job::Upload => uploaded += length,
            Job::Copy { source, offset } => {
                let pieces = extents.pieces(part.range.clone());
                assert_eq!(pieces.len(), 1, "{part:?}");
                assert_eq!(pieces[0].range, part.range);
                assert_eq!(pieces[0].from, Some(From::Remote { source, offset }));
            }
        }
    }
    assert_eq!(at, extents.size());
    uploaded
}

fn planned(extents: &Extents) -> Vec<Part> {
    let parts = plan(extents, PART, Some(COPY), MOST_PARTS).unwrap();
    check(extents, &parts);
    parts
}

#[derive(Debug, Clone)]
enum Change {
    Local(Range<u64>),
    Zero(Range<u64>),
    Other(Range<u64>),
    Size(u64),
}

/// Sizes around the limits, in the middle of nowhere, and small ones.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        1_u64..100,
        (0_u64..20, 0_u64..3).prop_map(|(mib, off)| (mib * MIB + off).saturating_sub(1)),
        1..2 * GIB,
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let range = || {
        (prop_oneof![length(), 0..8 * GIB], length())
            .prop_map(|(start, length)| start..start + length)
    };
    prop_oneof![
        6 => range().prop_map(Change::Local),
        2 => range().prop_map(Change::Zero),
        2 => range().prop_map(Change::Other),
        1 => length().prop_map(Change::Size),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_plan_is_legal_and_lean(
        size in prop_oneof![length(), 0..8 * GIB],
        changes in prop::collection::vec(change(), 0..12),
        part_size in prop_oneof![Just(0), Just(PART), length()],
        copy_size in prop_oneof![Just(0), Just(COPY), Just(u64::MAX)],
    ) {
        let mut extents = Extents::of_object(0, size);
        for change in changes {
            match change {
                Change::Local(range) => extents.put(range, From::Local),
                Change::Zero(range) => extents.zero(range),
                Change::Other(range) => extents.put(range, From::Remote { source: 1, offset: 5 }),
                Change::Size(size) => extents.set_size(size),
            }
        }
        let parts = plan(&extents, part_size, Some(copy_size), MOST_PARTS).unwrap();
        let uploaded = check(&extents, &parts);
        let pieces = extents.pieces(0..extents.size());
        let needed: u64 = pieces.iter()
            .filter(|piece| !matches!(piece.from, Some(From::Remote { .. })))
            .map(|piece| piece.range.end - piece.range.start)
            .sum();
        // Each seam between pieces may cost a copy that is too short and bytes of another.
        let seams = pieces.len() as u64;
        prop_assert!(uploaded <= needed + seams * (2 * SMALLEST_PART + 2), "{uploaded} {needed}");
    }

    #[test]
    fn a_change_costs_little_more_than_itself(
        size in 1..64 * GIB,
        start in 0..64 * GIB,
        length in length(),
    ) {
        let mut extents = Extents::of_object(0, size);
        extents.put(start % size..start % size + length, From::Local);
        let parts = plan(&extents, PART, Some(COPY), MOST_PARTS).unwrap();
        let uploaded = check(&extents, &parts);
        prop_assert!(uploaded <= length + 2 * (SMALLEST_PART + PART), "{uploaded}");
    }

    #[test]
    fn streamed_parts_are_legal_and_reach_the_largest_file(
        part_size in prop_oneof![0..100 * MIB, 0..u64::MAX],
        number in 1_i32..=10_000,
        offset in 0..LARGEST,
    ) {
        let range = streamed(part_size, MOST_PARTS, number);
        let length = range.end - range.start;
        prop_assert!((SMALLEST_PART..=LARGEST_PART).contains(&length));
        prop_assert_eq!(length % MIB, 0);
        prop_assert_eq!(streamed(part_size, MOST_PARTS, number + 1).start, range.end);
        prop_assert!(offset < streamed(part_size, MOST_PARTS, 10_000).end);
    }
}

#[test]
fn a_small_change_of_a_large_file_is_copied_around() {
    let mut extents = Extents::of_object(0, 10 * GIB);
    extents.put(5 * GIB..5 * GIB + 1, From::Local);
    let parts = planned(&extents);
    let uploads: Vec<_> = parts
        .iter()
        .filter(|part| part.job == Job::Upload)
        .collect();
    assert_eq!(uploads.len(), 1);
    assert_eq!(uploads[0].range, 5 * GIB..5 * GIB + SMALLEST_PART);
}

#[test]
fn what_is_appended_is_all_that_is_sent() {
    let mut extents = Extents::of_object(0, 100 * MIB);
    extents.put(100 * MIB..100 * MIB + 10, From::Local);
    let parts = planned(&extents);
    assert_eq!(check(&extents, &parts), 10);
    // An object of 5 MiB or less cannot be copied in ranges.
    let mut extents = Extents::of_object(0, SMALLEST_PART);
    extents.put(SMALLEST_PART..SMALLEST_PART + 10, From::Local);
    assert_eq!(planned(&extents).len(), 1);
}

#[test]
fn bytes_come_from_the_neighbour_that_can_spare_them() {
    let mut extents = Extents::of_object(0, 100 * MIB);
    // Behind it 6 MiB of copy: too few to give 5.
    extents.put(94 * MIB - 10..94 * MIB, From::Local);
    let parts = planned(&extents);
    assert_eq!(check(&extents, &parts), SMALLEST_PART);
    assert_eq!(parts.last().map(|part| part.range.start), Some(94 * MIB));
}

#[test]
fn the_largest_files_are_planned_at_once() {
    let start = Instant::now();
    let mut holes = Extents::new();
    holes.set_size(LARGEST - 1);
    let mut copied = Extents::of_object(0, LARGEST);
    copied.put(LARGEST / 2..LARGEST / 2 + 1, From::Local);
    for extents in [&holes, &copied] {
        planned(extents);
    }
    assert!(start.elapsed() < Duration::from_secs(1));
    holes.set_size(LARGEST + 1);
    assert_eq!(
        plan(&holes, PART, Some(COPY), MOST_PARTS),
        Err(TooLarge(LARGEST + 1))
    );
    assert_eq!(
        plan(&Extents::new(), PART, Some(COPY), MOST_PARTS),
        Ok(Vec::new())
    );
}

#[test]
fn changes_by_the_thousand_fit_too() {
    let mut extents = Extents::of_object(0, 4 << 40);
    for i in 0..100_000 {
        let at = i * 40 * MIB + (i * 7919) % (20 * MIB);
        extents.put(at..at + 4096, From::Local);
    }
    let start = Instant::now();
    let parts = planned(&extents);
    assert!(parts.len() > 100, "{}", parts.len());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn with_few_parts_a_stream_reaches_far_all_the_same() {
    let most = 1000;
    let mut end = 0;
    for number in 1..=1000 {
        let range = streamed(8 * MIB, most, number);
        assert_eq!(range.start, end);
        assert!((SMALLEST_PART..=LARGEST_PART).contains(&(range.end - range.start)));
        end = range.end;
    }
    assert_eq!(streamed(8 * MIB, most, 1), 0..8 * MIB);
    assert_eq!(end, reach(8 * MIB, most));
    assert!(end > 1 << 40, "{end}");
    // However few they are, there is a way.
    for most in 1..9 {
        assert!(reach(5 * MIB, most) >= 5 * MIB);
    }
    assert_eq!(reach(8 * MIB, MOST_PARTS), LARGEST);
}

#[test]
fn no_plan_has_more_parts_than_the_store_takes() {
    let mut file = Extents::of_object(0, 30 << 30);
    for at in 0..200 {
        file.put(at * (100 << 20)..at * (100 << 20) + 1, From::Local);
    }
    for most in [6, 7, 100, 1000] {
        for copy_size in [Some(512 << 20), None] {
            let parts = plan(&file, 8 * MIB, copy_size, most).unwrap();
            assert!(parts.len() <= most as usize, "{most}: {}", parts.len());
            assert_eq!(parts.last().unwrap().range.end, 30 << 30);
            let is_copied = parts.iter().any(|part| part.job != Job::Upload);
            assert!(copy_size.is_some() || !is_copied);
        }
    }
    assert_eq!(plan(&file, 8 * MIB, None, 5), Err(TooLarge(30 << 30)));
}
