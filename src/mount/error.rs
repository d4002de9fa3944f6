//! Why there is no mount, and the exit code that says so.

use nix::sys::signal::Signal;

use crate::auth::AuthError;
use crate::config::ConfigError;

/// Why there is no mount (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// Said wrong.
    #[error("{0}")]
    Usage(String),
    /// No session.
    #[error("{0}")]
    Auth(String),
    /// The bucket or the network.
    #[error("{0}")]
    Bucket(String),
    /// FUSE.
    #[error("{0}")]
    Fuse(String),
    /// A signal came before it was mounted.
    #[error("stopped before it was mounted")]
    Stopped(Signal),
    /// It ended before everything was stored.
    #[error(
        "{waiting} files are not stored yet: they are kept in {directory}, and the next mount of \
         this bucket stores them"
    )]
    Pending {
        /// How many.
        waiting: usize,
        /// Where.
        directory: String,
    },
    /// There is no mount to do something with.
    #[error("nothing is mounted; `s3mfa-mount BUCKET DIRECTORY` mounts a bucket")]
    Nothing,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl MountError {
    /// The exit code: a promise to scripts and units.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped(_) | Self::Pending { .. } | Self::Nothing | Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Auth(_) => 3,
            Self::Bucket(_) => 4,
            Self::Fuse(_) => 5,
        }
    }
}

impl From<ConfigError> for MountError {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<crate::aws::AwsError> for MountError {
    fn from(error: crate::aws::AwsError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<AuthError> for MountError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unreachable { .. } | AuthError::Unavailable(_) => {
                Self::Bucket(error.to_string())
            }
            _ => Self::Auth(error.to_string()),
        }
    }
}
