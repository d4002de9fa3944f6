//! From a profile to keys: `source_profile`, `credential_source` and the rest, as the AWS CLI
//! resolves them.

use aws_credential_types::Credentials as Keys;

use super::{IdentityError, Origin, Profile, Role, SsoProfile, WebToken};

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
                if own && let Some(keys) = written(&profile) {
                    roles.reverse();
                    return Ok((Origin::Keys(keys), roles, profile));
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

/// The order is botocore's: a role, a web identity, SSO, written keys, `aws login`, a process. Of a
/// source profile, written keys go before its role.
fn step(
    profile: &Profile<'_>,
    is_source: bool,
    environment: Option<&Keys>,
) -> Result<Step, IdentityError> {
    let keys = written(profile);
    // A session that was written there (`aws configure mfa-login`) opens no other, its source may.
    if keys
        .as_ref()
        .is_some_and(|keys| keys.session_token().is_some())
        && profile.key("role_arn").is_none()
        && let Some(name) = profile.key("source_profile")
        && name != profile.name()
    {
        return Ok(Step::Borrowed(Next::Profile(name)));
    }
    if is_source && let Some(keys) = keys {
        return Ok(Step::Keys(Origin::Keys(keys)));
    }
    if let Some(arn) = profile.key("role_arn") {
        return role(profile, arn, environment);
    }
    if let Some(sso) = sso(profile)? {
        return Ok(Step::Keys(Origin::Sso(sso)));
    }
    if let Some(keys) = keys {
        return Ok(Step::Keys(Origin::Keys(keys)));
    }
    if let Some(arn) = profile.key("login_session") {
        return Ok(Step::Keys(Origin::Login(arn)));
    }
    if let Some(command) = profile.key("credential_process") {
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
    if let Some(name) = profile.key("source_profile") {
        return Ok(Step::Borrowed(Next::Profile(name)));
    }
    if profile.is_explicit() {
        return Err(IdentityError(missing(profile)));
    }
    surroundings().map(Step::Keys).ok_or_else(|| {
        IdentityError(
            "no AWS keys found: run `aws configure`, name a profile with --profile, or set \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .to_owned(),
        )
    })
}

fn role(
    profile: &Profile<'_>,
    arn: String,
    environment: Option<&Keys>,
) -> Result<Step, IdentityError> {
    let name = profile.name();
    let duration = profile.key("duration_seconds").map(|text| {
        text.parse::<i32>().map_err(|_| {
            IdentityError(format!(
                "duration_seconds = {:?} in the profile {name:?} is no number of seconds",
                crate::words::tame(&text)
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
    let token = profile.key("web_identity_token_file").map(WebToken::File);
    let printed = || profile.key("web_identity_token_process");
    if let Some(token) = token.or_else(|| printed().map(WebToken::Process)) {
        return Ok(Step::Keys(Origin::WebIdentity { token, role }));
    }
    let next = match (
        profile.key("source_profile"),
        profile.key("credential_source"),
    ) {
        (Some(_), Some(_)) => {
            return Err(IdentityError(format!(
                "the profile {name:?} has both source_profile and credential_source, of which AWS \
                 allows one: remove the other"
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
                    "credential_source = {:?} in the profile {name:?} is none of Environment, \
                     Ec2InstanceMetadata and EcsContainer",
                    crate::words::tame(other)
                )));
            }
        }),
        (None, None) => match written(profile) {
            Some(keys) => Next::Origin(Origin::Keys(keys)),
            None => {
                return Err(IdentityError(format!(
                    "the profile {name:?} names a role, but not with whose keys to assume it: add \
                     source_profile = PROFILE"
                )));
            }
        },
    };
    Ok(Step::Role(role, next))
}

/// Keys that stand in the profile itself.
fn written(profile: &Profile<'_>) -> Option<Keys> {
    let id = profile.key("aws_access_key_id")?;
    let secret = profile.key("aws_secret_access_key")?;
    // The old name of it, which botocore still reads.
    let token = profile
        .key("aws_session_token")
        .or_else(|| profile.key("aws_security_token"));
    Some(Keys::new(id, secret, token, None, "profile"))
}

fn sso(profile: &Profile<'_>) -> Result<Option<SsoProfile>, IdentityError> {
    let session = profile.key("sso_session");
    if session.is_none() && profile.key("sso_start_url").is_none() {
        return Ok(None);
    }
    let name = profile.name();
    if let Some(session) = &session
        && profile
            .profiles()
            .sso_session(session, "sso_start_url")
            .is_none()
    {
        return Err(IdentityError(format!(
            "the profile {name:?} names sso_session = {session}, but there is no [sso-session \
             {session}] with sso_start_url in ~/.aws/config: run `aws configure sso`"
        )));
    }
    // What the session says goes before what is left in the profile.
    let key = |key: &str| {
        session
            .as_ref()
            .and_then(|session| profile.profiles().sso_session(session, key))
            .or_else(|| profile.key(key))
    };
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
    let mut words = command.split_whitespace();
    let program = words.next()?.rsplit('/').next()?;
    if program != "s3mfa-mount" || words.next() != Some("credentials") {
        return None;
    }
    let rest: Vec<&str> = words.collect();
    let named = rest
        .iter()
        .position(|word| *word == "--profile")
        .and_then(|at| rest.get(at + 1).copied())
        .or_else(|| rest.iter().find_map(|word| word.strip_prefix("--profile=")));
    // With further options it is not the same as asking the profile.
    let is_plain = rest.len() <= 2;
    is_plain.then(|| named.unwrap_or("default").to_owned())
}

/// What AWS itself puts around a program that runs there.
fn surroundings() -> Option<Origin> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    if let (Some(token_file), Some(arn)) = (
        variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
        variable("AWS_ROLE_ARN"),
    ) {
        return Some(Origin::WebIdentity {
            token: WebToken::File(token_file),
            role: Role {
                arn,
                session_name: variable("AWS_ROLE_SESSION_NAME"),
                ..Role::default()
            },
        });
    }
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
         configure --profile {name}`"
    )
}
