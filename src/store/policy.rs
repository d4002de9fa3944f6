//! What a bucket's policy says about MFA, as far as its own words go: IAM user guide, "IAM JSON policy
//! elements: Condition operators". It is read for people and for good guesses; what counts is S3's
//! answer to each request.

use std::time::Duration;

use serde_json::Value;

/// A statement that has to do with MFA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Whether it denies, rather than allows.
    pub(crate) denies: bool,
    /// What it tests.
    pub(crate) test: Test,
    /// The keys that it is about start like this; empty is the whole bucket.
    pub(crate) prefix: String,
}

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// `Null` of `aws:MultiFactorAuthAge`: only who has given a code has one.
    NoAge,
    /// `BoolIfExists` of `aws:MultiFactorAuthPresent` = false.
    NotPresent,
    /// `Bool` of the same: who has no such key passes, and long-term keys have none.
    NotPresentWhereItExists,
    /// `Null` of the same: who has the key passes, and it may be false.
    NoKey,
    /// `Bool` of the same = true, in a statement that allows.
    Present,
    /// The age of the code is compared with so many seconds.
    Age(Duration),
}

impl Rule {
    /// The rule in words.
    pub(crate) fn words(&self) -> String {
        let what = match self.prefix.as_str() {
            "" => "everything".to_owned(),
            prefix => format!("what is under {}", crate::words::tame(prefix)),
        };
        let verb = if self.denies { "denies" } else { "allows" };
        match self.test {
            Test::NoAge => format!("{verb} {what} unless a code was given"),
            Test::NotPresent => format!("{verb} {what} without MFA"),
            Test::NotPresentWhereItExists => format!(
                "{verb} {what} to sessions without MFA, and lets long-term keys pass, which carry no \
                 aws:MultiFactorAuthPresent"
            ),
            Test::NoKey => format!(
                "{verb} {what} to long-term keys, and lets every session pass, with MFA or without"
            ),
            Test::Present => format!("{verb} {what} with MFA"),
            Test::Age(age) => format!(
                "{verb} {what} when the code is {} than {} s",
                if self.denies { "older" } else { "younger" },
                age.as_secs()
            ),
        }
    }
}

/// Reads the rules of a policy; nothing of one that cannot be read.
pub(crate) fn rules(policy: &str) -> Vec<Rule> {
    let policy: Value = serde_json::from_str(policy).unwrap_or_default();
    let mut rules = Vec::new();
    for statement in list(&policy["Statement"]) {
        let denies = statement["Effect"] == "Deny";
        let prefix = prefix(statement);
        for test in tests(&statement["Condition"], denies) {
            rules.push(Rule {
                denies,
                test,
                prefix: prefix.clone(),
            });
        }
    }
    rules
}

/// How old a code may become for all of the bucket, or for what is under a prefix.
pub(crate) fn age_limit(rules: &[Rule], prefix: &str) -> Option<Duration> {
    let ages = rules.iter().filter_map(|rule| match rule.test {
        Test::Age(age) if prefix.starts_with(&rule.prefix) => Some(age),
        _ => None,
    });
    ages.min()
}

fn tests(condition: &Value, denies: bool) -> Vec<Test> {
    let mut found = Vec::new();
    for (operator, keys) in condition.as_object().into_iter().flatten() {
        for (key, value) in keys.as_object().into_iter().flatten() {
            let value = list(value).next().cloned().unwrap_or_default();
            let text = match &value {
                Value::String(text) => text.to_ascii_lowercase(),
                other => other.to_string(),
            };
            let key = key.to_ascii_lowercase();
            let test = match (operator.as_str(), key.as_str(), text.as_str()) {
                ("Null", "aws:multifactorauthage", "true") => Some(Test::NoAge),
                ("Null", "aws:multifactorauthpresent", "true") => Some(Test::NoKey),
                ("BoolIfExists", "aws:multifactorauthpresent", "false") => Some(Test::NotPresent),
                ("Bool", "aws:multifactorauthpresent", "false") => {
                    Some(Test::NotPresentWhereItExists)
                }
                ("Bool", "aws:multifactorauthpresent", "true") if !denies => Some(Test::Present),
                (operator, "aws:multifactorauthage", seconds) => {
                    let is_limit = match denies {
                        true => operator.starts_with("NumericGreaterThan"),
                        false => operator.starts_with("NumericLessThan"),
                    };
                    let seconds = seconds.parse().ok().filter(|_| is_limit);
                    seconds.map(|seconds| Test::Age(Duration::from_secs(seconds)))
                }
                _ => None,
            };
            found.extend(test);
        }
    }
    found
}

/// What all the keys of a statement's resources start with.
fn prefix(statement: &Value) -> String {
    let prefixes = list(&statement["Resource"]).filter_map(|resource| {
        // arn:aws:s3:::BUCKET/KEY*
        let (_, key) = resource.as_str()?.split_once('/')?;
        Some(key.split(['*', '?']).next().unwrap_or_default().to_owned())
    });
    // Of several the shortest says most; a resource without a key is the bucket itself.
    prefixes.min_by_key(String::len).unwrap_or_default()
}

/// One value or a list of them.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    match value {
        Value::Array(values) => values.iter(),
        single => std::slice::from_ref(single).iter(),
    }
}

#[cfg(test)]
mod tests {
    use s3mfa_sandbox::policies;

    use super::*;

    fn tests_of(policy: &Value) -> Vec<Test> {
        let rules = rules(&policy.to_string());
        rules.into_iter().map(|rule| rule.test).collect()
    }

    #[test]
    fn the_policies_of_the_guides_are_understood() {
        assert_eq!(
            tests_of(&policies::require_mfa_null_age("b")),
            [Test::NoAge]
        );
        assert_eq!(
            tests_of(&policies::require_mfa_bool_if_exists("b")),
            [Test::NotPresent]
        );
        assert_eq!(
            tests_of(&policies::require_mfa_bool("b")),
            [Test::NotPresentWhereItExists]
        );
        assert!(tests_of(&policies::deny_list("b")).is_empty());
        assert!(rules("no policy").is_empty());
    }

    #[test]
    fn an_age_limit_counts_where_it_holds() {
        let rules_of = |policy: &Value| rules(&policy.to_string());
        let hour = Some(Duration::from_secs(3600));
        let whole = rules_of(&policies::require_fresh_mfa("b", 3600));
        assert_eq!(age_limit(&whole, ""), hour);
        assert_eq!(age_limit(&whole, "tax/"), hour);
        let part: Value = serde_json::from_str(
            r#"{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:*",
                "Resource": "arn:aws:s3:::b/tax/*",
                "Condition": {"NumericGreaterThanIfExists": {"aws:MultiFactorAuthAge": "3600"}}}}"#,
        )
        .unwrap();
        let part = rules_of(&part);
        assert_eq!(
            age_limit(&part, ""),
            None,
            "the rest of the bucket has none"
        );
        assert_eq!(age_limit(&part, "tax/2026/"), hour);
        assert_eq!(
            part[0].words(),
            "denies what is under tax/ when the code is older than 3600 s"
        );
    }
}
