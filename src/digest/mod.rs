//! Digests of file contents: what W&B stores (MD5 or XXH128) and what we pin (SHA-256), and hashing while bytes stream by.
//!
//! W&B writes file digests as padded base64, artifact digests and object paths as lower-case hex. XXH128 is the
//! 16-byte big-endian (canonical) form of XXH3-128 with seed 0.

mod md5_lanes;
mod md5_pool;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256 as Sha256State};
use xxhash_rust::xxh3::Xxh3;

use md5_pool::Md5Stream;

pub use md5_pool::Md5Pool;

/// How W&B hashed a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5, the default.
    Md5,
    /// XXH3-128, marked in the manifest by `extra.alg = "XXH128"`.
    Xxh128,
}

impl Algorithm {
    /// The folder name in the store, which is the official SDK's.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Xxh128 => "xxh128",
        }
    }
}

/// A file digest as W&B keeps it: 16 bytes and the algorithm they came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 16],
}

/// A text that is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not the {expected} of a digest")]
pub struct DigestError {
    text: String,
    expected: &'static str,
}

impl Digest {
    /// A digest from its bytes.
    pub fn new(algorithm: Algorithm, bytes: [u8; 16]) -> Self {
        Self { algorithm, bytes }
    }

    /// Digest of bytes in memory.
    pub fn of(algorithm: Algorithm, data: &[u8]) -> Self {
        let mut hasher = DigestHasher::new(algorithm);
        hasher.update(data);
        hasher.digest()
    }

    /// Parses the padded base64 of a manifest entry.
    ///
    /// # Errors
    /// [`DigestError`] when the text is not base64 of 16 bytes.
    pub fn from_base64(algorithm: Algorithm, text: &str) -> Result<Self, DigestError> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(|bytes| Self { algorithm, bytes })
            .ok_or_else(|| DigestError { text: text.to_owned(), expected: "base64 of 16 bytes" })
    }

    /// Parses the algorithm and hex that [`fmt::Display`] writes.
    ///
    /// # Errors
    /// [`DigestError`] when the text is anything else.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let algorithms = [Algorithm::Md5, Algorithm::Xxh128];
        let parsed = text.split_once(':').and_then(|(folder, hex)| {
            let algorithm = algorithms.into_iter().find(|algorithm| algorithm.folder() == folder)?;
            let bytes = unhex(hex)?.try_into().ok()?;
            Some(Self { algorithm, bytes })
        });
        parsed.ok_or_else(|| DigestError { text: text.to_owned(), expected: "algorithm and hex" })
    }

    /// How the bytes came about.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Padded base64, as in manifests.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.bytes)
    }

    /// Lower-case hex, as in object paths and artifact digests.
    pub fn to_hex(&self) -> String {
        hex(&self.bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.folder(), self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// SHA-256 of a file: what locks and fits pin, computed when they first ask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// SHA-256 of bytes in memory.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256State::digest(data).into())
    }

    /// Parses 64 hex digits.
    ///
    /// # Errors
    /// [`DigestError`] when the text is anything else.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| DigestError { text: text.to_owned(), expected: "hex of 32 bytes" })
    }

    /// Lower-case hex.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl TryFrom<String> for Sha256 {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::from_hex(&text)
    }
}

impl From<Sha256> for String {
    fn from(sha256: Sha256) -> Self {
        sha256.to_hex()
    }
}

/// Hashes a stream into its SHA-256.
#[derive(Clone, Default)]
pub struct Sha256Hasher(Sha256State);

impl fmt::Debug for Sha256Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sha256Hasher").finish_non_exhaustive()
    }
}

impl Sha256Hasher {
    /// Appends bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The SHA-256 of everything so far.
    pub fn finish(&self) -> Sha256 {
        Sha256(self.0.clone().finalize().into())
    }
}

enum W128 {
    Md5(Md5),
    Xxh128(Box<Xxh3>),
}

/// Hashes a stream into its W&B digest only: for uploads, which pin nothing.
pub struct DigestHasher(W128);

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestHasher").finish_non_exhaustive()
    }
}

impl DigestHasher {
    /// Nothing hashed yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Md5 => W128::Md5(Md5::new()),
            Algorithm::Xxh128 => W128::Xxh128(Box::new(Xxh3::new())),
        })
    }

    /// Appends bytes.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            W128::Md5(md5) => md5.update(data),
            W128::Xxh128(xxh) => xxh.update(data),
        }
    }

    /// The W&B digest of everything so far.
    pub fn digest(&self) -> Digest {
        match &self.0 {
            W128::Md5(md5) => Digest::new(Algorithm::Md5, md5.clone().finalize().into()),
            W128::Xxh128(xxh) => Digest::new(Algorithm::Xxh128, xxh.digest128().to_be_bytes()),
        }
    }
}

/// Hashes a stream into its W&B digest and its SHA-256 in one pass, each chunk while it is in cache.
pub struct FileHasher {
    digest: DigestHasher,
    sha256: Sha256Hasher,
    len: u64,
}

impl fmt::Debug for FileHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileHasher").field("len", &self.len).finish_non_exhaustive()
    }
}

impl FileHasher {
    /// Nothing hashed yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { digest: DigestHasher::new(algorithm), sha256: Sha256Hasher::default(), len: 0 }
    }

    /// Appends bytes.
    pub fn update(&mut self, data: &[u8]) {
        // Pieces of this size stay in the first-level cache between the two hashes.
        for piece in data.chunks(16 * 1024) {
            self.digest.update(piece);
            self.sha256.update(piece);
        }
        self.len += data.len() as u64;
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The W&B digest of everything so far.
    pub fn digest(&self) -> Digest {
        self.digest.digest()
    }

    /// The SHA-256 of everything so far.
    pub fn sha256(&self) -> Sha256 {
        self.sha256.finish()
    }
}

enum Pooled {
    Md5(Md5Stream),
    Xxh128(Box<Xxh3>),
}

/// Hashes a stream into its W&B digest, MD5 side by side with the other streams of a pool. It may wait for the pool.
pub struct PooledHasher {
    pooled: Pooled,
    len: u64,
}

impl fmt::Debug for PooledHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledHasher").field("len", &self.len).finish_non_exhaustive()
    }
}

impl PooledHasher {
    /// Nothing hashed yet.
    pub fn new(pool: &Md5Pool, algorithm: Algorithm) -> Self {
        let pooled = match algorithm {
            Algorithm::Md5 => Pooled::Md5(pool.stream()),
            Algorithm::Xxh128 => Pooled::Xxh128(Box::new(Xxh3::new())),
        };
        Self { pooled, len: 0 }
    }

    /// Appends bytes; waits while the pool is behind.
    pub fn update(&mut self, data: Bytes) {
        self.len += data.len() as u64;
        match &mut self.pooled {
            Pooled::Md5(md5) => md5.update(data),
            Pooled::Xxh128(xxh) => xxh.update(&data),
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The W&B digest of everything so far; waits until all of it is hashed.
    pub fn digest(&mut self) -> Digest {
        match &mut self.pooled {
            Pooled::Md5(md5) => Digest::new(Algorithm::Md5, md5.finish()),
            Pooled::Xxh128(xxh) => Digest::new(Algorithm::Xxh128, xxh.digest128().to_be_bytes()),
        }
    }
}

/// Lower-case hex of bytes.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::try_from(digit(&pair[0])? * 16 + digit(&pair[1])?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_match_the_official_vectors() {
        assert_eq!(Digest::of(Algorithm::Md5, b"").to_base64(), "1B2M2Y8AsgTpgAmY7PhCfg==");
        assert_eq!(Digest::of(Algorithm::Md5, b"hello\n").to_base64(), "sZRqySSS0jR8YjW00mERhA==");
        assert_eq!(Digest::of(Algorithm::Xxh128, b"").to_base64(), "maoG0wFHmNhgAcMkRo1Jfw==");
        assert_eq!(Digest::of(Algorithm::Xxh128, b"one").to_hex(), "0a1c6d4cf41eb499911faba7321fe1a0");
        assert_eq!(Digest::of(Algorithm::Xxh128, b"hello\n").to_base64(), "a7qGx+Bp9W1aELQ18cjknA==");
    }

    #[test]
    fn texts_round_trip_and_nonsense_is_refused() {
        let digest = Digest::of(Algorithm::Md5, b"x");
        assert_eq!(Digest::from_base64(Algorithm::Md5, &digest.to_base64()), Ok(digest));
        assert!(Digest::from_base64(Algorithm::Md5, "AAAA").is_err());
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        for bad in ["md5", "md5:", "sha:00", "md5:0g", "md5:é0"] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
        let sha = Sha256::of(b"x");
        assert_eq!(Sha256::from_hex(&sha.to_hex()), Ok(sha));
        assert!(Sha256::from_hex("zz").is_err());
        assert!(Sha256::from_hex(&"é".repeat(32)).is_err());
    }

    #[test]
    fn a_stream_hashes_like_its_whole() {
        let data: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let mut hasher = FileHasher::new(Algorithm::Xxh128);
        data.chunks(777).for_each(|piece| hasher.update(piece));
        assert_eq!(hasher.digest(), Digest::of(Algorithm::Xxh128, &data));
        assert_eq!(hasher.sha256(), Sha256::of(&data));
    }
}
