//! Parts of a real system that a test needs, and may not find.

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
    let message = format!("SKIPPED {test}: {missing:?} not found; {install}");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("{message}");
    false
}
