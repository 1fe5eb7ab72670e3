//! Drafts made ready: every file hashed, every reference looked at, the digest of the version known, nothing sent yet.
//!
//! Each file is read once here, several at a time, and once more when it is sent. File I/O; network only for references
//! and to ask whether XXH128 digests are taken.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::digest::Algorithm;
use crate::progress::Stage;

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{DigestAlgorithm, ServerFeatures, XxhDigestsEnabled};
use super::super::retry::Budget;
use super::draft::ArtifactDraft;
use super::manifest::{Entry, Manifest};
use super::source::{Hashed, hash};

/// The feature of a server that takes other digests than MD5.
const FEATURE: &str = "ARTIFACT_DIGEST_ALGORITHM";

/// A draft whose bytes are hashed: what the version will be is known, and nothing of it is sent.
#[derive(Debug, Clone)]
pub struct PreparedArtifact {
    pub(super) draft: ArtifactDraft,
    pub(super) files: BTreeMap<String, Hashed>,
    pub(super) manifest: Manifest,
    pub(super) entity: String,
    pub(super) project: String,
}

impl PreparedArtifact {
    /// `entity/project/collection`.
    pub fn collection(&self) -> String {
        format!("{}/{}/{}", self.entity, self.project, self.draft.name())
    }

    /// Entity and project.
    pub fn home(&self) -> (&str, &str) {
        (&self.entity, &self.project)
    }

    /// What the version will hold; for an increment only what it adds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Digest of that, lower-case hex. The server gives an increment the digest of the whole.
    pub fn digest(&self) -> String {
        self.manifest.digest()
    }

    /// Paths and sizes of the files whose bytes are sent unless the server has them.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file.size))
    }
}

impl Client {
    /// Hashes the files of a draft and looks at its references, for a version in `entity/project`.
    ///
    /// # Errors
    /// [`WandbError::File`] for a file that cannot be read, [`WandbError::Reference`] for a target that cannot be looked
    /// at, [`WandbError::Unfit`] for paths that do not go together, or what the requests met.
    pub async fn prepare(
        &self,
        draft: ArtifactDraft,
        entity: &str,
        project: &str,
    ) -> Result<PreparedArtifact, WandbError> {
        let budget = self.budget();
        let what = format!("artifact {entity}/{project}/{}", draft.name);
        let work = async {
            let algorithm = self.settle(&budget, &draft, [entity, project]).await?;
            let files = self.hash_all(&draft, algorithm).await?;
            let mut entries = draft.kept.clone();
            for reference in &draft.references {
                let found = self.reference_entries(&budget, &draft, reference).await?;
                add_references(&mut entries, found, (&draft, &files))?;
            }
            let entry = |file: &Hashed| Entry::file(file.digest(algorithm), file.size, None);
            entries.extend(files.iter().map(|(path, file)| (path.clone(), entry(file))));
            check_tree(&entries)?;
            let manifest = Manifest { region: draft.region.clone(), ..Manifest::of(entries, algorithm) };
            let (entity, project) = (entity.to_owned(), project.to_owned());
            Ok(PreparedArtifact { draft, files, manifest, entity, project })
        };
        self.transport().within(&budget, &what, work).await?
    }

    async fn hash_all(
        &self,
        draft: &ArtifactDraft,
        algorithm: Algorithm,
    ) -> Result<BTreeMap<String, Hashed>, WandbError> {
        let hashing = self.hashing(algorithm);
        let mut work: Vec<BoxFuture<'_, Result<_, WandbError>>> = Vec::with_capacity(draft.files.len());
        for (path, source) in &draft.files {
            let (label, source) = (path.clone(), source.clone());
            let progress = self.transport().progress.clone();
            let hash = move || hash(&source, hashing, |total| progress.begin(Stage::Verify, &label, Some(total)));
            work.push(Box::pin(async move { Ok((path.clone(), super::download::blocking(path, hash).await??)) }));
        }
        let parallel = std::thread::available_parallelism().map_or(2, usize::from);
        stream::iter(work).buffer_unordered(parallel).try_collect().await
    }

    /// The algorithm that will be used: XXH128 only where server, entity and collection all take it, asked in the official
    /// client's order.
    async fn settle(
        &self,
        budget: &Budget,
        draft: &ArtifactDraft,
        [entity, project]: [&str; 2],
    ) -> Result<Algorithm, WandbError> {
        if draft.algorithm == Algorithm::Md5 {
            return Ok(Algorithm::Md5);
        }
        let refusal = if !self.has_feature(budget, FEATURE).await? {
            "the server does not know XXH128 digests".to_owned()
        } else if !self.entity_takes_xxh128(budget, entity).await? {
            format!("{entity} does not take XXH128 digests")
        } else {
            let variables = DigestAlgorithm {
                entity_name: entity,
                project_name: project,
                artifact_type_name: &draft.artifact_type,
                artifact_collection_name: &draft.name,
            };
            let what = format!("the digest algorithm of {entity}/{project}/{}", draft.name);
            let data = execute(self.transport(), budget, &what, &variables).await?;
            match data.into_name().as_deref() {
                Some("MANIFEST_MD5") => format!("{entity}/{project}/{} has MD5 digests", draft.name),
                _ => return Ok(Algorithm::Xxh128),
            }
        };
        self.transport().progress.note(&format!("{}: hashed with MD5, since {refusal}", draft.name));
        Ok(Algorithm::Md5)
    }

    /// Whether the server says that it has a feature; one that lists none has none.
    async fn has_feature(&self, budget: &Budget, name: &str) -> Result<bool, WandbError> {
        let data = execute(self.transport(), budget, "the features of the server", &ServerFeatures {}).await?;
        let features = data.server_info.and_then(|info| info.features).unwrap_or_default();
        Ok(features.into_iter().flatten().any(|feature| feature.name == name && feature.is_enabled))
    }

    async fn entity_takes_xxh128(&self, budget: &Budget, entity: &str) -> Result<bool, WandbError> {
        let what = format!("whether {entity} takes XXH128 digests");
        let data = execute(self.transport(), budget, &what, &XxhDigestsEnabled { entity_name: entity }).await?;
        Ok(data.entity.and_then(|entity| entity.xxhash_digests_enabled).unwrap_or(false))
    }
}

/// Adds the entries of a reference; one for which a path is taken is refused.
pub(super) fn add_references(
    entries: &mut BTreeMap<String, Entry>,
    found: Vec<(String, Entry)>,
    (draft, files): (&ArtifactDraft, &BTreeMap<String, Hashed>),
) -> Result<(), WandbError> {
    for (path, entry) in found {
        let fresh =
            !files.contains_key(&path) && entries.get(&path).is_none_or(|old| draft.kept.get(&path) == Some(old));
        if !fresh {
            return Err(WandbError::Unfit { path: path.into(), reason: "the draft has it already" });
        }
        entries.insert(path, entry);
    }
    Ok(())
}

/// Refuses entries that no folder could hold together: one below another that is a file.
pub(super) fn check_tree(entries: &BTreeMap<String, Entry>) -> Result<(), WandbError> {
    for path in entries.keys() {
        let mut slashes = path.match_indices('/').map(|(at, _)| at);
        if slashes.any(|at| path.get(..at).is_some_and(|parent| entries.contains_key(parent))) {
            return Err(WandbError::Unfit { path: path.into(), reason: "what should be its folder is an entry too" });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn an_entry_below_a_file_is_refused() {
        let entry = |path: &str| (path.to_owned(), Entry::file(Digest::of(Algorithm::Md5, b""), 0, None));
        let tree = |paths: &[&str]| check_tree(&paths.iter().map(|path| entry(path)).collect());
        assert!(tree(&["a", "a.b", "b/a", "b/b/c"]).is_ok());
        assert!(matches!(tree(&["a", "a/b"]), Err(WandbError::Unfit { .. })));
        assert!(matches!(tree(&["x/y", "x/y/z/w"]), Err(WandbError::Unfit { .. })));
    }
}
