//! From a profile to keys: `source_profile`, `credential_source` and the rest, as the AWS CLI
//! resolves them.

use aws_credential_types::Credentials as Keys;

use super::profile::Which;
use super::{IdentityError, Origin, Profile, Role, SsoProfile, WebToken, split};

/// The longest chain of profiles.
const LONGEST: usize = 8;

/// What `aws configure sso` asks for where nothing else is said.
const SSO_SCOPE: &str = "sso:account:access";

/// Where the keys of a profile come from, the roles on the way to it (the first to be assumed
/// first), and the profile at the far end.
pub(super) fn follow<'a>(
    profile: &Profile<'a>,
    environment: Option<&Keys>,
) -> Result<(Origin, Vec<Role>, Profile<'a>), IdentityError> {
    let mut profile = profile.clone();
    let mut roles = Vec::new();
    let mut visited = vec![profile.name().to_owned()];
    loop {
        let is_source = visited.len() > 1;
        let next = match step(&profile, is_source, environment)? {
            Step::Keys(origin) => {
                roles.reverse();
                return Ok((origin, roles, profile));
            }
            Step::Role(role, next) => {
                roles.push(role);
                next
            }
            Step::Borrowed(next) => next,
        };
        match next {
            Next::Origin(origin) => {
                roles.reverse();
                return Ok((origin, roles, profile));
            }
            Next::Profile(name) => {
                // A role's profile may hold the keys that it is assumed with.
                let own = name == profile.name();
                if own
                    && profile.has_keys()
                    && let Step::Keys(origin) = step(&profile, true, environment)?
                {
                    roles.reverse();
                    return Ok((origin, roles, profile));
                }
                if visited.contains(&name) || visited.len() > LONGEST {
                    return Err(IdentityError(format!(
                        "the source_profile of {:?} goes in a circle: {} -> {name}",
                        visited.first().map_or("", String::as_str),
                        visited.join(" -> ")
                    )));
                }
                profile = profile.other(&name)?;
                visited.push(name);
            }
        }
    }
}

enum Step {
    Keys(Origin),
    Role(Role, Next),
    /// `source_profile` without a role: the keys are somewhere else, which the CLI does not know.
    Borrowed(Next),
}

enum Next {
    Profile(String),
    Origin(Origin),
}

/// The order is botocore's (`create_credential_resolver`): a role, a web identity, SSO, keys of the
/// credentials file, `aws login`, a process, keys of the configuration file. A source profile's keys go
/// before its role, but not before the rest.
fn step(
    profile: &Profile<'_>,
    is_source: bool,
    environment: Option<&Keys>,
) -> Result<Step, IdentityError> {
    let reference = || profile.reference("source_profile", |name| profile.profiles().has(name));
    let source = || reference().filter(|name| name != profile.name());
    // A session that was written there (`aws configure mfa-login`) opens no other, its source may.
    if is_session(profile)
        && profile.key("role_arn").is_none()
        && let Some(name) = source()
    {
        return Ok(Step::Borrowed(Next::Profile(name)));
    }
    if let Some(arn) = profile.key("role_arn")
        && (!is_source || !profile.has_keys() || web_token(profile).is_some())
    {
        return role(profile, arn, reference(), environment);
    }
    // Keys in the files are for other machines than this one, where AWS itself has said who it is.
    if !profile.is_explicit()
        && let Some(origin) = web_identity()
    {
        return Ok(Step::Keys(origin));
    }
    if ["sso_account_id", "sso_role_name"]
        .iter()
        .any(|key| profile.key(key).is_some())
        && let Some(sso) = sso(profile)?
    {
        return Ok(Step::Keys(Origin::Sso(sso)));
    }
    if let Some(keys) = profile.keys(Which::Credentials)? {
        return Ok(Step::Keys(Origin::Keys(keys)));
    }
    if let Some(arn) = profile.key("login_session") {
        return Ok(Step::Keys(Origin::Login(arn)));
    }
    if let Some(command) = profile.command("credential_process") {
        return match our_own(&command) {
            Some(name) if name == profile.name() => Err(IdentityError(format!(
                "the profile {name:?} gets its keys from this very program, which asks the profile: \
                 put the long-term keys into it, or name the profile that has them in \
                 credential_process"
            ))),
            Some(name) => Ok(Step::Borrowed(Next::Profile(name))),
            None => Ok(Step::Keys(Origin::Process(command))),
        };
    }
    if let Some(keys) = profile.keys(Which::Config)? {
        return Ok(Step::Keys(Origin::Keys(keys)));
    }
    if let Some(name) = reference() {
        return Ok(Step::Borrowed(Next::Profile(name)));
    }
    // Half of it says what is missing.
    if let Some(sso) = sso(profile)? {
        return Ok(Step::Keys(Origin::Sso(sso)));
    }
    if profile.is_explicit() {
        return Err(IdentityError(missing(profile)));
    }
    surroundings().map(Step::Keys).ok_or_else(|| {
        IdentityError(format!(
            "no AWS keys found: run `aws configure`, name a profile with --profile, or set \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY{}",
            profile.profiles().remark()
        ))
    })
}

/// Whether the keys that stand in a profile are those of a session.
fn is_session(profile: &Profile<'_>) -> bool {
    let files = [Which::Credentials, Which::Config];
    let keys = files
        .iter()
        .find_map(|which| profile.keys(*which).ok().flatten());
    keys.is_some_and(|keys| keys.session_token().is_some())
}

/// Where the profile says that the token of an identity provider is.
fn web_token(profile: &Profile<'_>) -> Option<WebToken> {
    let file = profile.key("web_identity_token_file").map(WebToken::File);
    let printed = || profile.command("web_identity_token_process");
    file.or_else(|| printed().map(WebToken::Process))
}

fn role(
    profile: &Profile<'_>,
    arn: String,
    source: Option<String>,
    environment: Option<&Keys>,
) -> Result<Step, IdentityError> {
    let name = profile.name();
    let duration = profile.key("duration_seconds").map(|text| {
        text.parse::<i32>().map_err(|_| {
            IdentityError(format!(
                "duration_seconds = {:?} in the profile {name:?}{} is no number of seconds",
                crate::words::tame(&text),
                profile.place("duration_seconds")
            ))
        })
    });
    let role = Role {
        arn,
        session_name: profile.key("role_session_name"),
        external_id: profile.key("external_id"),
        duration: duration.transpose()?,
        source_identity: profile.key("source_identity"),
        tags: tags(profile)?,
        transitive_tags: profile
            .key("transitive_session_tags")
            .map(|names| list(&names))
            .unwrap_or_default(),
    };
    if let Some(token) = web_token(profile) {
        return Ok(Step::Keys(Origin::WebIdentity { token, role }));
    }
    let next = match (source, profile.key("credential_source")) {
        (Some(_), Some(_)) => {
            return Err(IdentityError(format!(
                "the profile {name:?} has both source_profile{} and credential_source{}, of which \
                 AWS allows one: remove the other",
                profile.place("source_profile"),
                profile.place("credential_source")
            )));
        }
        (Some(source), None) => Next::Profile(source),
        (None, Some(source)) => Next::Origin(match source.as_str() {
            "Ec2InstanceMetadata" => Origin::Instance,
            "EcsContainer" => Origin::Container,
            "Environment" => match environment {
                Some(keys) => Origin::Keys(keys.clone()),
                None => {
                    return Err(IdentityError(format!(
                        "the profile {name:?} takes the keys of the environment, and there are none: \
                         set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    )));
                }
            },
            other => {
                return Err(IdentityError(format!(
                    "credential_source = {:?} in the profile {name:?}{} is none of Environment, \
                     Ec2InstanceMetadata and EcsContainer",
                    crate::words::tame(other),
                    profile.place("credential_source")
                )));
            }
        }),
        (None, None) if profile.has_keys() => Next::Profile(name.to_owned()),
        (None, None) => {
            return Err(IdentityError(format!(
                "the profile {name:?} names a role{}, but not with whose keys to assume it: add \
                 source_profile = PROFILE",
                profile.place("role_arn")
            )));
        }
    };
    Ok(Step::Role(role, next))
}

fn sso(profile: &Profile<'_>) -> Result<Option<SsoProfile>, IdentityError> {
    let of = |name: &str| profile.profiles().sso_session(name);
    let session = profile.reference("sso_session", |name| of(name).is_some());
    let keys = ["sso_start_url", "sso_account_id", "sso_role_name"];
    if session.is_none() && keys.iter().all(|key| profile.key(key).is_none()) {
        return Ok(None);
    }
    let name = profile.name();
    let written = session.as_deref().and_then(of);
    if let Some(session) = &session
        && written.is_none()
    {
        return Err(IdentityError(format!(
            "the profile {name:?} names sso_session = {session}{}, but there is no [sso-session \
             {session}] in ~/.aws/config: run `aws configure sso`{}",
            profile.place("sso_session"),
            profile.profiles().remark()
        )));
    }
    let of_session = |key: &str| written.as_ref().and_then(|written| written(key));
    for key in ["sso_start_url", "sso_region"] {
        if let (Some(session), Some(own)) = (of_session(key), profile.key(key))
            && session != own
        {
            return Err(IdentityError(format!(
                "the profile {name:?} says {key} = {}{}, and its sso-session {}: remove one",
                crate::words::tame(&own),
                profile.place(key),
                crate::words::tame(&session)
            )));
        }
    }
    let key = |key: &str| of_session(key).or_else(|| profile.key(key));
    let needed = |what: &str| {
        key(what).ok_or_else(|| {
            IdentityError(format!(
                "the profile {name:?} signs in with SSO, but {what} is missing: run `aws configure \
                 sso --profile {name}`"
            ))
        })
    };
    Ok(Some(SsoProfile {
        start_url: needed("sso_start_url")?,
        region: needed("sso_region")?,
        account_id: needed("sso_account_id")?,
        role_name: needed("sso_role_name")?,
        scopes: key("sso_registration_scopes").map_or_else(
            || vec![SSO_SCOPE.to_owned()],
            |scopes| {
                let scopes = scopes.split(',').map(str::trim);
                scopes
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned)
                    .collect()
            },
        ),
        session,
    }))
}

/// `session_tags = name=value,name=value`, as aws-vault has it.
fn tags(profile: &Profile<'_>) -> Result<Vec<(String, String)>, IdentityError> {
    let text = profile.key("session_tags").unwrap_or_default();
    let pairs = list(&text).into_iter().map(|tag| {
        let pair = tag.split_once('=').map(|(name, value)| {
            let trimmed = |text: &str| text.trim().to_owned();
            (trimmed(name), trimmed(value))
        });
        pair.ok_or_else(|| {
            IdentityError(format!(
                "session_tags of the profile {:?} has {:?}, where name=value,name=value is wanted",
                profile.name(),
                crate::words::tame(&tag)
            ))
        })
    });
    pairs.collect()
}

/// Words between commas.
fn list(text: &str) -> Vec<String> {
    let words = text.split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The profile that a `credential_process` of this very program names: its keys are found without
/// starting it once more.
fn our_own(command: &str) -> Option<String> {
    let words = split(command).ok()?;
    let (program, rest) = words.split_first()?;
    let (subcommand, rest) = rest.split_first()?;
    if program.rsplit('/').next() != Some("s3mfa-mount") || subcommand != "credentials" {
        return None;
    }
    // With further options it is not the same as asking the profile.
    let named = match rest {
        [] => Some("default"),
        [option, name] if option == "--profile" => Some(name.as_str()),
        [option] => option.strip_prefix("--profile="),
        _ => None,
    };
    named.map(str::to_owned)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The role that AWS gives to a program in Kubernetes.
fn web_identity() -> Option<Origin> {
    Some(Origin::WebIdentity {
        token: WebToken::File(variable("AWS_WEB_IDENTITY_TOKEN_FILE")?),
        role: Role {
            arn: variable("AWS_ROLE_ARN")?,
            session_name: variable("AWS_ROLE_SESSION_NAME"),
            ..Role::default()
        },
    })
}

/// What else AWS itself puts around a program that runs there.
fn surroundings() -> Option<Origin> {
    if variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").is_some()
        || variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some()
    {
        return Some(Origin::Container);
    }
    // docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html; asking the
    // metadata service elsewhere would wait for an answer that never comes.
    let vendor = std::fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    (vendor.trim() == "Amazon EC2").then_some(Origin::Instance)
}

fn missing(profile: &Profile<'_>) -> String {
    let name = profile.name();
    format!(
        "the profile {name:?} has no aws_access_key_id and aws_secret_access_key: run `aws \
         configure --profile {name}`{}",
        profile.profiles().remark()
    )
}
