//! AssumeRole: a session of a role, for whom the role trusts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::credentials;
use super::marks::Marks;
use super::mfa::Mfa;
use super::parameters::{
    EXTERNAL_ID, ROLE_ARN, ROLE_SESSION_NAME, SERIAL_NUMBER, TOKEN_CODE, duration,
};
use crate::caller::Caller;
use crate::cloud::Cloud;
use crate::exchange::Exchange;
use crate::policy::condition::Context;
use crate::policy::{self, Decision, Question, Rule};
use crate::query::Form;
use crate::query::constraints::{Examination, invalid};
use crate::refusal::{Refusal, element};
use crate::roles::{RoleSession, RoleState};
use crate::sessions::{Holder, Session};

/// The most that may be asked for of any role, and what is given to whoever asks for nothing, in
/// seconds: AWS STS API reference.
pub(super) const LONGEST: i32 = 43_200;
const USUAL: Duration = Duration::from_secs(3600);

/// The longest session of a role that is assumed with a session: IAM guide, "Role chaining". It holds
/// for sessions of GetSessionToken as well.
const LONGEST_CHAINED: Duration = Duration::from_secs(3600);

/// Parameters that would say what the session may do, or who vouches for it. Ignoring them would let
/// it do more.
const NOT_KNOWN: [&str; 4] = ["Policy", "PolicyArns", "ProvidedContexts", "ProviderId"];

const TOO_LONG: &str =
    "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
const TOO_LONG_CHAINED: &str = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by \
                                role chaining.";

/// Checks in AWS's order: the form of the parameters, the device and the code, whether the role
/// may be assumed, how long the role and then a chain may last. Only a request that succeeds uses
/// a code up.
pub(super) fn assume_role(
    cloud: &Cloud,
    caller: &Caller,
    form: &Form,
    exchange: &Exchange,
) -> Result<String, Refusal> {
    let mut examination = Examination::of(form);
    let seconds = duration(cloud, &mut examination, LONGEST)?;
    let arn = examination.required(&ROLE_ARN);
    let name = examination.required(&ROLE_SESSION_NAME);
    let external_id = examination.optional(&EXTERNAL_ID);
    let serial = examination.optional(&SERIAL_NUMBER);
    let code = examination.optional(&TOKEN_CODE);
    let marks = Marks::read(form, &mut examination)?;
    examination.end()?;
    refuse_unknown(form)?;
    if !is_arn(arn) {
        return Err(invalid(format!("{arn} is invalid")));
    }

    let mfa = Mfa::check(cloud, caller.user(), serial, code, exchange)?;
    let mut context = Context::default();
    caller.describe(cloud, &mut context);
    if mfa.is_some() {
        context.set("aws:MultiFactorAuthPresent", "true");
        context.set("aws:MultiFactorAuthAge", "0");
    }
    context.set("sts:RoleSessionName", name);
    if let Some(external_id) = external_id {
        context.set("sts:ExternalId", external_id);
    }
    marks.describe_request(&mut context);
    let role = trusting(cloud, caller, "sts:AssumeRole", arn, &context)?;
    for action in marks.actions() {
        trusting(cloud, caller, action, arn, &context)?;
    }

    let is_chained = matches!(caller, Caller::Session(_));
    let length = length_of(&role, seconds)?;
    if is_chained && length > LONGEST_CHAINED {
        return Err(invalid(TOO_LONG_CHAINED));
    }
    if let Some(mfa) = mfa {
        mfa.redeem(exchange)?;
    }
    let mfa_at = carried_mfa(cloud, caller);
    let marks = caller.marks().passed_on(marks);
    let session = RoleSession::new(role, &cloud.account, name).marked(marks);
    let (user, session) = issue(cloud, session, length, mfa_at);
    Ok(user + &credentials(&session))
}

/// The role, if the caller may do this with it. To AWS an absent role is one that may not be assumed.
fn trusting(
    cloud: &Cloud,
    caller: &Caller,
    action: &str,
    arn: &str,
    context: &Context,
) -> Result<Arc<RoleState>, Refusal> {
    let question = Question {
        principal: caller.principal(&cloud.account),
        action,
        resource: arn,
        context,
    };
    let allows = |role: &Arc<RoleState>| {
        let trust = role.trust();
        policy::decide(Rule::Trust, &caller.policies(), Some(&trust), question) == Decision::Allowed
    };
    cloud.roles.by_arn(arn).filter(allows).ok_or_else(|| {
        Refusal::access_denied(format!(
            "User: {} is not authorized to perform: {action} on resource: {arn}",
            caller.arn().unwrap_or_default()
        ))
    })
}

/// The length of a session that was asked for, if the role allows it.
pub(super) fn length_of(role: &RoleState, seconds: Option<i32>) -> Result<Duration, Refusal> {
    let longest = role.max_session();
    let Some(seconds) = seconds else {
        return Ok(USUAL.min(longest));
    };
    let length = Duration::from_secs(seconds.unsigned_abs().into());
    if length > longest {
        return Err(invalid(TOO_LONG));
    }
    Ok(length)
}

/// The MFA that the new session carries to other services. The code of the request itself counts
/// for the trust policy only: IAM guide, "Configuring MFA-protected API access".
fn carried_mfa(cloud: &Cloud, caller: &Caller) -> Option<SystemTime> {
    let Caller::Session(session) = caller else {
        return None;
    };
    let carries = cloud.chained_roles_carry_mfa.load(Ordering::SeqCst);
    let is_users = matches!(session.holder, Holder::User(_));
    session.mfa_at.filter(|_| carries && is_users)
}

/// Issues the session, and describes who acts in it.
pub(super) fn issue(
    cloud: &Cloud,
    session: RoleSession,
    length: Duration,
    mfa_at: Option<SystemTime>,
) -> (String, Arc<Session>) {
    let mut xml = String::from("<AssumedRoleUser>");
    element(&mut xml, "AssumedRoleId", &session.id);
    element(&mut xml, "Arn", &session.arn);
    xml.push_str("</AssumedRoleUser>");
    let holder = Holder::Role(session);
    let session = cloud.sessions.issue(holder, length, mfa_at, &cloud.random);
    (xml, session)
}

pub(super) fn refuse_unknown(form: &Form) -> Result<(), Refusal> {
    match form.first_of(&NOT_KNOWN) {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            501,
            "NotImplemented",
            format!("The sandbox does not know the parameter {name}"),
        )),
    }
}

/// Whether it has the parts of an ARN that AWS asks for; it need not be that of a role.
pub(super) fn is_arn(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, service, _region, _account, resource] => {
            !partition.is_empty() && !service.is_empty() && !resource.is_empty()
        }
        _ => false,
    }
}
