//! Returning the shell once the mount serves.
//!
//! The command starts itself once more and waits. The child shares the terminal, so that it can
//! ask for a code and Ctrl-C reaches both; once it serves it says so through its standard
//! output, leaves the session and lets go of the terminal. Nothing is forked: a process with
//! threads cannot be. Keys from the environment travel through the child's standard input,
//! because other processes of the user can read an environment.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use crate::config::Surroundings;

/// Tells a child that it is one.
const MARK: &str = "S3MFA_MOUNT_BACKGROUND";

/// What the child says once the mount serves.
const READY: &str = "ready\n";

/// Whether this process was started by [`launch`]. What it starts itself was not.
///
/// Must be called before any thread exists.
pub(crate) fn is_child() -> bool {
    crate::sys::take_mark(MARK)
}

/// Reads what the parent took out of its environment.
pub(crate) fn inherited_secrets() -> Vec<(String, String)> {
    let mut text = zeroize::Zeroizing::new(String::new());
    let _ = std::io::stdin().read_to_string(&mut text);
    serde_json::from_str(&text).unwrap_or_default()
}

/// Starts the mount in the background, and returns when it serves or has failed.
pub(crate) fn launch(args: &[OsString], env: &Surroundings) -> ExitCode {
    match start(args, env) {
        Ok(code) => code,
        Err(error) => {
            crate::say(&format!(
                "s3mfa-mount: the mount cannot be started in the background: {error}. Try \
                 --foreground"
            ));
            ExitCode::FAILURE
        }
    }
}

fn start(args: &[OsString], env: &Surroundings) -> std::io::Result<ExitCode> {
    let mut child = Command::new("/proc/self/exe")
        .arg0(
            args.first()
                .cloned()
                .unwrap_or_else(|| "s3mfa-mount".into()),
        )
        .args(args.iter().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let secrets = zeroize::Zeroizing::new(serde_json::to_vec(&env.secrets)?);
        input.write_all(&secrets)?;
    }
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line == READY {
        return Ok(ExitCode::SUCCESS);
    }
    // It has said why by itself.
    let status = child.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1).max(1)))
}

/// Tells the parent that the mount serves, and leaves the terminal.
pub(crate) fn detach() -> std::io::Result<()> {
    // Whoever started it may be gone by now, and the mount serves all the same.
    let _ = std::io::stdout().write_all(READY.as_bytes());
    let _ = std::io::stdout().flush();
    nix::unistd::setsid()?;
    nix::unistd::chdir("/")?;
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(null.as_fd())?;
    nix::unistd::dup2_stdout(null.as_fd())?;
    // A log file that the user chose goes on; a terminal or a pipe would never be closed.
    let kind = nix::sys::stat::fstat(std::io::stderr())?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFREG {
        nix::unistd::dup2_stderr(null.as_fd())?;
    }
    Ok(())
}
