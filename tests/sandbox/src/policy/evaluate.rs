//! The decision: an explicit deny wins, else one allow of either side suffices.

use std::sync::Arc;

use super::condition::Context;
use super::document::{Effect, Policy, PrincipalPattern, Statement};
use super::pattern;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Principal<'a> {
    Anonymous,
    User { arn: &'a str, account: &'a str },
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) principal: Principal<'a>,
    /// Such as `s3:GetObject`.
    pub(crate) action: &'a str,
    /// Such as `arn:aws:s3:::bucket/key`.
    pub(crate) resource: &'a str,
    pub(crate) context: &'a Context,
}

/// Which policy decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Resource,
    Identity,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    ExplicitlyDenied(Side),
    ImplicitlyDenied,
}

/// Decides as AWS does within one account: IAM guide, "Policy evaluation logic".
pub(crate) fn decide(
    identity: &[Arc<Policy>],
    resource: Option<&Policy>,
    question: Question<'_>,
) -> Decision {
    let identity = || {
        identity
            .iter()
            .flat_map(|policy| &policy.statements)
            .filter(|s| applies(s, question))
    };
    let resource = || {
        resource
            .into_iter()
            .flat_map(|policy| &policy.statements)
            .filter(|s| applies(s, question))
    };
    if resource().any(|statement| statement.effect == Effect::Deny) {
        return Decision::ExplicitlyDenied(Side::Resource);
    }
    if identity().any(|statement| statement.effect == Effect::Deny) {
        return Decision::ExplicitlyDenied(Side::Identity);
    }
    let by_identity = identity().any(|statement| statement.effect == Effect::Allow);
    let by_resource = || {
        resource()
            .any(|statement| statement.effect == Effect::Allow && names_itself(statement, question))
    };
    if by_identity || by_resource() {
        Decision::Allowed
    } else {
        Decision::ImplicitlyDenied
    }
}

fn applies(statement: &Statement, question: Question<'_>) -> bool {
    let principal = |principals: &super::document::Listed<PrincipalPattern>| {
        principals.covers(|pattern| is_principal(pattern, question.principal))
    };
    statement.principals.as_ref().is_none_or(principal)
        && statement
            .actions
            .covers(|action| pattern::matches_ignoring_case(action, question.action))
        && statement
            .resources
            .covers(|resource| pattern::matches(resource, question.resource))
        && statement
            .conditions
            .iter()
            .all(|condition| condition.holds(question.context))
}

fn is_principal(pattern: &PrincipalPattern, principal: Principal<'_>) -> bool {
    match (pattern, principal) {
        (PrincipalPattern::Everyone, _) => true,
        (_, Principal::Anonymous) => false,
        (PrincipalPattern::Account(id), Principal::User { account, .. }) => id == account,
        (PrincipalPattern::Arn(named), Principal::User { arn, .. }) => named == arn,
    }
}

/// An allow for the account leaves the choice to the account's own identity policies: by itself it
/// lets none of its users in.
fn names_itself(statement: &Statement, question: Question<'_>) -> bool {
    let by_account = |pattern: &PrincipalPattern| matches!(pattern, PrincipalPattern::Account(_));
    statement.principals.as_ref().is_some_and(|principals| {
        principals
            .covers(|pattern| !by_account(pattern) && is_principal(pattern, question.principal))
    })
}
