//! One renewal on its way, and everybody who waits for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::asking::{Identity, LoginRequest, Wish};
use super::terms::{Demand, Generation, Granted, Reason, Session};
use super::{Asker, Sessions, State};
use crate::auth::prompt::{Panel, Waiters};
use crate::auth::sources::Sources;
use crate::auth::{AuthError, Ending, cool_down};
use crate::clock::wall_time;

/// How long nobody is asked after a fault of the network, whose code was typed for nothing.
pub(super) const AFTER_FAULT: Duration = Duration::from_secs(10);

/// How long keys that need no code are not tried again after they were not to be had, unless a file
/// that they come from has changed.
pub(super) const AFTER_KEYS: Duration = Duration::from_secs(5);

/// How long who comes after the deadline waits for a dialog that stays: an answer that was just given
/// is on its way here. One system call of a program can be several requests of the kernel, and must
/// not wait for as long each time.
const GLANCE: Duration = Duration::from_millis(250);

/// The same while nobody is being asked, as when a code is at STS.
const LATE: Duration = Duration::from_secs(2);

/// Nobody is asked until then.
pub(super) struct Quiet {
    pub(super) until: Instant,
    pub(super) until_wall: SystemTime,
    because: AuthError,
    ending: Ending,
    /// Where keys were looked for in vain.
    sources: Sources,
}

impl Quiet {
    /// Whether a session of another program makes it moot. What STS refuses, it refuses with that
    /// session, too.
    fn ends_with_a_session(&self) -> bool {
        !matches!(self.because, AuthError::Refused(_))
    }

    /// What a request hears meanwhile: of a person's no until when, and the rest as it was.
    fn error(&self) -> AuthError {
        match self.ending {
            Ending::Fault | Ending::Keys => self.because.clone(),
            Ending::Person | Ending::Neither => AuthError::CoolingDown {
                until: self.until_wall,
                because: self.because.to_string(),
            },
        }
    }
}

type Outcome = Option<Result<Arc<Session>, AuthError>>;

pub(super) struct Flight {
    id: u64,
    outcome: watch::Receiver<Outcome>,
    /// When all that wait now give up together.
    deadline: Instant,
    waiters: usize,
    /// Those of them that are threads of this machine.
    threads: Waiters,
    /// Somebody waited until the deadline: the dialog stays for a late answer.
    outlived: bool,
    panel: Panel,
    pub(super) task: AbortHandle,
}

impl Flight {
    /// When somebody who comes at a moment gives up: together with all others, or soon after that if
    /// they have already.
    fn deadline_at(&self, now: Instant, patience: Duration) -> Instant {
        if now < self.deadline {
            return self.deadline;
        }
        let late = if self.panel.is_open() { GLANCE } else { LATE };
        now + late.min(patience)
    }
}

impl Sessions {
    /// Joins the renewal, starting one if need be.
    pub(super) async fn wait(
        self: &Arc<Self>,
        mut wish: Wish,
        asker: &Asker,
    ) -> Result<Arc<Session>, AuthError> {
        let identity = (asker.identify)(asker.tid);
        let locks = self.state.lock().locks;
        loop {
            self.look_for_other_keys().await;
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
                        && !(is_at_hand && quiet.ends_with_a_session())
                    {
                        return Err(quiet.error());
                    }
                }
                self.join(&mut state, &mut wish, asker.tid, &identity)
            };
            match ticket.outcome().await {
                // The renewal was superseded by one that somebody asked for: wait for that.
                None if self.state.lock().locks == locks => continue,
                None => return Err(AuthError::Locked),
                // It was begun for somebody whom nobody is asked for, and needed a person.
                Some(Err(AuthError::Unasked)) if identity.may_prompt => continue,
                // It was on its way already, and brought a session without a new code.
                Some(Ok(session)) if wish.wants_more_than(&session) => continue,
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
        let named = match wish {
            Wish::Now(_, ask) => ask.clone(),
            _ => None,
        };
        match (&state.flight, named) {
            (Some(flight), ask) => {
                flight.threads.add(tid);
                if let Some(ask) = ask {
                    flight.panel.join(ask);
                }
            }
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
                // Known before anybody is asked, which may be at once.
                let waiters = Waiters::default();
                waiters.add(tid);
                let request = LoginRequest {
                    reason,
                    program: identity.program.clone(),
                    waiters,
                    is_elsewhere: named.is_some(),
                    panel: Panel::new(named.unwrap_or_else(|| self.login.asker())),
                    may_ask: identity.may_prompt,
                    demand,
                };
                state.flight = Some(self.take_off(state.renewals, request));
                self.publish(state);
            }
        }
        let (id, deadline, outcome, threads) = match &mut state.flight {
            Some(flight) => {
                flight.waiters += 1;
                let deadline = flight.deadline_at(Instant::now(), self.patience.wait);
                // Somebody who asked for a session waits for as long as the dialog stays.
                let deadline = (!on_purpose).then_some(deadline);
                let threads = flight.threads.clone();
                (flight.id, deadline, flight.outcome.clone(), threads)
            }
            // Not reached: one was just put there. The waiter would fail at once.
            None => {
                let outcome = watch::channel(None).1;
                (0, Some(Instant::now()), outcome, Waiters::default())
            }
        };
        Ticket {
            sessions: Arc::clone(self),
            flight: id,
            deadline,
            outcome,
            thread: (tid, threads),
            settled: false,
        }
    }

    fn take_off(self: &Arc<Self>, id: u64, request: LoginRequest) -> Flight {
        let (sender, outcome) = watch::channel(None);
        let sessions = Arc::clone(self);
        let panel = request.panel.clone();
        let threads = request.waiters.clone();
        let (login, sources) = (self.login.login(request), self.login.sources());
        let asked = panel.clone();
        let task = tokio::spawn(async move {
            // Before the login, which may read what is replaced meanwhile.
            let sources = sources.await;
            let result = login.await;
            let outcome = sessions.land(id, result, asked.was_asked(), sources);
            sender.send_replace(Some(outcome));
        });
        Flight {
            id,
            outcome,
            deadline: Instant::now() + self.patience.wait,
            waiters: 0,
            threads,
            outlived: false,
            panel,
            task: task.abort_handle(),
        }
    }

    fn land(
        &self,
        id: u64,
        result: Result<Granted, AuthError>,
        was_asked: bool,
        sources: Sources,
    ) -> Result<Arc<Session>, AuthError> {
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
                    None if session.credentials.session_token().is_some() => {
                        tracing::info!("a new session, whose end was not told");
                    }
                    None => tracing::info!("a new session, without an end"),
                }
                Ok(session)
            }
            Err(error) => {
                self.cool_down(&mut state, &error, was_asked, sources);
                tracing::warn!("no session: {error}");
                Err(error)
            }
        };
        self.publish(&state);
        outcome
    }

    fn cool_down(&self, state: &mut State, because: &AuthError, was_asked: bool, sources: Sources) {
        let first = self.patience.cool_down;
        let ending = because.ending(was_asked);
        let span = match ending {
            Ending::Person => {
                let span = cool_down(first, state.refusals);
                state.refusals += 1;
                span
            }
            Ending::Keys => first.min(AFTER_KEYS),
            Ending::Fault => first.min(AFTER_FAULT),
            Ending::Neither => return,
        };
        state.quiet = Some(Quiet {
            until: Instant::now() + span,
            until_wall: self.clock.now() + span,
            because: because.clone(),
            ending,
            sources,
        });
    }

    /// Ends a pause after keys that were no good, if the files that they come from have changed.
    async fn look_for_other_keys(&self) {
        let tried = {
            let state = self.state.lock();
            let quiet = state.quiet.as_ref();
            let quiet = quiet.filter(|quiet| quiet.ending == Ending::Keys);
            quiet.map(|quiet| (quiet.until, quiet.sources.clone()))
        };
        let Some((until, sources)) = tried else {
            return;
        };
        if until > Instant::now() && self.login.sources().await != sources {
            let mut state = self.state.lock();
            if state.quiet.as_ref().is_some_and(|q| q.until == until) {
                state.quiet = None;
            }
        }
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
    /// Who waits, and where that is known.
    thread: (u32, Waiters),
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
        let (tid, threads) = &self.thread;
        threads.remove(*tid);
        if !self.settled {
            self.sessions.leave(self.flight, false);
        }
    }
}
