//! s3mfa-mount mounts an S3 bucket whose policy demands MFA, and keeps the mount alive when
//! the session ends: requests that failed wait for a new code and are sent again.
//!
//! # The way of a request
//!
//! ```text
//! program -> kernel -> fs::fuse -> fs -> store::bucket -> store::s3 -> S3
//!                                            |
//!                                            +-> auth::session -> auth::ladder -> auth::prompt -> person
//!                                                                     |
//!                                                                     +-> auth::sts -> STS
//! ```
//!
//! Read it in that direction; nothing points back. [`fs`] never sees a credential, [`auth`]
//! never sees a key or a path, and only [`error`] knows errnos.
//!
//! 1. [`fs::fuse`] spawns a task for each request of the kernel and returns at once.
//! 2. [`fs`] turns inodes into keys, and reads into blocks of pages.
//! 3. [`store::bucket`] gets the session of the present generation, signs and sends. When S3
//!    says no, it decides whether the session is spent ([`store`] tells how), and if so waits
//!    for the next generation and sends again.
//! 4. What is written goes into the [`spool`] first, and to S3 when it is closed: [`fs`] tells how.
//! 5. [`auth::session`] runs at most one renewal, for everybody.
//! 6. [`auth::ladder`] knows the ways to a session. It finds one that another program of the user
//!    has left ([`auth::shared`]), or asks a person and trades the code at STS.
//!
//! # What is never true
//!
//! - No FUSE thread waits for S3 or for a person.
//! - No lock is held across an await.
//! - No wait is without a deadline, and none survives the program that waits.
//! - No success is told of a write before S3, or with write-back the journal, has it.
//! - No object is replaced that is not the one this mount knows.
//! - No content is handed out without a live session: see [`auth::session::Sessions::while_live`].
//! - No secret is on a disk: what programs share is in the runtime directory, which is in memory.
//! - No secret is in a log, a process list, the environment of a child, or a core dump. HTTP
//!   libraries never log below `info` ([`log`]), and of S3's error bodies only the code, the
//!   message and the request id are read, because they echo the session token.
//!
//! # Around it
//!
//! [`cli`] is what was typed, [`config`] what was meant, [`access`] and [`mount`] build the layers,
//! [`control`] is the socket behind `status`, `renew`, `lock` and `unmount`, [`credentials`] hands the
//! session to other programs, and [`background`] returns the shell once the mount serves. [`aws`] is
//! how services are reached, and [`clock`] what time it is there.

// The architecture is about the private modules: read it with --document-private-items.
#![allow(rustdoc::private_intra_doc_links)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod access;
mod auth;
mod aws;
mod background;
mod check;
mod cli;
mod clock;
mod config;
mod control;
mod credentials;
mod error;
mod fs;
mod fstab;
mod generated;
mod holder;
mod home;
mod log;
mod mount;
mod policies;
mod proxy;
mod runtime;
mod shell;
mod spool;
mod store;
mod sys;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use mount::MountError;

/// Runs the program with the arguments of this process, and returns its exit code: 0, 2 for
/// usage, 3 for authentication, 4 for bucket or network, 5 for FUSE, 1 for anything else.
///
/// Must be called before any thread exists: it takes secrets out of the environment.
#[must_use]
pub fn main() -> ExitCode {
    sys::forbid_core_dumps();
    let args: Vec<_> = std::env::args_os().collect();
    if args
        .get(1)
        .is_some_and(|arg| arg == auth::prompt::helper::MARK)
    {
        return auth::prompt::helper::main();
    }
    let mut surroundings = config::Surroundings {
        secrets: sys::take_secrets(),
    };
    sys::settle_login_cache();
    let is_child = background::is_child();
    let expanded = match fstab::expand(args.iter().cloned(), &Cli::command()) {
        Ok(expanded) => expanded,
        Err(refusal) => {
            say(&format!("s3mfa-mount: {refusal}"));
            return ExitCode::from(2);
        }
    };
    let cli = match Cli::try_parse_from(expanded) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // 0 for --help and --version.
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match cli.command {
        Some(Command::Status(args)) => control::client::status(&args),
        Some(Command::Renew(args)) => control::client::renew(&args),
        Some(Command::Lock(args)) => control::client::lock(&args),
        Some(Command::Unmount(args)) => control::client::unmount(&args),
        Some(Command::Completions(args)) => generated::completions(&args),
        Some(Command::Man(args)) => generated::man(&args),
        Some(Command::Policy(args)) => policies::print(&args),
        Some(Command::Check(args)) => {
            in_runtime(args.log.log_level.clone(), check::run(args, &surroundings))
        }
        Some(Command::Credentials(args)) => in_runtime(
            args.log.log_level.clone(),
            credentials::print(args, &surroundings),
        ),
        None if cli.mount.foreground => serve(cli, &surroundings, false),
        None if is_child => {
            surroundings.secrets = background::inherited_secrets();
            serve(cli, &surroundings, true)
        }
        None => return background::launch(&args, &surroundings),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let MountError::Stopped(signal) = error {
                sys::die_of(signal);
            }
            say(&format!("s3mfa-mount: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(cli: Cli, env: &config::Surroundings, background: bool) -> Result<(), MountError> {
    let level = cli.mount.log.log_level.clone();
    log::start(level.as_deref(), background)?;
    // Files that wait to be stored and requests to S3 take more than most programs need.
    sys::raise_descriptor_limit();
    run(mount::run(cli.mount, env, background))
}

/// Runs a command that is done when it has printed something.
fn in_runtime(
    level: Option<String>,
    command: impl Future<Output = Result<(), MountError>>,
) -> Result<(), MountError> {
    // What it prints is for programs; only what goes wrong is for people.
    log::start(Some(level.as_deref().unwrap_or("error")), false)?;
    run(command)
}

/// How long requests that still wait may take to be given up.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

fn run(work: impl Future<Output = Result<(), MountError>>) -> Result<(), MountError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| MountError::Other(format!("no threads can be started: {error}")))?;
    let outcome = runtime.block_on(work);
    // Requests that still wait hold nothing that must be finished, but they are answered: as long as
    // the kernel waits for one, it may keep a thread from ending, and that thread the process.
    runtime.shutdown_timeout(LAST_ANSWERS);
    outcome
}

/// Says a sentence to the person who started the program.
#[expect(
    clippy::print_stderr,
    reason = "the one place that talks to the terminal"
)]
fn say(sentence: &str) {
    eprintln!("{sentence}");
}
