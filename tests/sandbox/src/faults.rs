//! Faults that can be switched on: slow, stalled, refused, cut and lost answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::conditions::ConditionalWrites;
use crate::line::Line;
use crate::matcher::Matcher;
use crate::request::Call;
use crate::sessions::Sessions;
use crate::uploads::CompletedUploads;

/// For `times`: until [`Faults::clear`].
pub const FOREVER: u64 = u64::MAX;

/// A handle to the faults. All of it can be called at any time from any thread.
///
/// What a fault hits is a [`Matcher`], or a [`Kind`](crate::Kind) for short; with
/// [`Matcher::nth`] it waits for the nth matching request from now.
#[derive(Clone, Debug)]
pub struct Faults {
    state: Arc<State>,
}

/// What the network does with connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// It carries them.
    #[default]
    Up,
    /// New connections are closed at once, and so are those that were open. A request that was being
    /// served when it went down has no effect unless it had it already.
    Closing,
    /// Nothing is heard: connections are accepted and nothing on them is read or answered. What was
    /// open then is closed when the network changes again.
    Silent,
}

#[derive(Debug)]
struct State {
    sessions: Sessions,
    planned: Mutex<Vec<Planned>>,
    switches: Mutex<Switches>,
    /// Counts the releases; a stalled request waits for the next one.
    releases: watch::Sender<u64>,
    stalled: AtomicUsize,
    downloads: Line,
    uploads: Line,
    expire_after: Mutex<Option<u64>>,
    network: watch::Sender<Network>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Switches {
    conditional_writes: ConditionalWrites,
    completed_uploads: CompletedUploads,
}

#[derive(Debug)]
struct Planned {
    matcher: Matcher,
    fault: Fault,
    /// Matching requests that pass first.
    skip: u64,
    times: u64,
}

#[derive(Clone, Debug)]
enum Fault {
    Latency(Duration),
    Stall,
    HoldAnswer,
    Status(u16, String),
    RetryAfter(Duration),
    ErrorInside200(String),
    Conflict,
    Drop,
    LoseResponse,
    Truncate(u64),
    CutUpload(u64),
    ExpireBefore,
    ExpireAfter,
}

/// The faults that hit one request.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    pub(crate) latency: Duration,
    pub(crate) stall: bool,
    pub(crate) hold_answer: bool,
    pub(crate) status: Option<(u16, String)>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) error_inside_200: Option<String>,
    pub(crate) conflict: bool,
    pub(crate) drop: bool,
    pub(crate) lose_response: bool,
    pub(crate) truncate: Option<u64>,
    pub(crate) cut_upload: Option<u64>,
    pub(crate) expire_before: bool,
    pub(crate) expire_after: bool,
}

impl Hits {
    /// Takes a fault; tells whether it was not there yet.
    fn add(&mut self, fault: &Fault) -> bool {
        fn set<T>(slot: &mut Option<T>, value: T) -> bool {
            slot.is_none() && {
                *slot = Some(value);
                true
            }
        }
        let raise = |flag: &mut bool| !std::mem::replace(flag, true);
        match fault {
            Fault::Latency(delay) => {
                self.latency += *delay;
                true
            }
            Fault::Stall => raise(&mut self.stall),
            Fault::HoldAnswer => raise(&mut self.hold_answer),
            Fault::Status(status, code) => set(&mut self.status, (*status, code.clone())),
            Fault::RetryAfter(pause) => set(&mut self.retry_after, *pause),
            Fault::ErrorInside200(code) => set(&mut self.error_inside_200, code.clone()),
            Fault::Conflict => raise(&mut self.conflict),
            Fault::Drop => raise(&mut self.drop),
            Fault::LoseResponse => raise(&mut self.lose_response),
            Fault::Truncate(after) => set(&mut self.truncate, *after),
            Fault::CutUpload(after) => set(&mut self.cut_upload, *after),
            Fault::ExpireBefore => raise(&mut self.expire_before),
            Fault::ExpireAfter => raise(&mut self.expire_after),
        }
    }
}

impl Faults {
    pub(crate) fn new(sessions: Sessions) -> Self {
        Self {
            state: Arc::new(State {
                sessions,
                planned: Mutex::default(),
                switches: Mutex::default(),
                releases: watch::Sender::new(0),
                stalled: AtomicUsize::new(0),
                downloads: Line::default(),
                uploads: Line::default(),
                expire_after: Mutex::default(),
                network: watch::Sender::new(Network::Up),
            }),
        }
    }

    /// Delays the answer to every request by `delay` instead of by what was set before; zero takes the
    /// delay away.
    pub fn latency(&self, delay: Duration) {
        self.latency_for(Matcher::any(), delay);
    }

    /// Delays the answer to some requests. Delays of different matchers add up; another one for the
    /// same matcher replaces the first, and zero takes it away.
    pub fn latency_for(&self, matcher: impl Into<Matcher>, delay: Duration) {
        let matcher = matcher.into();
        self.state
            .planned
            .lock()
            .retain(|plan| plan.matcher != matcher || !matches!(plan.fault, Fault::Latency(_)));
        if !delay.is_zero() {
            self.plan(matcher, Fault::Latency(delay), FOREVER);
        }
    }

    /// Holds the next `times` matching requests until [`release`](Self::release). They are verified
    /// and answered only then.
    pub fn stall(&self, matcher: impl Into<Matcher>, times: u64) {
        self.plan(matcher, Fault::Stall, times);
    }

    /// Serves the next `times` matching requests, effects included, and holds the answers until
    /// [`release`](Self::release).
    pub fn hold_answer(&self, matcher: impl Into<Matcher>, times: u64) {
        self.plan(matcher, Fault::HoldAnswer, times);
    }

    /// Lets all stalled requests and held answers go on, and stalls no more of them.
    pub fn release(&self) {
        self.state
            .planned
            .lock()
            .retain(|planned| !matches!(planned.fault, Fault::Stall | Fault::HoldAnswer));
        self.state.releases.send_modify(|count| *count += 1);
    }

    /// Returns how many requests are stalled now, those whose answer is held included.
    pub fn stalled(&self) -> usize {
        self.state.stalled.load(Ordering::SeqCst)
    }

    /// Answers the next `times` matching requests with that status and error code, such as 503
    /// `SlowDown` or 500 `InternalError`, before they are verified.
    pub fn status(&self, matcher: impl Into<Matcher>, status: u16, code: &str, times: u64) {
        self.plan(matcher, Fault::Status(status, code.to_owned()), times);
    }

    /// Says in the next `times` matching answers with a [`status`](Self::status) fault when to come
    /// again: `Retry-After`, in whole seconds.
    pub fn retry_after(&self, matcher: impl Into<Matcher>, pause: Duration, times: u64) {
        self.plan(matcher, Fault::RetryAfter(pause), times);
    }

    /// Answers the next `times` matching requests with status 200 and a body that is an error, and does
    /// nothing. AWS does it on CompleteMultipartUpload, CopyObject and UploadPartCopy, which take long:
    /// see their pages in its reference.
    pub fn error_inside_200(&self, matcher: impl Into<Matcher>, code: &str, times: u64) {
        self.plan(matcher, Fault::ErrorInside200(code.to_owned()), times);
    }

    /// Answers the next `times` matching writes that have an `If-Match` or `If-None-Match` with 409
    /// `ConditionalRequestConflict`, as if another write had come in between, and does nothing. Other
    /// requests pass, and do not count.
    pub fn conflict(&self, matcher: impl Into<Matcher>, times: u64) {
        self.plan(matcher.into().conditional(), Fault::Conflict, times);
    }

    /// Closes the connection of the next `times` matching requests instead of serving them.
    pub fn drop_connection(&self, matcher: impl Into<Matcher>, times: u64) {
        self.plan(matcher, Fault::Drop, times);
    }

    /// Serves the next `times` matching requests, effects included (a code is spent, an object stored),
    /// and then closes the connection instead of answering.
    pub fn lose_response(&self, matcher: impl Into<Matcher>, times: u64) {
        self.plan(matcher, Fault::LoseResponse, times);
    }

    /// Announces the full length of the next `times` matching bodies of objects, sends `after_bytes`
    /// and closes the connection. Shorter bodies are sent whole.
    pub fn truncate_body(&self, matcher: impl Into<Matcher>, after_bytes: u64, times: u64) {
        self.plan(matcher, Fault::Truncate(after_bytes), times);
    }

    /// Reads more than `after_bytes` of the bodies of the next `times` matching requests and then
    /// closes the connection; nothing is stored. Shorter bodies are served.
    pub fn cut_upload(&self, matcher: impl Into<Matcher>, after_bytes: u64, times: u64) {
        self.plan(matcher, Fault::CutUpload(after_bytes), times);
    }

    /// Limits all bodies of objects together to that many bytes per second; 0 takes the limit away.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.state.downloads.set_rate(bytes_per_second);
    }

    /// Limits all bodies of requests to S3 together to that many bytes per second; 0 takes the limit
    /// away.
    pub fn throttle_uploads(&self, bytes_per_second: u64) {
        self.state.uploads.set_rate(bytes_per_second);
    }

    /// Expires all sessions once `bytes` more bytes of objects have been served. The body in which
    /// that happens is sent to its end, as S3 does: it checks a session when a request begins. It
    /// happens once; sessions issued later live on.
    pub fn expire_after_bytes(&self, bytes: u64) {
        *self.state.expire_after.lock() = Some(bytes);
    }

    /// Expires all sessions just before the next matching request is verified, so that it is the first
    /// one refused. It happens once; sessions issued later live on.
    ///
    /// `expire_before(Matcher::s3().nth(3))` is the third request to S3 from now, whatever its kind.
    pub fn expire_before(&self, matcher: impl Into<Matcher>) {
        self.plan(matcher, Fault::ExpireBefore, 1);
    }

    /// Expires all sessions just after the next matching request was served, well or not, so that it is
    /// the last one that can succeed. It happens once; sessions issued later live on.
    pub fn expire_after(&self, matcher: impl Into<Matcher>) {
        self.plan(matcher, Fault::ExpireAfter, 1);
    }

    /// Sets how conditional writes are treated, until [`clear`](Self::clear).
    pub fn conditional_writes(&self, how: ConditionalWrites) {
        self.state.switches.lock().conditional_writes = how;
    }

    /// Sets what completing a completed upload again is answered, until [`clear`](Self::clear).
    pub fn completed_uploads(&self, how: CompletedUploads) {
        self.state.switches.lock().completed_uploads = how;
    }

    /// Takes the network down or up, until [`clear`](Self::clear). What is on it when it goes down is
    /// closed or silenced with it.
    pub fn network(&self, network: Network) {
        self.state.network.send_replace(network);
    }

    /// Takes all faults away and releases what is stalled.
    pub fn clear(&self) {
        self.state.planned.lock().clear();
        *self.state.switches.lock() = Switches::default();
        self.throttle(0);
        self.throttle_uploads(0);
        *self.state.expire_after.lock() = None;
        self.network(Network::Up);
        self.release();
    }

    fn plan(&self, matcher: impl Into<Matcher>, fault: Fault, times: u64) {
        let matcher = matcher.into();
        self.state.planned.lock().push(Planned {
            skip: matcher.skip(),
            matcher,
            fault,
            times,
        });
    }

    /// Takes the faults that hit a request. Of two plans of the same fault, the earlier is used up
    /// first.
    pub(crate) fn take(&self, call: &Call) -> Hits {
        let mut hits = Hits::default();
        let mut planned = self.state.planned.lock();
        for plan in planned
            .iter_mut()
            .filter(|plan| plan.times > 0 && plan.matcher.matches(call))
        {
            if plan.skip > 0 {
                plan.skip -= 1;
            } else if hits.add(&plan.fault) && plan.times != FOREVER {
                plan.times -= 1;
            }
        }
        planned.retain(|plan| plan.times > 0);
        hits
    }

    pub(crate) fn conditional_writes_now(&self) -> ConditionalWrites {
        self.state.switches.lock().conditional_writes
    }

    pub(crate) fn completed_uploads_now(&self) -> CompletedUploads {
        self.state.switches.lock().completed_uploads
    }

    pub(crate) fn watch_network(&self) -> watch::Receiver<Network> {
        self.state.network.subscribe()
    }

    pub(crate) fn network_now(&self) -> Network {
        *self.state.network.borrow()
    }

    pub(crate) fn expire_sessions(&self) {
        self.state.sessions.expire_all();
    }

    /// Waits for the next release.
    pub(crate) async fn hold(&self) {
        struct Held<'a>(&'a AtomicUsize);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let mut releases = self.state.releases.subscribe();
        self.state.stalled.fetch_add(1, Ordering::SeqCst);
        let _held = Held(&self.state.stalled);
        let _ = releases.changed().await;
    }

    /// How large a piece of a body may be; slow lines want small ones to be smooth.
    pub(crate) fn largest_piece(&self) -> usize {
        const LARGEST: usize = 256 * 1024;
        const SMALLEST: usize = 1024;
        match self.state.downloads.rate() {
            0 => LARGEST,
            rate => usize::try_from(rate / 50)
                .unwrap_or(LARGEST)
                .clamp(SMALLEST, LARGEST),
        }
    }

    /// Books `bytes` of an answer on its line.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.state.downloads.reserve(bytes)
    }

    /// Books `bytes` of a request's body on its line.
    pub(crate) fn reserve_upload(
        &self,
        bytes: usize,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.state.uploads.reserve(bytes)
    }

    pub(crate) fn served(&self, bytes: u64) {
        let mut expire_after = self.state.expire_after.lock();
        let Some(left) = *expire_after else {
            return;
        };
        let left = left.saturating_sub(bytes);
        if left > 0 {
            *expire_after = Some(left);
            return;
        }
        *expire_after = None;
        drop(expire_after);
        self.state.sessions.expire_all();
    }
}
