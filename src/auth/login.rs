//! One renewal: ask, check, trade the code at STS, and ask again with the reason.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::AuthError;
use super::clock::Clock;
use super::code::{Code, SpentCodes, until_next_step};
use super::prompt::{Ask, PromptError, Question};
use super::session::{Granted, Login, LoginRequest};
use super::sts::{Sts, StsError};

/// How many answers a person may give before the cool-down.
const TRIES: u32 = 3;

/// How long a dialog stays on the screen at most.
pub(crate) const DIALOG_LIFE: Duration = Duration::from_secs(300);

/// What the dialog says about the mount.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The bucket, with the prefix if there is one.
    pub(crate) bucket: String,
    /// Where it is mounted.
    pub(crate) mountpoint: String,
    /// The AWS profile, or how else the keys were found.
    pub(crate) profile: String,
}

/// Opens sessions with GetSessionToken: long-term keys, a device and its code.
pub(crate) struct SessionTokenLogin {
    inner: Arc<Inner>,
}

struct Inner {
    sts: Sts,
    subject: Subject,
    serial: String,
    duration: Option<i32>,
    ask: Arc<dyn Ask>,
    clock: Arc<dyn Clock>,
    spent: Mutex<SpentCodes>,
}

/// Why a code brought no session.
enum Refusal {
    /// Another code may do; what to say in the dialog.
    Code(String),
    /// Another code may do once STS has recovered.
    OutOfOrder(String),
    /// No code will.
    Final(AuthError),
}

impl SessionTokenLogin {
    /// Asks with `ask` unless a request brings its own.
    pub(crate) fn new(
        sts: Sts,
        subject: Subject,
        serial: String,
        duration: Option<i32>,
        ask: Arc<dyn Ask>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                sts,
                subject,
                serial,
                duration,
                ask,
                clock,
                spent: Mutex::default(),
            }),
        }
    }
}

impl Login for SessionTokenLogin {
    fn login(&self, request: LoginRequest) -> BoxFuture<'static, Result<Granted, AuthError>> {
        Arc::clone(&self.inner).run(request).boxed()
    }
}

impl Inner {
    async fn run(self: Arc<Self>, request: LoginRequest) -> Result<Granted, AuthError> {
        let ask = request.ask.as_ref().unwrap_or(&self.ask);
        let mut question = self.question(&request);
        let mut complaint = String::new();
        let mut sts_is_out_of_order = false;
        for attempt in 1..=TRIES {
            if !complaint.is_empty() {
                question.error = Some(format!("{complaint} ({attempt} of {TRIES})"));
            }
            let typed = ask.ask(question.clone()).await.map_err(AuthError::from)?;
            complaint = match Code::parse(&typed) {
                Err(error) => error.to_string(),
                Ok(code) => match self.trade(&code).await {
                    Ok(granted) => return Ok(granted),
                    Err(Refusal::Final(error)) => return Err(error),
                    Err(Refusal::OutOfOrder(complaint)) => {
                        sts_is_out_of_order = true;
                        complaint
                    }
                    Err(Refusal::Code(complaint)) => complaint,
                },
            };
            tracing::info!("no session yet: {complaint}");
        }
        if sts_is_out_of_order {
            return Err(AuthError::Unavailable(complaint));
        }
        Err(AuthError::CodesRejected(format!(
            "no session after {TRIES} codes. The last one: {complaint} Check the device's clock \
             and the serial, then try again"
        )))
    }

    /// Sends a code, unless it is known to be spent.
    async fn trade(&self, code: &Code) -> Result<Granted, Refusal> {
        let now = self.clock.now();
        if self.spent.lock().contains(code, now) {
            return Err(Refusal::Code(format!(
                "This code was already used, and AWS takes each one once. The next one shows in \
                 {} s.",
                until_next_step(now).as_secs()
            )));
        }
        let answer = self
            .sts
            .get_session_token(&self.serial, code, self.duration)
            .await;
        let may_be_spent = match &answer {
            Ok(_) | Err(StsError::Unavailable(_)) => true,
            Err(StsError::Unreachable { maybe_sent, .. }) => *maybe_sent,
            Err(_) => false,
        };
        if may_be_spent {
            self.spent.lock().add(code.clone(), now);
        }
        answer.map_err(|error| match error {
            StsError::WrongCode => Refusal::Code(format!("{error}.")),
            StsError::Unavailable(_) => Refusal::OutOfOrder(format!("{error}.")),
            StsError::UnknownDevice { .. } => {
                Refusal::Final(AuthError::UnknownDevice(error.to_string()))
            }
            StsError::Refused(text) => Refusal::Final(AuthError::Refused(text)),
            StsError::Unreachable {
                timed_out, message, ..
            } => Refusal::Final(AuthError::Unreachable { timed_out, message }),
        })
    }

    fn question(&self, request: &LoginRequest) -> Question {
        let Subject {
            bucket,
            mountpoint,
            profile,
        } = &self.subject;
        let mut description = format!(
            "Bucket: {}\nMounted at: {}\nProfile: {}\nDevice: {}\nReason: {}",
            crate::words::tame(bucket),
            crate::words::tame(mountpoint),
            crate::words::tame(profile),
            crate::words::tame(&self.serial),
            request.reason,
        );
        if !request.program.is_empty() {
            description.push_str("\nNeeded by: ");
            description.push_str(&crate::words::tame(&request.program));
        }
        Question {
            title: "s3mfa-mount".to_owned(),
            description,
            error: None,
            prompt: "MFA code:".to_owned(),
            life: DIALOG_LIFE,
            tid: request.tid,
        }
    }
}

/// The keys as they are: nobody is asked.
pub(crate) struct PlainLogin {
    keys: Credentials,
}

impl PlainLogin {
    /// Hands these keys out.
    pub(crate) fn new(keys: Credentials) -> Self {
        Self { keys }
    }
}

impl Login for PlainLogin {
    fn login(&self, _request: LoginRequest) -> BoxFuture<'static, Result<Granted, AuthError>> {
        let granted = Granted {
            credentials: self.keys.clone(),
            expires: None,
        };
        async move { Ok(granted) }.boxed()
    }
}

impl From<PromptError> for AuthError {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::Cancelled => Self::Cancelled,
            PromptError::TimedOut => Self::TimedOut,
            PromptError::Unavailable(why) => Self::NoPrompt(format!(
                "nobody can be asked for an MFA code: {why}. `s3mfa-mount renew` in a terminal \
                 asks there"
            )),
        }
    }
}
