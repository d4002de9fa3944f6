//! The main job of s3mfa-mount in one command, without an AWS account.
//!
//! `cargo run --release --example demo` starts a small AWS on loopback (the crate s3mfa-sandbox)
//! with a bucket that demands MFA, shows the virtual MFA device at the bottom of the terminal, and
//! mounts the bucket with the real program. Sessions end after a minute, so that everybody sees
//! the prompt come back. `-- MOUNTPOINT` mounts on a directory of yours, `-- --auto` types the
//! codes itself and checks every step. Your own AWS configuration is never looked at.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod auto;
mod panel;
mod stage;

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use panel::Panel;
use stage::{Mount, Stage};

/// What goes wrong is only ever told to a person.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// AWS gives at least 15 minutes, which is longer than anybody wants to wait here.
const SESSION: Duration = Duration::from_secs(60);

/// How often the device and the session are looked at.
const TICK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    // Cargo builds an example without the program's binary, so this one is both: under the
    // program's name it is the program, for the mount as well as for its prompts.
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some("s3mfa-mount".as_ref()) {
        return s3mfa_mount::main();
    }
    let (options, places): (Vec<_>, Vec<_>) =
        args.partition(|arg| arg.to_string_lossy().starts_with('-'));
    let place = places.first().map(PathBuf::from);
    let outcome = match options.first().and_then(|option| option.to_str()) {
        None if options.is_empty() => interactive(place),
        Some("--auto") => auto::run(place),
        _ => Err("usage: cargo run --release --example demo -- [--auto] [MOUNTPOINT]".into()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("demo: {error}");
        ExitCode::FAILURE
    })
}

/// Lets a person play with the mount until Ctrl-C.
fn interactive(place: Option<PathBuf>) -> Outcome<ExitCode> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err("you type codes here, which needs a terminal; --auto does without".into());
    }
    let end = end_signals()?;
    let stage = Stage::set(place)?;
    stage.sandbox.sessions().set_max_session(SESSION);
    let mut panel = Panel::open()?;
    println!(
        "A small AWS runs inside this demo, on {}.\n\
         Its bucket `demo` demands MFA. You are alice, and your MFA device is the line\n\
         at the bottom. The mount asks for its code now: type it, and Enter.\n",
        stage.sandbox.endpoint()
    );
    // The mount asks on the terminal that is its standard input.
    let mut mount = Mount::start(&stage, &["--prompt", "tty"], Stdio::inherit())?;
    let mut seen = None;
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(TICK) {
        let session = stage.session().unwrap_or_default();
        panel.show(&format!("{} | {}", device(&stage), life(&session)))?;
        // Only right after a code was accepted is nobody in the middle of a prompt.
        let number = session["generation"].as_u64();
        if number.is_some() && number != seen {
            match seen {
                None => println!("{}", instructions(&stage)),
                Some(_) => {
                    println!("\nThank you: what waited goes on. This session lasts a minute too.\n")
                }
            }
            seen = number;
        }
        if let Some(status) = mount.ended()? {
            drop(panel);
            match status.success() {
                true => println!("The mount has ended, and so does the demo."),
                false => eprint!("{}", mount.complaint()),
            }
            return Ok(exit_code(status));
        }
    }
    drop(panel);
    mount.end()?;
    println!("\nUnmounted. Everything is removed.");
    Ok(ExitCode::SUCCESS)
}

/// Hears Ctrl-C, SIGTERM, and the end of the terminal, so that the demo can tidy up first.
fn end_signals() -> Outcome<Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let hear = |kind| {
        let _inside = runtime.enter();
        signal(kind)
    };
    let (mut interrupt, mut terminate) = (
        hear(SignalKind::interrupt())?,
        hear(SignalKind::terminate())?,
    );
    let mut hangup = hear(SignalKind::hangup())?;
    let (tell, end) = channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        let _ = tell.send(());
    });
    Ok(end)
}

/// What the MFA device shows. AWS takes each code once, so one that was used is not shown again.
fn device(stage: &Stage) -> String {
    let seconds = stage.device.spare_seconds();
    if stage.device.is_spent() {
        return format!("MFA device: next code in {seconds} s");
    }
    format!("MFA device: {} for {seconds} s", stage.device.code())
}

/// How the session is, in words.
fn life(session: &serde_json::Value) -> String {
    match session["state"].as_str() {
        Some("live") => {
            let age = session["mfa_age"].as_u64().unwrap_or_default();
            format!(
                "the session ends in {} s",
                SESSION.as_secs().saturating_sub(age)
            )
        }
        Some("locked") if session["cooling_down_until"].is_string() => {
            "no session; prompts rest, `renew` asks".to_owned()
        }
        Some("locked") => "no session: read a file, type the code here".to_owned(),
        _ => "no session: type the code".to_owned(),
    }
}

fn instructions(stage: &Stage) -> String {
    let (place, program) = (stage.mountpoint.display(), stage.path("s3mfa-mount"));
    let program = program.display();
    format!(
        "\nMounted. Now open another terminal and try\n\
         \n    ls -l {place}\n    cat {place}/README.txt\n\n\
         In a minute the session ends. Read something again then: your command waits,\n\
         the prompt comes back here, and once you have typed the code your command\n\
         goes on as if nothing had happened. The program's own commands work there too:\n\
         \n    {program} status\n    {program} lock\n\n\
         Ctrl-C here ends the demo, unmounts, and removes everything.\n"
    )
}

/// The mount's own exit code tells what kind of thing is missing, so it is the demo's too.
fn exit_code(status: ExitStatus) -> ExitCode {
    ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    )
}
