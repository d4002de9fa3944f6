//! What `status` tells.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// One mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) mountpoint: String,
    pub(crate) pid: u32,
    /// It was unmounted, and lives on for programs that have files open.
    #[serde(default)]
    pub(crate) taken_away: bool,
    pub(crate) profile: String,
    /// How sessions come about: `session-token` or `plain`.
    pub(crate) credentials: String,
    pub(crate) session: Session,
    pub(crate) requests: Requests,
    pub(crate) cache: Cache,
    /// Keys that cannot be paths.
    pub(crate) skipped_keys: u64,
    /// Which conditions on writes the store honours: `all`, `some`, `none` (then a HEAD is asked
    /// before a write, and a change in between goes unnoticed), or `unknown`.
    pub(crate) conditional_writes: String,
    /// Files that wait to be stored.
    pub(crate) pending_uploads: Vec<Pending>,
    /// Files that were stored beside their names since the mount began.
    pub(crate) conflicts: Vec<Conflict>,
    pub(crate) spool: Spool,
}

/// A file that waits to be stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) key: String,
    /// How many bytes S3 does not have yet.
    pub(crate) bytes: u64,
    /// Why it could not be stored.
    pub(crate) error: Option<String>,
}

/// A file that was stored beside its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Conflict {
    /// What stands there is somebody else's.
    pub(crate) key: String,
    /// What was written through this mount.
    pub(crate) stored_as: String,
    /// `conflict`, or `recovered` for a write that a crash has interrupted.
    pub(crate) kind: String,
    /// Whether bytes that were not changed here are missing in it: somebody else has replaced them,
    /// and the bucket keeps no versions.
    #[serde(default)]
    pub(crate) incomplete: bool,
    /// RFC 3339.
    pub(crate) when: String,
}

/// Unsaved writes on the local disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spool {
    pub(crate) directory: String,
    /// Bytes.
    pub(crate) used: u64,
}

/// Its session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    /// `live`, `asking` or `locked`.
    pub(crate) state: String,
    /// Why there is none.
    pub(crate) reason: Option<String>,
    /// Which one it is, from 1.
    pub(crate) generation: Option<u64>,
    /// RFC 3339.
    pub(crate) expires: Option<String>,
    /// Seconds since the code.
    pub(crate) mfa_age: Option<u64>,
    /// When a new code will be needed, RFC 3339: told when that is soon and the mount is in use.
    /// `renew` gives one before.
    pub(crate) renewal_offered_until: Option<String>,
    /// How many seconds old a code may become in this bucket, as far as that is known.
    pub(crate) mfa_age_limit: Option<u64>,
    /// Until when nobody is asked again, RFC 3339.
    pub(crate) cooling_down_until: Option<String>,
    /// How often somebody was asked.
    pub(crate) prompts: u64,
}

/// Requests that were sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Requests {
    pub(crate) head: u64,
    pub(crate) list: u64,
    pub(crate) get: u64,
    /// Uploads, and parts of them.
    pub(crate) put: u64,
    /// Copies on the server.
    pub(crate) copy: u64,
    pub(crate) delete: u64,
    /// Sent again with a new session.
    pub(crate) replayed: u64,
}

/// Pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cache {
    /// Bytes.
    pub(crate) memory_used: u64,
    /// Bytes.
    pub(crate) memory_limit: u64,
}

/// A moment as programs read it, as people do: local, and with seconds, because sessions can
/// be short.
fn local_time(rfc3339: &str) -> String {
    let moment: Result<jiff::Timestamp, _> = rfc3339.parse();
    moment.map_or_else(
        |_| rfc3339.to_owned(),
        |moment| {
            let local = moment.to_zoned(jiff::tz::TimeZone::system());
            local.strftime("%Y-%m-%d %H:%M:%S").to_string()
        },
    )
}

impl Status {
    fn writes(&self, text: &mut String) {
        let note = match self.conditional_writes.as_str() {
            "all" => "never replace what somebody else has changed meanwhile",
            "none" => "look before they replace something: this store knows no conditions",
            "some" => "look before they replace something, where this store knows no condition",
            _ => "were not tried yet",
        };
        let _ = writeln!(text, "  writes    {note}");
        for pending in &self.pending_uploads {
            let why = pending.error.as_deref().unwrap_or("on its way");
            let key = crate::words::tame(&pending.key);
            let _ = writeln!(text, "  unsaved   {key}, {} bytes: {why}", pending.bytes);
        }
        for conflict in &self.conflicts {
            let _ = writeln!(
                text,
                "  {:9} {}: your version is {}{}",
                conflict.kind,
                crate::words::tame(&conflict.key),
                crate::words::tame(&conflict.stored_as),
                match conflict.incomplete {
                    true => ", with zeros for what was not changed here: nobody has that any more",
                    false => "",
                }
            );
        }
    }

    /// The same for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let source = match self.prefix.as_str() {
            "" => self.bucket.clone(),
            prefix => format!("{}/{prefix}", self.bucket),
        };
        let _ = writeln!(text, "{} on {}", source, self.mountpoint);
        if self.taken_away {
            let _ = writeln!(
                text,
                "  unmounted, and still used by programs with open files"
            );
        }
        let session = &self.session;
        let until = session
            .expires
            .as_deref()
            .map_or_else(|| "no end".to_owned(), local_time);
        let _ = match (session.state.as_str(), &session.reason) {
            ("live", _) => match session.mfa_age {
                Some(age) => {
                    writeln!(
                        text,
                        "  session   live until {until}, code given {age} s ago"
                    )
                }
                None => writeln!(text, "  session   live until {until}, without a code"),
            },
            (state, Some(reason)) => writeln!(text, "  session   {state}: {reason}"),
            (state, None) => writeln!(text, "  session   {state}"),
        };
        if let Some(until) = &session.cooling_down_until {
            let until = local_time(until);
            let _ = writeln!(
                text,
                "  prompts   none before {until}; `s3mfa-mount renew` asks at once"
            );
        }
        if let Some(until) = &session.renewal_offered_until {
            let until = local_time(until);
            let _ = writeln!(
                text,
                "  renewal   a new code is needed at {until}; `s3mfa-mount renew` gives it one before"
            );
        }
        if let Some(limit) = session.mfa_age_limit {
            let _ = writeln!(
                text,
                "  limit     this bucket wants codes no older than {limit} s"
            );
        }
        let _ = writeln!(text, "  profile   {} ({})", self.profile, self.credentials);
        let requests = &self.requests;
        let _ = writeln!(
            text,
            "  requests  {} HEAD, {} LIST, {} GET, {} PUT, {} copies, {} DELETE; {} sent again with \
             a new session",
            requests.head,
            requests.list,
            requests.get,
            requests.put,
            requests.copy,
            requests.delete,
            requests.replayed
        );
        self.writes(&mut text);
        let _ = writeln!(
            text,
            "  memory    {} of {} MiB",
            self.cache.memory_used >> 20,
            self.cache.memory_limit >> 20
        );
        if self.skipped_keys > 0 {
            let _ = writeln!(
                text,
                "  left out  {} keys that cannot be paths",
                self.skipped_keys
            );
        }
        text
    }
}
