//! What the tests of several files need.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags};

use super::Owner;

/// An owner like no other one with another name.
pub(super) fn owner(principal: &str) -> Owner {
    Owner {
        endpoint: "https://s3.example".to_owned(),
        bucket: "bucket".to_owned(),
        principal: principal.to_owned(),
    }
}

/// Says that a test could not run here.
pub(super) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// A filesystem of a given size.
pub(super) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` if this user may not mount.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},mode=700");
        let mounted = nix::mount::mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        );
        match mounted {
            Ok(()) => Some(Self(directory)),
            Err(error) => {
                skipped(&format!("a small disk cannot be mounted: {error}"));
                None
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no room but for `bytes`.
    pub(super) fn fill_up_to(&self, bytes: usize) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut written = 0;
        while let Ok(count) = file.write(&[1; 4096]) {
            written += count;
        }
        file.set_len((written - bytes) as u64).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

/// The directory that a test that is run by [`run`] works in; `None` in the usual run.
pub(super) fn victims_directory() -> Option<PathBuf> {
    std::env::var_os("SPOOL_TEST_VICTIM").map(PathBuf::from)
}

/// Runs the test `victim` of a module in a process of its own, which is there to be killed.
pub(super) fn run(module: &str, directory: &Path) -> Child {
    let (_, module) = module.split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("{module}::victim")])
        .env("SPOOL_TEST_VICTIM", directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Copies a directory as it is at this moment, which is what a process finds that is started
/// after this one was killed.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The homes in a root.
pub(super) fn homes(root: &Path) -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    homes.sort();
    homes
}

/// The names in a directory.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
