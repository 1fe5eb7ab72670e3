//! Writing a file so that its final name never holds half of it: temporary sibling, sync, rename, sync of the folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file under construction. Dropped without [`DurableFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct DurableFile {
    temp: NamedTempFile,
    target: PathBuf,
}

impl DurableFile {
    /// Starts a file that will be called `target`; makes the folder when it is missing.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(target: &Path) -> io::Result<Self> {
        // What an ordinary `open` would give, less the umask: temporary files are private otherwise.
        Self::create_with_mode(target, 0o666)
    }

    /// [`DurableFile::create`] for a file that only its owner may read, such as one that holds a key.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create_private(target: &Path) -> io::Result<Self> {
        Self::create_with_mode(target, 0o600)
    }

    fn create_with_mode(target: &Path, mode: u32) -> io::Result<Self> {
        let folder = parent(target);
        fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(super::inventory::TEMPORARY);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        #[cfg(not(unix))]
        let _ = mode;
        let temp = builder.tempfile_in(folder)?;
        Ok(Self { temp, target: target.to_owned() })
    }

    /// Makes the file share the blocks of another one, where the file system can: no byte is copied, and each of the two
    /// stays as it is when the other is written to.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] and its kin where the file system cannot, or the two are on different ones.
    pub fn share_blocks_of(&self, other: &fs::File) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        return Ok(rustix::fs::ioctl_ficlone(self.temp.as_file(), other)?);
        #[cfg(not(target_os = "linux"))]
        {
            let _ = other;
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }
    }

    /// Gives the file its name: everything is on disk before the name exists, and the name is on disk on return.
    ///
    /// # Errors
    /// Whatever the file system says; nothing is left under the final name then but what was there before.
    pub fn commit(self) -> io::Result<()> {
        let target = self.target.clone();
        self.commit_as(&target)
    }

    /// [`DurableFile::commit`] under another name on the same file system: for content that is named by what it holds.
    ///
    /// # Errors
    /// As [`DurableFile::commit`].
    pub fn commit_as(self, target: &Path) -> io::Result<()> {
        let folder = parent(target);
        fs::create_dir_all(folder)?;
        self.temp.as_file().sync_all()?;
        self.temp.persist(target).map_err(|error| error.error)?;
        sync_folder(folder)
    }
}

impl Write for DurableFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.temp.as_file_mut().write(buffer)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.temp.as_file_mut().flush()
    }
}

impl Seek for DurableFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.temp.as_file_mut().seek(position)
    }
}

/// Writes `bytes` to `target` durably.
///
/// # Errors
/// Whatever the file system says.
pub fn write_durable(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = DurableFile::create(target)?;
    file.write_all(bytes)?;
    file.commit()
}

/// [`write_durable`] for many files: each is whole on disk before it has its name, and their folders are synced once.
///
/// All of some are written before the first is synced, since file systems then bring them to disk together.
pub(super) fn write_all_durable(files: &[(PathBuf, &[u8])]) -> io::Result<()> {
    /// Files open at the same time.
    const TOGETHER: usize = 128;
    let mut folders = BTreeSet::new();
    for files in files.chunks(TOGETHER) {
        let write = |(target, bytes): &(PathBuf, &[u8])| {
            let mut file = DurableFile::create(target)?;
            file.write_all(bytes)?;
            Ok(file)
        };
        let written = files.iter().map(write).collect::<io::Result<Vec<_>>>()?;
        written.iter().try_for_each(|file| file.temp.as_file().sync_all())?;
        for file in written {
            file.temp.persist(&file.target).map_err(|error| error.error)?;
        }
        folders.extend(files.iter().map(|(target, _)| parent(target)));
    }
    folders.into_iter().try_for_each(sync_folder)
}

/// Makes names that were created in or removed from `folder` survive a crash.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_leaves_nothing_and_a_committed_one_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("deep/result.json");
        write_durable(&target, b"old").unwrap();
        let mut file = DurableFile::create(&target).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
        write_durable(&target, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }
}
