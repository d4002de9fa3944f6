//! Who asks, and whether somebody wants that program to stop.
//!
//! fuser answers `FUSE_INTERRUPT` with ENOSYS, after which the kernel never sends it again, and
//! a process that waits for an answer cannot be killed, not even with SIGKILL. The signal shows
//! in `/proc/TID/status` all the same, so whoever makes a program wait looks there.

use std::time::Duration;

use super::background::is_background;
use crate::auth::{Asker, Identity};

/// How long an answer may take before somebody looks after the caller.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// How often the caller is looked after from then on.
const WATCH: Duration = Duration::from_millis(200);

/// The signals that end a program which waits, if it neither blocks nor ignores them. Runtimes
/// use others (Go preempts with SIGURG), which must not disturb anything.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The thread behind a request of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// Its thread id; 0 for one in another pid namespace, and for the kernel itself.
    pub(crate) tid: u32,
}

impl Caller {
    /// How it shows in a prompt, and whether it may cause one.
    pub(crate) fn asker(self) -> Asker {
        Asker {
            tid: self.tid,
            identify,
        }
    }

    /// The program that the thread belongs to, by its process id; 0 if that cannot be known.
    pub(crate) fn program(self) -> u32 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.tid));
        status.map_or(0, |status| program(&status).unwrap_or(0))
    }

    /// Returns once somebody wants the program to stop, or it is gone.
    pub(crate) async fn stopped(self) {
        if self.tid == 0 {
            return std::future::pending().await;
        }
        let mut was_seen = false;
        loop {
            tokio::time::sleep(if was_seen { WATCH } else { FIRST_LOOK }).await;
            match std::fs::read_to_string(format!("/proc/{}/status", self.tid)) {
                Ok(status) if is_stopped(&status) => return,
                Ok(_) => was_seen = true,
                // It was there, and is gone.
                Err(_) if was_seen => return,
                // Another user's with `hidepid`, or gone within the first moment: there is
                // nothing to watch, and the request's own deadlines hold.
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

impl Caller {
    /// Whether it can be seen whether it has a signal.
    pub(crate) fn is_seen(self) -> bool {
        self.tid != 0 && std::fs::read_to_string(format!("/proc/{}/status", self.tid)).is_ok()
    }

    /// Returns once a signal waits to be delivered to the thread: any that it does not block. What
    /// this ends must be such that the kernel begins it again, as it does with locks.
    pub(crate) async fn signalled(self) {
        if self.tid == 0 {
            return std::future::pending().await;
        }
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            pause = WATCH;
            let status = |thread| std::fs::read_to_string(format!("/proc/{thread}/status"));
            let Ok(own) = status(self.tid) else {
                // It is gone, or another user's with `hidepid`.
                return std::future::pending().await;
            };
            let main = program(&own).filter(|main| *main != self.tid);
            let main = main.map(|main| status(main).unwrap_or_default());
            if is_signalled(&own, main.as_deref()) {
                return;
            }
        }
    }
}

fn identify(tid: u32) -> Identity {
    // A thread has a name of its own; people and lists know the program's.
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let program = program(&status).unwrap_or(tid);
    let name = std::fs::read_to_string(format!("/proc/{program}/comm")).unwrap_or_default();
    let name = name.trim_end();
    Identity {
        program: match name {
            "" => String::new(),
            name => format!("{name} ({program})"),
        },
        may_prompt: !is_background(name, || {
            std::fs::read(format!("/proc/{program}/cmdline")).unwrap_or_default()
        }),
    }
}

/// Reads proc_pid_status(5): the process.
fn program(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// A set of signals in proc_pid_status(5).
fn mask(status: &str, field: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether the kernel is about to deliver a signal to a thread, by its status and by that of the
/// program's main thread, if that is another one: it gets those for the whole program unless it
/// blocks them (`complete_signal` in kernel/signal.c of Linux).
fn is_signalled(own: &str, main: Option<&str>) -> bool {
    let blocked = mask(own, "SigBlk");
    let for_all = mask(own, "ShdPnd");
    let shared = match main {
        Some(main) => for_all & mask(main, "SigBlk"),
        None => for_all,
    };
    (mask(own, "SigPnd") | shared) & !blocked != 0
}

/// Reads proc_pid_status(5): signals pending for the thread and the process, blocked, ignored.
fn is_stopped(status: &str) -> bool {
    let mask = |field: &str| mask(status, field);
    let bit = |signal: i32| 1_u64 << (signal - 1);
    let pending = mask("SigPnd") | mask("ShdPnd");
    let heard = !(mask("SigBlk") | mask("SigIgn"));
    let ending = ENDING.iter().fold(0, |set, signal| set | bit(*signal));
    pending & (bit(libc::SIGKILL) | (ending & heard)) != 0
}

#[cfg(test)]
mod tests {
    use super::{is_signalled, is_stopped};

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64) -> String {
        format!(
            "Name:\tcat\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\n\
             SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t0000000000000000\n"
        )
    }

    #[test]
    fn a_kill_is_always_heard() {
        assert!(is_stopped(&status(1 << 8, 0, 0, 0)));
        assert!(is_stopped(&status(0, 1 << 8, u64::MAX, u64::MAX)));
    }

    #[test]
    fn control_c_is_heard_unless_it_is_blocked_or_ignored() {
        assert!(is_stopped(&status(0, 1 << 1, 0, 0)));
        assert!(!is_stopped(&status(0, 1 << 1, 1 << 1, 0)));
        assert!(!is_stopped(&status(0, 1 << 1, 0, 1 << 1)));
    }

    #[test]
    fn any_signal_that_is_about_to_be_delivered_ends_the_wait_for_a_lock() {
        let alarm = 1 << (libc::SIGALRM - 1);
        assert!(is_signalled(&status(alarm, 0, 0, 0), None));
        assert!(is_signalled(&status(0, alarm, 0, 0), None));
        assert!(!is_signalled(&status(alarm, alarm, alarm, 0), None));
        // It is the main thread's, unless that blocks it.
        let main = |blocked| status(0, alarm, blocked, 0);
        assert!(!is_signalled(&status(0, alarm, 0, 0), Some(&main(0))));
        assert!(is_signalled(&status(0, alarm, 0, 0), Some(&main(alarm))));
    }

    #[test]
    fn signals_that_runtimes_use_disturb_nothing() {
        for signal in [libc::SIGURG, libc::SIGCHLD, libc::SIGALRM, libc::SIGUSR1] {
            assert!(!is_stopped(&status(0, 1 << (signal - 1), 0, 0)), "{signal}");
        }
        assert!(!is_stopped(&status(0, 0, 0, 0)));
    }
}
