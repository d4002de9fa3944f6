//! Faults that can be switched on: slow, stalled, refused, cut and lost answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::counts::Kind;
use crate::request::Call;
use crate::sessions::Sessions;

/// For `times`: until [`Faults::clear`].
pub const FOREVER: u64 = u64::MAX;

/// Which requests a fault hits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    kind: Option<Kind>,
    prefix: Option<String>,
}

impl Matcher {
    /// Matches every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Matches requests of one kind.
    pub fn kind(kind: Kind) -> Self {
        Self {
            kind: Some(kind),
            prefix: None,
        }
    }

    /// Narrows the matcher to objects whose key, and listings whose prefix, starts with `prefix`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    fn matches(&self, call: &Call) -> bool {
        let named = call
            .key
            .as_deref()
            .or(call.prefix.as_deref())
            .unwrap_or_default();
        self.kind.is_none_or(|kind| kind == call.kind)
            && self
                .prefix
                .as_deref()
                .is_none_or(|prefix| named.starts_with(prefix))
    }
}

impl From<Kind> for Matcher {
    fn from(kind: Kind) -> Self {
        Self::kind(kind)
    }
}

/// A handle to the faults. All of it can be called at any time from any thread.
#[derive(Clone, Debug)]
pub struct Faults {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    sessions: Sessions,
    planned: Mutex<Vec<Planned>>,
    /// Counts the releases; a stalled request waits for the next one.
    releases: watch::Sender<u64>,
    stalled: AtomicUsize,
    /// Bytes per second of all bodies together; 0 for no limit.
    throttle: AtomicU64,
    /// When the throttled line is free again.
    line_free: Mutex<Option<Instant>>,
    /// Wakes bodies that wait for the line when its rate changes.
    rate_changes: watch::Sender<u64>,
    expire_after: Mutex<Option<u64>>,
}

#[derive(Debug)]
struct Planned {
    matcher: Matcher,
    fault: Fault,
    times: u64,
}

#[derive(Clone, Debug)]
enum Fault {
    Latency(Duration),
    Stall,
    Status(u16, String),
    Drop,
    LoseResponse,
    Truncate(u64),
}

/// The faults that hit one request.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    pub(crate) latency: Duration,
    pub(crate) stall: bool,
    pub(crate) status: Option<(u16, String)>,
    pub(crate) drop: bool,
    pub(crate) lose_response: bool,
    pub(crate) truncate: Option<u64>,
}

impl Faults {
    pub(crate) fn new(sessions: Sessions) -> Self {
        Self {
            state: Arc::new(State {
                sessions,
                planned: Mutex::default(),
                releases: watch::Sender::new(0),
                stalled: AtomicUsize::new(0),
                throttle: AtomicU64::new(0),
                line_free: Mutex::default(),
                rate_changes: watch::Sender::new(0),
                expire_after: Mutex::default(),
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
        let mut planned = self.state.planned.lock();
        planned.retain(|plan| plan.matcher != matcher || !matches!(plan.fault, Fault::Latency(_)));
        if !delay.is_zero() {
            planned.push(Planned {
                matcher,
                fault: Fault::Latency(delay),
                times: FOREVER,
            });
        }
    }

    /// Holds the next `times` matching requests until [`release`](Self::release). They are verified
    /// and answered only then.
    pub fn stall(&self, matcher: impl Into<Matcher>, times: u64) {
        self.plan(matcher, Fault::Stall, times);
    }

    /// Lets all stalled requests go on, and stalls no more of them.
    pub fn release(&self) {
        self.state
            .planned
            .lock()
            .retain(|planned| !matches!(planned.fault, Fault::Stall));
        self.state.releases.send_modify(|count| *count += 1);
    }

    /// Returns how many requests are stalled now.
    pub fn stalled(&self) -> usize {
        self.state.stalled.load(Ordering::SeqCst)
    }

    /// Answers the next `times` matching requests with that status and error code, such as 503
    /// `SlowDown` or 500 `InternalError`, before they are verified.
    pub fn status(&self, matcher: impl Into<Matcher>, status: u16, code: &str, times: u64) {
        self.plan(matcher, Fault::Status(status, code.to_owned()), times);
    }

    /// Closes the connection of the next `times` matching requests instead of serving them.
    pub fn drop_connection(&self, matcher: impl Into<Matcher>, times: u64) {
        self.plan(matcher, Fault::Drop, times);
    }

    /// Serves the next `times` matching requests, effects included (a code is spent), and then closes
    /// the connection instead of answering.
    pub fn lose_response(&self, matcher: impl Into<Matcher>, times: u64) {
        self.plan(matcher, Fault::LoseResponse, times);
    }

    /// Announces the full length of the next `times` matching bodies of objects, sends `after_bytes`
    /// and closes the connection. Shorter bodies are sent whole.
    pub fn truncate_body(&self, matcher: impl Into<Matcher>, after_bytes: u64, times: u64) {
        self.plan(matcher, Fault::Truncate(after_bytes), times);
    }

    /// Limits all bodies of objects together to that many bytes per second; 0 takes the limit away.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.state
            .throttle
            .store(bytes_per_second, Ordering::SeqCst);
        *self.state.line_free.lock() = None;
        self.state.rate_changes.send_modify(|count| *count += 1);
    }

    /// Expires all sessions once `bytes` more bytes of objects have been served. The body in which
    /// that happens is sent to its end, as S3 does: it checks a session when a request begins. It
    /// happens once; sessions issued later live on.
    pub fn expire_after_bytes(&self, bytes: u64) {
        *self.state.expire_after.lock() = Some(bytes);
    }

    /// Takes all faults away and releases what is stalled.
    pub fn clear(&self) {
        self.state.planned.lock().clear();
        self.throttle(0);
        *self.state.expire_after.lock() = None;
        self.release();
    }

    fn plan(&self, matcher: impl Into<Matcher>, fault: Fault, times: u64) {
        self.state.planned.lock().push(Planned {
            matcher: matcher.into(),
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
            let taken = match &plan.fault {
                Fault::Latency(delay) => {
                    hits.latency += *delay;
                    true
                }
                Fault::Stall => !std::mem::replace(&mut hits.stall, true),
                Fault::Drop => !std::mem::replace(&mut hits.drop, true),
                Fault::LoseResponse => !std::mem::replace(&mut hits.lose_response, true),
                Fault::Status(status, code) if hits.status.is_none() => {
                    hits.status = Some((*status, code.clone()));
                    true
                }
                Fault::Truncate(after) if hits.truncate.is_none() => {
                    hits.truncate = Some(*after);
                    true
                }
                Fault::Status(..) | Fault::Truncate(_) => false,
            };
            if taken && plan.times != FOREVER {
                plan.times -= 1;
            }
        }
        planned.retain(|plan| plan.times > 0);
        hits
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
        match self.state.throttle.load(Ordering::SeqCst) {
            0 => LARGEST,
            rate => usize::try_from(rate / 50)
                .unwrap_or(LARGEST)
                .clamp(SMALLEST, LARGEST),
        }
    }

    /// Books `bytes` on the throttled line, and returns the wait until they may be sent, which ends
    /// early when the rate changes.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut changes = self.state.rate_changes.subscribe();
        let rate = self.state.throttle.load(Ordering::SeqCst);
        if rate == 0 {
            return None;
        }
        let now = Instant::now();
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut line_free = self.state.line_free.lock();
        let free = line_free.map_or(now, |free| free.max(now)) + takes;
        *line_free = Some(free);
        Some(async move {
            let _ = tokio::time::timeout(free - now, changes.changed()).await;
        })
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
