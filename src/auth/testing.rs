//! Sessions from a sandbox, for tests in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use s3mfa_sandbox::{Device, Sandbox, User};
use secrecy::SecretString;

use super::Sessions;
use super::conversation::Subject;
use super::identity::serial::Serial;
use super::identity::{Identity, Origin, Way};
use super::ladder::{Ladder, Parts};
use super::memory::Memory;
use super::prompt::{Ask, PromptError, Question};
use super::session::Patience;
use super::shared::Shelf;
use crate::aws::{Aws, Endpoints, Urls};
use crate::clock::Clock;

/// The sandbox's clock, as the daemon's.
#[derive(Debug)]
pub(crate) struct SandboxClock(pub(crate) s3mfa_sandbox::Clock);

impl Clock for SandboxClock {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

/// A person who answers at once, with the device at hand, and counts.
pub(crate) struct Person {
    pub(crate) device: Device,
    pub(crate) asked: Arc<AtomicU64>,
}

impl Ask for Person {
    fn ask(&self, _: Question) -> BoxFuture<'static, Result<SecretString, PromptError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let code = self.device.unspent_code();
        async move { Ok(code.into()) }.boxed()
    }
}

/// How the sandbox is reached.
pub(crate) fn aws(sandbox: &Sandbox) -> Arc<Aws> {
    let url = Some(sandbox.endpoint().to_owned());
    let endpoints = Endpoints {
        region: sandbox.region().to_owned(),
        urls: Urls {
            s3: url.clone(),
            sts: url,
            ..Urls::default()
        },
        path_style: true,
        ..Endpoints::default()
    };
    Aws::new(endpoints).unwrap()
}

/// Sessions of GetSessionToken that last so many seconds, by the sandbox's clock.
pub(crate) fn sessions(
    aws: &Arc<Aws>,
    sandbox: &Sandbox,
    user: &User,
    device: &Device,
    seconds: i32,
    ask: Arc<dyn Ask>,
) -> Arc<Sessions> {
    let clock: Arc<dyn Clock> = Arc::new(SandboxClock(sandbox.clock().clone()));
    let patience = Patience {
        wait: Duration::from_secs(30),
        cool_down: Duration::from_secs(60),
    };
    let ladder = Ladder::new(Parts {
        identity: Identity {
            profile: "default".to_owned(),
            origin: Origin::Keys(Credentials::new(
                user.access_key_id(),
                user.secret_access_key(),
                None,
                None,
                "test",
            )),
            roles: Vec::new(),
            serial: Some(Serial::parse(device.serial()).unwrap()),
            way: Way::Auto,
            duration: Some(seconds),
            mfa_process: None,
        },
        reread: None,
        aws: Arc::clone(aws),
        clock: Arc::clone(&clock),
        shelf: Shelf::new(None),
        memory: Arc::new(Memory::open(None)),
        ask,
        subject: Subject { lines: Vec::new() },
        bucket: None,
        max_age: None,
        cool_down: patience.cool_down,
    });
    Sessions::new(ladder, clock, patience)
}
