//! Lines on a terminal: where no pinentry is installed, and for `renew`.
//!
//! The code is shown while it is typed. It is good for one use within seconds, and people who
//! copy six digits from a phone want to see them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::screen::Screen;
use super::{PromptError, Question, Wish};

/// Asks on the screen's terminal; blocks until a line is typed.
pub(crate) fn ask(screen: &Screen, question: &Question) -> Result<String, PromptError> {
    let Some(name) = &screen.tty_name else {
        return Err(PromptError::Unavailable("there is no terminal".to_owned()));
    };
    ask_on(name, question)
}

/// Opens a terminal without making it this process's own.
pub(super) fn open_terminal(name: &str) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(name)
}

/// Asks on the terminal of this name.
///
/// # Errors
///
/// Cancelled at the end of input (Ctrl-D on an empty line), unavailable if the terminal cannot
/// be opened or goes away.
pub(crate) fn ask_on(name: &str, question: &Question) -> Result<String, PromptError> {
    let gone = |error: std::io::Error| {
        PromptError::Unavailable(format!("the terminal {name} cannot be used: {error}"))
    };
    let mut tty = open_terminal(name).map_err(gone)?;
    let mut text = String::new();
    // A second question about the same thing needs no second description.
    match &question.error {
        None => {
            text.push_str(&question.description);
            text.push('\n');
        }
        Some(error) => {
            text.push_str(error);
            text.push('\n');
        }
    }
    if question.wish == Wish::Deed {
        text.push_str("(Enter hides this, Ctrl-D cancels.)\n");
    } else {
        text.push_str(&question.prompt);
        text.push(' ');
    }
    tty.write_all(text.as_bytes()).map_err(gone)?;
    let mut line = String::new();
    match BufReader::new(tty).read_line(&mut line) {
        Ok(0) => Err(PromptError::Cancelled),
        Ok(_) => Ok(line),
        Err(error) => Err(gone(error)),
    }
}
