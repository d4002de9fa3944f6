//! Who may talk to S3: sessions, the people who open them, and the service that grants them.
//!
//! - [`session`] holds the one session of a mount, hands it out by generation, and makes sure
//!   that at most one renewal runs, however many requests wait for it.
//! - [`ladder`] is one renewal: it knows the ways to a session, and which of them this bucket takes.
//! - [`identity`] reads whose keys there are, [`origin`] gets them, [`device`] finds the MFA device,
//!   [`conversation`] asks for its code, [`sts`] trades it, [`sso`] signs in with a browser.
//! - [`shared`] is where one session serves everything that the user runs.
//! - [`code`] knows what a code is; [`prompt`] asks people.
//!
//! Nothing in here knows a path or a key of the bucket: what a prompt says about its cause
//! arrives as words.

mod cli_cache;
pub(crate) mod code;
pub(crate) mod conversation;
pub(crate) mod device;
mod grant;
pub(crate) mod iam;
pub(crate) mod identity;
pub(crate) mod ladder;
pub(crate) mod memory;
pub(crate) mod origin;
pub(crate) mod prompt;
pub(crate) mod session;
pub(crate) mod shared;
pub(crate) mod sources;
pub(crate) mod spent;
pub(crate) mod sso;
pub(crate) mod sts;
#[cfg(test)]
pub(crate) mod testing;

use std::time::{Duration, SystemTime};

pub(crate) use ladder::Rung;
pub(crate) use session::{Asker, Generation, Identity, Reason, Session, Sessions};

use crate::clock;

/// How much of a session's life is left unused.
///
/// A request that is signed now must still be valid when S3 looks at it.
const MARGIN: Duration = Duration::from_secs(2);

/// How the cool-down grows with each refusal in a row: 60 s, 5 minutes, 30 minutes by default.
const COOL_DOWN_STEPS: [u32; 3] = [1, 5, 30];

/// How long nobody is asked again, after so many refusals in a row before this one.
fn cool_down(first: Duration, before: u32) -> Duration {
    let last = COOL_DOWN_STEPS.len() - 1;
    let step = usize::try_from(before).unwrap_or(last).min(last);
    first * COOL_DOWN_STEPS[step]
}

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
    /// There is no device that could give a code.
    #[error("{0}")]
    NoDevice(String),
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
    /// Somebody locked the mount while a code was waited for.
    #[error("the mount was locked meanwhile; the next access asks for a code")]
    Locked,
    /// The mount is ending.
    #[error("the mount is ending")]
    Ending,
}

/// What ended a prompt, as far as the next one is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A person, or the lack of one: asking again at the next access would pester.
    Person,
    /// Keys that need no code were not to be had, or are no good. Nobody was asked.
    Keys,
    /// The network or the service: nobody said no.
    Fault,
    /// There was no prompt.
    Neither,
}

impl AuthError {
    /// What it is to the next prompt, by whether somebody `was_asked`.
    fn ending(&self, was_asked: bool) -> Ending {
        match self {
            Self::UnknownDevice(_) | Self::NoDevice(_) | Self::Refused(_) if !was_asked => {
                Ending::Keys
            }
            Self::Cancelled
            | Self::TimedOut
            | Self::NoPrompt(_)
            | Self::CodesRejected(_)
            | Self::UnknownDevice(_)
            | Self::NoDevice(_)
            | Self::Refused(_) => Ending::Person,
            Self::Unreachable { .. } | Self::Unavailable(_) => Ending::Fault,
            Self::CoolingDown { .. } | Self::Unasked | Self::Locked | Self::Ending => {
                Ending::Neither
            }
        }
    }
}
