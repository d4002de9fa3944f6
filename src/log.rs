//! Where messages go, and what never gets into them.
//!
//! HTTP libraries log headers at `debug` and `trace`: signatures and session tokens among
//! them. Whatever filter the user sets, only this crate's messages go below `info`. The crates of the
//! SDK say nothing at any level: they hold keys, and one of them has warned of a credentials file by
//! printing it (aws-runtime 1.10.2, `env_config/source.rs`).

use std::os::fd::AsFd;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::mount::MountError;

/// Without a filter: what a person wants to know.
const DEFAULT: &str = "warn,s3mfa_mount=info";

/// Whether this is the stream to the journal that systemd set up, rather than inherited words
/// about somebody else's: sd-journal(3) says to compare device and inode.
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(stat) = nix::sys::stat::fstat(stream) else {
        return false;
    };
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Whether a message is written, if the user's filter lets it pass.
fn may_speak(target: &str, level: Level) -> bool {
    let is_of = |name: &str| target.starts_with(name);
    is_of("s3mfa_mount") || level <= Level::INFO && !is_of("aws_")
}

/// What fuser says of an answer that nobody waits for any more, as an error. It answers the kernel's
/// interrupts, which the kernel does not know any more once the interrupted request is answered
/// (fuser 0.18.0, `reply.rs`; fs/fuse/dev.c of Linux, `fuse_dev_do_write`).
const ANSWERED_ALREADY: &str = "Failed to send FUSE reply: No such file or directory";

/// Drops messages that mean nothing.
struct Meaningful;

impl<S> Filter<S> for Meaningful {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let mut means_something = true;
        event.record(&mut Words(&mut means_something));
        means_something
    }
}

struct Words<'a>(&'a mut bool);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" && format!("{value:?}").starts_with(ANSWERED_ALREADY) {
            *self.0 = false;
        }
    }
}

/// Starts logging: to the journal under systemd and in the background, else to standard error.
pub(crate) fn start(filter: Option<&str>, background: bool) -> Result<(), MountError> {
    let filter = filter.filter(|f| !f.is_empty()).unwrap_or(DEFAULT);
    let wrong = |why: &str| {
        MountError::Usage(format!(
            "--log-level {filter:?} is no level and no filter{why}: try info or debug"
        ))
    };
    // A single word that is no level would be the name of a module, and silence everything else.
    let is_word = filter.chars().all(|c| c.is_ascii_alphanumeric());
    if is_word && filter.parse::<LevelFilter>().is_err() {
        return Err(wrong(""));
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| wrong(&format!(" ({error})")))?;
    let filter = filter.and(filter_fn(|metadata| {
        may_speak(metadata.target(), *metadata.level())
    }));
    let filter = filter.and(Meaningful);
    let journal = (background || is_journal(std::io::stderr()))
        .then(tracing_journald::layer)
        .and_then(Result::ok);
    let started = match journal {
        Some(journal) => tracing_subscriber::registry()
            .with(journal.with_filter(filter))
            .try_init(),
        None => {
            let lines = fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .with_target(false);
            tracing_subscriber::registry()
                .with(lines.with_filter(filter))
                .try_init()
        }
    };
    started.map_err(|error| MountError::Other(format!("logging cannot be started: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_waits_for_is_no_error() {
        let heard = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let lines = fmt::layer().with_ansi(false).with_writer({
            let heard = std::sync::Arc::clone(&heard);
            move || Heard(std::sync::Arc::clone(&heard))
        });
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(Meaningful));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("{ANSWERED_ALREADY} (os error 2)");
            tracing::error!("Failed to send FUSE reply: Invalid argument (os error 22)");
        });
        let heard = String::from_utf8(heard.lock().clone()).unwrap();
        assert_eq!(heard.lines().count(), 1, "{heard}");
        assert!(heard.contains("Invalid argument"), "{heard}");
    }

    struct Heard(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

    impl std::io::Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_holds_keys_says_nothing() {
        for target in [
            "aws_runtime::env_config::source",
            "aws_config::ecs",
            "aws_smithy_runtime",
        ] {
            assert!(!may_speak(target, Level::ERROR), "{target}");
        }
        assert!(may_speak("redb", Level::WARN));
        assert!(!may_speak("hyper_util::client", Level::DEBUG));
        assert!(may_speak("s3mfa_mount::auth", Level::TRACE));
    }
}
