//! The files that keys are read from: whether they have changed since keys were last read in vain.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::identity::{Identity, Origin, WebToken};
use super::sso;
use crate::home;

/// Which files there are, and what each of them was at a moment: `None` if it was not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources(Vec<Option<Mark>>);

/// What differs when a file has been written: device, inode, length, and the time of the last change
/// of anything, in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(u64, u64, u64, i64, i64);

impl Sources {
    /// Looks at the files of an identity, on a thread that may wait for a disk.
    pub(crate) async fn look(identity: &Identity) -> Self {
        let paths = paths(identity);
        let look = move || Self(paths.into_iter().map(mark).collect());
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

#[cfg(test)]
impl Sources {
    /// One file that was written so many times.
    pub(crate) fn of_test(writes: i64) -> Self {
        Self(vec![Some(Mark(0, 0, 0, writes, 0))])
    }
}

fn mark(path: PathBuf) -> Option<Mark> {
    let data = std::fs::metadata(path).ok()?;
    Some(Mark(
        data.dev(),
        data.ino(),
        data.len(),
        data.ctime(),
        data.ctime_nsec(),
    ))
}

/// The AWS configuration (docs.aws.amazon.com/sdkref/latest/guide/file-location.html), and what else
/// the identity's keys are made of.
fn paths(identity: &Identity) -> Vec<PathBuf> {
    let file = |variable: &str, usual: &str| {
        let named = std::env::var(variable).ok().filter(|path| !path.is_empty());
        home::expanded(named.as_deref().unwrap_or(usual))
    };
    let mut paths = vec![
        file("AWS_CONFIG_FILE", "~/.aws/config"),
        file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ];
    match &identity.origin {
        Origin::WebIdentity {
            token: WebToken::File(path),
            ..
        } => paths.push(home::expanded(path)),
        Origin::Sso(profile) => paths.extend(sso::token_file(profile)),
        _ => {}
    }
    paths
}
