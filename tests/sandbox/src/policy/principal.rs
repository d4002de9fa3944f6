//! Principals: who asks, and whom a policy names.

use serde_json::Value;

use super::MalformedPolicy;
use super::document::{Kind, strings, syntax};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Principal<'a> {
    Anonymous,
    User {
        arn: &'a str,
        account: &'a str,
    },
    /// A session of a role. Policies may name either ARN.
    RoleSession {
        role: &'a str,
        session: &'a str,
        account: &'a str,
    },
    /// Somebody whom a provider vouches for.
    Federated {
        provider: &'a str,
    },
}

/// One entry of a `Principal` element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrincipalPattern {
    /// `*` and `{"AWS": "*"}`: everybody, anonymous callers included.
    Everyone,
    /// An account id, or the ARN of its root.
    Account(String),
    /// The ARN of one user, one role, or one session of a role.
    Arn(String),
    /// `{"Federated": ARN}`: everybody whom the provider vouches for.
    Provider(String),
}

impl PrincipalPattern {
    pub(crate) fn covers(&self, principal: Principal<'_>) -> bool {
        match (self, principal) {
            (Self::Everyone, _) => true,
            (_, Principal::Anonymous) => false,
            (
                Self::Account(id),
                Principal::User { account, .. } | Principal::RoleSession { account, .. },
            ) => id == account,
            (Self::Arn(named), Principal::User { arn, .. }) => named == arn,
            // IAM guide, "AWS JSON policy elements: Principal": what is granted to or denied a role
            // is granted to or denied its sessions.
            (Self::Arn(named), Principal::RoleSession { role, session, .. }) => {
                named == role || named == session
            }
            (Self::Provider(named), Principal::Federated { provider }) => named == provider,
            (Self::Provider(_), _) | (_, Principal::Federated { .. }) => false,
        }
    }
}

/// Reads a `Principal` or `NotPrincipal` element of a policy of that kind.
pub(crate) fn principals(
    name: &str,
    value: &Value,
    policy: Kind<'_>,
) -> Result<Vec<PrincipalPattern>, MalformedPolicy> {
    let map = match value {
        Value::String(text) if text == "*" => return Ok(vec![PrincipalPattern::Everyone]),
        Value::Object(map) => map,
        Value::String(_) => return Err(MalformedPolicy::new("Invalid policy syntax.")),
        _ => return Err(syntax(format!("{name} is neither * nor an object"))),
    };
    let mut principals = Vec::new();
    for (kind, value) in map {
        let read = match (kind.as_str(), policy) {
            ("AWS", _) => aws_principal,
            // Only a role can be assumed for a provider's word.
            ("Federated", Kind::Trust) => provider,
            _ => {
                return Err(MalformedPolicy::new(format!(
                    "{name} {kind} is not supported by the sandbox"
                )));
            }
        };
        for text in strings(name, value)? {
            principals.push(read(&text)?);
        }
    }
    if principals.is_empty() {
        return Err(MalformedPolicy::new("Invalid principal in policy"));
    }
    Ok(principals)
}

fn aws_principal(text: &str) -> Result<PrincipalPattern, MalformedPolicy> {
    if text == "*" {
        return Ok(PrincipalPattern::Everyone);
    }
    if is_account(text) {
        return Ok(PrincipalPattern::Account(text.to_owned()));
    }
    let named = || PrincipalPattern::Arn(text.to_owned());
    // Unlike resources, principals may not hold wildcards.
    let parts: Vec<&str> = match text.strip_prefix("arn:aws:") {
        Some(rest) if !rest.contains(['*', '?']) => rest.splitn(4, ':').collect(),
        _ => Vec::new(),
    };
    match parts.as_slice() {
        ["iam", "", account, "root"] if is_account(account) => {
            Ok(PrincipalPattern::Account((*account).to_owned()))
        }
        ["iam", "", account, name] if is_account(account) => match name.split_once('/') {
            Some(("user" | "role", name)) if !name.is_empty() => Ok(named()),
            _ => Err(MalformedPolicy::principal(text)),
        },
        ["sts", "", account, name] if is_account(account) && session_of(name).is_some() => {
            Ok(named())
        }
        _ => Err(MalformedPolicy::principal(text)),
    }
}

fn provider(text: &str) -> Result<PrincipalPattern, MalformedPolicy> {
    let rest = text.strip_prefix("arn:aws:iam::");
    match rest.and_then(|rest| rest.split_once(":oidc-provider/")) {
        Some((account, name)) if is_account(account) && !name.is_empty() => {
            Ok(PrincipalPattern::Provider(text.to_owned()))
        }
        _ => Err(MalformedPolicy::new(
            "Federated principals must be valid domain names or SAML metadata ARNs",
        )),
    }
}

/// Splits `assumed-role/ROLE/SESSION`.
fn session_of(name: &str) -> Option<(&str, &str)> {
    let (role, session) = name.strip_prefix("assumed-role/")?.split_once('/')?;
    (!role.is_empty() && !session.is_empty()).then_some((role, session))
}

/// The ARN of the role that a session's ARN belongs to.
pub(crate) fn role_of_session(arn: &str) -> Option<String> {
    let (account, name) = arn.strip_prefix("arn:aws:sts::")?.split_once(':')?;
    let (role, _) = session_of(name)?;
    Some(format!("arn:aws:iam::{account}:role/{role}"))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}
