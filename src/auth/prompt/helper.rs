//! The child process in which dialogs run.
//!
//! The daemon starts its own binary with [`MARK`], writes one [`Order`] as a JSON line to its
//! standard input and keeps that open. The child answers with one [`Report`] on its standard
//! output. When its standard input ends (the daemon lost interest, or died however) the child
//! ends its whole process group: SIGTERM first, so that pinentry restores the terminal, then
//! SIGKILL.
//!
//! The child leads a session of its own: reading a terminal that is not its controlling one is
//! not subject to job control, and a signal to its group reaches the dialog and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, setsid};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

use super::screen::{GLANCE, Screen, has_foreground};
use super::terminal::open_terminal;
use super::{PromptError, Question, pinentry, terminal};

/// The only argument of the child; a bucket cannot be named like this.
pub(crate) const MARK: &str = "--prompt-helper";

/// What a dialog gets to restore the screen before it is killed.
const GRACE: Duration = Duration::from_millis(1500);

/// How the child asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Driver {
    /// With this pinentry program, a path or a name in `PATH`.
    Pinentry(String),
    /// With lines on the terminal of [`Screen::tty_name`].
    Terminal,
}

/// What the child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// How to ask.
    pub(crate) driver: Driver,
    /// Where to ask.
    pub(crate) screen: Screen,
    /// What to ask.
    pub(crate) question: Question,
    /// The process or thread that lends the terminal of the screen: for as long as it has that
    /// terminal's foreground.
    pub(crate) lender: Option<u32>,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
enum Report {
    Typed(String),
    Cancelled,
    TimedOut,
    Unavailable(String),
}

/// Runs one dialog in a child process, for at most the question's life. When it is `withdrawn` the
/// screen is as before once this returns.
pub(crate) async fn ask(
    order: Order,
    withdrawn: impl Future<Output = ()>,
) -> Result<SecretString, PromptError> {
    let life = order.question.life;
    match tokio::time::timeout(life, converse(order, withdrawn)).await {
        Ok(answer) => answer,
        Err(_) => Err(PromptError::TimedOut),
    }
}

async fn converse(
    order: Order,
    withdrawn: impl Future<Output = ()>,
) -> Result<SecretString, PromptError> {
    let broken = |what: &str, error: std::io::Error| {
        PromptError::Unavailable(format!("the prompt process {what}: {error}"))
    };
    // Not the path, which an upgrade replaces: the very program that runs.
    let mut helper = tokio::process::Command::new("/proc/self/exe");
    crate::sys::with_usual_limits(helper.as_std_mut());
    let mut child = helper
        .arg0("s3mfa-mount")
        .arg(MARK)
        .env_remove("NOTIFY_SOCKET")
        .envs(order.screen.variables.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| broken("cannot be started", e))?;
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(PromptError::Unavailable(
            "the prompt process has no pipes".to_owned(),
        ));
    };
    let mut line = serde_json::to_vec(&order).map_err(|e| broken("got no order", e.into()))?;
    line.push(b'\n');
    input
        .write_all(&line)
        .await
        .map_err(|e| broken("took no order", e))?;
    // From here on, dropping `input` (with this future, or by dying) closes the dialog.
    let mut report = Zeroizing::new(Vec::with_capacity(4096));
    tokio::select! {
        read = output.read_to_end(&mut report) => {
            read.map_err(|e| broken("said nothing", e))?;
        }
        () = withdrawn => {
            drop(input);
            // The next dialog on this screen must find it as it was.
            let _ = tokio::time::timeout(2 * GRACE, child.wait()).await;
            return Err(PromptError::Withdrawn);
        }
    }
    drop(input);
    let _ = child.wait().await;
    match serde_json::from_slice(&report) {
        Ok(Report::Typed(typed)) => Ok(typed.into()),
        Ok(Report::Cancelled) => Err(PromptError::Cancelled),
        Ok(Report::TimedOut) => Err(PromptError::TimedOut),
        Ok(Report::Unavailable(why)) => Err(PromptError::Unavailable(why)),
        Err(_) => Err(PromptError::Unavailable(
            "the prompt process ended without an answer".to_owned(),
        )),
    }
}

/// The child's whole life.
pub(crate) fn main() -> ExitCode {
    crate::sys::forbid_core_dumps();
    // The group's SIGTERM is for the dialog, which restores the terminal then.
    crate::sys::shrug_off(libc::SIGTERM);
    let _ = setsid();
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    let order: Order = match input
        .read_line(&mut line)
        .map(|_| serde_json::from_str(&line))
    {
        Ok(Ok(order)) => order,
        _ => return ExitCode::FAILURE,
    };
    let modes = Modes::of(&order.screen);
    // Lines change no modes of the terminal, and whoever reads them must let go of it at once.
    let is_pinentry = matches!(order.driver, Driver::Pinentry(_));
    std::thread::spawn({
        let modes = modes.clone();
        move || {
            let mut rest = [0; 64];
            while matches!(input.read(&mut rest), Ok(1..)) {}
            end(is_pinentry, &modes);
        }
    });
    if let Some(lender) = order.lender {
        let modes = modes.clone();
        // Not only the daemon looks at this, which may be stopped (Ctrl-Z) itself.
        std::thread::spawn(move || {
            while has_foreground(&lender.to_string()) {
                std::thread::sleep(GLANCE);
            }
            end(is_pinentry, &modes);
        });
    }
    let answer = match &order.driver {
        Driver::Pinentry(program) => pinentry::ask(program, &order.screen, &order.question),
        Driver::Terminal => terminal::ask(&order.screen, &order.question),
    };
    modes.restore();
    let mut report = match answer {
        Ok(typed) => Report::Typed(typed),
        Err(PromptError::Cancelled) => Report::Cancelled,
        Err(PromptError::TimedOut | PromptError::Withdrawn) => Report::TimedOut,
        Err(PromptError::Unavailable(why) | PromptError::NoCode(why)) => Report::Unavailable(why),
    };
    let written = serde_json::to_vec(&report).map(Zeroizing::new);
    if let Report::Typed(typed) = &mut report {
        typed.zeroize();
    }
    match written.map(|bytes| std::io::stdout().write_all(&bytes)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The modes of the terminal as they were before the dialog. pinentry-tty leaves a terminal
/// without echo when it is ended, and one that had to be killed leaves it as it was just then.
#[derive(Clone)]
struct Modes(Option<(String, Termios)>);

impl Modes {
    fn of(screen: &Screen) -> Self {
        let saved = screen.tty_name.as_ref().and_then(|name| {
            let tty = open_terminal(name).ok()?;
            Some((name.clone(), tcgetattr(&tty).ok()?))
        });
        Self(saved)
    }

    fn restore(&self) {
        if let Some((name, modes)) = &self.0
            && let Ok(tty) = open_terminal(name)
        {
            let _ = tcsetattr(&tty, SetArg::TCSANOW, modes);
        }
    }
}

/// Ends the group: nobody is interested any more. A pinentry that heeds SIGTERM is waited for by the
/// main thread, which then ends the process before the time of grace is over.
fn end(is_pinentry: bool, modes: &Modes) {
    if is_pinentry {
        let _ = killpg(getpgrp(), Signal::SIGTERM);
        std::thread::sleep(GRACE);
        modes.restore();
    }
    let _ = killpg(getpgrp(), Signal::SIGKILL);
}
