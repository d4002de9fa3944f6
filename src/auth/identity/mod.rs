//! Who it is that wants in: whose keys, which roles, which device.
//!
//! Nothing is opened here, but for the AWS configuration files. What a profile means follows the
//! AWS CLI (docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html), with one
//! difference that people expect and the CLI does not have: `mfa_serial` counts without `role_arn`.
//! `ini` reads a file's text, `sheet` knows the file and the names of its sections, `value` what a
//! value means, `profile` puts both files together, and `chain` finds the keys. The SDK reads none of
//! these files: it says in its log what it finds there.

mod chain;
mod ini;
mod profile;
pub(crate) mod serial;
mod sheet;
mod value;
mod words;

use aws_credential_types::Credentials as Keys;

pub(crate) use profile::{Profile, Profiles};
use serial::Serial;
pub(crate) use words::split;

/// What was said wrong about an identity.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct IdentityError(pub(super) String);

/// How a session is obtained: the rungs of the ladder, and the ladder itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum)]
pub(crate) enum Way {
    /// What the profile says, and further up the ladder when S3 says so
    #[default]
    Auto,
    /// GetSessionToken with a code
    SessionToken,
    /// AssumeRole, with a code if there is a device
    Role,
    /// GetSessionToken with a code, then AssumeRole: one code for hours
    SessionTokenThenRole,
    /// IAM Identity Center, through a browser
    Sso,
    /// The profile's keys as they are; nobody is asked
    Plain,
}

/// What the command line and the environment say about the identity.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    /// `--profile`.
    pub(crate) profile: Option<String>,
    /// `AWS_PROFILE`, which keys in the environment go before.
    pub(crate) usual_profile: Option<String>,
    /// Keys of the environment.
    pub(crate) keys: Option<Keys>,
    /// `--credentials`.
    pub(crate) way: Way,
    /// `--mfa-serial`; `auto` is to find out.
    pub(crate) serial: Option<String>,
    pub(crate) role_arn: Option<String>,
    pub(crate) role_session_name: Option<String>,
    pub(crate) external_id: Option<String>,
    /// `--duration`, in seconds.
    pub(crate) duration: Option<i32>,
}

/// Where keys come from before anything is done with them.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// Written down, or in the environment; long-term or temporary.
    Keys(Keys),
    /// A command that prints them, as the profile has it.
    Process(String),
    /// AssumeRoleWithWebIdentity.
    WebIdentity { token: WebToken, role: Role },
    /// The instance this runs on.
    Instance,
    /// The container this runs in.
    Container,
    /// `aws login`: the ARN that it is remembered by.
    Login(String),
    /// IAM Identity Center.
    Sso(SsoProfile),
}

/// Where the token of an identity provider is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WebToken {
    /// In a file, which the provider writes anew.
    File(String),
    /// A command prints it.
    Process(String),
}

/// What a profile says about IAM Identity Center.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SsoProfile {
    /// The name of the `[sso-session]`; `None` in the older style.
    pub(crate) session: Option<String>,
    pub(crate) start_url: String,
    pub(crate) region: String,
    pub(crate) account_id: String,
    pub(crate) role_name: String,
    pub(crate) scopes: Vec<String>,
}

/// A role to assume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) arn: String,
    /// The name of the session; one of our own if `None`.
    pub(crate) session_name: Option<String>,
    pub(crate) external_id: Option<String>,
    /// Seconds; STS's default (an hour) if `None`.
    pub(crate) duration: Option<i32>,
    /// Who is behind it, for CloudTrail; the trust policy must allow that.
    pub(crate) source_identity: Option<String>,
    /// Names and values; the trust policy must allow them.
    pub(crate) tags: Vec<(String, String)>,
    /// The names of those that stay when another role is assumed with this one's session.
    pub(crate) transitive_tags: Vec<String>,
}

impl Role {
    /// Whether its sessions carry more than the role's name.
    pub(crate) fn is_marked(&self) -> bool {
        self.source_identity.is_some() || !self.tags.is_empty()
    }

    /// What they carry, in words.
    pub(crate) fn marks(&self) -> String {
        let tags = self.tags.iter().map(|(name, value)| {
            let stays = self.transitive_tags.contains(name);
            format!("{name}={value},{stays}")
        });
        let identity = self.source_identity.clone().unwrap_or_default();
        std::iter::once(identity)
            .chain(tags)
            .collect::<Vec<_>>()
            .join(";")
    }
}

/// The shortest session that AWS grants, in seconds.
const LEAST_DURATION: i32 = 900;

/// The longest session that AWS grants to a user, in seconds.
const LONGEST_SESSION: i32 = 129_600;

/// The longest session of a role that AWS grants, in seconds.
pub(crate) const LONGEST_ROLE: i32 = 43_200;

/// Who wants in.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// How the keys were found, for people.
    pub(crate) profile: String,
    pub(crate) origin: Origin,
    /// The roles, in the order in which they are assumed.
    pub(crate) roles: Vec<Role>,
    /// The device that was named; `None` is to find out.
    pub(crate) serial: Option<Serial>,
    pub(crate) way: Way,
    /// How long a session of GetSessionToken shall last, in seconds.
    pub(crate) duration: Option<i32>,
    /// `mfa_process` of the profile: a command that prints a code.
    pub(crate) mfa_process: Option<String>,
}

impl Identity {
    /// Reads the profile that is asked for.
    pub(crate) fn new(asked: &Asked, profiles: &Profiles) -> Result<Self, IdentityError> {
        let name = asked
            .profile
            .clone()
            .or_else(|| asked.usual_profile.clone());
        let profile = profiles.choose(name)?;
        let from_environment = asked.keys.clone().filter(|_| asked.profile.is_none());
        let (origin, mut roles, source) = match &from_environment {
            Some(keys) => (Origin::Keys(keys.clone()), Vec::new(), profile.clone()),
            None => chain::follow(&profile, asked.keys.as_ref())?,
        };
        if let Some(arn) = &asked.role_arn {
            // In the place of the profile's own, which is assumed with the same source.
            let own = profile.key("role_arn").and(roles.pop());
            roles.push(Role {
                arn: arn.clone(),
                ..own.unwrap_or_default()
            });
        }
        if let Some(last) = roles.last_mut() {
            last.session_name = asked.role_session_name.clone().or(last.session_name.take());
            last.external_id = asked.external_id.clone().or(last.external_id.take());
            last.duration = asked.duration.or(last.duration);
        }
        for role in &roles {
            check_role(role)?;
        }
        let serial = match asked.serial.as_deref() {
            Some("auto") => None,
            Some(serial) => Some(serial.to_owned()),
            None => profile
                .key("mfa_serial")
                .or_else(|| source.key("mfa_serial")),
        };
        let identity = Self {
            profile: match from_environment {
                Some(_) => "the environment's keys".to_owned(),
                None => profile.name().to_owned(),
            },
            origin,
            roles,
            serial: serial.map(|text| Serial::parse(&text)).transpose()?,
            way: asked.way,
            duration: asked.duration,
            mfa_process: profile
                .command("mfa_process")
                .or_else(|| source.command("mfa_process")),
        };
        identity.check_way()?;
        Ok(identity)
    }

    /// Refuses a way that cannot be gone with what is there.
    fn check_way(&self) -> Result<(), IdentityError> {
        let (roles, name) = (!self.roles.is_empty(), &self.profile);
        let refuse = |text: String| Err(IdentityError(text));
        match self.way {
            Way::Role | Way::SessionTokenThenRole if !roles => refuse(format!(
                "{name:?} names no role to assume: give --role-arn, or put role_arn and \
                 source_profile into the profile"
            )),
            Way::Sso if !matches!(self.origin, Origin::Sso(_)) => refuse(format!(
                "the profile {name:?} has nothing about SSO: run `aws configure sso`, or name \
                 another profile with --profile"
            )),
            Way::SessionToken | Way::SessionTokenThenRole => match &self.origin {
                Origin::Keys(keys) if keys.session_token().is_some() => {
                    refuse(temporary_keys(name))
                }
                Origin::Sso(_) => refuse(format!(
                    "the profile {name:?} signs in with SSO, and AWS grants no session with a code \
                     to those. A bucket policy that demands MFA wants the long-term keys of a user: \
                     name their profile with --profile"
                )),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Refuses what AWS's STS would, after a code was typed for it: API reference of GetSessionToken
    /// and AssumeRole, DurationSeconds.
    pub(crate) fn check_durations(&self) -> Result<(), IdentityError> {
        let is_less = |seconds: &i32| *seconds < LEAST_DURATION;
        let is_fine = |seconds: &i32| (LEAST_DURATION..=LONGEST_SESSION).contains(seconds);
        if let Some(seconds) = self.duration.filter(|seconds| !is_fine(seconds)) {
            return Err(IdentityError(format!(
                "--duration {seconds}: AWS grants sessions of {LEAST_DURATION} to \
                 {LONGEST_SESSION} s, of roles up to {LONGEST_ROLE} s"
            )));
        }
        let durations = self.roles.iter().filter_map(|role| role.duration);
        match durations.into_iter().find(is_less) {
            Some(seconds) => Err(IdentityError(format!(
                "duration_seconds = {seconds} in the profile is too short: AWS grants sessions of \
                 roles for {LEAST_DURATION} to {LONGEST_ROLE} s"
            ))),
            None => Ok(()),
        }
    }

    /// Whose unsaved writes these are. Temporary keys change all the time, their profile does not.
    pub(crate) fn principal(&self) -> String {
        match &self.origin {
            Origin::Keys(keys) if keys.session_token().is_none() => keys.access_key_id().to_owned(),
            _ => format!("profile {}", self.profile),
        }
    }

    /// The partition that its ARNs name, if any does.
    pub(crate) fn partition(&self) -> Option<&str> {
        let role = self.roles.first().map(|role| role.arn.as_str());
        let web = match &self.origin {
            Origin::WebIdentity { role, .. } => Some(role.arn.as_str()),
            Origin::Login(arn) => Some(arn.as_str()),
            _ => None,
        };
        let device = self.serial.as_ref().map(Serial::as_str);
        [device, role, web]
            .into_iter()
            .flatten()
            .find_map(crate::aws::partition)
    }
}

/// What is said of temporary keys where long-term ones are needed.
pub(super) fn temporary_keys(profile: &str) -> String {
    format!(
        "the keys of {profile:?} are temporary (aws_session_token), and AWS grants no session to \
         those. Name the profile with the long-term keys, or use them as they are: --credentials \
         plain"
    )
}

/// API reference of AssumeRole: RoleArn, RoleSessionName, ExternalId, DurationSeconds.
fn check_role(role: &Role) -> Result<(), IdentityError> {
    let arn = crate::words::tame(&role.arn);
    if !(20..=2048).contains(&role.arn.len()) || !role.arn.contains(":role/") {
        // Ceph and others have short ones, but `:role/` is in all of them.
        return Err(IdentityError(format!(
            "{arn:?} is no role: that is an ARN such as arn:aws:iam::123456789012:role/NAME"
        )));
    }
    let is_word = |text: &str| {
        (2..=64).contains(&text.len())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
    };
    if let Some(name) = &role.session_name
        && !is_word(name)
    {
        return Err(IdentityError(format!(
            "{:?} is no name for a role's session: it has 2 to 64 letters, digits and _+=,.@-",
            crate::words::tame(name)
        )));
    }
    Ok(())
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
