//! Who keeps a mount that was taken away: proc(5).
//!
//! The kernel lets go of a mount when the last file there is closed, the last mapping and the last
//! working directory are gone, and it is mounted nowhere else. Whoever has made a mount namespace
//! (`unshare -m`, a container, a service with a private `/tmp`) may have a copy of every mount that
//! was there then, without knowing or using it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How many are named to people.
const NAMED: usize = 3;

/// What of a process may hold a mount, besides its open files and mappings.
const LINKS: [&str; 3] = ["cwd", "root", "exe"];

/// Who holds a mount, as far as this process may see.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holders {
    /// Programs that use it: `vim (1234)`.
    pub(super) programs: Vec<String>,
    /// Programs in whose mount namespaces it is still mounted, one for each.
    pub(super) namespaces: Vec<String>,
}

impl Holders {
    /// Looks for those of the mount with this device number, `0:57`. Asks the mount for nothing, but
    /// may wait for processes that change their mappings just then.
    pub(super) fn find(device: &str) -> Self {
        let mut found = Self::default();
        let Some(number) = parse(device) else {
            return found;
        };
        let own = std::process::id();
        let mut seen: HashSet<PathBuf> = namespace(own).into_iter().collect();
        for process in processes().filter(|process| *process != own) {
            if uses(process, number) {
                found.programs.push(name(process));
            }
            if let Some(namespace) = namespace(process)
                && seen.insert(namespace)
                && !places(process, device).is_empty()
            {
                found.namespaces.push(name(process));
            }
        }
        found
    }

    /// The programs in words.
    pub(super) fn named(&self) -> String {
        let named = self.programs.iter().take(NAMED).cloned();
        let named: Vec<_> = named.collect();
        let named = named.join(", ");
        match self.programs.len().saturating_sub(NAMED) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

/// Where the mount with this device number is in this process's own namespace.
pub(super) fn own_places(device: &str) -> Vec<PathBuf> {
    places(std::process::id(), device)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn of(process: u32, what: &str) -> PathBuf {
    Path::new("/proc").join(process.to_string()).join(what)
}

fn name(process: u32) -> String {
    let name = fs::read_to_string(of(process, "comm")).unwrap_or_default();
    format!("{} ({process})", crate::words::tame(name.trim_end()))
}

fn namespace(process: u32) -> Option<PathBuf> {
    fs::read_link(of(process, "ns/mnt")).ok()
}

fn places(process: u32, device: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string(of(process, "mountinfo")).unwrap_or_default();
    let lines = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        (fields.next()? == device).then(|| fields.nth(1)).flatten()
    });
    lines
        .map(|place| super::place::unescape(place).into())
        .collect()
}

fn uses(process: u32, device: (u32, u32)) -> bool {
    let is_there = |path: &Path| crate::sys::device_of(path) == Some(device);
    let files = fs::read_dir(of(process, "fd")).into_iter().flatten();
    LINKS.iter().any(|link| is_there(&of(process, link)))
        || files.flatten().any(|file| is_there(&file.path()))
        || maps(process, device)
}

/// Whether a process has something mapped: proc_pid_maps(5).
fn maps(process: u32, (major, minor): (u32, u32)) -> bool {
    let device = format!("{major:02x}:{minor:02x}");
    let maps = fs::read_to_string(of(process, "maps")).unwrap_or_default();
    let mut devices = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    devices.any(|mapped| mapped == device)
}

fn parse(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_named_and_the_others_counted() {
        let names = |count: usize| Holders {
            programs: (0..count).map(|index| format!("cat ({index})")).collect(),
            namespaces: Vec::new(),
        };
        assert_eq!(names(2).named(), "cat (0), cat (1)");
        assert_eq!(names(5).named(), "cat (0), cat (1), cat (2) and 2 more");
    }

    #[test]
    fn who_has_something_open_is_found() {
        use std::os::unix::fs::MetadataExt;
        let disk = tempfile::tempdir().unwrap();
        let number = fs::metadata(disk.path()).unwrap().dev();
        let device = (
            u32::try_from(nix::sys::stat::major(number)).unwrap(),
            u32::try_from(nix::sys::stat::minor(number)).unwrap(),
        );
        let _open = fs::File::create(disk.path().join("f")).unwrap();
        assert!(uses(std::process::id(), device));
        assert!(!uses(std::process::id(), (0, u32::MAX)));
    }
}
