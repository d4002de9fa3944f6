//! The filesystem against a model: a directory of this machine.
//!
//! Random sequences of operations run on both, while requests fail, answers get lost, sessions
//! end and the daemon is stopped in all kinds of ways; the results must be the same, whatever
//! goes wrong. Every sequence has a bucket of its own in one sandbox.
//!
//! | variable | meaning |
//! |---|---|
//! | `S3MFA_MODEL_SEQUENCES` | how many sequences, in place of some thousands |
//! | `PROPTEST_RNG_SEED` | where the random numbers begin: the same sequences again |
//! | `S3MFA_MODEL_DEBUG` | tells every error that the filesystem returns |
//!
//! A sequence that fails is made shorter and printed, and its seed is added to
//! `regressions.txt`, whose seeds are tried first.

mod answer;
mod local;
mod model;
mod mount;
mod ops;
mod world;

use std::io::Write;

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestRunner};

use ops::{Scale, sequences};
use world::World;

/// How many sequences run, if nobody says how many.
const SEQUENCES: u32 = 2000;

/// How many of them are with large files, in thousandths.
const LARGE: u32 = 10;

/// The most attempts to make a sequence that fails shorter.
const SHRINKING: u32 = 1000;

/// How large stacks are, in bytes.
const STACK: usize = 32 << 20;

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn wanted() -> u32 {
    let wanted = std::env::var("S3MFA_MODEL_SEQUENCES").ok();
    wanted
        .and_then(|count| count.parse().ok())
        .unwrap_or(SEQUENCES)
}

/// Runs `count` sequences of at most `most` steps.
fn check(count: u32, scale: Scale, most: usize) {
    // The futures of whole operations are large where nothing is optimized.
    let thread = std::thread::Builder::new().stack_size(STACK);
    let checking = thread
        .spawn(move || check_here(count, scale, most))
        .unwrap();
    if let Err(panic) = checking.join() {
        std::panic::resume_unwind(panic);
    }
}

fn check_here(count: u32, scale: Scale, most: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(async { World::new() });
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/fs/model_tests/regressions.txt"
    );
    let default = Config::default();
    let mut config = Config {
        cases: count,
        max_shrink_iters: default.max_shrink_iters.min(SHRINKING),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(path))),
        ..default
    };
    if let RngSeed::Random = config.rng_seed {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), count);
        config.rng_seed = RngSeed::Fixed(seed);
    }
    let seed = config.rng_seed;
    let mut runner = TestRunner::new(config);
    let begun = std::time::Instant::now();
    let outcome = runner.run(&sequences(scale, most), |sequence| {
        let part = 5 << 20;
        let ran = runtime.block_on(Box::pin(model::run(&world, &sequence, part)));
        world.calm();
        ran.map_err(TestCaseError::fail)
    });
    say(&format!("{count} sequences took {:?}", begun.elapsed()));
    if let Err(error) = outcome {
        panic!("with PROPTEST_RNG_SEED ({seed:?}): {error}");
    }
}

#[test]
fn everything_is_as_in_a_local_directory() {
    check(wanted(), Scale::Small, 20);
}

#[test]
fn large_files_are_as_in_a_local_directory() {
    check((wanted() * LARGE / 1000).max(1), Scale::Large, 12);
}
