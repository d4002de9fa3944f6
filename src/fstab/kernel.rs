//! The options that the kernel itself keeps of a mount: mount_setattr(2), and mount(8) under
//! "filesystem-independent mount options".

use nix::mount::MsFlags;

/// Symbolic links are not followed (`MS_NOSYMFOLLOW` of include/uapi/linux/mount.h, since 5.10).
const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW);

/// What a mount has without being told. FUSE keeps no access times, and nobody's setuid program
/// runs as its owner unless somebody who may allow that says so.
const USUAL: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOATIME);

/// How access times are kept: one of them, or the kernel's default.
const TIMES: MsFlags = MsFlags::MS_NOATIME
    .union(MsFlags::MS_RELATIME)
    .union(MsFlags::MS_STRICTATIME);

/// What is implied where ordinary users may mount: `user` and `users`, and `owner` and `group`.
const FOR_USERS: MsFlags = FOR_OWNERS.union(MsFlags::MS_NOEXEC);
const FOR_OWNERS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// A word, the flags that it sets, and those that it takes away.
const WORDS: [(&str, MsFlags, MsFlags); 26] = [
    ("dev", NONE, MsFlags::MS_NODEV),
    ("nodev", MsFlags::MS_NODEV, NONE),
    ("suid", NONE, MsFlags::MS_NOSUID),
    ("nosuid", MsFlags::MS_NOSUID, NONE),
    ("exec", NONE, MsFlags::MS_NOEXEC),
    ("noexec", MsFlags::MS_NOEXEC, NONE),
    ("async", NONE, MsFlags::MS_SYNCHRONOUS),
    ("sync", MsFlags::MS_SYNCHRONOUS, NONE),
    ("dirsync", MsFlags::MS_DIRSYNC, NONE),
    ("atime", NONE, MsFlags::MS_NOATIME),
    ("noatime", MsFlags::MS_NOATIME, TIMES),
    ("relatime", MsFlags::MS_RELATIME, TIMES),
    ("norelatime", NONE, MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME, TIMES),
    ("nostrictatime", NONE, MsFlags::MS_STRICTATIME),
    ("diratime", NONE, MsFlags::MS_NODIRATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME, NONE),
    ("lazytime", MsFlags::MS_LAZYTIME, NONE),
    ("nolazytime", NONE, MsFlags::MS_LAZYTIME),
    ("symfollow", NONE, NOSYMFOLLOW),
    ("nosymfollow", NOSYMFOLLOW, NONE),
    ("user", FOR_USERS, NONE),
    ("users", FOR_USERS, NONE),
    ("owner", FOR_OWNERS, NONE),
    ("group", FOR_OWNERS, NONE),
    // For mount(8) alone.
    ("nouser", NONE, NONE),
];

const NONE: MsFlags = MsFlags::empty();

/// Labels of SELinux, which the kernel takes from every filesystem.
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// The options of one mount that the kernel keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelOptions {
    flags: MsFlags,
    /// `context=LABEL` and the like.
    contexts: Vec<String>,
}

impl KernelOptions {
    /// What a list of words amounts to; of words that contradict each other the last one counts.
    pub(crate) fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut options = Self {
            flags: USUAL,
            contexts: Vec::new(),
        };
        for word in words {
            // mount(8) writes down who has mounted: `user=alice`.
            let name = word.split_once('=').map_or(word, |(name, _)| name);
            if CONTEXTS.contains(&name) {
                options.contexts.push(word.to_owned());
            } else if let Some((_, set, clear)) = WORDS.iter().find(|(known, ..)| *known == name) {
                options.flags = (options.flags - *clear) | *set;
            }
        }
        options
    }

    /// Whether programs get the rights of their owners.
    pub(crate) fn lets_programs_change_user(&self) -> bool {
        !self
            .flags
            .intersects(MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)
    }

    /// For mount(2).
    pub(crate) fn flags(&self) -> MsFlags {
        self.flags
    }

    /// For the last argument of mount(2): labels may have commas in them.
    pub(crate) fn labels(&self) -> impl Iterator<Item = String> {
        self.contexts.iter().filter_map(|context| {
            let (name, label) = context.split_once('=')?;
            Some(format!("{name}=\"{label}\""))
        })
    }

    /// What of them is to be said to fusermount3, which has `nosuid` and `nodev` by itself and takes
    /// neither away for an ordinary user.
    pub(crate) fn words(&self) -> Vec<&str> {
        let said = WORDS.iter().filter(|(name, set, _)| {
            let is_single = set.bits().count_ones() == 1;
            is_single && self.flags.contains(*set) && !matches!(*name, "nosuid" | "nodev")
        });
        // What is kept for `relatime` is the kernel's default, and fusermount3 does not know the word.
        said.map(|(name, ..)| *name)
            .filter(|name| *name != "relatime")
            .chain(self.contexts.iter().map(String::as_str))
            .collect()
    }
}

/// Whether an option is one of the kernel's.
pub(super) fn is_known(option: &str) -> bool {
    match option.split_once('=') {
        Some(("user", _)) => true,
        Some((name, _)) => CONTEXTS.contains(&name),
        None => WORDS.iter().any(|(known, ..)| *known == option),
    }
}

/// Why an option of the kernel cannot be had on this machine.
pub(super) fn refusal(option: &str) -> Option<&'static str> {
    let name = option.split_once('=').map(|(name, _)| name)?;
    let has_selinux = || std::path::Path::new("/sys/fs/selinux/enforce").exists();
    (CONTEXTS.contains(&name) && !has_selinux())
        .then_some("this machine runs without SELinux: leave it out")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &str) -> KernelOptions {
        KernelOptions::of(list.split(',').filter(|word| !word.is_empty()))
    }

    #[test]
    fn what_users_may_mount_runs_nothing_unless_that_is_said_afterwards() {
        for list in ["user", "users", "user=alice", "users,rw"] {
            let flags = of(list).flags();
            assert!(flags.contains(FOR_USERS), "{list}");
        }
        let opened = of("users,exec,suid").flags();
        assert!(!opened.intersects(MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID));
        assert!(opened.contains(MsFlags::MS_NODEV));
        assert!(of("exec,users").flags().contains(MsFlags::MS_NOEXEC));
        let owners = of("owner").flags();
        assert!(owners.contains(FOR_OWNERS) && !owners.contains(MsFlags::MS_NOEXEC));
    }

    #[test]
    fn nothing_said_is_the_careful_default() {
        assert_eq!(of("").flags(), USUAL);
        assert_eq!(of("").words(), ["noatime"]);
        assert!(!of("").lets_programs_change_user());
        assert!(of("suid").lets_programs_change_user());
        assert!(!of("suid,noexec").lets_programs_change_user());
    }

    #[test]
    fn access_times_are_kept_one_way() {
        let times = |list: &str| of(list).flags() & TIMES;
        assert_eq!(times("relatime"), MsFlags::MS_RELATIME);
        assert_eq!(times("relatime,strictatime"), MsFlags::MS_STRICTATIME);
        assert_eq!(times("strictatime,noatime"), MsFlags::MS_NOATIME);
        assert_eq!(times("atime"), NONE);
        assert!(of("relatime").words().is_empty());
    }

    #[test]
    fn labels_keep_their_commas() {
        let labelled = KernelOptions::of(["context=u:r:t:s0:c1,c2"]);
        let labels: Vec<_> = labelled.labels().collect();
        assert_eq!(labels, ["context=\"u:r:t:s0:c1,c2\""]);
    }
}
