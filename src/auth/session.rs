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

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::prompt::{Ask, Panel};
use super::{AuthError, Ending, MARGIN, Rung, cool_down};
use crate::clock::{Clock, wall_time};

/// How long nobody is asked after a fault of the network, whose code was typed for nothing.
const AFTER_FAULT: Duration = Duration::from_secs(10);

/// How often the wall clock is looked at while a session lives; a machine that was suspended
/// finds its session expired this soon after it wakes up.
const EXPIRY_TICK: Duration = Duration::from_secs(5);

/// How long before its end a session's renewal is offered, if it lives long enough.
const LEAD: Duration = Duration::from_secs(600);

/// How long after its last use a mount is still in use.
const IN_USE: Duration = Duration::from_secs(600);

/// The least age limit that is learned from a denial. A session that was revoked when it was
/// young must not make everybody type a code each minute.
const LEAST_LIMIT: Duration = Duration::from_secs(600);

/// Counts the sessions of a mount; each renewal makes the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Generation(pub(crate) u64);

/// What a login hands over.
pub(crate) struct Granted {
    /// The keys and the token.
    pub(crate) credentials: Credentials,
    /// When they end; `None` for keys that do not.
    pub(crate) expires: Option<SystemTime>,
    /// When a person gave a code for them, or else when they were got.
    pub(crate) authenticated: SystemTime,
    /// Until when the next session needs no further code, if that ends.
    pub(crate) code_until: Option<SystemTime>,
    /// How they were got.
    pub(crate) rung: Rung,
    /// Whether they were issued just now, rather than found where another program has left them.
    pub(crate) is_new: bool,
}

/// A session that S3 accepted, or at least STS granted.
pub(crate) struct Session {
    /// Which one of this mount's sessions it is.
    pub(crate) generation: Generation,
    /// The keys and the token. Only the store signs with them.
    pub(crate) credentials: Credentials,
    /// When it ends; `None` for keys that do not.
    pub(crate) expires: Option<SystemTime>,
    /// When the code was accepted: `aws:MultiFactorAuthAge` counts from here. Without a code,
    /// when the keys were got.
    pub(crate) authenticated: SystemTime,
    /// Until when the next session needs no further code, if that ends.
    pub(crate) code_until: Option<SystemTime>,
    /// How it was got.
    pub(crate) rung: Rung,
    /// Whether it was issued to this mount just when it was got.
    pub(crate) is_new: bool,
}

impl Session {
    /// When it ends under an age limit, and what it has died of then.
    fn end(&self, age_limit: Option<Duration>) -> Option<(SystemTime, Reason)> {
        let too_old = age_limit
            .filter(|_| self.rung.has_mfa())
            .map(|limit| (self.authenticated + limit, Reason::TooOld(limit)));
        let expired = self.expires.map(|end| (end, Reason::Expired(end)));
        [too_old, expired]
            .into_iter()
            .flatten()
            .min_by_key(|(end, _)| *end)
    }

    /// When a new code will be needed, and how long before that it is worth saying.
    fn code_end(&self, age_limit: Option<Duration>) -> Option<(SystemTime, Duration)> {
        let too_old = age_limit
            .filter(|_| self.rung.has_mfa())
            .map(|limit| self.authenticated + limit);
        let end = [too_old, self.code_until].into_iter().flatten().min()?;
        let life = end.duration_since(self.authenticated).unwrap_or_default();
        Some((end, LEAD.min(life / 6)))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("generation", &self.generation)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Who waits for a session, and whether they may have a person asked.
///
/// Almost all requests find a session and need nobody's name, so the name is found out only
/// when somebody is about to be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The thread that waits, 0 if it has none here.
    pub(crate) tid: u32,
    /// Tells who that is.
    pub(crate) identify: fn(u32) -> Identity,
}

/// What a prompt says about its cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    /// The program, as `cat (4711)`; empty for the mount itself.
    pub(crate) program: String,
    /// Whether it may cause a prompt.
    pub(crate) may_prompt: bool,
}

impl Asker {
    /// The mount itself, or the person at its controls.
    pub(crate) fn person() -> Self {
        Self {
            tid: 0,
            identify: |_| Identity {
                program: String::new(),
                may_prompt: true,
            },
        }
    }

    /// Nobody: what the daemon does by itself never causes a prompt.
    pub(crate) fn nobody() -> Self {
        Self {
            tid: 0,
            identify: |_| Identity::default(),
        }
    }
}

/// Why a code is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The mount's first session.
    FirstLogin,
    /// The session reached its end.
    Expired(SystemTime),
    /// S3 called the session expired or invalid.
    Rejected(SystemTime),
    /// S3 denies what it allowed before: the policy's MFA age limit. The age reached.
    TooOld(Duration),
    /// S3 denies it to keys without MFA.
    WithoutMfa,
    /// Somebody locked the mount.
    Locked(SystemTime),
    /// Somebody asked for a new session.
    Requested,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstLogin => write!(f, "the bucket demands MFA"),
            Self::Expired(at) => write!(f, "the session expired at {}", wall_time(*at)),
            Self::Rejected(at) => write!(f, "the session ended at {}", wall_time(*at)),
            Self::TooOld(age) => write!(
                f,
                "the bucket's policy wants a fresher code than one of {} s ago",
                age.as_secs()
            ),
            Self::WithoutMfa => write!(f, "S3 denies it without MFA"),
            Self::Locked(at) => write!(f, "the mount was locked at {}", wall_time(*at)),
            Self::Requested => write!(f, "a new session was asked for"),
        }
    }
}

/// What a prompt is told about its cause.
#[derive(Clone)]
pub(crate) struct LoginRequest {
    /// Why a code is needed.
    pub(crate) reason: Reason,
    /// Who needs it first.
    pub(crate) program: String,
    /// The thread that waits, 0 if none.
    pub(crate) tid: u32,
    /// Whom to ask.
    pub(crate) panel: Panel,
    /// Whether a person may be asked at all.
    pub(crate) may_ask: bool,
    /// Whether the panel is a place that somebody named, and not where the mount would ask.
    pub(crate) is_elsewhere: bool,
    /// Which session will do.
    pub(crate) demand: Demand,
}

/// What a new session must be, to be better than the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Not that of this access key: S3 refuses it.
    pub(crate) rejected: Option<String>,
    /// With a code that was accepted after this.
    pub(crate) after: Option<SystemTime>,
    /// Somebody wants it now, whatever was refused.
    pub(crate) insists: bool,
}

/// Turns a person's code into a session.
pub(crate) trait Login: Send + Sync + 'static {
    /// Asks, as often as it takes, and returns the session or the reason for having none.
    ///
    /// Dropping the future closes the dialog.
    fn login(&self, request: LoginRequest) -> BoxFuture<'static, Result<Granted, AuthError>>;

    /// Whom a login asks if nobody else is named.
    fn asker(&self) -> Arc<dyn Ask>;

    /// Makes the next login stand higher than this; `false` if there is nothing higher.
    fn climb(&self, from: Rung) -> bool;

    /// Whether a login would succeed now without anybody being asked, as far as can be told
    /// without waiting.
    fn is_at_hand(&self, demand: &Demand) -> bool;

    /// S3 accepted what it denied to a lower rung.
    fn worked(&self, rung: Rung);

    /// How old a code may become, as far as it was said or learned.
    fn age_limit(&self) -> Option<Duration>;

    /// S3 wants a fresher code than one of this age. `false` if that is not to be believed.
    fn learn_age_limit(&self, limit: Duration) -> bool;

    /// Forgets what the next login could use without asking.
    fn forget(&self);
}

/// What somebody waits for.
enum Wish {
    /// A session.
    Any,
    /// One that is newer than this; the present one goes on meanwhile.
    Newer(Generation, Reason),
    /// One whose code is given after a moment, although there may be one; asked here, if somebody
    /// is given.
    Now(SystemTime, Option<Arc<dyn Ask>>),
}

/// What the outside may know of the session.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// No session, and nobody is being asked.
    Locked(Reason),
    /// Somebody is being asked for a code.
    Asking(Reason),
    /// Requests are served.
    Live(Arc<Session>),
}

/// How long requests wait, and how long nobody is asked again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// `--prompt-timeout`.
    pub(crate) wait: Duration,
    /// `--prompt-cooldown`, the first of the three.
    pub(crate) cool_down: Duration,
}

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
    /// When somebody last wanted something of the bucket.
    used: Option<Instant>,
}

/// Nobody is asked until then.
struct Quiet {
    until: Instant,
    until_wall: SystemTime,
    because: AuthError,
}

impl Quiet {
    /// What a request hears meanwhile: a fault as it was, and of a person's no until when.
    fn error(&self) -> AuthError {
        match self.because.kind() {
            Ending::Fault => self.because.clone(),
            _ => AuthError::CoolingDown {
                until: self.until_wall,
                because: self.because.to_string(),
            },
        }
    }
}

type Outcome = Option<Result<Arc<Session>, AuthError>>;

struct Flight {
    id: u64,
    outcome: watch::Receiver<Outcome>,
    /// When all that wait now give up together.
    deadline: Instant,
    waiters: usize,
    /// Somebody waited until the deadline: the dialog stays for a late answer.
    outlived: bool,
    panel: Panel,
    task: AbortHandle,
}

impl Demand {
    /// What a session must be that takes the place of one that was lost for a reason.
    fn better_than(session: &Session, reason: Reason) -> Self {
        let id = || Some(session.credentials.access_key_id().to_owned());
        match reason {
            Reason::Rejected(_) => Self {
                rejected: id(),
                ..Self::default()
            },
            Reason::TooOld(_) => Self {
                rejected: id(),
                after: Some(session.authenticated),
                ..Self::default()
            },
            Reason::FirstLogin
            | Reason::Expired(_)
            | Reason::WithoutMfa
            | Reason::Locked(_)
            | Reason::Requested => Self::default(),
        }
    }
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
            let session = state.live.as_ref()?;
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
        self.state.lock().live.as_ref()?;
        Some(serve())
    }

    /// Forgets the session, also for other programs. When this returns, nothing is served any
    /// more.
    pub(crate) fn lock(&self) {
        self.login.forget();
        self.drop_session(None, Reason::Locked(self.clock.now()));
    }

    /// Fails everything that waits, closes the dialog, and starts nothing any more.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.ending = true;
        if let Some(flight) = state.flight.take() {
            flight.task.abort();
        }
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

    /// Joins the renewal, starting one if need be.
    async fn wait(
        self: &Arc<Self>,
        mut wish: Wish,
        asker: &Asker,
    ) -> Result<Arc<Session>, AuthError> {
        let identity = (asker.identify)(asker.tid);
        loop {
            let mut ticket = {
                let mut state = self.state.lock();
                if state.ending {
                    return Err(AuthError::Ending);
                }
                let enough = match (&wish, &state.live) {
                    (Wish::Any, Some(live)) => Some(live),
                    (Wish::Newer(old, _), Some(live)) if live.generation > *old => Some(live),
                    _ => None,
                };
                if let Some(session) = enough {
                    return Ok(Arc::clone(session));
                }
                if !matches!(wish, Wish::Now(..)) {
                    let is_at_hand =
                        matches!(wish, Wish::Any) && self.login.is_at_hand(&state.demand);
                    if !identity.may_prompt && !is_at_hand {
                        return Err(AuthError::Unasked);
                    }
                    if let Some(quiet) = &state.quiet
                        && state.flight.is_none()
                        && quiet.until > Instant::now()
                        && !is_at_hand
                    {
                        return Err(quiet.error());
                    }
                }
                self.join(&mut state, &mut wish, asker.tid, &identity)
            };
            match ticket.outcome().await {
                // The renewal was superseded by one that somebody asked for: wait for that.
                None => continue,
                // It was begun for somebody whom nobody is asked for, and needed a person.
                Some(Err(AuthError::Unasked)) if identity.may_prompt => continue,
                Some(outcome) => return outcome,
            }
        }
    }

    fn join(
        self: &Arc<Self>,
        state: &mut State,
        wish: &mut Wish,
        tid: u32,
        identity: &Identity,
    ) -> Ticket {
        let on_purpose = matches!(wish, Wish::Now(..));
        // It is asked once; whoever waits on, waits for what comes of that.
        let named = match wish {
            Wish::Now(_, ask) => ask.take(),
            _ => None,
        };
        match (&state.flight, named) {
            (Some(flight), Some(ask)) => flight.panel.join(ask),
            (Some(_), None) => {}
            (None, named) => {
                let (reason, demand) = match (&*wish, &state.live) {
                    (Wish::Newer(_, reason), Some(live)) => {
                        (*reason, Demand::better_than(live, *reason))
                    }
                    (Wish::Now(after, _), live) => {
                        let reason = match live {
                            Some(_) => Reason::Requested,
                            None => state.reason,
                        };
                        let demand = Demand {
                            after: Some(*after),
                            insists: true,
                            ..state.demand.clone()
                        };
                        (reason, demand)
                    }
                    _ => (state.reason, state.demand.clone()),
                };
                state.renewals += 1;
                let request = LoginRequest {
                    reason,
                    program: identity.program.clone(),
                    tid,
                    is_elsewhere: named.is_some(),
                    panel: Panel::new(named.unwrap_or_else(|| self.login.asker())),
                    may_ask: identity.may_prompt,
                    demand,
                };
                state.flight = Some(self.take_off(state.renewals, request));
                self.publish(state);
            }
        }
        let (id, deadline, outcome) = match &mut state.flight {
            Some(flight) => {
                let now = Instant::now();
                if flight.deadline <= now {
                    flight.deadline = now + self.patience.wait;
                }
                flight.waiters += 1;
                // Somebody who asked for a session waits for as long as the dialog stays.
                let deadline = (!on_purpose).then_some(flight.deadline);
                (flight.id, deadline, flight.outcome.clone())
            }
            // Not reached: one was just put there. The waiter would fail at once.
            None => (0, Some(Instant::now()), watch::channel(None).1),
        };
        Ticket {
            sessions: Arc::clone(self),
            flight: id,
            deadline,
            outcome,
            settled: false,
        }
    }

    fn take_off(self: &Arc<Self>, id: u64, request: LoginRequest) -> Flight {
        let (sender, outcome) = watch::channel(None);
        let sessions = Arc::clone(self);
        let panel = request.panel.clone();
        let login = self.login.login(request);
        let task = tokio::spawn(async move {
            let result = login.await;
            let outcome = sessions.land(id, result);
            sender.send_replace(Some(outcome));
        });
        Flight {
            id,
            outcome,
            deadline: Instant::now() + self.patience.wait,
            waiters: 0,
            outlived: false,
            panel,
            task: task.abort_handle(),
        }
    }

    fn land(&self, id: u64, result: Result<Granted, AuthError>) -> Result<Arc<Session>, AuthError> {
        let mut state = self.state.lock();
        if state.flight.as_ref().is_some_and(|flight| flight.id == id) {
            state.flight = None;
        }
        let outcome = match result {
            Ok(granted) => {
                state.last = Generation(state.last.0 + 1);
                let session = Arc::new(Session {
                    generation: state.last,
                    credentials: granted.credentials,
                    expires: granted.expires,
                    authenticated: granted.authenticated,
                    code_until: granted.code_until,
                    rung: granted.rung,
                    is_new: granted.is_new,
                });
                state.live = Some(Arc::clone(&session));
                state.rung = Some(session.rung);
                state.demand = Demand::default();
                state.refusals = 0;
                state.quiet = None;
                match session.expires {
                    Some(at) => tracing::info!("a new session lives until {}", wall_time(at)),
                    None => tracing::info!("a new session, without an end"),
                }
                Ok(session)
            }
            Err(error) => {
                self.cool_down(&mut state, &error);
                tracing::warn!("no session: {error}");
                Err(error)
            }
        };
        self.publish(&state);
        outcome
    }

    fn cool_down(&self, state: &mut State, because: &AuthError) {
        let span = match because.kind() {
            Ending::Person => {
                let span = cool_down(self.patience.cool_down, state.refusals);
                state.refusals += 1;
                span
            }
            Ending::Fault => self.patience.cool_down.min(AFTER_FAULT),
            Ending::Neither => return,
        };
        state.quiet = Some(Quiet {
            until: Instant::now() + span,
            until_wall: self.clock.now() + span,
            because: because.clone(),
        });
    }

    /// A waiter is gone before its renewal came to an end.
    fn leave(&self, flight_id: u64, timed_out: bool) {
        let mut state = self.state.lock();
        let Some(flight) = state.flight.as_mut().filter(|f| f.id == flight_id) else {
            return;
        };
        flight.waiters = flight.waiters.saturating_sub(1);
        flight.outlived |= timed_out;
        if flight.waiters == 0 && !flight.outlived {
            flight.task.abort();
            state.flight = None;
            tracing::info!("the prompt is closed: nobody waits for it any more");
            self.publish(&state);
        }
    }
}

/// One request's place in the queue behind a renewal.
struct Ticket {
    sessions: Arc<Sessions>,
    flight: u64,
    deadline: Option<Instant>,
    outcome: watch::Receiver<Outcome>,
    settled: bool,
}

impl Ticket {
    /// Waits for the renewal or the deadline. `None`: the renewal was superseded.
    async fn outcome(&mut self) -> Option<Result<Arc<Session>, AuthError>> {
        let landed = self.outcome.wait_for(Option::is_some);
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            landed = landed => match landed {
                Ok(outcome) => outcome.clone(),
                // The task is gone without a word: aborted.
                Err(_) => None,
            },
            () = deadline => {
                self.sessions.leave(self.flight, true);
                Some(Err(AuthError::TimedOut))
            }
        };
        self.settled = true;
        result
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.sessions.leave(self.flight, false);
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
