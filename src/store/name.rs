//! What objects are called: by the digest of their bytes, or by an address and a version tag. Pure; no I/O.

use std::fmt;

use crate::digest::{Algorithm, Digest, DigestError};

use super::etag::EtagKey;

/// Name of an object in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectName {
    /// Its bytes hash to this.
    Digest(Digest),
    /// Its bytes came from this address under this version tag; no digest proves them.
    Etag(EtagKey),
}

impl ObjectName {
    /// Parses what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// [`DigestError`] when the text is anything else.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        EtagKey::parse(text).map(Self::Etag).or_else(|_| Digest::parse(text).map(Self::Digest))
    }

    /// What files about the object are called: `md5-<hex>`, `etag-<hex>`.
    pub(super) fn file_name(&self) -> String {
        match self {
            Self::Digest(digest) => format!("{}-{}", digest.algorithm().folder(), digest.to_hex()),
            Self::Etag(key) => format!("{ETAG}-{}", key.to_hex()),
        }
    }

    /// The object whose file name this is.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let (kind, hex) = name.split_once('-')?;
        let known = kind == ETAG || [Algorithm::Md5, Algorithm::Xxh128].iter().any(|known| known.folder() == kind);
        let plain = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (known && plain).then(|| Self::parse(&format!("{kind}:{hex}")).ok()).flatten()
    }
}

/// The folder of objects that no digest names, in the official SDK's layout.
pub(super) const ETAG: &str = "etag";

impl From<Digest> for ObjectName {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl From<EtagKey> for ObjectName {
    fn from(key: EtagKey) -> Self {
        Self::Etag(key)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Etag(key) => key.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_text_and_from_files() {
        for name in [
            ObjectName::from(Digest::of(Algorithm::Md5, b"x")),
            Digest::of(Algorithm::Xxh128, b"x").into(),
            EtagKey::of("http://h/x", "tag").into(),
        ] {
            assert_eq!(ObjectName::parse(&name.to_string()), Ok(name));
            assert_eq!(ObjectName::of_file(&name.file_name()), Some(name));
            assert_eq!(ObjectName::of_file(&name.file_name().to_uppercase()), None);
        }
        assert!(ObjectName::parse("etag:00").is_err() && ObjectName::of_file("sha1-00").is_none());
    }
}
