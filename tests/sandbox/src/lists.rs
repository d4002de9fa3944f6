//! ListObjectsV2, and ListObjects, which older programs use.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::S3Request;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, EncodingType, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object as ListedObject,
    ObjectStorageClass, Owner, Timestamp,
};

use crate::exchange::Exchange;
use crate::listing::{self, After, Entry, Query};
use crate::preconditions::etag_of;
use crate::refusal::Refusal;
use crate::s3::Operations;

/// The most entries of a page: Amazon S3 API reference, `ListObjectsV2`.
pub(crate) const LARGEST_PAGE: i32 = 1000;

/// What `encoding-type=url` leaves as it is. A space becomes `+`.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b' ');

impl Operations {
    pub(crate) async fn list(
        &self,
        req: S3Request<ListObjectsV2Input>,
        _: &Exchange,
    ) -> Result<ListObjectsV2Output, Refusal> {
        let input = req.input;
        let bucket = self.bucket(&input.bucket)?;
        let url = is_url_encoded(input.encoding_type.as_ref())?;
        let max_keys = input.max_keys.unwrap_or(LARGEST_PAGE);
        if max_keys < 0 {
            let refusal = Refusal::new(400, "InvalidArgument", "maxKeys cannot be negative");
            return Err(refusal.with("ArgumentName", "max-keys"));
        }
        let max_keys = max_keys.min(LARGEST_PAGE);
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => decode_token(token)?,
            (None, Some(key)) => After::Key(key.clone()),
            (None, None) => After::Nothing,
        };
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().unwrap_or_default(),
            after,
            limit: usize::try_from(max_keys).unwrap_or(0),
        };
        let page = bucket.read(|objects| listing::page(objects, &query));
        let key_count = i32::try_from(page.entries.len()).ok();
        let name = |name: String| if url { encode(&name) } else { name };
        let owner = input.fetch_owner.unwrap_or(false).then(|| Owner {
            id: Some(self.0.account.clone()),
            ..Owner::default()
        });
        let mut contents = Vec::new();
        let mut common_prefixes = Vec::new();
        for entry in page.entries {
            match entry {
                Entry::CommonPrefix(prefix) => common_prefixes.push(CommonPrefix {
                    prefix: Some(name(prefix)),
                }),
                Entry::Key(key, object) => contents.push(ListedObject {
                    checksum_algorithm: object.checksum.as_ref().map(|checksum| {
                        vec![ChecksumAlgorithm::from_static(checksum.algorithm.name())]
                    }),
                    checksum_type: object
                        .checksum
                        .as_ref()
                        .map(|checksum| ChecksumType::from_static(checksum.type_name())),
                    key: Some(name(key)),
                    e_tag: Some(etag_of(&object)),
                    last_modified: Some(Timestamp::from(object.modified)),
                    owner: owner.clone(),
                    size: i64::try_from(object.content.len()).ok(),
                    storage_class: Some(ObjectStorageClass::from(
                        object.attributes.storage_class.clone(),
                    )),
                    ..ListedObject::default()
                }),
            }
        }
        Ok(ListObjectsV2Output {
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_ref().map(encode_token),
            continuation_token: input.continuation_token,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            delimiter: input.delimiter.map(name),
            encoding_type: input.encoding_type,
            key_count,
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            // AWS always prints it, empty if need be.
            prefix: Some(name(input.prefix.unwrap_or_default())),
            start_after: input.start_after.map(name),
            ..ListObjectsV2Output::default()
        })
    }
}

impl Operations {
    /// The same pages, named by the last entry of the one before. With a delimiter that is said
    /// in `NextMarker`, which may be a common prefix: all keys in that are behind then. Amazon S3
    /// API reference, `ListObjects`.
    pub(crate) async fn list_by_marker(
        &self,
        req: S3Request<ListObjectsInput>,
        exchange: &Exchange,
    ) -> Result<ListObjectsOutput, Refusal> {
        let marker = req.input.marker.clone().unwrap_or_default();
        let delimiter = req.input.delimiter.clone().unwrap_or_default();
        let url = is_url_encoded(req.input.encoding_type.as_ref())?;
        let name = |name: String| if url { encode(&name) } else { name };
        let after = match marker.as_str() {
            "" => After::Nothing,
            prefix if !delimiter.is_empty() && prefix.ends_with(&delimiter) => {
                After::Prefix(marker.clone())
            }
            _ => After::Key(marker.clone()),
        };
        let mut req = req.map_input(ListObjectsV2Input::from);
        req.input.start_after = None;
        req.input.continuation_token = Some(encode_token(&after));
        req.input.fetch_owner = Some(true);
        let page = self.list(req, exchange).await?;
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

pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, URL_ENCODED)
        .to_string()
        .replace(' ', "+")
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
