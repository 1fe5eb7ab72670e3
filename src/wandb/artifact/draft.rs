//! An artifact before it exists: name, type, what goes with it, and where the bytes of each entry come from. No I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::digest::Algorithm;

use super::super::error::WandbError;
use super::Artifact;
use super::manifest::{Entry, Manifest, check_path};

/// Most objects or files that one reference may stand for, as in the official SDK
/// (`wandb/sdk/artifacts/storage_handler.py`).
pub const MOST_OBJECTS: usize = 10_000_000;

/// Where the bytes of an entry come from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Source {
    /// A file, read in place; it must not change until the upload is done.
    File(PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&std::path::Path> for Source {
    fn from(path: &std::path::Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// Whether the target of a reference is looked at when it is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// It is, and the entry pins what is there now.
    #[default]
    Compute,
    /// It is not: the entry's digest is made of the address alone, as with `checksum=False` of the official SDK.
    Skip,
}

/// An entry that points elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// Entry path; for a folder the path of its files' parent, empty for the root.
    pub(super) path: String,
    pub(super) uri: String,
    pub(super) checksum: Checksum,
}

/// How long a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// As its team or project says.
    #[default]
    Inherited,
    /// For ever, whatever the team says.
    Never,
    /// For so many seconds, at least one.
    Seconds(u64),
}

impl Ttl {
    /// As `createArtifact` takes it; nothing leaves it to the server, which inherits.
    pub(super) fn wire(self) -> Option<i64> {
        match self {
            Self::Inherited => None,
            Self::Never => Some(-2),
            Self::Seconds(seconds) => i64::try_from(seconds).ok(),
        }
    }
}

/// What a new version stands on.
#[derive(Debug, Clone, Default)]
pub(super) enum Basis {
    /// Nothing: the draft's entries are all.
    #[default]
    Nothing,
    /// An older version, whose entries were copied; its id.
    Version(String),
    /// The server lays the entries over this version's, or over the latest one's.
    Increment(Option<String>),
}

/// A new version of a collection, to be logged by a run.
#[derive(Debug, Clone)]
pub struct ArtifactDraft {
    pub(super) name: String,
    pub(super) artifact_type: String,
    pub(super) description: Option<String>,
    pub(super) metadata: Map<String, Value>,
    pub(super) aliases: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) ttl: Ttl,
    pub(super) algorithm: Algorithm,
    pub(super) basis: Basis,
    /// Entries of an older version that stay.
    pub(super) kept: BTreeMap<String, Entry>,
    pub(super) files: BTreeMap<String, Source>,
    pub(super) references: Vec<Reference>,
    /// Most objects or files that one reference may stand for.
    pub(super) most_objects: usize,
    /// Where the entries that stay are stored.
    pub(super) region: Option<String>,
}

impl ArtifactDraft {
    /// An empty version of collection `name`, which will be called `latest`.
    ///
    /// # Errors
    /// [`WandbError::Name`] or [`WandbError::Option`] by the rules of the official SDK
    /// (`wandb/sdk/artifacts/_validators.py`).
    pub fn new(name: impl Into<String>, artifact_type: impl Into<String>) -> Result<Self, WandbError> {
        let (name, artifact_type) = (name.into(), artifact_type.into());
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > 128 || !name.chars().all(fits) {
            let reason = "a collection is called by 1 to 128 letters, digits, `_`, `-` and `.`";
            return Err(WandbError::Name { text: name, reason });
        }
        let reserved = artifact_type == "job" || artifact_type.starts_with("wandb-");
        if artifact_type.is_empty() || artifact_type.len() > 128 || artifact_type.contains(['/', ':']) || reserved {
            let reason = format!("`{artifact_type}` is empty, too long, reserved, or holds `/` or `:`");
            return Err(WandbError::Option { option: "artifact type", reason });
        }
        let aliases = vec!["latest".to_owned()];
        Ok(Self {
            name,
            artifact_type,
            description: None,
            metadata: Map::new(),
            aliases,
            tags: Vec::new(),
            ttl: Ttl::Inherited,
            algorithm: Algorithm::Md5,
            basis: Basis::Nothing,
            kept: BTreeMap::new(),
            files: BTreeMap::new(),
            references: Vec::new(),
            most_objects: MOST_OBJECTS,
            region: None,
        })
    }

    /// A draft with everything that a version holds, to be changed and logged as the next version of the collection that
    /// the version was logged to: the official SDK's `new_draft`. Description, metadata and digest algorithm go with it.
    ///
    /// # Errors
    /// As [`ArtifactDraft::new`].
    pub fn from_version(version: &Artifact, manifest: Manifest) -> Result<Self, WandbError> {
        let mut draft = Self::new(version.source.collection.clone(), version.artifact_type.clone())?;
        draft.description.clone_from(&version.description);
        draft.metadata.clone_from(&version.metadata);
        draft.algorithm = manifest.algorithm;
        draft.basis = Basis::Version(version.id.clone());
        (draft.kept, draft.region) = (manifest.entries, manifest.region);
        Ok(draft)
    }

    /// Makes the version an increment: only the draft's entries are announced, and the server lays them over the base, or
    /// over the latest version when none is given. Nothing can be taken away like this.
    #[must_use]
    pub fn as_increment_of(mut self, base: Option<&Artifact>) -> Self {
        self.basis = Basis::Increment(base.map(|base| base.id.clone()));
        self.kept.clear();
        self
    }

    /// Leaves an entry of the older version out.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] when the older version has no such entry.
    pub fn without(mut self, path: &str) -> Result<Self, WandbError> {
        match self.kept.remove(path) {
            Some(_) => Ok(self),
            None => {
                Err(WandbError::NotFound { what: format!("entry `{path}` of the version that the draft is made of") })
            }
        }
    }

    /// Paths of the entries that stay from the older version.
    pub fn kept(&self) -> impl Iterator<Item = &str> {
        self.kept.keys().map(String::as_str)
    }

    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the description.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into()).filter(|text: &String| !text.is_empty());
        self
    }

    /// Sets the metadata.
    ///
    /// # Errors
    /// [`WandbError::Option`] for more than the 100 keys that W&B takes.
    pub fn with_metadata(mut self, metadata: Map<String, Value>) -> Result<Self, WandbError> {
        if metadata.len() > 100 {
            let reason = format!("{} keys where W&B takes 100", metadata.len());
            return Err(WandbError::Option { option: "metadata", reason });
        }
        self.metadata = metadata;
        Ok(self)
    }

    /// Adds an alias beside `latest`.
    ///
    /// # Errors
    /// [`WandbError::Option`] for an alias that W&B refuses.
    pub fn with_alias(mut self, alias: impl Into<String>) -> Result<Self, WandbError> {
        let alias = alias.into();
        if alias.is_empty() || alias.len() > 128 || alias.contains(['/', ':']) {
            let reason = format!("`{alias}` is empty, too long, or holds `/` or `:`");
            return Err(WandbError::Option { option: "alias", reason });
        }
        if !self.aliases.contains(&alias) {
            self.aliases.push(alias);
        }
        Ok(self)
    }

    /// Adds a tag.
    ///
    /// # Errors
    /// [`WandbError::Option`] for a tag that W&B refuses.
    pub fn with_tag(mut self, tag: impl Into<String>) -> Result<Self, WandbError> {
        let tag = tag.into();
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
        if tag.is_empty() || tag.len() > 128 || tag.trim() != tag || !tag.chars().all(fits) {
            let reason = format!("`{tag}` is not made of words with single blanks between them");
            return Err(WandbError::Option { option: "tag", reason });
        }
        if !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
        Ok(self)
    }

    /// Sets how long the version is kept.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = match ttl {
            Ttl::Seconds(0) => Ttl::Inherited,
            ttl => ttl,
        };
        self
    }

    /// Sets how files are hashed. Where the server, the entity or the collection does not take XXH128, MD5 is used and the
    /// watcher is told.
    #[must_use]
    pub fn with_digest_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Adds a file under `path`; an entry of that path in the version that the draft was made of is replaced.
    ///
    /// # Errors
    /// [`WandbError::Unfit`] for a path that is unsafe or already taken.
    pub fn with_file(mut self, path: impl Into<String>, source: impl Into<Source>) -> Result<Self, WandbError> {
        let path = path.into();
        self.check_free(&path)?;
        self.kept.remove(&path);
        self.files.insert(path, source.into());
        Ok(self)
    }

    /// Sets how many objects or files one reference may stand for; [`MOST_OBJECTS`] is what the official SDK allows.
    #[must_use]
    pub fn with_most_objects(mut self, most: usize) -> Self {
        self.most_objects = most;
        self
    }

    /// Adds an entry that points at `uri` instead of holding bytes. Known are `http`, `https`, `file`, `wandb-artifact`,
    /// either as `wandb-artifact://<hex id>/<path>` or as `wandb-artifact://entity/project/name:alias/<path>`, and with the
    /// feature `cloud` `s3`, `gs` and `https://<account>.blob.core.windows.net`; others are recorded unseen and need
    /// [`Checksum::Skip`]. A folder, or a prefix in a bucket, becomes one entry for each file or object, below `path`.
    /// Where `path` is empty an entry is called by the last part of the address, or by what follows the prefix. A version
    /// of an object is named by `?versionId=`, on Google Cloud Storage by `#generation`. The target is looked at when the
    /// draft is prepared.
    ///
    /// # Errors
    /// [`WandbError::Unfit`] for a path that is unsafe or already taken, [`WandbError::Option`] for an address that
    /// is none or holds a password.
    pub fn with_reference(
        mut self,
        path: impl Into<String>,
        uri: impl Into<String>,
        checksum: Checksum,
    ) -> Result<Self, WandbError> {
        let (path, uri) = (path.into(), uri.into());
        super::refer::check_uri(&uri)?;
        if !path.is_empty() {
            self.check_free(&path)?;
        }
        self.references.push(Reference { path, uri, checksum });
        Ok(self)
    }

    fn check_free(&self, path: &str) -> Result<(), WandbError> {
        let taken = self.files.contains_key(path) || self.references.iter().any(|reference| reference.path == path);
        let reason = check_path(path).err().or(taken.then_some("the draft has it already"));
        reason.map_or(Ok(()), |reason| Err(WandbError::Unfit { path: path.into(), reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_takes_only_what_the_server_will_take() {
        let draft = || ArtifactDraft::new("model", "checkpoint").unwrap();
        assert!(ArtifactDraft::new("a/b", "checkpoint").is_err());
        for kind in ["", "job", "wandb-history", "a/b"] {
            assert!(ArtifactDraft::new("a", kind).is_err(), "{kind}");
        }
        assert!(draft().with_alias("a:b").is_err() && draft().with_tag("a,b").is_err());
        assert!(draft().with_file("../a", vec![1]).is_err());
        assert!(draft().with_file("a", vec![1]).unwrap().with_file("a", vec![1]).is_err());
        let many = (0..101).map(|i| (i.to_string(), Value::Null)).collect();
        assert!(draft().with_metadata(many).is_err());
        assert_eq!(draft().with_alias("latest").unwrap().aliases, ["latest"]);
    }
}
