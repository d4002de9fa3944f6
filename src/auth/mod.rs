//! Who may talk to S3: sessions, the people who open them, and the service that grants them.
//!
//! - [`session`] holds the one session of a mount, hands it out by generation, and makes sure
//!   that at most one renewal runs, however many requests wait for it.
//! - [`login`] is one renewal: question, code, STS, and again with the reason if it failed.
//! - [`sts`] talks to STS; [`code`] knows what a code is; [`prompt`] asks people.
//!
//! Nothing in here knows a path or a key of the bucket: what a prompt says about its cause
//! arrives as words.

pub(crate) mod clock;
pub(crate) mod code;
pub(crate) mod login;
pub(crate) mod prompt;
pub(crate) mod session;
pub(crate) mod sts;

use std::time::SystemTime;

pub(crate) use session::{Asker, Generation, Identity, Reason, Session, Sessions};

/// Why there is no session.
///
/// One value reaches every request that waited, so it is cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AuthError {
    /// The person said no.
    #[error("the prompt for an MFA code was cancelled; `s3mfa-mount renew` asks again")]
    Cancelled,
    /// Nobody typed a code in time.
    #[error("nobody typed an MFA code in time; `s3mfa-mount renew` asks again")]
    TimedOut,
    /// The last prompt ended without a session, and it is too early for the next.
    #[error(
        "no session, and no prompt before {} ({because}); `s3mfa-mount renew` asks at once",
        clock::wall_time(*until)
    )]
    CoolingDown {
        /// When a request may cause a prompt again.
        until: SystemTime,
        /// What ended the last prompt.
        because: String,
    },
    /// This caller must not cause a prompt: an indexer, read-ahead, the daemon itself.
    #[error("no session, and a background access never asks for one")]
    Unasked,
    /// Nobody can be asked: no pinentry, no display, no terminal.
    #[error("{0}")]
    NoPrompt(String),
    /// STS refused the codes.
    #[error("{0}")]
    CodesRejected(String),
    /// STS does not know the device, or it belongs to somebody else.
    #[error("{0}")]
    UnknownDevice(String),
    /// STS refused for a reason that no code mends: keys, permissions, clock, duration.
    #[error("{0}")]
    Refused(String),
    /// STS could not be reached.
    #[error("{message}")]
    Unreachable {
        /// Whether it was silence rather than a refusal.
        timed_out: bool,
        /// What was tried, and what to check.
        message: String,
    },
    /// STS answered that it is out of order.
    #[error("{0}")]
    Unavailable(String),
    /// The mount is ending.
    #[error("the mount is ending")]
    Ending,
}

/// What ended a prompt, as far as the next one is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A person, or the lack of one: asking again at the next access would pester.
    Person,
    /// The network or the service: nobody said no.
    Fault,
    /// There was no prompt.
    Neither,
}

impl AuthError {
    fn kind(&self) -> Ending {
        match self {
            Self::Cancelled
            | Self::TimedOut
            | Self::NoPrompt(_)
            | Self::CodesRejected(_)
            | Self::UnknownDevice(_)
            | Self::Refused(_) => Ending::Person,
            Self::Unreachable { .. } | Self::Unavailable(_) => Ending::Fault,
            Self::CoolingDown { .. } | Self::Unasked | Self::Ending => Ending::Neither,
        }
    }
}
