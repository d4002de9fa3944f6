//! One page of a listing, in time proportional to the page.

use std::ops::Bound;
use std::sync::Arc;

use crate::store::{Object, Objects};

/// What to list.
#[derive(Clone, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) prefix: &'a str,
    /// Empty for none.
    pub(crate) delimiter: &'a str,
    pub(crate) after: After,
    /// Keys and common prefixes together.
    pub(crate) limit: usize,
}

/// Where a page starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Nothing,
    /// Behind this key.
    Key(String),
    /// Behind every key that starts with this.
    Prefix(String),
}

/// An element of a page.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Key(String, Arc<Object>),
    CommonPrefix(String),
}

/// A page.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Where the next page starts, if there is one.
    pub(crate) next: Option<After>,
}

/// Lists a page. A common prefix costs one seek, however many keys are behind it.
pub(crate) fn page(objects: &Objects, query: &Query<'_>) -> Page {
    let mut entries = Vec::new();
    if query.limit == 0 {
        return Page {
            entries,
            next: None,
        };
    }
    let mut range = match start(query) {
        Some(start) => objects.range::<String, _>((start, Bound::Unbounded)),
        None => {
            return Page {
                entries,
                next: None,
            };
        }
    };
    let mut last = After::Nothing;
    while let Some((key, object)) = range.next() {
        let Some(rest) = key.strip_prefix(query.prefix) else {
            break;
        };
        if entries.len() == query.limit {
            return Page {
                entries,
                next: Some(last),
            };
        }
        let split = if query.delimiter.is_empty() {
            None
        } else {
            rest.find(query.delimiter)
        };
        match split {
            None => {
                last = After::Key(key.clone());
                entries.push(Entry::Key(key.clone(), object.clone()));
            }
            Some(at) => {
                let common = &key[..query.prefix.len() + at + query.delimiter.len()];
                last = After::Prefix(common.to_owned());
                entries.push(Entry::CommonPrefix(common.to_owned()));
                match first_beyond(common) {
                    Some(beyond) => {
                        range =
                            objects.range::<String, _>((Bound::Included(beyond), Bound::Unbounded))
                    }
                    None => break,
                }
            }
        }
    }
    Page {
        entries,
        next: None,
    }
}

/// The first key that can be in the page; `None` when none can.
fn start(query: &Query<'_>) -> Option<Bound<String>> {
    let by_prefix = Bound::Included(query.prefix.to_owned());
    let by_after = match &query.after {
        After::Nothing => return Some(by_prefix),
        After::Key(key) if key.as_str() < query.prefix => return Some(by_prefix),
        After::Key(key) => Bound::Excluded(key.clone()),
        After::Prefix(prefix) => {
            let beyond = first_beyond(prefix)?;
            if beyond.as_str() < query.prefix {
                return Some(by_prefix);
            }
            Bound::Included(beyond)
        }
    };
    Some(by_after)
}

/// The smallest text greater than every text that starts with `prefix`; `None` when there is none.
fn first_beyond(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The order of UTF-8 bytes is the order of code points; surrogates are not characters.
        let next = match u32::from(last) + 1 {
            0xD800 => Some('\u{E000}'),
            next => char::from_u32(next),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::{Instant, UNIX_EPOCH};

    fn objects<'a>(keys: impl IntoIterator<Item = &'a str>) -> Objects {
        let object = Arc::new(Object::new(Bytes::new(), UNIX_EPOCH));
        keys.into_iter()
            .map(|key| (key.to_owned(), object.clone()))
            .collect()
    }

    fn names(page: &Page) -> Vec<String> {
        let name = |entry: &Entry| match entry {
            Entry::Key(key, _) => key.clone(),
            Entry::CommonPrefix(prefix) => format!("{prefix}..."),
        };
        page.entries.iter().map(name).collect()
    }

    fn all(objects: &Objects, prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
        let mut after = After::Nothing;
        let mut found = Vec::new();
        loop {
            let page = page(
                objects,
                &Query {
                    prefix,
                    delimiter,
                    after,
                    limit,
                },
            );
            assert!(page.entries.len() <= limit);
            found.extend(names(&page));
            match page.next {
                Some(next) => after = next,
                None => return found,
            }
        }
    }

    #[test]
    fn markers_and_files_beside_directories() {
        let objects = objects([
            "a",
            "a/",
            "a/b",
            "a0",
            "dir/",
            "dir/x/y",
            "é/z",
            "zz/\u{10FFFF}/k",
            "\u{D7FF}/q",
        ]);
        for limit in 1..10 {
            let root = all(&objects, "", "/", limit);
            assert_eq!(
                root,
                [
                    "a",
                    "a/...",
                    "a0",
                    "dir/...",
                    "zz/...",
                    "é/...",
                    "\u{D7FF}/..."
                ]
            );
            assert_eq!(all(&objects, "a/", "/", limit), ["a/", "a/b"]);
            assert_eq!(all(&objects, "a", "/", limit), ["a", "a/...", "a0"]);
            assert_eq!(all(&objects, "dir/", "/", limit), ["dir/", "dir/x/..."]);
            assert_eq!(all(&objects, "", "", limit).len(), objects.len());
            assert_eq!(all(&objects, "nothing", "/", limit), Vec::<String>::new());
        }
    }

    #[test]
    fn start_after_is_exclusive_and_may_be_inside_a_common_prefix() {
        let objects = objects(["a", "d/1", "d/2", "e"]);
        let after = |key: &str| {
            let after = After::Key(key.into());
            names(&page(
                &objects,
                &Query {
                    prefix: "",
                    delimiter: "/",
                    after,
                    limit: 10,
                },
            ))
        };
        assert_eq!(after("a"), ["d/...", "e"]);
        assert_eq!(after("d/1"), ["d/...", "e"]);
        assert_eq!(after("d/2"), ["e"]);
        assert_eq!(after("e"), Vec::<String>::new());
        assert_eq!(after("0"), ["a", "d/...", "e"]);
    }

    #[test]
    fn nothing_is_beyond_the_last_character() {
        assert_eq!(first_beyond("a/"), Some("a0".into()));
        assert_eq!(first_beyond("a\u{10FFFF}"), Some("b".into()));
        assert_eq!(first_beyond("\u{10FFFF}"), None);
        assert_eq!(first_beyond(""), None);
    }

    #[test]
    fn a_large_subtree_is_skipped() {
        let object = Arc::new(Object::new(Bytes::new(), UNIX_EPOCH));
        let mut objects: Objects = (0..100_000)
            .map(|n| (format!("d/f{n:06}"), object.clone()))
            .collect();
        objects.insert("e".into(), object);
        let begin = Instant::now();
        for _ in 0..1000 {
            assert_eq!(all(&objects, "", "/", 1000), ["d/...", "e"]);
        }
        // Walking the subtree would take minutes in all; the seek takes microseconds each.
        assert!(begin.elapsed().as_secs() < 5);
        assert_eq!(all(&objects, "d/", "/", 1000).len(), 100_000);
    }
}
