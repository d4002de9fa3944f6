//! A line split into words, as Python's `shlex.split` does it: what the AWS CLI makes of
//! `credential_process` and of the names of sections (botocore, `compat_shell_split`).
//!
//! No shell reads these words: `$`, `;`, `&`, `|` and `#` stand for themselves.

/// Why a line is no list of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordsError {
    #[error("has a quote that nothing closes")]
    Quote,
    #[error("ends with a backslash")]
    Backslash,
}

/// Where the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Word,
    Quoted(char),
    /// Behind a backslash, which stands in a word or in double quotes.
    Escaped {
        quoted: bool,
    },
}

/// Splits a line into words. Quotes are taken off; a backslash escapes what follows, in double quotes
/// only a backslash and a double quote, in single quotes nothing.
pub(crate) fn split(line: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut state = State::Between;
    for c in line.chars() {
        state = match (state, c) {
            (State::Between, ' ' | '\t' | '\r' | '\n') => State::Between,
            (State::Word, ' ' | '\t' | '\r' | '\n') => {
                words.push(std::mem::take(&mut word));
                State::Between
            }
            (State::Between | State::Word, '\\') => State::Escaped { quoted: false },
            (State::Between | State::Word, '"' | '\'') => State::Quoted(c),
            (State::Between | State::Word, _) => {
                word.push(c);
                State::Word
            }
            (State::Quoted(quote), _) if c == quote => State::Word,
            (State::Quoted('"'), '\\') => State::Escaped { quoted: true },
            (State::Quoted(_), _) => {
                word.push(c);
                state
            }
            (State::Escaped { quoted: false }, _) => {
                word.push(c);
                State::Word
            }
            (State::Escaped { quoted: true }, _) => {
                if c != '"' && c != '\\' {
                    word.push('\\');
                }
                word.push(c);
                State::Quoted('"')
            }
        };
    }
    match state {
        State::Between => {}
        State::Word => words.push(word),
        State::Quoted(_) => return Err(WordsError::Quote),
        State::Escaped { .. } => return Err(WordsError::Backslash),
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_python_splits_them() {
        // Each with what Python 3.11's shlex.split returned.
        for (line, words) in [
            ("a  b\tc\n d ", vec!["a", "b", "c", "d"]),
            ("a 'b c' \"d e\"", vec!["a", "b c", "d e"]),
            (r#"a "b\"c\\d\e" 'f\'"#, vec!["a", r#"b"c\d\e"#, r"f\"]),
            (r"a\ b \# \$x", vec!["a b", "#", "$x"]),
            (
                "echo $2 ; rm & # no comment",
                vec!["echo", "$2", ";", "rm", "&", "#", "no", "comment"],
            ),
            ("a '' b", vec!["a", "", "b"]),
            ("a''b", vec!["ab"]),
            ("x'y'\"z\"", vec!["xyz"]),
            ("'it'\"'\"'s'", vec!["it's"]),
            ("'' ", vec![""]),
            ("", vec![]),
            ("\u{a0}a", vec!["\u{a0}a"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        assert_eq!(split("it's"), Err(WordsError::Quote));
        assert_eq!(split("a \"b"), Err(WordsError::Quote));
        assert_eq!(split("a\\"), Err(WordsError::Backslash));
    }
}
