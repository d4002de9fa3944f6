//! Who holds a lock, and whether that is a process that was killed and cannot end.
//!
//! A thread that waits in the kernel for an answer of its own process survives SIGKILL, and with
//! it the process, its locks and its FUSE connection. Nobody else can tell such a process what to
//! do; its connection has to be aborted.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The process that holds a lock of flock(2) on a file, by proc_locks(5); `None` if nobody does, or
/// it cannot be known.
pub(crate) fn holder(path: &Path) -> Option<u32> {
    let inode = path.symlink_metadata().ok()?.ino();
    find(&std::fs::read_to_string("/proc/locks").ok()?, inode)
}

fn find(locks: &str, inode: u64) -> Option<u32> {
    let suffix = format!(":{inode}");
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Who waits for it has an arrow in between.
        match fields[..] {
            [_, "FLOCK", _, "WRITE", process, place, ..] if place.ends_with(&suffix) => {
                process.parse().ok()
            }
            _ => None,
        }
    })
}

/// Whether a process was killed. One that still holds something a while later cannot end.
pub(crate) fn was_killed(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    threads.into_iter().flatten().flatten().any(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status"));
        status.is_ok_and(|status| is_killed(&status))
    })
}

/// Reads proc_pid_status(5): SIGKILL is pending, or the thread has ended while others go on.
fn is_killed(status: &str) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default()
    };
    let pending = |name| u64::from_str_radix(field(name), 16).unwrap_or(0);
    let kill = 1 << (libc::SIGKILL - 1);
    field("State:").starts_with('Z') || (pending("SigPnd:") | pending("ShdPnd:")) & kill != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_found_by_its_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 1234 00:2f:4711 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 99 00:2f:4711 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 77 00:2f:815 0 EOF\n";
        assert_eq!(find(locks, 4711), Some(1234));
        assert_eq!(find(locks, 711), None);
        assert_eq!(find(locks, 815), None);
    }

    #[test]
    fn this_process_holds_its_lock_and_was_not_killed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(holder(file.path()), None);
        file.as_file().lock().unwrap();
        assert_eq!(holder(file.path()), Some(std::process::id()));
        assert!(!was_killed(std::process::id()));
    }

    #[test]
    fn who_was_killed_shows() {
        assert!(is_killed(
            "State:\tD (disk sleep)\nShdPnd:\t0000000000000100\n"
        ));
        assert!(is_killed("State:\tZ (zombie)\n"));
        assert!(!is_killed(
            "State:\tD (disk sleep)\nSigPnd:\t0000000000000000\n"
        ));
    }
}
