//! Arguments and the AWS profile, made into one checked configuration.
//!
//! Everything that can be said wrong is found here, before anything is opened or started.

mod bucket;
mod endpoints;

use std::env::VarError;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;

pub(crate) use bucket::bucket_and_prefix;

use crate::auth::identity::{Asked, Identity, IdentityError, Profiles};
use crate::auth::prompt::Wanted;
use crate::auth::session::Patience;
use crate::aws::{Endpoints, is_aws};
use crate::cli::{AccessArgs, MountArgs};
use crate::fs::{Budget, Look};
use crate::fstab::KernelOptions;
use crate::store::write::Settings;

/// The least memory that pages need, in bytes.
const LEAST_MEMORY: u64 = 4 << 20;

/// How long a request of the kernel may take at most: some renewals, one after another.
const LONGEST_REQUEST: Duration = Duration::from_secs(1800);

/// What was said wrong. The exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

/// One mount, checked.
pub(crate) struct Config {
    pub(crate) bucket: String,
    /// Empty, or ends with `/`.
    pub(crate) prefix: String,
    pub(crate) mountpoint: PathBuf,
    pub(crate) access: Access,
    pub(crate) look: Look,
    pub(crate) budget: Budget,
    pub(crate) max_requests: usize,
    /// How objects are written, and who pays.
    pub(crate) settings: Settings,
    /// The most bytes of unsaved writes.
    pub(crate) spool_limit: Option<u64>,
    /// Bytes per second.
    pub(crate) upload_limit: Option<u64>,
    /// Bytes per second.
    pub(crate) download_limit: Option<u64>,
    pub(crate) allow: Allow,
    /// What the kernel keeps of the mount.
    pub(crate) kernel: KernelOptions,
    pub(crate) lazy: bool,
}

/// Everything that has to do with who wants in.
pub(crate) struct Access {
    pub(crate) asked: Asked,
    pub(crate) identity: Identity,
    pub(crate) endpoints: Endpoints,
    pub(crate) prompt: Prompt,
    pub(crate) patience: Patience,
    /// How old a code may become, if somebody knows better than this program finds out.
    pub(crate) max_age: Option<Duration>,
}

/// How to ask.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) wanted: Wanted,
    pub(crate) program: Option<String>,
    pub(crate) process: Option<String>,
}

/// Who besides the owner may use the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allow {
    Owner,
    Root,
    Other,
}

/// The environment, with the secrets that were taken out of it.
#[derive(Default)]
pub(crate) struct Surroundings {
    pub(crate) secrets: Vec<(String, String)>,
}

impl Surroundings {
    fn secret(&self, name: &str) -> Option<String> {
        let found = self.secrets.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.clone())
            .filter(|v| !v.is_empty())
    }

    /// The keys of the environment, with their token and their end if they are temporary. A secret
    /// without a key is none, as for the AWS CLI (botocore, `EnvProvider`).
    ///
    /// # Errors
    ///
    /// There is half of them, or an end that is no time.
    fn keys(&self) -> Result<Option<Keys>, ConfigError> {
        const END: &str = "AWS_CREDENTIAL_EXPIRATION";
        let Some(id) = self.secret("AWS_ACCESS_KEY_ID") else {
            return Ok(None);
        };
        let secret = self.secret("AWS_SECRET_ACCESS_KEY").ok_or_else(|| {
            ConfigError(
                "the environment has AWS_ACCESS_KEY_ID and no AWS_SECRET_ACCESS_KEY: set both or \
                 none, or name a profile with --profile"
                    .to_owned(),
            )
        })?;
        let token = self
            .secret("AWS_SECURITY_TOKEN")
            .or_else(|| self.secret("AWS_SESSION_TOKEN"));
        let all = [Some(&id), Some(&secret), token.as_ref()];
        let is_text = |text: &&String| !text.contains([char::REPLACEMENT_CHARACTER, '\0']);
        if !all.iter().flatten().all(is_text) {
            return Err(ConfigError(
                "the keys of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their \
                 token) are not UTF-8: set them anew"
                    .to_owned(),
            ));
        }
        let end = variable(END).map(|text| {
            crate::clock::moment(&text).ok_or_else(|| {
                ConfigError(format!(
                    "{END} = {:?} is no time of RFC 3339, such as 2026-08-22T10:00:00Z",
                    crate::words::tame(&text)
                ))
            })
        });
        let end = end.transpose()?;
        Ok(Some(Keys::new(id, secret, token, end, "environment")))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable that names who wants in: what cannot be read there is not overlooked.
fn chosen(name: &str) -> Result<Option<String>, ConfigError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(ConfigError(format!(
            "{name} is not UTF-8, as names of profiles are here: write the configuration file and \
             the variable in UTF-8"
        ))),
    }
}

impl Config {
    /// Checks everything that can be checked without a network.
    pub(crate) async fn new(args: MountArgs, env: &Surroundings) -> Result<Self, ConfigError> {
        let (bucket, prefix) = bucket_and_prefix(args.bucket.as_deref().unwrap_or_default())?;
        let mountpoint = args
            .mountpoint
            .clone()
            .ok_or_else(|| ConfigError("a mount needs a directory to mount on".to_owned()))?;
        let access = Access::new(&args.access, env).await?;
        let allow = match (args.allow_other, args.allow_root) {
            (true, _) => Allow::Other,
            (_, true) => Allow::Root,
            _ => Allow::Owner,
        };
        if args.memory_limit < LEAST_MEMORY {
            return Err(ConfigError(format!(
                "--memory-limit must be at least {} MiB: pages have 1 MiB",
                LEAST_MEMORY >> 20
            )));
        }
        let settings = settings(&args)?;
        Ok(Self {
            bucket,
            prefix,
            mountpoint,
            access,
            look: Look {
                all_uid: args.uid,
                all_gid: args.gid,
                host: host(),
                shared_by: (allow != Allow::Owner).then(|| nix::unistd::getuid().as_raw()),
                posix_metadata: args.posix_metadata,
                uid: args.uid.unwrap_or_else(|| nix::unistd::getuid().as_raw()),
                gid: args.gid.unwrap_or_else(|| nix::unistd::getgid().as_raw()),
                file_mode: args.file_mode,
                dir_mode: args.dir_mode,
                ttl: Duration::from_secs(args.metadata_ttl),
                longest_request: kernel_patience().min(LONGEST_REQUEST),
                longest_store: kernel_patience(),
                born: SystemTime::now(),
                read_only: args.read_only,
                serve_when_locked: args.serve_cache_when_locked,
            },
            budget: Budget {
                memory: args.memory_limit,
                part: args.part_size.max(1 << 20),
                write_back: args.write_back,
                pause: crate::fs::PAUSE,
            },
            max_requests: usize::try_from(args.max_requests).unwrap_or(64),
            settings,
            spool_limit: args.spool_limit,
            upload_limit: args.upload_limit,
            download_limit: args.download_limit,
            allow,
            kernel: KernelOptions::of(args.fstab.iter().map(String::as_str)),
            lazy: args.lazy,
        })
    }

    /// The bucket with its prefix, as the user wrote it.
    pub(crate) fn source(&self) -> String {
        match self.prefix.as_str() {
            "" => self.bucket.clone(),
            prefix => format!("{}/{}", self.bucket, prefix.trim_end_matches('/')),
        }
    }
}

impl Access {
    /// Reads the AWS configuration.
    pub(crate) async fn new(args: &AccessArgs, env: &Surroundings) -> Result<Self, ConfigError> {
        let profiles = Profiles::load().await?;
        for complaint in profiles.complaints() {
            tracing::warn!("{complaint}");
        }
        let usual_profile = chosen("AWS_PROFILE")?;
        let keys = match env.keys() {
            // They count only where no profile is named.
            Err(_) if args.profile.is_some() => None,
            keys => keys?,
        };
        let asked = Asked {
            profile: args.profile.clone(),
            usual_profile: match usual_profile {
                Some(name) => Some(name),
                None => chosen("AWS_DEFAULT_PROFILE")?,
            },
            keys,
            way: args.credentials,
            serial: args.mfa_serial.clone(),
            role_arn: args.role_arn.clone(),
            role_session_name: args.role_session_name.clone(),
            external_id: args.external_id.clone(),
            duration: args.duration,
        };
        let identity = Identity::new(&asked, &profiles)?;
        let name = asked
            .profile
            .clone()
            .or_else(|| asked.usual_profile.clone());
        let profile = profiles.choose(name)?;
        let endpoints = endpoints::endpoints(args, &profile, &identity)?;
        if endpoints.urls.sts.as_deref().is_none_or(is_aws) {
            identity.check_durations()?;
        }
        let process = args.mfa_process.clone();
        let process = process.or_else(|| identity.mfa_process.clone());
        if args.prompt == Wanted::Process && process.is_none() {
            return Err(ConfigError(
                "--prompt process needs --mfa-process COMMAND, which prints the code".to_owned(),
            ));
        }
        Ok(Self {
            prompt: Prompt {
                wanted: args.prompt,
                program: args.pinentry_program.clone(),
                process,
            },
            patience: Patience {
                wait: Duration::from_secs(args.prompt_timeout).min(kernel_patience()),
                cool_down: Duration::from_secs(args.prompt_cooldown),
            },
            max_age: args.mfa_max_age.map(Duration::from_secs),
            asked,
            identity,
            endpoints,
        })
    }
}

impl From<IdentityError> for ConfigError {
    fn from(error: IdentityError) -> Self {
        Self(error.to_string())
    }
}

/// The name of this machine, without its domain.
fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// How objects are written.
fn settings(args: &MountArgs) -> Result<Settings, ConfigError> {
    if args.sse_kms_key_id.is_some()
        && !matches!(args.sse.as_deref(), None | Some("aws:kms" | "aws:kms:dsse"))
    {
        return Err(ConfigError(
            "--sse-kms-key-id goes with --sse aws:kms (or aws:kms:dsse)".to_owned(),
        ));
    }
    let with_key = args.sse_kms_key_id.as_ref().map(|_| "aws:kms".to_owned());
    Ok(Settings {
        sse: args.sse.clone().or(with_key),
        sse_kms_key_id: args.sse_kms_key_id.clone(),
        storage_class: args.storage_class.clone(),
        acl: args.acl.clone(),
        requester_pays: args.owner.requester_pays,
        expected_bucket_owner: args.owner.expected_bucket_owner.clone(),
    })
}

/// How long the kernel lets a request wait; longer aborts the whole connection
/// (Documentation/admin-guide/sysctl/fs.rst, since 6.16).
fn kernel_patience() -> Duration {
    let limit = |name: &str| {
        let path = format!("/proc/sys/fs/fuse/{name}");
        let seconds = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        // The kernel looks every 15 s or so; stay clear of it.
        (seconds > 0).then(|| Duration::from_secs(seconds).mul_f64(0.8))
    };
    ["default_request_timeout", "max_request_timeout"]
        .into_iter()
        .filter_map(limit)
        .min()
        .unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod botocore_tests;
