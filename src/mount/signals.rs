//! The signals that end a mount.

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::MountError;

/// SIGTERM, SIGINT, and SIGHUP: the terminal of a mount in the foreground is closed.
pub(super) struct EndSignals([tokio::signal::unix::Signal; 3]);

impl EndSignals {
    /// Hears them from now on.
    pub(super) fn new() -> Result<Self, MountError> {
        let hear = |kind| {
            signal(kind).map_err(|e| MountError::Other(format!("signals cannot be heard: {e}")))
        };
        Ok(Self([
            hear(SignalKind::terminate())?,
            hear(SignalKind::interrupt())?,
            hear(SignalKind::hangup())?,
        ]))
    }

    /// The next one of them.
    pub(super) async fn next(&mut self) -> Signal {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => Signal::SIGTERM,
            _ = interrupt.recv() => Signal::SIGINT,
            _ = hangup.recv() => Signal::SIGHUP,
        }
    }
}
