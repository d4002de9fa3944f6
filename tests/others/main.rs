//! The program against other servers than the sandbox: what it writes, the AWS CLI reads, and the
//! other way round.
//!
//! `servers` starts them: ministack, which speaks as AWS does, and Ceph's RGW 16, which is in
//! production in many places and knows few conditions. `place` is a bucket there with a mount and
//! the CLI; each other file is what is done there.

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

mod place;
mod servers;

/// Makes a test of each function for each server.
macro_rules! on_each_server {
    ($($test:ident),+ $(,)?) => {
        mod ministack {
            $(#[test]
            fn $test() {
                if let Some(server) = crate::servers::ministack(stringify!($test)) {
                    super::$test(&crate::place::Place::on(server));
                }
            })+
        }
        mod ceph {
            $(#[test]
            fn $test() {
                if let Some(server) = crate::servers::ceph(stringify!($test)) {
                    super::$test(&crate::place::Place::on(server));
                }
            })+
        }
    };
}

mod changed;
mod conflicts;
mod found;
mod live;
mod sessions;
mod ways;
mod written;
