//! Which objects of the store must stay: those that a lock names. Each lock we write is registered in the store as a root;
//! as long as it exists, pruning leaves its objects alone. File I/O.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::{ObjectName, RecordKind, Store, StoreError};

use super::error::AppError;
use super::lock::{Lock, LockError};

/// A lock that was written somewhere on this machine.
#[derive(Serialize, Deserialize)]
struct Root {
    lock: PathBuf,
}

/// Objects that locks name, with the locks that name them.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    /// By name.
    pub(super) objects: HashMap<ObjectName, Vec<PathBuf>>,
    /// Roots whose lock is gone.
    pub(super) stale: Vec<PathBuf>,
    /// Locks that are there and cannot be read: what they pin is not known, so that nothing may be deleted.
    pub(super) unreadable: Vec<LockError>,
}

/// Makes the objects that the lock at `path` names stay in the store.
pub(super) fn register(store: &Store, path: &Path) -> Result<(), AppError> {
    let lock = path.canonicalize().map_err(AppError::file("find", path))?;
    let key = lock.to_string_lossy().into_owned();
    let json = serde_json::to_vec(&Root { lock }).map_err(|error| AppError::file("describe", path)(error.into()))?;
    Ok(store.keep_records(RecordKind::Root, &[(key, json)])?)
}

/// What the locks that still exist name.
///
/// # Errors
/// [`StoreError`] when the roots cannot be read.
pub(super) fn pinned(store: &Store) -> Result<Pinned, StoreError> {
    let mut pinned = Pinned::default();
    for record in store.records(RecordKind::Root)? {
        let Ok(Root { lock: path }) = serde_json::from_slice(&record) else { continue };
        let lock = match Lock::read(&path) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                pinned.stale.push(path);
                continue;
            }
            Err(error) => {
                pinned.unreadable.push(error);
                continue;
            }
        };
        let files = lock.artifacts.iter().flat_map(|artifact| &artifact.files);
        for name in files.filter_map(|file| ObjectName::parse(&file.digest).ok()) {
            let locks = pinned.objects.entry(name).or_default();
            if !locks.contains(&path) {
                locks.push(path.clone());
            }
        }
    }
    Ok(pinned)
}

/// Forgets a root whose lock is gone.
pub(super) fn unregister(store: &Store, lock: &Path) -> Result<(), AppError> {
    Ok(store.forget_record(RecordKind::Root, &lock.to_string_lossy())?)
}
