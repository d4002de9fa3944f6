//! `--mfa-process`: a command that prints the code, such as `ykman oath accounts code -s NAME`.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::{Ask, PromptError, Question, Wish};
use crate::auth::code::Code;
use crate::shell;
use crate::words::tame;

/// Runs a command through `sh -c` and takes the first line that it prints and that is not blank.
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
            if !question.fresh_in.is_zero() {
                // It would print the code that was sent already, and may want a token touched.
                let seconds = question.fresh_in.as_secs();
                tracing::info!("waiting {seconds} s for the next code");
                tokio::time::sleep(question.fresh_in).await;
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

/// Runs the command once. What it prints is a code, or an error that says what it did instead.
async fn run(command: &str) -> Result<SecretString, PromptError> {
    let name = program(command);
    let no_code = |why: String| {
        Err(PromptError::NoCode(format!(
            "--mfa-process {why}. Next: run it in a terminal, where it should print six digits"
        )))
    };
    let printed = match shell::run(command, false).await {
        Ok(printed) => printed,
        Err(error) => return no_code(format!("cannot be run (`{name}`): {error}")),
    };
    let said = printed.complaints();
    if let Some(how) = printed.how_it_failed() {
        return no_code(format!("{how} (`{name}`); {said}"));
    }
    // What it prints there may be a secret, so only its length is told.
    let lines = std::str::from_utf8(&printed.output)
        .unwrap_or_default()
        .lines();
    let mut lines = lines.map(str::trim).filter(|line| !line.is_empty());
    let line = SecretString::from(lines.next().unwrap_or_default().to_owned());
    match Code::parse(&line) {
        Ok(_) => Ok(line),
        Err(_) => no_code(format!(
            "gave no code: `{name}` printed {} bytes that do not begin with six digits; {said}",
            printed.output.len()
        )),
    }
}

/// The program that a command begins with. Not all of the command, which may have a secret in it.
fn program(command: &str) -> String {
    let is_setting = |word: &&str| word.contains('=');
    let mut words = command.split_whitespace().skip_while(is_setting);
    let program = tame(words.next().unwrap_or_default());
    match words.next() {
        Some(_) => format!("{program} …"),
        None => program,
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    async fn failure(command: &str) -> String {
        match run(command).await {
            Err(error @ PromptError::NoCode(_)) => error.to_string(),
            other => unreachable!("{:?}", other.map(|_| "a code")),
        }
    }

    #[tokio::test]
    async fn a_code_is_the_first_line_that_is_not_blank() {
        for command in ["echo 123456", "printf '\n 123 456 \nmore\n'"] {
            let code = run(command).await.unwrap();
            let code = Code::parse(&code).unwrap();
            assert_eq!(code.digits(), "123456", "{command}");
        }
    }

    #[tokio::test]
    async fn what_is_no_code_is_told_with_the_first_and_the_last_complaint() {
        let text = failure("echo hunter2; echo one >&2; echo two >&2; echo three >&2").await;
        for words in [
            "--mfa-process",
            "`echo …`",
            "first \"one\"",
            "last \"three\"",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("hunter2") && !text.contains("two"), "{text}");
        for command in ["true", "echo 12345", "echo 1234567", "printf '\\377'"] {
            let text = failure(command).await;
            assert!(text.contains("nothing on stderr"), "{text}");
        }
    }

    #[tokio::test]
    async fn secrets_of_a_command_and_its_complaints_are_not_told() {
        let text = failure(
            "KEY=JBSWY3DPEHPK3PXPJBSWY3DP false || { echo bad key JBSWY3DPEHPK3PXPJBSWY3DP, code \
             123456 >&2; exit 1; }",
        )
        .await;
        assert!(text.contains("failed with exit code 1"), "{text}");
        assert!(text.contains("bad key"), "{text}");
        for secret in ["JBSWY3DP", "123456"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[tokio::test]
    async fn a_code_stays_a_secret() {
        let code = run("echo 123456").await.unwrap();
        assert_eq!(code.expose_secret(), "123456");
        assert!(!format!("{code:?}").contains("123456"));
    }
}
