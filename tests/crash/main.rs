//! The daemon is killed (SIGKILL) at 200 points of a random workload. After a remount everything
//! that had returned success is there, nothing that was deleted is back, and no version of any
//! object was ever torn.
//!
//! The points are requests to S3, just before the server acts and just after, and ends of
//! operations: so a seed repeats its point. `S3MFA_CRASH_SEED=N` repeats one round,
//! `S3MFA_CRASHES=N` runs more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../mount/scene/mod.rs"]
#[allow(dead_code, unused_imports)]
mod scene;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use s3mfa_sandbox::Matcher;
use scene::{Mount, Scene, wait_until};
use workload::{Random, State, Workload};

/// How many rounds there are.
const ROUNDS: u64 = 200;

/// Where the daemon dies.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// The request arrives and is never answered.
    BeforeRequest(u64),
    /// The server has acted, and nobody hears of it.
    AfterRequest(u64),
    /// So many operations have returned.
    AfterOperation(usize),
}

impl Point {
    fn choose(random: &mut Random) -> Self {
        match random.below(3) {
            0 => Self::BeforeRequest(1 + random.below(90)),
            1 => Self::AfterRequest(1 + random.below(90)),
            _ => Self::AfterOperation(usize::try_from(random.below(40)).unwrap()),
        }
    }
}

#[test]
fn a_daemon_that_is_killed_anywhere_loses_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("S3MFA_CRASH_SEED") {
        Some(seed) => vec![seed],
        None => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let first = now.unwrap().as_secs() * 1000;
            let rounds = number("S3MFA_CRASHES").unwrap_or(ROUNDS);
            (first..first + rounds).collect()
        }
    };
    eprintln!("seeds {}..={}", seeds[0], seeds[seeds.len() - 1]);
    let scene = Scene::new();
    scene.bucket.clear_policy();
    for seed in seeds {
        round(&scene, seed);
    }
}

fn round(scene: &Scene, seed: u64) {
    let mut random = Random::new(seed);
    let point = Point::choose(&mut random);
    let bucket = scene.sandbox.create_bucket(&format!("round-{seed}"));
    let name = bucket.name().to_owned();
    let start = || {
        let place = scene.mountpoint("mnt");
        let mount = Mount::start(scene, &name, &place, &["--credentials", "plain"]);
        mount.wait_until_mounted();
        mount
    };
    let mount = start();
    let faults = scene.sandbox.faults();
    match point {
        Point::BeforeRequest(n) => faults.stall(Matcher::s3().nth(n), 1),
        Point::AfterRequest(n) => faults.hold_answer(Matcher::s3().nth(n), 1),
        Point::AfterOperation(_) => {}
    }
    let done = Arc::new(AtomicUsize::new(0));
    let mut workload = Workload::new(mount.path(), random, Arc::clone(&done));
    if let Point::AfterOperation(n) = point {
        workload.stop_after(n);
    }
    let working = std::thread::spawn(move || {
        workload.run();
        workload
    });
    wait_until("the point", || match point {
        Point::AfterOperation(_) => working.is_finished(),
        _ => faults.stalled() > 0 || working.is_finished(),
    });
    mount.kill();
    drop(mount);
    let workload = working.join().unwrap();
    faults.clear();
    faults.release();

    let mount = start();
    wait_until("the journal", || {
        mount.status(scene)["pending_uploads"]
            .as_array()
            .unwrap()
            .is_empty()
    });
    let there: BTreeMap<String, Vec<u8>> = bucket
        .keys()
        .into_iter()
        .map(|key| {
            let bytes = bucket.get(&key).unwrap().to_vec();
            (key, bytes)
        })
        .collect();
    let state = workload.state();
    let told = || {
        format!(
            "seed {seed}, {point:?}, then {:?}\n{}\n{}",
            workload.last(),
            workload.story(),
            bucket
                .history()
                .iter()
                .map(|m| format!("{:?} {} {}", m.operation, m.key, m.size))
                .collect::<Vec<_>>()
                .join("\n")
        )
    };
    check(&there, state, &told);
    for change in bucket.history() {
        let is_aside = change.key.contains(" (recovered ");
        // What the program has tried the store with, and has removed.
        let is_trial = change.key.starts_with(".s3mfa-mount-probe-");
        let etag = change.etag.clone();
        if change.is_delete || is_aside || is_trial || change.key.ends_with('/') {
            continue;
        }
        assert!(
            workload.meant(&etag, change.size),
            "{}: a torn {} of {} bytes was stored",
            told(),
            change.key,
            change.size
        );
    }
    // The mount shows what the bucket has.
    let shown = walk(mount.path());
    let files = there
        .keys()
        .filter(|key| !key.ends_with('/'))
        .cloned()
        .collect();
    assert_eq!(shown, files, "{}", told());
    drop(mount);
    bucket.delete();
    let _ = done.load(Ordering::Relaxed);
}

/// Compares the bucket with what was promised.
fn check(there: &BTreeMap<String, Vec<u8>>, state: &State, told: &impl Fn() -> String) {
    for (name, allowed) in &state.files {
        let found = there.get(name);
        assert!(
            allowed.iter().any(|bytes| bytes.as_ref() == found),
            "{}: {name} has {:?} bytes, and may have {:?}",
            told(),
            found.map(Vec::len),
            allowed
                .iter()
                .map(|a| a.as_ref().map(Vec::len))
                .collect::<Vec<_>>()
        );
    }
    for group in &state.one_of {
        let is_there = |(name, bytes): &(String, Vec<u8>)| there.get(name) == Some(bytes);
        assert!(
            group.iter().any(is_there),
            "{}: lost in a rename: {:?}",
            told(),
            group[0].0
        );
    }
    if let Some(either) = &state.either {
        let count = |keys: &BTreeMap<String, Vec<u8>>| {
            let is_there = |(key, bytes): &(&String, &Vec<u8>)| there.get(*key) == Some(*bytes);
            keys.iter().filter(is_there).count()
        };
        let [old, new] = either.each_ref().map(count);
        let all = either[0].len();
        assert!(
            (old, new) == (all, 0) || (old, new) == (0, all),
            "{}: half a directory: {old} and {new} of {all}",
            told()
        );
    }
    for directory in &state.directories {
        assert!(
            there.contains_key(&format!("{directory}/")),
            "{}: {directory}",
            told()
        );
    }
    for name in there.keys() {
        assert!(
            !name.contains(" (conflict "),
            "{}: a false conflict: {name}",
            told()
        );
        let is_known =
            state.files.contains_key(name) || name.ends_with('/') || name.contains(" (recovered ");
        assert!(is_known, "{}: {name} is back, or came from nowhere", told());
    }
}

fn walk(root: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.insert(name.to_owned());
            }
        }
    }
    files
}
