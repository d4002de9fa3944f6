//! ListObjectsV2, and ListObjects, which older programs use.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::S3Request;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, ETag, EncodingType, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object as ListedObject,
    ObjectStorageClass, Owner, Timestamp,
};

use crate::checksums::md5_hex;
use crate::exchange::Exchange;
use crate::habits::Habit;
use crate::listing::{self, After, Entry, Query};
use crate::preconditions::etag_of;
use crate::refusal::Refusal;
use crate::s3::Operations;

/// The most entries of a page: Amazon S3 API reference, `ListObjectsV2`.
pub(crate) const LARGEST_PAGE: i32 = 1000;

impl Operations {
    pub(crate) async fn list(
        &self,
        req: S3Request<ListObjectsV2Input>,
        _: &Exchange,
    ) -> Result<ListObjectsV2Output, Refusal> {
        let habits = &self.0.habits;
        if habits.has(Habit::RefusesListV2) {
            return Err(Refusal::s3("NotImplemented"));
        }
        let mut input = req.input;
        let is_v1 = habits.has(Habit::ListV1Only);
        if is_v1 {
            (input.continuation_token, input.start_after) = (None, None);
        }
        let (echo, start_after) = (input.continuation_token.clone(), input.start_after.clone());
        let url = is_url_encoded(input.encoding_type.as_ref())?;
        let mut page = self.listed(input)?;
        page.continuation_token = echo;
        page.start_after = start_after.map(|name| self.spell(name, url));
        if habits.has(Habit::ListTokenRepeats) {
            let again = page.next_continuation_token.is_some();
            page.next_continuation_token = again.then(|| encode_token(&After::Nothing));
        }
        if is_v1 || habits.has(Habit::ListWithoutToken) {
            page.next_continuation_token = None;
        }
        if is_v1 {
            page.key_count = None;
        }
        Ok(page)
    }

    fn spell(&self, name: String, url: bool) -> String {
        if url {
            self.0.habits.spell_key(&name)
        } else {
            name
        }
    }

    /// A page of either operation: what follows `continuation_token`, or else `start_after`.
    fn listed(&self, input: ListObjectsV2Input) -> Result<ListObjectsV2Output, Refusal> {
        let habits = &self.0.habits;
        let bucket = self.bucket(&input.bucket)?;
        let url = is_url_encoded(input.encoding_type.as_ref())?;
        if habits.has(Habit::RefusesEncodingType) && url {
            return Err(Refusal::s3("NotImplemented"));
        }
        let max_keys = input.max_keys.unwrap_or(LARGEST_PAGE);
        if max_keys < 0 {
            let refusal = Refusal::new(400, "InvalidArgument", "maxKeys cannot be negative");
            return Err(refusal.with("ArgumentName", "max-keys"));
        }
        let max_keys = max_keys.min(match habits.has(Habit::PagesOfTen) {
            true => 10,
            false => LARGEST_PAGE,
        });
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => decode_token(token)?,
            (None, Some(key)) => After::Key(key.clone()),
            (None, None) => After::Nothing,
        };
        let asked = |habit: Habit, text: &Option<String>| match habits.has(habit) {
            true => String::new(),
            false => text.clone().unwrap_or_default(),
        };
        let query = Query {
            prefix: &asked(Habit::ListOverlooksPrefix, &input.prefix),
            delimiter: &asked(Habit::ListOverlooksDelimiter, &input.delimiter),
            after,
            limit: usize::try_from(max_keys).unwrap_or(0),
        };
        let mut page = bucket.read(|objects| listing::page(objects, &query));
        if let (After::Key(key), true) = (&query.after, habits.has(Habit::MarkersInclude))
            && let Some(object) = bucket.get(key)
        {
            page.entries.insert(0, Entry::Key(key.clone(), object));
        }
        let owner = input.fetch_owner.unwrap_or(false).then(|| Owner {
            id: Some(self.0.account.clone()),
            ..Owner::default()
        });
        let mut contents = Vec::new();
        let mut common_prefixes = Vec::new();
        for entry in page.entries {
            match entry {
                Entry::CommonPrefix(prefix) if habits.has(Habit::FoldersAreContents) => {
                    contents.push(ListedObject {
                        key: Some(self.spell(prefix, url)),
                        e_tag: Some(ETag::Strong("d41d8cd98f00b204e9800998ecf8427e".to_owned())),
                        last_modified: Some(Timestamp::from(self.0.clock.now())),
                        size: Some(0),
                        ..ListedObject::default()
                    });
                }
                Entry::CommonPrefix(prefix) => common_prefixes.push(CommonPrefix {
                    prefix: Some(match url {
                        true => habits.spell_prefix(&prefix),
                        false => prefix,
                    }),
                }),
                Entry::Key(key, object) => contents.push(ListedObject {
                    checksum_algorithm: object.checksum.as_ref().map(|checksum| {
                        vec![ChecksumAlgorithm::from_static(checksum.algorithm.name())]
                    }),
                    checksum_type: object
                        .checksum
                        .as_ref()
                        .map(|checksum| ChecksumType::from_static(checksum.type_name())),
                    key: Some(self.spell(key, url)),
                    e_tag: Some(match &object.etag {
                        tag if tag.contains('-') && habits.has(Habit::ListTagsPartsItsOwn) => {
                            ETag::Strong(md5_hex([tag]))
                        }
                        _ => etag_of(&object),
                    }),
                    last_modified: self.listed_time(object.modified),
                    owner: owner.clone(),
                    size: i64::try_from(object.content.len()).ok(),
                    storage_class: Some(ObjectStorageClass::from(
                        object.attributes.storage_class.clone(),
                    )),
                    ..ListedObject::default()
                }),
            }
        }
        let mut key_count = contents.len() + common_prefixes.len();
        if habits.has(Habit::ListLosesTheLast) {
            contents.pop();
        }
        if habits.has(Habit::ListTellsTwice) {
            contents = contents
                .iter()
                .flat_map(|o| [o.clone(), o.clone()])
                .collect();
            key_count = contents.len() + common_prefixes.len();
        }
        if habits.has(Habit::ListTellsTheFirstOnly) {
            contents = vec![contents[..contents.len().min(1)].to_vec(); contents.len()].concat();
        }
        if habits.has(Habit::KeyCountOfObjects) {
            key_count = contents.len();
        }
        let truncated = page.next.is_some() && !habits.has(Habit::ListNeverTruncated);
        Ok(ListObjectsV2Output {
            is_truncated: (!habits.has(Habit::ListWithoutTruncated)).then_some(truncated),
            next_continuation_token: page.next.as_ref().map(encode_token),
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            delimiter: input.delimiter.map(|delimiter| self.spell(delimiter, url)),
            encoding_type: input
                .encoding_type
                .filter(|_| !habits.has(Habit::ListOverlooksEncoding)),
            key_count: i32::try_from(key_count).ok(),
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            // AWS always prints it, empty if need be.
            prefix: Some(self.spell(input.prefix.unwrap_or_default(), url)),
            ..ListObjectsV2Output::default()
        })
    }

    /// AWS tells whole seconds.
    fn listed_time(&self, modified: SystemTime) -> Option<Timestamp> {
        let habits = &self.0.habits;
        let fraction = match habits.has(Habit::ListInMilliseconds) {
            true => Duration::from_millis(678),
            false => Duration::ZERO,
        };
        let is_told = !habits.has(Habit::ListWithoutDates);
        is_told.then(|| Timestamp::from(modified + fraction))
    }
}

impl Operations {
    /// The same pages, named by the last entry of the one before. With a delimiter that is said
    /// in `NextMarker`, which may be a common prefix: all keys in that are behind then. Amazon S3
    /// API reference, `ListObjects`.
    pub(crate) async fn list_by_marker(
        &self,
        req: S3Request<ListObjectsInput>,
        _: &Exchange,
    ) -> Result<ListObjectsOutput, Refusal> {
        let marker = req.input.marker.clone().unwrap_or_default();
        let delimiter = req.input.delimiter.clone().unwrap_or_default();
        let url = is_url_encoded(req.input.encoding_type.as_ref())?;
        let name = |name: String| self.spell(name, url);
        let after = match marker.as_str() {
            "" => After::Nothing,
            prefix if !delimiter.is_empty() && prefix.ends_with(&delimiter) => {
                After::Prefix(marker.clone())
            }
            _ => After::Key(marker.clone()),
        };
        let mut input = ListObjectsV2Input::from(req.input);
        input.start_after = None;
        input.continuation_token = Some(encode_token(&after));
        input.fetch_owner = Some(true);
        let page = self.listed(input)?;
        let next = page.next_continuation_token.as_deref();
        let next = match next.filter(|_| !delimiter.is_empty()) {
            Some(token) => decode_token(token)?,
            None => After::Nothing,
        };
        Ok(ListObjectsOutput {
            next_marker: match next {
                After::Nothing => None,
                After::Key(last) | After::Prefix(last) => Some(name(last)),
            },
            marker: Some(name(marker)),
            name: page.name,
            prefix: page.prefix,
            max_keys: page.max_keys,
            is_truncated: page.is_truncated,
            contents: page.contents,
            common_prefixes: page.common_prefixes,
            delimiter: page.delimiter,
            encoding_type: page.encoding_type,
            ..ListObjectsOutput::default()
        })
    }
}

/// Whether names in the answer are to be encoded.
pub(crate) fn is_url_encoded(asked: Option<&EncodingType>) -> Result<bool, Refusal> {
    match asked.map(EncodingType::as_str) {
        None => Ok(false),
        Some("url") => Ok(true),
        Some(other) => Err(Refusal::new(
            400,
            "InvalidArgument",
            "Invalid Encoding Method specified in Request",
        )
        .with("ArgumentName", "encoding-type")
        .with("ArgumentValue", other)),
    }
}

/// Tokens are opaque: nothing but the sandbox can make sense of one.
fn encode_token(after: &After) -> String {
    let (tag, text) = match after {
        After::Nothing => ('0', ""),
        After::Key(key) => ('k', key.as_str()),
        After::Prefix(prefix) => ('p', prefix.as_str()),
    };
    URL_SAFE_NO_PAD.encode(format!("{tag}{text}"))
}

fn decode_token(token: &str) -> Result<After, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap_or_default();
    match text.split_at_checked(1) {
        Some(("0", "")) => Ok(After::Nothing),
        Some(("k", key)) => Ok(After::Key(key.to_owned())),
        Some(("p", prefix)) => Ok(After::Prefix(prefix.to_owned())),
        _ => Err(Refusal::new(
            400,
            "InvalidArgument",
            "The continuation token provided is incorrect",
        )
        .with("ArgumentName", "continuation-token")),
    }
}
