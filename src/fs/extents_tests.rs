use proptest::prelude::*;

use super::*;

/// Where each byte is, one by one.
type Model = Vec<Option<(Option<u32>, u64)>>;

#[derive(Debug, Clone)]
enum Change {
    Size(u64),
    Put(Range<u64>, Option<(u32, u64)>),
    Zero(Range<u64>),
}

const MOST: u64 = 64;

fn range() -> impl Strategy<Value = Range<u64>> {
    (0..MOST, 0..MOST / 3).prop_map(|(start, length)| start..(start + length).min(MOST))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => (0..MOST).prop_map(Change::Size),
        3 => range().prop_map(|range| Change::Put(range, None)),
        // Mostly at the same offset, so that runs meet again.
        2 => (range(), 0_u32..2).prop_map(|(r, s)| Change::Put(r.clone(), Some((s, r.start)))),
        1 => (range(), 0_u32..2, 0..MOST).prop_map(|(r, s, o)| Change::Put(r, Some((s, o)))),
        1 => range().prop_map(Change::Zero),
    ]
}

fn from(remote: Option<(u32, u64)>) -> From {
    remote.map_or(From::Local, |(source, offset)| From::Remote {
        source,
        offset,
    })
}

fn apply(extents: &mut Extents, model: &mut Model, change: Change) {
    let index = |at: u64| usize::try_from(at).unwrap();
    match change {
        Change::Size(size) => {
            extents.set_size(size);
            model.resize(index(size), None);
        }
        Change::Put(range, remote) => {
            extents.put(range.clone(), from(remote));
            if !range.is_empty() && model.len() < index(range.end) {
                model.resize(index(range.end), None);
            }
            for at in range.clone() {
                model[index(at)] = Some(match remote {
                    None => (None, at),
                    Some((source, offset)) => (Some(source), offset + at - range.start),
                });
            }
        }
        Change::Zero(range) => {
            extents.zero(range.clone());
            for at in range {
                if let Some(byte) = model.get_mut(index(at)) {
                    *byte = None;
                }
            }
        }
    }
}

fn bytes(pieces: &[Piece]) -> Model {
    let one = |piece: &Piece, at: u64| {
        piece.from.map(|from| match from {
            From::Local => (None, at),
            From::Remote { source, offset } => (Some(source), offset + at - piece.range.start),
        })
    };
    pieces
        .iter()
        .flat_map(|piece| piece.range.clone().map(move |at| one(piece, at)))
        .collect()
}

fn check(extents: &Extents, model: &Model, range: Range<u64>) {
    let pieces = extents.pieces(range.clone());
    let end = range.end.min(extents.size());
    let clip = |at: u64| usize::try_from(at.min(end.max(range.start))).unwrap();
    let expected = model
        .get(clip(range.start)..clip(range.end))
        .unwrap_or_default();
    assert_eq!(bytes(&pieces), expected);
    assert!(pieces.iter().all(|piece| !piece.range.is_empty()));
    assert!(pieces.windows(2).all(|two| {
        let length = two[0].range.end - two[0].range.start;
        two[0].range.end == two[1].range.start
            && match (two[0].from, two[1].from) {
                (None, None) => false,
                (Some(one), Some(next)) => !one.continues(length, next),
                _ => true,
            }
    }));
    let local = expected.iter().all(|byte| matches!(byte, Some((None, _))));
    assert_eq!(
        extents.covers_local(range.clone()),
        local && range.end <= extents.size() || range.is_empty()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_is_what_a_map_of_single_bytes_is(
        changes in prop::collection::vec(change(), 0..40),
        ranges in prop::collection::vec(range(), 8),
    ) {
        let (mut extents, mut model) = (Extents::new(), Model::new());
        for change in changes {
            apply(&mut extents, &mut model, change);
            check(&extents, &model, 0..MOST);
        }
        for range in ranges {
            check(&extents, &model, range);
        }
        let count = |local: bool| {
            model.iter().flatten().filter(|(source, _)| source.is_none() == local).count() as u64
        };
        prop_assert_eq!(extents.size(), model.len() as u64);
        prop_assert_eq!(extents.local_bytes(), count(true));
        prop_assert_eq!(extents.remote_bytes(), count(false));
        let sources: std::collections::BTreeSet<u32> = model.iter().flatten().filter_map(|(s, _)| *s).collect();
        prop_assert_eq!(extents.sources(), sources);
        let text = serde_json::to_string(&extents).unwrap();
        prop_assert_eq!(serde_json::from_str::<Extents>(&text).unwrap(), extents);
    }
}

#[test]
fn writes_in_a_row_are_one_entry() {
    let mut extents = Extents::new();
    for i in 0..1000 {
        extents.put(i * 4096..(i + 1) * 4096, From::Local);
    }
    assert_eq!(extents.map.len(), 1);
    // Also backwards, and over the seam.
    extents.put(5000 * 4096..5001 * 4096, From::Local);
    for i in (1000..5000).rev() {
        extents.put(i * 4096..(i + 1) * 4096, From::Local);
    }
    assert_eq!(extents.map.len(), 1);
    assert!(extents.covers_local(0..5001 * 4096));
}

#[test]
fn an_object_is_whole_until_it_is_touched() {
    let sizes = |source: u32| (source == 7).then_some(100);
    let whole = Extents::of_object(7, 100);
    assert_eq!(whole.is_whole_source(sizes), Some(7));
    for change in [
        Change::Size(99),
        Change::Size(101),
        Change::Put(3..4, None),
        Change::Put(100..101, None),
        Change::Zero(0..1),
    ] {
        let mut changed = whole.clone();
        apply(&mut changed, &mut vec![None; 100], change);
        assert_eq!(changed.is_whole_source(sizes), None, "{changed:?}");
    }
    assert_eq!(Extents::of_object(7, 99).is_whole_source(sizes), None);
    assert_eq!(Extents::of_object(7, 0), Extents::new());
    // What is written and then copied back is whole again.
    let mut back = whole.clone();
    back.put(10..20, From::Local);
    let (source, offset) = (7, 10);
    back.put(10..20, From::Remote { source, offset });
    assert_eq!(back, whole);
}

#[test]
fn the_written_form_is_short_and_checked() {
    let mut extents = Extents::of_object(3, 9);
    extents.put(0..5, From::Local);
    extents.set_size(12);
    let text = r#"{"size":12,"from":[[0,5,"local"],[5,9,{"source":3,"offset":5}]]}"#;
    assert_eq!(serde_json::to_string(&extents).unwrap(), text);
    assert_eq!(serde_json::from_str::<Extents>(text).unwrap(), extents);
    for damaged in [
        r#"{"size":4,"from":[[0,5,"local"]]}"#,
        r#"{"size":9,"from":[[0,5,"local"],[4,9,"local"]]}"#,
        r#"{"size":9,"from":[[5,9,"local"],[0,5,"local"]]}"#,
        r#"{"size":9,"from":[[5,5,"local"]]}"#,
        r#"{"size":9,"from":[[5,4,"local"]]}"#,
        r#"{"size":9,"from":[[0,9,"elsewhere"]]}"#,
        r#"{"size":9,"from":[[0,9,{"source":0,"offset":18446744073709551615}]]}"#,
    ] {
        assert!(
            serde_json::from_str::<Extents>(damaged).is_err(),
            "{damaged}"
        );
    }
    // Runs that continue each other are one again.
    let split = r#"{"size":9,"from":[[0,5,"local"],[5,9,"local"]]}"#;
    assert_eq!(serde_json::from_str::<Extents>(split).unwrap().map.len(), 1);
}

#[test]
fn what_is_appended_is_told_from_what_is_filled_in() {
    let mut before = Extents::new();
    before.put(0..30, From::Local);
    let mut grown = before.clone();
    grown.put(30..90, From::Local);
    assert!(grown.has_only_grown_from(&before));
    assert!(before.has_only_grown_from(&before));
    assert!(!before.has_only_grown_from(&grown));
    let mut holed = before.clone();
    holed.set_size(62);
    let mut filled = holed.clone();
    filled.put(0..63, From::Local);
    assert!(
        !filled.has_only_grown_from(&holed),
        "the hole is not one any more"
    );
    let mut other = before.clone();
    other.put(
        0..30,
        From::Remote {
            source: 0,
            offset: 0,
        },
    );
    assert!(!other.has_only_grown_from(&before));
}
