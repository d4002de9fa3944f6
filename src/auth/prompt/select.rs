//! Which driver asks: what `--prompt` wants, and what is there at this moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::helper::{Driver, Order};
use super::screen::Screen;
use super::{Ask, CodeProcess, PromptError, Question, Waiters, helper, screen};

/// How long a notification may take to be handed over.
const NOTIFICATION: Duration = Duration::from_secs(2);

/// What `--prompt` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Wanted {
    /// Whatever can reach the person.
    #[default]
    Auto,
    /// Pinentry only.
    Pinentry,
    /// Lines on the terminal only.
    Tty,
    /// `--mfa-process` only.
    Process,
    /// Nobody is ever asked.
    None,
}

/// The choice of drivers of one mount.
#[derive(Clone)]
pub(crate) struct Selection(Arc<Choices>);

struct Choices {
    wanted: Wanted,
    /// `--pinentry-program` or `PINENTRY_PROGRAM`: the user's own choice.
    program: Option<String>,
    process: Option<CodeProcess>,
    /// The terminal that the mount was started on.
    terminal: Option<(String, Option<String>)>,
    /// Whether that terminal may still be used.
    attached: Arc<AtomicBool>,
}

impl Selection {
    /// Chooses among the drivers at each question anew.
    ///
    /// `attached` is true for as long as the starting terminal may be used.
    pub(crate) fn new(
        wanted: Wanted,
        program: Option<String>,
        process: Option<String>,
        attached: Arc<AtomicBool>,
    ) -> Self {
        Self(Arc::new(Choices {
            wanted,
            program,
            process: process.map(CodeProcess::new),
            terminal: screen::own_terminal(),
            attached,
        }))
    }
}

impl Ask for Selection {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<SecretString, PromptError>> {
        let choices = Arc::clone(&self.0);
        async move { choices.ask(question).await }.boxed()
    }

    fn is_machine(&self) -> bool {
        self.0.process.is_some() && matches!(self.0.wanted, Wanted::Auto | Wanted::Process)
    }
}

impl Choices {
    async fn ask(&self, question: Question) -> Result<SecretString, PromptError> {
        if let Some(process) = &self.process
            && matches!(self.wanted, Wanted::Auto | Wanted::Process)
        {
            return process.ask(question).await;
        }
        let deadline = tokio::time::Instant::now() + question.life;
        let variables = screen::present_display().await;
        let mut reasons = Vec::new();
        let mut was_withdrawn = false;
        let screen = 'another: loop {
            let (lender, terminal) = self.terminal(&question.waiters).unzip();
            let (tty_name, tty_type) = terminal.unzip();
            let screen = Screen {
                variables: variables.clone(),
                tty_name,
                tty_type: tty_type.flatten(),
            };
            for (driver, screen) in self.ways(&screen)? {
                let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                if left.is_zero() {
                    return Err(PromptError::TimedOut);
                }
                let lender = lender.filter(|_| screen.tty_name.is_some());
                let order = Order {
                    driver,
                    screen,
                    question: Question {
                        life: left,
                        ..question.clone()
                    },
                    lender: lender.and_then(Lender::process),
                };
                let taken_back = async {
                    match lender {
                        Some(lender) => lender.takes_it_back(&question.waiters).await,
                        None => std::future::pending().await,
                    }
                };
                match helper::ask(order, taken_back).await {
                    Err(PromptError::Unavailable(reason))
                        if lender.is_none_or(Lender::has_foreground) =>
                    {
                        tracing::warn!("cannot ask: {reason}");
                        reasons.push(reason);
                    }
                    Err(PromptError::Withdrawn | PromptError::Unavailable(_)) => {
                        tracing::info!("the terminal is given back: nobody is asked there");
                        was_withdrawn = true;
                        // Somebody else may wait, at another terminal.
                        continue 'another;
                    }
                    outcome => return outcome,
                }
            }
            break screen;
        };
        if was_withdrawn {
            return Err(PromptError::Withdrawn);
        }
        if reasons.is_empty() {
            reasons.push(
                "there is no display, and no terminal where a program waits for the mount"
                    .to_owned(),
            );
        }
        notify(&question, &screen).await;
        Err(PromptError::Unavailable(reasons.join("; ")))
    }

    /// The terminal for a question: the starting one, else that of a waiting program.
    fn terminal(&self, waiters: &Waiters) -> Option<(Lender, (String, Option<String>))> {
        if self.attached.load(Ordering::Relaxed)
            && let Some(terminal) = &self.terminal
        {
            if self.wanted == Wanted::Tty {
                return Some((Lender::Person, terminal.clone()));
            }
            if screen::is_in_foreground() {
                return Some((Lender::Ourselves, terminal.clone()));
            }
        }
        let (tid, terminal) = waiters.find(screen::terminal_of_waiter)?;
        Some((Lender::Waiter(tid), terminal))
    }

    /// What to try, and where, in order; nothing if nobody can be reached.
    fn ways(&self, screen: &Screen) -> Result<Vec<(Driver, Screen)>, PromptError> {
        let pinentry = || (Driver::Pinentry(self.pinentry()), screen.clone());
        let terminal = || (Driver::Terminal, screen.clone());
        // A window outlives the program that waits; on a terminal, nothing may.
        let window = || {
            let mut window = screen.clone();
            (window.tty_name, window.tty_type) = (None, None);
            (Driver::Pinentry(self.pinentry()), window)
        };
        match self.wanted {
            Wanted::Pinentry if screen.has_display() => Ok(vec![window(), pinentry()]),
            Wanted::Pinentry => Ok(vec![pinentry()]),
            Wanted::Tty => Ok(vec![terminal()]),
            Wanted::Process => Err(PromptError::Unavailable(
                "--prompt process needs --mfa-process COMMAND".to_owned(),
            )),
            Wanted::None => Err(PromptError::Unavailable(
                "prompts are switched off (--prompt none)".to_owned(),
            )),
            Wanted::Auto => {
                let has_terminal = screen.tty_name.is_some();
                let mut ways = Vec::new();
                // A program that the user named knows where to show itself.
                if screen.has_display() || (self.program.is_some() && !has_terminal) {
                    ways.push(window());
                }
                if has_terminal {
                    ways.extend([pinentry(), terminal()]);
                }
                Ok(ways)
            }
        }
    }

    /// The pinentry to start: the user's choice, gpg-agent's, or Debian's alternative.
    fn pinentry(&self) -> String {
        self.program
            .clone()
            .or_else(gpg_agent_pinentry)
            .unwrap_or_else(|| "pinentry".to_owned())
    }
}

/// Who lends a terminal.
#[derive(Debug, Clone, Copy)]
enum Lender {
    /// `--prompt tty`: it is meant for this.
    Person,
    /// This process, while it has the foreground.
    Ourselves,
    /// A thread that waits, while its process has the foreground.
    Waiter(u32),
}

impl Lender {
    /// The process or thread that must have the foreground.
    fn process(self) -> Option<u32> {
        match self {
            Self::Person => None,
            Self::Ourselves => Some(std::process::id()),
            Self::Waiter(tid) => Some(tid),
        }
    }

    fn has_foreground(self) -> bool {
        self.process()
            .is_none_or(|process| screen::has_foreground(&process.to_string()))
    }

    /// Returns once the keystrokes there are another program's.
    async fn takes_it_back(self, waiters: &Waiters) {
        let lost = async {
            while self.has_foreground() {
                tokio::time::sleep(screen::GLANCE).await;
            }
        };
        match self {
            Self::Person => std::future::pending().await,
            Self::Ourselves => lost.await,
            Self::Waiter(tid) => tokio::select! {
                () = waiters.gone(tid) => {}
                () = lost => {}
            },
        }
    }
}

/// Tells the desktop, if there is one, that somebody should run `renew`.
async fn notify(question: &Question, screen: &Screen) {
    let mut command = tokio::process::Command::new("notify-send");
    crate::sys::with_usual_limits(command.as_std_mut());
    let notified = command
        .envs(screen.variables.iter().map(|(name, value)| (name, value)))
        .args(["-a", "s3mfa-mount", "-i", "dialog-password"])
        .arg("An MFA code is needed: run s3mfa-mount renew")
        .arg(&question.description)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .status();
    // Whoever waits for a session must not wait for a notification.
    let _ = tokio::time::timeout(NOTIFICATION, notified).await;
}

/// `pinentry-program` of gpg-agent.conf; gpgconf does not report a user's own choice.
fn gpg_agent_pinentry() -> Option<String> {
    let home = std::env::var_os("GNUPGHOME")
        .map(std::path::PathBuf::from)
        .or_else(|| Some(std::path::Path::new(&std::env::var_os("HOME")?).join(".gnupg")))?;
    let conf = std::fs::read_to_string(home.join("gpg-agent.conf")).ok()?;
    conf.lines()
        .filter_map(|line| line.trim().strip_prefix("pinentry-program"))
        .map(|value| value.trim().to_owned())
        .find(|value| !value.is_empty())
}
