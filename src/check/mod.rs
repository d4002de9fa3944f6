//! `check`: explains, step by step, whether and how a bucket can be mounted.
//!
//! The steps are those of the AWS guides ("Configuring MFA-protected API access", "Requiring MFA"),
//! tried against the real account. Nothing is changed: what may be written is found out with an upload
//! that is begun and aborted, and with the deletion of an object that is not there.

mod access;
mod bucket;
mod report;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use aws_credential_types::Credentials;
use clap::CommandFactory;

use crate::access::{Entry, Purpose};
use crate::auth::Sessions;
use crate::auth::identity::{Origin, Way};
use crate::auth::origin;
use crate::auth::sts::Sts;
use crate::aws::Aws;
use crate::cli::{CheckArgs, Cli};
use crate::clock::Clock;
use crate::config::{Access, Surroundings, bucket_and_prefix};
use crate::mount::MountError;
use crate::store::Bucket;
use crate::store::inspect::Tried;
use crate::store::limit::Limit;
use crate::store::s3::Endpoint;
use crate::store::write::Settings;
use access::Who;
use report::{Outcome, Report, Step};

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
            requester_pays: args.owner.requester_pays,
            expected_bucket_owner: args.owner.expected_bucket_owner.clone(),
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
        options: options(),
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
    /// What was said on the command line, for the command that mounts.
    options: String,
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

/// The options of this command line that a mount wants as well, as a shell reads them.
fn options() -> String {
    let definitions = Cli::command();
    let takes_value = |name: &str| {
        let check = definitions.find_subcommand("check");
        let known = check.and_then(|check| {
            check
                .get_arguments()
                .find(|arg| arg.get_long() == Some(name))
        });
        known.is_some_and(|arg| arg.get_action().takes_values())
    };
    let mut args = std::env::args_os().skip(1);
    let mut options = String::new();
    let mut add = |word: &str| {
        options.push(' ');
        options.push_str(&in_shell(word));
    };
    while let Some(arg) = args.next() {
        let arg = arg.to_string_lossy();
        let Some(name) = arg.strip_prefix("--").filter(|name| !name.is_empty()) else {
            // The command, and the bucket.
            continue;
        };
        if name == "json" {
            continue;
        }
        add(&arg);
        if takes_value(name)
            && let Some(value) = args.next()
        {
            add(&value.to_string_lossy());
        }
    }
    options
}

/// Quotes a word for a shell, if it needs that.
fn in_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

impl Check {
    async fn steps(&mut self) -> Told {
        let keys = match &self.access.identity.origin {
            Origin::Keys(keys) => Some(keys.clone()),
            Origin::Process(command) => {
                match origin::process(command, self.aws.clock.now()).await {
                    Ok(issued) => Some(issued.credentials),
                    Err(why) => {
                        return self.tell("keys", Outcome::Problem, why, None);
                    }
                }
            }
            // These are found out by logging in.
            _ => None,
        };
        self.keys(keys.as_ref())?;
        let mut caller = None;
        if let Some(keys) = &keys {
            match self.identity(keys).await? {
                Who::Known(found) => caller = Some(found),
                Who::Untold => {}
                // Without a good key nothing else can be said.
                Who::Nobody => return Ok(()),
            }
            self.clock()?;
        }
        let long_term = keys.as_ref().filter(|keys| keys.session_token().is_none());
        let mut without = None;
        if let Some(keys) = long_term {
            if self.access.identity.way != Way::Plain {
                self.device(keys, caller.as_ref()).await?;
            }
            without = Some(self.without_mfa(keys).await?);
        }
        if let Some(Tried::Failed(_)) = without {
            self.is_authentication = false;
            return Ok(());
        }
        self.session(keys.is_none()).await
    }

    /// Whether a session of these keys is STS's to grant. Keys that are used as they are need none, and
    /// many a store has none.
    fn needs_sts(&self, keys: &Credentials) -> bool {
        let identity = &self.access.identity;
        let is_long_term = keys.session_token().is_none();
        match identity.way {
            Way::Plain => false,
            Way::Auto => !identity.roles.is_empty() || (is_long_term && identity.serial.is_some()),
            _ => true,
        }
    }

    /// Whether there is no STS that could know the keys: AWS's own knows none of another store.
    fn has_no_sts(&self) -> bool {
        let endpoints = &self.aws.endpoints;
        !endpoints.is_s3_of_aws() && endpoints.urls.sts.is_none()
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
