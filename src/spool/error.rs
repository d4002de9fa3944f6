//! Why the spool did not do what it was asked, in words that tell what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// Why the spool did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The disk, the quota or the spool's own limit: nothing more can be kept.
    #[error("{0}")]
    Full(String),
    /// A file in a format that this version does not know. It was not touched.
    #[error(
        "{path} was written by another version of s3mfa-mount: start that version once, so that \
         it uploads what is in there, or move the directory away"
    )]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// The directory is not as private as unsaved writes must be.
    #[error("{path} cannot hold unsaved writes: {why}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Another process is opening a spool in the same place, and does not get ahead.
    #[error(
        "{path} has been in use by another s3mfa-mount that is starting for {seconds} s: try \
         again, or end that process"
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited.
        seconds: u64,
    },
    /// The disk failed to take this file once, so nobody knows what of it is kept.
    #[error("{path} was not written to disk: check the disk (dmesg) and write the file again")]
    Unsynced {
        /// The data file.
        path: PathBuf,
    },
    /// A record that is not JSON, which is a mistake in this program.
    #[error("a record cannot be journalled: {0}")]
    Record(String),
    /// Anything else that the system says.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SpoolError {
    /// What became of `doing` something to `path`; for `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_full(&source) {
                Self::Full(format!(
                    "no room for unsaved writes: cannot {doing} {}: {source}; free space there, \
                     or wait until uploads are finished",
                    path.display()
                ))
            } else {
                Self::Io {
                    doing,
                    path: path.to_path_buf(),
                    source,
                }
            }
        }
    }

    /// The spool holds as much as it may.
    pub(super) fn over(limit: u64) -> Self {
        Self::Full(format!(
            "no room for unsaved writes: they have reached the limit of {limit} bytes; wait \
             until uploads are finished, or raise the limit"
        ))
    }
}

/// Whether there was no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
