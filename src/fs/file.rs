//! Reading: from pages, from flights, and never without a session.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::ahead::Window;
use super::inodes::Kind as InodeKind;
use super::pages::{BLOCK, Blocks, Claim, Flight, Held, PAGE, PageId};
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::failure::Kind;
use crate::store::verdict::Action;
use crate::store::{Bucket, Failure, Lease, Object, StoreError};

/// How often a body that broke off is resumed without having brought a byte.
const RESUMES: u32 = 5;

/// The pause before a body is resumed.
const PAUSE: Duration = Duration::from_millis(200);

/// The widest window of read-ahead in bytes, however much memory there is.
const WIDEST: u64 = 64 << 20;

/// An open file, pinned to the version that was seen at open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    number: u64,
    version: u64,
    key: String,
    object: Object,
    window: Mutex<Window>,
}

/// What the kernel may do with the pages of an inode, which all handles on it share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelPages {
    /// Keep those it has: they are of this version.
    Keep,
    /// Start anew.
    Fresh,
    /// Leave this handle alone: another one is open on another version, and must not be given
    /// this one's bytes.
    Bypass,
}

impl FileSystem {
    /// Opens a file. Returns the handle, and what the kernel may do with its pages.
    pub(crate) async fn open(
        &self,
        asker: &Asker,
        number: u64,
    ) -> Result<(u64, KernelPages), FsError> {
        let inode = self.confirm(asker, number).await?;
        let InodeKind::File(object) = inode.kind else {
            return Err(FsError::IsADirectory);
        };
        let file = OpenFile {
            number,
            version: inode.version,
            key: self.key(number)?,
            object,
            window: Mutex::default(),
        };
        let keep = self.inodes.lock().cache_in_kernel(number);
        let mut files = self.files.lock();
        let pages = match keep {
            true => KernelPages::Keep,
            false if files.any(|other| other.number == number && other.version != file.version) => {
                KernelPages::Bypass
            }
            false => KernelPages::Fresh,
        };
        Ok((files.open(Arc::new(file)), pages))
    }

    /// Closes a handle.
    pub(crate) fn release(&self, handle: u64) {
        self.files.lock().close(handle);
    }

    /// Reads up to `size` bytes; `serve` gets fewer at the end of the file.
    ///
    /// `serve` runs while a session lives, and must not block.
    pub(crate) async fn read<R>(
        &self,
        asker: &Asker,
        handle: u64,
        offset: u64,
        size: u64,
        serve: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, FsError> {
        let file = self.files.lock().get(handle)?;
        let end = offset.saturating_add(size).min(file.object.size);
        let range = offset.min(end)..end;
        // The kernel would give an old version's bytes to everybody who has the file open.
        if self.inode(file.number)?.version != file.version {
            return Err(StoreError::Changed.into());
        }
        let mut serve = Some(serve);
        let mut hand_out = |bytes: &[u8]| serve.take().map(|serve| serve(bytes));
        if !range.is_empty() {
            self.read_ahead(&file, range.clone());
        }
        loop {
            let served = if range.is_empty() {
                // Even that there is nothing is content.
                self.bucket.attempt(asker, Action::Read, &file.key).await?;
                self.bucket.while_live(|| hand_out(&[]))
            } else if range.start / PAGE == (range.end - 1) / PAGE {
                let page = self.page(asker, &file, range.clone()).await?;
                let base = range.start / PAGE * PAGE;
                let mut give = || page.with(range.start - base, range.end - base, &mut hand_out);
                self.while_served(&mut give)
            } else {
                let bytes = self.gather(asker, &file, range.clone()).await?;
                self.while_served(&mut || hand_out(&bytes))
            };
            // `None`: the session ended between the last byte and the reply. Once more.
            if let Some(Some(result)) = served {
                return Ok(result);
            }
        }
    }

    fn while_served<R>(&self, give: &mut impl FnMut() -> R) -> Option<R> {
        if self.look.serve_when_locked {
            return Some(give());
        }
        self.bucket.while_live(give)
    }

    /// A range over several pages, one page in use at a time.
    async fn gather(
        &self,
        asker: &Asker,
        file: &Arc<OpenFile>,
        range: Range<u64>,
    ) -> Result<Vec<u8>, FsError> {
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        let mut at = range.start;
        while at < range.end {
            let base = at / PAGE * PAGE;
            let end = range.end.min(base + PAGE);
            let page = self.page(asker, file, at..end).await?;
            page.with(at - base, end - base, |part| bytes.extend_from_slice(part));
            at = end;
        }
        Ok(bytes)
    }

    /// The page with the bytes of a range, which must lie within it.
    async fn page(
        &self,
        asker: &Asker,
        file: &Arc<OpenFile>,
        range: Range<u64>,
    ) -> Result<Held, FsError> {
        let index = range.start / PAGE;
        let id = (file.version, index);
        let wanted = Blocks::of(range.start - index * PAGE, range.end - index * PAGE);
        let ready = self.pages.ready(id, wanted);
        let may_serve = self.look.serve_when_locked || self.bucket.lease().is_some();
        let page = match ready.filter(|_| may_serve) {
            Some(page) => page,
            None => {
                let mut attempt = self.bucket.attempt(asker, Action::Read, &file.key).await?;
                loop {
                    match self.fetch(attempt.lease(), file, id, wanted).await {
                        Ok(page) => break attempt.worked(page),
                        Err(failure) => attempt.again(failure).await?,
                    }
                }
            }
        };
        if range.end == (index + 1) * PAGE {
            self.pages.consumed(id);
        }
        Ok(page)
    }

    /// Waits until the blocks are here, and sends for those that nobody has sent for.
    async fn fetch(
        &self,
        lease: &Lease,
        file: &Arc<OpenFile>,
        id: PageId,
        wanted: Blocks,
    ) -> Result<Held, Failure> {
        let base = id.1 * PAGE;
        let page = self.pages.page(id, file.object.size - base).await;
        let mut events = page.events();
        let since = *events.borrow_and_update();
        loop {
            // Before anything is claimed anew: with this lease it would fail again.
            if let Some(failure) = page.failure_since(since, wanted)
                && !page.has(wanted)
            {
                return Err(failure);
            }
            match page.claim(wanted) {
                Claim::Here => return Ok(page),
                Claim::Fetch(run) => {
                    let flight = Flight::new(page.share(), run, base, file.object.size);
                    self.take_off(lease, file, flight);
                    continue;
                }
                Claim::Coming => {}
            }
            // The sender lives in the page, which is held.
            let _ = events.changed().await;
        }
    }

    /// Sends for what the reader is going to want, if that can be done without waiting.
    fn read_ahead(&self, file: &Arc<OpenFile>, range: Range<u64>) {
        let readers = self.files.lock().open.len().max(1) as u64;
        let most = (self.budget.memory / 2 / readers).clamp(PAGE, WIDEST);
        let Some(ahead) = file.window.lock().advance(range, most) else {
            return;
        };
        // Reading ahead never asks a person, and never waits for a page.
        let Some(lease) = self.bucket.lease() else {
            return;
        };
        let end = ahead.end.min(file.object.size);
        let mut at = ahead.start;
        let mut pending: Option<Flight> = None;
        while at < end {
            let base = at / PAGE * PAGE;
            let upto = end.min(base + PAGE);
            let Some(page) = self
                .pages
                .page_now((file.version, base / PAGE), file.object.size - base)
            else {
                break;
            };
            let wanted = Blocks::of(at - base, upto - base);
            if let Claim::Fetch(run) = page.claim(wanted) {
                let next = Flight::new(page, run, base, file.object.size);
                let full = |f: &Flight| f.end - f.start >= self.budget.part;
                if let Some(flight) = pending.take_if(|f| full(f)) {
                    self.take_off(&lease, file, flight);
                }
                let apart = match &mut pending {
                    Some(flight) => flight.join(next),
                    None => Some(next),
                };
                if let Some(next) = apart
                    && let Some(before) = pending.replace(next)
                {
                    self.take_off(&lease, file, before);
                }
            }
            at = upto;
        }
        if let Some(flight) = pending {
            self.take_off(&lease, file, flight);
        }
    }

    fn take_off(&self, lease: &Lease, file: &Arc<OpenFile>, flight: Flight) {
        let (bucket, lease, file) = (Arc::clone(&self.bucket), lease.clone(), Arc::clone(file));
        tokio::spawn(async move { fly(&bucket, &lease, &file, flight).await });
    }
}

/// Brings one flight's bytes in; a body that breaks off is resumed where it did.
async fn fly(bucket: &Bucket, lease: &Lease, file: &OpenFile, mut flight: Flight) {
    let mut resumes = 0;
    loop {
        let before = flight.at;
        let broke = match bucket
            .get(lease, &file.key, &file.object.etag, flight.at..flight.end)
            .await
        {
            Err(failure) => return flight.fail(&failure),
            Ok(mut body) => loop {
                match body.next().await {
                    Some(Ok(bytes)) => {
                        flight.land(&bytes);
                    }
                    Some(Err(error)) => break error,
                    None => break "the body ended early".to_owned(),
                }
                if flight.is_complete() {
                    break String::new();
                }
            },
        };
        if flight.is_complete() {
            return;
        }
        resumes = if flight.at > before { 0 } else { resumes + 1 };
        if resumes >= RESUMES {
            let failure = Failure::new(Kind::Unreachable(false), lease.generation(), broke);
            return flight.fail(&failure);
        }
        tracing::debug!("a body broke off, resuming it: {broke}");
        tokio::time::sleep(PAUSE).await;
    }
}

impl FileSystem {
    /// Has S3 confirm an inode, as opening does.
    pub(crate) async fn confirm(
        &self,
        asker: &Asker,
        number: u64,
    ) -> Result<super::inodes::Inode, FsError> {
        let inode = self.inode(number)?;
        if inode.kind.is_directory() {
            return Ok(inode);
        }
        let key = self.key(number)?;
        let object = match self.bucket.head(asker, &key).await {
            Err(StoreError::NotFound) => {
                self.listings.lock().forget(inode.parent);
                return Err(FsError::NotFound);
            }
            answer => answer?,
        };
        self.inodes
            .lock()
            .refresh(number, object)
            .ok_or(FsError::NotFound)
    }
}

// The kernel's requests are at most a page long, and a block is never longer than a page.
const _: () = assert!(PAGE.is_multiple_of(BLOCK) && PAGE / BLOCK == 16);
