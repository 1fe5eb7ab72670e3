//! Parts of an object: a sparse file of the object's size and the record of which of its bytes are here, filled under the
//! object's lock. File I/O.
//!
//! The bytes outside the record read as zeros, so nothing may be read without asking [`Sparse::present`]. They were not
//! checked against the object's digest, which speaks of all bytes only: whoever reads them needs another proof, or says
//! that there is none. The record is written after the bytes are on disk, and removed before they are given up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ranges::RangeSet;

use super::durable::{sync_folder, write_durable};
use super::error::StoreError;
use super::object::{Object, Store, create_folder_of, file_name};

/// What [`Store::sparse`] found.
#[derive(Debug)]
pub enum Holding {
    /// All of the object is here and verified.
    Whole(Object),
    /// It is not; the caller alone may add parts to these.
    Parts(Box<Sparse>),
}

/// The parts of an object that are here, under its lock. Dropped without [`Sparse::keep`], what was added is forgotten.
#[derive(Debug)]
pub struct Sparse {
    path: PathBuf,
    record: PathBuf,
    file: File,
    size: u64,
    known: Known,
    /// Held until this is dropped.
    _lock: File,
}

/// What the record says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// Size of the whole object in bytes.
    size: u64,
    /// Version tag of the answers that brought the bytes, where the server gave one.
    version: Option<String>,
    present: RangeSet,
}

impl Store {
    /// The object when it is here as a whole, otherwise the parts of it that are. Waits while another process adds to them
    /// or fills the object.
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn sparse(&self, digest: &Digest, size: u64) -> Result<Holding, StoreError> {
        let lock = self.lock(digest)?;
        if let Some(object) = self.find(digest, size)? {
            self.forget_parts(digest)?;
            return Ok(Holding::Whole(object));
        }
        let path = self.parts_path(digest);
        Sparse::open(path, size, lock).map(|sparse| Holding::Parts(Box::new(sparse)))
    }

    /// Removes the parts of an object: it is here as a whole, or they are of no use.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn forget_parts(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.parts_path(digest);
        remove(&record_of(&path)).and_then(|()| remove(&path))
    }

    fn parts_path(&self, digest: &Digest) -> PathBuf {
        self.own("ranges").join(file_name(digest))
    }
}

fn record_of(path: &Path) -> PathBuf {
    path.with_extension("json")
}

impl Sparse {
    fn open(path: PathBuf, size: u64, lock: File) -> Result<Self, StoreError> {
        create_folder_of(&path)?;
        let record = record_of(&path);
        let file = open(&path)?;
        let held = file.metadata().map_err(StoreError::io("read", &path))?.len();
        // A record that cannot be read, or speaks of another file, only means that the bytes are fetched again.
        let known = fs::read(&record).ok().and_then(|text| serde_json::from_slice::<Known>(&text).ok());
        let known = known.filter(|known| known.size == size && held == size && known.present.end() <= size);
        // Without a version tag nothing proves that what comes now is of the same object.
        let known = known.filter(|known| known.version.is_some());
        let mut sparse = Self { path, record, file, size, known: Known::default(), _lock: lock };
        match known {
            Some(known) => sparse.known = known,
            None => sparse.restart()?,
        }
        Ok(sparse)
    }

    /// Where the bytes are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the whole object in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Which bytes are here.
    pub fn present(&self) -> &RangeSet {
        &self.known.present
    }

    /// Version tag of the answers that brought them.
    pub fn version(&self) -> Option<&str> {
        self.known.version.as_deref()
    }

    /// Says which version of the object the next bytes are of.
    pub fn set_version(&mut self, version: Option<String>) {
        self.known.version = version;
    }

    /// Puts bytes in their place.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or [`StoreError::Io`]; bytes beyond the object's end are refused as such.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = at.checked_add(bytes.len() as u64).filter(|&end| end <= self.size);
        let written = match end {
            None => Err(io::ErrorKind::InvalidInput.into()),
            Some(_) => self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(bytes)),
        };
        written.map_err(StoreError::io("write", &self.path))?;
        self.known.present.insert(at..at + bytes.len() as u64);
        Ok(())
    }

    /// Makes what is here survive a crash.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or [`StoreError::Io`].
    pub fn keep(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync", &self.path))?;
        let text = serde_json::to_vec(&self.known).map_err(io::Error::from);
        let written = text.and_then(|text| write_durable(&self.record, &text));
        written.map_err(StoreError::io("write", &self.record))
    }

    /// Gives up what is here: it is of another version than what comes. Whoever has the old file open keeps it as it was.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn restart(&mut self) -> Result<(), StoreError> {
        remove(&self.record)?;
        remove(&self.path)?;
        self.file = open(&self.path)?;
        self.file.set_len(self.size).map_err(StoreError::io("size", &self.path))?;
        self.known = Known { size: self.size, version: None, present: RangeSet::default() };
        Ok(())
    }

    /// Removes what is here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn discard(self) -> Result<(), StoreError> {
        remove(&self.record).and_then(|()| remove(&self.path))
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    file.map_err(StoreError::io("open", path))
}

/// Removes a file that may not exist, for good.
fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_folder).map_err(StoreError::io("delete", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("delete", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reservation;
    use super::*;
    use crate::digest::Algorithm;
    use crate::progress::Progress;

    fn parts(store: &Store, data: &[u8]) -> Sparse {
        match store.sparse(&Digest::of(Algorithm::Md5, data), data.len() as u64).unwrap() {
            Holding::Parts(sparse) => *sparse,
            Holding::Whole(_) => panic!("nothing filled it"),
        }
    }

    #[test]
    fn kept_parts_are_there_again_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let mut sparse = parts(&store, b"hello world");
        sparse.write(6, b"world").unwrap();
        sparse.set_version(Some("\"1\"".to_owned()));
        sparse.keep().unwrap();
        sparse.write(0, b"he").unwrap();
        assert_eq!(sparse.present().bytes(), 7);
        drop(sparse);
        let mut sparse = parts(&store, b"hello world");
        assert_eq!((sparse.present(), sparse.version()), (&std::iter::once(6..11).collect(), Some("\"1\"")));
        assert_eq!(fs::read(sparse.path()).unwrap().len(), 11);
        assert!(matches!(sparse.write(7, b"world"), Err(StoreError::Io { .. })));
        sparse.restart().unwrap();
        assert_eq!((sparse.present().bytes(), sparse.version()), (0, None));
        assert_eq!(fs::read(sparse.path()).unwrap(), [0; 11]);
    }

    #[test]
    fn a_record_of_another_file_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        for damage in ["cut", "text", "beyond", "no version"] {
            let mut sparse = parts(&store, b"hello");
            sparse.write(1, b"ell").unwrap();
            sparse.set_version((damage != "no version").then(|| "\"1\"".to_owned()));
            sparse.keep().unwrap();
            match damage {
                "no version" => {}
                "cut" => sparse.file.set_len(4).unwrap(),
                "text" => fs::write(&sparse.record, "{").unwrap(),
                _ => fs::write(&sparse.record, r#"{"size":5,"version":"1","present":[[1,6]]}"#).unwrap(),
            }
            drop(sparse);
            assert_eq!(parts(&store, b"hello").present().bytes(), 0, "{damage}");
        }
    }

    #[test]
    fn the_whole_object_takes_the_place_of_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let mut sparse = parts(&store, b"hello");
        sparse.write(1, b"ell").unwrap();
        sparse.keep().unwrap();
        drop(sparse);
        let digest = Digest::of(Algorithm::Md5, b"hello");
        let Reservation::Missing(mut partial) = store.reserve(&digest, 5).unwrap() else { panic!("not whole yet") };
        assert!(partial.is_empty(), "parts are no beginning");
        partial.append(bytes::Bytes::from_static(b"hello")).unwrap();
        partial.commit().unwrap();
        assert_eq!(fs::read_dir(folder.path().join("wandb-pca-1/ranges")).unwrap().count(), 0);
        assert!(matches!(store.sparse(&digest, 5).unwrap(), Holding::Whole(_)));
    }
}
