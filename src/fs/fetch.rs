//! Pages from S3: each byte is sent for once, and a little before it is wanted.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::file::Remote;
use super::pages::{BLOCK, Blocks, Claim, Flight, Held, PAGE, PageId};
use super::{FileSystem, FsError};
use crate::auth::Asker;
use crate::store::failure::Kind;
use crate::store::verdict::Action;
use crate::store::{Bucket, Failure, Lease};

/// How often a body that broke off is resumed without having brought a byte.
const RESUMES: u32 = 5;

/// The widest window of read-ahead in bytes, however much memory there is.
const WIDEST: u64 = 64 << 20;

impl FileSystem {
    /// A range over several pages, one page in use at a time.
    pub(super) async fn gather(
        &self,
        asker: &Asker,
        file: &Arc<Remote>,
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
    pub(super) async fn page(
        &self,
        asker: &Asker,
        file: &Arc<Remote>,
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
        file: &Arc<Remote>,
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
    pub(super) fn read_ahead(&self, file: &Arc<Remote>, range: Range<u64>) {
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

    fn take_off(&self, lease: &Lease, file: &Arc<Remote>, flight: Flight) {
        let (bucket, lease, file) = (Arc::clone(&self.bucket), lease.clone(), Arc::clone(file));
        let pause = self.budget.pause;
        tokio::spawn(async move { fly(&bucket, &lease, &file, flight, pause).await });
    }
}

/// Brings one flight's bytes in; a body that breaks off is resumed where it did.
async fn fly(bucket: &Bucket, lease: &Lease, file: &Remote, mut flight: Flight, pause: Duration) {
    let mut resumes = 0;
    loop {
        let before = flight.at;
        let broke = match bucket
            .get(
                lease,
                &file.key,
                &file.object,
                file.pinned.as_deref(),
                flight.at..flight.end,
            )
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
        tokio::time::sleep(pause).await;
    }
}

// The kernel's requests are at most a page long, and a block is never longer than a page.
const _: () = assert!(PAGE.is_multiple_of(BLOCK) && PAGE / BLOCK == 16);
