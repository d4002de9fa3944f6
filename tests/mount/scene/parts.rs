//! Parts of a real system that a test needs, and may not find.

use std::io::Write;
use std::process::Command;

/// Whether programs are here. Without them the test is skipped, loudly, and under CI it fails.
pub fn are_here(test: &str, programs: &[&str], install: &str) -> bool {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {program}")])
                .output();
            !found.is_ok_and(|output| output.status.success())
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    skip(test, &format!("{missing:?} not found; {install}"));
    false
}

/// Whether this is root. Without it the test (or the rest of it) is skipped in the same way.
pub fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip(test, "it needs root; sudo -E cargo test");
    }
    root
}

/// Says that a test is skipped, and why; under CI it fails instead.
pub fn skip(test: &str, why: &str) {
    let message = format!("SKIPPED {test}: {why}");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    // Not `eprintln!`, which the test runner keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "{message}");
}
