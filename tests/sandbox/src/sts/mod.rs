//! STS: sessions of users and of roles.

mod assume_role;
pub(crate) mod marks;
mod mfa;
mod parameters;
mod session_token;
mod web_identity;

use crate::caller::Caller;
use crate::clock::iso8601;
use crate::cloud::SharedCloud;
use crate::exchange::Exchange;
use crate::query::Form;
use crate::refusal::{Refusal, element};
use crate::sessions::Session;

/// Performs an action, and returns the XML of its result. There is none if there is no such action.
pub(crate) fn perform(
    cloud: &SharedCloud,
    action: &str,
    caller: &Caller,
    form: &Form,
    exchange: &Exchange,
) -> Result<Option<String>, Refusal> {
    let result = match action {
        "GetCallerIdentity" => identity_of(cloud, caller.signed()?),
        "GetSessionToken" => {
            session_token::get_session_token(cloud, caller.signed()?, form, exchange)?
        }
        "AssumeRole" => assume_role::assume_role(cloud, caller.signed()?, form, exchange)?,
        "AssumeRoleWithWebIdentity" => web_identity::assume_role_with_web_identity(cloud, form)?,
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn identity_of(cloud: &SharedCloud, caller: &Caller) -> String {
    let mut xml = String::new();
    element(&mut xml, "Arn", caller.arn().unwrap_or_default());
    element(&mut xml, "UserId", caller.id().unwrap_or_default());
    element(&mut xml, "Account", &cloud.account);
    xml
}

fn credentials(session: &Session) -> String {
    let mut xml = String::from("<Credentials>");
    element(&mut xml, "AccessKeyId", &session.access_key_id);
    element(&mut xml, "SecretAccessKey", &session.secret_access_key);
    element(&mut xml, "SessionToken", &session.token);
    element(&mut xml, "Expiration", &iso8601(session.expiration));
    xml.push_str("</Credentials>");
    xml
}
