//! A scripted pinentry: a shell script that speaks Assuan, and takes its answers from a pipe.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{PATIENCE, holds_within, wait_until};

const SCRIPT: &str = r#"#!/bin/sh
# Speaks just enough Assuan. What it is told goes to `log`; what it answers comes from the
# pipe `answers`: a code, nothing, `cancel`, `die`, or `hang`.
dir=@DIR@
exec 9>>"$dir/log"
echo "START $$" >&9
echo "OK Pleased to meet you"
while read -r command rest; do
    echo "$command $rest" >&9
    case $command in
    GETPIN)
        echo "ASKED $$" >&9
        read -r answer <"$dir/answers"
        case $answer in
        cancel) echo "ERR 83886179 Operation cancelled <Pinentry>" ;;
        die) exit 1 ;;
        "") echo OK ;;
        hang) while :; do sleep 1; done ;;
        *) echo "D $answer"; echo OK ;;
        esac
        ;;
    CONFIRM)
        echo "SHOWN $$" >&9
        read -r answer <"$dir/answers"
        case $answer in
        cancel) echo "ERR 83886179 Operation cancelled <Pinentry>" ;;
        *) echo OK ;;
        esac
        ;;
    BYE) echo OK; exit 0 ;;
    *) echo OK ;;
    esac
done
"#;

#[derive(Clone)]
pub struct Pinentry {
    directory: PathBuf,
}

impl Pinentry {
    pub fn new(home: &Path) -> Self {
        let directory = home.join("pinentry");
        std::fs::create_dir(&directory).unwrap();
        let pinentry = Self { directory };
        let script = SCRIPT.replace("@DIR@", pinentry.directory.to_str().unwrap());
        std::fs::write(pinentry.program(), script).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(pinentry.program(), mode).unwrap();
        let fifo = pinentry.directory.join("answers");
        let made = std::process::Command::new("mkfifo").arg(fifo).status();
        assert!(made.unwrap().success());
        pinentry
    }

    pub fn program(&self) -> PathBuf {
        self.directory.join("pinentry")
    }

    /// Everything it was told so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// How often it asked.
    pub fn asked(&self) -> usize {
        self.log()
            .lines()
            .filter(|line| line.starts_with("ASKED "))
            .count()
    }

    /// How often it was to show something without a question.
    #[allow(dead_code, reason = "not on every stage")]
    pub fn shown(&self) -> usize {
        self.log().matches("SHOWN ").count()
    }

    /// The lines of the last dialog that start with this command.
    pub fn last(&self, command: &str) -> Option<String> {
        let log = self.log();
        let dialog = log.rsplit("START ").next()?;
        let line = dialog.lines().rfind(|line| line.starts_with(command))?;
        Some(line.replace("%0A", "\n"))
    }

    /// The process of the last dialog.
    pub fn process(&self) -> Option<u32> {
        let log = self.log();
        let line = log.lines().rfind(|line| line.starts_with("START "))?;
        line.split(' ').nth(1)?.parse().ok()
    }

    /// Whether the last dialog is still there.
    pub fn is_open(&self) -> bool {
        let Some(process) = self.process() else {
            return false;
        };
        std::fs::read_to_string(format!("/proc/{process}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    pub fn wait_until_asked(&self, times: usize) {
        wait_until(&format!("prompt {times}"), || self.asked() >= times);
    }

    /// Gives the open dialog its answer. Returns whether there was one.
    pub fn answer(&self, answer: &str) -> bool {
        let fifo = self.directory.join("answers");
        let mut written = false;
        // The dialog says that it asks just before it opens the pipe.
        holds_within(PATIENCE, || {
            let pipe = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&fifo);
            written = pipe.is_ok_and(|mut pipe| writeln!(pipe, "{answer}").is_ok());
            written || !self.is_open()
        });
        written
    }

    /// Answers the next prompt from a thread.
    pub fn answer_next(&self, answer: String) -> JoinHandle<()> {
        self.answer_after(Duration::ZERO, move || answer)
    }

    /// Answers the next prompt after a while, as a person would.
    pub fn answer_after(
        &self,
        pause: Duration,
        answer: impl FnOnce() -> String + Send + 'static,
    ) -> JoinHandle<()> {
        let pinentry = self.clone();
        let next = self.asked() + 1;
        std::thread::spawn(move || {
            pinentry.wait_until_asked(next);
            std::thread::sleep(pause);
            assert!(pinentry.answer(&answer()), "nobody took the answer");
        })
    }
}
