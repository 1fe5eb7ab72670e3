//! An object while its bytes arrive: appended to under its lock, named once it is whole and right.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use bytes::Bytes;

use crate::digest::{Digest, PooledHasher};

use super::durable::sync_folder;
use super::error::StoreError;
use super::object::{Object, Store, create_folder_of, hash_reader, modified_ns};

/// An object being filled, under its lock. Dropped without [`Partial::commit`], the bytes stay for the next attempt.
#[derive(Debug)]
pub struct Partial {
    store: Store,
    digest: Digest,
    size: u64,
    path: PathBuf,
    file: File,
    hasher: PooledHasher,
    /// Held until the partial is dropped.
    _lock: File,
}

impl Partial {
    pub(super) fn open(store: Store, digest: Digest, size: u64, path: PathBuf, lock: File) -> Result<Self, StoreError> {
        create_folder_of(&path)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        let mut hasher = PooledHasher::new(&store.hashing, digest.algorithm());
        hash_reader(&mut hasher, &file, |_| ()).map_err(StoreError::io("read", &path))?;
        let mut partial = Self { store, digest, size, path, file, hasher, _lock: lock };
        if partial.len() > size {
            partial.restart()?;
        }
        Ok(partial)
    }

    /// Bytes here already: where to go on.
    pub fn len(&self) -> u64 {
        self.hasher.len()
    }

    /// Whether nothing is here yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes; they are hashed meanwhile.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or [`StoreError::Io`]; what was written before stays.
    pub fn append(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.file.write_all(&bytes).map_err(StoreError::io("write", &self.path))?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Forgets what is here.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file cannot be cut.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(StoreError::io("truncate", &self.path))?;
        self.hasher = PooledHasher::new(&self.store.hashing, self.digest.algorithm());
        Ok(())
    }

    /// Checks size and digest and gives the bytes their name.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when they are not what was promised: the bytes are deleted then.
    pub fn commit(mut self) -> Result<Object, StoreError> {
        let found = self.hasher.digest();
        if found != self.digest || self.len() != self.size {
            let found_size = self.len();
            fs::remove_file(&self.path).map_err(StoreError::io("delete", &self.path))?;
            return Err(StoreError::Corrupt { expected: self.digest, expected_size: self.size, found, found_size });
        }
        self.file.sync_all().map_err(StoreError::io("sync", &self.path))?;
        let path = self.store.object_path(&self.digest);
        create_folder_of(&path)?;
        fs::rename(&self.path, &path).map_err(StoreError::io("name", &path))?;
        if let Some(folder) = path.parent() {
            sync_folder(folder).map_err(StoreError::io("sync", folder))?;
        }
        let metadata = fs::metadata(&path).map_err(StoreError::io("read", &path))?;
        let object = Object { path, digest: self.digest, size: self.size };
        self.store.remember(&object, modified_ns(&metadata), None)?;
        self.store.forget_parts(&object.digest)?;
        Ok(object)
    }
}
