//! What runs always, and what only the full tier runs: `S3MFA_FULL=1 cargo test --test others`.
//!
//! The batteries at every server together take half an hour on two cores. Without the variable,
//! ministack and Ceph are asked what they were asked before the others came.

use std::io::Write as _;

/// Batteries of the full tier.
const BATTERIES: [&str; 4] = ["killed", "many", "names", "programs"];

/// Servers of the full tier.
const SERVERS: [&str; 3] = ["seaweed", "swift_2_38", "swift_2_30"];

/// Whether a test, by the path of its module, is left to the full tier. That is said aloud.
pub fn leaves_out(module: &str) -> bool {
    let is_of = |names: &[&str]| module.split("::").any(|part| names.contains(&part));
    let is_full = std::env::var_os("S3MFA_FULL").is_some_and(|value| !value.is_empty());
    if is_full || !(is_of(&BATTERIES) || is_of(&SERVERS)) {
        return false;
    }
    // Past the capture of the test runner, as it must not look like a pass.
    let _ = writeln!(
        std::io::stderr(),
        "{module}: left to the full tier: S3MFA_FULL=1 cargo test --test others"
    );
    true
}
