//! What other stores do otherwise than AWS, one switch for each habit.
//!
//! A sandbox without a habit answers as AWS does. Each habit was seen at a real store or proxy, and
//! names it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use parking_lot::RwLock;
use s3s::dto::{Timestamp, TimestampFormat};

use crate::body::ServedBody;
use crate::counts::Kind;
use crate::request::Call;

/// One way in which a store differs from AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Habit {
    /// HEAD is answered without Content-Length, which RFC 9110 (8.6) allows: Cloudflare's R2,
    /// StorageGRID and proxies that compress.
    HeadWithoutLength,
    /// Nothing but listings tells an ETag: gateways that strip it.
    HeadersWithoutEtag,
    /// Listings tell no ETag: s3s-fs 0.14.1.
    ListWithoutEtag,
    /// Listings tell no Size.
    ListWithoutSize,
    /// The ETag of every header is weak, `W/"..."`: proxies that compress (nginx, Cloudflare).
    WeakEtags,
    /// Last-Modified has the form of ISO 8601.
    IsoDates,
    /// Answers about an object have headers that no typed reader takes: metadata in ISO-8859-1, an
    /// Object Lock date that is none, two Content-Types.
    OddHeaders,
    /// The documents that answer CopyObject and CompleteMultipartUpload end before their ETag: a
    /// proxy that cuts, or an operation that a store answers before it knows the result.
    ResultsCutShort,
    /// The total in Content-Range is `*`, unknown, which RFC 9110 (14.4) allows.
    TotalsUnknown,
    /// CopyObject is answered 501: Hetzner with keys of the customer, Oracle's OCI, gateways.
    NoCopies,
    /// UploadPartCopy is answered 501: older versions of Google's XML API, Storj.
    NoPartCopies,
    /// `x-amz-copy-source` is overlooked, with what goes with it: a copy of an object is a new one without
    /// bytes, and so is a part, and neither is told a tag. Gateways that know PUT alone.
    CopiesArePuts,
    /// An upload has no more parts than this: OpenStack Swift has 1,000
    /// (`max_upload_part_num` of its s3api).
    FewParts(i32),
    /// Every part is answered 404 `NoSuchUpload`, although its upload was begun: a gateway whose
    /// nodes do not share their uploads.
    ForgetfulUploads,
    /// GET is answered 301 with another region each time: a proxy before two endpoints.
    RegionsThatMove,
    /// `encoding-type=url` is overlooked in listings: names are as they are.
    ListOverlooksEncoding,
    /// Listings say `EncodingType=url` and encode nothing: s3s-fs 0.14.1.
    ListEchoesEncodingOnly,
    /// Listings encode slashes too: Garage.
    ListEncodesSlashes,
    /// In listings a space is `%20`: Swift.
    ListEncodesSpacesAsPercent20,
    /// In listings a space is `%20` in directories and `+` in the last name: SeaweedFS.
    ListMixesSpaces,
    /// Listings encode all but `+`, as `encodeURI` of JavaScript does.
    ListLeavesPlus,
    /// Listings encode keys and leave common prefixes as they are.
    ListEncodesKeysOnly,
    /// `encoding-type` is refused.
    RefusesEncodingType,
    /// Control characters stand in documents as they are, which is no XML: Garage, ministack, Swift
    /// and s3s-fs.
    ControlsAsTheyAre,
    /// Control characters are U+FFFD in documents: what is written in Go.
    ControlsReplaced,
    /// ListObjects alone is known, and `list-type` overlooked: Ceph in 2020.
    ListV1Only,
    /// `list-type=2` is refused.
    RefusesListV2,
    /// Pages have ten entries at most, whatever is asked for.
    PagesOfTen,
    /// Listings do not say where the next page starts.
    ListWithoutToken,
    /// Listings do not say whether there is more.
    ListWithoutTruncated,
    /// Listings always say that there is no more, and have a token where there is.
    ListNeverTruncated,
    /// The token of a listing leads to its first page again.
    ListTokenRepeats,
    /// `marker` and `start-after` include the name itself.
    MarkersInclude,
    /// Listings count their objects and not their common prefixes: SeaweedFS 2, Versity Gateway.
    KeyCountOfObjects,
    /// The last entry of a listing is lost, and counted.
    ListLosesTheLast,
    /// Every object is listed twice.
    ListTellsTwice,
    /// Every object of a listing is the first one.
    ListTellsTheFirstOnly,
    /// Folded names are told as objects: `sub/` under Contents.
    FoldersAreContents,
    /// `delimiter` is overlooked.
    ListOverlooksDelimiter,
    /// `prefix` is overlooked.
    ListOverlooksPrefix,
    /// Listings tell times in milliseconds, and headers in seconds: MinIO and Ceph.
    ListInMilliseconds,
    /// Listings tell no LastModified.
    ListWithoutDates,
    /// Listings end in the middle: a proxy that cuts.
    ListCutShort,
    /// Listings are an empty element.
    ListEmptied,
    /// Listings are a page for people: proxies that want one to sign in.
    ListIsAPage,
    /// `x-amz-copy-source-if-match` never finds the tag of an object in parts: Swift 2.30.1.
    SourcesInPartsUnknown,
    /// HEAD of a directory that has something in it and was never put is 200, with a tag that no
    /// condition finds true; listings do not have it. And what is put there keeps no metadata:
    /// SeaweedFS 4.48.
    ImpliedMarkers,
    /// Listings tell a tag of their own of an object in parts: Swift 2.38, of copies.
    ListTagsPartsItsOwn,
    /// `If-Match` never finds the tag of an object in parts: Swift 2.38, on DELETE.
    MatchMissesParts,
    /// Storage classes, encryption and ACLs are overlooked: MinIO, s3s-fs, Garage.
    OverlooksOptions,
    /// `x-amz-expected-bucket-owner` is overlooked: SeaweedFS 4.48, Ceph.
    OverlooksOwner,
}

/// A handle to the habits. All of it can be called at any time from any thread.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    on: Arc<RwLock<HashSet<Habit>>>,
}

impl Habits {
    /// Has the store do this from now on.
    pub fn adopt(&self, habit: Habit) {
        self.on.write().insert(habit);
    }

    /// Has the store do as AWS does again.
    pub fn drop(&self, habit: Habit) {
        self.on.write().remove(&habit);
    }

    /// Whether it has any.
    pub(crate) fn are_any(&self) -> bool {
        !self.on.read().is_empty()
    }

    /// How many parts an upload may have, if that is fewer than at AWS.
    pub(crate) fn most_parts(&self) -> Option<i32> {
        let on = self.on.read();
        let most = on.iter().filter_map(|habit| match habit {
            Habit::FewParts(most) => Some(*most),
            _ => None,
        });
        most.min()
    }

    /// Whether the store does this.
    pub(crate) fn has(&self, habit: Habit) -> bool {
        self.on.read().contains(&habit)
    }

    /// Changes the headers and the document of a successful answer of S3, before it gets its final
    /// form.
    pub(crate) fn change_document(
        &self,
        response: Response<Bytes>,
        call: &Call,
    ) -> Response<Bytes> {
        let (mut parts, written) = response.into_parts();
        let length = written.len();
        let mut document = self.write_characters(written);
        if document.len() != length {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        if self.on.read().is_empty() {
            return Response::from_parts(parts, document);
        }
        self.change_headers(&mut parts.headers, call);
        if call.kind == Kind::List {
            document = self.change_listing(document);
            parts.headers.remove(header::CONTENT_LENGTH);
            for (habit, element) in [
                (Habit::ListWithoutEtag, "ETag"),
                (Habit::ListWithoutSize, "Size"),
            ] {
                if self.has(habit) {
                    document = without(&document, element);
                    parts.headers.remove(header::CONTENT_LENGTH);
                }
            }
        }
        if matches!(call.kind, Kind::Copy | Kind::CompleteMultipartUpload)
            && self.has(Habit::ResultsCutShort)
        {
            document.truncate(60);
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        Response::from_parts(parts, document)
    }

    /// Changes the final form of any answer of S3.
    pub(crate) fn change_answer(&self, _response: &mut Response<ServedBody>, _call: &Call) {}

    fn change_headers(&self, headers: &mut HeaderMap, call: &Call) {
        if call.kind == Kind::Head && self.has(Habit::HeadWithoutLength) {
            headers.remove(header::CONTENT_LENGTH);
        }
        if self.has(Habit::HeadersWithoutEtag) {
            headers.remove(header::ETAG);
        }
        let text = |headers: &HeaderMap, name| {
            let value: Option<&HeaderValue> = headers.get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        if self.has(Habit::TotalsUnknown)
            && let Some(range) = text(headers, header::CONTENT_RANGE)
            && let Some((range, _)) = range.split_once('/')
            && let Ok(range) = HeaderValue::try_from(format!("{range}/*"))
        {
            headers.insert(header::CONTENT_RANGE, range);
        }
        if self.has(Habit::WeakEtags)
            && let Some(tag) = text(headers, header::ETAG)
            && let Ok(weak) = HeaderValue::try_from(format!("W/{tag}"))
        {
            headers.insert(header::ETAG, weak);
        }
        if self.has(Habit::IsoDates)
            && let Some(date) = text(headers, header::LAST_MODIFIED)
            && let Ok(date) = Timestamp::parse(TimestampFormat::HttpDate, &date)
        {
            let mut iso = Vec::new();
            let _ = date.format(TimestampFormat::DateTime, &mut iso);
            if let Ok(iso) = HeaderValue::from_bytes(&iso) {
                headers.insert(header::LAST_MODIFIED, iso);
            }
        }
        if matches!(call.kind, Kind::Head | Kind::Get) && self.has(Habit::OddHeaders) {
            let odd = [
                ("x-amz-meta-author", &b"J\xf6rg"[..]),
                ("x-amz-object-lock-retain-until-date", b"for ever"),
                ("x-amz-mp-parts-count", b"many"),
                ("content-type", b"text/odd"),
            ];
            for (name, value) in odd {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.append(HeaderName::from_static(name), value);
                }
            }
        }
    }
}

/// A document without any element of a name, which has text in it and no other elements.
fn without(document: &Bytes, element: &str) -> Bytes {
    let text = String::from_utf8_lossy(document);
    let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
    let mut parts = text.split(&begin);
    let mut rest: String = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rest.push_str(part.split_once(&end).map_or(part, |(_, behind)| behind));
    }
    Bytes::from(rest)
}
