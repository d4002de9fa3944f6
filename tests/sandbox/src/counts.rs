//! What was asked of the sandbox, and what became of it.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use crate::request::Call;
use crate::service::{JsonService, QueryService, Service};

/// How many requests are remembered one by one.
const REMEMBERED: usize = 20_000;

/// The operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// GetObject.
    Get,
    /// HeadObject.
    Head,
    /// ListObjectsV2, or ListObjects.
    List,
    /// ListObjectVersions.
    ListVersions,
    /// HeadBucket.
    HeadBucket,
    /// GetBucketLocation.
    GetBucketLocation,
    /// GetBucketPolicy.
    GetBucketPolicy,
    /// GetBucketVersioning.
    GetBucketVersioning,
    /// ListBuckets.
    ListBuckets,
    /// PutObject.
    Put,
    /// CopyObject.
    Copy,
    /// DeleteObject.
    Delete,
    /// DeleteObjects.
    DeleteObjects,
    /// CreateMultipartUpload.
    CreateMultipartUpload,
    /// UploadPart.
    UploadPart,
    /// UploadPartCopy.
    UploadPartCopy,
    /// CompleteMultipartUpload.
    CompleteMultipartUpload,
    /// AbortMultipartUpload.
    AbortMultipartUpload,
    /// ListParts.
    ListParts,
    /// ListMultipartUploads.
    ListMultipartUploads,
    /// GetSessionToken of STS.
    GetSessionToken,
    /// GetCallerIdentity of STS.
    GetCallerIdentity,
    /// AssumeRole of STS.
    AssumeRole,
    /// AssumeRoleWithWebIdentity of STS.
    AssumeRoleWithWebIdentity,
    /// Any other operation of STS.
    OtherSts,
    /// ListMFADevices of IAM.
    ListMfaDevices,
    /// Any other operation of IAM.
    OtherIam,
    /// RegisterClient of IAM Identity Center.
    RegisterClient,
    /// StartDeviceAuthorization of IAM Identity Center.
    StartDeviceAuthorization,
    /// CreateToken of IAM Identity Center.
    CreateToken,
    /// GetRoleCredentials of IAM Identity Center.
    GetRoleCredentials,
    /// Any other operation of S3.
    Other,
}

impl Kind {
    pub(crate) fn service(self) -> Service {
        match self {
            Self::GetSessionToken
            | Self::GetCallerIdentity
            | Self::AssumeRole
            | Self::AssumeRoleWithWebIdentity
            | Self::OtherSts => Service::Query(QueryService::Sts),
            Self::ListMfaDevices | Self::OtherIam => Service::Query(QueryService::Iam),
            Self::RegisterClient | Self::StartDeviceAuthorization | Self::CreateToken => {
                Service::Json(JsonService::SsoOidc)
            }
            Self::GetRoleCredentials => Service::Json(JsonService::SsoPortal),
            _ => Service::S3,
        }
    }

    /// Whether it changes what is in a bucket: objects, uploads or their parts.
    pub fn is_write(self) -> bool {
        matches!(
            self,
            Self::Put
                | Self::Copy
                | Self::Delete
                | Self::DeleteObjects
                | Self::CreateMultipartUpload
                | Self::UploadPart
                | Self::UploadPartCopy
                | Self::CompleteMultipartUpload
                | Self::AbortMultipartUpload
        )
    }
}

/// One request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestRecord {
    /// The operation.
    pub kind: Kind,
    /// The bucket, if one is named.
    pub bucket: Option<String>,
    /// The key of an object, decoded.
    pub key: Option<String>,
    /// The prefix of a listing, decoded.
    pub prefix: Option<String>,
    /// The `Range` header as sent.
    pub range: Option<String>,
    /// The `If-Match` header as sent.
    pub if_match: Option<String>,
    /// The `If-None-Match` header as sent.
    pub if_none_match: Option<String>,
    /// The id of a multipart upload.
    pub upload_id: Option<String>,
    /// The number of a part.
    pub part_number: Option<i32>,
    /// The `x-amz-copy-source` header, decoded.
    pub copy_source: Option<String>,
    /// The `x-amz-copy-source-range` header as sent.
    pub copy_source_range: Option<String>,
    /// How many bytes of its body arrived, framing of chunks included. 0 while it is under way.
    pub bytes_received: u64,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The access key id that signed it.
    pub access_key_id: Option<String>,
    /// The number of the session that signed it, 1 for the first one issued. `None` for long-term
    /// keys and for requests refused before the session was known.
    pub session: Option<u64>,
    /// The status of the answer. `None` while it is being made, and when there was none, because the
    /// connection was dropped or the client gave up.
    pub status: Option<u16>,
    /// The error code of the answer, which HEAD requests do not show to the client.
    pub code: Option<String>,
}

/// A snapshot of the counters.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    arrived: BTreeMap<Kind, u64>,
    statuses: BTreeMap<(Kind, u16), u64>,
    codes: BTreeMap<(Kind, String), u64>,
    answered: u64,
    abandoned: u64,
    codes_sent: u64,
    spent_codes_sent: u64,
    bytes_served: u64,
    bytes_received: u64,
}

impl Counts {
    /// Returns how many requests of that kind arrived, whatever became of them.
    pub fn of(&self, kind: Kind) -> u64 {
        self.arrived.get(&kind).copied().unwrap_or(0)
    }

    /// Returns how many requests arrived.
    pub fn total(&self) -> u64 {
        self.arrived.values().sum()
    }

    /// Returns how many requests of that kind were answered with that status.
    pub fn with_status(&self, kind: Kind, status: u16) -> u64 {
        self.statuses.get(&(kind, status)).copied().unwrap_or(0)
    }

    /// Returns how many requests of that kind were answered with a status below 400.
    pub fn succeeded(&self, kind: Kind) -> u64 {
        self.statuses
            .iter()
            .filter(|((k, status), _)| *k == kind && *status < 400)
            .map(|(_, count)| count)
            .sum()
    }

    /// Returns how many requests of that kind were answered with a status of 400 or more.
    pub fn refused(&self, kind: Kind) -> u64 {
        self.statuses
            .iter()
            .filter(|((k, status), _)| *k == kind && *status >= 400)
            .map(|(_, count)| count)
            .sum()
    }

    /// Returns how many requests of any kind were answered with that error code; for HEAD requests,
    /// the code that the missing body would have held.
    pub fn with_code(&self, code: &str) -> u64 {
        self.codes
            .iter()
            .filter(|((_, c), _)| c == code)
            .map(|(_, count)| count)
            .sum()
    }

    /// Returns how many requests arrived that have no answer yet.
    pub fn in_flight(&self) -> u64 {
        self.total().saturating_sub(self.answered + self.abandoned)
    }

    /// Returns how many requests ended without an answer: the connection was dropped on purpose, or
    /// the client gave up.
    pub fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// Returns how many requests to STS arrived with a code, good or bad, answered or not.
    pub fn codes_sent(&self) -> u64 {
        self.codes_sent
    }

    /// Returns how many requests to STS carried a code whose step had been accepted before.
    pub fn spent_codes_sent(&self) -> u64 {
        self.spent_codes_sent
    }

    /// Returns how many bytes of objects were handed to the network.
    pub fn bytes_served(&self) -> u64 {
        self.bytes_served
    }

    /// Returns how many bytes of bodies came in with requests to S3, framing of chunks included.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Returns how many requests of any kind that [writes](Kind::is_write) arrived.
    pub fn writes(&self) -> u64 {
        self.arrived
            .iter()
            .filter(|(kind, _)| kind.is_write())
            .map(|(_, count)| count)
            .sum()
    }
}

/// The books: counters, and the latest requests.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    counts: Counts,
    records: VecDeque<RequestRecord>,
    /// The ticket of the first record that is still there.
    first: u64,
    /// Grows with every reset: an answer to a request from before it must not be counted.
    resets: u64,
}

/// Says which record an answer belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    number: u64,
    resets: u64,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `None` if it was not answered.
    pub(crate) status: Option<u16>,
    pub(crate) code: Option<String>,
    pub(crate) session: Option<u64>,
    pub(crate) code_was_spent: bool,
    pub(crate) bytes_received: u64,
}

impl Ledger {
    pub(crate) fn arrived(&self, call: &Call) -> Ticket {
        let mut pages = self.pages.lock();
        *pages.counts.arrived.entry(call.kind).or_default() += 1;
        pages.counts.codes_sent += u64::from(call.has_code);
        if pages.records.len() == REMEMBERED {
            pages.records.pop_front();
            pages.first += 1;
        }
        let number = pages.first + pages.records.len() as u64;
        pages.records.push_back(RequestRecord {
            kind: call.kind,
            bucket: call.bucket.clone(),
            key: call.key.clone(),
            prefix: call.prefix.clone(),
            range: call.range.clone(),
            if_match: call.if_match.clone(),
            if_none_match: call.if_none_match.clone(),
            upload_id: call.upload_id.clone(),
            part_number: call.part_number,
            copy_source: call.copy_source.clone(),
            copy_source_range: call.copy_source_range.clone(),
            bytes_received: 0,
            user_agent: call.user_agent.clone(),
            access_key_id: call.access_key_id.clone(),
            session: None,
            status: None,
            code: None,
        });
        Ticket {
            number,
            resets: pages.resets,
        }
    }

    pub(crate) fn ended(&self, ticket: Ticket, kind: Kind, outcome: Outcome) {
        let mut pages = self.pages.lock();
        if ticket.resets != pages.resets {
            return;
        }
        pages.counts.spent_codes_sent += u64::from(outcome.code_was_spent);
        match outcome.status {
            None => pages.counts.abandoned += 1,
            Some(status) => {
                pages.counts.answered += 1;
                *pages.counts.statuses.entry((kind, status)).or_default() += 1;
            }
        }
        if let Some(code) = &outcome.code {
            *pages.counts.codes.entry((kind, code.clone())).or_default() += 1;
        }
        let index = ticket
            .number
            .checked_sub(pages.first)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(record) = index.and_then(|index| pages.records.get_mut(index)) {
            record.status = outcome.status;
            record.code = outcome.code;
            record.session = outcome.session;
            record.bytes_received = outcome.bytes_received;
        }
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.pages.lock().counts.bytes_received += bytes;
    }

    pub(crate) fn served(&self, bytes: u64) {
        self.pages.lock().counts.bytes_served += bytes;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.pages.lock().counts.clone()
    }

    pub(crate) fn records(&self) -> Vec<RequestRecord> {
        self.pages.lock().records.iter().cloned().collect()
    }

    pub(crate) fn reset(&self) {
        let mut pages = self.pages.lock();
        *pages = Pages {
            resets: pages.resets + 1,
            ..Pages::default()
        };
    }
}
