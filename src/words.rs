//! Words from outside, made safe to show.

/// The longest text of a server that is shown, in characters.
const LONGEST: usize = 300;

/// Makes a string that a server, a key or a program chose fit for a terminal, a dialog and a
/// log: no control characters, no direction overrides, a bounded length.
pub(crate) fn tame(text: &str) -> String {
    let mut tamed: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if is_harmless(c) { c } else { '\u{fffd}' })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        tamed.push('…');
    }
    tamed
}

/// What stands where a secret may have been.
const HIDDEN: &str = "[hidden]";

/// The shortest word that may be a key, in characters: a TOTP secret has 16 at least (RFC 4226,
/// section 4), an access key id 20, a secret access key 40.
const LEAST_KEY: usize = 16;

/// How long a secret access key of AWS is, in characters.
const KEY: usize = 40;

/// Hides what may be a code or a key in the words of somebody else's program: six to eight digits, and
/// long words of letters and digits, or of capitals.
pub(crate) fn without_secrets(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        shown.push_str(before);
        // A path is words with slashes between them.
        // A key may begin with a slash: that of AWS has forty characters.
        match word.starts_with('/') && word.len() != KEY {
            false => shown.push_str(if may_be_secret(word) { HIDDEN } else { word }),
            true => {
                for part in word.split('/').skip(1) {
                    shown.push('/');
                    shown.push_str(if may_be_secret(part) { HIDDEN } else { part });
                }
            }
        }
        rest = after;
    }
    shown + rest
}

/// Whether an option's name says that its value is a secret.
pub(crate) fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = ["key", "secret", "token", "pass", "cred", "sse", "auth"];
    words.iter().any(|word| name.contains(word))
}

fn may_be_secret(word: &str) -> bool {
    let has = |of: fn(&char) -> bool| word.chars().any(|c| of(&c));
    let (letters, digits) = (has(char::is_ascii_alphabetic), has(char::is_ascii_digit));
    let is_code =
        !letters && word.chars().all(|c| c.is_ascii_digit()) && (6..=8).contains(&word.len());
    let is_mixed = letters && (digits || !has(char::is_ascii_lowercase));
    is_code || (word.len() >= LEAST_KEY && is_mixed)
}

fn is_harmless(c: char) -> bool {
    // The bidirectional controls of Unicode (UAX #9) can make a text read as another.
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{tame, without_secrets};

    #[test]
    fn codes_and_keys_are_hidden_and_words_are_not() {
        for secret in [
            "123456",
            "12345678",
            "JBSWY3DPEHPK3PXP",
            "JBSWYDPEHPKPXPABCD",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "0123456789abcdef0123456789abcdef",
            "/JalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ] {
            let line = format!("error: key={secret}, see above");
            let shown = without_secrets(&line);
            assert!(!shown.contains(secret), "{shown}");
            assert!(shown.starts_with("error: ") && shown.ends_with(", see above"));
        }
        for words in [
            "ModuleNotFoundError: No module named 'yubikit'",
            "/usr/lib/python3/dist-packages/ykman: line 12: cannot open",
            "ERROR: Failed connecting to a YubiKey 5 (serial 1234)",
            "ä 日本 \u{fffd}",
        ] {
            assert_eq!(without_secrets(words), words);
        }
    }

    #[test]
    fn escapes_and_overrides_do_not_pass() {
        assert_eq!(
            tame("a\x1b[31mb\nc\u{202e}d"),
            "a\u{fffd}[31mb\u{fffd}c\u{fffd}d"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let tamed = tame(&"ä".repeat(1000));
        assert_eq!(tamed.chars().count(), 301);
        assert!(tamed.ends_with('…'));
    }
}
