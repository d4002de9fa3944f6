//! The protocol of listings: pages of keys from stores that do it each in its own way.
//!
//! A page is taken in whole or not at all, and a listing is complete or an error: a name that a
//! listing has lost would be a file that is told to be absent, and be left behind when its
//! directory is renamed. So every answer is checked against itself, against what was asked and
//! against the page before, and where a store knows only half of ListObjectsV2, the other half
//! is asked in the words of ListObjects.

mod dialect;
mod document;
mod names;
mod request;
mod sequence;
mod spelling;

use std::time::Duration;

pub(crate) use dialect::Dialect;
use dialect::Field;
use document::{Document, Text};
use request::{Ask, Form, Place};
use sequence::Sequence;

use super::failure::{Failure, Kind};
use super::s3::S3;
use super::told::Told;
use super::{Page, Query};

/// How often an answer that cannot be used is asked for again.
const AGAIN: u32 = 2;

/// The first pause before that; the next is five times as long.
const AFTER: Duration = Duration::from_millis(100);

/// How many pages without names are passed over on the way to the first name.
const PASSED_OVER: u32 = 100;

/// What is wrong with a listing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Flaw {
    #[error("it is broken off or no XML: {0}")]
    Broken(String),
    #[error("it is the error {0:?} in spite of HTTP 200")]
    Error(String),
    #[error("it is <{0}> where <ListBucketResult> was to be")]
    Other(String),
    #[error("it has no names, and does not say either that there are none")]
    Silent,
    #[error("it announces {announced} names and has {told}")]
    Count { announced: usize, told: usize },
    #[error("it has {0:?}, which was not asked for")]
    Outside(String),
    #[error("it has folded names that were to be told one by one")]
    Folded,
    #[error("it has {told} names, of which {distinct} are different")]
    Repeats { told: usize, distinct: usize },
    #[error("it says that there is more, and not where")]
    Endless,
    #[error("its pages do not go on where the one before has ended")]
    Standstill,
}

impl Flaw {
    /// Whether the next answer may be better: proxies and networks break bodies, and stores that
    /// are being started answer nonsense.
    fn may_pass(&self) -> bool {
        match self {
            Self::Broken(_)
            | Self::Error(_)
            | Self::Other(_)
            | Self::Silent
            | Self::Count { .. }
            | Self::Repeats { .. } => true,
            Self::Outside(_) | Self::Folded | Self::Endless | Self::Standstill => false,
        }
    }
}

/// A line of a listing, as it is told.
#[derive(Debug, PartialEq)]
pub(super) enum Listed {
    Object(String, Told),
    Prefix(String),
}

impl Listed {
    /// The key or the prefix.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Object(key, _) | Self::Prefix(key) => key,
        }
    }

    fn is_prefix(&self) -> bool {
        matches!(self, Self::Prefix(_))
    }
}

/// Where a page starts: behind the pages before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    from: Place,
    sequence: Sequence,
}

impl S3 {
    /// One page of keys as the store tells it, sorted. One with a limit has a name, unless there is
    /// none.
    ///
    /// # Errors
    ///
    /// Those of S3, and [`Kind::Listing`] for answers that cannot be relied on.
    pub(super) async fn page(&self, query: &Query) -> Result<Page<Listed>, Failure> {
        let mut query = query.clone();
        for _ in 0..PASSED_OVER {
            let page = self.one_page(&query).await?;
            if query.limit.is_none() || !page.is_empty() || page.next.is_none() {
                return Ok(page);
            }
            query.after = page.next;
        }
        Err(self.flawed(&query, &Flaw::Endless))
    }

    async fn one_page(&self, query: &Query) -> Result<Page<Listed>, Failure> {
        let Some(cursor) = &query.after else {
            let document = self.first(query).await?;
            return self.take_in(query, &document).await;
        };
        let document = self.document(&query.ask(cursor.from.clone())).await;
        let page = match document {
            Ok(document) => self.take_in(query, &document).await,
            Err(failure) => Err(failure),
        };
        match (page, cursor.from.other()) {
            // A store may know one of the two ways to go on behind a name, and overlook the other.
            (Err(failure), Some(other)) if is_about_the_form(&failure.kind) => {
                match self.document(&query.ask(other)).await {
                    Ok(document) => self.take_in(query, &document).await,
                    Err(_) => Err(failure),
                }
            }
            (page, _) => page,
        }
    }

    /// The first page of a listing, in the form that the store understands.
    async fn first(&self, query: &Query) -> Result<Document, Failure> {
        let ask = query.ask(Place::Beginning);
        let learned = self.dialect.now();
        let refused = match self.document(&ask).await {
            Ok(document) => {
                self.dialect.settle(learned.form);
                return Ok(document);
            }
            Err(failure) => failure,
        };
        let is_other = matches!(refused.kind, Kind::Unsupported | Kind::Other);
        if learned.is_proven || !is_other {
            return Err(refused);
        }
        for form in Form::OLDER {
            if let Ok(document) = self.document_in(&ask, form).await {
                tracing::info!("this store lists like this: {form}");
                self.dialect.settle(form);
                return Ok(document);
            }
        }
        Err(refused)
    }

    async fn document(&self, ask: &Ask) -> Result<Document, Failure> {
        self.document_in(ask, self.dialect.now().form).await
    }

    async fn document_in(&self, ask: &Ask, form: Form) -> Result<Document, Failure> {
        let mut tries = 0;
        loop {
            let body = self.body_of_listing(ask, form).await?;
            let flaw = match Document::read(&body) {
                Ok(document) => return Ok(document),
                Err(flaw) => flaw,
            };
            if tries == AGAIN || !flaw.may_pass() {
                return Err(self.flawed(&ask.query, &flaw));
            }
            tracing::debug!(
                "a listing under {:?} is asked for again: {flaw}",
                ask.query.prefix
            );
            tokio::time::sleep(AFTER * 5u32.pow(tries)).await;
            tries += 1;
        }
    }

    /// Makes a page of a document: reads its names, and checks that they are what was asked for.
    async fn take_in(&self, query: &Query, document: &Document) -> Result<Page<Listed>, Failure> {
        let flawed = |flaw: Flaw| self.flawed(query, &flaw);
        if !query.folded && !document.prefixes.is_empty() {
            return Err(flawed(Flaw::Folded));
        }
        let mut named = self.read_names(query, document).await?;
        let before = query.after.as_ref();
        let mut sequence = before.map_or_else(Sequence::default, |cursor| cursor.sequence.clone());
        sequence
            .follow(&mut named.keys, &mut named.prefixes)
            .map_err(flawed)?;
        let marker = document.next_marker.as_ref();
        let marker = marker.map(|text| self.marker(text, &sequence));
        let from = Place::behind(document, marker, sequence.last()).map_err(flawed)?;
        let stands_still = before.map(|cursor| &cursor.from) == from.as_ref();
        if from.is_some() && named.is_empty() && stands_still {
            return Err(flawed(Flaw::Standstill));
        }
        Ok(named.into_page(query, from.map(|from| Cursor { from, sequence })))
    }

    /// The name that a store says the next page is behind.
    fn marker(&self, text: &Text, sequence: &Sequence) -> String {
        let last = sequence.last();
        let spelling = self.dialect.spelling(Field::Key);
        let readings = spelling.readings(text);
        let names = readings.iter().map(|reading| {
            let name = reading.read(text);
            String::from_utf8_lossy(&name).into_owned()
        });
        let names: Vec<String> = names.collect();
        // Mostly it is the last name of the page, and then it is clear how it is spelled.
        match last.filter(|last| names.iter().any(|name| name == last)) {
            Some(last) => last.to_owned(),
            None => String::from_utf8_lossy(&spelling.read(text)).into_owned(),
        }
    }

    fn flawed(&self, query: &Query, flaw: &Flaw) -> Failure {
        let prefix = crate::words::tame(&query.prefix);
        let flaw = crate::words::tame(&flaw.to_string());
        let text =
            format!("the store's answer for the names under {prefix:?} cannot be used: {flaw}");
        Failure::new(Kind::Listing, self.generation, text)
    }
}

/// Whether the same may work if it is asked in another way.
fn is_about_the_form(kind: &Kind) -> bool {
    matches!(kind, Kind::Unsupported | Kind::Other | Kind::Listing)
}
