//! How a store spells names in a listing that was asked for with `encoding-type=url`.
//!
//! AWS writes a space as `+` and everything else that is special as `%XX`
//! (docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html). Swift writes `%20`, Garage
//! `%2F` for a slash, SeaweedFS `%20` in directories and `+` in the last name; s3s-fs 0.14.1 says
//! `EncodingType=url` and encodes nothing, others overlook the parameter. So neither the echo
//! nor the look of a text tells whether `a%2Bb` is `a+b`: the store is asked for the names that
//! it may be, and the one whose listing has that very text is the one.

use percent_encoding::percent_decode;

/// What is known of the spelling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spelling {
    /// Whether `%XX` is a byte; `None` until that is known.
    percent: Option<bool>,
    /// Whether `+` is a space; `None` until that is known.
    plus: Option<bool>,
}

impl Spelling {
    /// Names as they are.
    pub(super) const PLAIN: Self = Self {
        percent: Some(false),
        plus: Some(false),
    };

    /// As AWS has it.
    pub(super) const AWS: Self = Self {
        percent: Some(true),
        plus: Some(true),
    };

    /// RFC 3986: a space is `%20`.
    const RFC_3986: Self = Self {
        percent: Some(true),
        plus: Some(false),
    };

    /// Whether a text can be read in more than one way.
    pub(super) fn is_doubtful(&self, text: &[u8]) -> bool {
        let needs_percent = self.percent.is_none() && has_escape(text);
        needs_percent || (self.plus.is_none() && text.contains(&b'+'))
    }

    /// Whether characters that XML cannot hold can be told from those that a store has put in
    /// their place.
    pub(super) fn is_encoded(&self) -> bool {
        self.percent == Some(true)
    }

    /// The ways in which a text may be meant, those with another name for it. They are to be tried
    /// in this order: `%25` as it is also begins like `%`, which it would be otherwise.
    pub(super) fn readings(&self, text: &[u8]) -> Vec<Self> {
        let mut readings: Vec<Self> = Vec::new();
        for reading in [Self::PLAIN, Self::RFC_3986, Self::AWS] {
            let is_possible = |known: Option<bool>, here| known.is_none_or(|known| known == here);
            let fits = is_possible(self.percent, reading.percent == Some(true))
                && is_possible(self.plus, reading.plus == Some(true));
            let is_new = |other: &Self| other.read(text) != reading.read(text);
            if fits && readings.iter().all(is_new) {
                readings.push(reading);
            }
        }
        readings
    }

    /// A text was found to be meant like this: remembers what that says about others.
    pub(super) fn learn(&mut self, text: &[u8], reading: Self) {
        if has_escape(text) || reading.plus == Some(true) {
            self.percent = reading.percent;
        }
        if text.contains(&b'+') || self.percent == Some(false) {
            self.plus = reading.plus;
        }
    }

    /// The name that is spelled like this. What is not known counts as plain.
    pub(super) fn read(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        if self.plus == Some(true) {
            text.iter_mut()
                .filter(|byte| **byte == b'+')
                .for_each(|byte| *byte = b' ');
        }
        match self.percent {
            Some(true) => percent_decode(&text).collect(),
            _ => text,
        }
    }
}

/// Whether a text has a `%` with two hexadecimal digits.
fn has_escape(text: &[u8]) -> bool {
    text.windows(3).any(|three| {
        three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that spells like this, with these keys: learns from a text as the gate does.
    fn learn(known: &mut Spelling, text: &str, store: impl Fn(&str) -> String, keys: &[&str]) {
        for reading in known.readings(text.as_bytes()) {
            let name = String::from_utf8(reading.read(text.as_bytes())).unwrap();
            if keys.iter().any(|key| *key == name && store(key) == text) {
                known.learn(text.as_bytes(), reading);
                return;
            }
        }
    }

    fn percent(text: &str) -> String {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn what_has_no_escape_is_never_in_doubt() {
        let unknown = Spelling::default();
        for text in ["a", "a b", "100%", "a%zz", "%4", "ü", "a/b", "~*'()"] {
            assert!(!unknown.is_doubtful(text.as_bytes()), "{text}");
            assert_eq!(unknown.read(text.as_bytes()), text.as_bytes());
        }
        for text in ["a+b", "%41", "a%2Bb", "%ff"] {
            assert!(unknown.is_doubtful(text.as_bytes()), "{text}");
            assert!(!Spelling::AWS.is_doubtful(text.as_bytes()));
        }
    }

    #[test]
    fn every_way_to_spell_is_learned_from_any_key() {
        let keys = [
            "a+b", "a b", "a+b c", "%41", "a%2Bb", "100%25", "ü", "a\u{1}", "A", "a%2520b", "%25",
        ];
        let plain: fn(&str) -> String = str::to_owned;
        let aws: fn(&str) -> String = |key| percent(key).replace("%20", "+");
        let leaves_plus: fn(&str) -> String = |key| percent(key).replace("%2B", "+");
        for (store, name) in [
            (plain, "plain"),
            (percent, "RFC 3986"),
            (aws, "AWS"),
            (leaves_plus, "plus as it is"),
        ] {
            for first in keys {
                for second in keys {
                    let mut known = Spelling::default();
                    for key in [first, second] {
                        let text = store(key);
                        if known.is_doubtful(text.as_bytes()) {
                            learn(&mut known, &text, store, &keys);
                        }
                        let read = known.read(text.as_bytes());
                        assert_eq!(read, key.as_bytes(), "{name}: {first} {second} {known:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_plus_that_is_a_space_is_no_plus_beside_other_escapes() {
        // SeaweedFS: `%20` in directories, `+` in the last name.
        let mut known = Spelling::default();
        let store = |key: &str| match key {
            "a b/c d" => "a%20b/c+d".to_owned(),
            other => percent(other),
        };
        learn(&mut known, "a%20b/c+d", store, &["a b/c d", "a"]);
        assert_eq!(known, Spelling::AWS);
    }

    #[test]
    fn one_that_nobody_knows_teaches_nothing() {
        let mut known = Spelling::default();
        learn(&mut known, "a%20b+", percent, &[]);
        assert_eq!(known, Spelling::default());
    }
}
