//! Random writes, fsyncs, renames and deletes, and what must hold after each.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use md5::{Digest, Md5};

/// A generator that gives the same for the same seed: SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.below(40) {
            0 => (17 << 20) + self.below(9 << 20),
            1..4 => 0,
            _ => 1 + self.below(60_000),
        };
        let mut seed = self.clone();
        (0..length.div_ceil(8))
            .flat_map(|_| seed.next().to_le_bytes())
            .take(usize::try_from(length).unwrap())
            .collect()
    }
}

/// What may be in the bucket.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// For each name that ever was: what may be there; `None` is nothing.
    pub files: BTreeMap<String, Vec<Option<Vec<u8>>>>,
    /// Of each group at least one must be there.
    pub one_of: Vec<Vec<(String, Vec<u8>)>>,
    /// Of two whole sets of keys, with their bytes, exactly one must be there.
    pub either: Option<[BTreeMap<String, Vec<u8>>; 2]>,
    pub directories: BTreeSet<String>,
}

impl State {
    fn now(&self, name: &str) -> Option<&Vec<u8>> {
        self.files.get(name)?.first()?.as_ref()
    }

    fn set(&mut self, name: &str, bytes: Option<Vec<u8>>) {
        self.files.insert(name.to_owned(), vec![bytes]);
    }

    /// Until the operation returns, this may be there as well.
    fn maybe(&mut self, name: &str, bytes: Option<Vec<u8>>) {
        let allowed = self
            .files
            .entry(name.to_owned())
            .or_insert_with(|| vec![None]);
        allowed.push(bytes);
    }

    /// The files that are there.
    fn names(&self) -> Vec<String> {
        let there = self
            .files
            .iter()
            .filter(|(_, allowed)| allowed[0].is_some());
        there.map(|(name, _)| name.clone()).collect()
    }
}

/// A file that is open over several operations.
struct Held {
    file: File,
    name: String,
    bytes: Vec<u8>,
}

pub struct Workload {
    root: PathBuf,
    random: Random,
    state: State,
    held: Option<Held>,
    /// MD5 of everything that was ever closed or synced.
    meant: HashSet<String>,
    large: HashSet<u64>,
    done: Arc<AtomicUsize>,
    most: usize,
    last: String,
    story: Vec<String>,
}

impl Workload {
    pub fn new(root: &Path, random: Random, done: Arc<AtomicUsize>) -> Self {
        Self {
            root: root.to_owned(),
            random,
            state: State::default(),
            held: None,
            meant: HashSet::new(),
            large: HashSet::new(),
            done,
            most: 40,
            last: String::new(),
            story: Vec::new(),
        }
    }

    pub fn stop_after(&mut self, operations: usize) {
        self.most = operations;
    }

    /// What may be there now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The operation that was under way, or the last one.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// All operations so far, a line each.
    pub fn story(&self) -> String {
        self.story.join("\n")
    }

    /// Whether somebody wanted this to be stored.
    pub fn meant(&self, etag: &str, size: u64) -> bool {
        let etag = etag.trim_matches('"');
        // A tag of parts says nothing of the bytes; the size must do.
        self.meant.contains(etag) || (etag.contains('-') && self.large.contains(&size))
    }

    /// Works until an operation fails, which is when the daemon is dead.
    pub fn run(&mut self) {
        for _ in 0..self.most {
            self.last.clear();
            let outcome = self.step();
            self.story.push(self.last.clone());
            match outcome {
                Ok(()) => {
                    // What was uncertain is certain now.
                    for allowed in self.state.files.values_mut() {
                        allowed.truncate(1);
                    }
                    self.state.one_of.clear();
                    self.state.either = None;
                    self.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.last = format!("{}: {error}", self.last);
                    return;
                }
            }
        }
    }

    fn means(&mut self, bytes: &[u8]) {
        let digest = Md5::digest(bytes);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.meant.insert(hex);
        self.large.insert(bytes.len() as u64);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn new_name(&mut self) -> String {
        let directories: Vec<String> = self.state.directories.iter().cloned().collect();
        let n = self.random.below(8);
        match directories.as_slice() {
            [] => format!("f{n}"),
            some => {
                let i = usize::try_from(self.random.below(some.len() as u64 + 1)).unwrap();
                some.get(i).map_or(format!("f{n}"), |d| format!("{d}/f{n}"))
            }
        }
    }

    fn some_name(&mut self) -> Option<String> {
        let held = self.held.as_ref().map(|held| held.name.clone());
        let mut names = self.state.names();
        names.retain(|name| Some(name) != held.as_ref());
        let count = names.len() as u64;
        (count > 0).then(|| names.swap_remove(usize::try_from(self.random.below(count)).unwrap()))
    }

    fn is_held(&self, name: &str) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.name == name || held.name.starts_with(&format!("{name}/")))
    }

    fn step(&mut self) -> io::Result<()> {
        match self.random.below(12) {
            0..3 => self.write(),
            3 => self.append(),
            4 => self.patch(),
            5..7 => self.rename(),
            7 => self.unlink(),
            8 => self.make_directory(),
            9 => self.rename_directory(),
            10 => self.hold(),
            _ => self.let_go(),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let name = self.new_name();
        if self.is_held(&name) || self.state.directories.contains(&name) {
            return Ok(());
        }
        let (first, second) = (self.random.bytes(), self.random.bytes());
        let sync = self.random.below(3) == 0;
        let whole = [first.clone(), second.clone()].concat();
        self.last = format!(
            "write {name}, {} + {} bytes, sync {sync}",
            first.len(),
            second.len()
        );
        if sync {
            self.state.maybe(&name, Some(first.clone()));
            self.means(&first);
        }
        self.state.maybe(&name, Some(whole.clone()));
        self.means(&whole);
        let mut file = File::create(self.path(&name))?;
        file.write_all(&first)?;
        if sync {
            file.sync_all()?;
            self.state
                .files
                .insert(name.clone(), vec![Some(first), Some(whole.clone())]);
        }
        file.write_all(&second)?;
        close(file)?;
        self.state.set(&name, Some(whole));
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        let Some(name) = self.some_name() else {
            return Ok(());
        };
        let more = self.random.bytes();
        let mut whole = self.state.now(&name).cloned().unwrap_or_default();
        whole.extend_from_slice(&more);
        self.last = format!("append {} bytes to {name}", more.len());
        self.state.maybe(&name, Some(whole.clone()));
        self.means(&whole);
        let mut file = OpenOptions::new().append(true).open(self.path(&name))?;
        file.write_all(&more)?;
        close(file)?;
        self.state.set(&name, Some(whole));
        Ok(())
    }

    fn patch(&mut self) -> io::Result<()> {
        let Some(name) = self.some_name() else {
            return Ok(());
        };
        let mut whole = self.state.now(&name).cloned().unwrap_or_default();
        let at = usize::try_from(self.random.below(whole.len() as u64 + 1)).unwrap();
        let patch = b"patched";
        let end = (at + patch.len()).max(whole.len());
        whole.resize(end, 0);
        whole[at..at + patch.len()].copy_from_slice(patch);
        self.last = format!("patch {name} at {at}");
        self.state.maybe(&name, Some(whole.clone()));
        self.means(&whole);
        let file = OpenOptions::new().write(true).open(self.path(&name))?;
        file.write_all_at(patch, at as u64)?;
        close(file)?;
        self.state.set(&name, Some(whole));
        Ok(())
    }

    fn rename(&mut self) -> io::Result<()> {
        let Some(from) = self.some_name() else {
            return Ok(());
        };
        let to = self.new_name();
        if from == to || self.is_held(&to) || self.state.directories.contains(&to) {
            return Ok(());
        }
        self.last = format!("rename {from} {to}");
        let bytes = self.state.now(&from).cloned().unwrap_or_default();
        self.state.maybe(&from, None);
        self.state.maybe(&to, Some(bytes.clone()));
        self.state.one_of.push(vec![
            (from.clone(), bytes.clone()),
            (to.clone(), bytes.clone()),
        ]);
        fs::rename(self.path(&from), self.path(&to))?;
        self.state.set(&from, None);
        self.state.set(&to, Some(bytes));
        Ok(())
    }

    fn unlink(&mut self) -> io::Result<()> {
        let Some(name) = self.some_name() else {
            return Ok(());
        };
        self.last = format!("unlink {name}");
        self.state.maybe(&name, None);
        fs::remove_file(self.path(&name))?;
        self.state.set(&name, None);
        Ok(())
    }

    fn make_directory(&mut self) -> io::Result<()> {
        let name = format!("d{}", self.random.below(3));
        if self.state.directories.contains(&name) {
            return Ok(());
        }
        self.last = format!("mkdir {name}");
        fs::create_dir(self.path(&name))?;
        self.state.directories.insert(name);
        Ok(())
    }

    fn rename_directory(&mut self) -> io::Result<()> {
        let Some(from) = self.state.directories.first().cloned() else {
            return Ok(());
        };
        let to = format!("d{}", self.random.below(3));
        if self.state.directories.contains(&to) || self.is_held(&from) {
            return Ok(());
        }
        self.last = format!("rename directory {from} {to}");
        let prefix = format!("{from}/");
        let names = self.state.names();
        let below: Vec<String> = names
            .into_iter()
            .filter(|n| n.starts_with(&prefix))
            .collect();
        let moved: Vec<(String, String, Vec<u8>)> = below
            .into_iter()
            .map(|name| {
                let new = format!("{to}/{}", &name[prefix.len()..]);
                let bytes = self.state.now(&name).cloned().unwrap_or_default();
                (name, new, bytes)
            })
            .collect();
        let mut either =
            [&from, &to].map(|name| BTreeMap::from([(format!("{name}/"), Vec::new())]));
        for (name, new, bytes) in &moved {
            self.state.maybe(name, None);
            self.state.maybe(new, Some(bytes.clone()));
            either[0].insert(name.clone(), bytes.clone());
            either[1].insert(new.clone(), bytes.clone());
        }
        self.state.either = Some(either);
        self.state.directories.remove(&from);
        fs::rename(self.path(&from), self.path(&to))?;
        for (name, new, bytes) in moved {
            self.state.set(&name, None);
            self.state.set(&new, Some(bytes));
        }
        self.state.directories.insert(to);
        Ok(())
    }

    /// Opens a file, writes, and leaves it open: nothing of that is promised.
    fn hold(&mut self) -> io::Result<()> {
        if self.held.is_some() {
            return Ok(());
        }
        let Some(name) = self.some_name() else {
            return Ok(());
        };
        self.last = format!("hold {name}");
        let mut bytes = self.random.bytes();
        bytes.extend_from_slice(b"held");
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.path(&name))?;
        file.write_all(&bytes)?;
        self.held = Some(Held { file, name, bytes });
        Ok(())
    }

    fn let_go(&mut self) -> io::Result<()> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        self.last = format!("let go of {}", held.name);
        self.state.maybe(&held.name, Some(held.bytes.clone()));
        self.means(&held.bytes);
        close(held.file)?;
        self.state.set(&held.name, Some(held.bytes));
        Ok(())
    }
}

/// close(2), whose error `drop` does not tell.
fn close(file: File) -> io::Result<()> {
    let descriptor = std::os::fd::OwnedFd::from(file);
    nix::unistd::close(descriptor).map_err(io::Error::from)
}
