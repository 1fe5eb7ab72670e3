//! Which objects of the store must stay: those that a lock names. Each lock we write is registered in the store as a root;
//! as long as it exists, pruning leaves its objects alone. File I/O.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::{RecordKind, Store};

use super::error::AppError;

/// A lock that was written somewhere on this machine.
#[derive(Serialize, Deserialize)]
struct Root {
    lock: PathBuf,
}

/// Makes the objects that the lock at `path` names stay in the store.
pub(super) fn register(store: &Store, path: &Path) -> Result<(), AppError> {
    let lock = path.canonicalize().map_err(AppError::file("find", path))?;
    let key = lock.to_string_lossy().into_owned();
    let json = serde_json::to_vec(&Root { lock }).map_err(|error| AppError::file("describe", path)(error.into()))?;
    Ok(store.keep_records(RecordKind::Root, &[(key, json)])?)
}
