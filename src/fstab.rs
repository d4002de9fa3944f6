//! The options of mount(8) and fstab(5): `-o key=value,flag`.

use std::ffi::OsString;

/// What mount(8) and fstab carry for themselves.
const OF_MOUNT: [&str; 32] = [
    "rw",
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "lazytime",
    "nolazytime",
    "diratime",
    "nodiratime",
    "async",
    "sync",
    "dirsync",
    "silent",
    "loud",
    "nomand",
];

/// The same with values, which mount(8) and its helpers write down for themselves.
const OF_MOUNT_WITH_VALUES: [&str; 4] = ["user=", "comment=", "helper=", "uhelper="];

/// The options of a list: separated by commas, but for those after a backslash, and those in a value
/// that is in double quotes as a whole, as mount(8) has it.
fn options_of(list: &str) -> Vec<String> {
    let mut options = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        if let Some((key, value, after)) = quoted(rest) {
            options.push(format!("{key}={value}"));
            rest = after;
            continue;
        }
        let mut option = String::new();
        let mut chars = rest.char_indices().peekable();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' if chars.peek().is_some_and(|(_, next)| *next == ',') => {
                    chars.next();
                    option.push(',');
                }
                ',' => {
                    end = at;
                    break;
                }
                c => option.push(c),
            }
        }
        options.push(option);
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    options
}

/// `key="value"` at the beginning of a list: key, value, and what follows.
fn quoted(list: &str) -> Option<(&str, &str, &str)> {
    let (key, rest) = list.split_once('=').filter(|(key, _)| !key.contains(','))?;
    let rest = rest.strip_prefix('"')?;
    let (value, after) = match rest.split_once("\",") {
        Some(parts) => parts,
        None => (rest.strip_suffix('"')?, ""),
    };
    Some((key, value, after))
}

fn is_of_mount(option: &str) -> bool {
    OF_MOUNT.contains(&option)
        || option.starts_with("x-")
        || OF_MOUNT_WITH_VALUES
            .iter()
            .any(|key| option.starts_with(key))
}

/// Rewrites `-o key=value,flag` into long options, so that each option has one spelling only.
pub(crate) fn expand(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut expanded = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let list = match arg.to_str() {
            Some("-o") => args.next().and_then(|list| list.into_string().ok()),
            Some(text) => text
                .strip_prefix("-o")
                .filter(|_| !text.starts_with("--"))
                .map(String::from),
            None => None,
        };
        let Some(list) = list else {
            expanded.push(arg);
            continue;
        };
        for option in options_of(&list) {
            let option = option.trim();
            if option.is_empty() || is_of_mount(option) {
                continue;
            }
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (option, None),
            };
            let key = match key {
                "ro" => "read-only".to_owned(),
                key => key.replace('_', "-"),
            };
            expanded.push(match value {
                Some(value) => format!("--{key}={value}").into(),
                None => format!("--{key}").into(),
            });
        }
    }
    expanded
}
