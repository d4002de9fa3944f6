//! Commands that a person has configured, run through `sh -c` or by themselves: they end with who waits
//! for them.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::words::{tame, without_secrets};

/// The most that is read of what a command prints, in bytes.
const LONGEST_OUTPUT: u64 = 64 << 10;

/// How long what a command has printed may take to be read, once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a command has printed, and how it ended.
pub(crate) struct Printed {
    pub(crate) status: ExitStatus,
    /// Its standard output, which may be secret.
    pub(crate) output: Zeroizing<Vec<u8>>,
    /// Its standard error, where it says why it failed.
    pub(crate) complaint: Vec<u8>,
}

impl Printed {
    /// How it failed, with its own last words; `None` if it did not.
    pub(crate) fn failure(&self) -> Option<String> {
        let how = self.how_it_failed()?;
        let complaint = String::from_utf8_lossy(&self.complaint);
        Some(match lines(&complaint).next_back() {
            Some(line) => format!("{how}: {}", shown(line)),
            None => how,
        })
    }

    /// How it failed; `None` if it did not.
    pub(crate) fn how_it_failed(&self) -> Option<String> {
        if self.status.success() {
            return None;
        }
        Some(match (self.status.code(), self.status.signal()) {
            (Some(127), _) => "was not found".to_owned(),
            (Some(code), _) => format!("failed with exit code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "failed".to_owned(),
        })
    }

    /// What it complained of first and last, in words.
    pub(crate) fn complaints(&self) -> String {
        let complaint = String::from_utf8_lossy(&self.complaint);
        let mut lines = lines(&complaint);
        match (lines.next(), lines.next_back()) {
            (None, _) => "it printed nothing on stderr".to_owned(),
            (Some(only), None) => format!("on stderr it printed \"{}\"", shown(only)),
            (Some(first), Some(last)) => format!(
                "on stderr it printed first \"{}\", last \"{}\"",
                shown(first),
                shown(last)
            ),
        }
    }
}

fn lines(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// A line as it may be shown.
fn shown(line: &str) -> String {
    tame(&without_secrets(line))
}

/// Ends the command's process group when nobody wants its output any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs a command line. Dropping the future ends it, with everything that it has started.
///
/// With a `terminal` it may ask there, as tools do that keep keys, and is in our own process group,
/// which has the terminal's foreground; then only the shell itself is ended. Without one it has a
/// group of its own, and reads nothing.
///
/// # Errors
///
/// It cannot be started, or its output cannot be read.
pub(crate) async fn run(command: &str, terminal: bool) -> std::io::Result<Printed> {
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.args(["-c", command]);
    run_to_end(shell, terminal).await
}

/// Runs a program with its arguments, found in `PATH`; else as [`run`].
pub(crate) async fn run_program(
    program: &str,
    arguments: &[String],
    terminal: bool,
) -> std::io::Result<Printed> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments);
    run_to_end(command, terminal).await
}

async fn run_to_end(
    mut command: tokio::process::Command,
    terminal: bool,
) -> std::io::Result<Printed> {
    command
        .env_remove("NOTIFY_SOCKET")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    crate::sys::with_usual_limits(command.as_std_mut());
    if !terminal {
        command.stdin(Stdio::null()).process_group(0);
    }
    let mut child = command.spawn()?;
    let id = child.id().filter(|_| !terminal);
    let id = id.and_then(|id| i32::try_from(id).ok());
    let mut group = Group(id.map(Pid::from_raw));
    let mut output = Zeroizing::new(Vec::with_capacity(8 << 10));
    let mut complaint = Vec::new();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read_output = async {
        match stdout {
            Some(stdout) => stdout.take(LONGEST_OUTPUT).read_to_end(&mut output).await,
            None => Ok(0),
        }
    };
    let read_complaint = async {
        match stderr {
            Some(stderr) => {
                stderr
                    .take(LONGEST_OUTPUT)
                    .read_to_end(&mut complaint)
                    .await
            }
            None => Ok(0),
        }
    };
    let status = {
        let reading = async { tokio::try_join!(read_output, read_complaint) };
        tokio::pin!(reading);
        tokio::select! {
            read = &mut reading => {
                read?;
                child.wait().await?
            }
            // What it leaves running may hold the pipes open.
            status = child.wait() => {
                if let Ok(read) = tokio::time::timeout(LAST_WORDS, &mut reading).await {
                    read?;
                }
                status?
            }
        }
    };
    group.0 = None;
    Ok(Printed {
        status,
        output,
        complaint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_is_told_in_the_commands_own_words() {
        let printed = run(
            "echo out; echo first >&2; echo 'no such key' >&2; exit 3",
            false,
        )
        .await;
        let printed = printed.unwrap();
        assert_eq!(*printed.output, b"out\n");
        let failure = printed.failure().unwrap();
        assert_eq!(failure, "failed with exit code 3: no such key");
        assert!(run("true", true).await.unwrap().failure().is_none());
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_keeps_nobody_waiting() {
        let printed = run("sleep 600 >/dev/null & echo 123456", false);
        let printed = tokio::time::timeout(Duration::from_secs(60), printed).await;
        assert_eq!(*printed.unwrap().unwrap().output, b"123456\n");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_ended_with_its_children() {
        let home = tempfile::tempdir().unwrap();
        let pids = home.path().join("pids");
        let command = format!("sleep 600 & echo $$ $! > {}; wait", pids.display());
        let alive = || {
            let pids = std::fs::read_to_string(&pids).unwrap_or_default();
            let alive = |pid: &str| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                // A zombie is dead, and waits for whoever reaps it.
                stat.is_ok_and(|stat| !stat.contains(") Z "))
            };
            pids.split_whitespace().filter(|pid| alive(pid)).count()
        };
        let running = tokio::spawn(async move { run(&command, false).await });
        let until = |count: usize| async move {
            while alive() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let started = tokio::time::timeout(Duration::from_secs(30), until(2)).await;
        assert!(started.is_ok(), "not started");
        running.abort();
        let ended = tokio::time::timeout(Duration::from_secs(30), until(0)).await;
        assert!(ended.is_ok(), "still alive");
    }
}
