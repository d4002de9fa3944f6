#![allow(clippy::unwrap_used)]
use std::io::{BufRead, BufReader, Write};

use proptest::prelude::*;

use super::*;
use crate::spool::testing::{SmallDisk, copy, homes, names, owner, run, victims_directory};

fn open(root: &Path) -> Opened {
    Spool::open(root, &owner("me"), None).unwrap()
}

fn bytes(file: &SpoolFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

#[test]
fn entries_come_back_with_their_parts_and_bytes() {
    let root = tempfile::tempdir().unwrap();
    let Opened { spool, entries } = open(root.path());
    assert!(entries.is_empty());
    let (id, file) = spool.create("first").unwrap();
    file.write_at(2, b"bytes").unwrap();
    spool.put_part(id, 7, &[1, 2]).unwrap();
    spool.put(id, "second").unwrap();
    spool.sync(Some(&file)).unwrap();
    let bare = spool.new_id();
    spool.put(bare, "no bytes").unwrap();
    let (gone, _file) = spool.create("gone").unwrap();
    spool.discard(gone).unwrap();
    spool.put_part(gone, 3, "too late").unwrap();
    let used = spool.used();
    drop(spool);

    let Opened { spool, entries } = open(root.path());
    assert_eq!(spool.used(), used);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].id, id);
    assert_eq!(entries[0].record, "\"second\"");
    assert_eq!(entries[0].parts, BTreeMap::from([(7, "[1,2]".to_owned())]));
    assert_eq!(bytes(entries[0].file.as_ref().unwrap()), b"\0\0bytes");
    assert_eq!(entries[1].record, "\"no bytes\"");
    assert!(entries[1].file.is_none());
    assert!(spool.new_id() > gone);
    assert_eq!(bytes(&spool.reopen(id).unwrap().unwrap()), b"\0\0bytes");
    assert!(spool.reopen(bare).unwrap().is_none());
    spool.put_part(bare, ORIGIN, "ours").unwrap_err();
}

#[test]
fn a_discarded_file_can_be_used_to_the_end_and_takes_room_until_then() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path()).spool;
    let (id, file) = spool.create("x").unwrap();
    file.write_at(0, b"bytes").unwrap();
    let again = spool.reopen(id).unwrap().unwrap();
    drop(again);
    spool.discard(id).unwrap();
    spool.discard(id).unwrap();
    spool.sweep().unwrap();
    assert!(!file.path().exists());
    assert_eq!(bytes(&file), b"bytes");
    assert_eq!(spool.used(), 4096);
    drop(file);
    assert_eq!(spool.used(), 0);
    let (id, file) = spool.create("y").unwrap();
    file.write_at(0, b"bytes").unwrap();
    drop(file);
    assert_eq!(spool.used(), 4096, "it is still in the spool");
    spool.discard(id).unwrap();
    spool.sweep().unwrap();
    assert_eq!(spool.used(), 0);
}

#[test]
fn ids_are_not_used_again() {
    let root = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..4 {
        let spool = open(root.path()).spool;
        let (id, _file) = spool.create("x").unwrap();
        assert!(id > last);
        last = id;
        spool.discard(id).unwrap();
    }
}

#[test]
fn a_file_whose_data_is_gone_is_said_to_be_gone() {
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path()).spool;
    let (_, file) = spool.create("x").unwrap();
    std::fs::remove_file(file.path()).unwrap();
    drop(spool);
    assert!(open(root.path()).entries[0].file.is_none());
}

#[test]
fn the_limit_counts_what_was_left_and_ends_when_it_is_discarded() {
    let root = tempfile::tempdir().unwrap();
    let limited = || Spool::open(root.path(), &owner("me"), Some(1 << 20)).unwrap();
    let spool = limited().spool;
    let (id, file) = spool.create("x").unwrap();
    file.write_at(0, &[1; 1 << 20]).unwrap();
    drop((spool, file));
    let Opened { spool, entries } = limited();
    let (_, file) = spool.create("y").unwrap();
    let error = file.write_at(0, b"y").unwrap_err();
    assert!(matches!(error, SpoolError::Full(_)), "{error:?}");
    spool.discard(id).unwrap();
    spool.sweep().unwrap();
    drop(entries);
    file.write_at(0, b"y").unwrap();
}

#[test]
fn a_full_disk_takes_nothing_new_and_lets_go_of_the_old() {
    let Some(disk) = SmallDisk::new(4 << 20) else {
        return;
    };
    let spool = open(disk.path()).spool;
    let made: Vec<_> = (0..4).map(|i| spool.create(&i).unwrap()).collect();
    let chunk = [7; 64 << 10];
    let mut at = 0;
    while made
        .iter()
        .all(|(_, file)| file.write_at(at, &chunk).is_ok())
    {
        at += chunk.len() as u64;
    }
    let filler = disk.fill_up_to(0);
    let error = (0..)
        .find_map(|i| spool.create(&vec![i; 100]).err())
        .unwrap();
    assert!(matches!(error, SpoolError::Full(_)), "{error:?}");
    std::fs::remove_file(filler).unwrap();
    for (id, _) in &made[..3] {
        spool.discard(*id).unwrap();
    }
    drop(spool);
    let entries = open(disk.path()).entries;
    let first = entries.iter().find(|found| found.id == made[3].0).unwrap();
    let kept = bytes(first.file.as_ref().unwrap());
    assert!(kept.len() as u64 >= at && kept.iter().all(|b| *b == 7));
}

#[derive(Debug, Clone)]
enum Step {
    Create,
    Bare,
    Write(prop::sample::Index, u64, u8),
    Put(prop::sample::Index, u32),
    Discard(prop::sample::Index),
    Sync,
    /// Killed: what the next process finds is looked at, and this one goes on.
    Look,
    /// Killed, and started again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        3 => Just(Step::Create),
        1 => Just(Step::Bare),
        4 => (any(), 0..20_000_u64, 1..=255_u8).prop_map(|(i, o, b)| Step::Write(i, o, b)),
        2 => (any(), 0..3_u32).prop_map(|(i, p)| Step::Put(i, p)),
        2 => any().prop_map(Step::Discard),
        1 => Just(Step::Sync),
        2 => Just(Step::Look),
        1 => Just(Step::Restart),
    ]
}

/// Parts, the record among them, and bytes.
type Model = BTreeMap<u64, (BTreeMap<u32, String>, Option<Vec<u8>>)>;

fn model(opened: &Opened) -> Model {
    let of = |found: &Found| {
        let mut parts = found.parts.clone();
        parts.insert(0, found.record.clone());
        (found.id, (parts, found.file.as_ref().map(bytes)))
    };
    opened.entries.iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_killed_leaves_what_was_there(steps in prop::collection::vec(step(), 1..40)) {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        let mut opened = open(&root);
        let mut files = HashMap::new();
        let mut expected = Model::new();
        for (round, step) in steps.into_iter().enumerate() {
            let spool = &opened.spool;
            let pick = |index: prop::sample::Index| {
                (!expected.is_empty()).then(|| *index.get(&expected.keys().collect::<Vec<_>>()))
            };
            let value = round.to_string();
            match step {
                Step::Create => {
                    let (id, file) = spool.create(&round).unwrap();
                    files.insert(id, file);
                    expected.insert(id, (BTreeMap::from([(0, value)]), Some(Vec::new())));
                }
                Step::Bare => {
                    let id = spool.new_id();
                    spool.put(id, &round).unwrap();
                    expected.insert(id, (BTreeMap::from([(0, value)]), None));
                }
                Step::Write(index, at, byte) => {
                    let Some(id) = pick(index).copied() else { continue };
                    let (_, Some(data)) = expected.get_mut(&id).unwrap() else { continue };
                    files[&id].write_at(at, &[byte; 100]).unwrap();
                    let at = usize::try_from(at).unwrap();
                    data.resize(data.len().max(at + 100), 0);
                    data[at..at + 100].fill(byte);
                }
                Step::Put(index, part) => {
                    let Some(id) = pick(index).copied() else { continue };
                    spool.put_part(id, part, &round).unwrap();
                    expected.get_mut(&id).unwrap().0.insert(part, value);
                }
                Step::Discard(index) => {
                    let Some(id) = pick(index).copied() else { continue };
                    spool.discard(id).unwrap();
                    files.remove(&id);
                    expected.remove(&id);
                }
                Step::Sync => spool.sync(files.values().next()).unwrap(),
                Step::Look => {
                    let other = place.path().join(value);
                    copy(&root, &other);
                    prop_assert_eq!(model(&open(&other)), expected.clone());
                }
                Step::Restart => {
                    files.clear();
                    drop(opened);
                    opened = open(&root);
                    prop_assert_eq!(model(&opened), expected.clone());
                    for found in opened.entries.drain(..) {
                        files.extend(found.file.map(|file| (found.id, file)));
                    }
                }
            }
        }
        drop((files, opened));
        prop_assert_eq!(model(&open(&root)), expected);
        prop_assert_eq!(homes(&root).len(), 1);
    }
}

/// The bytes of an entry of the victim.
fn content(id: u64) -> Vec<u8> {
    (0..5000 + id * 37)
        .map(|at| ((at + id) % 251) as u8)
        .collect()
}

/// Says what it is about to do and what is done, until it is killed.
#[test]
fn victim() {
    let Some(root) = victims_directory() else {
        return;
    };
    let mut out = std::io::stdout();
    let mut say = |what: &str, id: u64| writeln!(out, "#{what} {id}").unwrap();
    let spool = open(&root).spool;
    for round in 0..100_000_u64 {
        let (id, file) = spool.create(&round).unwrap();
        say("created", id);
        for (chunk, at) in content(id).chunks(1000).zip((0..).step_by(1000)) {
            file.write_at(at, chunk).unwrap();
        }
        say("written", id);
        spool.put_part(id, 1, &content(id)).unwrap();
        say("part", id);
        if round % 5 == 0 {
            spool.sync(Some(&file)).unwrap();
        }
        if round % 2 == 0 {
            say("discarding", id);
            spool.discard(id).unwrap();
            say("discarded", id);
        }
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_was_told_is_done() {
    let root = tempfile::tempdir().unwrap();
    for round in 1..=8_usize {
        let mut child = run(module_path!(), root.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said: HashMap<u64, Vec<String>> = HashMap::new();
        let mut hear = |line: std::io::Result<String>| {
            let line = line.unwrap();
            // The test harness says things too, without an end of line.
            if let Some((_, line)) = line.split_once('#') {
                let (what, id) = line.split_once(' ').unwrap();
                let id = id.parse().unwrap();
                said.entry(id).or_default().push(what.to_owned());
            }
        };
        lines.by_ref().take(37 * round).for_each(&mut hear);
        child.kill().unwrap();
        lines.for_each(&mut hear);
        child.wait().unwrap();
        assert!(said.len() > 3, "it did nothing");

        let Opened { spool, entries } = open(root.path());
        let found: HashMap<u64, &Found> = entries.iter().map(|f| (f.id, f)).collect();
        for (id, said) in &said {
            let has = |what: &str| said.iter().any(|s| s == what);
            if has("discarded") {
                assert!(!found.contains_key(id));
            } else if !has("discarding") {
                let found = found[id];
                let kept = bytes(found.file.as_ref().unwrap());
                assert!(!has("written") || kept == content(*id));
                assert!(content(*id).starts_with(&kept));
                assert!(!has("part") || found.parts.contains_key(&1));
            }
        }
        // At most one that was about to be said.
        assert!(found.keys().filter(|id| !said.contains_key(id)).count() <= 1);
        for id in found.keys() {
            spool.discard(*id).unwrap();
        }
        spool.sweep().unwrap();
    }
    let left = names(&homes(root.path())[0]);
    assert_eq!(left, ["journal", "lock", "owner.json"]);
}

#[test]
fn it_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Spool>();
    shared::<SpoolFile>();
    let root = tempfile::tempdir().unwrap();
    let spool = open(root.path()).spool;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..20 {
                    let (id, file) = spool.create(&round).unwrap();
                    file.write_at(0, &content(id)).unwrap();
                    spool.sync(Some(&file)).unwrap();
                    if round % 2 == 0 {
                        spool.discard(id).unwrap();
                    }
                }
            });
        }
    });
    drop(spool);
    let entries = open(root.path()).entries;
    assert_eq!(entries.len(), 80);
    for found in entries {
        assert_eq!(bytes(found.file.as_ref().unwrap()), content(found.id));
    }
}
