//! The advisory lock of an object: who holds it may fill or remove the object. File I/O.
//!
//! Whoever waits for a lock blocks its thread, so that no more objects should be waited for than are filled at the same time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::name::ObjectName;
use super::object::{Store, create_folder_of};

impl Store {
    /// The lock of an object, once nobody else has it.
    pub(super) fn lock(&self, name: impl Into<ObjectName>) -> Result<File, StoreError> {
        let path = self.lock_path(name);
        loop {
            let lock = open_lock(&path)?;
            lock.lock().map_err(StoreError::lock(&path))?;
            // Whoever prunes removes locks: then this one is nobody's, and others wait for another file of its name.
            if is_still_at(&lock, &path) {
                return Ok(lock);
            }
        }
    }

    /// The lock of an object, unless somebody has it.
    pub(super) fn try_lock(&self, name: impl Into<ObjectName>) -> Result<Option<File>, StoreError> {
        let path = self.lock_path(name);
        let lock = open_lock(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(is_still_at(&lock, &path).then_some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::lock(&path)(error)),
        }
    }

    pub(super) fn lock_path(&self, name: impl Into<ObjectName>) -> PathBuf {
        self.own("locks").join(name.into().file_name())
    }
}

fn open_lock(path: &Path) -> Result<File, StoreError> {
    create_folder_of(path)?;
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    open.map_err(StoreError::io("open", path))
}

/// Whether a file is the one that its name leads to.
#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(file), Ok(named)) if same(&file, &named))
}

/// Files that are open cannot be removed here.
#[cfg(not(unix))]
fn is_still_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, Digest};
    use crate::progress::Progress;
    use std::time::Duration;

    #[cfg(unix)]
    #[test]
    fn a_lock_that_was_removed_while_waiting_for_it_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        let digest = Digest::of(Algorithm::Md5, b"hello");
        let held = store.lock(digest).unwrap();
        assert!(store.try_lock(digest).unwrap().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| store.lock(digest).unwrap());
            std::thread::sleep(Duration::from_millis(50));
            fs::remove_file(store.lock_path(digest)).unwrap();
            drop(held);
            let got = waiting.join().unwrap();
            assert!(store.try_lock(digest).unwrap().is_none(), "the one who waited has the lock of the name");
            drop(got);
        });
        assert!(store.try_lock(digest).unwrap().is_some());
    }
}
