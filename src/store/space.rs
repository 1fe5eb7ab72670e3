//! How much room the store's disk has. Asks the file system.

use std::path::Path;

use super::error::StoreError;
use super::object::Store;

/// Room on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What we may still write.
    pub free: u64,
    /// The whole disk.
    pub total: u64,
}

impl Store {
    /// Room on the disk that the store is on, or will be on; `None` where the system does not tell.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system refuses.
    pub fn space(&self) -> Result<Option<Space>, StoreError> {
        let exists = |folder: &&Path| folder.exists();
        let absolute = std::path::absolute(self.root()).map_err(StoreError::io("find", self.root()))?;
        match absolute.ancestors().find(exists) {
            Some(folder) => space_of(folder),
            None => Ok(None),
        }
    }
}

#[cfg(unix)]
fn space_of(folder: &Path) -> Result<Option<Space>, StoreError> {
    let said = rustix::fs::statvfs(folder).map_err(|error| StoreError::io("measure", folder)(error.into()))?;
    Ok(Some(Space { free: said.f_bavail * said.f_frsize, total: said.f_blocks * said.f_frsize }))
}

#[cfg(not(unix))]
fn space_of(_: &Path) -> Result<Option<Space>, StoreError> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    #[cfg(unix)]
    #[test]
    fn a_store_that_is_not_there_yet_has_the_room_of_its_disk() {
        let folder = tempfile::tempdir().unwrap();
        let space = Store::new(folder.path().join("not/yet"), Progress::silent()).space().unwrap().unwrap();
        assert!(space.total > 0 && space.free <= space.total);
    }
}
