//! Whether a directory's filesystem keeps bytes far behind others in a file without keeping what is
//! between, and tells where they are. FAT and ext4 with small blocks have no such offsets; NFS before 4.2
//! and most filesystems of FUSE do not tell of holes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::{Whence, lseek};

/// How far behind others bytes may lie in a data file: what was written while the file was being stored.
pub(crate) const FAR: u64 = 1 << 43;

/// Tries it with a file that has no name, so that nothing is left of it whoever dies. What cannot be
/// tried is not taken: filesystems without such files are those that are meant, mostly.
pub(super) fn is_taken(directory: &Path) -> bool {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(directory);
    file.is_ok_and(|file| is_taken_by(&file))
}

fn is_taken_by(file: &File) -> bool {
    if file.write_at(b"x", FAR).ok() != Some(1) {
        return false;
    }
    // A filesystem that knows no holes finds bytes at once.
    let found = lseek(file, 0, Whence::SeekData);
    found.is_ok_and(|at| u64::try_from(at).is_ok_and(|at| at > 0 && at <= FAR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        is_taken(place.path());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        assert!(!is_taken(&place.path().join("nowhere")));
    }
}
