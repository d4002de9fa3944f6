//! A mount and a local directory, on which the same is done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use s3mfa_sandbox::{Kind, Matcher};

use crate::scene::{Mount, Scene};
use crate::tree::{self, Tree};

/// The longest that a script may take, in seconds. Then it is ended, so that the test is not.
const LONGEST: &str = "240";

/// The pair.
pub struct Twins {
    /// `None` only while it is mounted anew. Before `scene`, because it is to end first.
    mount: Option<Mount>,
    pub scene: Scene,
    local: PathBuf,
    began: SystemTime,
}

/// How a script ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    /// Both outputs in their order; the directory's path reads `DIR`.
    pub words: String,
}

impl Drop for Twins {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = self.mount().log();
        assert!(!log.contains(" ERROR "), "{log}");
    }
}

impl Twins {
    pub fn new() -> Self {
        let scene = Scene::new();
        let local = scene.home().join("local");
        fs::create_dir(&local).unwrap();
        fs::create_dir(scene.home().join("source")).unwrap();
        fs::create_dir(scene.home().join("user")).unwrap();
        let began = SystemTime::now();
        let mount = Some(scene.mount(&[]));
        scene.sandbox.reset_counts();
        Self {
            mount,
            scene,
            local,
            began,
        }
    }

    pub fn mount(&self) -> &Mount {
        self.mount.as_ref().unwrap()
    }

    /// A directory beside the two, which scripts see as `../source`.
    pub fn source(&self) -> PathBuf {
        self.scene.home().join("source")
    }

    /// Unmounts and mounts again, with another process and another session.
    pub fn remount(&mut self) {
        if let Some(mut mount) = self.mount.take() {
            mount.signal(libc::SIGTERM);
            assert!(mount.wait().success(), "{}", mount.log());
        }
        self.mount = Some(self.scene.mount(&[]));
        self.scene.sandbox.reset_counts();
    }

    /// Runs a shell script on the local directory, then on the mount, which must end and speak
    /// alike; and end well.
    pub fn run(&self, script: &str) -> String {
        let ran = self.try_run(script);
        assert_eq!(ran.code, 0, "{script}\n{}", ran.words);
        ran.words
    }

    /// The same for a script that may fail, in the same way on both sides.
    pub fn try_run(&self, script: &str) -> Ran {
        let local = self.run_in(&self.local, script);
        let before = self.scene.sandbox.requests().len();
        let begun = Instant::now();
        let mounted = self.run_on_mount(script);
        // For whoever wants to know what a program costs: --nocapture shows it.
        let first = script.trim().lines().next().unwrap_or_default();
        eprintln!(
            "{:?}: {first}\n    {}",
            begun.elapsed(),
            self.requests_since(before)
        );
        assert_eq!(
            mounted,
            local,
            "\n{script}\non the mount:\n{}\nin a local directory:\n{}\nrequests: {}",
            mounted.words,
            local.words,
            self.requests()
        );
        mounted
    }

    /// Runs a script on both sides, alike and to a good end, although on the mount the session ends
    /// with the request of this number: somebody types one code, and the programs notice nothing.
    pub fn run_through_an_end(&self, request: u64, script: &str) -> String {
        let before = self.scene.pinentry.asked();
        let faults = self.scene.sandbox.faults();
        let local = self.run_in(&self.local, script);
        let sent = self.scene.sandbox.requests().len();
        faults.expire_before(Matcher::s3().nth(request));
        let device = self.scene.device.clone();
        let answering = (self.scene.pinentry)
            .answer_after(Duration::from_millis(300), move || device.unspent_code());
        let mounted = self.run_on_mount(script);
        let answered = answering.join();
        eprintln!("{}", self.requests_since(sent));
        assert_eq!(mounted, local, "\n{script}\n{}", mounted.words);
        assert_eq!(mounted.code, 0, "{script}\n{}", mounted.words);
        answered.unwrap();
        assert_eq!(self.scene.pinentry.asked(), before + 1, "one code");
        mounted.words
    }

    /// Runs a script on the mount only.
    pub fn run_on_mount(&self, script: &str) -> Ran {
        self.run_in(self.mount().path(), script)
    }

    fn run_in(&self, directory: &Path, script: &str) -> Ran {
        let home = self.scene.home();
        let output = Command::new("timeout")
            .args(["--kill-after=10", LONGEST, "bash", "-euo", "pipefail", "-c"])
            .arg(format!("exec 2>&1\n{script}"))
            .current_dir(directory)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", home.join("user"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("PWD", directory)
            .envs([("LC_ALL", "C.UTF-8"), ("TZ", "UTC")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(output.stderr.is_empty(), "{output:?}");
        Ran {
            code: output.status.code().unwrap_or(-1),
            words: words.replace(directory.to_str().unwrap(), "DIR"),
        }
    }

    /// Does the same in both directories, the local one first.
    pub fn both<R: PartialEq + std::fmt::Debug>(&self, mut act: impl FnMut(&Path) -> R) -> R {
        let local = act(&self.local);
        let mounted = act(self.mount().path());
        assert_eq!(mounted, local);
        mounted
    }

    /// Fails if the trees differ: names, types, permissions, owners, contents, times.
    pub fn assert_same_trees(&self) {
        self.assert_same_trees_but(&|_| true);
    }

    /// The same for the paths that are wanted.
    pub fn assert_same_trees_but(&self, wanted: &dyn Fn(&str) -> bool) {
        let local = tree::read(&self.local, wanted);
        tree::assert_same(&local, &self.tree(wanted), self.began);
    }

    fn tree(&self, wanted: &dyn Fn(&str) -> bool) -> Tree {
        tree::read(self.mount().path(), wanted)
    }

    /// How many requests of a kind there were since the counts were reset.
    pub fn count(&self, kind: Kind) -> u64 {
        self.scene.sandbox.counts().of(kind)
    }

    /// What was requested since then, in words.
    pub fn requests(&self) -> String {
        self.requests_since(0)
    }

    fn requests_since(&self, before: usize) -> String {
        let mut kinds: Vec<(Kind, u64)> = Vec::new();
        for request in self.scene.sandbox.requests().iter().skip(before) {
            match kinds.iter_mut().find(|(kind, _)| *kind == request.kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((request.kind, 1)),
            }
        }
        let counts = self.scene.sandbox.counts();
        format!(
            "{kinds:?}, {} bytes sent, {} bytes received",
            counts.bytes_received(),
            counts.bytes_served()
        )
    }
}
