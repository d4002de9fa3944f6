//! The ways to a session: every shape of policy and profile that AWS's guides, Cyberduck and
//! aws-vault know, one session for all programs, and clocks that are wrong.
//!
//! [`table`] has a row for each scenario. `case` is what a row is made of. The others are about what
//! is more than one mount.

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

mod ages;
mod case;
mod check;
mod clocks;
mod control;
mod credentials;
mod files;
mod many;
mod places;
mod sso;
mod surroundings;
mod table;
mod transcript;
