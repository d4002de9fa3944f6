//! What the programs have to do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use s3mfa_sandbox::Bucket;

use crate::scene::{noise, wait_until};

const MIB: usize = 1 << 20;

/// The size of the large file in bytes.
const LARGE: usize = 256 * MIB;

/// How many small files there are, of 4 KiB each.
const SMALL: usize = 100;

/// How many names are listed.
const NAMES: usize = 5_000;

/// One job.
pub struct Job {
    pub name: &'static str,
    /// What is in the bucket before.
    pub furnish: fn(&Bucket),
    /// What is done below the mount point.
    pub work: fn(&Path) -> io::Result<()>,
    /// Whether the bucket has all of it. Cheap: it is asked all the time.
    pub is_done: fn(&Bucket) -> bool,
    /// Whether the bucket has the right bytes.
    pub is_right: fn(&Bucket) -> bool,
}

pub const JOBS: &[Job] = &[
    Job {
        name: "write 256 MiB",
        furnish: |_| {},
        work: |root| {
            let mut file = File::create(root.join("large"))?;
            for i in 0..LARGE / MIB {
                file.write_all(&mebibyte(i))?;
            }
            file.sync_all()
        },
        is_done: |bucket| {
            bucket
                .object("large")
                .is_some_and(|o| o.size == LARGE as u64)
        },
        is_right: |bucket| {
            let bytes = bucket.get("large").unwrap();
            (0..LARGE / MIB).all(|i| bytes[i * MIB..][..MIB] == mebibyte(i))
        },
    },
    Job {
        name: "change 1 MiB in the middle of 256 MiB",
        furnish: furnish_large,
        work: |root| {
            let file = OpenOptions::new().write(true).open(root.join("large"))?;
            file.write_all_at(&mebibyte(1000), LARGE as u64 / 2)?;
            file.sync_all()
        },
        is_done: |bucket| bucket.get("large").unwrap()[LARGE / 2..][..MIB] == mebibyte(1000),
        is_right: |bucket| {
            let bytes = bucket.get("large").unwrap();
            let last = LARGE / MIB - 1;
            bytes.len() == LARGE && bytes[last * MIB..] == mebibyte(last)
        },
    },
    Job {
        name: "read 256 MiB",
        furnish: furnish_large,
        work: |root| {
            let mut file = File::open(root.join("large"))?;
            let mut bytes = vec![0; MIB];
            for i in 0..LARGE / MIB {
                file.read_exact(&mut bytes)?;
                assert!(i % 64 != 0 || bytes == mebibyte(i));
            }
            Ok(())
        },
        is_done: |_| true,
        is_right: |_| true,
    },
    Job {
        name: "write 100 files of 4 KiB",
        furnish: |_| {},
        work: |root| {
            for i in 0..SMALL {
                fs::write(root.join(format!("small-{i}")), noise(i as u64, 4096))?;
            }
            Ok(())
        },
        is_done: |bucket| bucket.keys().len() >= SMALL,
        is_right: |bucket| {
            (0..SMALL).all(|i| {
                let bytes = bucket.get(&format!("small-{i}"));
                bytes.is_some_and(|bytes| bytes == noise(i as u64, 4096))
            })
        },
    },
    Job {
        name: "list 5,000 names with their sizes",
        furnish: |bucket| bucket.put_empty_many("name-", NAMES),
        work: |root| {
            let mut count = 0;
            for name in fs::read_dir(root)? {
                name?.metadata()?;
                count += 1;
            }
            assert_eq!(count, NAMES);
            Ok(())
        },
        is_done: |_| true,
        is_right: |_| true,
    },
];

/// How long a job takes.
///
/// Errors: that of the system call which failed.
pub fn timed(job: &Job, bucket: &Bucket, root: &Path) -> io::Result<Duration> {
    let begun = Instant::now();
    (job.work)(root)?;
    wait_until(job.name, || (job.is_done)(bucket));
    let took = begun.elapsed();
    assert!((job.is_right)(bucket), "{} went wrong", job.name);
    Ok(took)
}

fn furnish_large(bucket: &Bucket) {
    let bytes: Vec<u8> = (0..LARGE / MIB).flat_map(mebibyte).collect();
    bucket.put("large", bytes);
}

fn mebibyte(i: usize) -> Vec<u8> {
    noise(i as u64, MIB)
}
