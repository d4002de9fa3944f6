//! `--auto`: the same without a person, and every step checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::stage::{Mount, Stage};
use super::{Outcome, exit_code, take_signals};

/// The session that is waited for, until it has ended by itself.
const SHORT: Duration = Duration::from_secs(6);

/// All others: as long as AWS gives them.
const LONG: Duration = Duration::from_secs(43_200);

/// How long anything may take, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);

const STEPS: [(&str, fn(&Stage) -> Outcome); 5] = [
    ("every file is listed, with its size", |stage| {
        without_a_code(stage, || listing_is_right(stage))
    }),
    ("every file is read, byte for byte", |stage| {
        without_a_code(stage, || files_are_right(stage))
    }),
    ("after `lock`, reading takes one more code", |stage| {
        let place = stage.mountpoint.to_string_lossy();
        without_a_code(stage, || stage.control(&["lock", &place]))?;
        // A short session from here on, whose end the next step waits for.
        stage.sandbox.sessions().set_max_session(SHORT);
        with_one_code(stage, || file_is_right(stage, "README.txt"))
    }),
    ("the session ends by itself after a few seconds", |stage| {
        stage.sandbox.sessions().set_max_session(LONG);
        wait_until("the session's end", || {
            Ok(stage
                .session()
                .is_some_and(|session| session["state"] == "locked"))
        })
    }),
    ("reading goes on after one more code", |stage| {
        with_one_code(stage, || files_are_right(stage))
    }),
];

/// Mounts, goes through all steps, and unmounts.
pub fn run(mountpoint: Option<PathBuf>) -> Outcome<ExitCode> {
    let signals = take_signals()?;
    let stage = Stage::set(mountpoint)?;
    let give_code = format!("cat '{}'", stage.path("code").display());
    hand_out_code(&stage)?;
    let mut mount = Mount::start(&stage, &["--mfa-process", &give_code], Stdio::null())?;
    if let Some(process) = mount.process() {
        // Whoever waits for the mount then finds it gone, fails, and the demo tidies up.
        std::thread::spawn(move || {
            let _ = signals.wait();
            let _ = kill(process, Signal::SIGTERM);
        });
    }
    let mut status = None;
    let mounted = wait_until("the mount", || {
        status = mount.ended()?;
        Ok(status.is_some() || stage.session().is_some())
    });
    if let Some(status) = status {
        eprint!("{}", mount.complaint());
        return Ok(exit_code(status));
    }
    let mounted = mounted.and_then(|()| match (mount.is_mounted(), stage.codes()) {
        (false, _) => Err("nothing is there".into()),
        (true, 1) => Ok(()),
        (true, codes) => Err(format!("{codes} codes were taken").into()),
    });
    let mut all_held = said("the bucket is mounted, for one code", mounted);
    for (words, step) in STEPS {
        all_held = all_held && said(words, step(&stage));
    }
    let unmounted = unmount(&stage, &mut mount);
    all_held &= said(
        "`unmount` ends the mount, and leaves nothing there",
        unmounted,
    );
    if !all_held {
        eprint!("--- the end of the mount's log:\n{}", mount.log());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints how a step went, and tells whether it went well.
fn said(words: &str, outcome: Outcome) -> bool {
    match &outcome {
        Ok(()) => println!("ok      {words}"),
        Err(why) => println!("FAILED  {words}: {why}"),
    }
    outcome.is_ok()
}

impl Stage {
    /// How many codes AWS was sent so far.
    fn codes(&self) -> u64 {
        self.sandbox.counts().codes_sent()
    }
}

/// Puts a code where `--mfa-process` finds it. Each is good once, so each prompt needs its own.
fn hand_out_code(stage: &Stage) -> Outcome {
    Ok(fs::write(stage.path("code"), stage.device.unspent_code())?)
}

fn with_one_code<T>(stage: &Stage, act: impl FnOnce() -> Outcome<T>) -> Outcome {
    hand_out_code(stage)?;
    with_codes(stage, 1, act)
}

fn without_a_code<T>(stage: &Stage, act: impl FnOnce() -> Outcome<T>) -> Outcome {
    with_codes(stage, 0, act)
}

fn with_codes<T>(stage: &Stage, expected: u64, act: impl FnOnce() -> Outcome<T>) -> Outcome {
    let before = stage.codes();
    act()?;
    match stage.codes() - before {
        taken if taken == expected => Ok(()),
        taken => Err(format!("{taken} codes were taken, not {expected}").into()),
    }
}

fn listing_is_right(stage: &Stage) -> Outcome {
    let mut found = Vec::new();
    walk(&stage.mountpoint, "", &mut found)?;
    found.sort();
    let size = |key: &String| stage.bucket.get(key).map_or(0, |bytes| bytes.len() as u64);
    let expected: Vec<_> = stage
        .bucket
        .keys()
        .into_iter()
        .map(|key| (size(&key), key))
        .collect();
    let mut expected = expected;
    expected.sort();
    if found == expected {
        Ok(())
    } else {
        Err(format!("found {found:?}").into())
    }
}

fn walk(directory: &Path, prefix: &str, found: &mut Vec<(u64, String)>) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let about = entry.metadata()?;
        if about.is_dir() {
            walk(&entry.path(), &format!("{key}/"), found)?;
        } else {
            found.push((about.len(), key));
        }
    }
    Ok(())
}

fn files_are_right(stage: &Stage) -> Outcome {
    stage
        .bucket
        .keys()
        .iter()
        .try_for_each(|key| file_is_right(stage, key))
}

fn file_is_right(stage: &Stage, key: &str) -> Outcome {
    let read = fs::read(stage.mountpoint.join(key)).map_err(|why| format!("{key}: {why}"))?;
    if stage.bucket.get(key).is_some_and(|bytes| bytes == read) {
        return Ok(());
    }
    Err(format!("{key} differs").into())
}

fn unmount(stage: &Stage, mount: &mut Mount) -> Outcome {
    let place = stage.mountpoint.to_string_lossy();
    stage.control(&["unmount", &place])?;
    wait_until("the mount's end", || Ok(mount.ended()?.is_some()))?;
    if mount.is_mounted() {
        Err("something is still there".into())
    } else {
        Ok(())
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > PATIENCE {
            return Err(format!("{what} did not come in time").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
