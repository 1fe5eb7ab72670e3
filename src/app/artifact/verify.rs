//! Hashes the files of a version again, in a folder or in the store, and compares them with its manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::app::blocking::run_blocking;
use crate::app::error::AppError;
use crate::app::session::Session;
use crate::digest::{Algorithm, Digest, DigestHasher};
use crate::progress::{Progress, Stage};
use crate::store::Store;
use crate::wandb::{Artifact, ArtifactName, Entry, Manifest};

use super::describe::describe;
use super::get::default_folder;

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// Where `get` puts them: `./artifacts/<collection>:<version>`.
    Default,
    /// This folder.
    Folder(PathBuf),
    /// The store.
    Store,
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileState {
    /// Its bytes hash to what the manifest says.
    Ok,
    /// The manifest names it, but it is not there.
    Missing,
    /// It is there, but the manifest does not name it.
    Extra,
    /// It is there with other bytes, or is no file.
    Corrupt {
        /// What it is instead.
        found: String,
    },
    /// The manifest's digest has a form that we cannot check, so nothing is proven.
    Unverifiable {
        /// Why.
        reason: String,
    },
    /// The manifest only says where the bytes are, with a version that is no hash.
    Reference,
}

/// A file that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Path in the artifact, or below the folder.
    pub path: String,
    /// Bytes the manifest promises; for an extra file, those that are there.
    pub size: u64,
    /// What it turned out to be.
    pub state: FileState,
}

/// What verifying found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Verification {
    /// The version.
    pub artifact: Artifact,
    /// The folder or the store.
    pub place: PathBuf,
    /// Every file, by path.
    pub files: Vec<Checked>,
}

impl Verification {
    /// How many files are in a state that `matches`.
    pub fn count(&self, matches: impl Fn(&FileState) -> bool) -> usize {
        self.files.iter().filter(|file| matches(&file.state)).count()
    }

    /// Whether every file of the manifest is there and proven. Extra files do not matter; references prove nothing, and
    /// are not asked to.
    pub fn holds(&self) -> bool {
        self.files.iter().all(|file| matches!(file.state, FileState::Ok | FileState::Extra | FileState::Reference))
    }
}

/// Hashes the files of a version again and compares them with its manifest. Changes nothing.
///
/// # Errors
/// [`AppError::Wandb`] naming the version, [`AppError::File`] for a folder that cannot be read. Bad files are no error.
pub async fn verify(session: &Session, name: &ArtifactName, against: &Against) -> Result<Verification, AppError> {
    let (artifact, manifest) = describe(session, name).await?;
    let folder = default_folder(session, &artifact);
    let (store, progress, against) = (session.store.clone(), session.progress.clone(), against.clone());
    run_blocking("verifying", move || {
        let label = artifact.name().to_string();
        let (place, files) = match against {
            Against::Store => (store.root().to_owned(), check_store(&manifest, &store, (&progress, &label))),
            Against::Default => {
                let files = check_folder(&manifest, &folder, (&progress, &label))?;
                (folder, files)
            }
            Against::Folder(folder) => {
                let files = check_folder(&manifest, &folder, (&progress, &label))?;
                (folder, files)
            }
        };
        Ok(Verification { artifact, place, files })
    })
    .await
}

fn check_store(manifest: &Manifest, store: &Store, watch: (&Progress, &str)) -> Vec<Checked> {
    let place = |_: &str, entry: &Entry| match &entry.reference {
        // Where the store keeps the bytes of references is not named by their digest.
        Some(_) => None,
        None => entry.file_digest().ok().map(|digest| store.object_path(&digest)),
    };
    check(manifest, place, watch)
}

fn check_folder(manifest: &Manifest, folder: &Path, watch: (&Progress, &str)) -> Result<Vec<Checked>, AppError> {
    let there = files_below(folder)?;
    let mut files = check(manifest, |path, _| Some(folder.join(path)), watch);
    let extra = there.into_iter().filter(|(path, _)| !manifest.entries.contains_key(path));
    files.extend(extra.map(|(path, size)| Checked { path, size, state: FileState::Extra }));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Judges every entry of the manifest by the file at its place. One file under several names is hashed once.
fn check(
    manifest: &Manifest,
    place: impl Fn(&str, &Entry) -> Option<PathBuf>,
    (progress, label): (&Progress, &str),
) -> Vec<Checked> {
    let mut jobs: BTreeMap<(PathBuf, Algorithm), u64> = BTreeMap::new();
    for (path, entry) in &manifest.entries {
        if let (Ok(digest), Some(place)) = (promised(entry), place(path, entry)) {
            jobs.insert((place, digest.algorithm()), entry.size);
        }
    }
    let task = progress.begin(Stage::Verify, label, Some(jobs.values().sum()));
    let mut jobs: Vec<_> = jobs.into_iter().collect();
    jobs.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let hashed: BTreeMap<_, _> = jobs
        .into_par_iter()
        .map(|((place, algorithm), _)| {
            let hashed = hash_file(&place, algorithm, |bytes| task.advance(bytes));
            ((place, algorithm), hashed)
        })
        .collect();
    let judged = manifest.entries.iter().map(|(path, entry)| {
        let state = match (promised(entry), place(path, entry)) {
            (Ok(digest), Some(place)) => judge(&digest, entry, hashed.get(&(place, digest.algorithm()))),
            (Ok(_), None) => FileState::Reference,
            (Err(state), _) => state,
        };
        Checked { path: path.clone(), size: entry.size, state }
    });
    judged.collect()
}

/// The hash that the bytes of an entry must have. A reference has one only where its store names it so.
fn promised(entry: &Entry) -> Result<Digest, FileState> {
    match &entry.reference {
        None => entry.file_digest().map_err(|reason| FileState::Unverifiable { reason }),
        // The SDK hashes a local file as it does one of its own; every other scheme has a version of its own kind.
        Some(uri) if uri.starts_with("file://") => entry.file_digest().map_err(|_| FileState::Reference),
        Some(_) => Err(FileState::Reference),
    }
}

fn judge(digest: &Digest, entry: &Entry, found: Option<&io::Result<(Digest, u64)>>) -> FileState {
    match found {
        Some(Ok((found, _))) if found == digest => FileState::Ok,
        Some(Ok((_, size))) if *size != entry.size => FileState::Corrupt { found: format!("{size} bytes") },
        Some(Ok((found, _))) => FileState::Corrupt { found: found.to_string() },
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound && entry.reference.is_some() => {
            FileState::Reference
        }
        Some(Err(error)) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            FileState::Missing
        }
        Some(Err(error)) => FileState::Corrupt { found: error.to_string() },
        None => FileState::Missing,
    }
}

fn hash_file(path: &Path, algorithm: Algorithm, advanced: impl Fn(u64)) -> io::Result<(Digest, u64)> {
    // Opening a pipe would wait for whoever writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no regular file"));
    }
    let mut file = File::open(path)?;
    let (mut hasher, mut size) = (DigestHasher::new(algorithm), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.digest(), size)),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                size += n as u64;
                advanced(n as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Everything below a folder that is no folder, by path from there with its size. Links to folders are not followed.
fn files_below(root: &Path) -> Result<BTreeSet<(String, u64)>, AppError> {
    let mut files = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(AppError::file("list", &folder))? {
            let entry = entry.map_err(AppError::file("list", &folder))?;
            let path = entry.path();
            let found = fs::symlink_metadata(&path).map_err(AppError::file("read", &path))?;
            if found.is_dir() {
                folders.push(path);
            } else if let Ok(below) = path.strip_prefix(root) {
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                files.insert((parts.join("/"), found.len()));
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> Entry {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_file_is_judged_by_its_bytes() {
        let hello = Digest::of(Algorithm::Md5, b"hello");
        let file = entry(&format!(r#"{{"digest":"{}","size":5}}"#, hello.to_base64()));
        let missing = || Err(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(promised(&file), Ok(hello));
        assert_eq!(judge(&hello, &file, Some(&Ok((hello, 5)))), FileState::Ok);
        let other = Digest::of(Algorithm::Md5, b"jello");
        assert_eq!(judge(&hello, &file, Some(&Ok((other, 5)))), FileState::Corrupt { found: other.to_string() });
        let short = FileState::Corrupt { found: "4 bytes".to_owned() };
        assert_eq!(judge(&hello, &file, Some(&Ok((other, 4)))), short);
        assert_eq!(judge(&hello, &file, Some(&missing())), FileState::Missing);
        assert_eq!(judge(&hello, &file, None), FileState::Missing);
        let denied = Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(matches!(judge(&hello, &file, Some(&denied)), FileState::Corrupt { .. }));
    }

    #[test]
    fn what_cannot_be_checked_is_never_ok() {
        let unknown = entry(r#"{"digest":"sZRqySSS0jR8YjW00mERhA==","size":6,"extra":{"alg":"SHA256"}}"#);
        assert!(matches!(promised(&unknown), Err(FileState::Unverifiable { .. })));
        let etag = entry(r#"{"digest":"5d41402abc4b2a76","ref":"s3://bucket/key","size":6}"#);
        assert_eq!(promised(&etag), Err(FileState::Reference));
        let local = entry(r#"{"digest":"sZRqySSS0jR8YjW00mERhA==","ref":"file:///data/x","size":6}"#);
        assert!(promised(&local).is_ok());
    }
}
