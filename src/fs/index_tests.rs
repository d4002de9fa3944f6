use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use redb::{Database, TableDefinition};

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn metadata(uid: u32) -> Metadata {
    Metadata {
        mode: Some(0o100_644),
        uid: Some(uid),
        mtime: Some(SystemTime::UNIX_EPOCH + Duration::new(1, 5)),
        xattrs: [("user.a".to_owned(), vec![0, 255])].into(),
        ..Metadata::default()
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index-0.redb");
    (folder, path)
}

/// An index of a thousand objects that was closed, `object-N` with the uid N.
fn filled(path: &Path) {
    let index = Index::open(path).unwrap();
    for i in 0..1000 {
        index.put(&format!("object-{i}"), "\"e\"", Some(at(7)), &metadata(i));
    }
    index.flush().unwrap();
}

fn count(index: &Index) -> usize {
    (0..1000)
        .filter(|i| {
            let known = index.get(&format!("object-{i}"), "\"e\"", at(7));
            assert!(known.is_none() || known == Some(metadata(*i)), "{known:?}");
            known.is_some()
        })
        .count()
}

#[test]
fn what_was_learned_outlives_the_mount() {
    let (_folder, path) = folder();
    {
        let index = Index::open(&path).unwrap();
        index.put("a", "\"1\"", Some(at(7)), &metadata(1));
        index.put("b", "\"2\"", Some(at(7)), &metadata(2));
        index.flush().unwrap();
        index.remove("b");
        index.put("unflushed", "\"3\"", Some(at(7)), &metadata(3));
        assert_eq!(index.get("b", "\"2\"", at(7)), None);
        assert_eq!(index.get("unflushed", "\"3\"", at(7)), Some(metadata(3)));
        index.flush().unwrap();
        index.put("lost", "\"4\"", Some(at(7)), &metadata(4));
    }
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let index = Index::open(&path).unwrap();
    for _ in 0..2 {
        assert_eq!(index.get("a", "\"1\"", at(7)), Some(metadata(1)));
        assert_eq!(
            index.get("a", "\"1\"", at(7) + Duration::from_millis(999)),
            Some(metadata(1))
        );
        assert_eq!(index.get("b", "\"2\"", at(7)), None);
        assert_eq!(index.get("unflushed", "\"3\"", at(7)), Some(metadata(3)));
        assert_eq!(index.get("lost", "\"4\"", at(7)), None);
        // Another version of the object, or the same bytes with other metadata.
        assert_eq!(index.get("a", "\"2\"", at(7)), None);
        assert_eq!(index.get("a", "\"1\"", at(8)), None);
    }
}

#[test]
fn an_object_put_without_a_time_takes_the_first_it_is_seen_with() {
    let (_folder, path) = folder();
    {
        let index = Index::open(&path).unwrap();
        index.put("a", "\"1\"", None, &metadata(1));
        index.put("b", "\"1\"", None, &metadata(1));
        index.flush().unwrap();
        assert_eq!(index.get("a", "\"other\"", at(6)), None);
        assert_eq!(index.get("a", "\"1\"", at(7)), Some(metadata(1)));
        assert_eq!(index.get("a", "\"1\"", at(8)), None);
        index.flush().unwrap();
    }
    let index = Index::open(&path).unwrap();
    assert_eq!(index.get("a", "\"1\"", at(8)), None);
    assert_eq!(index.get("a", "\"1\"", at(7)), Some(metadata(1)));
    // Also when it comes out of the file.
    assert_eq!(index.get("b", "\"1\"", at(9)), Some(metadata(1)));
    assert_eq!(index.get("b", "\"1\"", at(7)), None);
}

#[test]
fn what_was_flushed_survives_a_crash() {
    let (folder, path) = folder();
    filled(&path);
    let index = Index::open(&path).unwrap();
    index.put("a", "\"1\"", Some(at(7)), &metadata(1));
    index.flush().unwrap();
    // As it is on the disk while nobody has closed it.
    let crashed = folder.path().join("crashed.redb");
    std::fs::copy(&path, &crashed).unwrap();
    let index = Index::open(&crashed).unwrap();
    assert_eq!(index.get("a", "\"1\"", at(7)), Some(metadata(1)));
    assert_eq!(count(&index), 1000);
}

#[test]
fn a_second_mount_remembers_in_memory() {
    let (_folder, path) = folder();
    filled(&path);
    let first = Index::open(&path).unwrap();
    let second = Index::open(&path).unwrap();
    assert_eq!(count(&second), 0);
    second.put("a", "\"1\"", Some(at(7)), &metadata(1));
    first.put("a", "\"2\"", Some(at(8)), &metadata(2));
    second.flush().unwrap();
    first.flush().unwrap();
    assert_eq!(second.get("a", "\"1\"", at(7)), Some(metadata(1)));
    second.remove("a");
    assert_eq!(second.get("a", "\"1\"", at(7)), None);
    assert_eq!(first.get("a", "\"2\"", at(8)), Some(metadata(2)));
    drop((first, second));
    let third = Index::open(&path).unwrap();
    assert_eq!(count(&third), 1000);
    assert_eq!(third.get("a", "\"2\"", at(8)), Some(metadata(2)));
}

#[test]
fn a_file_of_something_else_is_moved_aside() {
    let (folder, path) = folder();
    for content in [
        b"no database".to_vec(),
        vec![0; 100_000],
        b"redb\x1a\x0a".repeat(2000),
    ] {
        std::fs::write(&path, &content).unwrap();
        let index = Index::open(&path).unwrap();
        index.put("a", "\"1\"", Some(at(7)), &metadata(1));
        index.flush().unwrap();
        drop(index);
        let index = Index::open(&path).unwrap();
        assert_eq!(index.get("a", "\"1\"", at(7)), Some(metadata(1)));
        assert!(folder.path().join("index-0.redb.damaged").exists());
    }
}

#[test]
fn a_table_of_another_form_is_moved_aside() {
    let (folder, path) = folder();
    let other: TableDefinition<u64, u64> = TableDefinition::new("objects-1");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(other).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let index = Index::open(&path).unwrap();
    index.put("a", "\"1\"", Some(at(7)), &metadata(1));
    index.flush().unwrap();
    assert!(folder.path().join("index-0.redb.damaged").exists());
}

#[test]
fn damage_anywhere_costs_knowledge_at_most() {
    let (_folder, path) = folder();
    filled(&path);
    let whole = std::fs::read(&path).unwrap();
    // The same places each time; a prime step, to hit all parts of pages.
    let places = (0..whole.len()).step_by(50_021).chain((0..400).step_by(11));
    for place in places {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        try_all(&path, &damaged);
    }
    for length in (0..whole.len()).step_by(100_003) {
        try_all(&path, &whole[..length]);
    }
}

fn try_all(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
    let index = Index::open(path).unwrap();
    count(&index);
    index.put("new", "\"n\"", Some(at(7)), &metadata(1));
    index.remove("object-5");
    // Fails over damage that shows only now; memory works all the same.
    drop(index.flush());
    assert_eq!(index.get("new", "\"n\"", at(7)), Some(metadata(1)));
    index.flush().unwrap();
}

#[test]
fn damage_under_a_mount_does_too() {
    let (_folder, path) = folder();
    for content in [vec![], vec![0x55; 4 << 20]] {
        filled(&path);
        let index = Index::open(&path).unwrap();
        // The same file, not another of the name.
        std::fs::write(&path, &content).unwrap();
        count(&index);
        index.put("new", "\"n\"", Some(at(7)), &metadata(1));
        index.remove("object-5");
        drop(index.flush());
        assert_eq!(index.get("new", "\"n\"", at(7)), Some(metadata(1)));
        index.flush().unwrap();
        drop(index);
        Index::open(&path).unwrap();
    }
}

#[test]
fn it_stays_within_its_bound() {
    let (_folder, path) = folder();
    let name = |i: u32| format!("{:08x}", i.wrapping_mul(2_654_435_761));
    {
        let index = Index::open_bounded(&path, 100).unwrap();
        for i in 0..1000 {
            index.put(&name(i), "\"e\"", Some(at(7)), &metadata(i));
            if i % 7 == 0 {
                index.flush().unwrap();
            }
        }
        index.flush().unwrap();
    }
    let index = Index::open_bounded(&path, 100).unwrap();
    let left = (0..1000).filter(|i| index.get(&name(*i), "\"e\"", at(7)).is_some());
    assert_eq!(left.count(), 100);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let (folder, _) = folder();
    let opened = Index::open(&folder.path().join("nowhere/index.redb"));
    assert!(matches!(opened, Err(IndexError::Io { .. })), "{opened:?}");
}

#[test]
fn readers_and_writers_do_not_meet() {
    let (_folder, path) = folder();
    let index = Index::open(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let index = &index;
            scope.spawn(move || {
                for i in 0..500 {
                    let key = format!("{thread}-{i}");
                    index.put(&key, "\"old\"", None, &metadata(0));
                    index.put(&key, "\"new\"", Some(at(7)), &metadata(i));
                    assert_eq!(index.get(&key, "\"new\"", at(7)), Some(metadata(i)));
                    let before = format!("{thread}-{}", i / 2);
                    assert_eq!(index.get(&before, "\"new\"", at(7)), Some(metadata(i / 2)));
                }
            });
        }
        scope.spawn(|| (0..20).for_each(|_| index.flush().unwrap()));
    });
}

#[test]
fn times_are_rounded_down() {
    assert_eq!(seconds(at(7) + Duration::from_nanos(1)), 7);
    assert_eq!(
        seconds(SystemTime::UNIX_EPOCH - Duration::from_nanos(1)),
        -1
    );
    assert_eq!(seconds(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), -1);
}
