//! Directories: streamed page by page, and remembered when they were read to their end.
//!
//! S3 sorts `a`, `a-1`, `a/`: a file and a directory of one name can be pages apart. The
//! directory wins, so a file is held back until the listing has passed the place where its
//! directory would stand. At any time that is a handful of names: the prefixes of the last key.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;

use super::inodes::{Inode, Kind};
use super::known::REMEMBERED;
use super::names::is_name;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::verdict::Action;
use crate::store::{Cursor, Entry, Facts, Object, Query, StoreError};

/// How many HEADs are asked at once for the metadata of a listing.
const HEADS: usize = 32;

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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the keys of the names begin with. It changes when the directory is renamed.
    prefix: Arc<str>,
    /// Where each page that was seen starts.
    marks: Vec<Mark>,
    /// The page that was used last, by its place in `marks`.
    page: Option<(usize, Arc<Vec<Found>>)>,
    /// All names so far, until there are too many of them.
    names: Option<HashMap<Box<str>, Kind>>,
    begun: Option<Instant>,
    /// Somebody has read from the beginning.
    read: bool,
    /// The names that were being changed here when the listing began.
    local: HashSet<Box<str>>,
}

impl State {
    fn new(prefix: Arc<str>) -> Self {
        Self {
            prefix,
            marks: vec![Mark::default()],
            page: None,
            names: Some(HashMap::new()),
            begun: Some(Instant::now()),
            read: false,
            local: HashSet::new(),
        }
    }
}

/// Where a page starts.
#[derive(Debug, Clone, Default)]
struct Mark {
    /// The index of its first name.
    first: u64,
    /// Where the page before has ended.
    after: Option<Cursor>,
    /// The files of earlier pages that may yet turn out to be directories.
    held_back: Vec<Found>,
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

    /// Somebody reads from the beginning. The second time that is rewinddir(3), which POSIX
    /// wants to show the directory as it is then.
    pub(crate) fn begin(&self) {
        let mut state = self.state.lock();
        if state.read {
            *state = State::new(Arc::clone(&state.prefix));
        }
        state.read = true;
    }

    fn prefix(&self) -> Arc<str> {
        Arc::clone(&self.state.lock().prefix)
    }

    /// The directory is at another place: its names are, in the same order, to be found there.
    fn follow(&self, prefix: &str) {
        let mut state = self.state.lock();
        if *state.prefix != *prefix {
            *state = State {
                read: state.read,
                ..State::new(prefix.into())
            };
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
        let stream = self.stream_of(number)?;
        if for_reading {
            self.names_from(asker, &stream, 0).await?;
        }
        Ok(self.streams.lock().open(stream))
    }

    /// A stream over a directory's names, of which none is fetched yet.
    pub(super) fn stream_of(&self, number: u64) -> Result<Arc<Stream>, FsError> {
        let inode = self.inode(number)?;
        if !inode.kind.is_directory() {
            return Err(FsError::NotADirectory);
        }
        let prefix = self.prefix_of(number)?;
        Ok(Arc::new(Stream {
            number,
            parent: inode.parent,
            state: Mutex::new(State::new(prefix.into())),
        }))
    }

    fn prefix_of(&self, directory: u64) -> Result<String, FsError> {
        let mut prefix = self.key(directory)?;
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        Ok(prefix)
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
        if let Ok(prefix) = self.prefix_of(stream.number) {
            stream.follow(&prefix);
        }
        // A page that is here already is content like any other: not without a session.
        self.bucket
            .attempt(asker, Action::List, &stream.prefix())
            .await?;
        let mut place = place;
        loop {
            let (index, first, page) = {
                let state = stream.state.lock();
                let index = state.marks.partition_point(|mark| mark.first <= place) - 1;
                let cached = state.page.as_ref().filter(|(at, _)| *at == index);
                (
                    index,
                    state.marks[index].first,
                    cached.map(|(_, page)| Arc::clone(page)),
                )
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
            let following = stream
                .state
                .lock()
                .marks
                .get(index + 1)
                .map(|mark| mark.first);
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
        if self.inode(stream.number).is_ok_and(|inode| inode.unlinked) {
            // It was removed while it was open, and its name may be another directory's by now.
            let nothing = Arc::new(Vec::new());
            stream.state.lock().page = Some((index, Arc::clone(&nothing)));
            return Ok(nothing);
        }
        let (prefix, mark) = {
            let state = stream.state.lock();
            (Arc::clone(&state.prefix), state.marks.get(index).cloned())
        };
        let mark = mark.unwrap_or_default();
        let query = Query {
            prefix: prefix.to_string(),
            folded: true,
            after: mark.after,
            limit: None,
        };
        let seen = Instant::now();
        // Before S3 is asked: what is stored meanwhile may be in neither.
        let local = match index {
            0 => self.local_names(stream.number),
            _ => Vec::new(),
        };
        let page = self.bucket.list(asker, &query).await?;
        let is_bare = index == 0 && page.is_empty() && page.next.is_none();
        let has_names = !local.is_empty() || self.has_drafts(stream.number);
        if is_bare && *prefix != *self.prefix && !has_names {
            // Not even a marker: the directory is gone.
            return Err(FsError::NotFound);
        }
        for key in &page.unreadable {
            self.skipped.skip(key);
        }
        let last = page.entries.last().map_or("", Entry::key);
        let last = last.strip_prefix(&*prefix).unwrap_or_default();
        let upto = page.next.is_some().then_some(last);
        let mut names = mark.held_back;
        let fresh = page.entries.iter();
        names.extend(fresh.filter_map(|entry| self.found(&prefix, entry, seen)));
        let (mut found, held_back) = settle(names, upto);
        self.add_local(stream, index, local, &mut found);
        if index == 0 {
            self.see_marker(asker, stream, &prefix, &page.entries).await;
        }
        if self.look.posix_metadata {
            self.ask_for_metadata(asker, &prefix, &mut found).await;
        }
        let found = Arc::new(found);
        let mut state = stream.state.lock();
        if state.prefix != prefix {
            // Renamed meanwhile: what is remembered now is of the other place.
            return Ok(found);
        }
        if index + 1 == state.marks.len() {
            if let Some(names) = &mut state.names {
                names.extend(found.iter().map(|f| (f.name.clone(), f.kind.clone())));
            }
            // A name that is not in a listing without gaps is not there: others say nothing of it.
            if !page.is_sure
                || state
                    .names
                    .as_ref()
                    .is_some_and(|names| names.len() > REMEMBERED)
            {
                state.names = None;
            }
            match page.next {
                Some(next) => state.marks.push(Mark {
                    first: mark.first + found.len() as u64,
                    after: Some(next),
                    held_back,
                }),
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

    /// Asks for what a listing does not tell: a HEAD for each name of which nothing is known.
    async fn ask_for_metadata(&self, asker: &Asker, prefix: &str, found: &mut Vec<Found>) {
        let asked = stream::iter(std::mem::take(found)).map(|found| async {
            // What is remembered of a marker is good enough, unless others are let in by it.
            let is_remembered = self.look.shared_by.is_none() && found.kind.object().is_some();
            if found.kind.tells_attributes() || found.kind.is_directory() && is_remembered {
                return found;
            }
            let slash = if found.kind.is_directory() { "/" } else { "" };
            let key = format!("{prefix}{}{slash}", found.name);
            match self.bucket.head(asker, &key).await {
                Err(StoreError::NotFound) if found.kind.is_directory() => Found {
                    kind: Kind::Directory(Some(self.has_no_marker(&key))),
                    ..found
                },
                Ok(object) => {
                    self.learned(&key, &object);
                    let kind = match found.kind {
                        Kind::Directory(_) => Kind::Directory(Some(object)),
                        _ => Kind::of(object),
                    };
                    Found { kind, ..found }
                }
                // Its name is seen all the same.
                Err(_) => found,
            }
        });
        *found = asked.buffered(HEADS).collect().await;
    }

    /// Adds the names that are being changed here to the first page of a listing, and leaves them
    /// out of all of its pages, where they may turn up too; leaves out those that are gone here.
    fn add_local(
        &self,
        stream: &Stream,
        index: usize,
        mut local: Vec<Found>,
        found: &mut Vec<Found>,
    ) {
        let mut state = stream.state.lock();
        if index == 0 {
            state.local = local.iter().map(|found| found.name.clone()).collect();
            for new in self.local_names(stream.number) {
                if state.local.insert(new.name.clone()) {
                    local.push(new);
                }
            }
        }
        let prefix = Arc::clone(&state.prefix);
        let known = self.listings.lock();
        let hidden = self.hidden.lock();
        let is_here = |found: &Found| {
            !known.is_gone(stream.number, &found.name, found.seen)
                && (hidden.is_empty() || !hidden.contains_key(&format!("{prefix}{}", found.name)))
        };
        found.retain(|found| !state.local.contains(&found.name) && is_here(found));
        found.extend(local.into_iter().filter(is_here));
    }

    /// The names in a directory that are being changed here: S3 does not have them yet, or not
    /// as they are.
    fn local_names(&self, directory: u64) -> Vec<Found> {
        let drafts = self.drafts.lock();
        let inodes = self.inodes.lock();
        let seen = Instant::now();
        let in_it = drafts.iter().filter_map(|(number, draft)| {
            let inode = inodes.get(*number)?;
            let is_there = inode.parent == directory && !inode.unlinked;
            is_there.then(|| Found {
                name: inode.name.clone(),
                kind: Kind::of(draft.state().untold()),
                seen,
            })
        });
        in_it.collect()
    }

    /// Takes in what the listing of a directory says of its own marker, which no other listing
    /// shows. S3 is asked for the attributes if they are new.
    async fn see_marker(&self, asker: &Asker, stream: &Stream, prefix: &str, entries: &[Entry]) {
        let is_own = |entry: &&Entry| entry.key() == prefix;
        let Some(Entry::Object(key, object)) = entries.iter().find(is_own) else {
            return;
        };
        let marker = self.marker(asker, key, object.clone()).await;
        if marker.facts.is_some() {
            let mut inodes = self.inodes.lock();
            inodes.attributes_stored(stream.number, marker);
        }
    }

    /// What was last seen of a directory's marker. Without a tag, because it may have changed
    /// since: the listing of the directory above does not say.
    fn marker_before(&self, key: &str) -> Option<Object> {
        let (posix, modified) = self.index.last(key)?;
        Some(Object {
            size: 0,
            modified: modified.unwrap_or(self.look.born),
            etag: String::new(),
            facts: Some(Arc::new(Facts {
                posix,
                ..Facts::default()
            })),
        })
    }

    /// Reads one entry of a listing; `None` for what cannot be a name.
    fn found(&self, prefix: &str, entry: &Entry, seen: Instant) -> Option<Found> {
        let rest = entry.key().strip_prefix(prefix)?;
        let (name, kind) = match entry {
            Entry::Prefix(key) => {
                let name = rest.strip_suffix('/')?;
                (name, Kind::Directory(self.marker_before(key)))
            }
            // The directory's own marker.
            Entry::Object(..) if rest.is_empty() => return None,
            Entry::Object(key, object) => (rest, Kind::of(self.recall(key, object.clone()))),
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

    /// Takes in a name for the kernel, which counts it as a lookup.
    pub(crate) fn take_in(&self, directory: u64, found: Found) -> Inode {
        self.inodes
            .lock()
            .look_up(directory, &found.name, found.kind, found.seen)
    }

    /// The number of a name, which the kernel does not count.
    pub(crate) fn number_of(&self, directory: u64, found: &Found) -> u64 {
        let kind = found.kind.type_of();
        self.inodes.lock().number(directory, &found.name, kind)
    }
}

/// Sorts names into those that can be shown, and the files that may yet turn out to be
/// directories. `upto` is how far the listing has got, `None` if it is at its end.
fn settle(names: Vec<Found>, upto: Option<&str>) -> (Vec<Found>, Vec<Found>) {
    let directories: HashSet<Box<str>> = names
        .iter()
        .filter(|found| found.kind.is_directory())
        .map(|found| found.name.clone())
        .collect();
    names
        .into_iter()
        .filter(|found| found.kind.is_directory() || !directories.contains(&found.name))
        .partition(|found| {
            let is_passed = |upto| format!("{}/", found.name).as_str() <= upto;
            found.kind.is_directory() || upto.is_none_or(is_passed)
        })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn file(name: &str) -> Found {
        let object = Object {
            size: 0,
            modified: SystemTime::UNIX_EPOCH,
            etag: String::new(),
            facts: None,
        };
        Found {
            name: name.into(),
            kind: Kind::File(object),
            seen: Instant::now(),
        }
    }

    fn directory(name: &str) -> Found {
        Found {
            kind: Kind::Directory(None),
            ..file(name)
        }
    }

    fn names(found: &[Found]) -> Vec<&str> {
        found.iter().map(|f| &*f.name).collect()
    }

    #[test]
    fn a_file_is_held_back_until_its_directory_would_have_come() {
        // Page one ends at `a-2`: `a/` may follow, and `a-2/` as well.
        let (shown, held) = settle(vec![file("a"), file("a-1"), file("a-2")], Some("a-2"));
        assert_eq!(
            (names(&shown), names(&held)),
            (vec!["a-1"], vec!["a", "a-2"])
        );
        // Page two passes `a-2/` and has `a/`.
        let next = [held, vec![file("a-3"), directory("a"), file("b")]].concat();
        let (shown, held) = settle(next, Some("b"));
        assert_eq!(names(&shown), ["a-2", "a-3", "a"]);
        assert_eq!(names(&held), ["b"]);
        let (shown, held) = settle(held, None);
        assert_eq!((names(&shown), names(&held)), (vec!["b"], vec![]));
    }
}
