//! The profiles of the AWS configuration files, as key and value.
//!
//! Which section is which profile follows the AWS CLI (botocore, `build_profile_map` and
//! `Session.full_config`): of `[profile NAME]` in the one file and `[NAME]` in the other, the keys of the
//! credentials file win; a name that stands in two forms in the configuration file, such as `[default]`
//! and `[profile default]`, is the last of them.

use std::collections::BTreeMap;

use aws_credential_types::Credentials as Keys;

use super::IdentityError;
use super::ini::Value;
use super::sheet::{Named, Sheet};
use super::value;

/// How many profiles may include one another.
const LONGEST_INCLUSION: usize = 8;

/// What the keys begin with that say who wants in and where: a value of theirs that cannot be used is
/// never overlooked.
const TELLING: [&str; 16] = [
    "aws_",
    "role_",
    "source_",
    "credential_",
    "sso_",
    "web_",
    "login_",
    "mfa_",
    "external_",
    "include_",
    "parent_",
    "region",
    "endpoint_",
    "services",
    "session_",
    "ca_bundle",
];

/// The keys of a user.
const ID: &str = "aws_access_key_id";
const SECRET: &str = "aws_secret_access_key";

/// Names of the token of temporary keys, in the order in which botocore looks for them.
const TOKENS: [&str; 2] = ["aws_security_token", "aws_session_token"];

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Config,
    Credentials,
}

/// All profiles of `~/.aws/config` and `~/.aws/credentials`.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    config: Sheet,
    credentials: Sheet,
    /// The section of each file.
    profiles: BTreeMap<String, (Option<usize>, Option<usize>)>,
}

impl Profiles {
    /// Reads the files anew; a missing one is an empty one.
    ///
    /// # Errors
    ///
    /// The program is ending. What is wrong in the files is told by [`Self::complaints`] and by the
    /// errors of those who need what is not there.
    pub(crate) async fn load() -> Result<Self, IdentityError> {
        let read = || Self::of(Sheet::config(), Sheet::credentials());
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| IdentityError("the AWS configuration was not read to its end".to_owned()))
    }

    /// Puts the files together.
    pub(super) fn of(config: Sheet, credentials: Sheet) -> Self {
        let mut profiles: BTreeMap<_, (Option<usize>, Option<usize>)> = BTreeMap::new();
        for (name, section) in config.named(Named::Profile) {
            profiles.entry(name).or_default().0 = Some(section);
        }
        for (name, section) in credentials.sections() {
            profiles.entry(name).or_default().1 = Some(section);
        }
        // `["my work"]` is the CLI's name with its quotes; people mean the one without.
        for (name, section) in credentials.unquoted() {
            let known = profiles.entry(name).or_default();
            known.1 = known.1.or(Some(section));
        }
        Self {
            config,
            credentials,
            profiles,
        }
    }

    /// What is wrong in the files, a sentence each, by file and line. None quotes a value.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let files = [&self.config, &self.credentials];
        files.iter().flat_map(|sheet| sheet.complaints()).collect()
    }

    /// The complaints behind a sentence that says what is missing.
    pub(super) fn remark(&self) -> String {
        match self.complaints().as_slice() {
            [] => String::new(),
            complaints => format!(" ({})", complaints.join("; ")),
        }
    }

    /// The profile of this name, or the default one, which need not be there.
    pub(crate) fn choose(&self, name: Option<String>) -> Result<Profile<'_>, IdentityError> {
        // Named or not, there need be none: keys may be in the environment.
        let name = name.filter(|name| name != "default" || self.has(name));
        if let Some(name) = &name
            && !self.has(name)
        {
            let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
            let there = match known.as_slice() {
                [] => "is none at all".to_owned(),
                known => format!("are: {}", known.join(", ")),
            };
            let hint = match self.config.section(name) {
                Some(_) => format!(
                    ". [{name}] of {} is written [profile {name}] there",
                    self.config
                ),
                None => match self.credentials.section(&format!("profile {name}")) {
                    Some(_) => format!(
                        ". [profile {name}] of {} is written [{name}] there",
                        self.credentials
                    ),
                    None => String::new(),
                },
            };
            return Err(IdentityError(format!(
                "there is no profile {name:?} in {} or {}; there {there}{hint}{}",
                self.config,
                self.credentials,
                self.remark()
            )));
        }
        let profile = Profile {
            all: self,
            explicit: name.is_some(),
            name: name.unwrap_or_else(|| "default".to_owned()),
        };
        profile.check()?;
        Ok(profile)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.profiles.contains_key(name)
    }

    /// What is written of this name in `[sso-session NAME]`; `None` if there is no such section.
    pub(super) fn sso_session<'a>(
        &'a self,
        name: &str,
    ) -> Option<impl Fn(&str) -> Option<String> + use<'a>> {
        let section = self.config.find(Named::SsoSession, name)?;
        Some(move |key: &str| self.config.value(section, key).and_then(value::plain))
    }

    fn sheet(&self, which: Which) -> &Sheet {
        match which {
            Which::Config => &self.config,
            Which::Credentials => &self.credentials,
        }
    }
}

/// One profile among the others.
#[derive(Debug, Clone)]
pub(crate) struct Profile<'a> {
    all: &'a Profiles,
    name: String,
    explicit: bool,
}

impl<'a> Profile<'a> {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the user named it.
    pub(crate) fn is_explicit(&self) -> bool {
        self.explicit
    }

    pub(super) fn profiles(&self) -> &'a Profiles {
        self.all
    }

    /// Refuses a profile that says who wants in, or where, in a way that nobody can read.
    fn check(&self) -> Result<(), IdentityError> {
        for which in [Which::Credentials, Which::Config] {
            let Some(section) = self.section(&self.name, which) else {
                continue;
            };
            let sheet = self.all.sheet(which);
            for (key, value) in sheet.values(section) {
                let is_telling = key == "s3" || TELLING.iter().any(|begin| key.starts_with(begin));
                if let Some(flaw) = value.flaw.filter(|_| is_telling) {
                    return Err(IdentityError(format!(
                        "{key} of the profile {:?}, in line {} of {sheet}, {flaw}",
                        self.name, value.line
                    )));
                }
            }
        }
        Ok(())
    }

    fn section(&self, name: &str, which: Which) -> Option<usize> {
        let (config, credentials) = self.all.profiles.get(name)?;
        match which {
            Which::Config => *config,
            Which::Credentials => *credentials,
        }
    }

    /// What stands in one of the files, empty or not.
    fn written(&self, name: &str, which: Which, key: &str) -> Option<&'a Value> {
        let section = self.section(name, which)?;
        self.all.sheet(which).value(section, key)
    }

    /// What `read` makes of a key's value, if it has one, or the profile has that it includes
    /// (`include_profile`, of aws-vault; `parent_profile` in its older versions). Keys to AWS are not
    /// included.
    fn look_up(&self, key: &str, read: impl Fn(&Value) -> Option<String>) -> Option<String> {
        let own = |name: &str, key: &str| {
            let files = [Which::Credentials, Which::Config];
            let mut values = files.iter().map(|which| self.written(name, *which, key));
            values.find_map(|value| value.and_then(&read))
        };
        let mut name = self.name.clone();
        // Enough for any sense, and an end to circles.
        for _ in 0..LONGEST_INCLUSION {
            if let Some(value) = own(&name, key) {
                return Some(value);
            }
            if key.starts_with("aws_") {
                return None;
            }
            name = own(&name, "include_profile").or_else(|| own(&name, "parent_profile"))?;
        }
        None
    }

    /// The value of a key, without quotes around it and a comment behind it.
    pub(crate) fn key(&self, key: &str) -> Option<String> {
        self.look_up(key, value::plain)
    }

    /// The value of a key that is a command line: as it stands.
    pub(crate) fn command(&self, key: &str) -> Option<String> {
        self.look_up(key, value::whole)
    }

    /// The value of a key that names a section: as it stands if there is one, else without quotes
    /// and comment.
    pub(super) fn reference(&self, key: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
        self.look_up(key, |value| {
            value::whole(value)
                .filter(|name| exists(name))
                .or_else(|| value::plain(value))
        })
    }

    /// The value of a key below another one: `s3 =` with `addressing_style` in lines below.
    pub(crate) fn nested(&self, key: &str, below: &str) -> Option<String> {
        self.look_up(key, |value| value::nested(value, below))
    }

    /// The value of `services = NAME`, `[services NAME]`, `SERVICE =`, `KEY`.
    ///
    /// # Errors
    ///
    /// There is no such section: AWS itself would be addressed instead.
    pub(crate) fn service(
        &self,
        service: &str,
        key: &str,
    ) -> Result<Option<String>, IdentityError> {
        let find = |name: &str| self.all.config.find(Named::Services, name);
        let Some(name) = self.reference("services", |name| find(name).is_some()) else {
            return Ok(None);
        };
        let Some(section) = find(&name) else {
            return Err(IdentityError(format!(
                "the profile {:?} says services = {name}{}, but there is no [services {name}] in \
                 {}{}",
                self.name,
                self.place("services"),
                self.all.config,
                self.all.remark()
            )));
        };
        let value = self.all.config.value(section, service);
        Ok(value.and_then(|value| value::nested(value, key)))
    }

    /// The keys of a user that stand in one of the files, with their token if they are temporary.
    ///
    /// # Errors
    ///
    /// The secret is nowhere.
    pub(super) fn keys(&self, which: Which) -> Result<Option<Keys>, IdentityError> {
        let own = |key: &str| self.written(&self.name, which, key);
        let Some(id) = own(ID).and_then(value::plain) else {
            return Ok(None);
        };
        let secret = own(SECRET).and_then(value::secret).or_else(|| {
            let other = match which {
                Which::Config => Which::Credentials,
                Which::Credentials => Which::Config,
            };
            value::secret(self.written(&self.name, other, SECRET)?)
        });
        let Some(secret) = secret else {
            return Err(IdentityError(format!(
                "the profile {:?} has {ID}{} and no {SECRET}: run `aws configure --profile {}`{}",
                self.name,
                self.place(ID),
                self.name,
                self.all.remark()
            )));
        };
        let mut tokens = TOKENS.iter().map(|key| own(key).and_then(value::plain));
        let token = tokens.find_map(|token| token);
        Ok(Some(Keys::new(id, secret, token, None, "profile")))
    }

    /// Whether keys of a user stand there, or half of them.
    pub(super) fn has_keys(&self) -> bool {
        [ID, SECRET].iter().any(|key| self.key(key).is_some())
    }

    /// Where a key of its own stands, for a sentence: ` (line 3 of /home/alice/.aws/config)`.
    pub(super) fn place(&self, key: &str) -> String {
        let find = |which: Which| {
            let value = self.written(&self.name, which, key)?;
            value::whole(value)?;
            Some(format!(
                " (line {} of {})",
                value.line,
                self.all.sheet(which)
            ))
        };
        find(Which::Credentials)
            .or_else(|| find(Which::Config))
            .unwrap_or_default()
    }

    /// Another profile, which this one names.
    pub(super) fn other(&self, name: &str) -> Result<Self, IdentityError> {
        if !self.all.has(name) {
            return Err(IdentityError(format!(
                "the profile {:?} names source_profile = {name}{}, which does not exist{}",
                self.name,
                self.place("source_profile"),
                self.all.remark()
            )));
        }
        let other = Self {
            all: self.all,
            name: name.to_owned(),
            explicit: true,
        };
        other.check()?;
        Ok(other)
    }
}
