//! The document of a listing, as the store has written it.
//!
//! The SDK's own reader takes a document that breaks off for a short one, and refuses characters
//! that XML 1.0 cannot hold, which keys may have. This one is strict about the first and lenient
//! about the second: Garage, ministack and s3s-fs write control characters as they are, and AWS
//! writes `&#x1;` unless it is asked for `encoding-type=url`.

use std::collections::HashSet;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

use super::Flaw;

/// How deep elements may be nested: those that are read are three deep.
const DEEPEST: usize = 16;

/// A text of the document without its escapes: UTF-8, if the store keeps to the rules.
pub(super) type Text = Vec<u8>;

/// What a listing says of one object. What it leaves out is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: Text,
    /// In bytes.
    pub(super) size: Option<i64>,
    pub(super) etag: Option<String>,
    pub(super) modified: Option<DateTime>,
}

/// A whole answer to ListObjects or ListObjectsV2. What it leaves out is `None` or empty.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) contents: Vec<Line>,
    /// Of `CommonPrefixes`.
    pub(super) prefixes: Vec<Text>,
    pub(super) is_truncated: Option<bool>,
    pub(super) next_token: Option<String>,
    pub(super) next_marker: Option<Text>,
    pub(super) key_count: Option<usize>,
    /// `EncodingType` is `url`, which does not mean that it is done.
    pub(super) claims_encoding: bool,
    /// It has something that only an answer to ListObjectsV2 has.
    pub(super) is_v2: bool,
    /// It repeats something of the question: nobody has answered another one, or none.
    pub(super) repeats_question: bool,
}

impl Document {
    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.contents.len() + self.prefixes.len()
    }

    /// Reads a body.
    ///
    /// # Errors
    ///
    /// A document that is not whole, is another one, or contradicts itself.
    pub(super) fn read(body: &[u8]) -> Result<Self, Flaw> {
        let mut reading = Reading::default();
        let mut reader = Reader::from_reader(body);
        loop {
            let event = reader.read_event().map_err(|error| {
                Flaw::Broken(format!("{error}, at byte {}", reader.error_position()))
            })?;
            match event {
                Event::Start(tag) => reading.open(tag.local_name().as_ref())?,
                Event::Empty(tag) => {
                    reading.open(tag.local_name().as_ref())?;
                    reading.close()?;
                }
                Event::End(_) => reading.close()?,
                Event::Text(text) => reading.text.extend_from_slice(&text),
                Event::CData(text) => reading.text.extend_from_slice(&text),
                Event::GeneralRef(reference) => resolve(&reference, &mut reading.text)?,
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
                Event::Eof => break,
            }
        }
        match reading.path.last() {
            None if reading.is_error => Err(Flaw::Error(reading.code)),
            None if reading.is_over => reading.document.checked(),
            None => Err(Flaw::Broken("it is empty".to_owned())),
            Some(open) => Err(Flaw::Broken(format!("it ends inside of <{open}>"))),
        }
    }

    fn checked(self) -> Result<Self, Flaw> {
        let has_empty = self.contents.iter().any(|line| line.key.is_empty())
            || self.prefixes.iter().any(Vec::is_empty);
        if has_empty {
            return Err(Flaw::Broken("an entry has no name".to_owned()));
        }
        let says_nothing = self.is_truncated.is_none()
            && self.key_count.is_none()
            && !self.repeats_question
            && self.len() == 0;
        if says_nothing {
            return Err(Flaw::Silent);
        }
        let distinct: HashSet<&Text> = self.contents.iter().map(|line| &line.key).collect();
        // Once more is an oversight, for which there are stores; the same for ever is none.
        if self.contents.len() > 2 * distinct.len() {
            return Err(Flaw::Repeats {
                told: self.contents.len(),
                distinct: distinct.len(),
            });
        }
        match self.key_count {
            // AWS counts both, SeaweedFS 2 and Versity Gateway before 2026 the objects alone.
            Some(count) if count != self.len() && count != self.contents.len() => {
                Err(Flaw::Count {
                    announced: count,
                    told: self.len(),
                })
            }
            _ => Ok(self),
        }
    }
}

/// A document that is being read.
#[derive(Debug, Default)]
struct Reading {
    document: Document,
    /// The elements that are open, by their names without namespaces.
    path: Vec<String>,
    /// The text since the last tag.
    text: Text,
    line: Line,
    /// How many prefixes there were when this `CommonPrefixes` began.
    before: usize,
    /// The root was closed.
    is_over: bool,
    /// It is an error, which some stores and proxies send after a status of 200.
    is_error: bool,
    code: String,
}

impl Reading {
    fn open(&mut self, name: &[u8]) -> Result<(), Flaw> {
        let name = String::from_utf8_lossy(name).into_owned();
        if self.path.len() >= DEEPEST {
            return Err(Flaw::Broken("its elements are nested too deep".to_owned()));
        }
        if self.path.is_empty() {
            match name.as_str() {
                _ if self.is_over => {
                    return Err(Flaw::Broken("a second document follows".to_owned()));
                }
                "ListBucketResult" => {}
                "Error" => self.is_error = true,
                _ => return Err(Flaw::Other(name)),
            }
        }
        if self.path.len() == 1 {
            self.line = Line::default();
            self.before = self.document.prefixes.len();
        }
        self.text.clear();
        self.path.push(name);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Flaw> {
        let text = std::mem::take(&mut self.text);
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let document = &mut self.document;
        match path.as_slice() {
            [_, "Contents", "Key"] => self.line.key = text,
            [_, "Contents", "Size"] => self.line.size = value(&text).parse().ok(),
            [_, "Contents", "ETag"] => {
                self.line.etag = Some(value(&text)).filter(|tag| !tag.is_empty());
            }
            [_, "Contents", "LastModified"] => self.line.modified = moment(&value(&text)),
            [_, "Contents"] => document.contents.push(std::mem::take(&mut self.line)),
            [_, "CommonPrefixes", "Prefix"] => document.prefixes.push(text),
            [_, "CommonPrefixes"] if document.prefixes.len() == self.before => {
                document.prefixes.push(Text::new());
            }
            ["Error", "Code"] => self.code = value(&text),
            [_, "IsTruncated"] => {
                document.is_truncated = match value(&text).to_ascii_lowercase().as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => None,
                };
            }
            [_, "NextContinuationToken"] => {
                document.is_v2 = true;
                document.next_token = Some(value(&text)).filter(|token| !token.is_empty());
            }
            [_, "NextMarker"] => document.next_marker = Some(text).filter(|t| !t.is_empty()),
            [_, "KeyCount"] => {
                document.is_v2 = true;
                document.key_count = value(&text).parse().ok();
            }
            [_, "ContinuationToken" | "StartAfter"] => document.is_v2 = true,
            [_, "EncodingType"] => {
                document.claims_encoding = value(&text).eq_ignore_ascii_case("url");
            }
            [_, "Name" | "Prefix" | "MaxKeys" | "Delimiter" | "Marker"] => {
                document.repeats_question = true;
            }
            _ => {}
        }
        self.path.pop();
        self.is_over = self.path.is_empty();
        Ok(())
    }
}

/// A value that is no name: without the space that a store may put around it.
fn value(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().to_owned()
}

/// ISO 8601, as AWS has it, or as HTTP has it; anything else is no time.
fn moment(text: &str) -> Option<DateTime> {
    DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset)
        .or_else(|_| DateTime::from_str(text, DateTimeFormat::HttpDate))
        .ok()
}

/// Appends what a reference stands for. One to something that is no character makes the name
/// that it is in unreadable, and leaves the others alone.
fn resolve(reference: &BytesRef<'_>, text: &mut Text) -> Result<(), Flaw> {
    let name: &[u8] = reference;
    let character = match name {
        b"lt" => '<',
        b"gt" => '>',
        b"amp" => '&',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', ..] => match reference.resolve_char_ref() {
            Ok(Some(character)) => character,
            _ => {
                text.push(NO_TEXT);
                return Ok(());
            }
        },
        other => {
            let name = String::from_utf8_lossy(other);
            return Err(Flaw::Broken(format!("it has &{name}; which is nothing")));
        }
    };
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(())
}

/// A byte that no UTF-8 has.
const NO_TEXT: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(inside: &str) -> Result<Document, Flaw> {
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inside}</ListBucketResult>"
        );
        Document::read(xml.as_bytes())
    }

    fn keys(document: &Document) -> Vec<String> {
        let text = |line: &Line| String::from_utf8(line.key.clone()).unwrap();
        document.contents.iter().map(text).collect()
    }

    #[test]
    fn an_answer_of_aws_is_read_whole() {
        let document = listing(
            "<Name>b</Name><Prefix>p/</Prefix><NextContinuationToken>1a==\
             </NextContinuationToken><KeyCount>3</KeyCount><MaxKeys>3</MaxKeys><Delimiter>/\
             </Delimiter><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
             <Contents><Key>p/a&amp;b</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>\
             <ETag>&quot;e&quot;</ETag><Size>7</Size><Owner><ID>x</ID></Owner>\
             <StorageClass>STANDARD</StorageClass></Contents><Contents><Key>p/ c </Key>\
             </Contents><CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes>",
        )
        .unwrap();
        assert_eq!(keys(&document), ["p/a&b", "p/ c "]);
        let told = &document.contents[0];
        assert_eq!(told.size, Some(7));
        assert_eq!(told.etag.as_deref(), Some("\"e\""));
        assert_eq!(told.modified.unwrap().secs(), 1_767_323_045);
        let bare = &document.contents[1];
        assert_eq!((bare.size, bare.modified), (None, None));
        assert_eq!(bare.etag, None);
        assert_eq!(document.prefixes, [b"p/d/"]);
        assert_eq!(document.next_token.as_deref(), Some("1a=="));
        assert_eq!(document.is_truncated, Some(true));
        assert!(document.claims_encoding && document.is_v2);
    }

    #[test]
    fn what_breaks_off_is_no_listing_wherever_it_does() {
        let whole = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a&#x62;c\
                     </Key></Contents><Contents><Key>d</Key></Contents></ListBucketResult>";
        assert_eq!(Document::read(whole.as_bytes()).unwrap().len(), 2);
        for end in 0..whole.len() {
            let cut = Document::read(&whole.as_bytes()[..end]);
            assert!(cut.is_err(), "{}", &whole[..end]);
        }
    }

    #[test]
    fn another_document_is_no_listing() {
        for other in [
            "<Foo><Contents><Key>a</Key></Contents></Foo>",
            "<html><body>Login</body></html>",
            "<Error><Code>InternalError</Code></Error>",
            "<ListBucketResult/>",
            "<ListBucketResult></ListBucketResult>",
            "<ListBucketResult><EncodingType>url</EncodingType></ListBucketResult>",
            "<ListBucketResult><Name>b</Name></ListBucketResult><ListBucketResult/>",
            "{}",
            "   ",
            "",
        ] {
            assert!(Document::read(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn an_empty_listing_is_believed_if_it_says_that_it_is_one() {
        for inside in [
            "<IsTruncated>false</IsTruncated>",
            "<KeyCount>0</KeyCount>",
            "<Name>b</Name><Prefix/>",
        ] {
            assert_eq!(listing(inside).unwrap().len(), 0, "{inside}");
        }
    }

    #[test]
    fn a_count_that_is_not_that_of_the_entries_is_a_contradiction() {
        let entries = "<Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents>\
                       <CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>";
        for (count, is_right) in [(0, false), (1, false), (2, true), (3, true), (4, false)] {
            let told = listing(&format!("<KeyCount>{count}</KeyCount>{entries}"));
            assert_eq!(told.is_ok(), is_right, "{count}");
        }
    }

    #[test]
    fn characters_that_xml_cannot_hold_are_read_however_they_are_written() {
        let key = "a\u{1}b\u{b}\u{1f}\u{7f}\u{fffe}\u{ffff}\r\n\t";
        let as_references: String = key
            .chars()
            .map(|c| format!("&#x{:x};", u32::from(c)))
            .collect();
        for written in [key, &as_references] {
            let document = listing(&format!("<Contents><Key>{written}</Key></Contents>")).unwrap();
            assert_eq!(keys(&document), [key]);
        }
    }

    #[test]
    fn a_name_that_is_no_text_leaves_the_others_readable() {
        let document =
            listing("<Contents><Key>a&#xD800;</Key></Contents><Contents><Key>b</Key></Contents>")
                .unwrap();
        assert!(String::from_utf8(document.contents[0].key.clone()).is_err());
        assert_eq!(document.contents[1].key, b"b");
    }

    #[test]
    fn the_same_name_for_ever_is_no_listing() {
        let entry = "<Contents><Key>a</Key></Contents>";
        assert_eq!(listing(&entry.repeat(2)).unwrap().len(), 2);
        assert!(listing(&entry.repeat(3)).is_err());
    }

    #[test]
    fn entries_without_names_are_no_entries() {
        for inside in [
            "<Contents><Size>1</Size></Contents>",
            "<Contents><Key/></Contents>",
            "<CommonPrefixes/>",
            "<CommonPrefixes><Prefix></Prefix></CommonPrefixes>",
        ] {
            assert!(listing(inside).is_err(), "{inside}");
        }
    }
}
