//! Directories: streamed page by page, and remembered when they were read to their end.
//!
//! S3 sorts `a`, `a-1`, `a/`: a file and a directory of one name can be pages apart. The
//! directory wins, so a file is held back if its name with a slash would sort behind the page
//! and a question shows that there is such a directory. At most a handful of names of a page
//! (prefixes of its last key) are in doubt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use lru::LruCache;
use parking_lot::Mutex;

use super::inodes::{Inode, Kind};
use super::names::is_name;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::{Entry, Page, Query};

/// The most names that are remembered, over all directories: around 20 MB.
const REMEMBERED: usize = 100_000;

/// One name in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) name: Box<str>,
    pub(crate) kind: Kind,
    /// When S3 said so.
    pub(crate) seen: Instant,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Stream {
    number: u64,
    parent: u64,
    prefix: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where each page that was seen starts: its first index, and the token that fetches it.
    marks: Vec<(u64, Option<String>)>,
    /// The page that was used last, by its place in `marks`.
    page: Option<(usize, Arc<Vec<Found>>)>,
    /// All names so far, until there are too many of them.
    names: Option<HashMap<Box<str>, Kind>>,
    begun: Option<Instant>,
}

/// A name with the place behind it.
pub(crate) struct Numbered {
    pub(crate) next: u64,
    pub(crate) found: Found,
}

impl Stream {
    /// The directory itself and the one above, for `.` and `..`.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        (self.number, self.parent)
    }
}

/// Directories that were read to their end, for as long as they are believed.
#[derive(Debug)]
pub(crate) struct Known {
    complete: LruCache<u64, (Instant, HashMap<Box<str>, Kind>)>,
    names: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            complete: LruCache::unbounded(),
            names: 0,
        }
    }
}

impl Known {
    /// What a fresh and complete listing says of a name: `Some(None)` is "not there".
    pub(crate) fn answer(
        &mut self,
        directory: u64,
        name: &str,
        ttl: Duration,
    ) -> Option<Option<(Kind, Instant)>> {
        let (begun, names) = self.complete.get(&directory)?;
        if begun.elapsed() >= ttl {
            return None;
        }
        Some(names.get(name).map(|kind| (kind.clone(), *begun)))
    }

    /// Forgets one directory.
    pub(crate) fn forget(&mut self, directory: u64) {
        if let Some((_, names)) = self.complete.pop(&directory) {
            self.names -= names.len();
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.complete.clear();
        self.names = 0;
    }

    fn remember(&mut self, directory: u64, begun: Instant, names: HashMap<Box<str>, Kind>) {
        self.forget(directory);
        self.names += names.len();
        self.complete.put(directory, (begun, names));
        while self.names > REMEMBERED
            && let Some((_, (_, names))) = self.complete.pop_lru()
        {
            self.names -= names.len();
        }
    }
}

impl FileSystem {
    /// Opens a directory. For a reader, the first page is fetched, so that errors are told here:
    /// GLib shows an error of a later readdir as an empty folder.
    pub(crate) async fn open_directory(
        &self,
        asker: &Asker,
        number: u64,
        for_reading: bool,
    ) -> Result<u64, FsError> {
        let inode = self.inode(number)?;
        if !inode.kind.is_directory() {
            return Err(FsError::NotADirectory);
        }
        let mut prefix = self.key(number)?;
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        let stream = Arc::new(Stream {
            number,
            parent: inode.parent,
            prefix,
            state: Mutex::new(State {
                marks: vec![(0, None)],
                names: Some(HashMap::new()),
                begun: Some(Instant::now()),
                page: None,
            }),
        });
        if for_reading {
            self.names_from(asker, &stream, 0).await?;
        }
        Ok(self.streams.lock().open(stream))
    }

    /// An open directory.
    pub(crate) fn stream(&self, handle: u64) -> Result<Arc<Stream>, FsError> {
        self.streams.lock().get(handle)
    }

    /// Closes a directory.
    pub(crate) fn release_directory(&self, handle: u64) {
        self.streams.lock().close(handle);
    }

    /// The names from a place on, at least one unless the directory ends there.
    pub(crate) async fn names_from(
        &self,
        asker: &Asker,
        stream: &Arc<Stream>,
        place: u64,
    ) -> Result<Vec<Numbered>, FsError> {
        let mut place = place;
        loop {
            let (index, first, page) = {
                let state = stream.state.lock();
                let index = state.marks.partition_point(|(first, _)| *first <= place) - 1;
                let cached = state.page.as_ref().filter(|(at, _)| *at == index);
                (index, state.marks[index].0, cached.map(|(_, page)| Arc::clone(page)))
            };
            let page = match page {
                Some(page) => page,
                None => self.page_of(asker, stream, index).await?,
            };
            let skip = usize::try_from(place - first).unwrap_or(usize::MAX);
            let rest: Vec<Numbered> = page
                .iter()
                .zip(first + 1..)
                .skip(skip)
                .map(|(found, next)| Numbered {
                    next,
                    found: found.clone(),
                })
                .collect();
            let following = stream.state.lock().marks.get(index + 1).map(|mark| mark.0);
            match following {
                // The page is used up, all its keys were left out, or it has shrunk since.
                Some(following) if rest.is_empty() => place = place.max(following),
                _ => return Ok(rest),
            }
        }
    }

    /// Fetches a page of a stream and notes where the next one starts.
    async fn page_of(
        &self,
        asker: &Asker,
        stream: &Arc<Stream>,
        index: usize,
    ) -> Result<Arc<Vec<Found>>, FsError> {
        let token = stream.state.lock().marks[index].1.clone();
        let query = Query {
            prefix: stream.prefix.clone(),
            folded: true,
            token,
            limit: None,
        };
        let seen = Instant::now();
        let page = self.bucket.list(asker, &query).await?;
        let is_bare = index == 0 && page.entries.is_empty() && page.next.is_none();
        if is_bare && stream.prefix != self.prefix {
            // Not even a marker: the directory is gone.
            return Err(FsError::NotFound);
        }
        let shadowed = self.shadowed(asker, &stream.prefix, &page).await?;
        let found: Vec<Found> = page
            .entries
            .iter()
            .filter_map(|entry| self.found(&stream.prefix, entry, seen))
            .filter(|found| found.kind.is_directory() || !shadowed.contains(&*found.name))
            .collect();
        let found = Arc::new(found);
        let mut state = stream.state.lock();
        if index + 1 == state.marks.len() {
            if let Some(names) = &mut state.names {
                names.extend(found.iter().map(|f| (f.name.clone(), f.kind.clone())));
            }
            if state.names.as_ref().is_some_and(|names| names.len() > REMEMBERED) {
                state.names = None;
            }
            match page.next {
                Some(next) => {
                    let first = state.marks[index].0 + found.len() as u64;
                    state.marks.push((first, Some(next)));
                }
                None => {
                    if let (Some(names), Some(begun)) = (state.names.take(), state.begun) {
                        self.listings.lock().remember(stream.number, begun, names);
                    }
                }
            }
        }
        state.page = Some((index, Arc::clone(&found)));
        Ok(found)
    }

    /// Reads one entry of a listing; `None` for what cannot be a name.
    fn found(&self, prefix: &str, entry: &Entry, seen: Instant) -> Option<Found> {
        let rest = entry.key().strip_prefix(prefix)?;
        let (name, kind) = match entry {
            Entry::Prefix(_) => (rest.strip_suffix('/')?, Kind::Directory),
            // The directory's own marker.
            Entry::Object(..) if rest.is_empty() => return None,
            Entry::Object(_, object) => (rest, Kind::File(object.clone())),
        };
        if !is_name(name) {
            self.skipped.skip(entry.key());
            return None;
        }
        Some(Found {
            name: name.into(),
            kind,
            seen,
        })
    }

    /// The files of a page whose name is a directory's too.
    async fn shadowed(
        &self,
        asker: &Asker,
        prefix: &str,
        page: &Page,
    ) -> Result<HashSet<String>, FsError> {
        let name = |key: &str| key.strip_prefix(prefix).unwrap_or_default().to_owned();
        let directories: HashSet<&str> = page
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Prefix(prefix) => prefix.strip_suffix('/'),
                Entry::Object(..) => None,
            })
            .collect();
        let last = page.entries.last().map_or("", Entry::key);
        let mut shadowed = HashSet::new();
        let mut doubtful = Vec::new();
        for entry in &page.entries {
            let Entry::Object(key, _) = entry else {
                continue;
            };
            if directories.contains(key.as_str()) {
                shadowed.insert(name(key));
            } else if page.next.is_some() && key.len() > prefix.len() {
                let below = format!("{key}/");
                if below.as_str() > last {
                    doubtful.push((key, below));
                }
            }
        }
        let asked = doubtful.into_iter().map(|(key, below)| async move {
            let query = Query {
                prefix: below,
                limit: Some(1),
                ..Query::default()
            };
            let page = self.bucket.list(asker, &query).await?;
            Ok::<_, FsError>((!page.entries.is_empty()).then_some(key))
        });
        for key in try_join_all(asked).await?.into_iter().flatten() {
            shadowed.insert(name(key));
        }
        Ok(shadowed)
    }

    /// Takes in a name for the kernel, which counts it as a lookup.
    pub(crate) fn take_in(&self, directory: u64, found: Found) -> Inode {
        self.inodes
            .lock()
            .look_up(directory, &found.name, found.kind, found.seen)
    }

    /// The number of a name, which the kernel does not count.
    pub(crate) fn number_of(&self, directory: u64, found: &Found) -> u64 {
        let is_directory = found.kind.is_directory();
        self.inodes
            .lock()
            .number(directory, &found.name, is_directory)
    }
}
