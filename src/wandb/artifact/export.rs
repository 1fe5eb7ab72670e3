//! Placing verified objects into a folder under their entry paths. File I/O.
//!
//! A path never leaves the folder: entry paths are normal by the time they come here, and a symbolic link or a file where
//! a folder must be is refused. Each file appears whole or not at all. Files that are there with the right bytes stay.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::FileHasher;
use crate::store::{DurableFile, Object};

use super::super::error::WandbError;
use super::manifest::check_path;
use super::source::file_error;
use super::windows_names::refused_by_windows;

/// How a file gets from the store into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LinkMode {
    /// A reflink where the file system can, else a copy: writing to the file never harms the store.
    #[default]
    Auto,
    /// A reflink: a file of its own that shares disk blocks with the store until one of them is written to.
    Reflink,
    /// A hard link: no second use of disk, but the file is the store's object, so that writing to it alters both.
    Hardlink,
    /// A copy.
    Copy,
}

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placed {
    /// It was there already with the right bytes.
    Kept,
    /// It was copied.
    Copied,
    /// It shares disk blocks with the store, and is a file of its own.
    Reflinked,
    /// It is the store's object under another name.
    Hardlinked,
}

impl Placed {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Copied => "copied",
            Self::Reflinked => "reflinked",
            Self::Hardlinked => "hardlinked",
        }
    }
}

/// Places each object under its path in `folder`, which is made when missing.
///
/// # Errors
/// [`WandbError::EntryPath`] for paths that cannot live in one folder together, [`WandbError::File`] when the file system
/// refuses.
pub fn export(
    artifact: &str,
    files: &[(&str, &Object)],
    folder: &Path,
    mode: LinkMode,
) -> Result<Vec<Placed>, WandbError> {
    check_layout(artifact, files.iter().map(|(path, _)| *path))?;
    fs::create_dir_all(folder).map_err(|source| file_error("create", folder, source))?;
    files.iter().map(|(path, object)| place(object, &target(artifact, folder, path)?, mode)).collect()
}

/// Refuses paths that would collide: twice the same but for case, or a file where another needs a folder.
fn check_layout<'a>(artifact: &str, paths: impl Iterator<Item = &'a str>) -> Result<(), WandbError> {
    let refuse = |path: &str, reason| {
        let (artifact, path) = (artifact.to_owned(), path.to_owned());
        Err(WandbError::EntryPath { artifact, path, reason })
    };
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    for path in paths {
        if let Err(reason) = check_path(path) {
            return refuse(path, reason);
        }
        if cfg!(windows)
            && let Some(reason) = refused_by_windows(path)
        {
            return refuse(path, reason);
        }
        let folded = path.to_lowercase();
        for (end, _) in folded.match_indices('/') {
            let parent = folded.get(..end).unwrap_or_default().to_owned();
            if seen.insert(parent, false) == Some(true) {
                return refuse(path, "another entry is a file where this one needs a folder");
            }
        }
        if let Some(was_file) = seen.insert(folded, true) {
            let reason = "another entry has the same name but for case";
            return refuse(
                path,
                if was_file { reason } else { "another entry needs a folder where this one is a file" },
            );
        }
    }
    Ok(())
}

/// The place of an entry, its folders made one by one so that none of them is a way out.
fn target(artifact: &str, folder: &Path, path: &str) -> Result<PathBuf, WandbError> {
    let mut place = folder.to_owned();
    let mut components = path.split('/').peekable();
    while let Some(component) = components.next() {
        place.push(component);
        if components.peek().is_none() {
            break;
        }
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let (artifact, path) = (artifact.to_owned(), path.to_owned());
                let reason = "a folder on its way is a link or a file";
                return Err(WandbError::EntryPath { artifact, path, reason });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::create_dir(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(file_error("create", &place, error));
                }
                _ => {}
            },
            Err(error) => return Err(file_error("read", &place, error)),
        }
    }
    Ok(place)
}

fn place(object: &Object, target: &Path, mode: LinkMode) -> Result<Placed, WandbError> {
    let failed = |action| move |source| file_error(action, target, source);
    match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(failed("replace")(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        Ok(metadata) if metadata.is_file() && metadata.len() == object.size => {
            if same_bytes(object, target).map_err(failed("read"))? {
                return Ok(Placed::Kept);
            }
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    match mode {
        LinkMode::Hardlink => {
            hardlink(object, target).map_err(failed("hard-link from the store"))?;
            return Ok(Placed::Hardlinked);
        }
        LinkMode::Reflink => return reflink(object, target).map_err(failed("reflink from the store")),
        LinkMode::Auto => {
            if let Ok(placed) = reflink(object, target) {
                return Ok(placed);
            }
        }
        LinkMode::Copy => {}
    }
    let mut from = File::open(&object.path).map_err(|source| file_error("open", &object.path, source))?;
    let mut to = DurableFile::create(target).map_err(failed("write"))?;
    io::copy(&mut from, &mut to).map_err(failed("write"))?;
    to.commit().map_err(failed("write"))?;
    Ok(Placed::Copied)
}

/// Shares the blocks of the object; the file appears whole or not at all, as a copy does.
fn reflink(object: &Object, target: &Path) -> io::Result<Placed> {
    let from = File::open(&object.path)?;
    let to = DurableFile::create(target)?;
    to.share_blocks_of(&from)?;
    to.commit()?;
    Ok(Placed::Reflinked)
}

/// Links under a temporary name and renames, so that a file in the way is replaced at once or not at all.
fn hardlink(object: &Object, target: &Path) -> io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new().prefix(".partial-").tempdir_in(folder)?;
    let linked = scratch.path().join("object");
    fs::hard_link(&object.path, &linked)?;
    fs::rename(&linked, target)
}

fn same_bytes(object: &Object, target: &Path) -> io::Result<bool> {
    use std::io::Read as _;
    let mut file = File::open(target)?;
    let mut hasher = FileHasher::new(object.digest.algorithm());
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.digest() == object.digest),
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, Digest};
    use crate::progress::Progress;
    use crate::store::{Reservation, Store};

    fn object(folder: &Path, data: &[u8]) -> Object {
        let store = Store::new(folder.join("store"), Progress::silent());
        let digest = Digest::of(Algorithm::Md5, data);
        match store.reserve(&digest, data.len() as u64).unwrap() {
            Reservation::Present(object) => object,
            Reservation::Missing(mut partial) => {
                partial.append(bytes::Bytes::copy_from_slice(data)).unwrap();
                partial.commit().unwrap()
            }
        }
    }

    #[test]
    fn files_appear_whole_and_right_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let object = object(folder.path(), b"hello");
        let out = folder.path().join("out");
        let files = [("a/b.txt", &object), ("c", &object)];
        assert_eq!(export("x", &files, &out, LinkMode::Copy).unwrap(), [Placed::Copied; 2]);
        assert_eq!(export("x", &files, &out, LinkMode::Copy).unwrap(), [Placed::Kept; 2]);
        fs::write(out.join("c"), b"jello").unwrap();
        assert_eq!(export("x", &files, &out, LinkMode::Hardlink).unwrap(), [Placed::Kept, Placed::Hardlinked]);
        assert_eq!(fs::read(out.join("c")).unwrap(), b"hello");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    }

    #[test]
    fn colliding_paths_are_refused() {
        let check = |paths: &[&str]| check_layout("x", paths.iter().copied()).is_err();
        assert!(check(&["a", "A"]) && check(&["a", "a/b"]) && check(&["a/b", "A"]) && check(&["../a"]));
        assert!(!check(&["a/b", "a/c", "d"]));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_on_the_way_is_not_followed_and_one_at_the_end_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let object = object(folder.path(), b"hello");
        let (out, outside) = (folder.path().join("out"), folder.path().join("outside"));
        fs::create_dir_all(&out).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("victim"), b"safe!").unwrap();
        std::os::unix::fs::symlink(&outside, out.join("way")).unwrap();
        assert!(matches!(
            export("x", &[("way/victim", &object)], &out, LinkMode::Copy),
            Err(WandbError::EntryPath { .. })
        ));
        std::os::unix::fs::symlink(outside.join("victim"), out.join("end")).unwrap();
        export("x", &[("end", &object)], &out, LinkMode::Copy).unwrap();
        assert_eq!(fs::read(outside.join("victim")).unwrap(), b"safe!");
        assert_eq!(fs::read(out.join("end")).unwrap(), b"hello");
    }
}
