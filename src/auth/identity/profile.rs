//! The AWS configuration files, as key and value.

use aws_config::profile::ProfileSet;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};

use super::IdentityError;

/// How many profiles may include one another.
const LONGEST_INCLUSION: usize = 8;

/// All profiles of `~/.aws/config` and `~/.aws/credentials`.
#[derive(Debug)]
pub(crate) struct Profiles(ProfileSet);

impl Profiles {
    #[cfg(test)]
    pub(super) fn of(set: ProfileSet) -> Self {
        Self(set)
    }

    /// Reads the files anew; a missing one is an empty one.
    pub(crate) async fn load() -> Result<Self, IdentityError> {
        let profiles =
            aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), None)
                .await;
        profiles.map(Self).map_err(|error| {
            IdentityError(format!(
                "the AWS configuration cannot be read: {}",
                crate::words::tame(&error.to_string())
            ))
        })
    }

    /// The profile of this name, or the default one, which need not be there.
    pub(crate) fn choose(&self, name: Option<String>) -> Result<Profile<'_>, IdentityError> {
        if let Some(name) = &name
            && !self.has(name)
        {
            let mut known: Vec<&str> = self.0.profiles().collect();
            known.sort_unstable();
            return Err(IdentityError(format!(
                "there is no profile {name:?} in ~/.aws/config or ~/.aws/credentials; there {}",
                match known.as_slice() {
                    [] => "is none at all".to_owned(),
                    known => format!("are: {}", known.join(", ")),
                }
            )));
        }
        Ok(Profile {
            all: self,
            explicit: name.is_some(),
            name: name.unwrap_or_else(|| "default".to_owned()),
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get_profile(name).is_some()
    }

    /// A key of an `[sso-session NAME]`.
    pub(super) fn sso_session(&self, name: &str, key: &str) -> Option<String> {
        filled(self.0.sso_session(name)?.get(key)?)
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

    /// The value of a key, if it has one, or the profile has that it includes (`include_profile`, of
    /// aws-vault; `parent_profile` in its older versions). Keys to AWS are not included.
    pub(crate) fn key(&self, key: &str) -> Option<String> {
        let mut name = self.name.clone();
        // Enough for any sense, and an end to circles.
        for _ in 0..LONGEST_INCLUSION {
            let profile = self.all.0.get_profile(&name)?;
            if let Some(value) = profile.get(key).and_then(filled) {
                return Some(value);
            }
            if key.starts_with("aws_") {
                return None;
            }
            let included = profile.get("include_profile");
            name = included
                .or_else(|| profile.get("parent_profile"))
                .and_then(filled)?;
        }
        None
    }

    /// The value of a key below another one: `s3 =` with `addressing_style` in lines below.
    pub(crate) fn nested(&self, key: &str, below: &str) -> Option<String> {
        let lines = self.key(key)?;
        let found = lines.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == below).then(|| value.trim().to_owned())
        });
        found.filter(|value| !value.is_empty())
    }

    /// The value of `services = NAME`, `[services NAME]`, `SERVICE =`, `KEY`.
    pub(crate) fn service(&self, service: &str, key: &str) -> Option<String> {
        let section = self.key("services")?;
        let value = self.all.0.other_sections().get(
            &aws_runtime::env_config::property::PropertiesKey::builder()
                .section_key("services")
                .section_name(section)
                .property_name(service)
                .sub_property_name(key)
                .build()
                .ok()?,
        )?;
        filled(value)
    }

    /// Another profile, which this one names.
    pub(super) fn other(&self, name: &str) -> Result<Self, IdentityError> {
        if !self.all.has(name) {
            return Err(IdentityError(format!(
                "the profile {:?} names source_profile = {name}, which does not exist",
                self.name
            )));
        }
        Ok(Self {
            all: self.all,
            name: name.to_owned(),
            explicit: true,
        })
    }
}

fn filled(value: &str) -> Option<String> {
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}
