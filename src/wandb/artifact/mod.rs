//! Artifacts: finding a version by name, its manifest, listing what there is. Bytes move in [`download`] and [`upload`].
//! Network I/O through the client only.

mod answer;
#[cfg(feature = "cloud")]
mod bucket;
pub mod download;
pub mod draft;
mod edit;
pub mod export;
pub mod filter;
mod folder;
mod lineage;
pub mod link;
mod listing;
pub mod locator;
mod lookup;
pub mod manifest;
pub mod name;
mod part_size;
mod parts;
mod pour;
pub mod prepare;
pub mod present;
pub mod ranges;
mod receive;
mod refer;
pub mod reference;
pub(super) mod registry;
mod room;
pub(super) mod send;
pub(super) mod source;
pub(super) mod spooled;
pub(super) mod suggest;
pub mod upload;
mod urls;
mod windows_names;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Client;
use super::error::WandbError;
use super::graphql::execute;
use super::operations::{
    AliasNode, ArtifactById, ArtifactNode, CollectionNode, FetchManifest, MembershipByName, MembershipNode,
};
use super::retry::{Budget, Traffic};
use super::transport::{Errand, Want};
use manifest::Manifest;
use name::{QualifiedName, version_index};

pub use edit::ArtifactEdit;
pub use lineage::{Brief, Lineage, LineageRun, Maker, Place};
pub use listing::{Collection, Newest};

/// Manifests of 100,000 entries have about 25 MB.
const MANIFEST_LIMIT: usize = 1 << 30;

/// A committed version of a collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Artifact {
    /// The server's id.
    pub id: String,
    /// Entity it was found in.
    pub entity: String,
    /// Project it was found in.
    pub project: String,
    /// Collection it was found in.
    pub collection: String,
    /// Version there, such as `v3`.
    pub version: String,
    /// Where it was logged: another name than the above when it was found through a link.
    pub source: QualifiedName,
    /// Type, such as `checkpoint`.
    pub artifact_type: String,
    /// Digest of the manifest, lower-case hex.
    pub digest: String,
    /// Bytes of all entries, references included.
    pub size: u64,
    /// Number of entries.
    pub file_count: u64,
    /// Aliases in this collection, without the version.
    pub aliases: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Description.
    pub description: Option<String>,
    /// Metadata.
    pub metadata: Map<String, Value>,
    /// Seconds it is kept, where limited.
    pub ttl_seconds: Option<u64>,
    /// When it was created, as the server writes it (ISO 8601).
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: Option<String>,
}

impl Artifact {
    /// `entity/project/collection:v3`.
    pub fn name(&self) -> QualifiedName {
        QualifiedName::new(&self.entity, &self.project, &self.collection, &self.version)
    }

    fn from_membership(name: &QualifiedName, node: MembershipNode) -> Result<Self, WandbError> {
        let what = || format!("artifact {name}");
        let artifact = node.artifact.ok_or_else(|| WandbError::NotFound { what: what() })?;
        let own = |alias: AliasNode| alias.alias;
        let aliases: Vec<String> = node.aliases.into_iter().map(own).collect();
        let index = node.version_index.or(artifact.version_index);
        Self::from_node(artifact, node.artifact_collection, (aliases, index))
    }

    /// From an answer that does not say which collection it was found in: the one it was logged to.
    fn from_source(mut node: ArtifactNode) -> Result<Self, WandbError> {
        let sequence = node.artifact_sequence.name.clone();
        let here = |alias: &AliasNode| alias.artifact_collection.as_ref().is_none_or(|found| found.name == sequence);
        let aliases = std::mem::take(&mut node.aliases).into_iter().filter(here).map(|alias| alias.alias).collect();
        let index = node.version_index;
        Self::from_node(node, None, (aliases, index))
    }

    /// From a listing of the collection `found`, which calls it `version`.
    fn from_listed(mut node: ArtifactNode, found: CollectionNode, version: String) -> Result<Self, WandbError> {
        let (entity, project) =
            found.project.as_ref().map_or(("", ""), |at| (at.entity.name.as_str(), at.name.as_str()));
        let here = |alias: &AliasNode| listing::is_in(alias, [entity, project, &found.name]);
        let aliases = std::mem::take(&mut node.aliases).into_iter().filter(here).map(|alias| alias.alias).collect();
        let index = version_index(&version);
        Self::from_node(node, Some(found), (aliases, index))
    }

    fn from_node(
        node: ArtifactNode,
        found: Option<CollectionNode>,
        (aliases, index): (Vec<String>, Option<u64>),
    ) -> Result<Self, WandbError> {
        let what = format!("artifact {}", node.artifact_sequence.name);
        let malformed = |reason: &str| WandbError::Malformed { what: what.clone(), reason: reason.to_owned() };
        let source_version = node.version_index.or(index).map(|index| format!("v{index}"));
        let version = aliases.iter().find(|alias| version_index(alias).is_some()).cloned();
        let version = version.or_else(|| index.map(|index| format!("v{index}")));
        let version = version.ok_or_else(|| malformed("it has no version"))?;
        let source = qualified(&node.artifact_sequence, &source_version.unwrap_or_else(|| version.clone()));
        let source = source.ok_or_else(|| malformed("its collection has no project"))?;
        let found = found.as_ref().and_then(|found| qualified(found, &version)).unwrap_or_else(|| source.clone());
        if node.state == "DELETED" {
            return Err(WandbError::Deleted { artifact: found.to_string() });
        }
        if node.state != "COMMITTED" {
            return Err(WandbError::NotCommitted { artifact: found.to_string(), state: node.state.to_lowercase() });
        }
        let metadata = match node.metadata.as_deref().map(serde_json::from_str::<Value>) {
            None | Some(Ok(Value::Null)) => Map::new(),
            Some(Ok(Value::Object(metadata))) => metadata,
            Some(_) => return Err(malformed("its metadata is no JSON object")),
        };
        Ok(Self {
            id: node.id,
            entity: found.entity,
            project: found.project,
            collection: found.collection,
            version,
            source,
            artifact_type: node.artifact_type.name,
            digest: node.digest,
            size: node.size,
            file_count: node.file_count,
            aliases: aliases.into_iter().filter(|alias| version_index(alias).is_none()).collect(),
            tags: node.tags.into_iter().map(|tag| tag.name).collect(),
            description: node.description.filter(|text| !text.is_empty()),
            metadata,
            ttl_seconds: node.ttl_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0),
            created_at: node.created_at,
            updated_at: node.updated_at,
        })
    }
}

fn qualified(collection: &CollectionNode, version: &str) -> Option<QualifiedName> {
    let project = collection.project.as_ref()?;
    Some(QualifiedName::new(&project.entity.name, &project.name, &collection.name, version))
}

impl Client {
    /// The version behind a name.
    ///
    /// # Errors
    /// [`WandbError::NotFound`], [`WandbError::NoSuchName`], [`WandbError::NotCommitted`], or what the request met.
    pub async fn artifact(&self, name: &QualifiedName) -> Result<Artifact, WandbError> {
        match self.artifact_with(&self.budget(), name).await {
            Err(error) => Err(self.explain(name, error).await),
            found => found,
        }
    }

    async fn artifact_with(&self, budget: &Budget, name: &QualifiedName) -> Result<Artifact, WandbError> {
        let what = format!("artifact {name}");
        let lookup = name.lookup();
        let variables = MembershipByName { entity: &name.entity, project: &name.project, name: &lookup };
        let data = execute(self.transport(), budget, &what, &variables).await?;
        let Some(project) = data.project else {
            return Err(WandbError::NotFound { what: format!("project {}/{}", name.entity, name.project) });
        };
        let node = project.artifact_collection_membership.ok_or(WandbError::NotFound { what })?;
        Artifact::from_membership(name, node)
    }

    /// The version with this id of the server.
    ///
    /// # Errors
    /// As [`Client::artifact`].
    pub async fn artifact_by_id(&self, id: &str) -> Result<Artifact, WandbError> {
        let what = format!("artifact with id {id}");
        let data = execute(self.transport(), &self.budget(), &what, &ArtifactById { id }).await?;
        Artifact::from_source(data.artifact.ok_or(WandbError::NotFound { what })?)
    }

    /// What the artifact holds, proven by the artifact's digest.
    ///
    /// # Errors
    /// [`WandbError::ManifestDigest`], [`WandbError::EntryPath`], [`WandbError::Malformed`], or what the request met.
    pub async fn manifest(&self, artifact: &Artifact) -> Result<Manifest, WandbError> {
        Ok(self.manifest_text(artifact).await?.0)
    }

    /// [`Client::manifest`] with the text it was parsed from, to be kept and parsed again.
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub async fn manifest_text(&self, artifact: &Artifact) -> Result<(Manifest, Bytes), WandbError> {
        let budget = self.budget();
        let name = artifact.name().to_string();
        let what = format!("the manifest of {name}");
        let data = execute(self.transport(), &budget, &what, &FetchManifest { id: &artifact.id }).await?;
        let manifest = data.artifact.and_then(|artifact| artifact.current_manifest);
        let manifest = manifest.ok_or_else(|| WandbError::NotFound { what: what.clone() })?;
        let url = self.transport().resolve(&manifest.file.direct_url, &what)?;
        let errand = Errand { traffic: Traffic::Object, what: &what };
        let once = || async {
            let response = self.transport().get(&url, Want::default()).await?;
            self.transport().read_all(response, MANIFEST_LIMIT).await
        };
        let bytes = self.transport().persist(&budget, errand, once).await?;
        Ok((Manifest::parse(&bytes, &name, &artifact.digest)?, bytes))
    }
}
