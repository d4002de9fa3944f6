//! Where the user's home is, and paths that are written relative to it.

use std::path::PathBuf;

use nix::unistd::{User, getuid};

/// The home directory: `HOME`, else what the password database says, as Python's `expanduser` has it.
pub(crate) fn directory() -> Option<PathBuf> {
    let named = std::env::var_os("HOME").filter(|home| !home.is_empty());
    named.map(PathBuf::from).or_else(|| {
        let user = User::from_uid(getuid()).ok()??;
        Some(user.dir)
    })
}

/// A path as the AWS CLI takes that of a configuration file: with `$NAME` and `${NAME}` of the
/// environment, then `~` or `~USER` at the beginning (botocore, `raw_config_parse`). What is not known
/// stays as it is.
pub(crate) fn expanded(path: &str) -> PathBuf {
    let path = with_variables(path);
    let Some(rest) = path.strip_prefix('~') else {
        return path.into();
    };
    let (user, below) = rest.split_once('/').unwrap_or((rest, ""));
    let home = match user {
        "" => directory(),
        user => User::from_name(user).ok().flatten().map(|user| user.dir),
    };
    match home {
        Some(home) => home.join(below.trim_start_matches('/')),
        None => path.into(),
    }
}

/// Python's `posixpath.expandvars`.
fn with_variables(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = match rest[1..].strip_prefix('{') {
            Some(braced) => braced.find('}').map(|end| (&braced[..end], end + 3)),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = rest[1..].find(|c| !is_name(c)).unwrap_or(rest.len() - 1);
                Some((&rest[1..=end], end + 1))
            }
        };
        let value = name.and_then(|(name, length)| Some((std::env::var(name).ok()?, length)));
        match value {
            Some((value, length)) => {
                out.push_str(&value);
                rest = &rest[length..];
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_expanded_as_python_expands_them() {
        // Cargo sets these for every test.
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(std::env::var("CARGO_PKG_VERSION").as_deref(), Ok(version));
        for (path, expected) in [
            ("/a/$CARGO_PKG_VERSION/b", format!("/a/{version}/b")),
            ("/a/${CARGO_PKG_VERSION}b", format!("/a/{version}b")),
            ("/a$CARGO_PKG_VERSION", format!("/a{version}")),
            ("/$S3MFA_NO_SUCH/b", "/$S3MFA_NO_SUCH/b".to_owned()),
            ("/${S3MFA_NO_SUCH}/$", "/${S3MFA_NO_SUCH}/$".to_owned()),
            ("/${CARGO_PKG_VERSION", "/${CARGO_PKG_VERSION".to_owned()),
            ("/a/~/b", "/a/~/b".to_owned()),
            ("~no-such-user/b", "~no-such-user/b".to_owned()),
            ("", String::new()),
        ] {
            assert_eq!(expanded(path), PathBuf::from(expected), "{path}");
        }
        let home = directory().unwrap();
        assert_eq!(expanded("~/.aws//config"), home.join(".aws//config"));
        assert_eq!(expanded("~"), home);
        assert_eq!(expanded("~root/x"), PathBuf::from("/root/x"));
    }
}
