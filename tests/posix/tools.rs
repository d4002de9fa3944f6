//! Programs that cargo installs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::scene::{ends_within, parts};

/// A program that cargo installs, in the one version that the numbers in this directory are of.
pub struct Tool {
    pub name: &'static str,
    pub version: &'static str,
}

impl Tool {
    /// Where it is: in `PATH`, or in `target/tools`. Without it the test is skipped, loudly, and
    /// under CI it fails.
    pub fn find(&self, test: &str) -> Option<PathBuf> {
        let mut places: Vec<PathBuf> =
            std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect();
        places.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin"));
        let candidates = places.into_iter().map(|place| place.join(self.name));
        let found = candidates
            .filter(|path| path.is_file())
            .find(|path| self.is_right(path));
        if found.is_none() {
            let Self { name, version } = self;
            let install =
                format!("cargo install --locked --root target/tools --version ={version} {name}");
            parts::skip(test, &format!("{name} {version} not found; {install}"));
        }
        found
    }

    fn is_right(&self, path: &Path) -> bool {
        let output = Command::new(path).arg("--version").output();
        output.is_ok_and(|output| {
            let text = String::from_utf8_lossy(&output.stdout);
            text.trim() == format!("{} {}", self.name, self.version)
        })
    }
}

/// How a program ended, and everything it said.
pub struct Outcome {
    pub status: ExitStatus,
    pub text: String,
    pub took: Duration,
}

/// Runs a program to its end, with what it says in a file. Fails if it takes longer than `most`:
/// it may be one that waits for a mount which does not answer.
pub fn run_within(most: Duration, command: &mut Command, log: &Path) -> Outcome {
    let file = File::create(log).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let ended = ends_within(&mut child, most).is_some();
    let text = || String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    if !ended {
        // Not waited for: that would be for ever, if it is the mount that hangs.
        let _ = child.kill();
        panic!("{command:?} does not end:\n{}", text());
    }
    Outcome {
        status: child.wait().unwrap(),
        text: text(),
        took: start.elapsed(),
    }
}
