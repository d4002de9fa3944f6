//! Which display or terminal a dialog may use at this moment.
//!
//! A daemon loses the display it was started on: people log out and in again. The systemd user
//! manager knows the present one, because desktops import it there. A terminal is taken only
//! while a program on it waits for the mount: otherwise keystrokes meant for another program
//! would be stolen.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a graphical pinentry needs to know.
const DISPLAY_VARIABLES: [&str; 5] = [
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
];

/// How often it is looked at who has the foreground of a terminal; nothing tells.
pub(crate) const GLANCE: Duration = Duration::from_millis(100);

/// How long systemctl may take.
const MANAGER_PATIENCE: Duration = Duration::from_secs(2);

/// Where a dialog may show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Screen {
    /// Display variables for the child's environment: `DISPLAY` and what belongs to it.
    pub(crate) variables: Vec<(String, String)>,
    /// A terminal, `/dev/pts/3`.
    pub(crate) tty_name: Option<String>,
    /// Its `TERM`.
    pub(crate) tty_type: Option<String>,
}

impl Screen {
    /// Whether a window can be shown.
    pub(crate) fn has_display(&self) -> bool {
        self.variables
            .iter()
            .any(|(name, value)| !value.is_empty() && name.ends_with("DISPLAY"))
    }
}

/// The display of this moment: the user manager's if it has one, else the daemon's own.
pub(crate) async fn present_display() -> Vec<(String, String)> {
    let manager = manager_environment().await;
    if manager.iter().any(|(name, _)| name.ends_with("DISPLAY")) {
        return manager;
    }
    let own = DISPLAY_VARIABLES
        .iter()
        .filter_map(|name| Some((String::from(*name), std::env::var(name).ok()?)));
    own.collect()
}

async fn manager_environment() -> Vec<(String, String)> {
    // Without the directory there is no user manager to ask.
    let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR") else {
        return Vec::new();
    };
    if !Path::new(&runtime).join("systemd").exists() {
        return Vec::new();
    }
    let mut command = tokio::process::Command::new("systemctl");
    crate::sys::with_usual_limits(command.as_std_mut());
    let output = command
        .args(["--user", "show-environment"])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(Ok(output)) = tokio::time::timeout(MANAGER_PATIENCE, output).await else {
        return Vec::new();
    };
    let mut variables = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((name, value)) = line.split_once('=')
            && DISPLAY_VARIABLES.contains(&name)
            // systemctl quotes what a shell would misread; no display is such a value.
            && !value.starts_with("$'")
        {
            variables.push((name.to_owned(), value.to_owned()));
        }
    }
    variables
}

/// The terminal this process was started on, with its `TERM`.
pub(crate) fn own_terminal() -> Option<(String, Option<String>)> {
    let tty = nix::unistd::ttyname(std::io::stdin())
        .or_else(|_| nix::unistd::ttyname(std::io::stderr()))
        .ok()
        .or_else(|| controlling_terminal(std::process::id()))?;
    Some((tty.to_str()?.to_owned(), std::env::var("TERM").ok()))
}

/// The terminal in whose foreground the thread's process waits, if it is this user's.
pub(crate) fn terminal_of_waiter(tid: u32) -> Option<(String, Option<String>)> {
    let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    let fields = Stat::parse(&stat)?;
    if fields.group != fields.foreground {
        return None;
    }
    let tty = fields.terminal()?;
    // The helper opens it with our rights; a stranger's terminal is not ours to write to.
    nix::unistd::access(
        &tty,
        nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK,
    )
    .ok()?;
    let term = std::fs::read(format!("/proc/{tid}/environ")).ok()?;
    let term = term
        .split(|b| *b == 0)
        .find_map(|v| v.strip_prefix(b"TERM="))
        .and_then(|v| String::from_utf8(v.to_vec()).ok());
    Some((tty.to_str()?.to_owned(), term))
}

/// Whether this process is in the foreground of its terminal. In the background (`&`) another
/// program is, and the keystrokes are that one's.
pub(crate) fn is_in_foreground() -> bool {
    has_foreground("self")
}

/// Whether a process or thread is in the foreground of its terminal.
pub(crate) fn has_foreground(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    Stat::parse(&stat).is_some_and(|stat| stat.group == stat.foreground)
}

fn controlling_terminal(pid: u32) -> Option<std::path::PathBuf> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Stat::parse(&stat)?.terminal()
}

/// The fields of proc_pid_stat(5) that tell about terminals.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    group: i64,
    tty: u32,
    foreground: i64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The second field is the name in parentheses, and may hold anything.
        let rest = &stat[stat.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            group: fields.get(2)?.parse().ok()?,
            tty: fields.get(4)?.parse::<i32>().ok()?.cast_unsigned(),
            foreground: fields.get(5)?.parse().ok()?,
        })
    }

    fn terminal(&self) -> Option<std::path::PathBuf> {
        // Device numbers: Documentation/admin-guide/devices.txt of the kernel.
        let major = (self.tty >> 8) & 0xfff;
        let minor = (self.tty & 0xff) | ((self.tty >> 12) & 0xfff00);
        match major {
            136..=143 => Some(format!("/dev/pts/{}", (major - 136) * 256 + minor).into()),
            4 if minor < 64 => Some(format!("/dev/tty{minor}").into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Stat;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = Stat::parse("42 (a) b) S 1 42 42 34817 42 4194304 1").unwrap();
        assert_eq!((stat.group, stat.foreground), (42, 42));
        assert_eq!(stat.terminal().unwrap().to_str().unwrap(), "/dev/pts/1");
    }

    #[test]
    fn no_terminal_is_none() {
        let stat = Stat::parse("42 (x) S 1 42 42 0 -1 4194304 1").unwrap();
        assert_eq!(stat.terminal(), None);
        assert_ne!(stat.group, stat.foreground);
    }
}
