#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::condition::Context;
use super::*;
use crate::policies;

const ALICE: Principal<'static> = Principal::User {
    arn: "arn:aws:iam::123456789012:user/alice",
    account: "123456789012",
};

fn long_term() -> Context {
    Context::default()
}

fn session(mfa_age: Option<u64>) -> Context {
    let mut context = Context::default();
    context.set("aws:MultiFactorAuthPresent", mfa_age.is_some().to_string());
    if let Some(age) = mfa_age {
        context.set("aws:MultiFactorAuthAge", age.to_string());
    }
    context
}

fn bucket(document: &Value) -> Policy {
    Policy::parse(document, Kind::Bucket("b")).unwrap()
}

fn identity(document: &Value) -> Vec<Arc<Policy>> {
    vec![Arc::new(Policy::parse(document, Kind::Identity).unwrap())]
}

fn ask(
    identity: &[Arc<Policy>],
    resource: Option<&Policy>,
    action: &str,
    arn: &str,
    context: &Context,
) -> Decision {
    decide(
        Rule::SameAccount,
        identity,
        resource,
        Question {
            principal: ALICE,
            action,
            resource: arn,
            context,
        },
    )
}

fn get(policy: &Value, context: &Context) -> Decision {
    let all = identity(&policies::allow_all_s3());
    ask(
        &all,
        Some(&bucket(policy)),
        "s3:GetObject",
        "arn:aws:s3:::b/k",
        context,
    )
}

const DENIED: Decision = Decision::ExplicitlyDenied(Side::Resource);

#[test]
fn null_age_wants_any_mfa() {
    let policy = policies::require_mfa_null_age("b");
    assert_eq!(get(&policy, &long_term()), DENIED);
    assert_eq!(get(&policy, &session(None)), DENIED);
    assert_eq!(get(&policy, &session(Some(100_000))), Decision::Allowed);
}

#[test]
fn age_lets_those_without_mfa_pass() {
    // The gap AWS's page warns of: the key is absent, so the deny does not fire.
    let policy = policies::require_mfa_age("b", 3600);
    assert_eq!(get(&policy, &long_term()), Decision::Allowed);
    assert_eq!(get(&policy, &session(None)), Decision::Allowed);
    assert_eq!(get(&policy, &session(Some(3600))), Decision::Allowed);
    assert_eq!(get(&policy, &session(Some(3601))), DENIED);
}

#[test]
fn fresh_mfa_wants_both() {
    let policy = policies::require_fresh_mfa("b", 3600);
    assert_eq!(get(&policy, &long_term()), DENIED);
    assert_eq!(get(&policy, &session(None)), DENIED);
    assert_eq!(get(&policy, &session(Some(3600))), Decision::Allowed);
    assert_eq!(get(&policy, &session(Some(3601))), DENIED);
}

#[test]
fn bool_if_exists_lets_long_term_keys_pass() {
    let policy = policies::require_mfa_bool("b");
    assert_eq!(get(&policy, &long_term()), Decision::Allowed);
    assert_eq!(get(&policy, &session(None)), DENIED);
    assert_eq!(get(&policy, &session(Some(1))), Decision::Allowed);
    let policy = policies::require_mfa_bool_if_exists("b");
    assert_eq!(get(&policy, &long_term()), DENIED);
    assert_eq!(get(&policy, &session(None)), DENIED);
    assert_eq!(get(&policy, &session(Some(1))), Decision::Allowed);
}

#[test]
fn an_explicit_deny_wins_on_either_side() {
    let all = identity(&policies::allow_all_s3());
    let deny = policies::deny_get_on_prefix("b", "secret/");
    let resource = bucket(&deny);
    let secret = "arn:aws:s3:::b/secret/k";
    assert_eq!(
        ask(&all, Some(&resource), "s3:GetObject", secret, &long_term()),
        DENIED
    );
    let open = "arn:aws:s3:::b/open/k";
    assert_eq!(
        ask(&all, Some(&resource), "s3:GetObject", open, &long_term()),
        Decision::Allowed
    );
    assert_eq!(
        ask(&all, Some(&resource), "s3:PutObject", secret, &long_term()),
        Decision::Allowed
    );
    let mut both = all;
    both.extend(identity(
        &json!({"Statement": {"Effect": "Deny", "NotAction": "s3:List*", "NotResource": "arn:aws:s3:::b/open/*"}}),
    ));
    let by_identity = Decision::ExplicitlyDenied(Side::Identity);
    assert_eq!(
        ask(&both, None, "s3:GetObject", secret, &long_term()),
        by_identity
    );
    assert_eq!(
        ask(&both, None, "s3:GetObject", open, &long_term()),
        Decision::Allowed
    );
    assert_eq!(
        ask(&both, None, "s3:ListBucket", "arn:aws:s3:::b", &long_term()),
        Decision::Allowed
    );
}

#[test]
fn either_side_may_allow_but_the_account_only_delegates() {
    let allow = |principal: Value| {
        bucket(
            &json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal,
            "Action": ["S3:getobject"], "Resource": "arn:aws:s3:::b/*"}]}),
        )
    };
    let arn = "arn:aws:s3:::b/k";
    let asked = |policy: &Policy| ask(&[], Some(policy), "s3:GetObject", arn, &long_term());
    assert_eq!(asked(&allow(json!("*"))), Decision::Allowed);
    assert_eq!(asked(&allow(json!({"AWS": "*"}))), Decision::Allowed);
    assert_eq!(
        asked(&allow(
            json!({"AWS": ["arn:aws:iam::123456789012:user/alice"]})
        )),
        Decision::Allowed
    );
    assert_eq!(
        asked(&allow(json!({"AWS": "arn:aws:iam::123456789012:user/bob"}))),
        Decision::ImplicitlyDenied
    );
    assert_eq!(
        asked(&allow(json!({"AWS": "123456789012"}))),
        Decision::ImplicitlyDenied
    );
    assert_eq!(
        asked(&allow(json!({"AWS": "arn:aws:iam::123456789012:root"}))),
        Decision::ImplicitlyDenied
    );
    let question = Question {
        principal: Principal::Anonymous,
        action: "s3:GetObject",
        resource: arn,
        context: &long_term(),
    };
    assert_eq!(
        decide(Rule::SameAccount, &[], Some(&allow(json!("*"))), question),
        Decision::Allowed
    );
    assert_eq!(
        decide(
            Rule::SameAccount,
            &[],
            Some(&allow(json!({"AWS": "123456789012"}))),
            question
        ),
        Decision::ImplicitlyDenied
    );
}

#[test]
fn a_list_of_values_matches_any_and_its_negation_none() {
    let with_prefix = |operator: &str, prefix: Option<&str>| {
        let policy = identity(
            &json!({"Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*",
            "Condition": {operator: {"S3:Prefix": ["", "home/*"]}}}]}),
        );
        let mut context = long_term();
        if let Some(prefix) = prefix {
            context.set("s3:prefix", prefix);
        }
        ask(&policy, None, "s3:ListBucket", "arn:aws:s3:::b", &context) == Decision::Allowed
    };
    assert!(with_prefix("StringLike", Some("home/alice/")));
    assert!(with_prefix("StringLike", Some("")));
    assert!(!with_prefix("StringLike", Some("etc/")));
    assert!(!with_prefix("StringLike", None));
    assert!(with_prefix("StringLikeIfExists", None));
    assert!(!with_prefix("StringNotLike", Some("home/x")));
    assert!(with_prefix("StringNotLike", Some("etc/")));
    assert!(with_prefix("StringNotLike", None));
    assert!(with_prefix("StringEquals", Some("home/*")));
    assert!(!with_prefix("StringEquals", Some("home/x")));
}

#[test]
fn numbers_flags_and_text_are_taken_as_values() {
    for age in [json!(3600), json!("3600"), json!([3600])] {
        let policy = json!({"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*",
            "Resource": "arn:aws:s3:::b/*", "Condition": {"NumericGreaterThanEquals": {"AWS:multifactorauthage": age}}}]});
        assert_eq!(get(&policy, &session(Some(3600))), DENIED);
        assert_eq!(get(&policy, &session(Some(3599))), Decision::Allowed);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let bucket =
        |statement: Value| Policy::parse(&json!({"Statement": [statement]}), Kind::Bucket("b"));
    let fine = || json!({"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"});
    assert!(bucket(fine()).is_ok());
    let with = |name: &str, value: Value| {
        let mut statement = fine();
        statement[name] = value;
        bucket(statement)
    };
    for (name, value) in [
        ("Effect", json!("deny")),
        ("Principals", json!("*")),
        ("Principal", json!("alice")),
        (
            "Principal",
            json!({"AWS": "arn:aws:iam::123456789012:user/*"}),
        ),
        ("Principal", json!({"Service": "s3.amazonaws.com"})),
        ("Action", json!("GetObject")),
        ("Action", json!("ec2:*")),
        ("Action", json!("s3:ListBucket")),
        ("NotAction", json!("s3:*")),
        ("Resource", json!("arn:aws:s3:::other/*")),
        ("Resource", json!("arn:aws:s3:::b/${aws:username}/*")),
        ("Resource", json!([])),
        (
            "Condition",
            json!({"IpAddress": {"aws:SourceIp": "127.0.0.1"}}),
        ),
        (
            "Condition",
            json!({"NullIfExists": {"aws:MultiFactorAuthAge": true}}),
        ),
        (
            "Condition",
            json!({"Bool": {"aws:MultifactorPresent": true}}),
        ),
        (
            "Condition",
            json!({"Bool": {"aws:MultiFactorAuthPresent": "yes"}}),
        ),
        (
            "Condition",
            json!({"NumericLessThan": {"aws:MultiFactorAuthAge": "an hour"}}),
        ),
    ] {
        let error = with(name, value.clone()).expect_err(&format!("{name} {value}"));
        assert_eq!(error.code(), "MalformedPolicy");
    }
    assert!(Policy::parse(&json!({"Statement": [fine()]}), Kind::Identity).is_err());
    assert!(
        Policy::parse(
            &json!({"Version": "2020-01-01", "Statement": [fine()]}),
            Kind::Bucket("b")
        )
        .is_err()
    );
    assert!(Policy::parse(&json!({"Statement": []}), Kind::Bucket("b")).is_err());
    assert!(PolicyJson::from("{").into_value().is_err());
}

/// Which side allows is not the same to every rule.
#[test]
fn both_sides_are_combined_by_the_rule() {
    let all =
        identity(&json!({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}));
    let policy = |principal: Value| {
        let document = json!({"Statement": [{"Effect": "Allow", "Principal": principal, "Action": "s3:*",
            "Resource": "arn:aws:s3:::b/*"}]});
        bucket(&document)
    };
    let itself = policy(json!({"AWS": "arn:aws:iam::123456789012:user/alice"}));
    let account = policy(json!({"AWS": "123456789012"}));
    let other = policy(json!({"AWS": "arn:aws:iam::123456789012:user/bob"}));
    // What the resource's policy names, whether her own policies allow, and what the three rules say.
    for (resource, own, expected) in [
        (None, false, [false, false, false]),
        (None, true, [true, false, false]),
        (Some(&other), true, [true, false, false]),
        (Some(&account), false, [false, false, false]),
        (Some(&account), true, [true, true, true]),
        (Some(&itself), false, [true, false, true]),
        (Some(&itself), true, [true, true, true]),
    ] {
        let question = Question {
            principal: ALICE,
            action: "s3:GetObject",
            resource: "arn:aws:s3:::b/k",
            context: &long_term(),
        };
        let identity = if own { all.as_slice() } else { &[] };
        let rules = [Rule::SameAccount, Rule::OtherAccount, Rule::Trust];
        let decided = rules.map(|rule| decide(rule, identity, resource, question));
        assert_eq!(
            decided.map(|decision| decision == Decision::Allowed),
            expected,
            "{resource:?} {own}"
        );
    }
}

#[test]
fn a_session_of_a_role_is_named_by_both_its_arns() {
    let (role, session) = (
        "arn:aws:iam::123456789012:role/r",
        "arn:aws:sts::123456789012:assumed-role/r/s",
    );
    let principal = Principal::RoleSession {
        role,
        session,
        account: "123456789012",
    };
    let denied = |named: &str| {
        let policy = bucket(
            &json!({"Statement": [{"Effect": "Deny", "Principal": {"AWS": named},
            "Action": "*", "Resource": "arn:aws:s3:::b/*"}]}),
        );
        let question = Question {
            principal,
            action: "s3:GetObject",
            resource: "arn:aws:s3:::b/k",
            context: &long_term(),
        };
        decide(Rule::SameAccount, &[], Some(&policy), question) == DENIED
    };
    assert!(denied(role) && denied(session) && denied("123456789012"));
    assert!(!denied("arn:aws:iam::123456789012:role/other"));
    assert!(!denied("arn:aws:sts::123456789012:assumed-role/r/other"));
    assert!(!denied("arn:aws:iam::123456789012:user/r"));
}
