//! The few things that need unsafe code or touch the whole process.

#![allow(unsafe_code)]

use std::ffi::OsString;

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal};

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

/// Ends this process by a signal, as if nobody had caught it: shells and systemd read the cause
/// from that.
pub(crate) fn die_of(signal: Signal) {
    // SAFETY: the default action replaces a handler; no code of ours depends on that any more.
    let restored = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    if restored.is_ok() {
        let _ = nix::sys::signal::raise(signal);
    }
}

/// Makes a signal do nothing here, and its default in programs that are started: those inherit
/// what is ignored or blocked, but not what is caught.
pub(crate) fn shrug_off(signal: Signal) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing, which is safe at any time.
    let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::Handler(nothing)) };
}

/// Keeps the process's memory out of core dumps, and other processes of the user out of its
/// memory.
pub(crate) fn forbid_core_dumps() {
    let _ = prctl::set_dumpable(false);
}
