//! What a file was checked against: said wherever the file is named. No I/O.

use crate::store::EtagKey;

/// What the bytes of a downloaded file were checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// They hash to the digest of the manifest.
    Digest,
    /// Whoever holds them said that they are the version of the manifest; kept in the store under this name.
    Etag(EtagKey),
    /// Nothing, since the entry was made without a checksum; kept in the store under this name.
    Unproven(EtagKey),
}

impl Proof {
    /// Whether every byte was checked: an ETag is the word of a server, not a hash of bytes.
    pub fn is_verified(self) -> bool {
        matches!(self, Self::Digest)
    }

    /// `digest`, `etag` or `none`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Etag(_) => "etag",
            Self::Unproven(_) => "none",
        }
    }

    /// The name in the store, for what no digest names.
    pub fn key(self) -> Option<EtagKey> {
        match self {
            Self::Digest => None,
            Self::Etag(key) | Self::Unproven(key) => Some(key),
        }
    }
}
