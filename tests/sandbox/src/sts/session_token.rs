//! GetSessionToken: a session that acts as its user, with MFA if a code was given.

use std::time::Duration;

use super::credentials;
use super::mfa::Mfa;
use super::parameters::{SERIAL_NUMBER, TOKEN_CODE, duration};
use crate::caller::Caller;
use crate::cloud::Cloud;
use crate::exchange::Exchange;
use crate::query::Form;
use crate::query::constraints::Examination;
use crate::refusal::Refusal;
use crate::sessions::Holder;

/// The most that may be asked for, and what is given to whoever asks for nothing, in seconds: AWS STS
/// API reference.
const LONGEST: i32 = 129_600;
const USUAL: i32 = 43_200;

const TEMPORARY_KEYS: &str = "Cannot call GetSessionToken with session credentials";

/// Checks in AWS's order: the form of the parameters, then the device, then the code. Only a
/// request that succeeds uses a code up.
pub(super) fn get_session_token(
    cloud: &Cloud,
    caller: &Caller,
    form: &Form,
    exchange: &Exchange,
) -> Result<String, Refusal> {
    let Caller::User(user) = caller else {
        return Err(Refusal::access_denied(TEMPORARY_KEYS));
    };
    let mut examination = Examination::of(form);
    let seconds = duration(cloud, &mut examination, LONGEST)?;
    let serial = examination.optional(&SERIAL_NUMBER);
    let code = examination.optional(&TOKEN_CODE);
    examination.end()?;

    let mfa = Mfa::check(cloud, Some(user), serial, code, exchange)?;
    let mfa_at = mfa.is_some().then(|| cloud.clock.now());
    if let Some(mfa) = mfa {
        mfa.redeem(exchange)?;
    }
    let seconds = seconds.unwrap_or(USUAL).unsigned_abs();
    let session = cloud.sessions.issue(
        Holder::User(user.clone()),
        Duration::from_secs(seconds.into()),
        mfa_at,
        &cloud.random,
    );
    Ok(credentials(&session))
}
