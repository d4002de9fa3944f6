//! `--mfa-process`: a command that prints the code, such as `ykman oath accounts code -s NAME`.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::{Ask, PromptError, Question, Wish};
use crate::shell;

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

    fn is_machine(&self) -> bool {
        true
    }
}

async fn run(command: &str) -> Result<SecretString, PromptError> {
    let failed = |why: String| PromptError::Unavailable(format!("--mfa-process {why}"));
    let printed = shell::run(command, false)
        .await
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if let Some(failure) = printed.failure() {
        return Err(failed(format!(
            "{failure}. Run it in a terminal to see why"
        )));
    }
    let line = printed.output.split(|b| *b == b'\n').next();
    match std::str::from_utf8(line.unwrap_or_default()) {
        Ok(line) => Ok(line.to_owned().into()),
        Err(_) => Err(failed("printed something that is not text".to_owned())),
    }
}
