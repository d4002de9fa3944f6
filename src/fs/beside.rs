//! Names for what is stored beside a file, because it must not replace it.

/// The longest name in bytes: `NAME_MAX`.
const LONGEST: usize = 255;

/// The longest extension that is kept as one, in bytes.
const LONGEST_EXTENSION: usize = 16;

/// The longest word of a mark in bytes, so that there is always room for some of the name.
const LONGEST_WORD: usize = 40;

/// Extensions of compressed files, which may follow `.tar`.
const COMPRESSED: [&str; 10] = [
    "br", "bz2", "gz", "lz", "lz4", "lzma", "lzo", "xz", "z", "zst",
];

/// `name (what DATE HOST).ext`, or `name (what DATE HOST n).ext` if `n` is not 0.
///
/// `what` is a word like "conflict" or "recovered"; `date` is local time like
/// `2026-11-22 14.03.07`, without colons so that other systems can hold the name too. The
/// extension stays, so that programs still know the file. At most 255 bytes: a longer name loses
/// the end of its stem.
pub(crate) fn beside(name: &str, what: &str, date: &str, host: &str, n: u32) -> String {
    let (stem, extension) = split(name);
    let counter = match n {
        0 => String::new(),
        n => format!(" {n}"),
    };
    let mark = format!(
        " ({} {} {}{counter})",
        tame(what, " "),
        tame(date, " +"),
        tame(host, "")
    );
    let room = LONGEST.saturating_sub(mark.len() + extension.len());
    let stem = stem.get(..stem.floor_char_boundary(room)).unwrap_or(stem);
    format!("{stem}{mark}{extension}")
}

/// Cuts a name in front of its extension, or of `.tar.gz` and the like. A dot in front marks a
/// hidden file, and what follows a dot in "Mr. Smith" is no extension.
fn split(name: &str) -> (&str, &str) {
    let cut = |name: &str| {
        let (stem, extension) = name.rsplit_once('.')?;
        let is_one = !stem.is_empty()
            && (1..=LONGEST_EXTENSION).contains(&extension.len())
            && extension
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-+~".contains(&b));
        is_one.then_some(stem.len())
    };
    let Some(mut at) = cut(name) else {
        return (name, "");
    };
    let (stem, extension) = name.split_at(at);
    let compressed = COMPRESSED.contains(&extension[1..].to_ascii_lowercase().as_str());
    if compressed
        && let Some(tar) = cut(stem)
        && stem[tar..].eq_ignore_ascii_case(".tar")
    {
        at = tar;
    }
    name.split_at(at)
}

/// Makes a word fit for a name anywhere: letters and digits of ASCII, `-`, `_`, `.` and what is
/// allowed besides; hyphens for the rest.
fn tame(text: &str, allowed: &str) -> String {
    let tamed: String = text
        .chars()
        .take(LONGEST_WORD)
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || "-_.".contains(c) || allowed.contains(c) => c,
            _ => '-',
        })
        .collect();
    match tamed.trim() {
        "" => "unknown".to_owned(),
        tamed => tamed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATE: &str = "2026-11-22 14.03.07";

    fn conflict(name: &str) -> String {
        beside(name, "conflict", DATE, "desk", 0)
    }

    #[test]
    fn the_extension_stays() {
        for (name, expected) in [
            ("a.txt", "a (conflict 2026-11-22 14.03.07 desk).txt"),
            ("a.tar.gz", "a (conflict 2026-11-22 14.03.07 desk).tar.gz"),
            (
                "a.b.TAR.xz",
                "a.b (conflict 2026-11-22 14.03.07 desk).TAR.xz",
            ),
            ("a.txt.gz", "a.txt (conflict 2026-11-22 14.03.07 desk).gz"),
            (".tar.gz", ".tar (conflict 2026-11-22 14.03.07 desk).gz"),
            ("Makefile", "Makefile (conflict 2026-11-22 14.03.07 desk)"),
            (".bashrc", ".bashrc (conflict 2026-11-22 14.03.07 desk)"),
            ("a.", "a. (conflict 2026-11-22 14.03.07 desk)"),
            ("Mr. Smith", "Mr. Smith (conflict 2026-11-22 14.03.07 desk)"),
            ("ü.ü", "ü.ü (conflict 2026-11-22 14.03.07 desk)"),
        ] {
            assert_eq!(conflict(name), expected);
        }
        assert_eq!(
            beside("a.txt", "recovered", DATE, "desk", 2),
            "a (recovered 2026-11-22 14.03.07 desk 2).txt"
        );
    }

    #[test]
    fn a_host_cannot_say_anything() {
        assert_eq!(
            beside("a", "conflict", "../x", "e/v\0il\n(ü)", 0),
            "a (conflict ..-x e-v-il----)"
        );
        assert_eq!(
            beside("a", "conflict", DATE, "", 0),
            format!("a (conflict {DATE} unknown)")
        );
        assert!(beside("a", "conflict", DATE, &"h".repeat(500), 0).len() < 100);
    }

    proptest! {
        #[test]
        fn it_is_a_name_always(
            name in "[^/\0]{1,200}(\\.[a-z.]{0,20})?",
            what in ".{0,300}",
            date in ".{0,300}",
            host in ".{0,300}",
            n in any::<u32>(),
        ) {
            let beside = beside(&name, &what, &date, &host, n);
            prop_assert!(beside.len() <= LONGEST);
            prop_assert!(!beside.contains(['/', '\0']));
            prop_assert_ne!(beside, name);
        }

        #[test]
        fn two_counters_make_two_names(name in "\\PC{1,255}", n in 0_u32..1000) {
            let of = |n| beside(&name, "conflict", DATE, "desk", n);
            prop_assert_ne!(of(n), of(n + 1));
        }
    }
}
