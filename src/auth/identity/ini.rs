//! The text of an AWS configuration file: sections, keys, values, and what is wrong with it.
//!
//! What is a section, a key, a comment and a continuation follows Python's
//! `configparser.RawConfigParser`, with which the AWS CLI reads these files (botocore,
//! `configloader.py`). That refuses a whole file for one bad line, for a section or a key that stands
//! twice, for a byte order mark and for a byte that is not UTF-8; here the line is left out, or the last
//! one counts, and a complaint names the line. No complaint quotes a line: it may hold a secret.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// How many lines of one file are complained about; the rest is counted.
const MOST_COMPLAINTS: usize = 8;

/// What is said of a value that cannot be used.
const NOT_UTF8: &str = "is not UTF-8: save the file as UTF-8";
const CONTROL: &str = "has a control character in it: write the line anew";

/// A file, read.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// In the order in which their names come first.
    pub(super) sections: Vec<Section>,
    complaints: Vec<(usize, String)>,
    complaints_left_out: usize,
}

/// `[NAME]` and what is below it.
#[derive(Debug)]
pub(super) struct Section {
    /// As it stands between the brackets.
    pub(super) name: String,
    /// By names in lower case.
    pub(super) values: BTreeMap<String, Value>,
}

/// What a key has, with the lines that continue it. Quotes and comments behind it are still there.
pub(super) struct Value {
    pub(super) text: Zeroizing<String>,
    /// The line of the file, from 1.
    pub(super) line: usize,
    /// Why it cannot be used.
    pub(super) flaw: Option<&'static str>,
}

impl fmt::Debug for Value {
    /// Without the text, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of line {}", self.line)
    }
}

impl Document {
    /// Reads a file's bytes.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut reader = Reader::default();
        // Notepad begins UTF-8 with U+FEFF.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            let what = "is UTF-16, and nothing in it is read: save the file as UTF-8";
            reader.complain(1, what.to_owned());
            return reader.document;
        }
        for (number, line) in (1..).zip(lines(bytes)) {
            reader.read(number, line);
        }
        reader.finish()
    }

    /// A document of nothing but a complaint about the whole file.
    pub(super) fn unreadable(why: String) -> Self {
        Self {
            complaints: vec![(0, why)],
            ..Self::default()
        }
    }

    pub(super) fn section(&self, name: &str) -> Option<usize> {
        self.sections.iter().position(|known| known.name == name)
    }

    pub(super) fn complain(&mut self, line: usize, what: String) {
        match self.complaints.len() < MOST_COMPLAINTS {
            true => self.complaints.push((line, what)),
            false => self.complaints_left_out += 1,
        }
    }

    /// What is wrong with the file at this path, a sentence each.
    pub(super) fn complaints(&self, path: &str) -> impl Iterator<Item = String> {
        let each = self.complaints.iter().map(move |(line, what)| match line {
            0 => format!("{path} {what}"),
            line => format!("line {line} of {path} {what}"),
        });
        let more = (self.complaints_left_out > 0).then(|| {
            let more = self.complaints_left_out;
            format!("{path} has {more} more such lines")
        });
        each.chain(more)
    }
}

/// Lines as Python's text mode ends them: by `\n`, `\r\n` or `\r`.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').flat_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.split(|byte| *byte == b'\r')
    })
}

/// What Python's `str.strip` takes off.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Where a line would go that is no section.
#[derive(Default)]
enum Place {
    /// Before the first section.
    #[default]
    Nowhere,
    Section(usize),
    /// Below a line that was to be a section: whose these keys are is not known.
    Lost,
}

/// What a line continues that is indented deeper.
#[derive(Default)]
enum Open {
    #[default]
    Nothing,
    Key(usize, String),
    /// A line that was left out.
    Lost,
}

#[derive(Default)]
struct Reader {
    document: Document,
    place: Place,
    open: Open,
    /// How deep the last line was indented that continued nothing, in characters.
    indent: usize,
}

impl Reader {
    fn complain(&mut self, line: usize, what: String) {
        self.document.complain(line, what);
    }

    fn read(&mut self, number: usize, bytes: &[u8]) {
        let (text, mut flaw) = match std::str::from_utf8(bytes) {
            Ok(text) => (Zeroizing::new(text.to_owned()), None),
            // Latin-1 has a character for every byte: names and comments of old files are that.
            Err(_) => {
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                (Zeroizing::new(text), Some(NOT_UTF8))
            }
        };
        let line = text.trim_matches(is_blank);
        if line.starts_with(['#', ';']) {
            return;
        }
        if line.is_empty() {
            if let Some(value) = self.continued() {
                value.text.push('\n');
            }
            return;
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            flaw = flaw.or(Some(CONTROL));
        }
        let indent = text.chars().take_while(|c| is_blank(*c)).count();
        if indent > self.indent {
            if let Open::Lost = self.open {
                return;
            }
            if let Some(value) = self.continued() {
                value.text.push('\n');
                value.text.push_str(line);
                value.flaw = value.flaw.or(flaw);
                if let Some(flaw) = flaw {
                    self.complain(number, flaw.to_owned());
                }
                return;
            }
        }
        self.indent = indent;
        self.open = Open::Nothing;
        if line.starts_with('[') {
            return self.begin(number, line, flaw);
        }
        self.key(number, line, flaw);
    }

    /// The value that deeper lines belong to.
    fn continued(&mut self) -> Option<&mut Value> {
        let Open::Key(section, key) = &self.open else {
            return None;
        };
        self.document
            .sections
            .get_mut(*section)?
            .values
            .get_mut(key)
    }

    fn begin(&mut self, number: usize, line: &str, flaw: Option<&'static str>) {
        let Some(name) = header(line) else {
            // Its keys must not go to the section before.
            self.place = Place::Lost;
            let what = "begins like a section and is none, which is written [NAME]: what is below \
                        it is left out";
            return self.complain(number, what.to_owned());
        };
        if let Some(flaw) = flaw {
            self.complain(number, flaw.to_owned());
        }
        let known = self.document.section(name);
        if known.is_some() {
            let what = "begins a section that was there before: both are read as one";
            self.complain(number, what.to_owned());
        }
        let index = known.unwrap_or_else(|| {
            self.document.sections.push(Section {
                name: name.to_owned(),
                values: BTreeMap::new(),
            });
            self.document.sections.len() - 1
        });
        self.place = Place::Section(index);
    }

    fn key(&mut self, number: usize, line: &str, flaw: Option<&'static str>) {
        let section = match self.place {
            Place::Section(section) => section,
            Place::Lost => return self.open = Open::Lost,
            Place::Nowhere => {
                self.open = Open::Lost;
                let what = "stands before the first [section], and is left out";
                return self.complain(number, what.to_owned());
            }
        };
        let pair = line.split_once(['=', ':']);
        let Some((key, text)) = pair.filter(|(key, _)| !key.trim_matches(is_blank).is_empty())
        else {
            self.open = Open::Lost;
            let what = "is no section, no comment and no KEY = VALUE, and is left out";
            return self.complain(number, what.to_owned());
        };
        let key = key.trim_matches(is_blank).to_lowercase();
        if let Some(flaw) = flaw {
            self.complain(number, flaw.to_owned());
        }
        let value = Value {
            text: text.trim_matches(is_blank).to_owned().into(),
            line: number,
            flaw,
        };
        let Some(section) = self.document.sections.get_mut(section) else {
            return;
        };
        let before = section.values.insert(key.clone(), value);
        if before.is_some() {
            let shown = crate::words::tame(&key);
            let what = format!("says {shown} once more: the last one counts");
            self.complain(number, what);
        }
        if let Place::Section(index) = self.place {
            self.open = Open::Key(index, key);
        }
    }

    fn finish(mut self) -> Document {
        for section in &mut self.document.sections {
            for value in section.values.values_mut() {
                let length = value.text.trim_end_matches(is_blank).len();
                value.text.truncate(length);
            }
        }
        self.document
    }
}

/// The name in `[NAME]`, which a comment may follow. A bracket may be in it.
fn header(line: &str) -> Option<&str> {
    let inside = line.strip_prefix('[')?;
    let ends = || inside.match_indices(']').map(|(at, _)| at);
    let is_last = |at: &usize| {
        let behind = inside[at + 1..].trim_start_matches(is_blank);
        behind.is_empty() || behind.starts_with(['#', ';'])
    };
    let end = ends().find(is_last).or_else(|| ends().next_back())?;
    let name = inside[..end].trim_matches(is_blank);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(document: &Document, section: &str, key: &str) -> Option<String> {
        let section = &document.sections[document.section(section)?];
        Some(section.values.get(key)?.text.to_string())
    }

    fn complaints(document: &Document) -> Vec<String> {
        document.complaints("F").collect()
    }

    #[test]
    fn no_broken_line_takes_others_along() {
        let text = b"[a]\nk = 1\n[b\nk = 2\nl = 3\n[c]\njunk\n  deeper = 4\nk: 5\n= 6\n[]\nk = 7\n";
        let document = Document::parse(text);
        assert_eq!(value(&document, "a", "k").as_deref(), Some("1"));
        assert_eq!(value(&document, "a", "l"), None, "whose it is is not known");
        assert_eq!(value(&document, "c", "k").as_deref(), Some("5"));
        assert_eq!(value(&document, "c", "deeper"), None);
        let complaints = complaints(&document);
        let lines: Vec<_> = complaints.iter().map(|what| &what[..10]).collect();
        assert_eq!(
            lines,
            [
                "line 3 of ",
                "line 7 of ",
                "line 10 of"[..10].as_ref(),
                "line 11 of"
            ]
        );
    }

    #[test]
    fn what_is_not_text_is_told_by_its_line_and_never_quoted() {
        let text = b"[J\xf6rg]\n# \xfc\nsecret = s3cr\xe9t\nother = s3cret\0\n";
        let document = Document::parse(text);
        let jorg = &document.sections[document.section("Jörg").unwrap()];
        assert_eq!(jorg.values["secret"].flaw, Some(NOT_UTF8));
        assert_eq!(jorg.values["other"].flaw, Some(CONTROL));
        let told = complaints(&document).join("\n");
        assert!(
            told.contains("line 3 of F") && told.contains("line 4 of F"),
            "{told}"
        );
        assert!(
            !told.contains("line 2 of F") && !told.contains("s3cr"),
            "{told}"
        );
        assert!(!format!("{document:?}").contains("s3cr"));
        let wide: Vec<u8> = "[a]".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let wide = Document::parse(&[b"\xff\xfe", &wide[..]].concat());
        assert!(complaints(&wide)[0].contains("UTF-16"), "{wide:?}");
    }

    #[test]
    fn complaints_end() {
        let text = format!("[a]\n{}", "junk\n".repeat(1000));
        let document = Document::parse(text.as_bytes());
        assert_eq!(complaints(&document).len(), MOST_COMPLAINTS + 1);
        assert!(complaints(&document)[MOST_COMPLAINTS].contains("992 more"));
    }

    #[test]
    fn a_header_ends_where_a_comment_begins() {
        assert_eq!(header("[a] # see [1]"), Some("a"));
        assert_eq!(header("[ a]b ];c"), Some("a]b"));
        assert_eq!(header("[a] junk"), Some("a"));
        assert_eq!(header("[a"), None);
        assert_eq!(header("[ ]"), None);
    }
}
