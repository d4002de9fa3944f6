//! The mount's side of the socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Reply, Request, Versioned, read};
use crate::auth::prompt::{Ask, PromptError, Question};
use crate::auth::{AuthError, Session};
use crate::mount::Mounted;

/// How long clients get to hear that the mount has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often a client hears what is left to be stored.
const PROGRESS: Duration = Duration::from_millis(200);

/// The longest request in bytes.
const LONGEST: u64 = 64 << 10;

/// The listening socket; its file goes with it.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens as this process.
    pub(crate) fn bind() -> std::io::Result<Self> {
        let path = super::place::directory()?.join(format!("{}.sock", std::process::id()));
        // Left by an earlier process of the same number.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode)?;
        Ok(Self { listener, path })
    }

    /// Answers until the mount has ended, and then finishes what it was answering.
    pub(crate) async fn serve(self, mounted: Arc<Mounted>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let mounted = Arc::clone(&mounted);
                        connections.spawn(async move { answer(stream, mounted).await });
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: not a reason to spin.
                        tracing::warn!("the control socket: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = mounted.end() => break,
            }
        }
        drop(self);
        let _ = tokio::time::timeout(LAST_WORDS, connections.join_all()).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One client: its lines, and where replies go.
struct Connection {
    lines: BufReader<tokio::io::Take<OwnedReadHalf>>,
    replies: OwnedWriteHalf,
}

impl Connection {
    async fn next(&mut self) -> Option<Result<Request, String>> {
        let mut line = String::new();
        match self.lines.read_line(&mut line).await {
            Ok(1..) => Some(read(&line)),
            _ => None,
        }
    }

    async fn reply(&mut self, reply: Reply) -> bool {
        match Versioned::line(reply) {
            Ok(line) => self.replies.write_all(line.as_bytes()).await.is_ok(),
            Err(_) => false,
        }
    }
}

async fn answer(stream: UnixStream, mounted: Arc<Mounted>) {
    let me = nix::unistd::getuid().as_raw();
    let peer = stream.peer_cred().map(|peer| peer.uid());
    if !matches!(peer, Ok(uid) if uid == me || uid == 0) {
        tracing::warn!("a stranger was turned away from the control socket");
        return;
    }
    let (lines, replies) = stream.into_split();
    let mut connection = Connection {
        lines: BufReader::new(tokio::io::AsyncReadExt::take(lines, LONGEST)),
        replies,
    };
    let request = match connection.next().await {
        Some(Ok(request)) => request,
        Some(Err(message)) => {
            connection.reply(Reply::Failed { message, exit: 1 }).await;
            return;
        }
        None => return,
    };
    match request {
        Request::Status => {
            connection.reply(status(&mounted)).await;
        }
        Request::Watch => watch(connection, &mounted).await,
        Request::Lock => {
            let reply = match mounted.lock().await {
                Ok(()) => Reply::Done(format!("{} is locked", mounted.place())),
                Err(error) => Reply::Failed {
                    exit: error.exit_code(),
                    message: error.to_string(),
                },
            };
            connection.reply(reply).await;
        }
        Request::Renew { terminal, ago } => {
            let now = mounted.sessions().now();
            let after = now.checked_sub(Duration::from_millis(ago)).unwrap_or(now);
            renew(connection, &mounted, terminal, after).await;
        }
        Request::Unmount => {
            let outcome = tokio::select! {
                outcome = mounted.unmount() => outcome,
                () = progress(&mut connection, &mounted) => Ok(None),
            };
            let reply = match outcome {
                Ok(None) => Reply::Done(format!("{} is unmounted", mounted.place())),
                Ok(Some(users)) => Reply::Done(format!(
                    "{} is unmounted; {users} still has files open there, which can be closed and \
                     nothing else",
                    mounted.place()
                )),
                Err(error) => Reply::Failed {
                    exit: error.exit_code(),
                    message: error.to_string(),
                },
            };
            connection.reply(reply).await;
        }
        Request::Answer { .. } => {
            let message = "nothing was asked".to_owned();
            connection.reply(Reply::Failed { message, exit: 1 }).await;
        }
    }
}

/// Tells what is left to be stored, for as long as somebody else unmounts.
async fn progress(connection: &mut Connection, mounted: &Mounted) {
    loop {
        tokio::time::sleep(PROGRESS).await;
        let (files, bytes) = mounted.waiting();
        if !connection.reply(Reply::Progress { files, bytes }).await {
            // Nobody listens any more; the unmounting goes on.
            return std::future::pending().await;
        }
    }
}

fn status(mounted: &Mounted) -> Reply {
    Reply::Status(Box::new(mounted.status()))
}

async fn watch(mut connection: Connection, mounted: &Mounted) {
    let mut phases = mounted.sessions().phases();
    loop {
        let unsaved = mounted.unsaved_files();
        if !connection.reply(status(mounted)).await {
            return;
        }
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { return },
            () = mounted.has_other_files(&unsaved) => {}
            () = mounted.end() => return,
            // A client that watches says nothing: this is its end.
            _ = connection.next() => return,
        }
    }
}

async fn renew(mut connection: Connection, mounted: &Mounted, terminal: bool, after: SystemTime) {
    let sessions = mounted.sessions();
    let asker = crate::auth::Asker::person();
    if !terminal {
        let outcome = tokio::select! {
            outcome = sessions.ask_now(after, None, &asker) => outcome,
            // The client went away, so nobody waits.
            _ = connection.next() => return,
        };
        connection.reply(renewed(mounted, outcome)).await;
        return;
    }
    // Whoever talks to the client has the connection; between questions it rests here.
    let resting = Arc::new(Mutex::new(Some(connection)));
    let ask: Arc<dyn Ask> = Arc::new(Client(Arc::clone(&resting)));
    let outcome = sessions.ask_now(after, Some(ask), &asker).await;
    let connection = resting.lock().take();
    if let Some(mut connection) = connection {
        connection.reply(renewed(mounted, outcome)).await;
    }
}

fn renewed(mounted: &Mounted, outcome: Result<Arc<Session>, AuthError>) -> Reply {
    match outcome {
        Ok(session) => Reply::Done(granted(mounted, &session)),
        Err(error) => Reply::Failed {
            message: error.to_string(),
            exit: crate::mount::MountError::from(error).exit_code(),
        },
    }
}

fn granted(mounted: &Mounted, session: &Session) -> String {
    let until = match session.expires {
        Some(at) => format!("until {}", crate::clock::wall_time(at)),
        None => "without an end".to_owned(),
    };
    format!("{} has a session {until}", mounted.place())
}

/// A person at the client's terminal.
struct Client(Arc<Mutex<Option<Connection>>>);

impl Ask for Client {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<SecretString, PromptError>> {
        let resting = Arc::clone(&self.0);
        async move {
            let life = question.life;
            let mut borrowed = Borrowed::new(&resting);
            let Some(connection) = &mut borrowed.connection else {
                return Err(PromptError::Cancelled);
            };
            let conversation = async {
                if !connection.reply(Reply::Ask(question)).await {
                    return Err(PromptError::Cancelled);
                }
                match connection.next().await {
                    Some(Ok(Request::Answer { typed: Some(typed) })) => Ok(typed.into()),
                    // Ctrl-C at the client, or its end.
                    _ => Err(PromptError::Cancelled),
                }
            };
            tokio::time::timeout(life, conversation)
                .await
                .unwrap_or(Err(PromptError::TimedOut))
        }
        .boxed()
    }
}

/// The connection while a question is open on it. It goes back also when somebody else has
/// answered, and the question is dropped: the client wants to hear how it ended.
struct Borrowed<'a> {
    connection: Option<Connection>,
    place: &'a Mutex<Option<Connection>>,
}

impl<'a> Borrowed<'a> {
    fn new(place: &'a Mutex<Option<Connection>>) -> Self {
        Self {
            connection: place.lock().take(),
            place,
        }
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        *self.place.lock() = self.connection.take();
    }
}
