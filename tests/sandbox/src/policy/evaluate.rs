//! The decision: an explicit deny wins, else the policies of both sides together allow or do not.

use std::sync::Arc;

use super::condition::Context;
use super::document::{Effect, Listed, Policy, Statement};
use super::pattern;
use super::principal::{Principal, PrincipalPattern};

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

/// How the two sides combine where neither denies: IAM guide, "Policy evaluation logic".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The caller's own account: an allow of either side suffices.
    SameAccount,
    /// Another account's resource: both sides have to allow.
    OtherAccount,
    /// A role's trust policy has to allow, whatever else does. If it allows the caller by name, that
    /// suffices; if it allows the account, the account's own policies have to allow as well.
    Trust,
}

/// Whom an allow of a resource's policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// The caller's account. That leaves the choice to the account's own identity policies: by
    /// itself it lets none of its users in.
    Account,
    /// The caller.
    Itself,
}

/// Decides as AWS does. The policies are those of the caller, and that of the resource.
pub(crate) fn decide(
    rule: Rule,
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
    let by_identity = || identity().any(|statement| statement.effect == Effect::Allow);
    let by_resource = || {
        resource()
            .filter(|statement| statement.effect == Effect::Allow)
            .map(|statement| named_by(statement, question))
            .max()
    };
    let is_allowed = match rule {
        Rule::SameAccount => by_identity() || by_resource() == Some(Named::Itself),
        Rule::OtherAccount => by_identity() && by_resource().is_some(),
        Rule::Trust => match by_resource() {
            None => false,
            Some(Named::Account) => by_identity(),
            Some(Named::Itself) => true,
        },
    };
    if is_allowed {
        Decision::Allowed
    } else {
        Decision::ImplicitlyDenied
    }
}

fn applies(statement: &Statement, question: Question<'_>) -> bool {
    let principal = |principals: &Listed<PrincipalPattern>| {
        principals.covers(|pattern| pattern.covers(question.principal))
    };
    let resource = |resources: &Listed<String>| {
        resources.covers(|resource| pattern::matches(resource, question.resource))
    };
    statement.principals.as_ref().is_none_or(principal)
        && statement
            .actions
            .covers(|action| pattern::matches_ignoring_case(action, question.action))
        && statement.resources.as_ref().is_none_or(resource)
        && statement
            .conditions
            .iter()
            .all(|condition| condition.holds(question.context))
}

fn named_by(statement: &Statement, question: Question<'_>) -> Named {
    let by_account = |pattern: &PrincipalPattern| matches!(pattern, PrincipalPattern::Account(_));
    let itself = statement.principals.as_ref().is_some_and(|principals| {
        principals.covers(|pattern| !by_account(pattern) && pattern.covers(question.principal))
    });
    if itself {
        Named::Itself
    } else {
        Named::Account
    }
}
