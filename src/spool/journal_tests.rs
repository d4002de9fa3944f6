#![allow(clippy::unwrap_used, clippy::panic)]
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;
use crate::spool::testing::{SmallDisk, names};

type State = BTreeMap<RecordId, String>;

fn id(entry: u64, part: u32) -> RecordId {
    RecordId { entry, part }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn reopen(path: &Path) -> Opening {
    let opening = Journal::open(path).unwrap();
    opening.journal.settled().unwrap();
    opening
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64, u32, String),
    Remove(u64),
    Sync,
    Replace,
    /// Killed, and started again.
    Reopen,
    /// A power cut: some of what was not synced is gone.
    Cut(prop::sample::Index),
    /// The disk changes a byte.
    Flip(prop::sample::Index, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..5_u64, 0..4_u32, ".{0,20}").prop_map(|(e, p, v)| Step::Put(e, p, v)),
        2 => (0..5_u64).prop_map(Step::Remove),
        1 => Just(Step::Sync),
        1 => Just(Step::Replace),
        1 => Just(Step::Reopen),
        1 => any::<prop::sample::Index>().prop_map(Step::Cut),
        1 => (any::<prop::sample::Index>(), 1..=255_u8).prop_map(|(i, b)| Step::Flip(i, b)),
    ]
}

/// What must be found after the byte at `at` was changed: everything but the lines it touches.
fn without_line(bytes: &[u8], at: usize) -> Vec<u8> {
    let start = bytes[..at]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |i| i + 1);
    let end_of = |at: usize| {
        let end = bytes[at..].iter().position(|b| *b == b'\n');
        end.map_or(bytes.len(), |i| at + i + 1)
    };
    let mut end = end_of(at);
    if bytes[at] == b'\n' && end < bytes.len() {
        // It runs into the next line.
        end = end_of(end);
    }
    let header = lines::header();
    if start == 0 {
        [header.as_bytes(), &bytes[end..]].concat()
    } else {
        [&bytes[..start], &bytes[end..]].concat()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_map_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Some(reopen(&path).journal);
        let mut state = State::new();
        // The states since the last sync, by the length of the file.
        let length = |path: &Path| std::fs::metadata(path).unwrap().len();
        let mut history = vec![(length(&path), state.clone())];
        for step in steps {
            let open = journal.as_ref().unwrap();
            match step {
                Step::Put(entry, part, value) => {
                    open.put(id(entry, part), &value).unwrap();
                    state.insert(id(entry, part), json(&value));
                    history.push((length(&path), state.clone()));
                }
                Step::Remove(entry) => {
                    open.remove_entry(entry).unwrap();
                    state.retain(|id, _| id.entry != entry);
                    history.push((length(&path), state.clone()));
                }
                Step::Sync => {
                    open.sync().unwrap();
                    history = vec![(length(&path), state.clone())];
                }
                Step::Replace => {
                    open.replace(&mut open.state.lock()).unwrap();
                    history = vec![(length(&path), state.clone())];
                }
                Step::Reopen => {
                    drop(journal.take());
                    let opening = reopen(&path);
                    prop_assert!(opening.sound);
                    prop_assert_eq!(&opening.records, &state);
                    journal = Some(opening.journal);
                }
                Step::Cut(at) => {
                    drop(journal.take());
                    let (synced, now) = (history[0].0, length(&path));
                    let kept = synced + at.index((now - synced) as usize + 1) as u64;
                    OpenOptions::new().write(true).open(&path).unwrap().set_len(kept).unwrap();
                    let opening = reopen(&path);
                    history.retain(|(length, _)| *length <= kept);
                    let (whole, expected) = history.last().unwrap();
                    prop_assert_eq!(&opening.records, expected);
                    prop_assert_eq!(opening.sound, *whole == kept);
                    prop_assert_eq!(length(&path), *whole);
                    state = expected.clone();
                    journal = Some(opening.journal);
                }
                Step::Flip(at, bits) => {
                    drop(journal.take());
                    let bytes = std::fs::read(&path).unwrap();
                    let at = at.index(bytes.len());
                    let mut flipped = bytes.clone();
                    flipped[at] ^= bits;
                    std::fs::write(&path, &flipped).unwrap();
                    match Journal::open(&path) {
                        Err(SpoolError::Version { .. }) => {
                            prop_assert!(at + 1 < lines::header().len());
                            prop_assert_eq!(std::fs::read(&path).unwrap(), flipped);
                            std::fs::write(&path, &bytes).unwrap();
                            journal = Some(reopen(&path).journal);
                        }
                        opening => {
                            let opening = opening.unwrap();
                            let expected = Contents::read(&without_line(&bytes, at), &path).unwrap();
                            prop_assert_eq!(&opening.records, &expected.records);
                            prop_assert!(!opening.sound);
                            state = opening.records;
                            opening.journal.sync().unwrap();
                            opening.journal.settled().unwrap();
                            journal = Some(opening.journal);
                            history = vec![(length(&path), state.clone())];
                        }
                    }
                }
            }
        }
        drop(journal);
        prop_assert_eq!(reopen(&path).records, state);
    }

    #[test]
    fn rubbish_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), magic: bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let header = if magic { lines::header() } else { String::new() };
        std::fs::write(&path, [header.as_bytes(), &bytes].concat()).unwrap();
        let opening = reopen(&path);
        opening.journal.put(id(1, 0), "here").unwrap();
        drop(opening);
        prop_assert_eq!(reopen(&path).records, State::from([(id(1, 0), json("here"))]));
    }
}

#[test]
fn a_damaged_journal_is_kept_beside_the_good_rest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let journal = reopen(&path).journal;
    for entry in 1..=3 {
        journal.put(id(entry, 0), "value").unwrap();
    }
    drop(journal);
    let text = std::fs::read_to_string(&path).unwrap();
    let damaged = text.replace("[2,0", "[2,7");
    std::fs::write(&path, &damaged).unwrap();
    let opening = Journal::open(&path).unwrap();
    assert!(!opening.sound);
    drop(opening);
    let opening = reopen(&path);
    assert!(!opening.sound, "nobody has settled what is lost");
    let found: Vec<_> = opening.records.keys().map(|id| id.entry).collect();
    assert_eq!(found, [1, 3]);
    drop(opening);
    assert!(reopen(&path).sound, "it was written anew");
    let names = names(directory.path());
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[1].starts_with("journal.damaged-"));
    let kept = std::fs::read_to_string(directory.path().join(&names[1])).unwrap();
    assert_eq!(kept, damaged);
}

#[test]
fn another_version_is_refused_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    std::fs::write(&path, "s3mfa-mount journal 2\nwho knows\n").unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
    assert_eq!(names(directory.path()), ["journal"]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "s3mfa-mount journal 2\nwho knows\n");
}

#[test]
fn values_with_line_breaks_and_odd_types_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let journal = reopen(&path).journal;
    let raw: Box<serde_json::value::RawValue> =
        serde_json::from_str("{\n \"a\":\r\n [1,\n2]}").unwrap();
    journal.put(id(1, 0), &raw).unwrap();
    journal.put(id(1, 1), "a\nb\u{2028}\0").unwrap();
    journal.put(id(1, 2), &()).unwrap();
    journal.put(id(u64::MAX, u32::MAX), &u64::MAX).unwrap();
    drop(journal);
    let records = reopen(&path).records;
    assert_eq!(records[&id(1, 0)], "{  \"a\":   [1, 2]}");
    assert_eq!(records[&id(1, 1)], json("a\nb\u{2028}\0"));
    assert_eq!(records[&id(1, 2)], "null");
    assert_eq!(records[&id(u64::MAX, u32::MAX)], u64::MAX.to_string());
}

#[test]
fn history_is_thrown_away_and_ids_are_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let journal = reopen(&path).journal;
    journal.put(id(7, 0), "stays").unwrap();
    journal.put(id(90, 0), "goes").unwrap();
    journal.remove_entry(90).unwrap();
    let value = "x".repeat(1000);
    let mut longest = 0;
    for _ in 0..5000 {
        journal.put(id(8, 0), &value).unwrap();
        longest = longest.max(std::fs::metadata(&path).unwrap().len());
    }
    assert!(longest < SMALL + 2000, "{longest}");
    journal.put(id(9, 0), "after").unwrap();
    drop(journal);
    let opening = reopen(&path);
    assert!(opening.sound);
    assert_eq!(opening.highest, 90);
    let expected = [(7, "stays"), (8, &value), (9, "after")];
    let expected: State = expected.map(|(e, v)| (id(e, 0), json(v))).into();
    assert_eq!(opening.records, expected);
    assert_eq!(names(directory.path()), ["journal"]);
}

#[test]
fn a_disk_that_fails_to_sync_is_not_believed_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let journal = reopen(&path).journal;
    journal.put(id(1, 0), "one").unwrap();
    journal.sync().unwrap();
    journal.put(id(2, 0), "two").unwrap();
    // Takes writes, and fails to sync: EINVAL.
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    journal.state.lock().file = Arc::new(null);
    // No new file either: its name is taken.
    let new = new_path(&path);
    std::fs::create_dir(&new).unwrap();
    journal.sync().unwrap_err();
    journal.sync().unwrap_err();
    // The kernel takes what it is given now, but not for sure what it was given before.
    let inode = || std::fs::metadata(&path).unwrap().ino();
    let file = open(&path).unwrap();
    let before = inode();
    journal.state.lock().file = Arc::new(file);
    journal.put(id(3, 0), "three").unwrap();
    journal.sync().unwrap_err();
    std::fs::remove_dir(&new).unwrap();
    journal.sync().unwrap();
    assert_ne!(inode(), before, "it was written anew");
    journal.put(id(4, 0), "four").unwrap();
    let before = inode();
    journal.sync().unwrap();
    assert_eq!(inode(), before, "the new one is trusted");
    drop(journal);
    let found: Vec<u64> = reopen(&path).records.keys().map(|id| id.entry).collect();
    assert_eq!(found, [1, 2, 3, 4]);
}

#[test]
fn many_threads_put_and_sync_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let journal = reopen(&path).journal;
    std::thread::scope(|scope| {
        for thread in 0..16_u64 {
            let journal = &journal;
            scope.spawn(move || {
                for round in 0..40 {
                    journal
                        .put(id(thread, round), "x".repeat(900).as_str())
                        .unwrap();
                    let changes = journal.state.lock().changes;
                    journal.sync().unwrap();
                    assert!(journal.state.lock().synced >= changes);
                    if round % 10 == 9 {
                        journal.remove_entry(thread).unwrap();
                    }
                }
                journal.put(id(thread, 1), "last").unwrap();
            });
        }
    });
    drop(journal);
    let expected: State = (0..16)
        .map(|thread| (id(thread, 1), json("last")))
        .collect();
    assert_eq!(reopen(&path).records, expected);
}

#[test]
fn a_full_disk_takes_no_records_but_removals() {
    let Some(disk) = SmallDisk::new(4 << 20) else {
        return;
    };
    let path = disk.path().join("journal");
    let journal = reopen(&path).journal;
    for entry in 1..=500 {
        journal.put(id(entry, 0), "before").unwrap();
    }
    let filler = disk.fill_up_to(0);
    let mut entry = 500;
    let error = loop {
        entry += 1;
        if let Err(error) = journal.put(id(entry, 0), "x".repeat(500).as_str()) {
            break error;
        }
    };
    assert!(matches!(error, SpoolError::Full(_)), "{error:?}");
    assert!(error.to_string().contains("free space there"), "{error}");
    for entry in 1..=400 {
        journal.remove_entry(entry).unwrap();
    }
    journal.sync().unwrap();
    journal
        .put(id(2000, 0), "x".repeat(9000).as_str())
        .unwrap_err();
    drop(journal);
    let opening = reopen(&path);
    assert!(opening.sound);
    let found: Vec<u64> = opening.records.keys().map(|id| id.entry).collect();
    assert_eq!(found, (401..entry).collect::<Vec<_>>());
    std::fs::remove_file(filler).unwrap();
    opening.journal.put(id(3000, 0), "after").unwrap();
    opening.journal.sync().unwrap();
    drop(opening);
    assert_eq!(reopen(&path).records[&id(3000, 0)], json("after"));
}

#[test]
fn a_write_that_ends_half_way_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::new(1 << 20) else {
        return;
    };
    let path = disk.path().join("journal");
    let journal = reopen(&path).journal;
    journal.put(id(1, 0), "one").unwrap();
    // As on a filesystem that does not allocate in advance.
    journal
        .state
        .lock()
        .file
        .set_len(std::fs::metadata(&path).unwrap().len())
        .unwrap();
    journal.state.lock().allocated = u64::MAX;
    let filler = disk.fill_up_to(8192);
    let before = std::fs::read(&path).unwrap();
    let error = journal
        .put(id(2, 0), "x".repeat(100_000).as_str())
        .unwrap_err();
    assert!(matches!(error, SpoolError::Full(_)), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    journal.state.lock().allocated = u64::MAX;
    journal.put(id(3, 0), "three").unwrap();
    drop(journal);
    let opening = reopen(&path);
    assert!(opening.sound);
    let found: Vec<u64> = opening.records.keys().map(|id| id.entry).collect();
    assert_eq!(found, [1, 3]);
    std::fs::remove_file(filler).unwrap();
}
