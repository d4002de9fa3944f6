#![allow(clippy::unwrap_used)]
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::spool::testing::{SmallDisk, skipped};
use crate::spool::usage::BLOCK;

const MIB: u64 = 1 << 20;

struct Bench {
    directory: tempfile::TempDir,
    usage: Arc<Usage>,
    descriptors: Arc<Descriptors>,
}

impl Bench {
    fn new(limit: Option<u64>) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            usage: Usage::new(limit),
            descriptors: Descriptors::with_room_for(2),
        }
    }

    fn file(&self, id: u64) -> SpoolFile {
        let path = self.directory.path().join(format!("{id}.data"));
        SpoolFile::create(path, &self.usage, &self.descriptors).unwrap()
    }
}

fn read(file: &SpoolFile, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![255; length];
    let count = file.read_at(offset, &mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

fn holes(file: &SpoolFile) -> bool {
    file.next_data(0, file.len().unwrap())
        .unwrap()
        .is_none_or(|data| data.start > 0 || data.end < file.len().unwrap())
}

#[test]
fn holes_are_zeros_and_reads_are_short_at_the_end() {
    let bench = Bench::new(None);
    let file = bench.file(1);
    assert_eq!(read(&file, 0, 10), b"");
    file.write_at(3 * MIB, b"end").unwrap();
    assert_eq!(file.len().unwrap(), 3 * MIB + 3);
    assert_eq!(read(&file, MIB, 100), [0; 100]);
    assert_eq!(read(&file, 3 * MIB - 2, 100), b"\0\0end");
    assert_eq!(read(&file, 4 * MIB, 100), b"");
    file.write_at(u64::MAX, b"x").unwrap_err();
    file.write_at(7, b"").unwrap();
    assert_eq!(bench.usage.used(), BLOCK);
}

#[test]
fn what_is_cut_off_or_punched_out_is_zeros_and_takes_no_room() {
    let bench = Bench::new(None);
    let file = bench.file(1);
    file.write_at(0, &vec![7; MIB as usize]).unwrap();
    assert_eq!(bench.usage.used(), MIB);
    file.punch(1000..MIB / 2 + 1000).unwrap();
    file.punch(5..5).unwrap();
    if read(&file, 1000, 1) == [7] {
        skipped("this filesystem makes no holes");
        return;
    }
    assert_eq!(read(&file, 999, 2), [7, 0]);
    assert_eq!(read(&file, MIB / 2 + 999, 2), [0, 7]);
    assert_eq!(file.len().unwrap(), MIB);
    assert_eq!(bench.usage.used(), MIB / 2 + BLOCK);
    file.set_len(10).unwrap();
    assert_eq!(bench.usage.used(), BLOCK);
    file.set_len(MIB).unwrap();
    assert_eq!(read(&file, 9, 3), [7, 0, 0]);
    assert_eq!(bench.usage.used(), BLOCK);
    drop(file);
    assert_eq!(bench.usage.used(), 0, "nobody has it");
}

#[test]
fn a_copy_has_the_same_bytes_and_holes() {
    let bench = Bench::new(None);
    let from = bench.file(1);
    let bytes: Vec<u8> = (0..3 * MIB + 5).map(|at| (at % 251) as u8 + 1).collect();
    from.write_at(20 * MIB + 3, &bytes).unwrap();
    from.write_at(64 * MIB, b"x").unwrap();
    from.set_len(100 * MIB + 1).unwrap();
    let to = bench.file(2);
    to.write_at(0, &vec![9; MIB as usize]).unwrap();
    to.write_at(200 * MIB, b"gone").unwrap();
    from.copy_to(&to).unwrap();
    assert_eq!(to.len().unwrap(), 100 * MIB + 1);
    assert_eq!(read(&to, 0, MIB as usize), vec![0; MIB as usize]);
    assert_eq!(read(&to, 20 * MIB + 3, bytes.len()), bytes);
    assert_eq!(read(&to, 64 * MIB, 3), b"x\0\0");
    assert_eq!(read(&to, 100 * MIB, 100), [0]);
    if holes(&from) {
        let blocks = |file: &SpoolFile| std::fs::metadata(file.path()).unwrap().blocks() * 512;
        assert!(blocks(&to) < 5 * MIB, "{}", blocks(&to));
        assert!(bench.usage.used() < 10 * MIB, "{}", bench.usage.used());
    }
    // The way without the kernel.
    let slow = bench.file(3);
    slow.set_len(100 * MIB + 1).unwrap();
    let mut at = 0;
    while let Some(data) = from.next_data(at, from.len().unwrap()).unwrap() {
        at = data.end;
        from.copy_range(data, &slow, &mut false).unwrap();
    }
    assert_eq!(
        std::fs::read(slow.path()).unwrap(),
        std::fs::read(to.path()).unwrap()
    );
}

#[test]
fn a_file_that_is_found_is_counted() {
    let bench = Bench::new(Some(2 * MIB));
    let file = bench.file(1);
    file.write_at(0, &vec![1; MIB as usize]).unwrap();
    file.write_at(10 * MIB, &[1]).unwrap();
    let counted = bench.usage.used();
    let path = file.path().to_path_buf();
    drop(file);
    assert_eq!(bench.usage.used(), 0);
    // Over the limit too: it is there.
    for limit in [None, Some(BLOCK)] {
        let usage = Usage::new(limit);
        let found = SpoolFile::find(path.clone(), &usage, &bench.descriptors).unwrap();
        if holes(&found) {
            assert_eq!(usage.used(), counted);
        }
        let again = SpoolFile::again(Arc::clone(found.shared()));
        again.write_at(5, b"over what is there").unwrap();
        assert_eq!(read(&found, 5, 4), b"over");
    }
}

#[test]
fn the_limit_is_for_all_files_together_and_not_for_overwriting() {
    let bench = Bench::new(Some(2 * MIB));
    let (one, two) = (bench.file(1), bench.file(2));
    let mib = vec![1; MIB as usize];
    one.write_at(0, &mib).unwrap();
    two.write_at(5 * MIB, &mib).unwrap();
    let error = two.write_at(0, b"one byte more").unwrap_err();
    assert!(matches!(error, SpoolError::Full(_)), "{error:?}");
    assert!(error.to_string().contains("2097152 bytes"), "{error}");
    assert_eq!(two.len().unwrap(), 6 * MIB, "nothing was written");
    one.write_at(0, &mib).unwrap();
    one.copy_to(&two).unwrap();
    assert!(matches!(
        one.copy_to(&bench.file(3)),
        Err(SpoolError::Full(_))
    ));
    assert_eq!(bench.usage.used(), 2 * MIB);
}

#[test]
fn a_full_disk_is_told_apart_and_what_fits_stays_right() {
    let Some(disk) = SmallDisk::new(4 * MIB) else {
        return;
    };
    let usage = Usage::new(None);
    let descriptors = Descriptors::with_room_for(2);
    let make = |id: u64| {
        let path = disk.path().join(format!("{id}.data"));
        SpoolFile::create(path, &usage, &descriptors).unwrap()
    };
    let (file, other) = (make(1), make(2));
    file.write_at(0, &vec![3; MIB as usize]).unwrap();
    let filler = disk.fill_up_to(65_536);
    let error = file.write_at(MIB, &vec![4; MIB as usize]).unwrap_err();
    assert!(matches!(error, SpoolError::Full(_)), "{error:?}");
    let blocks = |file: &SpoolFile| std::fs::metadata(file.path()).unwrap().blocks() * 512;
    assert_eq!(usage.used(), blocks(&file));
    assert_eq!(read(&file, 0, MIB as usize), vec![3; MIB as usize]);
    assert!(matches!(file.copy_to(&other), Err(SpoolError::Full(_))));
    assert_eq!(usage.used(), blocks(&file) + blocks(&other));
    std::fs::remove_file(filler).unwrap();
    file.write_at(MIB, &vec![4; MIB as usize]).unwrap();
    file.copy_to(&other).unwrap();
    assert_eq!(usage.used(), 4 * MIB);
}

#[test]
fn files_are_for_this_user_alone_and_never_replaced() {
    let bench = Bench::new(None);
    let file = bench.file(1);
    file.write_at(0, b"mine").unwrap();
    assert_eq!(
        std::fs::metadata(file.path()).unwrap().mode() & 0o777,
        0o600
    );
    let path = file.path().to_path_buf();
    SpoolFile::create(path.clone(), &bench.usage, &bench.descriptors).unwrap_err();
    let link = bench.directory.path().join("2.data");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    SpoolFile::find(link, &bench.usage, &bench.descriptors).unwrap_err();
    assert_eq!(read(&file, 0, 9), b"mine");
}

#[test]
fn a_file_that_the_disk_did_not_take_is_never_called_safe() {
    let bench = Bench::new(None);
    let file = bench.file(1);
    file.sync().unwrap();
    file.shared.broken.store(true, Ordering::Release);
    let error = file.sync().unwrap_err();
    assert!(
        error.to_string().contains("write the file again"),
        "{error}"
    );
}

#[test]
fn more_files_than_descriptors_are_used_side_by_side() {
    let bench = Bench::new(None);
    let files: Vec<_> = (0..50).map(|id| bench.file(id)).collect();
    for round in 0..2 {
        for (index, file) in files.iter().enumerate() {
            file.write_at(round, &[index as u8]).unwrap();
        }
    }
    assert_eq!(bench.descriptors.count(), 2);
    for (index, file) in files.iter().enumerate() {
        assert_eq!(read(file, 0, 9), [index as u8; 2]);
        file.sync().unwrap();
    }
    files[0].copy_to(&files[1]).unwrap();
    assert_eq!(read(&files[1], 0, 9), [0; 2]);
    drop(files);
    assert_eq!(bench.descriptors.count(), 0);
}

#[test]
fn a_file_without_a_name_keeps_a_descriptor() {
    let bench = Bench::new(None);
    let file = bench.file(1);
    file.write_at(0, b"bytes").unwrap();
    file.shared().outlive_its_name().unwrap();
    std::fs::remove_file(file.path()).unwrap();
    let others: Vec<_> = (2..9).map(|id| bench.file(id)).collect();
    others
        .iter()
        .for_each(|other| other.write_at(0, b"x").unwrap());
    assert_eq!(read(&file, 0, 9), b"bytes");
}
