//! Talking to the person: what is wanted, why, for whom; and again with the reason if it failed.

use std::time::{Duration, SystemTime};

use secrecy::SecretString;

use super::AuthError;
use super::code::{Code, is_same_step, until_next_step};
use super::identity::serial::Serial;
use super::prompt::{PromptError, Question, Wish};
use super::session::LoginRequest;
use super::spent::SpentCodes;
use super::sts::StsError;
use crate::clock::Clock;
use crate::words::tame;

/// How many answers a person may give before the cool-down.
const TRIES: u32 = 3;

/// The same for a machine. It mistypes nothing; its first code may have been used by another program.
const TRIES_OF_A_MACHINE: u32 = 2;

/// How long a dialog stays on the screen at most.
pub(crate) const DIALOG_LIFE: Duration = Duration::from_secs(300);

/// What the dialog says about what the session is for.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// Such as `Bucket: docs` and `Mounted at: /mnt/docs`, a line each.
    pub(crate) lines: Vec<(&'static str, String)>,
}

/// One conversation about one session.
pub(crate) struct Conversation<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) request: &'a LoginRequest,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) spent: &'a SpentCodes,
    /// The first cool-down.
    pub(crate) cool_down: Duration,
    /// A code that was not used up: STS does not know the request that it was sent with.
    pub(crate) unused: parking_lot::Mutex<Option<(Serial, Code, SystemTime)>>,
}

impl Conversation<'_> {
    /// A code of this moment that can be sent once more, to another operation.
    fn take_unused(&self, serial: &Serial, now: SystemTime) -> Option<SecretString> {
        let (of, code, at) = self.unused.lock().take()?;
        let is_good = of == *serial && is_same_step(at, now);
        is_good.then(|| SecretString::from(code.digits().to_owned()))
    }

    /// Asks for codes of a device and trades each, until one brings something.
    ///
    /// # Errors
    ///
    /// The inner one is what STS says that no code mends; the caller may know another way. The outer
    /// one is the end: the person, three codes, the network.
    pub(crate) async fn code<T, F>(
        &self,
        serial: &Serial,
        trade: impl Fn(Code) -> F,
    ) -> Result<Result<T, StsError>, AuthError>
    where
        F: Future<Output = Result<T, StsError>>,
    {
        let mut complaint = String::new();
        let mut is_out_of_order = false;
        let tries = match self.request.panel.is_machine() {
            true => TRIES_OF_A_MACHINE,
            false => TRIES,
        };
        for attempt in 1..=tries {
            let mut question = self.question(Wish::Code, "MFA code:", Some(serial));
            let now = self.clock.now();
            if attempt > 1 || self.spent.has_one_of_now(serial, now) {
                question.fresh_in = until_next_step(now);
            }
            if !complaint.is_empty() {
                question.error = Some(format!("{complaint} ({attempt} of {tries})"));
            }
            let typed = match self.take_unused(serial, now) {
                Some(code) => code,
                None => self.ask(&question).await?,
            };
            complaint = match Code::parse(&typed) {
                Err(error) => error.to_string(),
                Ok(code) if self.spent.contains(serial, &code, self.clock.now()) => {
                    self.already_used()
                }
                Ok(code) => {
                    // Before it is sent: whoever waits for the answer may go meanwhile.
                    self.spent.add(serial, &code, self.clock.now());
                    let answer = trade(code.clone()).await;
                    // A machine gives the same code again until its device has another.
                    let is_to_be_kept = self.request.panel.is_machine()
                        && matches!(answer, Err(StsError::WrongCode));
                    let is_unspent = |error: &StsError| !error.may_have_spent_it();
                    if !is_to_be_kept && answer.as_ref().is_err_and(is_unspent) {
                        self.spent.remove(serial, &code);
                    }
                    match answer {
                        Ok(granted) => return Ok(Ok(granted)),
                        Err(error @ StsError::WrongCode) => format!("{error}."),
                        Err(error @ StsError::Unavailable(_)) => {
                            is_out_of_order = true;
                            format!("{error}; the code may be spent. Type the next one.")
                        }
                        Err(StsError::Unreachable {
                            timed_out, message, ..
                        }) => return Err(AuthError::Unreachable { timed_out, message }),
                        Err(error) => {
                            if matches!(error, StsError::Unsupported(_)) {
                                let now = self.clock.now();
                                *self.unused.lock() = Some((serial.clone(), code, now));
                            }
                            return Ok(Err(error));
                        }
                    }
                }
            };
            tracing::info!("no session yet: {complaint}");
        }
        if is_out_of_order {
            return Err(AuthError::Unavailable(complaint));
        }
        Err(AuthError::CodesRejected(format!(
            "no session after {tries} codes. The last one: {complaint} Check the device's clock \
             and the serial, then try again"
        )))
    }

    /// Asks for something else than a code.
    pub(crate) async fn words(
        &self,
        wish: &str,
        prompt: &str,
        complaint: Option<String>,
    ) -> Result<SecretString, AuthError> {
        let mut question = self.question(Wish::Words, prompt, None);
        question.description = format!("{}\n\n{wish}", question.description);
        question.error = complaint;
        self.ask(&question).await
    }

    /// Has the person do something elsewhere; returns when that was read, or refused.
    pub(crate) async fn deed(&self, what: &str) -> Result<(), AuthError> {
        let mut question = self.question(Wish::Deed, "", None);
        question.description = format!("{what}\n\n{}", question.description);
        self.ask(&question).await.map(drop)
    }

    async fn ask(&self, question: &Question) -> Result<SecretString, AuthError> {
        if !self.request.may_ask {
            return Err(AuthError::Unasked);
        }
        let answer = self.request.panel.ask(question).await;
        answer.map_err(AuthError::from)
    }

    fn already_used(&self) -> String {
        format!(
            "This code was already used, and AWS takes each one once. The next one shows in {} s.",
            until_next_step(self.clock.now()).as_secs()
        )
    }

    fn question(&self, wish: Wish, prompt: &str, serial: Option<&Serial>) -> Question {
        let mut lines: Vec<String> = self
            .subject
            .lines
            .iter()
            .map(|(name, value)| format!("{name}: {}", tame(value)))
            .collect();
        if let Some(serial) = serial {
            lines.push(format!("Device: {}", tame(serial.as_str())));
        }
        lines.push(format!("Reason: {}", self.request.reason));
        if !self.request.program.is_empty() {
            lines.push(format!("Needed by: {}", tame(&self.request.program)));
        }
        Question {
            wish,
            title: "s3mfa-mount".to_owned(),
            description: lines.join("\n"),
            error: None,
            prompt: prompt.to_owned(),
            life: DIALOG_LIFE,
            fresh_in: Duration::ZERO,
            waiters: self.request.waiters.clone(),
        }
    }
}

impl From<PromptError> for AuthError {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::Cancelled => Self::Cancelled,
            PromptError::TimedOut | PromptError::Withdrawn => Self::TimedOut,
            PromptError::NoCode(why) => {
                Self::NoPrompt(format!("{why}. `s3mfa-mount renew` asks at a terminal"))
            }
            PromptError::Unavailable(why) => Self::NoPrompt(format!(
                "nobody can be asked for an MFA code: {why}. `s3mfa-mount renew` in a terminal \
                 asks there"
            )),
        }
    }
}
