//! Arguments and the AWS profile, made into one checked configuration.
//!
//! Everything that can be said wrong is found here, before anything is opened or started.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_config::profile::ProfileSet;
use aws_credential_types::Credentials as Keys;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};

use crate::auth::prompt::Wanted;
use crate::auth::session::Patience;
use crate::cli::{Credentials, MountArgs};
use crate::fs::{Budget, Look};
use crate::store::write::Settings;

/// Commands that are promised but not here yet; buckets of these names need `s3://`.
const RESERVED: [&str; 5] = ["check", "policy", "credentials", "completions", "man"];

/// The least memory that pages need, in bytes.
const LEAST_MEMORY: u64 = 4 << 20;

/// How long a request of the kernel may take at most: some renewals, one after another.
const LONGEST_REQUEST: Duration = Duration::from_secs(1800);

/// The longest chain of `source_profile`.
const LONGEST_CHAIN: usize = 8;

/// What was said wrong. The exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

/// One mount, checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) bucket: String,
    /// Empty, or ends with `/`.
    pub(crate) prefix: String,
    pub(crate) mountpoint: PathBuf,
    pub(crate) endpoints: Endpoints,
    pub(crate) identity: Identity,
    pub(crate) prompt: Prompt,
    pub(crate) patience: Patience,
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
    pub(crate) lazy: bool,
}

/// Where S3 and STS are.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub(crate) region: String,
    pub(crate) s3: Option<String>,
    pub(crate) sts: Option<String>,
    pub(crate) ca_bundle: Option<PathBuf>,
    pub(crate) path_style: bool,
}

/// Whose keys, and what to do with them.
#[derive(Debug)]
pub(crate) struct Identity {
    /// How the keys were found, for people.
    pub(crate) profile: String,
    pub(crate) keys: Keys,
    pub(crate) rung: Rung,
}

impl Identity {
    /// Whose unsaved writes these are. Temporary keys change all the time, their profile does
    /// not.
    pub(crate) fn principal(&self) -> String {
        match self.keys.session_token() {
            None => self.keys.access_key_id().to_owned(),
            Some(_) => format!("profile {}", self.profile),
        }
    }
}

/// How a session comes about.
#[derive(Debug)]
pub(crate) enum Rung {
    /// GetSessionToken with a code of this device.
    SessionToken {
        serial: String,
        duration: Option<i32>,
    },
    /// The keys as they are.
    Plain,
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
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Config {
    /// Checks everything that can be checked without a network.
    pub(crate) async fn new(args: MountArgs, env: &Surroundings) -> Result<Self, ConfigError> {
        let (bucket, prefix) = bucket_and_prefix(args.bucket.as_deref().unwrap_or_default())?;
        let mountpoint = args
            .mountpoint
            .clone()
            .ok_or_else(|| ConfigError("a mount needs a directory to mount on".to_owned()))?;
        let profiles = load_profiles().await?;
        let name = args
            .profile
            .clone()
            .or_else(|| variable("AWS_DEFAULT_PROFILE"));
        let profile = Profile::choose(&profiles, name)?;
        let identity = identity(&args, env, &profile)?;
        let patience = Patience {
            wait: Duration::from_secs(args.prompt_timeout).min(kernel_patience()),
            cool_down: Duration::from_secs(args.prompt_cooldown),
        };
        let allow = match (args.allow_other, args.allow_root) {
            (true, _) => Allow::Other,
            (_, true) => Allow::Root,
            _ => Allow::Owner,
        };
        if args.prompt == Wanted::Process
            && args.mfa_process.is_none()
            && profile.key("mfa_process").is_none()
        {
            return Err(ConfigError(
                "--prompt process needs --mfa-process COMMAND, which prints the code".to_owned(),
            ));
        }
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
            endpoints: endpoints(&args, &profile)?,
            identity,
            prompt: Prompt {
                wanted: args.prompt,
                program: args.pinentry_program,
                process: args.mfa_process.or_else(|| profile.key("mfa_process")),
            },
            patience,
            look: Look {
                all_uid: args.uid,
                all_gid: args.gid,
                host: host(),
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

fn bucket_and_prefix(text: &str) -> Result<(String, String), ConfigError> {
    let (explicit, rest) = match text.strip_prefix("s3://") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if !explicit && RESERVED.contains(&rest) {
        return Err(ConfigError(format!(
            "`{rest}` is a command that this version does not have yet; for a bucket of that \
             name write s3://{rest}"
        )));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // Naming rules: docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html;
    // older buckets and other stores are laxer.
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if bucket.is_empty() || bucket.len() > 255 || !bucket.chars().all(is_fine) {
        return Err(ConfigError(format!(
            "{:?} is no bucket name: those have letters, digits, dots and dashes",
            crate::words::tame(bucket)
        )));
    }
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() && !prefix.split('/').all(crate::fs::names::is_name) {
        return Err(ConfigError(format!(
            "the prefix {:?} cannot be a path: it has an empty part, `.` or `..`",
            crate::words::tame(prefix)
        )));
    }
    let prefix = match prefix {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    Ok((bucket.to_owned(), prefix))
}

async fn load_profiles() -> Result<ProfileSet, ConfigError> {
    aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), None)
        .await
        .map_err(|error| {
            ConfigError(format!(
                "the AWS configuration cannot be read: {}",
                crate::words::tame(&error.to_string())
            ))
        })
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
        requester_pays: args.requester_pays,
        expected_bucket_owner: args.expected_bucket_owner.clone(),
    })
}

/// One profile among the others.
struct Profile<'a> {
    all: &'a ProfileSet,
    name: String,
    /// Whether the user named it.
    explicit: bool,
}

impl<'a> Profile<'a> {
    fn choose(all: &'a ProfileSet, name: Option<String>) -> Result<Self, ConfigError> {
        if let Some(name) = &name
            && all.get_profile(name).is_none()
        {
            let mut known: Vec<&str> = all.profiles().collect();
            known.sort_unstable();
            return Err(ConfigError(format!(
                "there is no profile {name:?} in ~/.aws/config or ~/.aws/credentials; there {}",
                match known.as_slice() {
                    [] => "is none at all".to_owned(),
                    known => format!("are: {}", known.join(", ")),
                }
            )));
        }
        Ok(Self {
            all,
            explicit: name.is_some(),
            name: name.unwrap_or_else(|| "default".to_owned()),
        })
    }

    fn key(&self, key: &str) -> Option<String> {
        let value = self.all.get_profile(&self.name)?.get(key)?;
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The profile whose keys this one borrows: itself, or the end of `source_profile`.
    fn source(&self) -> Result<Profile<'a>, ConfigError> {
        let mut name = self.name.clone();
        for _ in 0..LONGEST_CHAIN {
            let profile = Profile {
                all: self.all,
                name: name.clone(),
                explicit: true,
            };
            let has_keys = profile.key("aws_access_key_id").is_some();
            match profile.key("source_profile") {
                Some(next) if !has_keys && next != name => {
                    if self.all.get_profile(&next).is_none() {
                        return Err(ConfigError(format!(
                            "the profile {name:?} names source_profile = {next}, which does not \
                             exist"
                        )));
                    }
                    name = next;
                }
                _ => return Ok(profile),
            }
        }
        Err(ConfigError(format!(
            "the source_profile of {:?} goes in a circle",
            self.name
        )))
    }
}

fn identity(
    args: &MountArgs,
    env: &Surroundings,
    profile: &Profile<'_>,
) -> Result<Identity, ConfigError> {
    let source = profile.source()?;
    let from_environment = (!profile.explicit)
        .then(|| {
            env.secret("AWS_ACCESS_KEY_ID")
                .zip(env.secret("AWS_SECRET_ACCESS_KEY"))
        })
        .flatten();
    let (name, id, secret, token) = match from_environment {
        Some((id, secret)) => {
            let token = env
                .secret("AWS_SESSION_TOKEN")
                .or_else(|| env.secret("AWS_SECURITY_TOKEN"));
            ("the environment's keys".to_owned(), id, secret, token)
        }
        None => {
            let keys = source
                .key("aws_access_key_id")
                .zip(source.key("aws_secret_access_key"));
            let Some((id, secret)) = keys else {
                return Err(ConfigError(missing_keys(profile, &source)));
            };
            let token = source
                .key("aws_session_token")
                .or_else(|| source.key("aws_security_token"));
            (profile.name.clone(), id, secret, token)
        }
    };
    let serial = args
        .mfa_serial
        .clone()
        .or_else(|| profile.key("mfa_serial"))
        .or_else(|| source.key("mfa_serial"));
    let rung = match args.credentials {
        Credentials::Plain => Rung::Plain,
        Credentials::Auto if token.is_some() && serial.is_none() => Rung::Plain,
        Credentials::Auto
            if args.credentials == Credentials::Auto && profile.key("role_arn").is_some() =>
        {
            return Err(ConfigError(format!(
                "the profile {name:?} assumes a role, which this version cannot do yet. If the \
                 bucket's policy lets the user in with MFA, use --credentials session-token"
            )));
        }
        Credentials::Auto | Credentials::SessionToken => {
            if token.is_some() {
                return Err(ConfigError(format!(
                    "the keys of {name:?} are temporary (aws_session_token), and AWS grants no \
                     session to those. Name the profile with the long-term keys, or use them as \
                     they are: --credentials plain"
                )));
            }
            Rung::SessionToken {
                serial: checked_serial(serial, &name)?,
                duration: args.duration,
            }
        }
    };
    Ok(Identity {
        profile: name,
        keys: Keys::new(id, secret, token, None, "profile"),
        rung,
    })
}

fn missing_keys(profile: &Profile<'_>, source: &Profile<'_>) -> String {
    for (key, what) in [
        ("sso_session", "SSO"),
        ("sso_start_url", "SSO"),
        ("credential_process", "a credential_process"),
        ("web_identity_token_file", "a web identity"),
        ("credential_source", "a credential_source"),
        ("login_session", "`aws login`"),
    ] {
        if source.key(key).is_some() {
            return format!(
                "the profile {:?} gets its keys from {what}, which this version cannot do yet; \
                 use one with aws_access_key_id and aws_secret_access_key",
                source.name
            );
        }
    }
    if profile.explicit {
        format!(
            "the profile {:?} has no aws_access_key_id and aws_secret_access_key: run \
             `aws configure --profile {}`",
            source.name, source.name
        )
    } else {
        "no AWS keys found: run `aws configure`, name a profile with --profile, or set \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            .to_owned()
    }
}

fn checked_serial(serial: Option<String>, profile: &str) -> Result<String, ConfigError> {
    let Some(serial) = serial else {
        return Err(ConfigError(format!(
            "which MFA device goes with {profile}? Give --mfa-serial, or put mfa_serial = \
             arn:aws:iam::ACCOUNT:mfa/NAME into the profile in ~/.aws/config (the IAM console \
             shows it under Security credentials). For keys that need no MFA: --credentials plain"
        )));
    };
    // API reference of GetSessionToken: SerialNumber.
    let is_fine = |c: char| c.is_alphanumeric() || "+=/:,.@-_".contains(c);
    if !(9..=256).contains(&serial.chars().count()) || !serial.chars().all(is_fine) {
        return Err(ConfigError(format!(
            "{:?} is no MFA device: it is an ARN such as arn:aws:iam::123456789012:mfa/alice, or \
             the number on a hardware device",
            crate::words::tame(&serial)
        )));
    }
    if serial.starts_with("arn:") && serial.contains(":user/") {
        return Err(ConfigError(format!(
            "{serial} names the user, not the device; that is likely {}",
            serial.replacen(":user/", ":mfa/", 1)
        )));
    }
    if serial.contains(":u2f/") {
        return Err(ConfigError(format!(
            "{serial} is a passkey or security key, which gives no code: add an authenticator \
             app to the user, and name that device"
        )));
    }
    Ok(serial)
}

fn endpoints(args: &MountArgs, profile: &Profile<'_>) -> Result<Endpoints, ConfigError> {
    let general = variable("AWS_ENDPOINT_URL").or_else(|| profile.key("endpoint_url"));
    let s3 = args
        .endpoint_url
        .clone()
        .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| general.clone());
    let sts = args
        .sts_endpoint_url
        .clone()
        .or_else(|| variable("AWS_ENDPOINT_URL_STS"))
        .or(general);
    for url in [&s3, &sts].into_iter().flatten() {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(ConfigError(format!(
                "{:?} is no endpoint: it starts with https:// (or http:// on this machine)",
                crate::words::tame(url)
            )));
        }
    }
    let ca_bundle = args
        .ca_bundle
        .clone()
        .or_else(|| profile.key("ca_bundle").map(Into::into));
    if let Some(path) = &ca_bundle
        && let Err(error) = std::fs::File::open(path)
    {
        return Err(ConfigError(format!(
            "the certificates in {} cannot be read: {error}",
            path.display()
        )));
    }
    let region = args
        .region
        .clone()
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(|| profile.key("region"))
        .unwrap_or_else(|| "us-east-1".to_owned());
    Ok(Endpoints {
        // The host name of a store on one machine has no room for a bucket.
        path_style: args.force_path_style || s3.as_deref().is_some_and(is_bare_address),
        region,
        s3,
        sts,
        ca_bundle,
    })
}

/// Whether a URL's host is an address or `localhost`, before which no bucket can be put.
fn is_bare_address(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok() || host.starts_with('[')
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buckets_are_read_as_people_write_them() {
        let read = |text| bucket_and_prefix(text).map_err(|e| e.to_string());
        let both = |b: &str, p: &str| Ok((b.to_owned(), p.to_owned()));
        assert_eq!(read("docs"), both("docs", ""));
        assert_eq!(read("docs/"), both("docs", ""));
        assert_eq!(read("s3://docs/a/b/"), both("docs", "a/b/"));
        assert_eq!(read("s3://check"), both("check", ""));
        assert!(read("check").unwrap_err().contains("s3://check"));
        assert!(read("docs/a//b").is_err() && read("docs/../b").is_err());
        assert!(read("").is_err() && read("my bucket").is_err());
    }

    #[test]
    fn a_user_is_not_a_device() {
        let check = |serial: &str| checked_serial(Some(serial.to_owned()), "p").map_err(|e| e.0);
        assert!(check("GAHT12345678").is_ok());
        assert!(check("arn:aws-cn:iam::123456789012:mfa/alice").is_ok());
        let error = check("arn:aws:iam::123456789012:user/alice").unwrap_err();
        assert!(
            error.contains("arn:aws:iam::123456789012:mfa/alice"),
            "{error}"
        );
        assert!(check("arn:aws:iam::123456789012:u2f/user/alice/key").is_err());
        assert!(check("short").is_err());
    }

    #[test]
    fn an_address_has_no_room_for_a_bucket() {
        assert!(is_bare_address("http://127.0.0.1:9000"));
        assert!(is_bare_address("http://localhost"));
        assert!(!is_bare_address("https://s3.example.com"));
    }
}
