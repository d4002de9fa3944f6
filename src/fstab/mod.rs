//! The options of mount(8) and fstab(5): `-o key=value,flag`.
//!
//! Each of them has its effect, or is for somebody else (mount(8), systemd, udisks, gvfs), or is
//! refused in a sentence that says what to do. None is dropped: who writes `noexec` means it.

mod foreign;
mod kernel;

use std::ffi::OsString;

pub(crate) use kernel::KernelOptions;

/// What mount(8), systemd and others carry in the list for themselves.
const FOR_OTHERS: [&str; 10] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "_rnetdev",
    "silent",
    "loud",
    "nomand",
    "noiversion",
];

/// The same with values.
const FOR_OTHERS_WITH_VALUES: [&str; 3] = ["comment", "helper", "uhelper"];

/// What mount(8) may write behind `ro=`, since util-linux 2.39.
const KINDS_OF_READ_ONLY: [&str; 4] = ["vfs", "fs", "recursive", "nonrecursive"];

/// How much like an option's name a word must be to be taken for a slip of the pen; as clap has it.
const LIKE: f64 = 0.7;

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

fn is_for_others(option: &str) -> bool {
    let name = option.split_once('=').map(|(name, _)| name);
    FOR_OTHERS.contains(&option)
        || option.starts_with("x-")
        || option.starts_with("X-")
        || name.is_some_and(|name| FOR_OTHERS_WITH_VALUES.contains(&name))
}

/// What all lists together have said.
#[derive(Default)]
struct Said {
    /// Options of this program, by their long names; of each the last one counts.
    ours: Vec<(String, Option<String>)>,
    /// In order: what comes later overrides.
    kernel: Vec<String>,
    read_only: bool,
}

impl Said {
    fn hear(&mut self, option: &str, known: &clap::Command) -> Result<(), String> {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        match (key, value) {
            ("ro", None) | ("read_only" | "read-only", None) => self.read_only = true,
            ("ro", Some(kind)) if KINDS_OF_READ_ONLY.contains(&kind) => self.read_only = true,
            ("rw", None) => self.read_only = false,
            _ if is_for_others(option) => {}
            _ if kernel::is_known(option) => match kernel::refusal(option) {
                Some(why) => return Err(format!("-o {option}: {why}")),
                None => self.kernel.push(option.to_owned()),
            },
            _ => return self.hear_ours(key, value, known),
        }
        Ok(())
    }

    fn hear_ours(
        &mut self,
        key: &str,
        value: Option<&str>,
        known: &clap::Command,
    ) -> Result<(), String> {
        let long = key.replace('_', "-");
        let mut arguments = known.get_arguments();
        let Some(argument) = arguments.find(|argument| argument.get_long() == Some(&long)) else {
            return refuse(key, value, known);
        };
        match (argument.get_action().takes_values(), value) {
            (true, None) => Err(format!("-o {key} needs a value: {key}=…")),
            (false, Some(_)) => Err(format!(
                "-o {key}=…: {key} is on or off, and takes no value"
            )),
            _ => {
                self.ours.retain(|(before, _)| *before != long);
                self.ours.push((long, value.map(str::to_owned)));
                Ok(())
            }
        }
    }

    /// As arguments that clap reads.
    fn arguments(self) -> impl Iterator<Item = OsString> {
        let read_only = self.read_only.then(|| OsString::from("--read-only"));
        let ours = self.ours.into_iter().map(|(long, value)| match value {
            Some(value) => format!("--{long}={value}").into(),
            None => format!("--{long}").into(),
        });
        let kernel = self
            .kernel
            .into_iter()
            .flat_map(|word| ["-o".into(), word.into()]);
        read_only.into_iter().chain(ours).chain(kernel)
    }
}

/// Says what to do instead of an option that is not here; those that change nothing pass.
fn refuse(key: &str, value: Option<&str>, known: &clap::Command) -> Result<(), String> {
    if value.is_none() && foreign::is_here_anyway(key) {
        return Ok(());
    }
    let advice = foreign::advice(key, value);
    // A value may be a secret, and what is said here ends in journals.
    let may_be_said = advice.is_some() && !crate::words::names_a_secret(key);
    let said = match value {
        Some(value) if may_be_said => format!("{key}={value}"),
        Some(_) => format!("{key}=…"),
        None => key.to_owned(),
    };
    let said = crate::words::tame(&said);
    if let Some(advice) = advice {
        let spelling = match advice.contains("--") {
            true => " (in fstab, options are written without the dashes)",
            false => "",
        };
        return Err(format!("-o {said}: {advice}{spelling}"));
    }
    let names = known.get_arguments().filter_map(|known| known.get_long());
    let names = names.map(|name| (strsim::jaro(&key.replace('_', "-"), name), name));
    let like = names.filter(|(like, _)| *like > LIKE);
    let best = like.max_by(|(one, _), (other, _)| one.total_cmp(other));
    let best = best.map_or_else(String::new, |(_, name)| {
        format!(" Is {} meant?", name.replace('-', "_"))
    });
    Err(format!(
        "-o {said}: there is no such option; `s3mfa-mount --help` lists all.{best}"
    ))
}

/// Rewrites `-o key=value,flag` into long options, so that each option has one spelling only.
/// What the kernel keeps stays behind `-o`, a word each: [`KernelOptions`].
///
/// # Errors
///
/// An option that is not known, in a sentence that says what to do.
pub(crate) fn expand(
    args: impl IntoIterator<Item = OsString>,
    known: &clap::Command,
) -> Result<Vec<OsString>, String> {
    let mut expanded = Vec::new();
    let mut said = Said::default();
    let mut place = None;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let list = match arg.to_str() {
            Some("--") => {
                expanded.push(arg);
                expanded.extend(args);
                break;
            }
            Some("-o") => args.next(),
            Some(text) => text
                .strip_prefix("-o")
                .filter(|_| !text.starts_with("--"))
                .map(OsString::from),
            None => None,
        };
        let Some(list) = list else {
            expanded.push(arg);
            continue;
        };
        place.get_or_insert(expanded.len());
        let Some(list) = list.to_str() else {
            return Err(format!("-o {}: options are UTF-8", list.display()));
        };
        for option in options_of(list) {
            let option = option.trim();
            if !option.is_empty() {
                said.hear(option, known)?;
            }
        }
    }
    if let Some(place) = place {
        expanded.splice(place..place, said.arguments());
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn expanded(list: &str) -> Result<Vec<String>, String> {
        let args = ["s3mfa-mount", "docs", "/mnt", "-o", list].map(OsString::from);
        let all = expand(args, &crate::cli::Cli::command())?;
        let all = all.into_iter().skip(3);
        Ok(all.map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn the_last_one_of_a_kind_counts() {
        assert_eq!(expanded("ro,rw").unwrap(), [""; 0]);
        assert_eq!(expanded("rw,ro").unwrap(), ["--read-only"]);
        assert_eq!(expanded("ro=recursive").unwrap(), ["--read-only"]);
        let twice = expanded("profile=a,noexec,uid=1,profile=b").unwrap();
        assert_eq!(twice, ["--uid=1", "--profile=b", "-o", "noexec"]);
    }

    #[test]
    fn what_is_for_others_passes() {
        let list = "defaults,auto,nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,comment=a b,\
                    x-gvfs-show,uhelper=udisks2,nonempty,big_writes";
        assert_eq!(expanded(list).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_not_here_is_refused_in_a_sentence() {
        let cases = [
            ("umask=022", "--file-mode 0644"),
            ("use_path_request_style", "--force-path-style"),
            ("url=http://127.0.0.1", "--endpoint-url"),
            ("vfs-cache-mode=full", "leave it out"),
            ("allow_othr", "Is allow_other meant?"),
            ("frobnicate", "no such option"),
            ("remount", "mount it again"),
            ("uid", "needs a value"),
            ("lazy=yes", "takes no value"),
            ("noexec=1", "no such option"),
            ("ro=maybe", "no such option"),
            ("help", "no such option"),
        ];
        for (list, words) in cases {
            let refusal = expanded(list).unwrap_err();
            assert!(refusal.contains(words), "{list}: {refusal}");
            assert!(!refusal.contains('\n'), "{refusal}");
        }
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_not_said() {
        for key in [
            "aws_secret_access_key",
            "load_sse_c",
            "passwd",
            "frobnicate",
            "lazy",
        ] {
            let refusal = expanded(&format!("{key}=Tr0ub4dor")).unwrap_err();
            assert!(refusal.contains(key), "{refusal}");
            assert!(!refusal.contains("Tr0ub4dor"), "{refusal}");
        }
    }

    #[test]
    fn what_comes_after_two_dashes_is_no_option() {
        let args = ["s3mfa-mount", "--", "-o", "mnt"].map(OsString::from);
        let kept = expand(args.clone(), &crate::cli::Cli::command()).unwrap();
        assert_eq!(kept, args);
    }
}
