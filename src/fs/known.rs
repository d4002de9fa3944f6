//! Directories that were read to their end, and are believed for a while.
//!
//! A fresh and complete listing answers lookups without a request, also those of absent names.
//! When many names of one directory are looked up one by one, as `ls -l` does with names that
//! have gone stale, the directory is listed once instead.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use tokio::sync::OnceCell;

use super::inodes::Kind;
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::verdict::Action;

/// The most names that are remembered, over all directories: around 20 MB.
pub(super) const REMEMBERED: usize = 100_000;

/// So many lookups in a directory within [`BURST`] make a listing cheaper than the next.
const MANY: u32 = 8;

/// How many absent names are remembered.
const ABSENT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// Of how many directories it is remembered when they were changed.
const CHANGED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// How many directories have their lookups counted.
const BURSTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// The span in which lookups count together.
const BURST: Duration = Duration::from_secs(1);

/// A directory of more names than this is not listed for the sake of lookups: five pages.
const LARGE: usize = 5000;

/// How long a directory is known to be large.
const STAYS_LARGE: Duration = Duration::from_secs(60);

/// What is known of directories.
#[derive(Debug)]
pub(crate) struct Known {
    complete: LruCache<u64, Listing>,
    names: usize,
    /// Names that S3 said are not there, and when.
    absent: LruCache<(u64, Box<str>), Instant>,
    /// When this mount last changed a directory: listings that began before do not show it.
    changed: LruCache<u64, Instant>,
    bursts: LruCache<u64, Burst>,
}

#[derive(Debug)]
struct Listing {
    begun: Instant,
    names: HashMap<Box<str>, Kind>,
}

/// Lookups in one directory.
#[derive(Debug)]
struct Burst {
    since: Instant,
    count: u32,
    large_until: Option<Instant>,
    /// The listing that answers them all, once one is on its way.
    flight: Arc<OnceCell<()>>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            complete: LruCache::unbounded(),
            names: 0,
            absent: LruCache::new(ABSENT),
            changed: LruCache::new(CHANGED),
            bursts: LruCache::new(BURSTS),
        }
    }
}

impl Known {
    /// What a fresh answer or a fresh and complete listing says of a name: `Some(None)` is "not
    /// there".
    pub(crate) fn answer(
        &mut self,
        directory: u64,
        name: &str,
        ttl: Duration,
    ) -> Option<Option<(Kind, Instant)>> {
        if let Some(asked) = self.absent.get(&(directory, name.into()))
            && asked.elapsed() < ttl
        {
            return Some(None);
        }
        let listing = self.complete.get(&directory)?;
        if listing.begun.elapsed() >= ttl {
            return None;
        }
        let kind = listing.names.get(name).cloned();
        Some(kind.map(|kind| (kind, listing.begun)))
    }

    /// S3 said that a name is not there, when asked at this moment.
    pub(crate) fn is_absent(&mut self, directory: u64, name: &str, asked: Instant) {
        // It may have been made here since.
        if self
            .changed
            .peek(&directory)
            .is_some_and(|changed| *changed >= asked)
        {
            return;
        }
        self.absent.put((directory, name.into()), asked);
    }

    /// This mount has made, changed or removed a name.
    pub(crate) fn change(&mut self, directory: u64, name: &str, kind: Option<Kind>) {
        let now = Instant::now();
        self.changed.put(directory, now);
        match kind {
            Some(kind) => {
                self.absent.pop(&(directory, name.into()));
                if let Some(listing) = self.complete.get_mut(&directory) {
                    self.names += usize::from(listing.names.insert(name.into(), kind).is_none());
                }
            }
            None => {
                self.absent.put((directory, name.into()), now);
                if let Some(listing) = self.complete.get_mut(&directory) {
                    self.names -= usize::from(listing.names.remove(name).is_some());
                }
            }
        }
    }

    /// Whether a name was found absent after this moment.
    pub(crate) fn is_gone(&self, directory: u64, name: &str, seen: Instant) -> bool {
        let asked = self.absent.peek(&(directory, name.into()));
        asked.is_some_and(|asked| *asked > seen)
    }

    /// What is known of a name may be wrong.
    pub(crate) fn doubt(&mut self, directory: u64, name: &str) {
        self.absent.pop(&(directory, name.into()));
    }

    /// Forgets one directory.
    pub(crate) fn forget(&mut self, directory: u64) {
        if let Some(listing) = self.complete.pop(&directory) {
            self.names -= listing.names.len();
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.complete.clear();
        self.names = 0;
        self.absent.clear();
        self.bursts.clear();
    }

    /// Remembers a directory that was read to its end, beginning at a moment.
    pub(crate) fn remember(
        &mut self,
        directory: u64,
        begun: Instant,
        names: HashMap<Box<str>, Kind>,
    ) {
        if self
            .changed
            .peek(&directory)
            .is_some_and(|changed| *changed >= begun)
        {
            return;
        }
        self.forget(directory);
        self.names += names.len();
        self.complete.put(directory, Listing { begun, names });
        while self.names > REMEMBERED
            && let Some((_, listing)) = self.complete.pop_lru()
        {
            self.names -= listing.names.len();
        }
    }

    /// Counts a lookup that needs a request. From the eighth in a second on, it returns the
    /// listing that answers instead.
    fn count(&mut self, directory: u64) -> Option<Arc<OnceCell<()>>> {
        let now = Instant::now();
        let burst = self.bursts.get_or_insert_mut(directory, || Burst {
            since: now,
            count: 0,
            large_until: None,
            flight: Arc::default(),
        });
        if now.duration_since(burst.since) > BURST {
            burst.since = now;
            burst.count = 0;
            burst.flight = Arc::default();
        }
        burst.count += 1;
        let is_large = burst.large_until.is_some_and(|until| now < until);
        (burst.count > MANY && !is_large).then(|| Arc::clone(&burst.flight))
    }

    fn is_large(&mut self, directory: u64) {
        if let Some(burst) = self.bursts.get_mut(&directory) {
            burst.large_until = Some(Instant::now() + STAYS_LARGE);
        }
    }
}

impl FileSystem {
    /// Lists a directory once if many of its names are being looked up. Returns whether its
    /// listing may have the answer now.
    pub(super) async fn list_for_lookups(
        &self,
        asker: &Asker,
        directory: u64,
    ) -> Result<bool, FsError> {
        // Without a time to live, no listing is ever believed.
        if self.look.ttl.is_zero() {
            return Ok(false);
        }
        let flight = self.listings.lock().count(directory);
        let Some(flight) = flight else {
            return Ok(false);
        };
        // Whoever waits for a person waits at the gate, with everybody else, and not in the
        // queue behind this one listing.
        let key = self.key(directory)?;
        self.bucket.attempt(asker, Action::List, &key).await?;
        let nobody = Asker::nobody();
        let listed = flight
            .get_or_try_init(async || {
                let stream = self.stream_of(directory)?;
                let mut place = 0;
                while let Some(last) = self.names_from(&nobody, &stream, place).await?.last() {
                    place = last.next;
                    if place > LARGE as u64 {
                        self.listings.lock().is_large(directory);
                        break;
                    }
                }
                Ok::<_, FsError>(())
            })
            .await;
        // If it failed, the name is asked for by itself, which tells why.
        Ok(listed.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_directories_make_room() {
        let mut known = Known::default();
        let names = |count: usize| {
            (0..count)
                .map(|i| (format!("{i}").into_boxed_str(), Kind::Directory(None)))
                .collect()
        };
        let ttl = Duration::from_secs(60);
        known.remember(1, Instant::now(), names(60_000));
        known.remember(2, Instant::now(), names(30_000));
        assert!(known.answer(1, "0", ttl).is_some());
        known.remember(3, Instant::now(), names(30_000));
        assert!(
            known.answer(2, "0", ttl).is_none(),
            "used less recently than 1"
        );
        assert!(matches!(known.answer(1, "0", ttl), Some(Some(_))));
        assert!(matches!(known.answer(1, "absent", ttl), Some(None)));
        assert!(known.answer(1, "0", Duration::ZERO).is_none(), "stale");
    }

    #[test]
    fn many_lookups_call_for_one_listing() {
        let mut known = Known::default();
        for _ in 0..MANY {
            assert!(known.count(1).is_none());
        }
        let flight = known.count(1).unwrap();
        assert!(Arc::ptr_eq(&flight, &known.count(1).unwrap()));
        assert!(known.count(2).is_none(), "another directory");
        known.is_large(1);
        assert!(known.count(1).is_none());
    }
}
