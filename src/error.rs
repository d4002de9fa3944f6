//! The one place that knows errnos.

use crate::auth::AuthError;
use crate::fs::FsError;
use crate::store::StoreError;

/// The errno that a program sees, as in `errno(3)`.
///
/// `EAGAIN` says of locks that somebody else has them, and nothing else: runtimes read it as "no
/// data yet" and spin.
pub(crate) fn errno(error: &FsError) -> i32 {
    match error {
        FsError::NotFound => libc::ENOENT,
        FsError::NameTooLong => libc::ENAMETOOLONG,
        FsError::NotADirectory => libc::ENOTDIR,
        FsError::IsADirectory => libc::EISDIR,
        FsError::Exists => libc::EEXIST,
        FsError::NotEmpty => libc::ENOTEMPTY,
        FsError::TooLarge => libc::EFBIG,
        FsError::NoSpace(_) | FsError::NoSpaceForMetadata => libc::ENOSPC,
        FsError::Spool(_) => libc::EIO,
        FsError::NoData => libc::ENODATA,
        FsError::NotText => libc::EILSEQ,
        FsError::Invalid => libc::EINVAL,
        FsError::NotPermitted => libc::EPERM,
        FsError::Unsupported => libc::ENOTSUP,
        FsError::ReadOnly => libc::EROFS,
        FsError::BadHandle => libc::EBADF,
        FsError::LockHeld => libc::EAGAIN,
        FsError::NoLocks(_) => libc::ENOLCK,
        FsError::Interrupted | FsError::GivenUp => libc::EINTR,
        FsError::TookTooLong => libc::ETIMEDOUT,
        FsError::Store(error) => match error {
            StoreError::NotFound => libc::ENOENT,
            StoreError::Denied(_) => libc::EACCES,
            StoreError::Changed => libc::ESTALE,
            StoreError::Unreachable { timed_out, .. } => unreachable_errno(*timed_out),
            StoreError::TooLarge(_) | StoreError::TooManyParts { .. } => libc::EFBIG,
            StoreError::LongKey => libc::ENAMETOOLONG,
            StoreError::Unsupported(_) => libc::ENOTSUP,
            StoreError::Archived
            | StoreError::Busy(_)
            | StoreError::NoUpload(_)
            | StoreError::Garbled(_)
            | StoreError::Listing(_)
            | StoreError::Region(_)
            | StoreError::NoRegion { .. }
            | StoreError::Service(_)
            | StoreError::Signature(_)
            | StoreError::Untold(_) => libc::EIO,
            StoreError::Session(error) => match error {
                AuthError::Cancelled
                | AuthError::TimedOut
                | AuthError::CoolingDown { .. }
                | AuthError::Unasked
                | AuthError::NoPrompt(_)
                | AuthError::Locked
                | AuthError::Ending => libc::EKEYEXPIRED,
                AuthError::CodesRejected(_)
                | AuthError::UnknownDevice(_)
                | AuthError::NoDevice(_)
                | AuthError::Refused(_) => libc::EKEYREJECTED,
                AuthError::Unreachable { timed_out, .. } => unreachable_errno(*timed_out),
                AuthError::Unavailable(_) => libc::EIO,
            },
        },
    }
}

fn unreachable_errno(timed_out: bool) -> i32 {
    if timed_out {
        libc::ETIMEDOUT
    } else {
        libc::ENETUNREACH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_reads_as_try_again() {
        let errors = [
            StoreError::Service("HTTP 503, SlowDown".to_owned()),
            StoreError::Archived,
            StoreError::Session(AuthError::Unavailable(String::new())),
        ];
        for error in errors {
            assert_eq!(errno(&error.into()), libc::EIO);
        }
    }

    #[test]
    fn a_locked_session_and_a_rejected_code_are_told_apart() {
        let session = |error| errno(&FsError::Store(StoreError::Session(error)));
        assert_eq!(session(AuthError::Cancelled), libc::EKEYEXPIRED);
        assert_eq!(session(AuthError::TimedOut), libc::EKEYEXPIRED);
        assert_eq!(
            session(AuthError::CodesRejected(String::new())),
            libc::EKEYREJECTED
        );
        assert_eq!(
            session(AuthError::UnknownDevice(String::new())),
            libc::EKEYREJECTED
        );
    }
}
