//! `--auto`: the same without a person, and every step checked.

use std::fs;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::stage::{Mount, Stage};
use super::{Outcome, end_signals, exit_code};

/// The session whose end is waited for.
const SHORT: Duration = Duration::from_secs(6);

/// All others: as long as AWS gives them at most.
const LONG: Duration = Duration::from_secs(129_600);

/// How long anything may take, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The words for a step, how many codes it takes, and the step.
type Step = (&'static str, u64, fn(&Stage) -> Outcome);

const STEPS: [Step; 6] = [
    ("every file is listed, with its size", 0, listing_is_right),
    ("every file is read, byte for byte", 0, files_are_right),
    ("`lock` ends the session at once", 0, |stage| {
        stage.control(&["lock"])?;
        // The next session is a short one.
        stage.sandbox.sessions().set_max_session(SHORT);
        wait_for("locked", stage)
    }),
    (
        "reading asks for a code again, and gets its bytes",
        1,
        |stage| file_is_right(stage, "README.txt"),
    ),
    (
        "the session ends by itself after a few seconds",
        0,
        |stage| {
            stage.sandbox.sessions().set_max_session(LONG);
            wait_for("locked", stage)
        },
    ),
    (
        "a reader that comes then gets its bytes after one code",
        1,
        files_are_right,
    ),
];

/// Mounts, goes through all steps, and unmounts.
pub fn run(place: Option<PathBuf>) -> Outcome<ExitCode> {
    let end = end_signals()?;
    let stage = Stage::set(place)?;
    let show_code = format!("cat '{}'", stage.path("code").display());
    let mut mount = None;
    let mut all_held = step(&stage, "the bucket is mounted", 1, || {
        let started = Mount::start(&stage, &["--mfa-process", &show_code], Stdio::null())?;
        let started = mount.insert(started);
        let process = started.process()?;
        // Whoever waits for the mount then finds it gone and fails, and the demo tidies up.
        std::thread::spawn(move || end.recv().map(|()| kill(process, Signal::SIGTERM)));
        wait_until("the mount", || {
            Ok(started.ended()?.is_some() || stage.session().is_some())
        })?;
        if stage.is_mounted() {
            Ok(())
        } else {
            Err("it ended instead".into())
        }
    });
    let Some(mut mount) = mount else {
        return Ok(ExitCode::FAILURE);
    };
    if let Some(status) = mount.ended()? {
        eprint!("{}", mount.complaint());
        return Ok(exit_code(status));
    }
    for (words, codes, act) in STEPS {
        all_held = all_held && step(&stage, words, codes, || act(&stage));
    }
    all_held &= step(&stage, "`unmount` leaves nothing mounted", 0, || {
        stage.control(&["unmount", &stage.mountpoint.to_string_lossy()])?;
        wait_until("the mount's end", || Ok(mount.ended()?.is_some()))?;
        if stage.is_mounted() {
            Err("something is still there".into())
        } else {
            Ok(())
        }
    });
    if all_held {
        return Ok(ExitCode::SUCCESS);
    }
    eprint!("--- the end of the mount's log:\n{}", mount.log());
    Ok(ExitCode::FAILURE)
}

/// Does one step, counts the codes that AWS was sent meanwhile, and says how it went.
fn step(stage: &Stage, words: &str, codes: u64, act: impl FnOnce() -> Outcome) -> bool {
    let sent = || stage.sandbox.counts().codes_sent();
    let before = sent();
    let checked = || -> Outcome {
        if codes > 0 {
            // Where `--mfa-process` finds it. A new one for each, because each is good once.
            fs::write(stage.path("code"), stage.device.unspent_code())?;
        }
        act()?;
        match sent() - before {
            number if number == codes => Ok(()),
            number => Err(format!("{number} codes were sent instead of {codes}").into()),
        }
    };
    let outcome = checked();
    match &outcome {
        Ok(()) => println!("ok      {words}"),
        Err(why) => println!("FAILED  {words}: {why}"),
    }
    outcome.is_ok()
}

fn listing_is_right(stage: &Stage) -> Outcome {
    let mut found = Vec::new();
    let mut directories = vec![stage.mountpoint.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            match entry.metadata()? {
                about if about.is_dir() => directories.push(entry.path()),
                about => found.push((entry.path(), about.len())),
            }
        }
    }
    let size = |key: &String| stage.bucket.get(key).map_or(0, |bytes| bytes.len() as u64);
    let keys = stage.bucket.keys();
    let is_there = |key: &String| found.contains(&(stage.mountpoint.join(key), size(key)));
    if found.len() == keys.len() && keys.iter().all(is_there) {
        return Ok(());
    }
    Err(format!("found {found:?}").into())
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

fn wait_for(state: &str, stage: &Stage) -> Outcome {
    wait_until(&format!("the state {state:?}"), || {
        let session = stage.session().ok_or("the mount is gone")?;
        Ok(session["state"] == state)
    })
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
