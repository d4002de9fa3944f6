//! `credentials`: keys for the AWS CLI and SDKs, out of the session that mounts use.
//!
//! The form is that of docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::access::{Entry, Purpose};
use crate::auth::session::{Demand, Login, LoginRequest, Reason};
use crate::auth::sts::{Sts, StsError};
use crate::auth::{AuthError, prompt};
use crate::aws::Aws;
use crate::cli::CredentialsArgs;
use crate::clock::{Clock, rfc3339};
use crate::config::{Access, Surroundings};
use crate::mount::MountError;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Keys<'a> {
    version: u32,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<String>,
}

/// Prints the keys, after asking for a code if there is no session.
pub(crate) async fn print(
    args: Box<CredentialsArgs>,
    env: &Surroundings,
) -> Result<(), MountError> {
    let access = Access::new(&args.access, env).await?;
    let purpose = Purpose {
        lines: vec![("For", caller())],
        bucket: None,
        attached: Arc::new(AtomicBool::new(true)),
    };
    let Entry { aws, ladder, .. } = crate::access::entry(&access, purpose)?;
    let granted = tokio::time::timeout(access.patience.wait, session(&aws, &*ladder)).await;
    let granted = granted.unwrap_or(Err(AuthError::TimedOut))?;
    let credentials = &granted.credentials;
    let keys = Keys {
        version: 1,
        access_key_id: credentials.access_key_id(),
        secret_access_key: credentials.secret_access_key(),
        session_token: credentials.session_token(),
        expiration: granted.expires.map(rfc3339),
    };
    let mut text = serde_json::to_vec(&keys)
        .map(Zeroizing::new)
        .map_err(|error| MountError::Other(error.to_string()))?;
    text.push(b'\n');
    std::io::stdout()
        .write_all(&text)
        .map_err(|error| MountError::Other(format!("the keys cannot be printed: {error}")))
}

/// A session that is alive as far as STS knows: what was revoked must not be handed on.
async fn session(
    aws: &Arc<Aws>,
    ladder: &dyn Login,
) -> Result<crate::auth::session::Granted, AuthError> {
    let sts = Sts::new(Arc::clone(aws));
    let began = Clock::now(&aws.clock);
    let mut demand = Demand::default();
    loop {
        let request = LoginRequest {
            reason: Reason::FirstLogin,
            program: String::new(),
            waiters: prompt::Waiters::default(),
            panel: prompt::Panel::new(ladder.asker()),
            may_ask: true,
            is_elsewhere: false,
            demand: demand.clone(),
        };
        let granted = ladder.login(request).await?;
        let is_new = granted.authenticated >= began;
        if is_new || demand.rejected.is_some() {
            return Ok(granted);
        }
        match sts.caller(&granted.credentials).await {
            Err(StsError::Ended | StsError::UnknownKey) => {
                demand.rejected = Some(granted.credentials.access_key_id().to_owned());
            }
            // A store may not know the question; what it knows, S3 will tell.
            _ => return Ok(granted),
        }
    }
}

/// The program that wants the keys, for the prompt.
fn caller() -> String {
    let parent = nix::unistd::getppid();
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    match name.trim() {
        "" => "another program".to_owned(),
        name => format!("{} ({parent})", crate::words::tame(name)),
    }
}
