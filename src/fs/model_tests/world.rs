//! A sandbox with a bucket that demands MFA, and mounts of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use s3mfa_sandbox::{FOREVER, Matcher, Sandbox, policies};

use super::ops::{Setup, Trouble};
use crate::auth::testing::{Person, aws, sessions};
use crate::auth::{Asker, Sessions};
use crate::fs::index::Index;
use crate::fs::{Budget, FileSystem, Keeping, Look};
use crate::spool::{Opened, Owner, Spool};
use crate::store::limit::Limit;
use crate::store::s3::Endpoint;
use crate::store::verdict::FRESH;
use crate::store::write::Settings;
use crate::store::{Bucket, Query};

/// How long a session lasts.
const SESSION: Duration = Duration::from_secs(7200);

/// The pause between two attempts of anything: nothing gets better by waiting here.
const PAUSE: Duration = Duration::from_millis(1);

/// What all sequences of one test share.
pub(super) struct World {
    pub(super) sandbox: Sandbox,
    pub(super) sessions: Arc<Sessions>,
    endpoint: Endpoint,
    asked: Arc<AtomicU64>,
    buckets: AtomicU64,
    pub(super) umask: u32,
    /// What is remembered of the sandbox from one mount to the next.
    _remembered: tempfile::TempDir,
}

/// Where one sequence happens: an empty bucket, and a place for its mounts.
pub(super) struct Scene {
    pub(super) bucket: s3mfa_sandbox::Bucket,
    pub(super) prefix: String,
    setup: Setup,
    part: u64,
    place: tempfile::TempDir,
}

impl World {
    /// Must be called inside a runtime.
    pub(super) fn new() -> Self {
        let sandbox = Sandbox::start().unwrap();
        let alice = sandbox.create_user("alice");
        let device = sandbox.create_device(&alice);
        let aws = aws(&sandbox);
        let asked = Arc::<AtomicU64>::default();
        let person = Person {
            device: device.clone(),
            asked: Arc::clone(&asked),
        };
        let seconds = i32::try_from(SESSION.as_secs()).unwrap();
        let sessions = sessions(&aws, &sandbox, &alice, &device, seconds, Arc::new(person));
        let remembered = tempfile::tempdir().unwrap();
        let endpoint = Endpoint {
            aws,
            region: "us-east-1".to_owned(),
            max_requests: 64,
            settings: Settings::default(),
            download: Arc::new(Limit::new(None)),
            prefix: String::new(),
            remembered: Some(remembered.path().join("support")),
            pause: PAUSE,
        };
        Self {
            sessions,
            sandbox,
            endpoint,
            asked,
            buckets: AtomicU64::new(0),
            umask: umask(),
            _remembered: remembered,
        }
    }

    /// How often somebody was asked for a code.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn scene(&self, setup: Setup, part: u64) -> Scene {
        let name = format!("model-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        let bucket = self.sandbox.create_bucket(&name);
        bucket
            .set_policy(policies::require_mfa_null_age(&name))
            .unwrap();
        let prefix = if setup.prefixed { "some/where/" } else { "" };
        Scene {
            bucket,
            prefix: prefix.to_owned(),
            setup,
            part,
            place: quick_directory(),
        }
    }

    /// Mounts, as the program does it.
    pub(super) async fn mount(&self, scene: &Scene, index: Option<Index>) -> Arc<FileSystem> {
        let bucket = Bucket::new(
            scene.bucket.name(),
            self.endpoint.clone(),
            Arc::clone(&self.sessions),
        );
        // A bucket that has not accepted a fresh session yet takes its end for a misfit.
        self.sandbox.clock().advance(FRESH);
        let asker = Asker::person();
        let query = Query {
            prefix: scene.prefix.clone(),
            limit: Some(1),
            ..Query::default()
        };
        bucket.list(&asker, &query).await.unwrap();
        bucket.find_out().await;
        let owner = Owner {
            endpoint: self.sandbox.endpoint().to_owned(),
            bucket: scene.bucket.name().to_owned(),
            principal: "alice".to_owned(),
        };
        let root = scene.place.path().join("spool");
        let Opened { spool, entries } = Spool::open(&root, &owner, None).unwrap();
        let index = if scene.setup.index_file {
            // Only one has the file.
            drop(index);
            Index::open(&scene.index_file()).unwrap()
        } else {
            index.unwrap_or_else(Index::in_memory)
        };
        let keeping = Keeping {
            spool: Some(spool),
            index,
            upload_limit: None,
            locks: crate::fs::locks::Place::default(),
        };
        let (look, budget) = (scene.look(), scene.budget());
        let prefix = scene.prefix.clone();
        let fs = FileSystem::new(Arc::new(bucket), prefix, look, budget, keeping);
        let fs = Arc::new(fs);
        fs.take_up(entries);
        fs.go_on(true);
        fs
    }

    /// Lets something go wrong from now on. Returns how many codes that may cost.
    pub(super) fn cause(&self, trouble: Trouble) -> u64 {
        let faults = self.sandbox.faults();
        let s3 = |nth: u8| Matcher::s3().nth(nth.into());
        match trouble {
            Trouble::Busy { nth, times } => faults.status(s3(nth), 503, "SlowDown", times.into()),
            Trouble::Drop { nth, times } => faults.drop_connection(s3(nth), times.into()),
            Trouble::Lose { nth, times } => faults.lose_response(s3(nth), times.into()),
            Trouble::LoseWrite { nth, times } => {
                faults.lose_response(Matcher::writes().nth(nth.into()), times.into());
            }
            Trouble::Truncate { nth, after } => {
                let bodies = Matcher::kind(s3mfa_sandbox::Kind::Get).nth(nth.into());
                faults.truncate_body(bodies, after.into(), 1);
            }
            Trouble::ExpireBefore(nth) => {
                faults.expire_before(s3(nth));
                return 1;
            }
            Trouble::ExpireAfter(nth) => {
                faults.expire_after(s3(nth));
                return 1;
            }
            Trouble::Outlive => {
                self.sandbox.clock().advance(SESSION);
                return 1;
            }
        }
        0
    }

    /// Nothing goes wrong from now on.
    pub(super) fn calm(&self) {
        self.sandbox.faults().clear();
    }

    /// S3 is out of reach until everything is calm again.
    pub(super) fn cut_off(&self) {
        self.sandbox
            .faults()
            .drop_connection(Matcher::s3(), FOREVER);
    }
}

impl Scene {
    fn index_file(&self) -> PathBuf {
        self.place.path().join("index")
    }

    fn look(&self) -> Look {
        Look {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            all_uid: None,
            all_gid: None,
            shared_by: None,
            posix_metadata: self.setup.posix_metadata,
            host: "desk".to_owned(),
            file_mode: 0o644,
            dir_mode: 0o755,
            ttl: Duration::from_secs(if self.setup.believes { 60 } else { 0 }),
            longest_request: Duration::from_secs(60),
            longest_store: Duration::from_secs(60),
            born: SystemTime::now(),
            read_only: false,
            serve_when_locked: false,
        }
    }

    fn budget(&self) -> Budget {
        Budget {
            memory: 64 << 20,
            part: self.part,
            write_back: self.setup.write_back,
            pause: PAUSE,
        }
    }
}

/// The umask of this process, which can only be read by setting it otherwise.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(umask.unwrap().trim(), 8).unwrap()
}

/// A directory for a spool and an index, in memory if that can be had: they are synced at every
/// step, which on a disk takes most of the time. The machine does not fail in these tests.
fn quick_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}
