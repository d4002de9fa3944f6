//! Numbers for files and directories.
//!
//! A number is a hash of the path, so it is the same after a remount by the same program, and a
//! directory of a million names needs no memory for those that nobody looked up. Two paths with one hash are
//! told apart by probing among the inodes that the kernel knows.
//!
//! The type of an inode never changes: a key that turns from a file into a directory gets
//! another number.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use crate::store::Object;

/// The number of the root, set by the protocol (`FUSE_ROOT_ID` in include/uapi/linux/fuse.h).
pub(crate) const ROOT: u64 = 1;

/// A file with its facts, or a directory, which has none in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File(Object),
}

impl Kind {
    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }
}

/// What is known about one inode.
#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) number: u64,
    pub(crate) parent: u64,
    pub(crate) name: Box<str>,
    pub(crate) kind: Kind,
    /// When S3 last confirmed it.
    pub(crate) seen: Instant,
    /// Changes whenever the object's tag does: what pages are filed under.
    pub(crate) version: u64,
    /// How many lookups the kernel holds.
    lookups: u64,
    /// The version whose pages the kernel may keep over another open.
    kept: Option<u64>,
    /// It was opened: whoever has it open still may have filled the kernel's pages at any time.
    opened: bool,
}

/// All inodes that the kernel knows.
#[derive(Debug)]
pub(crate) struct Inodes {
    by_number: HashMap<u64, Inode>,
    by_name: HashMap<(u64, Box<str>), u64>,
    versions: u64,
}

impl Default for Inodes {
    fn default() -> Self {
        let root = Inode {
            number: ROOT,
            parent: ROOT,
            name: "".into(),
            kind: Kind::Directory,
            seen: Instant::now(),
            version: 0,
            lookups: 1,
            kept: None,
            opened: false,
        };
        Self {
            by_number: HashMap::from([(ROOT, root)]),
            by_name: HashMap::new(),
            versions: 0,
        }
    }
}

impl Inodes {
    /// The inode of a number.
    pub(crate) fn get(&self, number: u64) -> Option<&Inode> {
        self.by_number.get(&number)
    }

    /// The inode of a name, if the kernel knows it.
    pub(crate) fn find(&self, parent: u64, name: &str) -> Option<&Inode> {
        self.by_number
            .get(self.by_name.get(&(parent, name.into()))?)
    }

    /// Takes in what S3 said of a name, and when; the kernel looks it up once more.
    pub(crate) fn look_up(&mut self, parent: u64, name: &str, kind: Kind, seen: Instant) -> Inode {
        let number = self.take_in(parent, name, kind, seen);
        match self.by_number.get_mut(&number) {
            Some(inode) => {
                inode.lookups += 1;
                inode.clone()
            }
            // Not reached: it was just taken in.
            None => self.by_number[&ROOT].clone(),
        }
    }

    /// Takes in what S3 said of an inode that is known.
    pub(crate) fn refresh(&mut self, number: u64, object: Object) -> Option<Inode> {
        let inode = self.by_number.get_mut(&number)?;
        if inode.kind.is_directory() {
            return None;
        }
        let kind = Kind::File(object);
        if !same_content(&inode.kind, &kind) {
            self.versions += 1;
            inode.version = self.versions;
        }
        inode.kind = kind;
        inode.seen = Instant::now();
        Some(inode.clone())
    }

    /// Notes that the kernel may hold pages of this inode's present version from now on.
    /// Tells whether those that it holds already are of this version.
    pub(crate) fn cache_in_kernel(&mut self, number: u64) -> bool {
        let Some(inode) = self.by_number.get_mut(&number) else {
            return false;
        };
        inode.opened = true;
        inode.kept.replace(inode.version) == Some(inode.version)
    }

    /// The inodes of which the kernel may hold pages, none of which may be kept from now on.
    pub(crate) fn take_cached(&mut self) -> Vec<u64> {
        let opened = self.by_number.values_mut().filter(|inode| inode.opened);
        opened
            .map(|inode| {
                inode.kept = None;
                inode.number
            })
            .collect()
    }

    /// The kernel forgets some lookups; with the last one goes the inode.
    pub(crate) fn forget(&mut self, number: u64, lookups: u64) {
        let Some(inode) = self.by_number.get_mut(&number) else {
            return;
        };
        inode.lookups = inode.lookups.saturating_sub(lookups);
        if inode.lookups > 0 || number == ROOT {
            return;
        }
        if let Some(inode) = self.by_number.remove(&number) {
            let name = (inode.parent, inode.name);
            // The name may belong to a successor of another type by now.
            if self.by_name.get(&name) == Some(&number) {
                self.by_name.remove(&name);
            }
        }
    }

    /// The path from the root without slashes at its ends; `None` if a parent is forgotten.
    pub(crate) fn path(&self, number: u64) -> Option<String> {
        let mut names = Vec::new();
        let mut number = number;
        while number != ROOT {
            let inode = self.by_number.get(&number)?;
            names.push(&*inode.name);
            number = inode.parent;
        }
        names.reverse();
        Some(names.join("/"))
    }

    /// The number that a name has or would have.
    pub(crate) fn number(&self, parent: u64, name: &str, directory: bool) -> u64 {
        if let Some(known) = self.find(parent, name)
            && known.kind.is_directory() == directory
        {
            return known.number;
        }
        let mut hasher = DefaultHasher::new();
        (parent, name, directory).hash(&mut hasher);
        let mut number = hasher.finish();
        // Someone else's number, or one that the protocol or 32-bit programs misread.
        while number <= ROOT || self.by_number.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        number
    }

    fn take_in(&mut self, parent: u64, name: &str, kind: Kind, seen: Instant) -> u64 {
        let number = self.number(parent, name, kind.is_directory());
        if let Some(inode) = self.by_number.get_mut(&number) {
            // An older answer must not undo a newer one.
            if seen < inode.seen {
                return number;
            }
            if !same_content(&inode.kind, &kind) {
                self.versions += 1;
                inode.version = self.versions;
            }
            inode.kind = kind;
            inode.seen = seen;
            return number;
        }
        self.versions += 1;
        let inode = Inode {
            number,
            parent,
            name: name.into(),
            kind,
            seen,
            version: self.versions,
            lookups: 0,
            kept: None,
            opened: false,
        };
        self.by_number.insert(number, inode);
        self.by_name.insert((parent, name.into()), number);
        number
    }
}

fn same_content(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::Directory, Kind::Directory) => true,
        (Kind::File(a), Kind::File(b)) => a.etag == b.etag && a.size == b.size,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use super::*;

    fn file(etag: &str) -> Kind {
        Kind::File(Object {
            size: 1,
            modified: SystemTime::UNIX_EPOCH,
            etag: etag.to_owned(),
        })
    }

    #[test]
    fn numbers_outlive_the_table() {
        let (mut a, mut b) = (Inodes::default(), Inodes::default());
        b.look_up(ROOT, "other", file("x"), Instant::now());
        let first = a
            .look_up(ROOT, "dir", Kind::Directory, Instant::now())
            .number;
        let second = b
            .look_up(ROOT, "dir", Kind::Directory, Instant::now())
            .number;
        assert_eq!(first, second);
        assert_eq!(a.number(first, "f", false), b.number(first, "f", false));
    }

    #[test]
    fn another_type_is_another_inode() {
        let mut inodes = Inodes::default();
        let before = inodes.look_up(ROOT, "a", file("x"), Instant::now()).number;
        let after = inodes
            .look_up(ROOT, "a", Kind::Directory, Instant::now())
            .number;
        assert_ne!(before, after);
        assert!(!inodes.get(before).unwrap().kind.is_directory());
        inodes.forget(before, 1);
        assert_eq!(inodes.find(ROOT, "a").unwrap().number, after);
    }

    #[test]
    fn a_forgotten_inode_is_gone_with_its_last_lookup() {
        let mut inodes = Inodes::default();
        let number = inodes.look_up(ROOT, "a", file("x"), Instant::now()).number;
        inodes.look_up(ROOT, "a", file("x"), Instant::now());
        inodes.forget(number, 1);
        assert_eq!(inodes.path(number).unwrap(), "a");
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_none() && inodes.find(ROOT, "a").is_none());
        inodes.forget(ROOT, 99);
        assert!(inodes.get(ROOT).is_some());
    }

    #[test]
    fn a_new_tag_is_a_new_version() {
        let mut inodes = Inodes::default();
        let number = inodes.look_up(ROOT, "a", file("x"), Instant::now()).number;
        assert!(!inodes.cache_in_kernel(number), "nothing was cached before");
        inodes.look_up(ROOT, "a", file("x"), Instant::now());
        assert!(inodes.cache_in_kernel(number), "the same bytes");
        inodes.look_up(ROOT, "a", file("y"), Instant::now());
        assert!(!inodes.cache_in_kernel(number), "other bytes");
        assert_eq!(inodes.take_cached(), [number]);
        assert!(!inodes.cache_in_kernel(number), "taken back");
        // A file that stays open is filled again by the next session.
        assert_eq!(inodes.take_cached(), [number]);
    }
}
