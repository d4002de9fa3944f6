//! The program against other servers than the sandbox: what it writes, the AWS CLI's library reads,
//! and the other way round.
//!
//! `servers` starts them: ministack, which speaks as AWS does; Ceph's RGW 16, which is in production
//! in many places and knows few conditions; SeaweedFS; and two versions of OpenStack's Swift. `place`
//! is a bucket there with a mount and the CLI; each other file is what is done there. `differences`
//! has what a server is known to do otherwise, and docs/OTHER-STORES.md tells it.

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

mod differences;
mod hand;
mod place;
mod servers;

/// Makes a test of each function for each server that is named.
macro_rules! on_servers {
    ([$($server:ident),+] $tests:tt) => {
        $(on_servers! { @one $server $tests })+
    };
    (@one $server:ident [$($test:ident),+]) => {
        mod $server {
            $(#[test]
            fn $test() {
                if crate::tier::leaves_out(module_path!()) {
                    return;
                }
                crate::differences::run(stringify!($test), crate::servers::$server, super::$test);
            })+
        }
    };
}

macro_rules! on_each_server {
    ($($test:ident),+ $(,)?) => {
        on_servers! { [ministack, ceph, seaweed, swift_2_38, swift_2_30] [$($test),+] }
    };
}

/// For what needs STS and IAM, or policies.
macro_rules! on_each_server_with_sessions {
    ($($test:ident),+ $(,)?) => {
        on_servers! { [ministack, ceph] [$($test),+] }
    };
}

mod changed;
mod conflicts;
mod found;
mod killed;
mod live;
mod many;
mod names;
mod programs;
mod sessions;
mod tier;
mod ways;
mod written;
