//! Real programs on a real mount, each compared with the same program on a local directory:
//! the same exit code, the same words, the same tree afterwards. With `run_through_an_end` the
//! session ends in the middle of it.
//!
//! One file for each kind of program. `twins` runs them, `tree` compares.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

// The stage has more on it than these tests need.
#[allow(dead_code, unused_imports)]
#[path = "../mount/scene/mod.rs"]
mod scene;

mod tree;
mod twins;

mod backups;
mod copies;
mod data;
mod editors;
mod gio;
mod git;
mod make;
mod node;
mod postgres;
mod rsync;
mod samba;
mod sqlite;
mod svn;
mod tar;
mod trees;
mod videos;
