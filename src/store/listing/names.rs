//! The names of a page: what is meant by their spelling, and which of them are directories.

use super::dialect::Field;
use super::document::{Document, Line};
use super::request::Place;
use super::sequence::Sequence;
use super::spelling::Spelling;
use super::{Cursor, Flaw, Listed};
use crate::store::failure::Failure;
use crate::store::s3::S3;
use crate::store::told::Told;
use crate::store::{Page, Query};

/// How many names of a page are looked up because they may stand for others.
const LOOKED_UP: u32 = 32;

/// What stands where a store could not write a character: Go's XML, for one.
const REPLACEMENT: char = '\u{fffd}';

/// A page whose names are read.
pub(super) struct Named {
    pub(super) keys: Vec<(String, Told)>,
    pub(super) prefixes: Vec<String>,
    unreadable: Vec<String>,
}

impl S3 {
    pub(super) async fn read_names(
        &self,
        query: &Query,
        document: &Document,
    ) -> Result<Named, Failure> {
        let mut named = Named {
            keys: Vec::with_capacity(document.contents.len()),
            prefixes: Vec::with_capacity(document.prefixes.len()),
            unreadable: Vec::new(),
        };
        let mut reader = Reader {
            s3: self,
            prefix: &query.prefix,
            claims_encoding: document.claims_encoding,
            lookups: LOOKED_UP,
        };
        for line in &document.contents {
            match reader.name(Field::Key, &line.key).await? {
                Ok(key) => named.keys.push((key, told(line))),
                Err(unreadable) => named.unreadable.push(unreadable),
            }
        }
        for prefix in &document.prefixes {
            match reader.name(Field::CommonPrefix, prefix).await? {
                Ok(prefix) => named.prefixes.push(prefix),
                Err(unreadable) => named.unreadable.push(unreadable),
            }
        }
        Ok(named)
    }

    /// Whether a name is listed with this very text.
    async fn is_spelled(&self, field: Field, name: &str, text: &[u8]) -> Result<bool, Failure> {
        let (prefix, folded, limit) = match field {
            // A key sorts before everything that it is a prefix of.
            Field::Key => (name, false, Some(1)),
            Field::CommonPrefix => (name.strip_suffix('/').unwrap_or(name), true, None),
        };
        let query = Query {
            prefix: prefix.to_owned(),
            folded,
            limit,
            after: None,
        };
        let document = self.document(&query.ask(Place::Beginning)).await?;
        Ok(match field {
            Field::Key => document.contents.iter().any(|line| line.key == text),
            Field::CommonPrefix => document.prefixes.iter().any(|prefix| prefix == text),
        })
    }
}

/// Reads the names of one page.
struct Reader<'a> {
    s3: &'a S3,
    prefix: &'a str,
    claims_encoding: bool,
    /// How many names may still be looked up.
    lookups: u32,
}

impl Reader<'_> {
    /// The name that is meant by a text; `Err` with something to show for one that no file can
    /// have, or that stands for another one.
    async fn name(&mut self, field: Field, text: &[u8]) -> Result<Result<String, String>, Failure> {
        let mut spelling = self.s3.dialect.spelling(field);
        if spelling.is_doubtful(text) {
            spelling = self.find_out(field, spelling, text).await;
        }
        let name = match String::from_utf8(spelling.read(text)) {
            Ok(name) => name,
            Err(error) => return Ok(Err(String::from_utf8_lossy(error.as_bytes()).into_owned())),
        };
        if !name.starts_with(self.prefix) {
            let query = Query {
                prefix: self.prefix.to_owned(),
                ..Query::default()
            };
            return Err(self.s3.flawed(&query, &Flaw::Outside(name)));
        }
        let may_stand_for_another = name.contains(REPLACEMENT) && !spelling.is_encoded();
        if may_stand_for_another && self.lookups > 0 {
            self.lookups -= 1;
            if let Ok(false) = self.s3.is_spelled(field, &name, text).await {
                return Ok(Err(name));
            }
        }
        Ok(Ok(name))
    }

    /// Finds out how a text is meant, by asking for what it may mean.
    async fn find_out(&mut self, field: Field, known: Spelling, text: &[u8]) -> Spelling {
        for reading in known.readings(text) {
            let name = String::from_utf8(reading.read(text)).ok();
            let Some(name) = name.filter(|name| name.starts_with(self.prefix)) else {
                continue;
            };
            if self.lookups == 0 {
                break;
            }
            self.lookups -= 1;
            match self.s3.is_spelled(field, &name, text).await {
                Ok(true) => {
                    self.s3.dialect.learn(field, text, reading);
                    return self.s3.dialect.spelling(field);
                }
                Ok(false) => {}
                Err(failure) => {
                    tracing::debug!("how names are spelled cannot be found out: {failure}");
                    self.lookups = 0;
                }
            }
        }
        // It is gone by now, or may not be asked for: the store's word is all there is.
        match self.claims_encoding {
            true => Spelling::AWS,
            false => Spelling::PLAIN,
        }
    }
}

/// What a listing says of an object.
fn told(line: &Line) -> Told {
    Told::new(line.size, line.modified, line.etag.as_deref(), None)
}

impl Named {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty()
    }

    /// Folds what a store has left unfolded, sorts, and leaves out what was said twice.
    pub(super) fn into_page(self, query: &Query, next: Option<Cursor>) -> Page<Listed> {
        let fold = |key: &str| {
            let rest = key.strip_prefix(&*query.prefix)?;
            let slash = rest.find('/').filter(|_| query.folded)?;
            Some(key[..=query.prefix.len() + slash].to_owned())
        };
        // A directory whose keys go on on this page was told on the one before.
        let before = query.after.as_ref().map(|cursor| &cursor.sequence);
        let told: Vec<String> = before
            .into_iter()
            .flat_map(Sequence::ends)
            .filter_map(fold)
            .collect();
        let mut entries = Vec::with_capacity(self.keys.len() + self.prefixes.len());
        for prefix in self.prefixes {
            // Without the slash it is a directory all the same.
            let directory = fold(&prefix).unwrap_or(match prefix.ends_with('/') {
                true => prefix,
                false => prefix + "/",
            });
            entries.push(Listed::Prefix(directory));
        }
        for (key, told) in self.keys {
            entries.push(match fold(&key) {
                Some(directory) => Listed::Prefix(directory),
                None => Listed::Object(key, told),
            });
        }
        // Of a directory's own marker and its own prefix, the marker has more to say.
        let order = |a: &Listed, b: &Listed| {
            let by_name = a.key().cmp(b.key());
            by_name.then(a.is_prefix().cmp(&b.is_prefix()))
        };
        entries.sort_by(order);
        let mut contradicts_itself = false;
        entries.dedup_by(|later, first| {
            let is_same = later.key() == first.key();
            contradicts_itself |= is_same && !later.is_prefix();
            is_same
        });
        entries.retain(|entry| !(entry.is_prefix() && told.iter().any(|t| t == entry.key())));
        Page {
            entries,
            is_sure: !contradicts_itself && self.unreadable.is_empty(),
            unreadable: self.unreadable,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(prefix: &str, keys: &[&str], prefixes: &[&str]) -> Page<Listed> {
        let query = Query {
            prefix: prefix.to_owned(),
            folded: true,
            ..Query::default()
        };
        let named = Named {
            keys: keys
                .iter()
                .map(|&key| (key.to_owned(), Told::default()))
                .collect(),
            prefixes: prefixes.iter().map(|&p| p.to_owned()).collect(),
            unreadable: Vec::new(),
        };
        named.into_page(&query, None)
    }

    fn file(key: &str) -> Listed {
        Listed::Object(key.to_owned(), Told::default())
    }

    fn directory(prefix: &str) -> Listed {
        Listed::Prefix(prefix.to_owned())
    }

    #[test]
    fn what_a_store_has_left_unfolded_is_folded() {
        let page = page(
            "p/",
            &["p/", "p/a", "p/b/", "p/c/1", "p/c/2/3"],
            &["p/d/e/", "p/f"],
        );
        let expected = [
            file("p/"),
            file("p/a"),
            directory("p/b/"),
            directory("p/c/"),
            directory("p/d/"),
            directory("p/f/"),
        ];
        assert_eq!(page.entries, expected);
        assert!(page.is_sure, "a directory may be said many times");
    }

    #[test]
    fn a_file_that_is_told_twice_shows_once_and_puts_the_page_in_doubt() {
        let page = page("", &["a", "b", "b"], &["b/", "b/"]);
        assert_eq!(page.entries, [file("a"), file("b"), directory("b/")]);
        assert!(!page.is_sure);
    }

    #[test]
    fn the_marker_of_the_directory_itself_stays_an_object() {
        assert_eq!(page("p/", &["p/"], &["p/"]).entries, [file("p/")]);
        // Without one, its prefix still says that it is there.
        assert_eq!(page("p/", &[], &["p/"]).entries, [directory("p/")]);
    }
}
