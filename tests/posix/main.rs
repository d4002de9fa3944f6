//! Test suites for file systems that other people wrote, on real mounts: `pjdfstest` asks for
//! what POSIX promises, `fsx` writes and reads a file in every way at random.
//!
//! What they need is installed by `.ci/run`, or by the command that a skipped test prints.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs
)]

// The stage has more on it than these tests need.
#[allow(dead_code, unused_imports)]
#[path = "../mount/scene/mod.rs"]
mod scene;

mod tools;

mod fsx;
mod pjdfstest;
