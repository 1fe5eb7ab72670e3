//! Writing a file so that its final name never holds half of it: temporary sibling, sync, rename, sync of the folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;

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
/// Many are synced at the same time: a sync waits for the disk, and file systems bring to disk together what waits together.
pub(super) fn write_all_durable(files: &[(PathBuf, &[u8])]) -> io::Result<()> {
    /// Files open at the same time.
    const TOGETHER: usize = 128;
    /// Files of one thread.
    const SYNCED: usize = 8;
    let mut folders = BTreeSet::new();
    for files in files.chunks(TOGETHER) {
        let write = |(target, bytes): &(PathBuf, &[u8])| {
            let mut file = DurableFile::create(target)?;
            file.write_all(bytes)?;
            Ok(file)
        };
        let written = files.iter().map(write).collect::<io::Result<Vec<_>>>()?;
        let sync = |files: &[DurableFile]| files.iter().try_for_each(|file| file.temp.as_file().sync_all());
        thread::scope(|scope| {
            let threads: Vec<_> = written.chunks(SYNCED).map(|files| scope.spawn(move || sync(files))).collect();
            let ended = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that syncs files ended early")))
            };
            threads.into_iter().try_for_each(ended)
        })?;
        for file in written {
            file.temp.persist(&file.target).map_err(|error| error.error)?;
        }
        folders.extend(files.iter().map(|(target, _)| parent(target)));
    }
    folders.into_iter().try_for_each(sync_folder)
}

/// Writes `bytes` durably to a file that holds secrets: a new one is for its owner only, one that was there keeps its mode,
/// and behind a symbolic link the file that it points to is replaced.
///
/// # Errors
/// Whatever the file system says.
pub fn write_private(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = behind_links(target)?;
    let before = match fs::metadata(&target) {
        Ok(before) => Some(before.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut file = DurableFile::create_private(&target)?;
    if let Some(before) = before {
        file.temp.as_file().set_permissions(before)?;
    }
    file.write_all(bytes)?;
    file.commit()
}

/// Follows symbolic links, also to a file that is not there yet.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(to) => path = parent(&path).join(to),
            // Not a link, or nothing at all.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("symbolic links that lead in a circle"))
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

    #[cfg(unix)]
    #[test]
    fn a_private_file_keeps_its_mode_and_the_link_to_it() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        write_private(&at("new"), b"a").unwrap();
        assert_eq!(mode("new"), 0o600);
        fs::set_permissions(at("new"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::create_dir(at("dots")).unwrap();
        symlink("../new", at("dots/rc")).unwrap();
        symlink("dots/rc", at("link")).unwrap();
        write_private(&at("link"), b"b").unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(at("dots/rc")).unwrap().is_symlink());
        assert_eq!((fs::read(at("new")).unwrap(), mode("new")), (b"b".to_vec(), 0o640));
        symlink("absent", at("broken")).unwrap();
        write_private(&at("broken"), b"c").unwrap();
        assert_eq!((fs::read(at("absent")).unwrap(), mode("absent")), (b"c".to_vec(), 0o600));
        symlink("loop", at("loop")).unwrap();
        assert!(write_private(&at("loop"), b"d").is_err());
    }

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
