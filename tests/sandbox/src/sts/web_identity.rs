//! AssumeRoleWithWebIdentity: a session of a role, for the token of a provider that the role trusts.
//! The request is not signed: whoever sends it need not be anybody else.

use std::sync::Arc;

use super::assume_role::{LONGEST, is_arn, issue, length_of, refuse_unknown};
use super::credentials;
use super::parameters::{ROLE_ARN, ROLE_SESSION_NAME, WEB_IDENTITY_TOKEN, duration};
use crate::caller::Caller;
use crate::cloud::Cloud;
use crate::policy::condition::Context;
use crate::policy::{self, Decision, Principal, Question, Rule};
use crate::query::Form;
use crate::query::constraints::{Examination, invalid};
use crate::refusal::{Refusal, element};
use crate::roles::RoleSession;
use crate::roles::RoleState;
use crate::web_identity::Claims;

const ACTION: &str = "sts:AssumeRoleWithWebIdentity";

pub(super) fn assume_role_with_web_identity(cloud: &Cloud, form: &Form) -> Result<String, Refusal> {
    let mut examination = Examination::of(form);
    let seconds = duration(cloud, &mut examination, LONGEST)?;
    let arn = examination.required(&ROLE_ARN);
    let name = examination.required(&ROLE_SESSION_NAME);
    let token = examination.required(&WEB_IDENTITY_TOKEN);
    examination.end()?;
    refuse_unknown(form)?;
    if !is_arn(arn) || !arn.contains(":role/") {
        return Err(invalid("Request ARN is invalid"));
    }
    let claims = cloud.web_identity.verify(token)?;
    let role = trusting(cloud, arn, name, &claims)
        .ok_or_else(|| Refusal::access_denied(format!("Not authorized to perform {ACTION}")))?;
    let length = length_of(&role, seconds)?;
    let (mut xml, session) = issue(
        cloud,
        RoleSession::new(role, &cloud.account, name),
        length,
        None,
    );
    element(&mut xml, "Audience", claims.audience());
    xml += &credentials(&session);
    element(&mut xml, "Provider", cloud.web_identity.arn());
    element(&mut xml, "SubjectFromWebIdentityToken", &claims.subject);
    Ok(xml)
}

fn trusting(cloud: &Cloud, arn: &str, name: &str, claims: &Claims) -> Option<Arc<RoleState>> {
    let role = cloud.roles.by_arn(arn)?;
    let mut context = Context::default();
    Caller::Anonymous.describe(cloud, &mut context);
    for (key, value) in claims.keys() {
        context.set(&key, value);
    }
    context.set("sts:RoleSessionName", name);
    let question = Question {
        principal: Principal::Federated {
            provider: cloud.web_identity.arn(),
        },
        action: ACTION,
        resource: arn,
        context: &context,
    };
    let decision = policy::decide(Rule::Trust, &[], Some(&role.trust()), question);
    (decision == Decision::Allowed).then_some(role)
}
