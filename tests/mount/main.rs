//! The program on real FUSE mounts, against the sandbox, with a scripted pinentry.
//!
//! One file for each behaviour. `scene` is the stage: a sandbox, a user with an MFA device, a
//! bucket whose policy demands MFA, and a home directory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod scene;

mod aio;
mod beside;
mod conflicts;
mod copying;
mod dates;
mod descriptors;
mod ending;
mod expiry;
mod giving_up;
mod habits;
mod keeping;
mod lifetime;
mod listing;
mod listings_of_others;
mod locking;
mod locks;
mod moving;
mod options;
mod others;
mod pinentries;
mod prompting;
mod reading;
mod refusing;
mod secrets;
mod settings;
mod settling;
mod signals;
mod storing;
mod systemd;
mod unknown;
mod waiting;
mod writing;
