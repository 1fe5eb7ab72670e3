//! How much room the disk of a folder has. Asks the file system.

use std::path::Path;

use super::durable::DurableFile;
use super::error::StoreError;
use super::object::Store;

/// Room on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What we may still write.
    pub free: u64,
    /// The whole disk.
    pub total: u64,
    /// Which disk: equal for folders that share their room.
    pub device: u64,
}

/// Room on the disk that a folder is on, or will be on; `None` where the system does not tell.
///
/// # Errors
/// [`StoreError::Io`] when the file system refuses.
pub fn space(folder: &Path) -> Result<Option<Space>, StoreError> {
    let absolute = std::path::absolute(folder).map_err(StoreError::io("find", folder))?;
    match absolute.ancestors().find(|folder| folder.exists()) {
        Some(folder) => space_of(folder),
        None => Ok(None),
    }
}

impl Store {
    /// Room on the disk that the store is on, or will be on; `None` where the system does not tell.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system refuses.
    pub fn space(&self) -> Result<Option<Space>, StoreError> {
        space(self.root())
    }
}

/// Whether files in `to` can share disk blocks with those in `from`; both folders are or will be there.
///
/// Nothing but an attempt tells: file systems of one name can or cannot.
pub fn can_share_blocks(from: &Path, to: &Path) -> bool {
    let existing = |folder: &Path| {
        let absolute = std::path::absolute(folder)?;
        let found = absolute.ancestors().find(|folder| folder.exists()).map(Path::to_owned);
        found.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
    };
    let attempt = || {
        let source = tempfile::NamedTempFile::new_in(existing(from)?)?;
        std::fs::write(source.path(), b"shared?")?;
        DurableFile::create(&existing(to)?.join("shared"))?.share_blocks_of(source.as_file())
    };
    attempt().is_ok()
}

#[cfg(unix)]
fn space_of(folder: &Path) -> Result<Option<Space>, StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(folder).map_err(StoreError::io("measure", folder))?.dev();
    let said = rustix::fs::statvfs(folder).map_err(|error| StoreError::io("measure", folder)(error.into()))?;
    Ok(Some(Space { free: said.f_bavail * said.f_frsize, total: said.f_blocks * said.f_frsize, device }))
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
