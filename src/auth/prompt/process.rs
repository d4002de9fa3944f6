//! `--mfa-process`: a command that prints the code, such as `ykman oath accounts code -s NAME`.

use std::process::Stdio;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::{Ask, PromptError, Question, Wish};

/// The most that is read of the command's output, in bytes.
const LONGEST_OUTPUT: u64 = 4096;

/// Runs a command through `sh -c` and takes the first line that it prints.
#[derive(Debug, Clone)]
pub(crate) struct CodeProcess {
    command: String,
}

impl CodeProcess {
    /// Will run `command` once for each question.
    pub(crate) fn new(command: String) -> Self {
        Self { command }
    }
}

impl Ask for CodeProcess {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<SecretString, PromptError>> {
        let command = self.command.clone();
        async move {
            if question.wish != Wish::Code {
                return Err(PromptError::Unavailable(
                    "--mfa-process gives codes and nothing else".to_owned(),
                ));
            }
            tokio::time::timeout(question.life, run(&command))
                .await
                .unwrap_or(Err(PromptError::TimedOut))
        }
        .boxed()
    }
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

async fn run(command: &str) -> Result<SecretString, PromptError> {
    let failed = |why: String| PromptError::Unavailable(format!("--mfa-process {why}"));
    let mut child = tokio::process::Command::new("/bin/sh")
        .args(["-c", command])
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| failed(format!("cannot be started: {e}")))?;
    let mut group = Group(
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw),
    );
    let mut output = Zeroizing::new(Vec::with_capacity(64));
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(LONGEST_OUTPUT)
            .read_to_end(&mut output)
            .await
            .map_err(|e| failed(format!("cannot be read: {e}")))?;
    }
    let status = child
        .wait()
        .await
        .map_err(|e| failed(format!("is lost: {e}")))?;
    group.0 = None;
    if !status.success() {
        return Err(failed(format!(
            "failed ({status}): run it in a terminal to see why"
        )));
    }
    let line = output.split(|b| *b == b'\n').next().unwrap_or_default();
    match std::str::from_utf8(line) {
        Ok(line) => Ok(line.to_owned().into()),
        Err(_) => Err(failed("printed something that is not text".to_owned())),
    }
}
