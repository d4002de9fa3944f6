//! `check`: explains, step by step, whether and how a bucket can be mounted.
//!
//! The steps are those of the AWS guides ("Configuring MFA-protected API access", "Requiring MFA"),
//! tried against the real account. Nothing is changed: what may be written is found out with an upload
//! that is begun and aborted, and with the deletion of an object that is not there.

mod report;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use aws_credential_types::Credentials;

use crate::access::{Entry, Purpose};
use crate::auth::iam;
use crate::auth::identity::Origin;
use crate::auth::identity::serial::is_passkey;
use crate::auth::sts::{Caller, Sts, StsError};
use crate::auth::{Asker, Sessions};
use crate::aws::Aws;
use crate::cli::CheckArgs;
use crate::clock::Clock;
use crate::config::{Access, Surroundings, bucket_and_prefix};
use crate::mount::MountError;
use crate::store::inspect::{Inspector, Tried};
use crate::store::limit::Limit;
use crate::store::policy::{self, Rule, Test};
use crate::store::s3::Endpoint;
use crate::store::write::Settings;
use crate::store::{Bucket, Query, StoreError};
use crate::words::tame;
use report::{Outcome, Report, Step};

/// How to get a device that gives codes.
const ADD_DEVICE: &str = "add an authenticator app: IAM console, Security credentials, Assign MFA \
                          device";

/// Checks a bucket and prints what was found.
pub(crate) async fn run(args: Box<CheckArgs>, env: &Surroundings) -> Result<(), MountError> {
    let (bucket, prefix) = bucket_and_prefix(&args.bucket)?;
    let access = Access::new(&args.access, env).await?;
    let purpose = Purpose {
        lines: vec![("Bucket", args.bucket.clone()), ("For", "check".to_owned())],
        bucket: None,
        attached: Arc::new(AtomicBool::new(true)),
    };
    let Entry { aws, ladder } = crate::access::entry(&access, purpose)?;
    let clock: Arc<dyn Clock> = Arc::new(aws.clock.clone());
    let sessions = Sessions::new(ladder, clock, access.patience);
    let endpoint = Endpoint {
        region: aws.endpoints.region.clone(),
        aws: Arc::clone(&aws),
        max_requests: 8,
        settings: Settings {
            requester_pays: args.requester_pays,
            expected_bucket_owner: args.expected_bucket_owner.clone(),
            ..Settings::default()
        },
        download: Arc::new(Limit::new(None)),
        prefix: prefix.clone(),
        remembered: None,
        pause: crate::store::s3::PAUSE,
    };
    let mut check = Check {
        report: Report::new(&args.bucket, args.json),
        sts: Sts::new(Arc::clone(&aws)),
        gate: Bucket::new(&bucket, endpoint.clone(), Arc::clone(&sessions)),
        absent: format!("{prefix}.s3mfa-mount-check"),
        profile: args.access.profile.clone(),
        aws,
        access,
        sessions,
        endpoint,
        bucket,
        prefix,
        is_authentication: true,
    };
    let done = check.steps().await;
    done.map_err(|error| MountError::Other(format!("the report cannot be printed: {error}")))?;
    check
        .report
        .finish()
        .map_err(|error| MountError::Other(error.to_string()))?;
    match check.report.mountable {
        true => Ok(()),
        false => {
            let text = format!("{} cannot be mounted like this", args.bucket);
            Err(match check.is_authentication {
                true => MountError::Auth(text),
                false => MountError::Bucket(text),
            })
        }
    }
}

struct Check {
    report: Report,
    access: Access,
    profile: Option<String>,
    aws: Arc<Aws>,
    sts: Sts,
    sessions: Arc<Sessions>,
    endpoint: Endpoint,
    gate: Bucket,
    bucket: String,
    prefix: String,
    /// A key that is not there.
    absent: String,
    /// Whether it is still about who wants in, rather than about the bucket.
    is_authentication: bool,
}

type Told = std::io::Result<()>;

impl Check {
    async fn steps(&mut self) -> Told {
        let keys = match &self.access.identity.origin {
            Origin::Keys(keys) => Some(keys.clone()),
            // These are found out by logging in.
            _ => None,
        };
        self.keys(keys.as_ref())?;
        let mut caller = None;
        if let Some(keys) = &keys {
            match self.identity(keys).await? {
                Some(found) => caller = Some(found),
                // Without a good key nothing else can be said.
                None => return Ok(()),
            }
        }
        self.clock()?;
        let long_term = keys.filter(|keys| keys.session_token().is_none());
        let mut without = None;
        if let Some(keys) = &long_term {
            self.device(keys, caller.as_ref()).await?;
            without = Some(self.without_mfa(keys).await?);
        }
        if let Some(Tried::Failed(_)) = without {
            self.is_authentication = false;
            return Ok(());
        }
        self.session(caller.is_none()).await
    }

    fn keys(&mut self, keys: Option<&Credentials>) -> Told {
        let identity = &self.access.identity;
        let name = tame(&identity.profile);
        let (outcome, text) = match (&identity.origin, keys) {
            (_, Some(keys)) if keys.session_token().is_none() => (
                Outcome::Ok,
                format!("{name}: long-term keys, which may ask for sessions"),
            ),
            (_, Some(_)) => (
                Outcome::Note,
                format!("{name}: temporary keys, which are used as they are: no code can add MFA"),
            ),
            (Origin::Sso(sso), _) => (
                Outcome::Note,
                format!("{name}: IAM Identity Center at {}", tame(&sso.start_url)),
            ),
            (Origin::Process(_), _) => (
                Outcome::Note,
                format!("{name}: keys of its credential_process"),
            ),
            (origin, _) => (Outcome::Note, format!("{name}: keys of {}", place(origin))),
        };
        self.tell("keys", outcome, text, None)
    }

    /// Who the keys belong to; `None` if they are no good.
    async fn identity(&mut self, keys: &Credentials) -> std::io::Result<Option<Caller>> {
        let (outcome, text, fix, caller) = match self.sts.caller(keys).await {
            Ok(caller) => (Outcome::Ok, caller.arn.clone(), None, Some(caller)),
            Err(StsError::UnknownKey) => (
                Outcome::Problem,
                format!(
                    "AWS does not know the access key {}: it is deleted, or disabled",
                    tame(keys.access_key_id())
                ),
                Some(
                    "IAM console, Security credentials, Access keys: activate it or create a new \
                     one, then `aws configure`"
                        .to_owned(),
                ),
                None,
            ),
            Err(StsError::Ended) => (
                Outcome::Problem,
                "the keys are temporary, and have expired".to_owned(),
                Some("get new ones, or name the profile with the long-term keys".to_owned()),
                None,
            ),
            Err(error @ (StsError::Unreachable { .. } | StsError::Unavailable(_))) => {
                (Outcome::Problem, error.to_string(), None, None)
            }
            // Other stores may not know the question; the keys may be as good as any.
            Err(StsError::Unsupported(_)) => (
                Outcome::Unknown,
                "this store does not tell whose keys they are".to_owned(),
                None,
                Some(Caller {
                    arn: String::new(),
                    account: String::new(),
                }),
            ),
            Err(error) => (Outcome::Problem, error.to_string(), None, None),
        };
        self.tell("who", outcome, text, fix)?;
        Ok(caller)
    }

    fn clock(&mut self) -> Told {
        let complaint = self.aws.clock.complaint();
        match complaint.as_str() {
            "" => self.tell("clock", Outcome::Ok, "as AWS's".to_owned(), None),
            _ => {
                let (text, fix) = complaint.split_once(". ").unwrap_or((&complaint, ""));
                self.tell(
                    "clock",
                    Outcome::Problem,
                    text.to_owned(),
                    Some(fix.to_owned()),
                )
            }
        }
    }

    async fn device(&mut self, keys: &Credentials, caller: Option<&Caller>) -> Told {
        let user = caller.and_then(Caller::user);
        let listed = iam::mfa_devices(&self.aws, keys, user).await;
        let named = self.access.identity.serial.clone();
        let (outcome, text, fix) = match (listed, named) {
            (Ok(all), named) => {
                let (passkeys, codes): (Vec<_>, Vec<_>) =
                    all.into_iter().partition(|serial| is_passkey(serial));
                let shown = |serials: &[String]| {
                    let shown: Vec<_> = serials.iter().map(|serial| tame(serial)).collect();
                    shown.join(", ")
                };
                match (named, codes.as_slice()) {
                    (Some(named), codes) if codes.iter().any(|code| code == named.as_str()) => {
                        (Outcome::Ok, tame(named.as_str()), None)
                    }
                    (Some(named), codes) if !codes.is_empty() => (
                        Outcome::Problem,
                        format!(
                            "{} is not one of this user's devices, which are: {}",
                            tame(named.as_str()),
                            shown(codes)
                        ),
                        codes
                            .first()
                            .map(|right| format!("mfa_serial = {}", tame(right))),
                    ),
                    (_, []) if !passkeys.is_empty() => (
                        Outcome::Problem,
                        format!(
                            "only a passkey or security key ({}), which gives no code for AWS's API",
                            shown(&passkeys)
                        ),
                        Some(format!(
                            "{ADD_DEVICE}, beside it; or use a profile of `aws login`"
                        )),
                    ),
                    (_, []) => (
                        Outcome::Problem,
                        "this user has no MFA device".to_owned(),
                        Some(ADD_DEVICE.to_owned()),
                    ),
                    (None, codes) => (
                        Outcome::Note,
                        format!("none in the profile; IAM knows {}", shown(codes)),
                        codes
                            .first()
                            .map(|code| format!("mfa_serial = {}", tame(code))),
                    ),
                    (Some(_), _) => (Outcome::Unknown, "not found out".to_owned(), None),
                }
            }
            (Err(error), Some(named)) => (
                Outcome::Unknown,
                format!(
                    "{}, which cannot be compared: {error}",
                    tame(named.as_str())
                ),
                None,
            ),
            (Err(error), None) => (
                Outcome::Unknown,
                format!("none in the profile, and {error}"),
                Some("mfa_serial = arn:aws:iam::ACCOUNT:mfa/NAME in ~/.aws/config".to_owned()),
            ),
        };
        self.tell("device", outcome, text, fix)
    }

    /// Whether the keys get in without MFA, which they must not.
    async fn without_mfa(&mut self, keys: &Credentials) -> std::io::Result<Tried> {
        let inspector = Inspector::new(&self.endpoint, &self.bucket, keys).await;
        let tried = inspector.list(&self.prefix).await;
        let (outcome, text, fix) = match &tried {
            Tried::Allowed => {
                let advice = format!(
                    "to demand MFA of everybody: s3mfa-mount policy {} --kind bucket",
                    self.bucket
                );
                (
                    Outcome::Note,
                    "the keys get in without MFA: this bucket does not demand it of them"
                        .to_owned(),
                    Some(advice),
                )
            }
            Tried::Denied(_) => (Outcome::Ok, "refused, as it should be".to_owned(), None),
            Tried::Failed(failure) => (
                Outcome::Problem,
                match failure.kind {
                    crate::store::failure::Kind::NotFound => {
                        format!("there is no bucket {:?}", self.bucket)
                    }
                    _ => format!("the bucket cannot be reached: {}", failure.text),
                },
                Some("check its name, the region and --endpoint-url".to_owned()),
            ),
        };
        self.tell("without MFA", outcome, text, fix)?;
        if matches!(tried, Tried::Denied(_)) {
            self.session_without_mfa(keys).await?;
        }
        Ok(tried)
    }

    /// A session of the same user that no code was given for. Where this one gets in and the keys do
    /// not, the policy tests whether there is an MFA key rather than whether it is true.
    async fn session_without_mfa(&mut self, keys: &Credentials) -> Told {
        let Ok(issued) = self.sts.session_without_mfa(keys).await else {
            return Ok(());
        };
        let inspector = Inspector::new(&self.endpoint, &self.bucket, &issued.credentials).await;
        if !inspector.list(&self.prefix).await.is_allowed() {
            return Ok(());
        }
        let text = "a session gets in although no code was given for it: the policy tests whether \
                    aws:MultiFactorAuthPresent is there (Null), and in sessions it is, and false"
            .to_owned();
        let fix = format!(
            "its owner should test the age instead: s3mfa-mount policy {} --kind bucket",
            self.bucket
        );
        self.tell("without MFA", Outcome::Note, text, Some(fix))
    }

    /// Logs in, and tries what the session opens.
    async fn session(&mut self, is_unknown: bool) -> Told {
        let asker = Asker::person();
        let query = Query {
            prefix: self.prefix.clone(),
            limit: Some(1),
            ..Query::default()
        };
        let listed = match self.sessions.current(&asker).await {
            Ok(_) => self.gate.list(&asker, &query).await.map(drop),
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
        self.is_authentication = false;
        if is_unknown && let Some(session) = self.sessions.live() {
            self.identity(&session.credentials).await?;
        }
        let rung = self.sessions.rung();
        let name = rung.map_or("none", crate::auth::Rung::name);
        let has_mfa = rung.is_some_and(crate::auth::Rung::has_mfa);
        let carries = match has_mfa {
            true => "which carries MFA to S3",
            false => "which carries no MFA to S3",
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
        self.entrance(&list, &get, &rules, has_mfa)?;
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

    fn entrance(&mut self, list: &Tried, get: &Tried, rules: &[Rule], has_mfa: bool) -> Told {
        match (list, get) {
            (Tried::Allowed, _) => self.tell("list", Outcome::Ok, "allowed".to_owned(), None)?,
            (Tried::Denied(_), Tried::Allowed) => self.tell(
                "list",
                Outcome::Problem,
                "denied (s3:ListBucket): directories cannot be shown, only files whose names are \
                 known can be opened"
                    .to_owned(),
                Some(format!(
                    "allow s3:ListBucket on arn:aws:s3:::{} to this user",
                    self.bucket
                )),
            )?,
            (Tried::Denied(text), _) => {
                let wants_mfa = rules.iter().any(|rule| rule.denies);
                let fix = match (has_mfa, wants_mfa) {
                    (true, _) => format!(
                        "it denies this session with MFA as well: its policy, or the user's, locks \
                         you out. A user with s3:PutBucketPolicy, or else the account's root user, \
                         can mend it: aws s3api delete-bucket-policy --bucket {}",
                        self.bucket
                    ),
                    (false, true) => "it wants MFA, which this session does not carry: use the \
                                      long-term keys of a user with an MFA device (mfa_serial in \
                                      the profile)"
                        .to_owned(),
                    (false, false) => {
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
                    "allow s3:GetObject on arn:aws:s3:::{}/* to this user",
                    self.bucket
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
            let (outcome, text) = match tried {
                Tried::Allowed => (Outcome::Ok, "allowed".to_owned()),
                Tried::Denied(_) => (Outcome::Note, format!("denied ({permission})")),
                Tried::Failed(failure) => (Outcome::Unknown, failure.text.clone()),
            };
            self.tell(name, outcome, text, None)?;
        }
        Ok(())
    }

    /// The command that mounts it.
    fn command(&self, writes: bool) -> String {
        let mut command = "s3mfa-mount".to_owned();
        if let Some(profile) = &self.profile {
            command.push_str(&format!(" --profile {profile}"));
        }
        if !writes {
            command.push_str(" --read-only");
        }
        let source = match self.prefix.as_str() {
            "" => self.bucket.clone(),
            prefix => format!("{}/{}", self.bucket, prefix.trim_end_matches('/')),
        };
        format!("{command} {source} DIRECTORY")
    }

    fn tell(
        &mut self,
        name: &'static str,
        outcome: Outcome,
        text: String,
        fix: Option<String>,
    ) -> Told {
        self.report.tell(Step {
            name,
            outcome,
            text,
            fix,
        })
    }
}

/// Where keys come from, in words.
fn place(origin: &Origin) -> &'static str {
    match origin {
        Origin::Instance => "this instance",
        Origin::Container => "this container",
        Origin::WebIdentity { .. } => "a web identity",
        Origin::Login(_) => "`aws login`",
        Origin::Keys(_) | Origin::Process(_) | Origin::Sso(_) => "the profile",
    }
}
