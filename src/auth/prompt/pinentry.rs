//! The pinentry driver, as it runs inside the helper process.

use pinentry::{ConfirmationDialog, Error, PassphraseInput, unix};
use secrecy::ExposeSecret;

use super::screen::Screen;
use super::{PromptError, Question, Wish};

/// The longest Assuan line is 1,000 bytes, and the crate panics on a longer one. Escaping
/// makes at most three bytes of one; 900 leave room for the command.
const LONGEST_LINE: usize = 900;

/// Asks with a pinentry program; blocks for as long as the dialog is open.
pub(crate) fn ask(
    program: &str,
    screen: &Screen,
    question: &Question,
) -> Result<String, PromptError> {
    if question.wish == Wish::Deed {
        return confirm(program, screen, question);
    }
    let Some(mut input) = PassphraseInput::with_binary(program) else {
        return Err(missing(program));
    };
    let description = fit(&question.description);
    let error = question.error.as_deref().map(fit);
    let life = u16::try_from(question.life.as_secs()).unwrap_or(u16::MAX);
    let mut options = unix::Options::builder();
    if let Some(tty) = &screen.tty_name {
        options = options.tty_name(tty);
    }
    if let Some(tty_type) = &screen.tty_type {
        options = options.tty_type(tty_type);
    }
    input
        .with_title(&question.title)
        .with_description(&description)
        .with_prompt(&question.prompt)
        .with_ok(if question.wish == Wish::Code {
            "Unlock"
        } else {
            "OK"
        })
        .with_cancel("Cancel")
        .with_timeout(life)
        .with_unix_options(options.build());
    if let Some(error) = &error {
        input.with_error(error);
    }
    match input.interact() {
        Ok(typed) => Ok(typed.expose_secret().to_owned()),
        Err(error) => Err(explain(program, error)),
    }
}

/// Shows something that is done elsewhere; the answer says nothing.
fn confirm(program: &str, screen: &Screen, question: &Question) -> Result<String, PromptError> {
    let Some(mut dialog) = ConfirmationDialog::with_binary(program) else {
        return Err(missing(program));
    };
    let mut options = unix::Options::builder();
    if let Some(tty) = &screen.tty_name {
        options = options.tty_name(tty);
    }
    if let Some(tty_type) = &screen.tty_type {
        options = options.tty_type(tty_type);
    }
    let description = fit(&question.description);
    dialog
        .with_title(&question.title)
        .with_ok("OK")
        .with_cancel("Cancel")
        .with_timeout(u16::try_from(question.life.as_secs()).unwrap_or(u16::MAX))
        .with_unix_options(options.build());
    match dialog.confirm(&description) {
        Ok(true) => Ok(String::new()),
        Ok(false) => Err(PromptError::Cancelled),
        Err(error) => Err(explain(program, error)),
    }
}

fn missing(program: &str) -> PromptError {
    PromptError::Unavailable(format!(
        "the pinentry program `{program}` is not installed (apt-get install pinentry-curses, or \
         pinentry-gnome3 for a desktop)"
    ))
}

fn explain(program: &str, error: Error) -> PromptError {
    match error {
        Error::Cancelled => PromptError::Cancelled,
        Error::Timeout => PromptError::TimedOut,
        Error::Gpg(error) => PromptError::Unavailable(match error.code() {
            // ENOTTY, ENXIO: neither a display nor a terminal.
            32870 | 32872 => format!("`{program}` finds neither a display nor a terminal"),
            301 => format!("the terminal is too small for `{program}`, or its TERM is unknown"),
            _ => format!("`{program}` cannot ask: {error}"),
        }),
        Error::Io(error) => PromptError::Unavailable(format!(
            "`{program}` died before it had an answer ({})",
            error.kind()
        )),
        Error::Encoding(_) => {
            PromptError::Unavailable(format!("`{program}` answered something that is not text"))
        }
    }
}

/// Cuts a text between characters so that its escaped form fits into one line.
fn fit(text: &str) -> String {
    let mut length = 0;
    text.chars()
        .take_while(|c| {
            length += match c {
                '\n' | '\r' | '%' | '\\' => 3,
                c => c.len_utf8(),
            };
            length <= LONGEST_LINE
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_LINE, fit};

    #[test]
    fn a_text_that_grows_by_escaping_still_fits() {
        assert_eq!(fit(&"%".repeat(1100)).len(), LONGEST_LINE / 3);
        assert_eq!(fit(&"ä".repeat(1100)).len(), LONGEST_LINE);
        assert_eq!(fit("short\ntext"), "short\ntext");
    }
}
