//! Wiring and lifetime: builds the layers, mounts, says so, waits for the end, unmounts.

mod device;
mod error;
mod holders;
mod keeping;
mod mounted;
mod notification;
pub(crate) mod place;
mod signals;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fuser::SessionACL;
use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};

use crate::access::{Entry, Purpose};
use crate::auth::session::Phase;
use crate::auth::{Asker, Reason, Sessions};
use crate::cli::MountArgs;
use crate::clock::{Clock, wall_time};
use crate::config::{Allow, Config, Surroundings};
use crate::control::server::Socket;
use crate::fs::fuse::Fuse;
use crate::fs::kernel::KernelCache;
use crate::fs::recover::Recovered;
use crate::fs::{FileSystem, Keeping};
use crate::spool::Found;
use crate::store::limit::Limit;
use crate::store::options::Tried;
use crate::store::s3::Endpoint;
use crate::store::{Bucket, Query, StoreError};
pub(crate) use error::MountError;
pub(crate) use mounted::Mounted;
use mounted::NO_SESSION_YET;
use signals::EndSignals;

/// How often systemd is told that starting takes longer, and by how much each time.
const STILL_STARTING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));

/// Mounts and serves until somebody ends it, and tells systemd how it went.
pub(crate) async fn run(
    args: MountArgs,
    env: &Surroundings,
    background: bool,
) -> Result<(), MountError> {
    let outcome = mount(args, env, background).await;
    if let Err(error) = &outcome {
        let _ = sd_notify::notify(&[NotifyState::Status(&error.to_string())]);
    }
    outcome
}

async fn mount(args: MountArgs, env: &Surroundings, background: bool) -> Result<(), MountError> {
    let mut config = Config::new(args, env).await?;
    let mountpoint = place::prepare(&config.mountpoint)?;
    place::check_fuse()?;
    config.mountpoint.clone_from(&mountpoint);
    let attached = Arc::new(AtomicBool::new(true));
    let keeping = keeping::open(&config)?;
    let (sessions, bucket) = layers(&config, &attached)?;
    let mut end = EndSignals::new()?;

    let starting = tokio::spawn(report(sessions.phases(), true));
    let first = tokio::select! {
        first = first_session(&config, &sessions, &bucket) => first,
        signal = end.next() => Err(MountError::Stopped(signal)),
    };
    starting.abort();
    if first.is_err() {
        sessions.end();
    }
    first?;

    let mounted = Arc::new(serve(config, mountpoint, sessions, bucket, keeping)?);
    let control = Socket::bind().map_err(|error| {
        let _ = place::detach(&mounted.mountpoint);
        MountError::Other(format!("the control socket cannot be made: {error}"))
    })?;
    let control = tokio::spawn(control.serve(Arc::clone(&mounted)));
    let reporting = tokio::spawn(report(mounted.sessions.phases(), false));
    let guarding = tokio::spawn(guard(Arc::clone(&mounted)));
    let keeping = tokio::spawn(keeping::keep(Arc::clone(&mounted)));
    attached.store(!background, Ordering::Relaxed);
    if background {
        crate::background::detach().map_err(|error| {
            let _ = place::detach(&mounted.mountpoint);
            MountError::Other(format!("cannot leave the terminal: {error}"))
        })?;
        end.leave_terminal();
    }
    tracing::info!(
        "{} is mounted on {}",
        mounted.config.source(),
        mounted.place()
    );
    let _ = sd_notify::notify(&[NotifyState::Ready]);

    let outcome = mounted.until_the_end(&mut end).await;
    if background && let Err(error) = &outcome {
        // Standard error leads nowhere by now.
        tracing::error!("{error}");
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("Unmounted")]);
    reporting.abort();
    guarding.abort();
    keeping.abort();
    mounted.is_over.send_replace(true);
    // It says its last words, and its file goes.
    let _ = control.await;
    if !*mounted.ended.borrow()
        && let Some(device) = &mounted.device
    {
        // Whoever has files open there must not keep this process from ending.
        place::abort(device);
    }
    outcome
}

fn layers(
    config: &Config,
    attached: &Arc<AtomicBool>,
) -> Result<(Arc<Sessions>, Arc<Bucket>), MountError> {
    let access = &config.access;
    let purpose = Purpose {
        lines: vec![
            ("Bucket", config.source()),
            ("Mounted at", config.mountpoint.display().to_string()),
        ],
        bucket: Some(keeping::of_bucket(config)),
        attached: Arc::clone(attached),
    };
    let Entry { aws, ladder, .. } = crate::access::entry(access, purpose)?;
    let clock: Arc<dyn Clock> = Arc::new(aws.clock.clone());
    let sessions = Sessions::new(ladder, clock, access.patience);
    let endpoint = Endpoint {
        region: aws.endpoints.region.clone(),
        aws,
        max_requests: config.max_requests,
        settings: config.settings.clone(),
        download: Arc::new(Limit::new(config.download_limit)),
        prefix: config.prefix.clone(),
        remembered: keeping::support_file(config),
        pause: crate::store::s3::PAUSE,
    };
    let bucket = Bucket::new(&config.bucket, endpoint, Arc::clone(&sessions));
    Ok((sessions, Arc::new(bucket)))
}

/// Opens the first session and looks at the bucket, unless the mount is lazy.
async fn first_session(
    config: &Config,
    sessions: &Arc<Sessions>,
    bucket: &Bucket,
) -> Result<(), MountError> {
    if config.lazy {
        return Ok(());
    }
    let asker = Asker::person();
    sessions.current(&asker).await?;
    let query = Query {
        prefix: config.prefix.clone(),
        limit: Some(1),
        ..Query::default()
    };
    match bucket.names(&asker, &query).await {
        Ok(names) => {
            if names.is_empty() && !config.prefix.is_empty() {
                tracing::warn!(
                    "there is nothing under {} yet: check the spelling if that is a surprise",
                    config.source()
                );
            }
            if !config.look.read_only {
                bucket.find_out().await;
                try_options(config, bucket, &asker).await?;
            }
            Ok(())
        }
        Err(StoreError::Denied(text)) if is_locked_out(config, bucket, &asker).await => {
            let rung = sessions
                .rung()
                .map_or("no session", crate::auth::Rung::name);
            let text = format!(
                "the bucket {:?} denies everything to this session ({rung}): {text}. `s3mfa-mount \
                 check {}` finds out what it wants",
                config.bucket, config.bucket
            );
            Err(match sessions.is_without_device() {
                true => MountError::Auth(text),
                false => MountError::Bucket(text),
            })
        }
        // Listing is not everything: a policy may allow reading alone.
        Err(StoreError::Denied(text)) => {
            if let Some(said) = bucket.doubt(&config.prefix).await {
                let profile = &config.access.identity.profile;
                return Err(MountError::Auth(wrong_secret(profile, &said)));
            }
            tracing::warn!(
                "{} cannot be listed with this session ({text}); mounted all the same, because \
                 single files may be readable",
                config.source()
            );
            Ok(())
        }
        Err(StoreError::NotFound) => Err(MountError::Bucket(format!(
            "there is no bucket {:?}: check its name, the region and --endpoint-url",
            config.bucket
        ))),
        Err(StoreError::Session(error)) => Err(error.into()),
        Err(error @ StoreError::Listing(_)) => Err(MountError::Bucket(format!(
            "the bucket {:?} is there, but: {error}",
            config.bucket
        ))),
        Err(error @ StoreError::Signature(_)) => Err(MountError::Auth(error.to_string())),
        Err(error) => Err(MountError::Bucket(format!(
            "the bucket {:?} cannot be reached: {error}",
            config.bucket
        ))),
    }
}

/// What is said of keys of which nothing shows that their secret is right.
pub(crate) fn wrong_secret(profile: &str, said: &str) -> String {
    format!(
        "nothing works with the keys of {profile:?}, and the store says the same to a secret that is \
         certainly wrong ({said}). Next: compare aws_access_key_id and aws_secret_access_key with what \
         the store has given out; if they are right, they have no permission in this bucket"
    )
}

/// Tells which options the store overlooks.
///
/// Errors: if nothing can be written with them.
async fn try_options(config: &Config, bucket: &Bucket, asker: &Asker) -> Result<(), MountError> {
    let tried = bucket.try_options(asker).await.unwrap_or_else(|error| {
        tracing::debug!("the options cannot be tried: {error}");
        Tried::default()
    });
    if let Some((options, why)) = tried.refused {
        return Err(MountError::Bucket(format!(
            "nothing can be written to {} with {options}: {why}. Mount it without, or with \
             --read-only",
            config.source()
        )));
    }
    for option in tried.overlooked {
        tracing::warn!(
            "{option} has no effect: the store of {} overlooks it",
            config.source()
        );
    }
    Ok(())
}

/// Whether a bucket that may not be listed may not be read either. An absent key tells: who may read
/// and not list is told that listing is what is missing. Only AWS says so much, and only to users
/// of the bucket's own account; of everybody else single files may be readable.
async fn is_locked_out(config: &Config, bucket: &Bucket, asker: &Asker) -> bool {
    let key = format!("{}.s3mfa-mount-absent", config.prefix);
    match bucket.head(asker, &key).await {
        Err(StoreError::Denied(text)) => {
            text.contains("s3:GetObject") && text.contains("explicit deny")
        }
        _ => false,
    }
}

fn serve(
    config: Config,
    mountpoint: PathBuf,
    sessions: Arc<Sessions>,
    bucket: Arc<Bucket>,
    keeping: (Keeping, Vec<Found>),
) -> Result<Mounted, MountError> {
    let (keeping, left) = keeping;
    let fs = Arc::new(FileSystem::new(
        Arc::clone(&bucket),
        config.prefix.clone(),
        config.look.clone(),
        config.budget,
        keeping,
    ));
    let recovered = fs.take_up(left);
    if recovered != Recovered::default() {
        tracing::warn!(
            "an earlier mount has left unsaved work: {} files to be stored, {} interrupted ones \
             to be stored beside their names, {} to be deleted, {} directories to be renamed",
            recovered.closed,
            recovered.torn,
            recovered.deletions,
            recovered.moves
        );
    }
    let (ended, heard) = oneshot::channel();
    let (fuse, unanswered) = Fuse::new(Arc::clone(&fs), tokio::runtime::Handle::current(), ended);
    device::tell_what_is_left_out(&config.kernel);
    let opened = device::mount(
        &mountpoint,
        &device::Wish {
            source: &source(&config),
            read_only: config.look.read_only,
            allow_other: config.allow != Allow::Owner,
            kernel: &config.kernel,
        },
    )
    .map_err(|error| place::explain(&mountpoint, &error))?;
    let (acl, serving) = serving(&config);
    let session = fuser::Session::from_fd(fuse, opened, acl, serving).map_err(|error| {
        let _ = place::detach(&mountpoint);
        MountError::Fuse(format!("the kernel and FUSE do not get together: {error}"))
    })?;
    let kernel = KernelCache::new(&session.notifier(), &unanswered);
    let (tell, ended) = watch::channel(false);
    let background = session.spawn();
    let (kernel, background) = match (kernel, background) {
        (Ok(kernel), Ok(background)) => (kernel, background),
        (Err(error), _) | (_, Err(error)) => {
            let _ = place::detach(&mountpoint);
            return Err(MountError::Fuse(format!("no threads for FUSE: {error}")));
        }
    };
    // Its threads go on until the kernel lets go.
    drop(background);
    tokio::spawn(async move {
        let _ = heard.await;
        tell.send_replace(true);
    });
    let device = place::device(&mountpoint);
    if let Some(device) = &device {
        fs.serves(device);
    }
    Ok(Mounted {
        device,
        config,
        mountpoint,
        sessions,
        bucket,
        fs,
        kernel,
        ended,
        is_taken_down: watch::Sender::new(false),
        is_over: watch::Sender::new(false),
    })
}

/// What the mount shows as its source. Commas and backslashes would be read as further options by
/// fusermount3.
fn source(config: &Config) -> String {
    let harmless = |c: char| match c {
        ',' | '\\' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    config.source().chars().map(harmless).collect()
}

/// Who is served, and how.
fn serving(config: &Config) -> (SessionACL, fuser::Config) {
    let acl = match config.allow {
        Allow::Owner => SessionACL::Owner,
        Allow::Root => SessionACL::RootAndOwner,
        Allow::Other => SessionACL::All,
    };
    let mut serving = fuser::Config::default();
    serving.n_threads = Some(2);
    serving.clone_fd = true;
    (acl, serving)
}

/// Takes back what the kernel has cached whenever the session is gone.
async fn guard(mounted: Arc<Mounted>) {
    let mut phases = mounted.sessions.phases();
    let mut was_live = false;
    loop {
        let is_live = matches!(*phases.borrow_and_update(), Phase::Live(_));
        if was_live && !is_live && !mounted.config.look.serve_when_locked {
            mounted.take_back_unasked().await;
        }
        was_live = is_live;
        if phases.changed().await.is_err() {
            return;
        }
    }
}

/// Tells systemd what the session does, and while starting that it takes longer.
async fn report(mut phases: watch::Receiver<Phase>, starting: bool) {
    loop {
        let status = match &*phases.borrow_and_update() {
            Phase::Live(session) => match session.expires {
                Some(at) => format!("Session lives until {}", wall_time(at)),
                None => "Session lives, without an end".to_owned(),
            },
            Phase::Asking(reason) => format!("Waiting for an MFA code: {reason}"),
            Phase::Locked(Reason::FirstLogin) => NO_SESSION_YET.to_owned(),
            Phase::Locked(reason) => format!("No session: {reason}"),
        };
        let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
        let (every, more) = STILL_STARTING;
        if starting {
            let more = u32::try_from(more.as_micros()).unwrap_or(u32::MAX);
            let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(more)]);
        }
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(every), if starting => {}
        }
    }
}
