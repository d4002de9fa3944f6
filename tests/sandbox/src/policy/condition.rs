//! Condition blocks: operators, and the keys a request carries.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::MalformedPolicy;
use super::document::Kind;
use super::pattern;

/// The keys the sandbox can answer for, in lower case. Any other key is refused when a policy is set:
/// a key that is always absent would quietly change what a policy means.
const KNOWN_KEYS: [&str; 21] = [
    "aws:sourceidentity",
    "sts:sourceidentity",
    "aws:multifactorauthpresent",
    "aws:multifactorauthage",
    "aws:username",
    "aws:userid",
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principaltype",
    "aws:securetransport",
    "aws:useragent",
    "aws:epochtime",
    "aws:requestedregion",
    "s3:prefix",
    "s3:delimiter",
    "s3:max-keys",
    "s3:resourceaccount",
    "sts:externalid",
    "sts:rolesessionname",
    "oidc.example.com:aud",
    "oidc.example.com:sub",
];

/// Whether a policy of that kind may ask about the key, which is in lower case.
fn is_known(key: &str, kind: Kind<'_>) -> bool {
    // No request that meets the policy would ever carry a key of the others.
    let services: &[&str] = match kind {
        Kind::Bucket(_) => &["aws", "s3"],
        Kind::Identity => &["aws", "s3", "sts"],
        Kind::Trust => &["aws", "sts", "oidc.example.com"],
    };
    let service = key.split_once(':').map(|(service, _)| service);
    let is_tag = ["aws:principaltag/", "aws:requesttag/"]
        .iter()
        .any(|prefix| key.len() > prefix.len() && key.starts_with(prefix));
    let is_key = is_tag || KNOWN_KEYS.contains(&key);
    is_key && service.is_some_and(|service| services.contains(&service))
}

/// The context of a request: condition keys and their values, the keys in any case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    values: BTreeMap<String, String>,
}

impl Context {
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.insert(key.to_ascii_lowercase(), value.into());
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Bool,
    Null,
    NumericEquals,
    NumericNotEquals,
    NumericLessThan,
    NumericLessThanEquals,
    NumericGreaterThan,
    NumericGreaterThanEquals,
    StringEquals,
    StringNotEquals,
    StringEqualsIgnoreCase,
    StringNotEqualsIgnoreCase,
    StringLike,
    StringNotLike,
}

/// One line of a condition block: an operator, a key, and the values of which one must match.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    comparison: Comparison,
    if_exists: bool,
    key: String,
    values: Vec<String>,
}

impl Condition {
    pub(crate) fn parse_block(
        block: &Map<String, Value>,
        kind: Kind<'_>,
    ) -> Result<Vec<Self>, MalformedPolicy> {
        let mut conditions = Vec::new();
        for (operator, keys) in block {
            let (comparison, if_exists) = parse_operator(operator)?;
            let Value::Object(keys) = keys else {
                return Err(MalformedPolicy::new(format!(
                    "Syntax errors in policy: {operator} is not an object"
                )));
            };
            for (key, values) in keys {
                let key = key.to_ascii_lowercase();
                if !is_known(&key, kind) {
                    return Err(MalformedPolicy::new(format!(
                        "Policy has an invalid condition key: {key}"
                    )));
                }
                let values = parse_values(comparison, values)?;
                conditions.push(Self {
                    comparison,
                    if_exists,
                    key,
                    values,
                });
            }
        }
        Ok(conditions)
    }

    pub(crate) fn holds(&self, context: &Context) -> bool {
        let present = context.get(&self.key);
        if self.comparison == Comparison::Null {
            let absent = if present.is_none() { "true" } else { "false" };
            return self.values.iter().any(|value| value == absent);
        }
        match present {
            // IAM guide, "IAM JSON policy elements: Condition operators": an absent key fails a
            // condition, passes its ...IfExists form, and passes the negated operators.
            None => self.if_exists || self.is_negated(),
            Some(present) if self.is_negated() => {
                self.values.iter().all(|value| self.compare(present, value))
            }
            Some(present) => self.values.iter().any(|value| self.compare(present, value)),
        }
    }

    fn is_negated(&self) -> bool {
        matches!(
            self.comparison,
            Comparison::NumericNotEquals
                | Comparison::StringNotEquals
                | Comparison::StringNotEqualsIgnoreCase
                | Comparison::StringNotLike
        )
    }

    fn compare(&self, present: &str, value: &str) -> bool {
        use Comparison as C;
        let numbers = || Some((present.parse::<f64>().ok()?, value.parse::<f64>().ok()?));
        let numeric = |test: fn(f64, f64) -> bool| numbers().is_some_and(|(a, b)| test(a, b));
        match self.comparison {
            C::Null => false,
            C::Bool | C::StringEqualsIgnoreCase => present.eq_ignore_ascii_case(value),
            C::NumericEquals => numeric(|a, b| a == b),
            C::NumericNotEquals => numeric(|a, b| a != b),
            C::NumericLessThan => numeric(|a, b| a < b),
            C::NumericLessThanEquals => numeric(|a, b| a <= b),
            C::NumericGreaterThan => numeric(|a, b| a > b),
            C::NumericGreaterThanEquals => numeric(|a, b| a >= b),
            C::StringEquals => present == value,
            C::StringNotEquals => present != value,
            C::StringNotEqualsIgnoreCase => !present.eq_ignore_ascii_case(value),
            C::StringLike => pattern::matches(value, present),
            C::StringNotLike => !pattern::matches(value, present),
        }
    }
}

fn parse_operator(operator: &str) -> Result<(Comparison, bool), MalformedPolicy> {
    use Comparison as C;
    let (name, if_exists) = match operator.strip_suffix("IfExists") {
        Some(name) => (name, true),
        None => (operator, false),
    };
    let comparison = match name {
        "Bool" => C::Bool,
        // There is no NullIfExists.
        "Null" if !if_exists => C::Null,
        "NumericEquals" => C::NumericEquals,
        "NumericNotEquals" => C::NumericNotEquals,
        "NumericLessThan" => C::NumericLessThan,
        "NumericLessThanEquals" => C::NumericLessThanEquals,
        "NumericGreaterThan" => C::NumericGreaterThan,
        "NumericGreaterThanEquals" => C::NumericGreaterThanEquals,
        "StringEquals" => C::StringEquals,
        "StringNotEquals" => C::StringNotEquals,
        "StringEqualsIgnoreCase" => C::StringEqualsIgnoreCase,
        "StringNotEqualsIgnoreCase" => C::StringNotEqualsIgnoreCase,
        "StringLike" => C::StringLike,
        "StringNotLike" => C::StringNotLike,
        _ => {
            return Err(MalformedPolicy::new(format!(
                "Invalid Condition type : {operator}"
            )));
        }
    };
    Ok((comparison, if_exists))
}

fn parse_values(comparison: Comparison, values: &Value) -> Result<Vec<String>, MalformedPolicy> {
    let list = match values {
        Value::Array(list) => list.as_slice(),
        single => std::slice::from_ref(single),
    };
    list.iter()
        .map(|value| parse_value(comparison, value))
        .collect()
}

fn parse_value(comparison: Comparison, value: &Value) -> Result<String, MalformedPolicy> {
    use Comparison as C;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        _ => {
            return Err(MalformedPolicy::new(
                "Syntax errors in policy: a condition value is neither text, number nor flag",
            ));
        }
    };
    match comparison {
        C::Bool | C::Null => {
            let flag = text.to_ascii_lowercase();
            if flag != "true" && flag != "false" {
                return Err(MalformedPolicy::new(format!(
                    "Invalid value {text} for a Bool or Null condition"
                )));
            }
            Ok(flag)
        }
        C::NumericEquals
        | C::NumericNotEquals
        | C::NumericLessThan
        | C::NumericLessThanEquals
        | C::NumericGreaterThan
        | C::NumericGreaterThanEquals => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(text),
            _ => Err(MalformedPolicy::new(format!(
                "Invalid value {text} for a Numeric condition"
            ))),
        },
        _ => {
            super::document::refuse_variables(&text)?;
            Ok(text)
        }
    }
}
