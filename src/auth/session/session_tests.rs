use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use aws_credential_types::Credentials;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::super::prompt::{PromptError, Question};
use super::flight::{AFTER_FAULT, AFTER_KEYS};
use super::*;
use crate::auth::sources::Sources;

/// A wall clock that stands still until it is moved.
#[derive(Debug, Default)]
struct StillClock(AtomicU64);

impl Clock for StillClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + self.0.load(Ordering::SeqCst))
    }
}

type Answer = oneshot::Sender<Result<Granted, AuthError>>;

/// A login whose answers the test gives; a dropped one shows as a closed sender.
#[derive(Default)]
struct ByHand {
    asked: Mutex<VecDeque<(LoginRequest, Answer)>>,
    count: AtomicU64,
    at_hand: AtomicBool,
    forgotten: AtomicBool,
    sources: Mutex<Sources>,
    age_limit: Mutex<Option<Duration>>,
}

impl Login for ByHand {
    fn login(&self, request: LoginRequest) -> BoxFuture<'static, Result<Granted, AuthError>> {
        let (answer, heard) = oneshot::channel();
        self.asked.lock().push_back((request, answer));
        self.count.fetch_add(1, Ordering::SeqCst);
        async move { heard.await.unwrap_or(Err(AuthError::Ending)) }.boxed()
    }

    fn asker(&self) -> Arc<dyn Ask> {
        Arc::new(Nobody)
    }

    fn climb(&self, _from: Rung) -> bool {
        true
    }

    fn is_at_hand(&self, _demand: &Demand) -> bool {
        self.at_hand.load(Ordering::SeqCst)
    }

    fn worked(&self, _rung: Rung) {}

    fn age_limit(&self) -> Option<Duration> {
        *self.age_limit.lock()
    }

    fn is_without_device(&self) -> bool {
        false
    }

    fn learn_age_limit(&self, limit: Duration) -> bool {
        *self.age_limit.lock() = Some(limit);
        true
    }

    fn forget(&self) {
        self.forgotten.store(true, Ordering::SeqCst);
    }

    fn sources(&self) -> BoxFuture<'static, Sources> {
        let sources = self.sources.lock().clone();
        async move { sources }.boxed()
    }
}

/// Nobody is asked: the login itself is in the test's hand.
struct Nobody;

impl Ask for Nobody {
    fn ask(&self, _: Question) -> BoxFuture<'static, Result<SecretString, PromptError>> {
        async { Err(PromptError::Cancelled) }.boxed()
    }
}

/// Somebody who does not answer.
struct Silent;

impl Ask for Silent {
    fn ask(&self, _: Question) -> BoxFuture<'static, Result<SecretString, PromptError>> {
        std::future::pending().boxed()
    }
}

fn question() -> Question {
    Question {
        wish: crate::auth::prompt::Wish::Code,
        title: String::new(),
        description: String::new(),
        error: None,
        prompt: String::new(),
        life: Duration::from_secs(300),
        fresh_in: Duration::ZERO,
        waiters: crate::auth::prompt::Waiters::default(),
    }
}

struct Scene {
    sessions: Arc<Sessions>,
    login: Arc<ByHand>,
    clock: Arc<StillClock>,
}

fn scene() -> Scene {
    let login = Arc::new(ByHand::default());
    let clock = Arc::new(StillClock::default());
    let patience = Patience {
        wait: Duration::from_secs(90),
        cool_down: Duration::from_secs(60),
    };
    let sessions = Sessions::new(
        Arc::clone(&login) as Arc<dyn Login>,
        Arc::clone(&clock) as Arc<dyn Clock>,
        patience,
    );
    Scene {
        sessions,
        login,
        clock,
    }
}

impl Scene {
    fn waiter(&self) -> tokio::task::JoinHandle<Result<Arc<Session>, AuthError>> {
        let sessions = Arc::clone(&self.sessions);
        tokio::spawn(async move { sessions.current(&Asker::person()).await })
    }

    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// The question that is open; there must be exactly one.
    async fn question(&self) -> (LoginRequest, Answer) {
        self.settle().await;
        let mut asked = self.login.asked.lock();
        assert_eq!(asked.len(), 1, "one question");
        asked.pop_front().unwrap()
    }

    fn asked(&self) -> u64 {
        self.login.count.load(Ordering::SeqCst)
    }

    /// A session that lives for so many seconds by the still clock.
    fn granted(&self, seconds: u64) -> Result<Granted, AuthError> {
        Ok(Granted {
            credentials: Credentials::new("id", "secret", None, None, "test"),
            expires: Some(self.clock.now() + Duration::from_secs(seconds)),
            authenticated: self.clock.now(),
            rung: Rung::SessionToken,
            code_until: None,
            is_new: true,
        })
    }

    async fn open(&self) -> Arc<Session> {
        let waiter = self.waiter();
        let (_, answer) = self.question().await;
        assert!(answer.send(self.granted(3600)).is_ok());
        waiter.await.unwrap().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn one_question_serves_all_who_wait() {
    let scene = scene();
    let waiters: Vec<_> = (0..300).map(|_| scene.waiter()).collect();
    let (request, answer) = scene.question().await;
    assert_eq!(request.reason, Reason::FirstLogin);
    assert!(answer.send(scene.granted(3600)).is_ok());
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().generation, Generation(1));
    }
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_rejection_of_an_old_generation_asks_nobody() {
    let scene = scene();
    let first = scene.open().await;
    let renewing = {
        let sessions = Arc::clone(&scene.sessions);
        let rejected = first.generation;
        tokio::spawn(async move {
            let reason = Reason::TooOld(Duration::from_secs(3600));
            sessions.renew(rejected, reason, &Asker::person()).await
        })
    };
    let (request, answer) = scene.question().await;
    assert_eq!(request.reason, Reason::TooOld(Duration::from_secs(3600)));
    assert!(answer.send(scene.granted(3600)).is_ok());
    assert_eq!(renewing.await.unwrap().unwrap().generation, Generation(2));
    let late = scene
        .sessions
        .renew(first.generation, Reason::Requested, &Asker::person())
        .await;
    assert_eq!(late.unwrap().generation, Generation(2));
    assert_eq!(scene.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_is_gone_by_the_clock_alone() {
    let scene = scene();
    scene.open().await;
    let mut phases = scene.sessions.phases();
    phases.mark_unchanged();
    scene.clock.0.store(3599, Ordering::SeqCst);
    // Nobody asks for anything: the clock is looked at all the same.
    phases.changed().await.unwrap();
    assert!(matches!(
        &*phases.borrow(),
        Phase::Locked(Reason::Expired(_))
    ));
    assert!(scene.sessions.while_live(|| ()).is_none());
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_all_fail_together_and_a_late_answer_still_opens() {
    let scene = scene();
    let first = scene.waiter();
    let (_, answer) = scene.question().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let second = scene.waiter();
    let start = Instant::now();
    assert!(matches!(first.await.unwrap(), Err(AuthError::TimedOut)));
    assert!(matches!(second.await.unwrap(), Err(AuthError::TimedOut)));
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(
        answer.send(scene.granted(3600)).is_ok(),
        "the dialog stayed"
    );
    scene.settle().await;
    assert!(scene.sessions.live().is_some());
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_dialog_closes_when_the_last_waiter_is_interrupted() {
    let scene = scene();
    let (first, second) = (scene.waiter(), scene.waiter());
    let (_, answer) = scene.question().await;
    first.abort();
    scene.settle().await;
    assert!(!answer.is_closed(), "somebody still waits");
    second.abort();
    scene.settle().await;
    assert!(answer.is_closed());
    // That was no refusal: the next access asks again at once.
    let third = scene.waiter();
    let (_, answer) = scene.question().await;
    assert!(answer.send(scene.granted(3600)).is_ok());
    assert!(third.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn cancel_fails_all_at_once_and_the_cool_down_grows() {
    let scene = scene();
    for expected in [60, 300, 1800, 1800] {
        let waiters = [scene.waiter(), scene.waiter()];
        let (_, answer) = scene.question().await;
        assert!(answer.send(Err(AuthError::Cancelled)).is_ok());
        for waiter in waiters {
            assert!(matches!(waiter.await.unwrap(), Err(AuthError::Cancelled)));
        }
        tokio::time::sleep(Duration::from_secs(expected - 1)).await;
        let quiet = scene.waiter().await.unwrap();
        assert!(
            matches!(quiet, Err(AuthError::CoolingDown { .. })),
            "{expected}"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(scene.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn success_resets_the_cool_down() {
    let scene = scene();
    for _ in 0..2 {
        let waiter = scene.waiter();
        let (_, answer) = scene.question().await;
        assert!(answer.send(Err(AuthError::Cancelled)).is_ok());
        let _ = waiter.await.unwrap();
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    scene.open().await;
    scene.sessions.lock();
    let waiter = scene.waiter();
    let (_, answer) = scene.question().await;
    assert!(answer.send(Err(AuthError::Cancelled)).is_ok());
    let _ = waiter.await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.open().await;
}

#[tokio::test(start_paused = true)]
async fn asking_now_ignores_the_cool_down_and_keeps_the_session_meanwhile() {
    let scene = scene();
    let waiter = scene.waiter();
    let (_, answer) = scene.question().await;
    assert!(answer.send(Err(AuthError::Cancelled)).is_ok());
    let _ = waiter.await.unwrap();
    for generation in [1, 2] {
        let asking = {
            let sessions = Arc::clone(&scene.sessions);
            tokio::spawn(async move {
                let now = sessions.now();
                sessions.ask_now(now, None, &Asker::person()).await
            })
        };
        let (_, answer) = scene.question().await;
        if generation == 2 {
            assert!(scene.sessions.live().is_some(), "the old one goes on");
        }
        assert!(answer.send(scene.granted(3600)).is_ok());
        let session = asking.await.unwrap().unwrap();
        assert_eq!(session.generation, Generation(generation));
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_joins_an_open_dialog_and_one_answer_serves_all() {
    /// Says which of several places was asked.
    struct Terminal(Arc<AtomicU64>);
    impl Ask for Terminal {
        fn ask(&self, _: Question) -> BoxFuture<'static, Result<SecretString, PromptError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            async { Ok("123456".to_owned().into()) }.boxed()
        }
    }
    let scene = scene();
    let parked = scene.waiter();
    let (request, answer) = scene.question().await;
    assert!(!request.is_elsewhere);
    let asked = Arc::<AtomicU64>::default();
    let terminal = Arc::new(Terminal(Arc::clone(&asked)));
    let asking = {
        let sessions = Arc::clone(&scene.sessions);
        let now = sessions.now();
        tokio::spawn(async move {
            let person = Asker::person();
            sessions.ask_now(now, Some(terminal), &person).await
        })
    };
    scene.settle().await;
    assert_eq!(scene.asked(), 1, "no second login");
    // The login that runs asks there as well.
    request.panel.joined().await;
    assert!(request.panel.ask(&question()).await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(answer.send(scene.granted(3600)).is_ok());
    assert!(asking.await.unwrap().is_ok());
    assert_eq!(parked.await.unwrap().unwrap().generation, Generation(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_at_hand_serves_also_those_for_whom_nobody_is_asked() {
    let scene = scene();
    scene.login.at_hand.store(true, Ordering::SeqCst);
    let sessions = Arc::clone(&scene.sessions);
    let indexer = tokio::spawn(async move { sessions.current(&Asker::nobody()).await });
    let (request, answer) = scene.question().await;
    assert!(!request.may_ask);
    // It was not at hand after all; a person who waits is asked then.
    let waiter = scene.waiter();
    scene.settle().await;
    assert!(answer.send(Err(AuthError::Unasked)).is_ok());
    assert!(matches!(indexer.await.unwrap(), Err(AuthError::Unasked)));
    let (request, answer) = scene.question().await;
    assert!(request.may_ask);
    assert!(answer.send(scene.granted(3600)).is_ok());
    assert!(waiter.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_climb_and_a_fresher_code_leave_the_session_alive_meanwhile() {
    let scene = scene();
    let first = scene.open().await;
    let climbing = {
        let (sessions, first) = (Arc::clone(&scene.sessions), Arc::clone(&first));
        tokio::spawn(async move { sessions.climb(&first, &Asker::person()).await })
    };
    let (request, answer) = scene.question().await;
    assert_eq!(request.reason, Reason::WithoutMfa);
    assert!(scene.sessions.live().is_some());
    assert!(answer.send(scene.granted(3600)).is_ok());
    let second = climbing.await.unwrap().unwrap().unwrap();
    assert_eq!(second.generation, Generation(2));

    let refreshing = {
        let (sessions, second) = (Arc::clone(&scene.sessions), second.generation);
        tokio::spawn(async move {
            let reason = Reason::TooOld(Duration::from_secs(900));
            sessions.refresh(second, reason, &Asker::person()).await
        })
    };
    let (request, answer) = scene.question().await;
    assert_eq!(request.demand.after, Some(second.authenticated));
    assert!(scene.sessions.live().is_some());
    // A no costs those nothing whose session goes on.
    assert!(answer.send(Err(AuthError::Cancelled)).is_ok());
    assert!(refreshing.await.unwrap().is_err());
    assert!(scene.sessions.live().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_must_not_come_back() {
    let scene = scene();
    let first = scene.open().await;
    let renewing = {
        let (sessions, old) = (Arc::clone(&scene.sessions), first.generation);
        let reason = Reason::Rejected(sessions.now());
        tokio::spawn(async move { sessions.renew(old, reason, &Asker::person()).await })
    };
    let (request, answer) = scene.question().await;
    assert_eq!(request.demand.rejected.as_deref(), Some("id"));
    assert!(answer.send(scene.granted(3600)).is_ok());
    assert!(renewing.await.unwrap().is_ok());
    scene.sessions.lock();
    assert!(scene.login.forgotten.load(Ordering::SeqCst));
    let _waiter = scene.waiter();
    let (request, _answer) = scene.question().await;
    // A new one was accepted meanwhile, so only the lock counts.
    assert_eq!(request.demand.rejected, None);
    assert_eq!(request.demand.after, Some(scene.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_the_daemon_itself() {
    let scene = scene();
    let refused = scene.sessions.current(&Asker::nobody()).await;
    assert!(matches!(refused, Err(AuthError::Unasked)));
    assert_eq!(scene.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_network_fault_is_told_as_it_is_and_keeps_quiet_for_seconds_only() {
    let scene = scene();
    let waiter = scene.waiter();
    let (_, answer) = scene.question().await;
    let fault = AuthError::Unreachable {
        timed_out: false,
        message: String::new(),
    };
    assert!(answer.send(Err(fault)).is_ok());
    assert!(waiter.await.unwrap().is_err());
    let next = scene.waiter().await.unwrap();
    assert!(matches!(next, Err(AuthError::Unreachable { .. })));
    assert_eq!(scene.asked(), 1);
    tokio::time::sleep(AFTER_FAULT).await;
    scene.open().await;
}

/// A login that fails although nobody was asked.
async fn keys_fail(scene: &Scene) {
    let waiter = scene.waiter();
    let (_, answer) = scene.question().await;
    let error = AuthError::Refused("no such command".to_owned());
    assert!(answer.send(Err(error)).is_ok());
    assert!(waiter.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn keys_that_need_no_code_are_tried_again_after_seconds_however_often_they_fail() {
    let scene = scene();
    for times in 1..=5 {
        keys_fail(&scene).await;
        let next = scene.waiter().await.unwrap();
        assert!(matches!(next, Err(AuthError::Refused(_))), "as it was");
        assert_eq!(scene.asked(), times);
        tokio::time::sleep(AFTER_KEYS).await;
    }
    scene.open().await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_tried_again_at_once_when_their_file_has_changed() {
    let scene = scene();
    keys_fail(&scene).await;
    *scene.login.sources.lock() = Sources::of_test(1);
    scene.open().await;
}

#[tokio::test(start_paused = true)]
async fn a_no_of_sts_to_a_persons_code_is_not_asked_again_for_a_changed_file() {
    let scene = scene();
    let waiter = scene.waiter();
    let (request, answer) = scene.question().await;
    let _ = request.panel.ask(&question()).await;
    let error = AuthError::Refused("not allowed".to_owned());
    assert!(answer.send(Err(error)).is_ok());
    assert!(waiter.await.unwrap().is_err());
    *scene.login.sources.lock() = Sources::of_test(1);
    tokio::time::sleep(Duration::from_secs(59)).await;
    let next = scene.waiter().await.unwrap();
    assert!(matches!(next, Err(AuthError::CoolingDown { .. })));
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.open().await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_the_deadline_fails_soon_and_the_dialog_stays() {
    let scene = scene();
    let first = scene.waiter();
    let (request, answer) = scene.question().await;
    let panel = request.panel.clone();
    panel.join(Arc::new(Silent));
    let asking = tokio::spawn(async move { panel.ask(&question()).await });
    assert!(matches!(first.await.unwrap(), Err(AuthError::TimedOut)));
    // `cd` is several requests of the kernel, one after the other.
    let start = Instant::now();
    for _ in 0..6 {
        let late = scene.waiter().await.unwrap();
        assert!(matches!(late, Err(AuthError::TimedOut)));
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(!answer.is_closed(), "the dialog is gone");
    assert_eq!(scene.asked(), 1);
    // It is answered late, and the code is at STS: that is worth a moment.
    asking.abort();
    scene.settle().await;
    let late = scene.waiter();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(answer.send(scene.granted(3600)).is_ok());
    assert!(late.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_asks_on_purpose_waits_for_as_long_as_the_dialog_stays() {
    let scene = scene();
    let sessions = Arc::clone(&scene.sessions);
    let asking = tokio::spawn(async move {
        let now = sessions.now();
        sessions.ask_now(now, None, &Asker::person()).await
    });
    let (_, answer) = scene.question().await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(answer.send(scene.granted(3600)).is_ok());
    assert!(asking.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_lock_waits_for_what_is_being_served_and_stops_the_rest() {
    let scene = scene();
    scene.open().await;
    let (entered, serving) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let sessions = Arc::clone(&scene.sessions);
    let server = std::thread::spawn(move || {
        sessions.while_live(|| {
            entered.send(()).unwrap();
            released.recv().unwrap();
        })
    });
    serving.recv().unwrap();
    let sessions = Arc::clone(&scene.sessions);
    let locker = std::thread::spawn(move || sessions.lock());
    release.send(()).unwrap();
    assert!(server.join().unwrap().is_some());
    locker.join().unwrap();
    assert!(scene.sessions.while_live(|| ()).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_end_fails_all_and_starts_nothing() {
    let scene = scene();
    let waiter = scene.waiter();
    let (_, answer) = scene.question().await;
    scene.sessions.end();
    assert!(matches!(waiter.await.unwrap(), Err(AuthError::Ending)));
    assert!(answer.is_closed());
    assert!(matches!(
        scene.waiter().await.unwrap(),
        Err(AuthError::Ending)
    ));
    assert_eq!(scene.asked(), 1);
}

fn learned(scene: &Scene, seconds: u64) {
    scene.sessions.learn_age_limit(Duration::from_secs(seconds));
}

#[tokio::test(start_paused = true)]
async fn a_learned_age_limit_is_respected_and_only_shrinks() {
    let scene = scene();
    learned(&scene, 599);
    assert_eq!(
        scene.sessions.age_limit(),
        None,
        "too little to be a policy's"
    );
    learned(&scene, 1800);
    learned(&scene, 2400);
    assert_eq!(scene.sessions.age_limit(), Some(Duration::from_secs(1800)));
    let waiter = scene.waiter();
    let (_, answer) = scene.question().await;
    assert!(answer.send(scene.granted(43_200)).is_ok());
    let session = waiter.await.unwrap().unwrap();
    scene.clock.0.store(1797, Ordering::SeqCst);
    assert!(scene.sessions.live().is_some());
    scene.clock.0.store(1799, Ordering::SeqCst);
    assert!(scene.sessions.live().is_none(), "S3 is not asked first");
    let _waiter = scene.waiter();
    let (request, _answer) = scene.question().await;
    assert_eq!(request.reason, Reason::TooOld(Duration::from_secs(1800)));
    assert_eq!(request.demand.after, Some(session.authenticated));
}

/// A session of twelve hours under a limit of one, in use or not, 9 minutes before that.
async fn nine_minutes_before_the_limit(in_use: bool) -> Scene {
    let scene = scene();
    learned(&scene, 3600);
    let waiter = scene.waiter();
    let (_, answer) = scene.question().await;
    assert!(answer.send(scene.granted(43_200)).is_ok());
    waiter.await.unwrap().unwrap();
    scene.clock.0.store(3600 - 540, Ordering::SeqCst);
    if in_use {
        let program = Asker {
            tid: 1,
            identify: |_| Identity::default(),
        };
        assert!(scene.sessions.current(&program).await.is_ok());
    }
    tokio::time::sleep(2 * EXPIRY_TICK).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_offered_before_the_limit_and_asks_nobody() {
    let scene = nine_minutes_before_the_limit(true).await;
    let limit = UNIX_EPOCH + Duration::from_secs(1_000_000 + 3600);
    assert_eq!(scene.sessions.offered(), Some(limit));
    assert_eq!(*scene.sessions.offers().borrow(), Some(limit));
    assert_eq!(scene.asked(), 1, "the first login");
    // A new code makes it moot.
    let asking = {
        let sessions = Arc::clone(&scene.sessions);
        tokio::spawn(async move {
            let now = sessions.now();
            sessions.ask_now(now, None, &Asker::person()).await
        })
    };
    let (_, answer) = scene.question().await;
    assert!(answer.send(scene.granted(43_200)).is_ok());
    assert!(asking.await.unwrap().is_ok());
    assert_eq!(scene.sessions.offered(), None);
}

/// A laptop that was closed in the evening: the wall clock has gone on, and timers have not.
#[tokio::test(start_paused = true)]
async fn a_session_that_ends_in_sleep_asks_nobody_before_the_first_access() {
    let scene = scene();
    let session = scene.open().await;
    scene.clock.0.store(13 * 3600, Ordering::SeqCst);
    // At the next look, or the first access if that comes before.
    tokio::time::sleep(2 * EXPIRY_TICK).await;
    let phase = scene.sessions.phases().borrow().clone();
    let expired = session.expires.unwrap();
    assert!(
        matches!(phase, Phase::Locked(Reason::Expired(at)) if at == expired),
        "{phase:?}"
    );
    assert_eq!(scene.asked(), 1, "the first login");
    let waiter = scene.waiter();
    let (request, answer) = scene.question().await;
    assert_eq!(request.reason, Reason::Expired(expired));
    assert!(answer.send(scene.granted(3600)).is_ok());
    assert!(waiter.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn content_is_not_served_after_sleep_although_no_timer_has_run() {
    let scene = scene();
    scene.open().await;
    assert!(scene.sessions.while_live(|| ()).is_some());
    scene.clock.0.store(13 * 3600, Ordering::SeqCst);
    assert!(scene.sessions.while_live(|| ()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_nobody_uses_offers_nothing() {
    let scene = nine_minutes_before_the_limit(false).await;
    assert_eq!(scene.sessions.offered(), None);
    assert_eq!(*scene.sessions.offers().borrow(), None);
}
