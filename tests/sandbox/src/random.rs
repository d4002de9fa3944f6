//! A reproducible source of keys, secrets and tokens.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// SHA-256 in counter mode: the same seed gives the same keys in the same order.
#[derive(Debug)]
pub(crate) struct Random {
    seed: u64,
    drawn: AtomicU64,
}

impl Random {
    /// Without a seed, one is taken from the operating system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self {
            seed,
            drawn: AtomicU64::new(0),
        }
    }

    pub(crate) fn bytes(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 32);
        while bytes.len() < count {
            let block = self.drawn.fetch_add(1, Ordering::Relaxed);
            let mut hash = Sha256::new();
            hash.update(self.seed.to_be_bytes());
            hash.update(block.to_be_bytes());
            bytes.extend_from_slice(&hash.finalize());
        }
        bytes.truncate(count);
        bytes
    }

    /// `count` characters of the base32 alphabet, as in access key ids.
    pub(crate) fn base32(&self, count: usize) -> String {
        self.bytes(count)
            .iter()
            .map(|byte| char::from(BASE32[usize::from(byte % 32)]))
            .collect()
    }

    /// `count` decimal digits, as in serial numbers.
    pub(crate) fn digits(&self, count: usize) -> String {
        self.bytes(count)
            .iter()
            .map(|byte| char::from(b'0' + byte % 10))
            .collect()
    }

    /// `count` random bytes in base64, as in secret keys and session tokens.
    pub(crate) fn base64(&self, count: usize) -> String {
        STANDARD.encode(self.bytes(count))
    }

    /// `count` characters of the alphabet of base64 that is safe in URLs, as in tokens of OAuth.
    pub(crate) fn url_safe(&self, count: usize) -> String {
        let mut text = URL_SAFE_NO_PAD.encode(self.bytes(count));
        text.truncate(count);
        text
    }

    /// `count` hexadecimal characters in upper case, as in S3 request ids.
    pub(crate) fn hex(&self, count: usize) -> String {
        let digits = b"0123456789ABCDEF";
        self.bytes(count)
            .iter()
            .map(|byte| char::from(digits[usize::from(byte % 16)]))
            .collect()
    }

    /// A random UUID, as in STS request ids.
    pub(crate) fn uuid(&self) -> String {
        let hex = self.hex(32).to_lowercase();
        let (a, rest) = hex.split_at(8);
        let (b, rest) = rest.split_at(4);
        let (c, rest) = rest.split_at(4);
        let (d, e) = rest.split_at(4);
        format!("{a}-{b}-{c}-{d}-{e}")
    }
}
