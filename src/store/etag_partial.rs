//! An [`EtagKey`] object while its bytes arrive. File I/O.
//!
//! No digest of the whole will prove these bytes at the end, so what a crash left behind is not taken on trust: every so
//! many bytes, what is there is synced and its hash written down, and only what hashes to that note is gone on with.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::{Algorithm, FileHasher, Sha256};

use super::durable::{sync_folder, write_durable};
use super::error::StoreError;
use super::etag::{EtagKey, hash_all};
use super::object::{Object, Store, create_folder_of, modified_ns};

/// Bytes between two notes.
const NOTE_EVERY: u64 = 32 << 20;

/// An object being filled, under its lock. Dropped without [`EtagPartial::commit`], the bytes stay for the next attempt.
#[derive(Debug)]
pub struct EtagPartial {
    store: Store,
    key: EtagKey,
    path: PathBuf,
    file: File,
    hasher: FileHasher,
    /// Bytes that the last note covers.
    noted: u64,
    /// Held until the partial is dropped.
    _lock: File,
}

/// What is surely there.
#[derive(Serialize, Deserialize)]
struct Note {
    size: u64,
    sha256: Sha256,
}

impl EtagPartial {
    pub(super) fn open(store: Store, key: EtagKey, path: PathBuf, lock: File) -> Result<Self, StoreError> {
        create_folder_of(&path)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        let hasher = FileHasher::new(Algorithm::Md5);
        let mut partial = Self { store, key, path, file, hasher, noted: 0, _lock: lock };
        let note: Option<Note> = fs::read(partial.note_path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(note) = note {
            let here = (&partial.file).take(note.size);
            let hasher = hash_all(here).map_err(StoreError::io("read", &partial.path))?;
            if hasher.len() == note.size && hasher.sha256() == note.sha256 {
                (partial.hasher, partial.noted) = (hasher, note.size);
            }
        }
        partial.cut(partial.noted)?;
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

    /// Appends bytes, hashing them.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or [`StoreError::Io`]; what was written before stays.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.hasher.update(bytes);
        if self.len() - self.noted >= NOTE_EVERY { self.note() } else { Ok(()) }
    }

    /// Forgets what is here.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file cannot be cut.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        (self.hasher, self.noted) = (FileHasher::new(Algorithm::Md5), 0);
        self.forget_note()?;
        self.cut(0)
    }

    /// Gives the bytes their name. The caller knows that they are all there is.
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn commit(mut self) -> Result<Object, StoreError> {
        self.file.sync_all().map_err(StoreError::io("sync", &self.path))?;
        let path = self.store.etag_path(&self.key);
        create_folder_of(&path)?;
        fs::rename(&self.path, &path).map_err(StoreError::io("name", &path))?;
        self.noted = self.len();
        if let Some(folder) = path.parent() {
            sync_folder(folder).map_err(StoreError::io("sync", folder))?;
        }
        let metadata = fs::metadata(&path).map_err(StoreError::io("read", &path))?;
        let (digest, sha256) = (self.hasher.digest(), self.hasher.sha256());
        let object = Object { path, digest, size: self.len() };
        self.store.remember_etag(&self.key, (&object, sha256), modified_ns(&metadata))?;
        self.forget_note()?;
        Ok(object)
    }

    fn note(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync", &self.path))?;
        let path = self.note_path();
        let note = Note { size: self.len(), sha256: self.hasher.sha256() };
        let text =
            serde_json::to_vec(&note).map_err(std::io::Error::from).map_err(StoreError::io("describe", &path))?;
        write_durable(&path, &text).map_err(StoreError::io("write", &path))?;
        self.noted = self.len();
        Ok(())
    }

    fn note_path(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    fn forget_note(&self) -> Result<(), StoreError> {
        let path = self.note_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("delete", &path)(error)),
            _ => Ok(()),
        }
    }

    fn cut(&self, size: u64) -> Result<(), StoreError> {
        self.file.set_len(size).map_err(StoreError::io("truncate", &self.path))
    }
}

impl Drop for EtagPartial {
    fn drop(&mut self) {
        if self.len() > self.noted {
            // Without the note the next attempt starts over, which costs time and nothing else.
            let _ = self.note();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    #[test]
    fn only_bytes_that_were_noted_are_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let key = EtagKey::of("http://h/x", "abc");
        let mut partial = store.replace_etag(&key).unwrap();
        partial.append(b"hel").unwrap();
        let path = partial.path.clone();
        drop(partial);
        // A crash left bytes behind that nobody noted.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\0\0").unwrap();
        let mut partial = store.replace_etag(&key).unwrap();
        assert_eq!(partial.len(), 3);
        partial.append(b"lo").unwrap();
        let object = partial.commit().unwrap();
        assert_eq!(fs::read(&object.path).unwrap(), b"hello");
        assert_eq!(store.sha256(&object).unwrap(), Sha256::of(b"hello"));
        assert_eq!(store.replace_etag(&key).unwrap().len(), 0);
    }

    #[test]
    fn bytes_that_changed_meanwhile_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let key = EtagKey::of("http://h/x", "abc");
        let mut partial = store.replace_etag(&key).unwrap();
        partial.append(b"hel").unwrap();
        let path = partial.path.clone();
        drop(partial);
        fs::write(&path, b"jel").unwrap();
        assert!(store.replace_etag(&key).unwrap().is_empty());
    }
}
