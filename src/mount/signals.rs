//! Signals, and what each is taken for. None that somebody sends, but SIGKILL and those of a crash,
//! leaves a dead mount behind.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGTERM, SIGINT, SIGQUIT | the end; a second one is the end at once |
//! | SIGHUP | the end of a mount in the foreground of a terminal, which is closed; else nothing |
//! | SIGXCPU | the end: SIGKILL follows |
//! | all others that would end a program | nothing |
//! | SIGTSTP, SIGTTIN, SIGTTOU | as usual: Ctrl-Z stops a mount in the foreground, and who uses it waits |

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::MountError;

/// Those that end a program by default and mean nothing here: timers, other programs' inventions
/// (logrotate, monitors), and limits that the writer of a file hears of by itself.
const MEANINGLESS: [i32; 9] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGXFSZ,
];

/// The signals that end a mount.
pub(super) struct EndSignals {
    /// SIGTERM, SIGINT, SIGQUIT.
    asked: [tokio::signal::unix::Signal; 3],
    cpu_limit: tokio::signal::unix::Signal,
    /// The terminal is closed; `None` for a mount that has none.
    hangup: Option<tokio::signal::unix::Signal>,
}

impl EndSignals {
    /// Hears them from now on, and makes the meaningless ones do nothing.
    pub(super) fn new() -> Result<Self, MountError> {
        let hear = |kind| {
            signal(kind).map_err(|e| MountError::Other(format!("signals cannot be heard: {e}")))
        };
        for number in MEANINGLESS
            .into_iter()
            .chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
        {
            crate::sys::shrug_off(number);
        }
        let hangup = match (is_ignored(libc::SIGHUP), has_terminal()) {
            // nohup(1) says so.
            (true, _) => None,
            (false, true) => Some(hear(SignalKind::hangup())?),
            (false, false) => {
                crate::sys::shrug_off(libc::SIGHUP);
                None
            }
        };
        Ok(Self {
            asked: [
                hear(SignalKind::terminate())?,
                hear(SignalKind::interrupt())?,
                hear(SignalKind::quit())?,
            ],
            cpu_limit: hear(SignalKind::from_raw(libc::SIGXCPU))?,
            hangup,
        })
    }

    /// The mount has left its terminal: whether that is closed does not matter any more.
    pub(super) fn leave_terminal(&mut self) {
        self.hangup = None;
        if !is_ignored(libc::SIGHUP) {
            crate::sys::shrug_off(libc::SIGHUP);
        }
    }

    /// The next one of them.
    pub(super) async fn next(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            signal = first_of(&mut self.asked) => signal,
            _ = self.cpu_limit.recv() => Signal::SIGXCPU,
            _ = hangup => Signal::SIGHUP,
        }
    }

    /// The next one by which somebody asks for the end. Shells send a second SIGHUP, and the kernel
    /// SIGXCPU every second, without any hurry being meant.
    pub(super) async fn next_that_hurries(&mut self) -> Signal {
        first_of(&mut self.asked).await
    }
}

async fn first_of(asked: &mut [tokio::signal::unix::Signal; 3]) -> Signal {
    let [terminate, interrupt, quit] = asked;
    tokio::select! {
        _ = terminate.recv() => Signal::SIGTERM,
        _ = interrupt.recv() => Signal::SIGINT,
        _ = quit.recv() => Signal::SIGQUIT,
    }
}

/// Whether this process has a controlling terminal: tty(4).
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether a signal was ignored when this process was started: proc_pid_status(5).
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}
