//! The socket of a mount: `status`, `renew`, `lock`, `unmount`.
//!
//! Each mount listens on `PID.sock` in a directory of the user's (mode 0700). A connection
//! carries one request, a JSON line with the version of this protocol, and its replies.

pub(crate) mod client;
pub(crate) mod place;
pub(crate) mod server;
pub(crate) mod status;

use serde::{Deserialize, Serialize};

use status::Status;

/// The version of the protocol. Other versions are refused in words.
pub(crate) const VERSION: u32 = 1;

/// What a client wants. Without `Debug`: one of them holds a code.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// One [`Reply::Status`].
    Status,
    /// A new one at each change, until the client goes.
    Watch,
    /// A new session, whose code is given after the command was typed, so many milliseconds ago:
    /// of several mounts that share a session the second needs no second code. With `terminal`,
    /// the client asks the person itself: [`Reply::Ask`].
    Renew { terminal: bool, ago: u64 },
    /// No session. The reply comes when nothing is served any more.
    Lock,
    /// The end of the mount.
    Unmount,
    /// The answer to [`Reply::Ask`]; `None` is "cancelled".
    Answer { typed: Option<String> },
}

/// What the mount says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Status(Box<Status>),
    /// Ask the person at your terminal.
    Ask(crate::auth::prompt::Question),
    /// It goes on: so many files and bytes are left to be stored.
    Progress {
        files: usize,
        bytes: u64,
    },
    /// It is done, and these words tell what.
    Done(String),
    /// It is not, and why.
    Failed {
        message: String,
        exit: u8,
    },
}

/// A request or a reply with its version.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Versioned<T> {
    #[serde(rename = "v")]
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) body: T,
}

impl<T: Serialize> Versioned<T> {
    /// One line, ready to be sent.
    pub(crate) fn line(body: T) -> serde_json::Result<String> {
        let mut line = serde_json::to_string(&Self {
            version: VERSION,
            body,
        })?;
        line.push('\n');
        Ok(line)
    }
}

/// Reads a line of this protocol.
pub(crate) fn read<T: for<'a> Deserialize<'a>>(line: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Any {
        v: u32,
    }
    let any: Any = serde_json::from_str(line).map_err(|_| "this is no request".to_owned())?;
    if any.v != VERSION {
        return Err(format!(
            "the mount and this program speak different versions ({} and {VERSION}): remount",
            any.v
        ));
    }
    let versioned: Versioned<T> =
        serde_json::from_str(line).map_err(|_| "this is no request".to_owned())?;
    Ok(versioned.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let line = Versioned::line(Request::Renew {
            terminal: true,
            ago: 7,
        })
        .unwrap();
        assert_eq!(
            line,
            "{\"v\":1,\"command\":\"renew\",\"terminal\":true,\"ago\":7}\n"
        );
        assert!(matches!(
            read(&line),
            Ok(Request::Renew {
                terminal: true,
                ago: 7
            })
        ));
        let line = Versioned::line(Reply::Done("x".to_owned())).unwrap();
        assert!(matches!(read(&line), Ok(Reply::Done(words)) if words == "x"));
    }

    #[test]
    fn another_version_is_refused_in_words() {
        let error = read::<Request>("{\"v\":2,\"command\":\"status\"}")
            .err()
            .unwrap();
        assert!(error.contains("versions"), "{error}");
        assert!(read::<Request>("nonsense").is_err());
        assert!(read::<Request>("{\"v\":1,\"command\":\"dance\"}").is_err());
    }
}
