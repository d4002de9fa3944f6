//! A directory with everything in it, to be compared with another.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// By path.
pub type Tree = BTreeMap<String, Entry>;

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// With type bits.
    pub mode: u32,
    pub owner: (u32, u32),
    /// A digest of the bytes of a file, the target of a link.
    pub content: String,
    pub size: u64,
    pub mtime: SystemTime,
}

/// Reads a tree; `wanted` says which paths, with all below them.
pub fn read(root: &Path, wanted: &dyn Fn(&str) -> bool) -> Tree {
    let mut tree = Tree::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = match directory.as_str() {
                "" => name,
                directory => format!("{directory}/{name}"),
            };
            if !wanted(&path) {
                continue;
            }
            let place = root.join(&path);
            let about = fs::symlink_metadata(&place).unwrap();
            let content = if about.is_dir() {
                directories.push(path.clone());
                String::new()
            } else if about.is_symlink() {
                fs::read_link(&place)
                    .unwrap()
                    .into_os_string()
                    .into_string()
                    .unwrap()
            } else {
                let bytes = fs::read(&place).unwrap();
                assert_eq!(bytes.len() as u64, about.len(), "{path}");
                Sha256::digest(&bytes)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect()
            };
            let entry = Entry {
                mode: about.mode(),
                owner: (about.uid(), about.gid()),
                content,
                // The size of a directory is its file system's affair.
                size: if about.is_dir() { 0 } else { about.len() },
                mtime: about.modified().unwrap(),
            };
            tree.insert(path, entry);
        }
    }
    tree
}

/// Fails if two trees differ. A time before `began` was set by a program and must be the same;
/// a later one is the time of a change, which was not at the same moment on both sides.
pub fn assert_same(local: &Tree, mounted: &Tree, began: SystemTime) {
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(mounted), names(local), "the names");
    for (path, expected) in local {
        let found = &mounted[path];
        let mut expected = expected.clone();
        if expected.mtime >= began && found.mtime >= began {
            expected.mtime = found.mtime;
        }
        assert_eq!(*found, expected, "{path}");
    }
}
