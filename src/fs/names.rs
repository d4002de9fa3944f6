//! Which keys can be paths.

use std::sync::atomic::{AtomicU64, Ordering};

use super::FsError;

/// The longest component of a path in bytes: `NAME_MAX`.
const LONGEST: usize = 255;

/// Whether a component of a key can be a name in a directory.
pub(crate) fn is_name(component: &str) -> bool {
    !component.is_empty()
        && component != "."
        && component != ".."
        && component.len() <= LONGEST
        && !component.contains(['/', '\0'])
}

/// Reads the name in a request of the kernel.
///
/// Keys are UTF-8, so a name that is not is a name that does not exist.
pub(crate) fn from_kernel(name: &std::ffi::OsStr) -> Result<&str, FsError> {
    if name.len() > LONGEST {
        return Err(FsError::NameTooLong);
    }
    match name.to_str() {
        Some(name) if is_name(name) => Ok(name),
        _ => Err(FsError::NotFound),
    }
}

/// Reads a name that is to be made.
///
/// Errors: `EILSEQ` for one that is not UTF-8, as keys are.
pub(crate) fn new_name(name: &std::ffi::OsStr) -> Result<&str, FsError> {
    if name.len() > LONGEST {
        return Err(FsError::NameTooLong);
    }
    let name = name.to_str().ok_or(FsError::NotText)?;
    if is_name(name) {
        Ok(name)
    } else {
        Err(FsError::Invalid)
    }
}

/// Counts the keys that were left out, and says so once.
#[derive(Debug, Default)]
pub(crate) struct Skipped(AtomicU64);

impl Skipped {
    /// Leaves a key out.
    pub(crate) fn skip(&self, key: &str) {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "the key {:?} cannot be a path (empty, `.`, `..`, no UTF-8 or more than 255 bytes \
                 between slashes) and is left out; `status` counts the others like it",
                crate::words::tame(key)
            );
        }
    }

    /// How many were left out, each time they were listed.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn what_a_path_cannot_hold_is_no_name() {
        for name in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(!is_name(name), "{name:?}");
        }
        for name in ["a", "...", " ", "-", "ä", &"x".repeat(255)] {
            assert!(is_name(name), "{name:?}");
        }
    }
}
