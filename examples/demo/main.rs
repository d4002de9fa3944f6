//! The main job of s3mfa-mount in one command, without an AWS account.
//!
//! `cargo run --release --example demo` starts a small AWS on loopback (the crate s3mfa-sandbox)
//! with a bucket that demands MFA, shows the virtual MFA device at the bottom of the terminal, and
//! mounts the bucket with the real program. Sessions end after a minute, so that everybody sees
//! the prompt come back. `-- MOUNTPOINT` mounts on a directory of yours, `-- --auto` types the
//! codes itself and checks every step.
//!
//! Nothing of the user's own is touched: the mount has a home directory in a temporary one.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod auto;
mod panel;
mod stage;

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use panel::Panel;
use stage::{Mount, Stage};

/// What goes wrong is only ever told to a person.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// AWS gives at least 15 minutes, which is longer than anybody wants to wait here.
const SESSION: Duration = Duration::from_secs(60);

/// How often the device and the session are looked at.
const TICK: Duration = Duration::from_millis(500);

const USAGE: &str = "usage: cargo run --release --example demo -- [--auto] [MOUNTPOINT]";

fn main() -> ExitCode {
    // Cargo builds an example without the program's binary, so this one is both: under the
    // program's name it is the program, for the mount as well as for its prompts.
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some("s3mfa-mount".as_ref()) {
        return s3mfa_mount::main();
    }
    let mut auto = false;
    let mut mountpoint = None;
    for arg in std::env::args_os().skip(1) {
        match arg.to_str() {
            Some("--auto") => auto = true,
            Some("-h" | "--help") => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some(option) if option.starts_with('-') => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
            _ => mountpoint = Some(PathBuf::from(arg)),
        }
    }
    let outcome = if auto {
        auto::run(mountpoint)
    } else {
        interactive(mountpoint)
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("demo: {error}");
        ExitCode::FAILURE
    })
}

/// Lets a person play with the mount until Ctrl-C.
fn interactive(mountpoint: Option<PathBuf>) -> Outcome<ExitCode> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        eprintln!("demo: you type codes here, which needs a terminal; --auto does without");
        return Ok(ExitCode::from(2));
    }
    let signals = take_signals()?;
    let stage = Stage::set(mountpoint)?;
    stage.sandbox.sessions().set_max_session(SESSION);
    let mut panel = Panel::open()?;
    println!(
        "A small AWS runs inside this demo, on {}. Nothing leaves your machine.\n\
         Its bucket `demo` demands MFA. You are alice, and your MFA device is the line at the\n\
         bottom. The mount asks for its code now: type it, and Enter.\n",
        stage.sandbox.endpoint()
    );
    // The mount asks on the terminal that is its standard input.
    let mut mount = Mount::start(&stage, &["--prompt", "tty"], Stdio::inherit())?;

    let (tell, ended) = channel();
    // Ends with the process. The mount need not be told of Ctrl-C: the terminal does that.
    std::thread::spawn(move || {
        let _ = signals.wait();
        let _ = tell.send(());
    });
    let mut seen = 0;
    loop {
        let session = stage.session();
        panel.show(&format!("{} | {}", device(&stage), life(session.as_ref())))?;
        let number = session.and_then(|session| session["generation"].as_u64());
        if let Some(number) = number.filter(|number| *number != seen) {
            match seen {
                0 => println!("{}", instructions(&stage)),
                _ => {
                    println!("\nThank you. What waited goes on; this session ends in a minute too.")
                }
            }
            seen = number;
        }
        if let Some(status) = mount.ended()? {
            drop(panel);
            // Ended by a signal it says nothing, and by `unmount` it is no fault.
            eprint!(
                "{}",
                if status.success() {
                    String::new()
                } else {
                    mount.complaint()
                }
            );
            println!("The mount has ended, and so does the demo.");
            return Ok(exit_code(status));
        }
        match ended.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    drop(panel);
    mount.end()?;
    println!("\nUnmounted, and everything removed.");
    Ok(ExitCode::SUCCESS)
}

/// Keeps the signals that end programs for whoever waits for them, so that the demo can tidy up.
///
/// Must come before any thread: threads inherit it. Children do not.
fn take_signals() -> nix::Result<SigSet> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block()?;
    Ok(signals)
}

/// What the MFA device shows. AWS takes each code once, so one that was used is not shown again.
fn device(stage: &Stage) -> String {
    let seconds = stage.device.spare_seconds();
    if stage.device.is_spent() {
        format!("MFA device: the next code comes in {seconds} s")
    } else {
        format!("MFA device: {} for {seconds} s", stage.device.code())
    }
}

/// How the session is, from what `status --json` says of it.
fn life(session: Option<&serde_json::Value>) -> String {
    let Some(session) = session else {
        return "no session yet: type the code".to_owned();
    };
    match session["state"].as_str() {
        Some("live") => {
            let age = session["mfa_age"].as_u64().unwrap_or_default();
            format!(
                "the session ends in {} s",
                SESSION.as_secs().saturating_sub(age)
            )
        }
        Some("asking") => "something waits for you: type the code".to_owned(),
        _ if session["cooling_down_until"].is_string() => {
            "no session, and no prompt for a while (renew asks at once)".to_owned()
        }
        _ => "no session: read a file, and you are asked here".to_owned(),
    }
}

fn instructions(stage: &Stage) -> String {
    let place = stage.mountpoint.display();
    let program = stage.script();
    let program = program.display();
    format!(
        "\nMounted. Now open another terminal and try\n\
         \n    ls -l {place}\n    cat {place}/README.txt\n\n\
         In a minute the session ends. Read something again then: your command waits, the\n\
         prompt comes back here, and once you have typed the code your command goes on as if\n\
         nothing had happened. The program's own commands work there as well:\n\
         \n    {program} status        (or lock, renew, unmount {place})\n\n\
         Ctrl-C here ends the demo, unmounts, and removes everything."
    )
}

/// The mount's own exit code tells what is missing: it is the demo's too.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}
