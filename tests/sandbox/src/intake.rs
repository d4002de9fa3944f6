//! Takes the body of a request in, verified.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use s3s::dto::StreamingBlob;
use s3s::{Body, TrailingHeaders};

use crate::attributes::text;
use crate::checksums::{Verified, Verifier};
use crate::content::Content;
use crate::refusal::Refusal;

/// The most bytes of one PutObject or UploadPart, and of a source that is copied in one request:
/// Amazon S3 user guide, "Uploading objects" and "Copying objects".
pub(crate) const LARGEST_BODY: u64 = 5 * 1024 * 1024 * 1024;

/// How much memory is set aside on the word of a header alone.
const LARGEST_GUESS: u64 = 64 * 1024 * 1024;

/// A body that came in whole and is what its digests say.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) content: Content,
    pub(crate) verified: Verified,
}

/// Reads a body to its end. Nothing is kept of one that ends early or fails its digests.
pub(crate) async fn receive(
    body: Option<StreamingBlob>,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> Result<Received, Refusal> {
    // `s3s` has put the decoded length there, if the body came in signed chunks.
    let Some(length) = text(headers, header::CONTENT_LENGTH.as_str()) else {
        return Err(Refusal::s3("MissingContentLength"));
    };
    let length: u64 = length.parse().map_err(|_| Refusal::s3("InvalidArgument"))?;
    if length > LARGEST_BODY {
        return Err(Refusal::s3("EntityTooLarge")
            .with("ProposedSize", length.to_string())
            .with("MaxSizeAllowed", LARGEST_BODY.to_string()));
    }
    let mut verifier = Verifier::new(headers)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(LARGEST_GUESS)).unwrap_or(0));
    if let Some(body) = body {
        let mut body = Body::from(body);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error.to_string()))?;
            if let Ok(piece) = frame.into_data() {
                verifier.update(&piece);
                bytes.extend_from_slice(&piece);
            }
        }
    }
    if bytes.len() as u64 != length {
        return Err(Refusal::s3("IncompleteBody"));
    }
    let trailers = trailers.and_then(|trailers| trailers.take());
    let verified = verifier.finish(trailers.as_ref())?;
    Ok(Received {
        content: Content::from(Bytes::from(bytes)),
        verified,
    })
}

/// What `s3s` found wrong with a body while it was read. Its types are its own; their names are not.
fn broken(error: &str) -> Refusal {
    if error.contains("Sha256Mismatch") {
        Refusal::s3("XAmzContentSHA256Mismatch")
    } else if error.contains("SignatureMismatch") {
        Refusal::s3("SignatureDoesNotMatch")
    } else {
        Refusal::s3("IncompleteBody")
    }
}

/// Refuses a body without any digest. Amazon S3 API reference, `PutObject` and `UploadPart`,
/// `Content-MD5`: buckets with Object Lock demand one. `operation` is its name in AWS's words.
pub(crate) fn check_announced(headers: &HeaderMap, operation: &str) -> Result<(), Refusal> {
    if Verifier::new(headers)?.is_announced() {
        return Ok(());
    }
    let message = format!(
        "Content-MD5 OR x-amz-checksum- HTTP header is required for {operation} requests with Object Lock parameters"
    );
    Err(Refusal::new(400, "InvalidRequest", message))
}
