//! The few things that need unsafe code or touch the whole process.

#![allow(unsafe_code)]

use std::ffi::OsString;

use nix::sys::prctl;

/// Environment variables that hold secrets: no child may inherit them.
const SECRETS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
];

/// Takes the variables that hold secrets out of the environment.
///
/// Must be called before any thread exists.
pub(crate) fn take_secrets() -> Vec<(String, String)> {
    let mut taken = Vec::new();
    for name in SECRETS {
        if let Some(value) = std::env::var_os(name).and_then(|v| OsString::into_string(v).ok()) {
            taken.push((name.to_owned(), value));
            // SAFETY: `main` calls this first, while the process has one thread.
            unsafe { std::env::remove_var(name) };
        }
    }
    taken
}

/// Keeps the process's memory out of core dumps, and other processes of the user out of its
/// memory.
pub(crate) fn forbid_core_dumps() {
    let _ = prctl::set_dumpable(false);
}
