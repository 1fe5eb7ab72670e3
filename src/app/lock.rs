//! The lock: which bytes were used for which names, so that `:latest` cannot change under it. TOML, for people and diffs.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::store::write_durable;

/// Usual name of a lock.
pub const LOCK_FILE: &str = "wandb-pca.lock";

const VERSION: u32 = 1;

/// Everything that was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    version: u32,
    /// One entry for each artifact, in the order of the inputs.
    #[serde(rename = "artifact", default)]
    pub artifacts: Vec<LockedArtifact>,
}

/// What a reference stood for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedArtifact {
    /// The reference as given, with entity and project.
    pub reference: String,
    /// The same with its version, `v3`.
    pub resolved: String,
    /// W&B's digest of the artifact.
    pub digest: String,
    /// The files that were read.
    #[serde(rename = "file", default)]
    pub files: Vec<LockedFile>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedFile {
    /// Path in the artifact.
    pub path: String,
    /// W&B's digest of the file, with its algorithm.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the file; absent when only parts of it were fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

impl LockedArtifact {
    /// Whether nothing that both say about the artifact differs.
    fn agrees(&self, other: &Self) -> bool {
        (&self.reference, &self.resolved, &self.digest) == (&other.reference, &other.resolved, &other.digest)
            && self.files.len() == other.files.len()
            && self.files.iter().zip(&other.files).all(|(file, other)| file.agrees(other))
    }
}

impl LockedFile {
    /// Whether nothing that both say about the file differs.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let hashes = self.sha256.zip(other.sha256);
        (&self.path, &self.digest, self.size) == (&other.path, &other.digest, other.size)
            && hashes.is_none_or(|(one, other)| one == other)
    }
}

/// A lock that cannot be used, or inputs that are not the locked ones.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The lock.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Not a lock.
    #[error("{} is not a lock of this program", path.display())]
    Malformed {
        /// The lock.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A lock of a later version.
    #[error("{} has version {found}, newer than {VERSION}", path.display())]
    TooNew {
        /// The lock.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There is no lock to hold inputs to.
    #[error("there is no lock at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// An input is not the one that was locked.
    #[error("{reference} is {found}, but the lock has {locked}")]
    Drift {
        /// The reference.
        reference: String,
        /// What the lock says.
        locked: String,
        /// What it is now.
        found: String,
    },
}

impl Lock {
    /// A lock of these artifacts.
    pub fn new(artifacts: Vec<LockedArtifact>) -> Self {
        Self { version: VERSION, artifacts }
    }

    /// Reads a lock; `None` when there is none.
    ///
    /// # Errors
    /// [`LockError`] when there is one that cannot be used.
    pub fn read(path: &Path) -> Result<Option<Self>, LockError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::Io { action: "read", path: path.to_owned(), source }),
        };
        let lock: Self = toml::from_str(&text)
            .map_err(|source| LockError::Malformed { path: path.to_owned(), source: Box::new(source) })?;
        if lock.version > VERSION {
            return Err(LockError::TooNew { path: path.to_owned(), found: lock.version });
        }
        Ok(Some(lock))
    }

    /// Writes the lock durably.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let io = |source| LockError::Io { action: "write", path: path.to_owned(), source };
        let text = toml::to_string(self).map_err(|error| io(io::Error::other(error)))?;
        let head = "# Made by wandb-pca: the exact artifacts that were used. Keep it with the results.\n";
        write_durable(path, format!("{head}{text}").as_bytes()).map_err(io)
    }

    /// What the lock has for a reference with entity and project.
    pub fn entry(&self, reference: &str) -> Option<&LockedArtifact> {
        self.artifacts.iter().find(|artifact| artifact.reference == reference)
    }

    /// This lock with what is in `now`: references in both have their entry from there, and files of the same version from
    /// both.
    pub fn merged(mut self, now: &Self) -> Self {
        for artifact in &now.artifacts {
            let Some(entry) = self.artifacts.iter_mut().find(|entry| entry.reference == artifact.reference) else {
                self.artifacts.push(artifact.clone());
                continue;
            };
            let mut merged = artifact.clone();
            if entry.digest == artifact.digest {
                let has = |path: &str| artifact.files.iter().any(|file| file.path == path);
                merged.files.extend(entry.files.drain(..).filter(|file| !has(&file.path)));
                merged.files.sort_by(|a, b| a.path.cmp(&b.path));
            }
            *entry = merged;
        }
        self
    }

    /// Holds `now` to this lock: the same references in any order, each with the same version, digest and files.
    ///
    /// # Errors
    /// [`LockError::Drift`] for the first difference.
    pub fn hold(&self, now: &Self) -> Result<(), LockError> {
        for artifact in &now.artifacts {
            let locked = self.entry(&artifact.reference);
            if !locked.is_some_and(|locked| locked.agrees(artifact)) {
                return Err(LockError::drift(&artifact.reference, locked, artifact.to_string()));
            }
        }
        match self.artifacts.iter().find(|locked| now.entry(&locked.reference).is_none()) {
            Some(unused) => Err(LockError::drift(&unused.reference, Some(unused), "not among the inputs".to_owned())),
            None => Ok(()),
        }
    }
}

impl LockError {
    pub(super) fn drift(reference: &str, locked: Option<&LockedArtifact>, found: String) -> Self {
        let locked = locked.map_or_else(|| "nothing for it".to_owned(), ToString::to_string);
        Self::Drift { reference: reference.to_owned(), locked, found }
    }
}

impl fmt::Display for LockedArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with digest {}", self.resolved, self.digest)
    }
}

impl fmt::Display for LockedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.digest, self.size)?;
        match self.sha256 {
            Some(sha256) => write!(f, " with sha256 {sha256}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(version: &str) -> Lock {
        Lock::new(vec![LockedArtifact {
            reference: "e/p/n:latest".into(),
            resolved: format!("e/p/n:{version}"),
            digest: "d41d8cd98f00b204e9800998ecf8427e".into(),
            files: vec![LockedFile {
                path: "trained.ckpt".into(),
                digest: "md5:d41d8cd98f00b204e9800998ecf8427e".into(),
                size: 0,
                sha256: Some(Sha256::of(b"")),
            }],
        }])
    }

    #[test]
    fn a_lock_survives_the_disk_and_tells_drift() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        assert!(Lock::read(&path).unwrap().is_none());
        lock("v1").write(&path).unwrap();
        let read = Lock::read(&path).unwrap().unwrap();
        assert_eq!(read, lock("v1"));
        read.hold(&lock("v1")).unwrap();
        // A file of which only parts were read has no hash to hold it to; its digest stands for it.
        let mut parts = lock("v1");
        parts.artifacts[0].files[0].sha256 = None;
        read.hold(&parts).unwrap();
        parts.write(&path).unwrap();
        Lock::read(&path).unwrap().unwrap().hold(&read).unwrap();
        parts.artifacts[0].files[0].size = 1;
        assert!(read.hold(&parts).is_err());
        let drift = read.hold(&lock("v2")).unwrap_err();
        assert!(matches!(&drift, LockError::Drift { reference, .. } if reference == "e/p/n:latest"));
        assert!(drift.to_string().contains("e/p/n:v2"));
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        fs::write(&path, "version = 'x'").unwrap();
        assert!(matches!(Lock::read(&path), Err(LockError::Malformed { .. })));
        fs::write(&path, "version = 99").unwrap();
        assert!(matches!(Lock::read(&path), Err(LockError::TooNew { found: 99, .. })));
    }
}
