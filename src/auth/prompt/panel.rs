//! Several people, or several places where one person may be: the first answer wins.
//!
//! A dialog is open on the desktop, and the person sits elsewhere, at a terminal: `renew` joins
//! there. Both are asked the same, and when one has answered the other dialog closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::sync::watch;

use super::{Ask, PromptError, Question};

/// Everybody whom one login asks.
#[derive(Clone)]
pub(crate) struct Panel(Arc<Inner>);

struct Inner {
    /// `None` where somebody has said no, or cannot be asked.
    members: Mutex<Vec<Option<Arc<dyn Ask>>>>,
    /// How many have joined since the beginning.
    joined: watch::Sender<usize>,
    /// How many questions are open, and how many there were.
    open: AtomicUsize,
    asked: AtomicUsize,
}

/// A question that nobody has answered yet.
struct Open<'a>(&'a Inner);

impl<'a> Open<'a> {
    fn new(panel: &'a Inner) -> Self {
        panel.asked.fetch_add(1, Ordering::Relaxed);
        panel.open.fetch_add(1, Ordering::Relaxed);
        Self(panel)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Panel {
    /// Asks one, until others join.
    pub(crate) fn new(first: Arc<dyn Ask>) -> Self {
        Self(Arc::new(Inner {
            members: Mutex::new(vec![Some(first)]),
            joined: watch::Sender::new(0),
            open: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        }))
    }

    /// Whether a question is open at this moment.
    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > 0
    }

    /// Whether anybody was asked anything so far.
    pub(crate) fn was_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed) > 0
    }

    /// Asks somebody else as well, from the question on that is open now.
    pub(crate) fn join(&self, member: Arc<dyn Ask>) {
        self.0.members.lock().push(Some(member));
        self.0.joined.send_modify(|joined| *joined += 1);
    }

    /// Returns once somebody has joined, which nobody does who does not want to be asked.
    pub(crate) async fn joined(&self) {
        let mut joined = self.0.joined.subscribe();
        // The sender lives as long as this.
        let _ = joined.wait_for(|joined| *joined > 0).await;
    }

    /// Asks all, and returns the first answer.
    ///
    /// # Errors
    ///
    /// When all have said no or cannot be asked: what the last one said. Who has said no is not
    /// asked again.
    pub(crate) async fn ask(&self, question: &Question) -> Result<SecretString, PromptError> {
        let _open = Open::new(&self.0);
        let mut joined = self.0.joined.subscribe();
        let mut open = FuturesUnordered::new();
        let mut started = 0;
        let mut last = PromptError::Cancelled;
        loop {
            joined.mark_unchanged();
            for (number, member) in self.members().into_iter().enumerate().skip(started) {
                started = number + 1;
                if let Some(member) = member {
                    let answer = member.ask(question.clone());
                    open.push(async move { (number, answer.await) });
                }
            }
            tokio::select! {
                biased;
                _ = joined.changed() => {}
                answer = open.next() => match answer {
                    Some((_, Ok(answer))) => return Ok(answer),
                    Some((number, Err(error))) => {
                        if let Some(member) = self.0.members.lock().get_mut(number) {
                            *member = None;
                        }
                        last = error;
                    }
                    None => return Err(last),
                },
            }
        }
    }

    /// Whether nobody but machines would answer.
    pub(crate) fn is_machine(&self) -> bool {
        let members = self.members();
        members.iter().flatten().all(|member| member.is_machine())
    }

    fn members(&self) -> Vec<Option<Arc<dyn Ask>>> {
        self.0.members.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use secrecy::ExposeSecret;
    use tokio::sync::oneshot;

    use super::super::{Waiters, Wish};
    use super::*;

    type Answer = Result<SecretString, PromptError>;

    /// Answers once, when the test says so.
    struct OnCue(Mutex<Option<oneshot::Receiver<Answer>>>);

    fn member() -> (Arc<OnCue>, oneshot::Sender<Answer>) {
        let (cue, heard) = oneshot::channel();
        (Arc::new(OnCue(Mutex::new(Some(heard)))), cue)
    }

    impl Ask for OnCue {
        fn ask(&self, _question: Question) -> BoxFuture<'static, Answer> {
            let heard = self.0.lock().take();
            async move {
                match heard {
                    Some(heard) => heard.await.unwrap_or(Err(PromptError::TimedOut)),
                    None => std::future::pending().await,
                }
            }
            .boxed()
        }
    }

    fn question() -> Question {
        Question {
            wish: Wish::Code,
            title: String::new(),
            description: String::new(),
            error: None,
            prompt: String::new(),
            life: Duration::from_secs(1),
            fresh_in: Duration::ZERO,
            waiters: Waiters::default(),
        }
    }

    #[tokio::test]
    async fn the_first_answer_wins_and_the_other_dialog_closes() {
        let (desktop, on_desktop) = member();
        let (terminal, at_terminal) = member();
        let panel = Panel::new(desktop);
        let asking = tokio::spawn({
            let panel = panel.clone();
            async move { panel.ask(&question()).await }
        });
        tokio::task::yield_now().await;
        panel.join(terminal);
        assert!(at_terminal.send(Ok("123456".to_owned().into())).is_ok());
        let answer = asking.await.unwrap().unwrap();
        assert_eq!(answer.expose_secret(), "123456");
        assert!(on_desktop.is_closed(), "the dialog is still open");
    }

    #[tokio::test]
    async fn who_says_no_leaves_the_others_asked() {
        let (desktop, on_desktop) = member();
        let (terminal, at_terminal) = member();
        let panel = Panel::new(desktop);
        panel.join(terminal);
        assert!(on_desktop.send(Err(PromptError::Cancelled)).is_ok());
        let asking = tokio::spawn({
            let panel = panel.clone();
            async move { panel.ask(&question()).await }
        });
        tokio::task::yield_now().await;
        assert!(!asking.is_finished());
        assert!(at_terminal.send(Err(PromptError::TimedOut)).is_ok());
        assert!(matches!(asking.await.unwrap(), Err(PromptError::TimedOut)));
        // Nobody is left.
        assert!(panel.ask(&question()).await.is_err());
    }
}
