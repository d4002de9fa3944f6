//! What the text of a key means.
//!
//! The AWS CLI takes everything behind the `=` for the value. A comment behind a value, and quotes
//! around it, are in it then, and nothing of AWS's has either in it; other SDKs take the comment off
//! (aws-runtime, `env_config/parse.rs`), and so does this, where the CLI's reading cannot be meant.

use super::ini::{Value, is_blank};

/// What begins a comment.
const COMMENT: [char; 2] = ['#', ';'];

/// The value without quotes around it and a comment behind it; `None` if nothing is left.
pub(super) fn plain(value: &Value) -> Option<String> {
    readable(value)
        .map(|text| bare(text, false))
        .and_then(filled)
}

/// The same of a secret, of which other stores allow any characters: a comment is one if a blank is on
/// either side of its mark.
pub(super) fn secret(value: &Value) -> Option<String> {
    readable(value)
        .map(|text| bare(text, true))
        .and_then(filled)
}

/// The value as it stands, such as a command line; `None` if it is empty.
pub(super) fn whole(value: &Value) -> Option<String> {
    readable(value).and_then(filled)
}

/// A value of the lines below: `s3 =` and then `addressing_style = path`.
pub(super) fn nested(value: &Value, key: &str) -> Option<String> {
    let lines = readable(value)?;
    // Something behind the `=` makes it a value of its own, of more than one line.
    let lines = lines.strip_prefix('\n')?.lines();
    let pairs = lines.filter_map(|line| line.split_once('='));
    // As in Python's dictionaries, the last one counts.
    let mut found = pairs.filter(|(name, _)| name.trim_matches(is_blank) == key);
    filled(bare(found.next_back()?.1, false))
}

fn readable(value: &Value) -> Option<&str> {
    value.flaw.is_none().then_some(value.text.as_str())
}

fn filled(text: &str) -> Option<String> {
    let text = text.trim_matches(is_blank);
    (!text.is_empty()).then(|| text.to_owned())
}

/// A text without quotes around it and a comment behind it.
fn bare(text: &str, is_secret: bool) -> &str {
    let text = text.trim_matches(is_blank);
    for quote in ['"', '\''] {
        let parts = text
            .strip_prefix(quote)
            .and_then(|rest| rest.split_once(quote));
        if let Some((inside, behind)) = parts {
            let behind = behind.trim_start_matches(is_blank);
            if behind.is_empty() || behind.starts_with(COMMENT) {
                return inside;
            }
        }
    }
    let mut before = Some(' ');
    for (at, c) in text.char_indices() {
        let is_after_blank = before.is_some_and(is_blank);
        let next = text[at + c.len_utf8()..].chars().next();
        let is_marked = !is_secret && at > 0 || next.is_none_or(is_blank);
        if COMMENT.contains(&c) && is_after_blank && is_marked {
            return &text[..at];
        }
        before = Some(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments_are_taken_off_where_they_cannot_be_meant() {
        for (text, plain, secret) in [
            ("abc", "abc", "abc"),
            ("abc # mine", "abc", "abc"),
            ("abc\t; mine", "abc", "abc"),
            ("abc #mine", "abc", "abc #mine"),
            ("abc#mine;x", "abc#mine;x", "abc#mine;x"),
            ("\"abc\"", "abc", "abc"),
            ("'a # b' # mine", "a # b", "a # b"),
            ("\"a\" \"b\"", "\"a\" \"b\"", "\"a\" \"b\""),
            ("\"a", "\"a", "\"a"),
            ("#", "", ""),
            ("# mine", "", ""),
            ("#mine", "#mine", "#mine"),
        ] {
            assert_eq!(bare(text, false).trim(), plain, "{text}");
            assert_eq!(bare(text, true).trim(), secret, "{text}");
        }
    }
}
