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
    /// The file system has no locks, without which two processes could write one object.
    #[error("the file system of {} has no file locks", path.display())]
    NoLocks {
        /// The lock.
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
    /// What locking a file said.
    pub(super) fn lock(path: &Path) -> impl FnOnce(io::Error) -> Self {
        /// What network file systems without a lock manager say on Linux.
        const ENOLCK: i32 = 37;
        let path = path.to_owned();
        move |source| match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::Unsupported, _) => Self::NoLocks { path, source },
            (_, Some(ENOLCK)) if cfg!(target_os = "linux") => Self::NoLocks { path, source },
            _ => Self::Io { action: "lock", path, source },
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}
