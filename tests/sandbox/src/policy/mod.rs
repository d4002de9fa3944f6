//! IAM policies: their text, and the decision.
//!
//! Pure: nothing here knows HTTP, sessions or time. What the sandbox does not understand is refused
//! when a policy is set, never ignored when it is evaluated.

pub(crate) mod condition;
pub(crate) mod document;
pub(crate) mod evaluate;
pub(crate) mod pattern;
pub(crate) mod principal;

#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub(crate) use document::{Kind, Policy};
pub(crate) use evaluate::{Decision, Question, Rule, Side, decide};
pub(crate) use principal::Principal;

/// The refusal of a policy that AWS would call malformed, or that the sandbox does not understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedPolicy {
    code: &'static str,
    message: String,
    /// The principal that is to blame, which IAM names and S3 does not.
    principal: Option<String>,
}

impl MalformedPolicy {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            code: "MalformedPolicy",
            message: message.into(),
            principal: None,
        }
    }

    /// A principal that cannot be, or does not exist.
    pub(crate) fn principal(name: &str) -> Self {
        Self {
            principal: Some(name.to_owned()),
            ..Self::new("Invalid principal in policy")
        }
    }

    /// The same in the words of IAM.
    pub(crate) fn of_iam(mut self) -> Self {
        self.code = "MalformedPolicyDocument";
        if let Some(name) = self.principal.take() {
            self.message = format!("{}: \"AWS\":\"{name}\"", self.message);
        }
        self
    }

    /// Returns AWS's error code: S3's `MalformedPolicy` for the policy of a bucket, IAM's
    /// `MalformedPolicyDocument` for those of users and roles.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Returns what is wrong with the policy, in AWS's words where it has some.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for MalformedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for MalformedPolicy {}

/// A policy's JSON, as text or as a value.
#[derive(Clone, Debug)]
pub struct PolicyJson {
    /// As it was given.
    text: String,
    value: Result<Value, MalformedPolicy>,
}

impl PolicyJson {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_value(self) -> Result<Value, MalformedPolicy> {
        self.value
    }
}

impl From<Value> for PolicyJson {
    fn from(value: Value) -> Self {
        Self {
            text: value.to_string(),
            value: Ok(value),
        }
    }
}

impl From<&Value> for PolicyJson {
    fn from(value: &Value) -> Self {
        Self::from(value.clone())
    }
}

impl From<&str> for PolicyJson {
    fn from(text: &str) -> Self {
        let invalid = |error| MalformedPolicy::new(format!("Policies must be valid JSON: {error}"));
        Self {
            text: text.to_owned(),
            value: serde_json::from_str(text).map_err(invalid),
        }
    }
}

impl From<&String> for PolicyJson {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for PolicyJson {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}
