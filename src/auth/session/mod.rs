//! The one session of a mount: its generations, its renewals, and who waits for them.
//!
//! Invariants:
//!
//! - At most one renewal runs, in a task of its own. A request that is dropped cannot take it
//!   along; the last request that is *interrupted* ends it, because nobody waits any more.
//! - A renewal is keyed by the generation that was rejected: whoever comes late with an old
//!   generation gets the current session, not a second prompt.
//! - The state's lock is never held across an await.
//! - Everything that serves content does so inside [`Sessions::while_live`], so that once
//!   [`Sessions::lock`] has returned nothing more is served.

mod asking;
mod flight;
mod terms;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::prompt::Ask;
use super::{AuthError, MARGIN, Rung};
use crate::clock::{Clock, wall_time};
use asking::Wish;
pub(crate) use asking::{Asker, Identity, Login, LoginRequest};
use flight::{Flight, Quiet};
pub(crate) use terms::{Demand, Generation, Granted, Patience, Phase, Reason, Session};

/// How often the wall clock is looked at while a session lives; a machine that was suspended
/// finds its session expired this soon after it wakes up.
const EXPIRY_TICK: Duration = Duration::from_secs(5);

/// How long after its last use a mount is still in use.
const IN_USE: Duration = Duration::from_secs(600);

/// The least age limit that is learned from a denial. A session that was revoked when it was
/// young must not make everybody type a code each minute.
const LEAST_LIMIT: Duration = Duration::from_secs(600);

/// The gatekeeper of one mount.
pub(crate) struct Sessions {
    login: Arc<dyn Login>,
    clock: Arc<dyn Clock>,
    patience: Patience,
    state: Mutex<State>,
    /// Held for reading while content is handed out, for writing while a session ends.
    serving: RwLock<()>,
    phase: watch::Sender<Phase>,
    offer: watch::Sender<Option<SystemTime>>,
}

struct State {
    live: Option<Arc<Session>>,
    last: Generation,
    reason: Reason,
    /// What the next session must be.
    demand: Demand,
    flight: Option<Flight>,
    refusals: u32,
    quiet: Option<Quiet>,
    ending: bool,
    renewals: u64,
    rung: Option<Rung>,
    /// How old a code may become.
    age_limit: Option<Duration>,
    /// The session whose renewal was offered.
    offered: Option<Generation>,
    /// How often it was locked.
    locks: u64,
    /// When somebody last wanted something of the bucket.
    used: Option<Instant>,
}

impl Sessions {
    /// Starts without a session; must be called inside a runtime.
    pub(crate) fn new(
        login: Arc<dyn Login>,
        clock: Arc<dyn Clock>,
        patience: Patience,
    ) -> Arc<Self> {
        let age_limit = login.age_limit();
        let sessions = Arc::new(Self {
            login,
            clock,
            patience,
            state: Mutex::new(State {
                live: None,
                last: Generation::default(),
                reason: Reason::FirstLogin,
                demand: Demand::default(),
                flight: None,
                refusals: 0,
                quiet: None,
                ending: false,
                renewals: 0,
                rung: None,
                age_limit,
                offered: None,
                locks: 0,
                used: None,
            }),
            serving: RwLock::new(()),
            phase: watch::Sender::new(Phase::Locked(Reason::FirstLogin)),
            offer: watch::Sender::new(None),
        });
        let watched = Arc::downgrade(&sessions);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EXPIRY_TICK).await;
                let Some(sessions) = watched.upgrade() else {
                    return;
                };
                // Looking is enough: `live` notices what has expired.
                sessions.live();
                sessions.look_ahead();
            }
        });
        sessions
    }

    /// Returns the live session, waiting for a renewal if there is none.
    pub(crate) async fn current(
        self: &Arc<Self>,
        asker: &Asker,
    ) -> Result<Arc<Session>, AuthError> {
        if asker.tid != 0 {
            self.state.lock().used = Some(Instant::now());
        }
        if let Some(session) = self.live() {
            return Ok(session);
        }
        self.wait(Wish::Any, asker).await
    }

    /// Returns a session that is not the rejected one, renewing it if nobody has yet.
    ///
    /// The rejected session is gone from now on, whether or not the renewal succeeds.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        rejected: Generation,
        reason: Reason,
        asker: &Asker,
    ) -> Result<Arc<Session>, AuthError> {
        self.drop_session(Some(rejected), reason);
        match self.live() {
            Some(session) => Ok(session),
            None => self.wait(Wish::Any, asker).await,
        }
    }

    /// Returns a session whose code is fresher than that of the given one, which goes on meanwhile:
    /// it is too old for some of the bucket only.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        old: Generation,
        reason: Reason,
        asker: &Asker,
    ) -> Result<Arc<Session>, AuthError> {
        self.wait(Wish::Newer(old, reason), asker).await
    }

    /// Returns a session that stands higher than the given one, which goes on meanwhile; `None` if
    /// there is nothing higher.
    pub(crate) async fn climb(
        self: &Arc<Self>,
        from: &Session,
        asker: &Asker,
    ) -> Result<Option<Arc<Session>>, AuthError> {
        if !self.login.climb(from.rung) {
            return Ok(None);
        }
        let wish = Wish::Newer(from.generation, Reason::WithoutMfa);
        self.wait(wish, asker).await.map(Some)
    }

    /// S3 accepted what it had denied to a lower rung: the next mount may begin on this one.
    pub(crate) fn worked(&self, session: &Session) {
        self.login.worked(session.rung);
    }

    /// Asks now for a session whose code is given after a moment, whatever the cool-down says; the
    /// present session goes on meanwhile.
    ///
    /// With `ask`, that is asked; where a prompt is open elsewhere, both are, and the first answer
    /// wins.
    pub(crate) async fn ask_now(
        self: &Arc<Self>,
        after: SystemTime,
        ask: Option<Arc<dyn Ask>>,
        asker: &Asker,
    ) -> Result<Arc<Session>, AuthError> {
        {
            let mut state = self.state.lock();
            state.quiet = None;
            state.refusals = 0;
        }
        self.wait(Wish::Now(after, ask), asker).await
    }

    /// Returns the live session, if there is one. Never waits.
    pub(crate) fn live(&self) -> Option<Arc<Session>> {
        let now = self.clock.now();
        {
            let state = self.state.lock();
            let session = state.live.as_ref().filter(|_| !state.ending)?;
            match session.end(state.age_limit) {
                Some((end, _)) if end <= now + MARGIN => {}
                _ => return Some(Arc::clone(session)),
            }
        }
        self.drop_expired(now);
        None
    }

    /// Runs `serve` if a session lives, and keeps it alive until `serve` has returned.
    ///
    /// `serve` must neither block nor call back into this: ending a session waits for it.
    pub(crate) fn while_live<R>(&self, serve: impl FnOnce() -> R) -> Option<R> {
        self.live()?;
        let _serving = self.serving.read();
        {
            let state = self.state.lock();
            state.live.as_ref().filter(|_| !state.ending)?;
        }
        Some(serve())
    }

    /// Forgets the session, also for other programs. When this returns, nothing is served any
    /// more.
    pub(crate) fn lock(&self) {
        self.close(Reason::Locked(self.clock.now()));
    }

    /// The same when the person has logged out: what a daemon still has goes with what it shared.
    pub(crate) fn log_out(&self) {
        self.close(Reason::LoggedOut(self.clock.now()));
    }

    fn close(&self, reason: Reason) {
        {
            let mut state = self.state.lock();
            state.locks += 1;
            // What is on its way would open it again.
            if let Some(flight) = state.flight.take() {
                flight.task.abort();
            }
            state.demand.after = Some(self.clock.now());
            if state.live.is_none() {
                state.reason = reason;
                self.publish(&state);
            }
        }
        self.login.forget();
        self.drop_session(None, reason);
    }

    /// Fails everything that waits, closes the dialog, and starts nothing any more. When this
    /// returns, nothing is served any more either, though other programs may go on with the session.
    pub(crate) fn end(&self) {
        {
            let mut state = self.state.lock();
            state.ending = true;
            if let Some(flight) = state.flight.take() {
                flight.task.abort();
            }
        }
        drop(self.serving.write());
    }

    /// Tells the phases, starting with the present one.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// When a request may cause a prompt again, if that is not now.
    pub(crate) fn cooling_down_until(&self) -> Option<SystemTime> {
        let state = self.state.lock();
        let quiet = state.quiet.as_ref()?;
        (quiet.until > Instant::now()).then_some(quiet.until_wall)
    }

    /// The rung of the last session, if there was one.
    pub(crate) fn rung(&self) -> Option<Rung> {
        self.state.lock().rung
    }

    /// How many renewals have been started.
    pub(crate) fn renewals(&self) -> u64 {
        self.state.lock().renewals
    }

    /// How long ago the session's code was accepted, or the session was got without one.
    pub(crate) fn age(&self, session: &Session) -> Duration {
        self.clock
            .now()
            .duration_since(session.authenticated)
            .unwrap_or_default()
    }

    /// The present moment by the clock that expiry is measured with.
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn drop_expired(&self, now: SystemTime) {
        let _quiesced = self.serving.write();
        let mut state = self.state.lock();
        let Some(live) = state.live.clone() else {
            return;
        };
        if let Some((end, reason)) = live.end(state.age_limit)
            && end <= now + MARGIN
        {
            state.demand = Demand::better_than(&live, reason);
            Self::forget(&mut state, reason);
            self.publish(&state);
        }
    }

    /// Offers a renewal before the session ends, to those who use the mount: once, and nobody needs
    /// to answer.
    fn look_ahead(&self) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let end = state.live.as_ref().and_then(|live| {
            let is_offered = state.offered == Some(live.generation);
            let is_used = state.used.is_some_and(|used| used.elapsed() < IN_USE);
            let (end, lead) = live.code_end(state.age_limit)?;
            (!is_offered && is_used && end > now && end <= now + lead).then_some(end)
        });
        if let Some(end) = end {
            state.offered = state.live.as_ref().map(|live| live.generation);
            self.offer.send_replace(Some(end));
            self.publish(&state);
            tracing::info!(
                "the session needs a new code at {}: `s3mfa-mount renew` gives it one before",
                wall_time(end)
            );
        }
    }

    /// Tells when a renewal is offered: the moment at which a code will be needed.
    pub(crate) fn offers(&self) -> watch::Receiver<Option<SystemTime>> {
        self.offer.subscribe()
    }

    /// The moment at which the live session will need a new code, if a renewal is offered.
    pub(crate) fn offered(&self) -> Option<SystemTime> {
        let state = self.state.lock();
        let live = state.live.as_ref()?;
        if state.offered != Some(live.generation) {
            return None;
        }
        live.code_end(state.age_limit).map(|(end, _)| end)
    }

    /// Whether sessions cannot carry MFA, as there is no device to get a code from.
    pub(crate) fn is_without_device(&self) -> bool {
        self.login.is_without_device()
    }

    /// How old a code may become in this bucket, as far as that is known.
    pub(crate) fn age_limit(&self) -> Option<Duration> {
        self.state.lock().age_limit
    }

    /// The bucket's policy says how old a code may become, which settles it.
    pub(crate) fn know_age_limit(&self, limit: Duration) {
        if self.login.learn_age_limit(limit) {
            self.state.lock().age_limit = Some(limit);
        }
    }

    /// S3 accepts a fresher code where it has denied one of this age.
    pub(crate) fn learn_age_limit(&self, age: Duration) {
        let is_less = |known: Option<Duration>| known.is_none_or(|known| age < known);
        if age < LEAST_LIMIT || !is_less(self.age_limit()) || !self.login.learn_age_limit(age) {
            return;
        }
        tracing::info!(
            "the bucket wants a code no older than {} s: that is respected from now on",
            age.as_secs()
        );
        self.state.lock().age_limit = Some(age);
    }

    /// Drops the live session, if it is of the given generation.
    fn drop_session(&self, rejected: Option<Generation>, reason: Reason) {
        let _quiesced = self.serving.write();
        let mut state = self.state.lock();
        if let Some(live) = &state.live
            && rejected.is_none_or(|generation| generation == live.generation)
        {
            state.demand = Demand::better_than(live, reason);
            Self::forget(&mut state, reason);
            self.publish(&state);
        }
    }

    fn forget(state: &mut State, reason: Reason) {
        state.live = None;
        state.reason = reason;
        tracing::info!("no session: {reason}");
    }

    fn publish(&self, state: &State) {
        let phase = match (&state.live, &state.flight) {
            (Some(session), _) => Phase::Live(Arc::clone(session)),
            (None, Some(_)) => Phase::Asking(state.reason),
            (None, None) => Phase::Locked(state.reason),
        };
        self.phase.send_replace(phase);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
