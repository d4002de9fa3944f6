//! Asking a person for a code.
//!
//! A driver is an [`Ask`]. Dialogs run in a child process of this same binary ([`helper`]), so
//! that a dialog that hangs can be ended, one that crashes takes nothing along, and none
//! outlives the daemon.

mod browser;
pub(crate) mod helper;
mod panel;
mod pinentry;
mod process;
mod screen;
mod select;
mod terminal;
mod waiters;

use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;

pub(crate) use browser::open_browser;
pub(crate) use panel::Panel;
pub(crate) use process::CodeProcess;
pub(crate) use screen::{is_in_foreground, own_terminal};
pub(crate) use select::{Selection, Wanted};
pub(crate) use terminal::ask_on as terminal_ask;
pub(crate) use waiters::Waiters;

/// What is wanted of the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Wish {
    /// The six digits of a device.
    Code,
    /// Some other words.
    Words,
    /// To do what the description says, elsewhere. An answer is only that it was read.
    Deed,
}

/// What a dialog shows.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Question {
    /// What for.
    pub(crate) wish: Wish,
    /// The window's title.
    pub(crate) title: String,
    /// Bucket, profile, device, reason: a line each.
    pub(crate) description: String,
    /// What was wrong with the last answer.
    pub(crate) error: Option<String>,
    /// What stands before the field.
    pub(crate) prompt: String,
    /// How long the dialog may stay.
    pub(crate) life: Duration,
    /// How long the device goes on to show a code that was sent already. People see that for
    /// themselves; a machine is not asked before.
    #[serde(skip)]
    pub(crate) fresh_in: Duration,
    /// The threads that wait: a terminal of theirs may be asked.
    #[serde(skip)]
    pub(crate) waiters: Waiters,
}

/// Why a driver brings no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PromptError {
    /// The person said no.
    #[error("cancelled")]
    Cancelled,
    /// The dialog's life is over.
    #[error("nobody answered in time")]
    TimedOut,
    /// Whoever lent the terminal for it waits no more, or wants it back.
    #[error("nobody waits at the terminal any more")]
    Withdrawn,
    /// This driver cannot ask here; another may.
    #[error("{0}")]
    Unavailable(String),
    /// The command that gives codes has given none.
    #[error("{0}")]
    NoCode(String),
}

/// A way to ask a person.
pub(crate) trait Ask: Send + Sync + 'static {
    /// Asks once. Dropping the future ends the dialog.
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<SecretString, PromptError>>;

    /// Whether a machine answers, whose wrong codes are no slip of the finger.
    fn is_machine(&self) -> bool {
        false
    }
}
