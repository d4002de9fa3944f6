//! One of the two configuration files: where it is, and what its sections are called.

use std::fmt;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::ini::{Document, Value};
use super::words;
use crate::home;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// The section whose keys hold for every other one of its file (Python, `configparser.DEFAULTSECT`).
const FOR_ALL: &str = "DEFAULT";

/// What a section of the configuration file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Profile,
    SsoSession,
    Services,
}

impl Named {
    /// What its name begins with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::SsoSession => "sso-session",
            Self::Services => "services",
        }
    }

    /// The name of this kind in a section's, as botocore's `_parse_section` reads it: the second of
    /// two words as a shell has them. `aws configure` quotes names with blanks, and leaves others
    /// that no shell would take (`[profile it's]`): those are taken as they stand.
    fn name(self, section: &str) -> Option<String> {
        if section == "default" && self == Self::Profile {
            return Some(section.to_owned());
        }
        section.strip_prefix(self.prefix())?;
        match words::split(section).as_deref() {
            Ok([_, name]) => Some(name.clone()),
            _ => {
                let name = section.strip_prefix(self.prefix())?;
                let trimmed = name.trim_start();
                (trimmed.len() < name.len() && !trimmed.is_empty()).then(|| trimmed.to_owned())
            }
        }
    }
}

/// A file, read.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    path: String,
    document: Document,
    /// The section [`FOR_ALL`].
    for_all: Option<usize>,
}

impl fmt::Display for Sheet {
    /// The path, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl Sheet {
    /// Reads `AWS_CONFIG_FILE`, else `~/.aws/config`.
    pub(super) fn config() -> Self {
        Self::read("AWS_CONFIG_FILE", "~/.aws/config")
    }

    /// Reads `AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`.
    pub(super) fn credentials() -> Self {
        Self::read("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    }

    /// A missing file is an empty one, and one that cannot be read is complained about: there may be
    /// keys elsewhere.
    fn read(variable: &str, usual: &str) -> Self {
        let named = std::env::var_os(variable);
        let path = match &named {
            Some(path) => match path.to_str() {
                Some(path) => home::expanded(path),
                None => path.into(),
            },
            None => home::expanded(usual),
        };
        let document = match bytes(&path) {
            Ok(Some(bytes)) => Document::parse(&bytes),
            // `AWS_CONFIG_FILE=` and /dev/null say that there is none.
            Ok(None) if named.is_none() || path.as_os_str().is_empty() || path.exists() => {
                Document::default()
            }
            Ok(None) => Document::unreadable(format!("does not exist: check {variable}")),
            Err(why) => Document::unreadable(why),
        };
        Self::new(&crate::words::tame(&path.to_string_lossy()), document)
    }

    pub(super) fn new(path: &str, document: Document) -> Self {
        Self {
            path: path.to_owned(),
            for_all: document.section(FOR_ALL),
            document,
        }
    }

    pub(super) fn complaints(&self) -> impl Iterator<Item = String> {
        self.document.complaints(&self.path)
    }

    /// The names as they stand between the brackets.
    pub(super) fn sections(&self) -> impl Iterator<Item = (String, usize)> {
        let sections = self.document.sections.iter().enumerate();
        sections
            .filter(|(index, _)| Some(*index) != self.for_all)
            .map(|(index, section)| (section.name.clone(), index))
    }

    /// The names that stand in quotes, without them.
    pub(super) fn unquoted(&self) -> impl Iterator<Item = (String, usize)> {
        self.sections().filter_map(|(name, index)| {
            let [bare] = <[String; 1]>::try_from(words::split(&name).ok()?).ok()?;
            (name.starts_with(['"', '\'']) && bare != name).then_some((bare, index))
        })
    }

    /// The sections of a kind, in the order of the file.
    pub(super) fn named(&self, kind: Named) -> impl Iterator<Item = (String, usize)> {
        self.sections()
            .filter_map(move |(section, index)| Some((kind.name(&section)?, index)))
    }

    /// The section of a kind and a name: the last if that stands in two forms.
    pub(super) fn find(&self, kind: Named, name: &str) -> Option<usize> {
        let sections = self.named(kind).filter(|(known, _)| known == name);
        sections.last().map(|(_, index)| index)
    }

    /// The section that stands there literally.
    pub(super) fn section(&self, name: &str) -> Option<usize> {
        self.document.section(name)
    }

    pub(super) fn value(&self, section: usize, key: &str) -> Option<&Value> {
        let of = |section: usize| self.document.sections.get(section)?.values.get(key);
        of(section).or_else(|| of(self.for_all?))
    }

    /// Every key of a section.
    pub(super) fn values(&self, section: usize) -> impl Iterator<Item = (&String, &Value)> {
        let own = self.document.sections.get(section);
        let for_all = self.for_all.and_then(|all| self.document.sections.get(all));
        let sections = [own, for_all].into_iter().flatten();
        sections.flat_map(|section| &section.values)
    }
}

/// What is in a file; `None` if there is no regular file, which the CLI does not read either.
fn bytes(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    if !path.is_file() {
        return Ok(None);
    }
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!(
            "is larger than {} MiB, and nothing in it is read",
            LONGEST >> 20
        ));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_aws_configure_has_written() {
        let name = |section| Named::Profile.name(section);
        for (section, expected) in [
            ("default", "default"),
            ("profile default", "default"),
            ("profile 'my work'", "my work"),
            ("profile \"my work\"", "my work"),
            ("profile 'it'\"'\"'s mine'", "it's mine"),
            ("profile it's", "it's"),
            ("profile a b", "a b"),
            ("profile\tMüller(x),&#", "Müller(x),&#"),
        ] {
            assert_eq!(name(section).as_deref(), Some(expected), "{section}");
        }
        for section in ["profile", "profiles", "work", "sso-session x", "DEFAULT"] {
            assert_eq!(name(section), None, "{section}");
        }
        assert_eq!(
            Named::SsoSession.name("sso-session 'a #1'").as_deref(),
            Some("a #1")
        );
        assert_eq!(Named::Services.name("default"), None);
    }
}
