//! What the session opens: the policy's words, and what may be done.

use super::report::Outcome;
use super::{Check, Told};
use crate::auth::{Asker, Rung};
use crate::mount::wrong_secret;
use crate::store::inspect::{Inspector, Tried};
use crate::store::policy::{self, Rule, Test};
use crate::store::{Query, StoreError};

/// Whether a session carries MFA to S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mfa {
    Carried,
    None,
    Untold,
}

/// Whether who may list what is under a prefix has given a code, if these are the policy's rules: it
/// denies that to temporary keys without MFA.
fn demand_mfa(rules: &[Rule], prefix: &str) -> bool {
    let tests_sessions = |rule: &&Rule| {
        matches!(
            rule.test,
            Test::NoAge | Test::NotPresent | Test::NotPresentWhereItExists
        )
    };
    let mut rules = rules.iter().filter(tests_sessions);
    rules.any(|rule| rule.denies && prefix.starts_with(&rule.prefix))
}

impl Check {
    /// Logs in, and tries what the session opens.
    pub(super) async fn session(&mut self, is_unknown: bool) -> Told {
        let asker = Asker::person();
        let query = Query {
            prefix: self.prefix.clone(),
            limit: Some(1),
            ..Query::default()
        };
        let listed = match self.sessions.current(&asker).await {
            Ok(_) => self.gate.names(&asker, &query).await.map(drop),
            Err(error) => Err(error.into()),
        };
        if let Err(StoreError::Session(error)) = &listed {
            let text = error.to_string();
            return self.tell("session", Outcome::Problem, text, None);
        }
        let Some(lease) = self.gate.lease() else {
            let text = "the session has ended at once".to_owned();
            return self.tell("session", Outcome::Problem, text, None);
        };
        self.is_authentication = self.sessions.is_without_device();
        let session = self.sessions.live();
        if is_unknown && let Some(session) = &session {
            self.identity(&session.credentials).await?;
            self.clock()?;
        }
        let rung = self.sessions.rung();
        let name = rung.map_or("none", Rung::name);
        let is_temporary = session.is_some_and(|s| s.credentials.session_token().is_some());
        let mfa = match rung {
            Some(rung) if rung.has_mfa() => Mfa::Carried,
            // Somebody else has got them, perhaps with a code.
            Some(Rung::Plain) if is_temporary => Mfa::Untold,
            _ => Mfa::None,
        };
        let carries = match mfa {
            Mfa::Carried => "which carries MFA to S3",
            Mfa::None => "which carries no MFA to S3",
            Mfa::Untold => "temporary keys, which may carry MFA to S3 or not",
        };
        self.tell("session", Outcome::Ok, format!("{name}, {carries}"), None)?;
        let inspector = Inspector::of(&lease);
        let rules = self.policy(&inspector).await?;
        let list = match &listed {
            Ok(()) => Tried::Allowed,
            Err(StoreError::Denied(text)) => Tried::Denied(text.clone()),
            Err(error) => {
                let text = error.to_string();
                return self.tell("list", Outcome::Problem, text, None);
            }
        };
        let get = inspector.get(&self.absent).await;
        let may_enter = list.is_allowed() || get.is_allowed();
        if !may_enter && let Some(said) = self.gate.doubt(&self.prefix).await {
            self.is_authentication = true;
            let text = wrong_secret(&self.access.identity.profile, &said);
            return self.tell("secret", Outcome::Problem, text, None);
        }
        if mfa == Mfa::Untold && list.is_allowed() && demand_mfa(&rules, &self.prefix) {
            let text = "carried by these keys: the policy that demands it lets them in";
            self.tell("MFA", Outcome::Ok, text.to_owned(), None)?;
        }
        self.entrance(&list, &get, &rules, mfa)?;
        if !may_enter {
            return Ok(());
        }
        let put = inspector.put(&self.absent).await;
        let delete = inspector.delete(&self.absent).await;
        self.changes(&put, &delete)?;
        if inspector.mfa_delete().await == Some(true) {
            let text =
                "versions can be deleted with MFA only (MFA Delete), which this program does \
                        not do: deleting leaves a marker, as in every versioned bucket"
                    .to_owned();
            self.tell("MFA Delete", Outcome::Note, text, None)?;
        }
        self.report.mountable = true;
        self.report.command = Some(self.command(put.is_allowed()));
        Ok(())
    }

    /// What the policy says, if it may be read.
    async fn policy(&mut self, inspector: &Inspector) -> std::io::Result<Vec<Rule>> {
        let (outcome, text, rules) = match inspector.policy().await {
            Ok(Some(text)) => {
                let rules = policy::rules(&text);
                let words: Vec<_> = rules.iter().map(Rule::words).collect();
                match words.as_slice() {
                    [] => (Outcome::Ok, "says nothing about MFA".to_owned(), rules),
                    words => (Outcome::Ok, words.join("; "), rules),
                }
            }
            Ok(None) => (Outcome::Ok, "the bucket has none".to_owned(), Vec::new()),
            Err(_) => (
                Outcome::Unknown,
                "may not be read (s3:GetBucketPolicy): an age limit shows when S3 denies"
                    .to_owned(),
                Vec::new(),
            ),
        };
        self.tell("policy", outcome, text, None)?;
        for rule in &rules {
            let (text, better) = match rule.test {
                Test::NotPresentWhereItExists if rule.denies => (
                    "long-term keys pass this policy without MFA: they carry no \
                     aws:MultiFactorAuthPresent",
                    "BoolIfExists instead of Bool",
                ),
                _ => continue,
            };
            let fix = Some(format!("its owner should write {better}"));
            self.tell("policy", Outcome::Note, text.to_owned(), fix)?;
        }
        if let Some(age) = policy::age_limit(&rules, &self.prefix) {
            let text = format!(
                "a new code every {} s, while the mount is used",
                age.as_secs()
            );
            self.tell("age limit", Outcome::Ok, text, None)?;
        }
        Ok(rules)
    }

    fn entrance(&mut self, list: &Tried, get: &Tried, rules: &[Rule], mfa: Mfa) -> Told {
        match (list, get) {
            (Tried::Allowed, _) => self.tell("list", Outcome::Ok, "allowed".to_owned(), None)?,
            (Tried::Denied(_), Tried::Allowed) => self.tell(
                "list",
                Outcome::Problem,
                "denied (s3:ListBucket): directories cannot be shown, only files whose names are \
                 known can be opened"
                    .to_owned(),
                Some(format!(
                    "allow s3:ListBucket on {} to this user",
                    self.arn()
                )),
            )?,
            (Tried::Denied(text), _) => {
                let wants_mfa = rules.iter().any(|rule| rule.denies);
                // AWS's words: IAM user guide, "Troubleshoot access denied error messages".
                let is_missing = text.contains("because no identity-based policy allows");
                let is_own = text.contains("explicit deny in an identity-based policy");
                let fix = match (mfa, wants_mfa) {
                    _ if is_missing => format!(
                        "nothing allows it: add s3:ListBucket on {0} and s3:GetObject on {0}/* to the \
                         policy of the user or role that is named",
                        self.arn()
                    ),
                    (Mfa::Carried, _) if is_own => {
                        "the user's or role's own policy denies it, with MFA as well: its statements \
                         with Deny"
                            .to_owned()
                    }
                    (Mfa::Carried, _) => format!(
                        "it denies this session with MFA as well: its policy, or the user's, locks \
                         you out. A user with s3:PutBucketPolicy, or else the account's root user, \
                         can mend it: aws s3api delete-bucket-policy --bucket {}",
                        self.bucket
                    ),
                    (Mfa::None, true) => "it wants MFA, which this session does not carry: use the \
                                      long-term keys of a user with an MFA device (mfa_serial in \
                                      the profile)"
                        .to_owned(),
                    (Mfa::Untold, _) => "it wants MFA most likely, which these keys do not carry: whoever \
                                         got them can get new ones with a code (GetSessionToken). Or \
                                         name the profile with the long-term keys of a user with an \
                                         MFA device"
                        .to_owned(),
                    (Mfa::None, false) => {
                        "it wants MFA most likely, which this session does not carry: \
                                       the long-term keys of a user with an MFA device (see \
                                       `device`) are asked for a code. If not, allow s3:ListBucket \
                                       and s3:GetObject on it to this user"
                            .to_owned()
                    }
                };
                self.tell(
                    "list",
                    Outcome::Problem,
                    format!("denied: {text}"),
                    Some(fix),
                )?;
            }
            (Tried::Failed(failure), _) => {
                let text = failure.text.clone();
                self.tell("list", Outcome::Problem, text, None)?;
            }
        }
        match get {
            Tried::Allowed => self.tell("get", Outcome::Ok, "allowed".to_owned(), None),
            Tried::Denied(text) => {
                let fix = format!(
                    "allow s3:GetObject on {}/{}* to this user",
                    self.arn(),
                    self.prefix
                );
                self.tell(
                    "get",
                    Outcome::Problem,
                    format!("denied: {text}"),
                    Some(fix),
                )
            }
            Tried::Failed(failure) => {
                self.tell("get", Outcome::Unknown, failure.text.clone(), None)
            }
        }
    }

    fn changes(&mut self, put: &Tried, delete: &Tried) -> Told {
        for (name, tried, permission) in [
            ("put", put, "s3:PutObject"),
            ("delete", delete, "s3:DeleteObject"),
        ] {
            let (outcome, text, fix) = match tried {
                Tried::Allowed => (Outcome::Ok, "allowed".to_owned(), None),
                Tried::Denied(_) => (
                    Outcome::Note,
                    format!("denied ({permission})"),
                    Some(format!(
                        "to write: allow {permission} on {}/{}* to this user",
                        self.arn(),
                        self.prefix
                    )),
                ),
                Tried::Failed(failure) => (Outcome::Unknown, failure.text.clone(), None),
            };
            self.tell(name, outcome, text, fix)?;
        }
        Ok(())
    }

    /// The bucket's, for policies.
    fn arn(&self) -> String {
        let endpoints = &self.aws.endpoints;
        let partition = crate::aws::partition_of_region(&endpoints.region);
        format!("arn:{partition}:s3:::{}", self.bucket)
    }

    /// The command that mounts it.
    fn command(&self, writes: bool) -> String {
        let mut command = format!("s3mfa-mount{}", self.options);
        if !writes {
            command.push_str(" --read-only");
        }
        let source = match self.prefix.as_str() {
            "" => self.bucket.clone(),
            prefix => format!("{}/{}", self.bucket, prefix.trim_end_matches('/')),
        };
        format!("{command} {source} DIRECTORY")
    }
}
