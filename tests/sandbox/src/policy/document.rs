//! The text of a policy, read strictly.

use serde_json::{Map, Value};

use super::MalformedPolicy;
use super::condition::Condition;
use super::principal::{PrincipalPattern, principals};

/// What a policy is attached to. It decides which elements the policy may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// A bucket policy: every statement names principals, and only this bucket's resources.
    Bucket(&'a str),
    /// The policy of a user or a role, who is the principal.
    Identity,
    /// The trust policy of a role, which is the resource: every statement names principals.
    Trust,
}

/// A policy that was read and understood as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) statements: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) effect: Effect,
    /// Always `None` in an identity policy.
    pub(crate) principals: Option<Listed<PrincipalPattern>>,
    pub(crate) actions: Listed<String>,
    /// Always `None` in a trust policy.
    pub(crate) resources: Option<Listed<String>>,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// An element or its `Not` form: `Action` or `NotAction`, and so on.
#[derive(Clone, Debug)]
pub(crate) enum Listed<T> {
    Any(Vec<T>),
    Not(Vec<T>),
}

impl<T> Listed<T> {
    pub(crate) fn items(&self) -> &[T] {
        match self {
            Self::Any(items) | Self::Not(items) => items,
        }
    }

    /// Tells whether the element covers something, given the test for one item.
    pub(crate) fn covers(&self, matches: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Any(items) => items.iter().any(matches),
            Self::Not(items) => !items.iter().any(matches),
        }
    }
}

impl Policy {
    pub(crate) fn parse(document: &Value, kind: Kind<'_>) -> Result<Self, MalformedPolicy> {
        Self::read(document, kind).map_err(|malformed| match kind {
            Kind::Bucket(_) => malformed,
            Kind::Identity | Kind::Trust => malformed.of_iam(),
        })
    }

    fn read(document: &Value, kind: Kind<'_>) -> Result<Self, MalformedPolicy> {
        let Value::Object(document) = document else {
            return Err(syntax("the policy is not an object"));
        };
        only_elements(document, &["Version", "Id", "Statement"])?;
        match document.get("Version") {
            None => {}
            Some(Value::String(version)) if version == "2012-10-17" || version == "2008-10-17" => {}
            Some(_) => {
                return Err(MalformedPolicy::new(
                    "The policy must contain a valid version string",
                ));
            }
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(list)) => list.as_slice(),
            Some(single @ Value::Object(_)) => std::slice::from_ref(single),
            _ => return Err(MalformedPolicy::new("Missing required field Statement")),
        };
        if statements.is_empty() {
            return Err(MalformedPolicy::new(
                "Could not parse the policy: Statement is empty!",
            ));
        }
        let statements = statements
            .iter()
            .map(|statement| Statement::parse(statement, kind));
        Ok(Self {
            statements: statements.collect::<Result<_, _>>()?,
        })
    }

    /// The ARNs that the policy names as principals; it may only name what exists.
    pub(crate) fn named_arns(&self) -> impl Iterator<Item = &str> {
        let principals = self
            .statements
            .iter()
            .filter_map(|statement| statement.principals.as_ref());
        principals
            .flat_map(Listed::items)
            .filter_map(|principal| match principal {
                PrincipalPattern::Arn(arn) => Some(arn.as_str()),
                _ => None,
            })
    }
}

impl Statement {
    fn parse(statement: &Value, kind: Kind<'_>) -> Result<Self, MalformedPolicy> {
        let Value::Object(statement) = statement else {
            return Err(syntax("a statement is not an object"));
        };
        only_elements(
            statement,
            &[
                "Sid",
                "Effect",
                "Principal",
                "NotPrincipal",
                "Action",
                "NotAction",
                "Resource",
                "NotResource",
                "Condition",
            ],
        )?;
        let effect = match statement.get("Effect") {
            Some(Value::String(effect)) if effect == "Allow" => Effect::Allow,
            Some(Value::String(effect)) if effect == "Deny" => Effect::Deny,
            Some(_) => return Err(MalformedPolicy::new("Invalid effect")),
            None => return Err(MalformedPolicy::new("Missing required field Effect")),
        };
        let actions = listed(statement, "Action", "NotAction", strings)?;
        let prohibit = |names: [&str; 2]| match names.iter().find(|n| statement.contains_key(**n)) {
            Some(name) => Err(MalformedPolicy::new(format!("Has prohibited field {name}"))),
            None => Ok(()),
        };
        let principals = if kind == Kind::Identity {
            if statement.contains_key("Principal") || statement.contains_key("NotPrincipal") {
                return Err(MalformedPolicy::new(
                    "Policy document should not specify a principal.",
                ));
            }
            None
        } else {
            let read = |name: &str, value: &Value| principals(name, value, kind);
            Some(listed(statement, "Principal", "NotPrincipal", read)?)
        };
        let resources = if kind == Kind::Trust {
            prohibit(["Resource", "NotResource"])?;
            None
        } else {
            Some(listed(statement, "Resource", "NotResource", strings)?)
        };
        let conditions = match statement.get("Condition") {
            None => Vec::new(),
            Some(Value::Object(block)) => Condition::parse_block(block, kind)?,
            Some(_) => return Err(syntax("Condition is not an object")),
        };
        for action in actions.items() {
            check_action(action, kind)?;
        }
        for resource in resources.iter().flat_map(Listed::items) {
            refuse_variables(resource)?;
            if let Kind::Bucket(bucket) = kind {
                check_bucket_resource(resource, bucket)?;
            }
        }
        if let (Kind::Bucket(_), Listed::Any(actions), Some(Listed::Any(resources))) =
            (kind, &actions, &resources)
        {
            check_actions_apply(actions, resources)?;
        }
        Ok(Self {
            effect,
            principals,
            actions,
            resources,
            conditions,
        })
    }
}

pub(crate) fn syntax(what: impl AsRef<str>) -> MalformedPolicy {
    MalformedPolicy::new(format!("Syntax errors in policy: {}", what.as_ref()))
}

fn only_elements(object: &Map<String, Value>, known: &[&str]) -> Result<(), MalformedPolicy> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => Err(MalformedPolicy::new(format!("Unknown field {unknown}"))),
        None => Ok(()),
    }
}

fn listed<T>(
    statement: &Map<String, Value>,
    name: &str,
    not_name: &str,
    parse: impl Fn(&str, &Value) -> Result<Vec<T>, MalformedPolicy>,
) -> Result<Listed<T>, MalformedPolicy> {
    match (statement.get(name), statement.get(not_name)) {
        (Some(_), Some(_)) => Err(syntax(format!("both {name} and {not_name}"))),
        (Some(value), None) => Ok(Listed::Any(parse(name, value)?)),
        (None, Some(value)) => Ok(Listed::Not(parse(not_name, value)?)),
        (None, None) => Err(MalformedPolicy::new(format!(
            "Missing required field {name}"
        ))),
    }
}

pub(crate) fn strings(name: &str, value: &Value) -> Result<Vec<String>, MalformedPolicy> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(syntax(format!("{name} holds something that is not text"))),
    };
    match value {
        Value::Array(list) if list.is_empty() => Err(syntax(format!("{name} is empty"))),
        Value::Array(list) => list.iter().map(text).collect(),
        single => Ok(vec![text(single)?]),
    }
}

fn check_action(action: &str, kind: Kind<'_>) -> Result<(), MalformedPolicy> {
    if kind == Kind::Trust {
        return check_trust_action(action);
    }
    if action == "*" {
        return Ok(());
    }
    let Some((service, name)) = action.split_once(':') else {
        return Err(MalformedPolicy::new(
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ));
    };
    let in_bucket_policy = matches!(kind, Kind::Bucket(_));
    if name.is_empty() || (in_bucket_policy && !service.eq_ignore_ascii_case("s3")) {
        return Err(MalformedPolicy::new("Policy has invalid action"));
    }
    Ok(())
}

/// The actions of AWS's that a trust policy may name.
fn check_trust_action(action: &str) -> Result<(), MalformedPolicy> {
    const KNOWN: [&str; 7] = [
        "sts:assumerole",
        "sts:assumerolewithsaml",
        "sts:assumerolewithwebidentity",
        "sts:setcontext",
        "sts:setsourceidentity",
        "sts:tagsession",
        "sts:*",
    ];
    if KNOWN.contains(&action.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(MalformedPolicy::new(
        "AssumeRole policy may only specify STS AssumeRole actions.",
    ))
}

fn check_bucket_resource(resource: &str, bucket: &str) -> Result<(), MalformedPolicy> {
    let rest = resource
        .strip_prefix("arn:aws:s3:::")
        .and_then(|rest| rest.strip_prefix(bucket));
    match rest {
        Some("" | "*") => Ok(()),
        Some(rest) if rest.starts_with('/') => Ok(()),
        _ => Err(MalformedPolicy::new("Policy has invalid resource")),
    }
}

/// S3 refuses a bucket policy with an action that none of its resources could be the object of, such
/// as `s3:ListBucket` on `bucket/*`.
fn check_actions_apply(actions: &[String], resources: &[String]) -> Result<(), MalformedPolicy> {
    let on_bucket = [
        "s3:listbucket",
        "s3:getbucketlocation",
        "s3:getbucketpolicy",
        "s3:getbucketversioning",
        "s3:listbucketmultipartuploads",
    ];
    let on_objects = [
        "s3:getobject",
        "s3:putobject",
        "s3:deleteobject",
        "s3:abortmultipartupload",
        "s3:listmultipartuploadparts",
        "s3:putobjectacl",
        "s3:putobjecttagging",
    ];
    for action in actions {
        let action = action.to_ascii_lowercase();
        let applies = |resource: &String| {
            let for_objects = resource.contains('/');
            let wildcard = resource.ends_with('*');
            if on_bucket.contains(&action.as_str()) {
                !for_objects
            } else if on_objects.contains(&action.as_str()) {
                for_objects || wildcard
            } else {
                true
            }
        };
        if !resources.iter().any(applies) {
            return Err(MalformedPolicy::new(
                "Action does not apply to any resource(s) in statement",
            ));
        }
    }
    Ok(())
}

/// Policy variables such as `${aws:username}` would otherwise be compared as they stand.
pub(crate) fn refuse_variables(text: &str) -> Result<(), MalformedPolicy> {
    if text.contains("${") {
        return Err(MalformedPolicy::new(format!(
            "policy variables are not supported by the sandbox: {text}"
        )));
    }
    Ok(())
}
