//! What can go wrong with the store. No I/O.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// Why the store could not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space left while writing {}", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not the ones the manifest promised; they have been deleted.
    #[error("expected {expected} of {expected_size} bytes, got {found} of {found_size} bytes")]
    Corrupt {
        /// Digest promised.
        expected: Digest,
        /// Size promised.
        expected_size: u64,
        /// Digest of what arrived.
        found: Digest,
        /// Size of what arrived.
        found_size: u64,
    },
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Io { action, path, source },
        }
    }
}
