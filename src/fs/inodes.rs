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
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::store::Object;

/// The number of the root, set by the protocol (`FUSE_ROOT_ID` in include/uapi/linux/fuse.h).
pub(crate) const ROOT: u64 = 1;

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A prefix, with its marker if that is known.
    Directory(Option<Object>),
    File(Object),
    /// An object whose metadata says so; the target is its content.
    Symlink(Object),
}

/// What a name can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    Directory,
    File,
    Symlink,
}

impl Kind {
    /// What an object that is no marker is.
    pub(crate) fn of(object: Object) -> Self {
        match &object.facts {
            Some(facts) if facts.posix.is_symlink() => Self::Symlink(object),
            _ => Self::File(object),
        }
    }

    /// What it is.
    pub(crate) fn type_of(&self) -> Type {
        match self {
            Self::Directory(_) => Type::Directory,
            Self::File(_) => Type::File,
            Self::Symlink(_) => Type::Symlink,
        }
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    /// The object behind it; of a directory the marker.
    pub(crate) fn object(&self) -> Option<&Object> {
        match self {
            Self::Directory(marker) => marker.as_ref(),
            Self::File(object) | Self::Symlink(object) => Some(object),
        }
    }

    /// Whether it comes with the attributes that it has now: from HEAD, or from the index by tag
    /// and time. A listing tells none, and of a directory not even whether there is a marker.
    pub(crate) fn tells_attributes(&self) -> bool {
        match self {
            Self::Directory(None) => false,
            Self::Directory(Some(marker)) => {
                let facts = marker.facts.as_ref();
                facts.is_some_and(|facts| facts.complete || !marker.etag.is_empty())
            }
            Self::File(object) | Self::Symlink(object) => object.facts.is_some(),
        }
    }

    fn object_mut(&mut self) -> Option<&mut Object> {
        match self {
            Self::Directory(marker) => marker.as_mut(),
            Self::File(object) | Self::Symlink(object) => Some(object),
        }
    }

    /// Takes over what an earlier answer knew of the same object and this one does not.
    fn enrich(&mut self, before: &Self) {
        // A marker without a tag is only remembered: see `FileSystem::marker_before`.
        if let (Self::Directory(now), Self::Directory(before @ Some(_))) = (&mut *self, before)
            && now.as_ref().is_none_or(is_only_remembered)
        {
            now.clone_from(before);
            return;
        }
        if let (Some(now), Some(before)) = (self.object_mut(), before.object())
            && now.is_version(before)
            && now.facts.is_none()
        {
            now.facts.clone_from(&before.facts);
            // Written since: somebody may have changed the metadata, and nothing else.
            if is_written_since(before, now)
                && let Some(facts) = now.facts.as_mut().map(Arc::make_mut)
            {
                facts.complete = false;
            }
        }
    }

    /// When S3 last told its attributes, if this is the answer of a moment and an earlier one, with
    /// its own such moment, is `before`.
    fn told(&self, seen: Instant, before: Option<&Inode>) -> Option<Instant> {
        if self.tells_attributes() {
            return Some(seen);
        }
        let before = before?;
        match (self, before.kind.object()) {
            (Self::Directory(None), _) => before.told,
            (Self::Directory(Some(marker)), _) if is_only_remembered(marker) => before.told,
            (kind, Some(was)) => {
                let now = kind.object()?;
                let is_it = now.is_version(was) && !is_written_since(was, now);
                before.told.filter(|_| is_it).map(|_| seen)
            }
            _ => None,
        }
    }
}

/// Whether this is a marker that was seen earlier, and not by the answer that it comes with.
fn is_only_remembered(marker: &Object) -> bool {
    let facts = marker.facts.as_ref();
    marker.etag.is_empty() && !facts.is_some_and(|facts| facts.complete)
}

/// Whether two answers about one version are of different moments of writing. HEAD tells seconds.
fn is_written_since(before: &Object, now: &Object) -> bool {
    let (one, other) = (
        now.modified.max(before.modified),
        now.modified.min(before.modified),
    );
    one.duration_since(other).unwrap_or_default() >= Duration::from_secs(1)
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
    /// When S3 last told its attributes; `None` if what is shown is only the usual, or remembered.
    pub(crate) told: Option<Instant>,
    /// Changes whenever the object's tag does: what pages are filed under.
    pub(crate) version: u64,
    /// How many lookups the kernel holds.
    lookups: u64,
    /// The version whose pages the kernel may keep over another open.
    kept: Option<u64>,
    /// It was opened: whoever has it open still may have filled the kernel's pages at any time.
    opened: bool,
    /// It is being changed here: what S3 says of it does not count until that is stored.
    drafted: bool,
    /// Something has spoken against it since it was seen.
    pub(crate) doubted: bool,
    /// Its name is gone; it lives while somebody has it open.
    pub(crate) unlinked: bool,
    /// When names in this directory were last changed here.
    pub(crate) touched: Option<SystemTime>,
    /// When its attributes were last changed here in a way that S3 does not hear of.
    pub(crate) changed: Option<SystemTime>,
    /// When this mount has stored what it is.
    pub(crate) stored: Option<Instant>,
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
            kind: Kind::Directory(None),
            seen: Instant::now(),
            told: None,
            version: 0,
            lookups: 1,
            kept: None,
            opened: false,
            drafted: false,
            doubted: false,
            unlinked: false,
            touched: None,
            changed: None,
            stored: None,
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

    /// Whether the kernel holds this name.
    pub(crate) fn is_held(&self, parent: u64, name: &str) -> bool {
        self.find(parent, name)
            .is_some_and(|inode| inode.lookups > 0)
    }

    /// The kernel looks up a name once more that it holds, and is told what is known of it.
    pub(crate) fn look_up_held(&mut self, parent: u64, name: &str) -> Option<Inode> {
        let number = *self.by_name.get(&(parent, name.into()))?;
        let inode = self.by_number.get_mut(&number)?;
        if inode.lookups == 0 {
            return None;
        }
        inode.lookups += 1;
        Some(inode.clone())
    }

    /// Takes in what S3 said of an inode that is known, when it was asked then. What was stored or
    /// seen since is newer.
    pub(crate) fn refresh(&mut self, number: u64, object: Object, asked: Instant) -> Option<Inode> {
        let inode = self.by_number.get_mut(&number)?;
        if inode.drafted || (inode.seen > asked && !inode.doubted) {
            return Some(inode.clone());
        }
        // The kernel does not bear an inode that changes its type.
        let mut kind = match inode.kind {
            Kind::Directory(_) => return None,
            Kind::File(_) => Kind::File(object),
            Kind::Symlink(_) => Kind::Symlink(object),
        };
        inode.told = kind.told(Instant::now(), Some(inode));
        kind.enrich(&inode.kind);
        if !same_content(&inode.kind, &kind) {
            self.versions += 1;
            inode.version = self.versions;
            inode.stored = None;
        }
        inode.kind = kind;
        inode.doubted = false;
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
        self.drop_if_unused(number);
    }

    fn drop_if_unused(&mut self, number: u64) {
        let used = |inode: &Inode| inode.lookups > 0 || inode.drafted;
        if number == ROOT || self.by_number.get(&number).is_none_or(used) {
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

    /// The inode is being changed here from now on, or no longer.
    pub(crate) fn set_drafted(&mut self, number: u64, drafted: bool) {
        if let Some(inode) = self.by_number.get_mut(&number) {
            inode.drafted = drafted;
            inode.seen = Instant::now();
        }
        self.drop_if_unused(number);
    }

    /// What was changed here is stored as this object now. The kernel's pages were changed
    /// along, so they are of the new version. Returns that.
    pub(crate) fn stored(&mut self, number: u64, object: Object) -> u64 {
        self.versions += 1;
        let version = self.versions;
        if let Some(inode) = self.by_number.get_mut(&number) {
            if inode.kept == Some(inode.version) {
                inode.kept = Some(version);
            }
            inode.version = version;
            inode.seen = Instant::now();
            inode.told = Some(inode.seen);
            inode.stored = Some(inode.seen);
            inode.kind = match inode.kind {
                Kind::Directory(_) => Kind::Directory(Some(object)),
                Kind::File(_) => Kind::File(object),
                Kind::Symlink(_) => Kind::Symlink(object),
            };
        }
        version
    }

    /// Only the attributes of the object were changed: its bytes, and so its version, are the
    /// same.
    pub(crate) fn attributes_stored(&mut self, number: u64, object: Object) {
        if let Some(inode) = self.by_number.get_mut(&number) {
            inode.seen = Instant::now();
            inode.told = object.facts.is_some().then_some(inode.seen);
            inode.stored = Some(inode.seen);
            match &mut inode.kind {
                Kind::Directory(marker) => *marker = Some(object),
                Kind::File(was) | Kind::Symlink(was) => *was = object,
            }
        }
    }

    /// What S3 has told of a directory's marker, when it was asked then. That says nothing of the
    /// names in it, nor, if there is no marker, whether it is there.
    pub(crate) fn marker_told(&mut self, number: u64, marker: Object, asked: Instant) {
        if let Some(inode) = self.by_number.get_mut(&number)
            && inode.told.is_none_or(|told| told <= asked)
        {
            inode.told = Some(Instant::now());
            inode.kind = Kind::Directory(Some(marker));
        }
    }

    /// The name of an inode is gone.
    pub(crate) fn unlink(&mut self, number: u64) {
        let Some(inode) = self.by_number.get_mut(&number) else {
            return;
        };
        inode.unlinked = true;
        let name = (inode.parent, inode.name.clone());
        if self.by_name.get(&name) == Some(&number) {
            self.by_name.remove(&name);
        }
        self.drop_if_unused(number);
    }

    /// An inode gets another name. What had that name is unlinked.
    pub(crate) fn rename(&mut self, number: u64, parent: u64, name: &str) {
        let target = (parent, Box::<str>::from(name));
        if let Some(replaced) = self.by_name.get(&target).copied()
            && replaced != number
        {
            self.unlink(replaced);
        }
        let Some(inode) = self.by_number.get_mut(&number) else {
            return;
        };
        let before = (
            inode.parent,
            std::mem::replace(&mut inode.name, name.into()),
        );
        inode.parent = parent;
        inode.seen = Instant::now();
        inode.changed = Some(SystemTime::now());
        if self.by_name.get(&before) == Some(&number) {
            self.by_name.remove(&before);
        }
        self.by_name.insert(target, number);
    }

    /// Names in a directory have changed.
    pub(crate) fn touch(&mut self, directory: u64) {
        if let Some(inode) = self.by_number.get_mut(&directory) {
            inode.touched = Some(SystemTime::now());
        }
    }

    /// Attributes were set to what they are: only the time of that is new.
    pub(crate) fn change(&mut self, number: u64) {
        if let Some(inode) = self.by_number.get_mut(&number) {
            inode.changed = Some(SystemTime::now());
        }
    }

    /// The times of a directory are what its marker says again.
    pub(crate) fn untouch(&mut self, directory: u64) {
        if let Some(inode) = self.by_number.get_mut(&directory) {
            inode.touched = None;
        }
    }

    /// What is known of an inode may be wrong: S3 is asked before it is believed again.
    pub(crate) fn doubt(&mut self, number: u64) {
        if let Some(inode) = self.by_number.get_mut(&number) {
            inode.doubted = true;
        }
    }

    /// The numbers of everything below a directory that is known.
    pub(crate) fn below(&self, directory: u64) -> Vec<u64> {
        let is_below = |mut number: u64| {
            while number != ROOT {
                if number == directory {
                    return true;
                }
                match self.by_number.get(&number) {
                    Some(inode) if !inode.unlinked => number = inode.parent,
                    _ => return false,
                }
            }
            directory == ROOT
        };
        let known = self.by_number.keys().copied();
        known
            .filter(|&number| number != directory && is_below(number))
            .collect()
    }

    /// The path from the root without slashes at its ends; `None` if a parent is forgotten.
    pub(crate) fn path(&self, number: u64) -> Option<String> {
        let mut names = Vec::new();
        let mut number = number;
        while number != ROOT {
            let inode = self.by_number.get(&number)?;
            if inode.unlinked {
                return None;
            }
            names.push(&*inode.name);
            number = inode.parent;
        }
        names.reverse();
        Some(names.join("/"))
    }

    /// The number that a name has or would have.
    pub(crate) fn number(&self, parent: u64, name: &str, kind: Type) -> u64 {
        if let Some(known) = self.find(parent, name)
            && known.kind.type_of() == kind
        {
            return known.number;
        }
        let mut hasher = DefaultHasher::new();
        (parent, name, kind).hash(&mut hasher);
        let mut number = hasher.finish();
        // Someone else's number, or one that the protocol or 32-bit programs misread.
        while number <= ROOT || self.by_number.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        number
    }

    fn take_in(&mut self, parent: u64, name: &str, mut kind: Kind, seen: Instant) -> u64 {
        if let Some(known) = self.find(parent, name)
            && known.drafted
        {
            return known.number;
        }
        let number = self.number(parent, name, kind.type_of());
        if let Some(inode) = self.by_number.get_mut(&number) {
            // An older answer must not undo a newer one.
            if seen < inode.seen {
                return number;
            }
            inode.told = kind.told(seen, Some(inode));
            kind.enrich(&inode.kind);
            if !same_content(&inode.kind, &kind) {
                self.versions += 1;
                inode.version = self.versions;
                inode.stored = None;
            }
            inode.kind = kind;
            inode.doubted = false;
            inode.seen = seen;
            return number;
        }
        self.versions += 1;
        let inode = Inode {
            number,
            parent,
            name: name.into(),
            told: kind.told(seen, None),
            kind,
            seen,
            version: self.versions,
            lookups: 0,
            kept: None,
            opened: false,
            drafted: false,
            doubted: false,
            unlinked: false,
            touched: None,
            changed: None,
            stored: None,
        };
        self.by_number.insert(number, inode);
        self.by_name.insert((parent, name.into()), number);
        number
    }
}

fn same_content(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::Directory(_), Kind::Directory(_)) => true,
        (Kind::File(a), Kind::File(b)) | (Kind::Symlink(a), Kind::Symlink(b)) => {
            a.is_version(b) && a.size == b.size
        }
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
            etag: format!("\"{etag}\""),
            facts: None,
        })
    }

    #[test]
    fn numbers_outlive_the_table() {
        let (mut a, mut b) = (Inodes::default(), Inodes::default());
        b.look_up(ROOT, "other", file("x"), Instant::now());
        let first = a
            .look_up(ROOT, "dir", Kind::Directory(None), Instant::now())
            .number;
        let second = b
            .look_up(ROOT, "dir", Kind::Directory(None), Instant::now())
            .number;
        assert_eq!(first, second);
        assert_eq!(
            a.number(first, "f", Type::File),
            b.number(first, "f", Type::File)
        );
    }

    #[test]
    fn another_type_is_another_inode() {
        let mut inodes = Inodes::default();
        let before = inodes.look_up(ROOT, "a", file("x"), Instant::now()).number;
        let after = inodes
            .look_up(ROOT, "a", Kind::Directory(None), Instant::now())
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
