//! The digests a client sends with its bytes, and those S3 keeps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};

use crate::attributes::text;
use crate::refusal::Refusal;

/// A checksum algorithm: Amazon S3 user guide, "Checking object integrity".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

const ALGORITHMS: [(Algorithm, &str, &str); 5] = [
    (Algorithm::Crc32, "CRC32", "x-amz-checksum-crc32"),
    (Algorithm::Crc32c, "CRC32C", "x-amz-checksum-crc32c"),
    (
        Algorithm::Crc64Nvme,
        "CRC64NVME",
        "x-amz-checksum-crc64nvme",
    ),
    (Algorithm::Sha1, "SHA1", "x-amz-checksum-sha1"),
    (Algorithm::Sha256, "SHA256", "x-amz-checksum-sha256"),
];

impl Algorithm {
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut known = ALGORITHMS.iter();
        known
            .find(|(_, known, _)| *known == name)
            .map(|(algorithm, ..)| *algorithm)
    }

    pub(crate) fn name(self) -> &'static str {
        self.entry().1
    }

    pub(crate) fn header(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> &'static (Self, &'static str, &'static str) {
        // The table holds them all in the order of the variants.
        &ALGORITHMS[self as usize]
    }

    fn of_header(name: &str) -> Option<Self> {
        let mut known = ALGORITHMS.iter();
        known
            .find(|(.., header)| *header == name)
            .map(|(algorithm, ..)| *algorithm)
    }

    /// Whether the checksum of a whole can be told from its bytes only as a checksum of checksums, if
    /// nothing else was asked for: the same page, "Composite checksums".
    pub(crate) fn is_composite_by_default(self) -> bool {
        self != Self::Crc64Nvme
    }
}

/// A checksum that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checksum {
    pub(crate) algorithm: Algorithm,
    /// In base64; a composite one ends in `-` and the number of parts.
    pub(crate) value: String,
    pub(crate) is_composite: bool,
}

impl Checksum {
    pub(crate) fn of(
        algorithm: Algorithm,
        pieces: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Self {
        let mut hasher = hasher(algorithm);
        for piece in pieces {
            hasher.update(piece.as_ref());
        }
        Self {
            algorithm,
            value: finish(algorithm, hasher),
            is_composite: false,
        }
    }

    /// The checksum of the checksums of an upload's parts.
    pub(crate) fn composite<'a>(
        algorithm: Algorithm,
        parts: impl ExactSizeIterator<Item = &'a Self>,
    ) -> Self {
        let count = parts.len();
        let digests = parts.map(|part| STANDARD.decode(&part.value).unwrap_or_default());
        let value = Self::of(algorithm, digests).value;
        Self {
            algorithm,
            value: format!("{value}-{count}"),
            is_composite: true,
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        if self.is_composite {
            "COMPOSITE"
        } else {
            "FULL_OBJECT"
        }
    }
}

fn hasher(algorithm: Algorithm) -> ChecksumHasher {
    let mut hasher = ChecksumHasher::default();
    match algorithm {
        Algorithm::Crc32 => hasher.crc32 = Some(Crc32::new()),
        Algorithm::Crc32c => hasher.crc32c = Some(Crc32c::new()),
        Algorithm::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
        Algorithm::Sha1 => hasher.sha1 = Some(Sha1::new()),
        Algorithm::Sha256 => hasher.sha256 = Some(Sha256::new()),
    }
    hasher
}

fn finish(algorithm: Algorithm, hasher: ChecksumHasher) -> String {
    let checksum = hasher.finalize();
    match algorithm {
        Algorithm::Crc32 => checksum.checksum_crc32,
        Algorithm::Crc32c => checksum.checksum_crc32c,
        Algorithm::Crc64Nvme => checksum.checksum_crc64nvme,
        Algorithm::Sha1 => checksum.checksum_sha1,
        Algorithm::Sha256 => checksum.checksum_sha256,
    }
    .unwrap_or_default()
}

/// Digests bytes as they come in, and compares at the end.
pub(crate) struct Verifier {
    md5: Md5,
    content_md5: Option<String>,
    checksum: Option<(Algorithm, ChecksumHasher)>,
    /// What the head of the request says; a trailer says it at the end.
    announced: Option<String>,
}

/// What was verified.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// In hexadecimal.
    pub(crate) md5: String,
    pub(crate) checksum: Option<Checksum>,
}

impl Verifier {
    /// Reads what the head of a request announces.
    pub(crate) fn new(headers: &HeaderMap) -> Result<Self, Refusal> {
        let content_md5 = text(headers, "content-md5");
        if let Some(md5) = &content_md5
            && STANDARD.decode(md5).map(|bytes| bytes.len()) != Ok(16)
        {
            return Err(Refusal::s3("InvalidDigest").with("Content-MD5", md5.clone()));
        }
        let announced: Vec<_> = ALGORITHMS
            .iter()
            .filter_map(|(algorithm, _, name)| Some((*algorithm, text(headers, name)?)))
            .collect();
        let trailer = text(headers, "x-amz-trailer")
            .and_then(|name| Algorithm::of_header(&name.to_ascii_lowercase()));
        let (algorithm, announced) = match (announced.as_slice(), trailer) {
            ([], trailer) => (trailer, None),
            ([(algorithm, value)], None) => (Some(*algorithm), Some(value.clone())),
            _ => {
                return Err(Refusal::new(
                    400,
                    "InvalidRequest",
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
                ));
            }
        };
        Ok(Self {
            md5: Md5::new(),
            content_md5,
            checksum: algorithm.map(|algorithm| (algorithm, hasher(algorithm))),
            announced,
        })
    }

    /// Whether the request carries any digest of its body.
    pub(crate) fn is_announced(&self) -> bool {
        self.content_md5.is_some() || self.checksum.is_some()
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some((_, hasher)) = &mut self.checksum {
            hasher.update(bytes);
        }
    }

    pub(crate) fn finish(self, trailers: Option<&HeaderMap>) -> Result<Verified, Refusal> {
        let digest = self.md5.finalize();
        if let Some(expected) = self.content_md5 {
            let computed = STANDARD.encode(digest);
            if computed != expected {
                let message = "The Content-MD5 you specified did not match what we received.";
                return Err(Refusal::new(400, "BadDigest", message)
                    .with("ExpectedDigest", expected)
                    .with("CalculatedDigest", computed));
            }
        }
        let checksum = match self.checksum {
            None => None,
            Some((algorithm, hasher)) => {
                let expected = self
                    .announced
                    .or_else(|| text(trailers?, algorithm.header()));
                let value = finish(algorithm, hasher);
                if expected.as_deref() != Some(&value) {
                    return Err(bad_checksum(algorithm, expected.as_deref()));
                }
                Some(Checksum {
                    algorithm,
                    value,
                    is_composite: false,
                })
            }
        };
        Ok(Verified {
            md5: hex(&digest),
            checksum,
        })
    }
}

fn bad_checksum(algorithm: Algorithm, expected: Option<&str>) -> Refusal {
    let name = algorithm.header();
    match expected {
        Some(_) => Refusal::new(
            400,
            "BadDigest",
            format!(
                "The {} you specified did not match the calculated checksum.",
                algorithm.name()
            ),
        ),
        None => Refusal::new(
            400,
            "InvalidRequest",
            format!("Value for {name} header is invalid."),
        ),
    }
}

/// The MD5 of pieces in hexadecimal: the tag of an object that was put in one request.
pub(crate) fn md5_hex(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut md5 = Md5::new();
    for piece in pieces {
        md5.update(piece.as_ref());
    }
    hex(&md5.finalize())
}

/// The tag of a multipart upload: the MD5 of the MD5s of its parts, and their number. A part's tag
/// that is no MD5 counts as the text it is.
pub(crate) fn multipart_etag<'a>(etags: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = etags.len();
    let digests = etags.map(|etag| unhex(etag).unwrap_or_else(|| etag.as_bytes().to_vec()));
    format!("{}-{count}", md5_hex(digests))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (algorithm, name, header) in ALGORITHMS {
            assert_eq!((algorithm.name(), algorithm.header()), (name, header));
            assert_eq!(Algorithm::named(name), Some(algorithm));
        }
    }

    #[test]
    fn checksums_of_known_bytes() {
        let of = |algorithm| Checksum::of(algorithm, ["hel", "lo"]).value;
        assert_eq!(of(Algorithm::Crc32), "NhCmhg==");
        assert_eq!(
            of(Algorithm::Sha256),
            "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
        );
        let parts = [Checksum::of(Algorithm::Crc32, ["hello"])];
        let whole = Checksum::composite(Algorithm::Crc32, parts.iter());
        assert!(whole.value.ends_with("==-1"));
    }

    #[test]
    fn tags_of_multipart_uploads() {
        let part = md5_hex(["hello"]);
        assert_eq!(part, "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(
            multipart_etag([part.as_str()].into_iter()),
            "62109206880d38a4010a98e11243924a-1"
        );
    }
}
