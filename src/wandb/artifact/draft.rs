//! An artifact before it exists: name, type, what goes with it, and where the bytes of each entry come from. No I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::error::WandbError;
use super::manifest::check_path;

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

/// A new version of a collection, to be logged by a run.
#[derive(Debug, Clone)]
pub struct ArtifactDraft {
    pub(super) name: String,
    pub(super) artifact_type: String,
    pub(super) description: Option<String>,
    pub(super) metadata: Map<String, Value>,
    pub(super) aliases: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) ttl_seconds: Option<u64>,
    pub(super) files: BTreeMap<String, Source>,
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
            ttl_seconds: None,
            files: BTreeMap::new(),
        })
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

    /// Sets for how many seconds the version is kept.
    #[must_use]
    pub fn with_ttl_seconds(mut self, seconds: Option<u64>) -> Self {
        self.ttl_seconds = seconds.filter(|seconds| *seconds > 0);
        self
    }

    /// Adds a file under `path`.
    ///
    /// # Errors
    /// [`WandbError::EntryPath`] for a path that is unsafe or already taken.
    pub fn with_file(mut self, path: impl Into<String>, source: impl Into<Source>) -> Result<Self, WandbError> {
        let path = path.into();
        let taken = self.files.contains_key(&path).then_some("the draft has it already");
        if let Some(reason) = check_path(&path).err().or(taken) {
            return Err(WandbError::EntryPath { artifact: self.name, path, reason });
        }
        self.files.insert(path, source.into());
        Ok(self)
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
