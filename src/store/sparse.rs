//! Parts of an object: a sparse file of the object's size and the record of which of its bytes are here, filled under the
//! object's lock. File I/O.
//!
//! The bytes outside the record read as zeros, so nothing may be read without asking [`Sparse::present`]. They were not
//! checked against the object's digest, which speaks of all bytes only: whoever reads them needs another proof, or says
//! that there is none. The record is written after the bytes are on disk, and removed before they are given up. A file
//! that starts anew has another name, so that a path never leads to other bytes than those it was given out for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ranges::RangeSet;

use super::durable::{sync_folder, write_durable};
use super::error::StoreError;
use super::name::ObjectName;
use super::object::{Object, Store, create_folder_of};

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
    /// Where the file, its record and those that came before are, and how their names begin.
    base: PathBuf,
    path: PathBuf,
    file: File,
    known: Known,
    /// Held until this is dropped.
    _lock: File,
}

/// What the record says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// Name of the sparse file.
    file: String,
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
        let lock = self.lock(*digest)?;
        if let Some(object) = self.find(digest, size)? {
            self.forget_parts(digest)?;
            return Ok(Holding::Whole(object));
        }
        Sparse::open(self.parts_base(digest), size, lock).map(|sparse| Holding::Parts(Box::new(sparse)))
    }

    /// How many bytes of an object of this size are here in parts, as things stand: another process may add to them.
    pub fn bytes_of_parts(&self, digest: &Digest, size: u64) -> u64 {
        Known::read(&self.parts_base(digest), size).map_or(0, |known| known.present.bytes())
    }

    /// Removes the parts of an object: it is here as a whole, or they are of no use.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn forget_parts(&self, digest: &Digest) -> Result<(), StoreError> {
        forget(&self.parts_base(digest))
    }

    fn parts_base(&self, digest: &Digest) -> PathBuf {
        self.own("ranges").join(ObjectName::from(*digest).file_name())
    }
}

fn record_of(base: &Path) -> PathBuf {
    base.with_extension("json")
}

/// Removes the record, then every sparse file.
fn forget(base: &Path) -> Result<(), StoreError> {
    remove(&record_of(base))?;
    let (Some(folder), Some(name)) = (base.parent(), base.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(StoreError::io("list", folder))?,
    };
    for entry in entries {
        let path = entry.map_err(StoreError::io("list", folder))?.path();
        let found = path.file_name().and_then(|found| found.to_str()).and_then(|found| found.strip_prefix(name));
        if found.is_some_and(|rest| rest.starts_with('.')) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// A new file of this size without any bytes in it, under a name that no other had.
fn create(base: &Path, size: u64) -> Result<(File, PathBuf), StoreError> {
    create_folder_of(base)?;
    let (folder, name) = (base.parent().unwrap_or(base), base.file_name().unwrap_or_default());
    let mut prefix = name.to_owned();
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(12);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let created = builder.tempfile_in(folder).map_err(StoreError::io("create", base))?;
    let (file, path) = created.keep().map_err(|error| StoreError::io("keep", base)(error.error))?;
    file.set_len(size).map_err(StoreError::io("size", &path))?;
    Ok((file, path))
}

impl Sparse {
    fn open(base: PathBuf, size: u64, lock: File) -> Result<Self, StoreError> {
        if let Some(known) = Known::read(&base, size)
            && let Some((file, path)) = reopen(&base, &known.file, size)?
        {
            return Ok(Self { base, path, file, known, _lock: lock });
        }
        forget(&base)?;
        let (file, path) = create(&base, size)?;
        let known = Known::of(&path, size);
        Ok(Self { base, path, file, known, _lock: lock })
    }

    /// Where the bytes are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the whole object in bytes.
    pub fn size(&self) -> u64 {
        self.known.size
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
        let end = at.checked_add(bytes.len() as u64).filter(|&end| end <= self.known.size);
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
        let record = record_of(&self.base);
        let written = text.and_then(|text| write_durable(&record, &text));
        written.map_err(StoreError::io("write", &record))
    }

    /// Gives up what is here: it is of another version than what comes. Whoever has the old file open keeps it as it was.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn restart(&mut self) -> Result<(), StoreError> {
        forget(&self.base)?;
        (self.file, self.path) = create(&self.base, self.known.size)?;
        self.known = Known::of(&self.path, self.known.size);
        Ok(())
    }

    /// Removes what is here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn discard(self) -> Result<(), StoreError> {
        forget(&self.base)
    }
}

impl Known {
    /// The record of an object of this size, where it can be used.
    fn read(base: &Path, size: u64) -> Option<Self> {
        // A record that cannot be read, or speaks of another file, only means that the bytes are fetched again.
        let known: Self = serde_json::from_slice(&fs::read(record_of(base)).ok()?).ok()?;
        // Without a version tag nothing proves that what comes now is of the same object.
        Some(known).filter(|known| known.size == size && known.present.end() <= size && known.version.is_some())
    }

    fn of(path: &Path, size: u64) -> Self {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { file, size, version: None, present: RangeSet::default() }
    }
}

/// The file that a record names, when it is there and one of ours.
fn reopen(base: &Path, name: &str, size: u64) -> Result<Option<(File, PathBuf)>, StoreError> {
    let ours = base.file_name().and_then(|base| base.to_str()).and_then(|base| name.strip_prefix(base));
    if !ours.is_some_and(|rest| rest.starts_with('.') && !rest.contains(['/', '\\'])) {
        return Ok(None);
    }
    let path = base.with_file_name(name);
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", &path)(error)),
    };
    let length = file.metadata().map_err(StoreError::io("read", &path))?.len();
    Ok((length == size).then_some((file, path)))
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
        let before = sparse.path().to_owned();
        sparse.restart().unwrap();
        assert_eq!((sparse.present().bytes(), sparse.version()), (0, None));
        assert_eq!(fs::read(sparse.path()).unwrap(), [0; 11]);
        assert!(!before.exists(), "who was told the old path never finds other bytes there");
    }

    #[test]
    fn a_record_of_another_file_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let record =
            |file: &str, end: u64| format!(r#"{{"file":"{file}","size":5,"version":"1","present":[[1,{end}]]}}"#);
        for damage in ["cut", "text", "beyond", "elsewhere", "no version"] {
            let mut sparse = parts(&store, b"hello");
            sparse.write(1, b"ell").unwrap();
            sparse.set_version((damage != "no version").then(|| "\"1\"".to_owned()));
            sparse.keep().unwrap();
            match damage {
                "no version" => {}
                "cut" => sparse.file.set_len(4).unwrap(),
                "text" => fs::write(record_of(&sparse.base), "{").unwrap(),
                "elsewhere" => fs::write(record_of(&sparse.base), record("../../x", 4)).unwrap(),
                _ => fs::write(record_of(&sparse.base), record(&sparse.known.file, 6)).unwrap(),
            }
            drop(sparse);
            assert_eq!(parts(&store, b"hello").present().bytes(), 0, "{damage}");
        }
    }

    #[test]
    fn parts_count_with_what_they_take_and_can_be_pruned() {
        use super::super::{PruneRules, plan_pruning};
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let digest = Digest::of(Algorithm::Md5, b"large");
        let Holding::Parts(mut sparse) = store.sparse(&digest, 64 << 20).unwrap() else { panic!("nothing filled it") };
        sparse.write(32 << 20, &[1; 5000]).unwrap();
        sparse.set_version(Some("\"1\"".to_owned()));
        sparse.keep().unwrap();
        drop(sparse);
        let there = store.inventory().unwrap();
        assert_eq!(there.partials().files, 2);
        assert!((5000..1 << 20).contains(&there.partials().bytes), "{}", there.partials().bytes);
        let rules = PruneRules { partials: true, ..PruneRules::default() };
        let plan = plan_pruning(&there, &rules, |_| false, std::time::SystemTime::now());
        store.prune(&plan).unwrap();
        let Holding::Parts(sparse) = store.sparse(&digest, 64 << 20).unwrap() else { panic!("nothing filled it") };
        assert_eq!(sparse.present().bytes(), 0);
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
