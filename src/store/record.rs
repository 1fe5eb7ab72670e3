//! Small records kept beside the objects: what names stood for, manifests, roots. One file a record, named by a hash of
//! its key, so that keys may hold anything. What the bytes mean is the writer's business. File I/O.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Sha256;

use super::durable::write_all_durable;
use super::error::StoreError;
use super::object::{Store, delete};

/// What a record is about; each kind has a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// What a name stood for when a server was asked.
    Resolution,
    /// The manifest of an artifact version.
    Manifest,
    /// A file that names objects which must stay.
    Root,
    /// A checkpoint outside the store, as it was when it was hashed.
    Local,
}

impl RecordKind {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Resolution => "resolutions",
            Self::Manifest => "manifests",
            Self::Root => "roots",
            Self::Local => "local",
        }
    }
}

impl Store {
    /// The record under this key, where there is one.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it is there and cannot be read.
    pub fn record(&self, kind: RecordKind, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        read_if_there(&self.record_path(kind, key))
    }

    /// Keeps records under their keys, durably; one that is there with the same bytes is not written again.
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn keep_records(&self, kind: RecordKind, records: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let mut changed = Vec::new();
        for (key, bytes) in records {
            let path = self.record_path(kind, key);
            if read_if_there(&path)?.as_ref() != Some(bytes) {
                changed.push((path, bytes.as_slice()));
            }
        }
        let folder = self.own(kind.folder());
        write_all_durable(&changed).map_err(StoreError::io("write records to", &folder))
    }

    /// Every record of a kind.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder or a record cannot be read.
    pub fn records(&self, kind: RecordKind) -> Result<Vec<Vec<u8>>, StoreError> {
        let folder = self.own(kind.folder());
        let mut records = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(records),
            Err(error) => return Err(StoreError::io("list", &folder)(error)),
        };
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", &folder))?.path();
            if is_record(&path) {
                records.extend(read_if_there(&path)?);
            }
        }
        Ok(records)
    }

    /// Forgets a record; one that is not there is forgotten already.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system refuses.
    pub fn forget_record(&self, kind: RecordKind, key: &str) -> Result<(), StoreError> {
        delete(&self.record_path(kind, key))
    }

    fn record_path(&self, kind: RecordKind, key: &str) -> PathBuf {
        let mut name = Sha256::of(key.as_bytes()).to_hex();
        name.truncate(40);
        self.own(kind.folder()).join(name + ".json")
    }
}

/// Not a temporary file of a record that is being written.
pub(super) fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    #[test]
    fn records_are_kept_replaced_listed_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let kind = RecordKind::Resolution;
        assert_eq!(store.records(kind).unwrap(), Vec::<Vec<u8>>::new());
        let key = "../host\0e/p/n:latest".to_owned();
        store.keep_records(kind, &[(key.clone(), b"1".to_vec()), ("other".to_owned(), b"2".to_vec())]).unwrap();
        store.keep_records(kind, &[(key.clone(), b"3".to_vec())]).unwrap();
        assert_eq!(store.record(kind, &key).unwrap().unwrap(), b"3");
        let mut all = store.records(kind).unwrap();
        all.sort();
        assert_eq!(all, [b"2", b"3"]);
        assert_eq!(store.record(RecordKind::Manifest, &key).unwrap(), None);
        store.forget_record(kind, &key).unwrap();
        store.forget_record(kind, &key).unwrap();
        assert_eq!(store.record(kind, &key).unwrap(), None);
    }

    #[test]
    fn the_same_bytes_are_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let keep = || store.keep_records(RecordKind::Manifest, &[("k".to_owned(), b"1".to_vec())]).unwrap();
        keep();
        let path = store.record_path(RecordKind::Manifest, "k");
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        keep();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), long_ago);
    }
}
