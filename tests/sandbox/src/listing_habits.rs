//! How other stores spell, cut and page their listings.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::habits::{Habit, Habits};

/// What `encoding-type=url` leaves as it is at AWS. A space becomes `+`.
const AWS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b' ');

/// What RFC 3986 calls unreserved, and the slash.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Names as AWS encodes them.
pub(crate) fn encode(name: &str) -> String {
    utf8_percent_encode(name, AWS).to_string().replace(' ', "+")
}

fn percent(name: &str) -> String {
    utf8_percent_encode(name, UNRESERVED).to_string()
}

impl Habits {
    /// A key in a listing that was asked for with `encoding-type=url`.
    pub(crate) fn spell_key(&self, name: &str) -> String {
        if self.has(Habit::ListEchoesEncodingOnly) || self.has(Habit::ListOverlooksEncoding) {
            name.to_owned()
        } else if self.has(Habit::ListEncodesSlashes) {
            percent(name).replace('/', "%2F")
        } else if self.has(Habit::ListEncodesSpacesAsPercent20) {
            percent(name)
        } else if self.has(Habit::ListLeavesPlus) {
            percent(name).replace("%2B", "+")
        } else if self.has(Habit::ListMixesSpaces) {
            let (directory, last) = match name.trim_end_matches('/').rfind('/') {
                Some(slash) => name.split_at(slash + 1),
                None => ("", name),
            };
            percent(directory) + &encode(last)
        } else {
            encode(name)
        }
    }

    /// A common prefix in a listing that was asked for with `encoding-type=url`.
    pub(crate) fn spell_prefix(&self, name: &str) -> String {
        match self.has(Habit::ListEncodesKeysOnly) {
            true => name.to_owned(),
            false => self.spell_key(name),
        }
    }

    /// A document of S3, in which AWS writes what XML 1.0 cannot hold as references: a listing that
    /// was not asked for with `encoding-type=url` has `&#x1;`, which most parsers refuse (minio-py's
    /// issue 716 shows one).
    pub(crate) fn write_characters(&self, document: Bytes) -> Bytes {
        let Ok(text) = std::str::from_utf8(&document) else {
            return document;
        };
        if !text.contains(is_unfit) || self.has(Habit::ControlsAsTheyAre) {
            return document;
        }
        let is_replaced = self.has(Habit::ControlsReplaced);
        let mut written = String::with_capacity(text.len() + 64);
        for character in text.chars() {
            match is_unfit(character) {
                true if is_replaced => written.push('\u{fffd}'),
                true => written.push_str(&format!("&#x{:x};", u32::from(character))),
                false => written.push(character),
            }
        }
        written.into()
    }

    /// The whole document of a listing, as it goes out.
    pub(crate) fn change_listing(&self, document: Bytes) -> Bytes {
        if self.has(Habit::ListCutShort) {
            return document.slice(..document.len() / 2);
        }
        for (habit, instead) in [
            (Habit::ListEmptied, "<ListBucketResult/>"),
            (
                Habit::ListIsAPage,
                "<html><head><title>Sign in</title></head><body></body></html>",
            ),
        ] {
            if self.has(habit) {
                return Bytes::from_static(instead.as_bytes());
            }
        }
        document
    }
}

/// Whether XML 1.0 cannot hold a character: www.w3.org/TR/xml/#charsets.
fn is_unfit(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}
