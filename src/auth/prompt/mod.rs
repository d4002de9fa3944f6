//! Asking a person for a code.
//!
//! A driver is an [`Ask`]. Dialogs run in a child process of this same binary ([`helper`]), so
//! that a dialog that hangs can be ended, one that crashes takes nothing along, and none
//! outlives the daemon.

pub(crate) mod helper;
mod pinentry;
mod process;
mod screen;
mod select;
mod terminal;

use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;

pub(crate) use process::CodeProcess;
pub(crate) use screen::own_terminal;
pub(crate) use select::{Selection, Wanted};
pub(crate) use terminal::ask_on as terminal_ask;

/// What a dialog shows.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Question {
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
    /// The thread that waits, 0 if none: its terminal may be asked.
    pub(crate) tid: u32,
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
    /// This driver cannot ask here; another may.
    #[error("{0}")]
    Unavailable(String),
}

/// A way to ask a person.
pub(crate) trait Ask: Send + Sync + 'static {
    /// Asks once. Dropping the future ends the dialog.
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<SecretString, PromptError>>;
}
