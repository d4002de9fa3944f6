//! The commands that talk to mounts.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::status::Status;
use super::{Reply, Request, Versioned, place, read};
use crate::auth::prompt::{Question, own_terminal, terminal_ask};
use crate::auth::shared::forget_all;
use crate::cli::{StatusArgs, TargetArgs, UnmountArgs};
use crate::mount::MountError;

/// How long a mount may take to answer: longer than a dialog may stay.
const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// How long it may take to tell its status, for which it waits for nobody.
const SOON: Duration = Duration::from_secs(5);

/// A connection to one mount.
struct Mount {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Mount {
    fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LONGEST_WAIT))?;
        let lines = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, lines })
    }

    fn send(&mut self, request: Request) -> Result<(), MountError> {
        let line = Versioned::line(request).map_err(|e| MountError::Other(e.to_string()))?;
        self.stream
            .write_all(line.as_bytes())
            .map_err(|error| MountError::Other(format!("the mount does not listen: {error}")))
    }

    /// The next reply; `None` when the mount has hung up.
    fn reply(&mut self) -> Result<Option<Reply>, MountError> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(MountError::Other("the mount does not answer".to_owned()))
            }
            Ok(0) | Err(_) => Ok(None),
            Ok(_) => read(&line).map(Some).map_err(MountError::Other),
        }
    }
}

/// `status`.
pub(crate) fn status(args: &StatusArgs) -> Result<(), MountError> {
    if args.watch {
        return watch(args);
    }
    let mounts = mounts(args.mountpoint.as_deref())?;
    let statuses: Vec<&Status> = mounts.iter().map(|(_, status)| status).collect();
    if args.json {
        let json = serde_json::json!({ "version": super::VERSION, "mounts": statuses });
        return print(&format!("{json:#}\n"));
    }
    if statuses.is_empty() {
        return print("nothing is mounted\n");
    }
    print(
        &statuses
            .iter()
            .map(|s| s.text())
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

fn watch(args: &StatusArgs) -> Result<(), MountError> {
    let (socket, _) = the_one(args.mountpoint.as_deref())?;
    let mut mount = connect(&socket)?;
    // Hours may pass without a change.
    let patient = mount.stream.set_read_timeout(None);
    patient.map_err(|error| MountError::Other(error.to_string()))?;
    mount.send(Request::Watch)?;
    while let Some(reply) = mount.reply()? {
        match reply {
            Reply::Status(status) if args.json => {
                let json = serde_json::to_string(&status).unwrap_or_default();
                print(&format!("{json}\n"))?;
            }
            Reply::Status(status) => print(&format!("{}\n", status.text()))?,
            other => finish(Some(other))?,
        }
    }
    Ok(())
}

/// `renew`.
pub(crate) fn renew(args: &TargetArgs) -> Result<(), MountError> {
    let terminal = own_terminal();
    let began = Instant::now();
    each(args.mountpoint.as_deref(), |mount| {
        mount.send(Request::Renew {
            terminal: terminal.is_some(),
            ago: u64::try_from(began.elapsed().as_millis()).unwrap_or_default(),
        })?;
        loop {
            match mount.reply()? {
                Some(Reply::Ask(question)) => {
                    let name = terminal.as_ref().map_or("/dev/tty", |(name, _)| name);
                    answer_at(mount, name, question)?;
                }
                reply => return finish(reply),
            }
        }
    })
}

/// Has the person answer at this terminal. Whoever answers the same question elsewhere is
/// first, so the mount is not kept waiting for this answer: it is sent when it comes.
fn answer_at(mount: &Mount, terminal: &str, question: Question) -> Result<(), MountError> {
    let stream = mount.stream.try_clone();
    let mut stream =
        stream.map_err(|error| MountError::Other(format!("the mount does not listen: {error}")))?;
    let terminal = terminal.to_owned();
    std::thread::spawn(move || {
        let typed = terminal_ask(&terminal, &question).ok();
        if let Ok(line) = Versioned::line(Request::Answer { typed }) {
            // The mount may have its answer, and be gone.
            let _ = stream.write_all(line.as_bytes());
        }
    });
    Ok(())
}

/// `lock`. Without a mountpoint also what no mount holds: sessions for other programs.
pub(crate) fn lock(args: &TargetArgs) -> Result<(), MountError> {
    let locked = each(args.mountpoint.as_deref(), |mount| {
        mount.send(Request::Lock)?;
        let reply = mount.reply()?;
        finish(reply)
    });
    if args.mountpoint.is_some() {
        return locked;
    }
    let directory = crate::runtime::directory();
    let forgotten = directory.map_or(0, |directory| forget_all(&directory));
    match (forgotten, locked) {
        (1.., Err(MountError::Nothing)) => print("the session is forgotten; nothing is mounted\n"),
        (_, locked) => locked,
    }
}

/// `unmount`.
pub(crate) fn unmount(args: &UnmountArgs) -> Result<(), MountError> {
    let mountpoint = absolute(&args.mountpoint);
    let found = mounts(None)?
        .into_iter()
        .find(|(_, status)| Path::new(&status.mountpoint) == mountpoint && !status.taken_away);
    let Some((socket, _)) = found else {
        // Its daemon is dead: what is left is a stale mount, or none.
        use crate::mount::place;
        return match place::is_ours(&mountpoint) {
            false => Err(nothing_there(&mountpoint)),
            true if place::take_away_dead(&mountpoint)? => print(&format!(
                "the daemon of {} was dead: it is unmounted, and what was not stored is stored by \
                 the next mount\n",
                mountpoint.display()
            )),
            true => Err(MountError::Other(format!(
                "the daemon of {} does not answer: try again, or end it (fuser -vm {0} names it)",
                mountpoint.display()
            ))),
        };
    };
    let mut mount = connect(&socket)?;
    mount.send(Request::Unmount)?;
    let mut bar = Bar::default();
    loop {
        match mount.reply()? {
            Some(Reply::Progress { files, bytes }) => bar.draw(files, bytes),
            reply => {
                bar.clear();
                return finish(reply);
            }
        }
    }
}

/// A line that shows what is left, if somebody looks.
#[derive(Default)]
struct Bar {
    most: u64,
    drawn: bool,
}

impl Bar {
    const WIDTH: u64 = 30;

    fn draw(&mut self, files: usize, bytes: u64) {
        use std::io::IsTerminal;
        let mut out = std::io::stderr();
        if files == 0 || !out.is_terminal() {
            return;
        }
        self.most = self.most.max(bytes).max(1);
        self.drawn = true;
        let done = (self.most - bytes) * Self::WIDTH / self.most;
        let bar: String = (0..Self::WIDTH)
            .map(|i| if i < done { '#' } else { '.' })
            .collect();
        let _ = write!(
            out,
            "\r[{bar}] {files} files, {} MiB left \x1b[K",
            bytes >> 20
        );
    }

    fn clear(&self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn finish(reply: Option<Reply>) -> Result<(), MountError> {
    match reply {
        Some(Reply::Done(words)) => print(&format!("{words}\n")),
        Some(Reply::Failed { message, exit: 3 }) => Err(MountError::Auth(message)),
        Some(Reply::Failed { message, exit: 4 }) => Err(MountError::Bucket(message)),
        Some(Reply::Failed { message, exit: 5 }) => Err(MountError::Fuse(message)),
        Some(Reply::Failed { message, .. }) => Err(MountError::Other(message)),
        Some(Reply::Status(_) | Reply::Ask(_) | Reply::Progress { .. }) => Err(MountError::Other(
            "the mount answers something that was not asked: remount".to_owned(),
        )),
        None => Err(MountError::Other(
            "the mount ended without an answer".to_owned(),
        )),
    }
}

/// Does something with the mount that is named, or with every one.
fn each(
    mountpoint: Option<&Path>,
    mut act: impl FnMut(&mut Mount) -> Result<(), MountError>,
) -> Result<(), MountError> {
    let mounts = mounts(mountpoint)?;
    if mounts.is_empty() {
        return Err(MountError::Nothing);
    }
    let mut outcome = Ok(());
    for (socket, _) in mounts {
        let done = connect(&socket).and_then(|mut mount| act(&mut mount));
        if let Err(error) = done {
            if outcome.is_err() {
                crate::say(&format!("s3mfa-mount: {error}"));
            } else {
                outcome = Err(error);
            }
        }
    }
    outcome
}

fn the_one(mountpoint: Option<&Path>) -> Result<(PathBuf, Status), MountError> {
    let mut mounts = mounts(mountpoint)?;
    match (mounts.pop(), mounts.is_empty()) {
        (Some(mount), true) => Ok(mount),
        (None, _) => Err(MountError::Nothing),
        (Some(_), false) => Err(MountError::Usage(
            "there are several mounts: name one".to_owned(),
        )),
    }
}

/// The mounts that live, or the one on `mountpoint`.
fn mounts(mountpoint: Option<&Path>) -> Result<Vec<(PathBuf, Status)>, MountError> {
    let sockets = place::sockets()
        .map_err(|error| MountError::Other(format!("mounts cannot be found: {error}")))?;
    let mut mounts = Vec::new();
    for socket in sockets {
        let mut mount = match Mount::connect(&socket) {
            Ok(mount) => mount,
            Err(error) => {
                if error.kind() == std::io::ErrorKind::ConnectionRefused {
                    // Its daemon was killed.
                    let _ = std::fs::remove_file(&socket);
                }
                continue;
            }
        };
        mount.lines.get_ref().set_read_timeout(Some(SOON)).ok();
        // One that cannot be talked to must not hide the others.
        match mount.send(Request::Status).and_then(|()| mount.reply()) {
            Ok(Some(Reply::Status(status))) => mounts.push((socket, *status)),
            Err(error) => crate::say(&format!("s3mfa-mount: {}: {error}", socket.display())),
            Ok(_) => crate::say(&format!(
                "s3mfa-mount: the mount behind {} does not answer",
                socket.display()
            )),
        }
    }
    let Some(mountpoint) = mountpoint.map(absolute) else {
        return Ok(mounts);
    };
    mounts.retain(|(_, status)| Path::new(&status.mountpoint) == mountpoint);
    // One that was unmounted before has the same place, as long as files are open there.
    if mounts.iter().any(|(_, status)| !status.taken_away) {
        mounts.retain(|(_, status)| !status.taken_away);
    }
    if mounts.is_empty() {
        return Err(nothing_there(&mountpoint));
    }
    Ok(mounts)
}

fn nothing_there(mountpoint: &Path) -> MountError {
    MountError::Other(format!(
        "nothing of this program is mounted on {}; `s3mfa-mount status` lists all mounts",
        mountpoint.display()
    ))
}

fn connect(socket: &Path) -> Result<Mount, MountError> {
    Mount::connect(socket)
        .map_err(|error| MountError::Other(format!("the mount does not listen: {error}")))
}

/// As the mount itself writes its place. A dead mount cannot be resolved, only written out.
fn absolute(path: &Path) -> PathBuf {
    // One that hangs answers nobody who asks what is there.
    let written = crate::mount::place::written(path);
    if crate::mount::place::is_ours(&written) {
        return written;
    }
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

fn print(text: &str) -> Result<(), MountError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read it has had enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| MountError::Other(error.to_string())),
    }
}
