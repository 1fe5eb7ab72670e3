//! Reading artifacts: versions, aliases, tags, manifests.

use apollo_compiler::resolvers::ResolvedValue;
use serde::Deserialize;

use super::collection::{CollectionNode, MembershipNode};
use super::file::{self, FileNode};
use super::plain::{Page, Payload};
use super::project::ArtifactTypeNode;
use super::run::RunNode;
use super::viewer::User;
use super::{Ask, Fault, Resolve};
use crate::server::clock::iso;
use crate::server::ids;
use crate::server::rows::alias::{self, Alias};
use crate::server::rows::artifact::{Artifact, Entry, Manifest, users};
use crate::server::rows::collection::{Collection, Membership};
use crate::server::rows::project::ArtifactType;
use crate::server::rows::run::Run;

/// What a version answers for its time to live when it has none.
const NO_TTL: i64 = -2;

/// One version.
pub(super) struct ArtifactNode(pub(super) Artifact);

impl ArtifactNode {
    pub(super) fn version(&self, db: &rusqlite::Connection) -> Result<Option<i64>, Fault> {
        Ok(Membership::of(db, self.0.sequence_id, self.0.id)?.map(|member| member.version_index))
    }
}

impl Resolve for ArtifactNode {
    fn type_name(&self) -> &str {
        "Artifact"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let this = &self.0;
        let db = ask.db();
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(ids::encode("Artifact", this.id)),
            "digest" => ResolvedValue::leaf(this.digest.as_str()),
            "digestAlgorithm" => ResolvedValue::leaf(this.digest_algorithm.as_str()),
            "description" => ResolvedValue::leaf(this.description.clone()),
            "metadata" => ResolvedValue::leaf(this.metadata.clone()),
            "commitHash" => ResolvedValue::null(),
            "state" => ResolvedValue::leaf(this.state.as_str()),
            "size" => ResolvedValue::leaf(this.size),
            "storageBytes" => {
                let stored =
                    Entry::all(db, this.id)?.iter().filter(|e| e.sha256.is_some()).map(|e| e.size).sum::<i64>();
                ResolvedValue::leaf(stored)
            }
            "fileCount" => ResolvedValue::leaf(this.file_count),
            "historyStep" => ResolvedValue::leaf(this.history_step),
            "createdAt" => ResolvedValue::leaf(iso(this.created_at)),
            "updatedAt" => ResolvedValue::leaf(iso(this.updated_at)),
            "ttlDurationSeconds" => ResolvedValue::leaf(this.ttl_seconds.unwrap_or(NO_TTL)),
            "ttlIsInherited" => ResolvedValue::leaf(this.ttl_seconds.is_none()),
            "versionIndex" => ResolvedValue::leaf(self.version(db)?),
            "aliases" => ask.context.list(alias::of_artifact(db, this.id)?.into_iter().map(AliasNode)),
            "tags" => ask.context.list(this.tags(db)?.into_iter().map(tag)),
            "artifactSequence" => ask.context.object(CollectionNode(this.sequence(db)?)),
            "artifactType" => ask.context.object(ArtifactTypeNode(ArtifactType::get(db, this.sequence(db)?.type_id)?)),
            "currentManifest" => {
                ask.context.nullable(this.manifest_sha256.is_some().then_some(ManifestNode::Current(this)))
            }
            "files" => ask.context.object(file::of_artifact(ask, this.id)?),
            "filesByManifestEntries" => ask.context.object(file::by_manifest_entries(ask)?),
            _ => return self.relation(ask),
        })
    }
}

impl ArtifactNode {
    /// Where the version is a member, and the runs around it.
    fn relation<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let db = ask.db();
        let id = self.0.id;
        Ok(match ask.name() {
            "artifactMemberships" => {
                let all = Membership::of_artifact(db, id)?.into_iter().map(MembershipNode).collect();
                ask.context.object(Page::cut("ArtifactCollectionMembershipConnection", ask, all)?)
            }
            "artifactCollections" => {
                let members = Membership::of_artifact(db, id)?;
                let all: Result<_, _> =
                    members.iter().map(|m| Collection::get(db, m.collection_id).map(CollectionNode)).collect();
                ask.context.object(Page::cut("ArtifactCollectionConnection", ask, all?)?)
            }
            "usedCount" => ResolvedValue::leaf(users(db, id)?.len() as i64),
            "usedBy" => {
                let all: Result<_, _> = users(db, id)?.into_iter().map(|run| Run::get(db, run).map(RunNode)).collect();
                ask.context.object(Page::cut("RunConnection", ask, all?)?)
            }
            "createdBy" => match self.0.created_by_run {
                Some(run) => ask.context.object(RunNode(Run::get(db, run)?)),
                None => ask.context.object(User),
            },
            _ => return ask.unresolved("Artifact"),
        })
    }
}

/// A tag of a version or of a collection.
pub(super) fn tag((id, name): (i64, String)) -> Payload<'static> {
    Payload::new("Tag").leaf("id", ids::encode("Tag", id)).leaf("name", name)
}

/// A name that points at a member.
pub(super) struct AliasNode(pub(super) Alias);

impl Resolve for AliasNode {
    fn type_name(&self) -> &str {
        "ArtifactAlias"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(ids::encode("ArtifactAlias", self.0.id)),
            "alias" => ResolvedValue::leaf(self.0.name.as_str()),
            "artifactCollection" => {
                ask.context.object(CollectionNode(Collection::get(ask.db(), self.0.collection_id)?))
            }
            _ => return ask.unresolved("ArtifactAlias"),
        })
    }
}

/// A manifest: the one of a committed version, or one being announced.
pub(super) enum ManifestNode<'n> {
    Current(&'n Artifact),
    Announced(Manifest),
}

impl Resolve for ManifestNode<'_> {
    fn type_name(&self) -> &str {
        "ArtifactManifest"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let artifact = match self {
            Self::Current(artifact) => artifact.id,
            Self::Announced(manifest) => manifest.artifact_id,
        };
        Ok(match (ask.name(), self) {
            ("id", Self::Current(_)) => ResolvedValue::leaf(ids::encode("CurrentManifest", artifact)),
            ("id", Self::Announced(manifest)) => ResolvedValue::leaf(ids::encode("ArtifactManifest", manifest.id)),
            ("digest", Self::Current(artifact)) => ResolvedValue::leaf(artifact.digest.as_str()),
            ("digest", Self::Announced(manifest)) => ResolvedValue::leaf(manifest.digest.as_str()),
            ("artifact", _) => ask.context.object(ArtifactNode(Artifact::get(ask.db(), artifact)?)),
            ("file", Self::Current(artifact)) => {
                let sha256 = artifact.manifest_sha256.as_deref().unwrap_or_default();
                ask.context.object(FileNode::stored_manifest(artifact.id, sha256))
            }
            ("file", Self::Announced(manifest)) => ask.context.object(FileNode::announced_manifest(manifest)?),
            _ => return ask.unresolved("ArtifactManifest"),
        })
    }
}

/// `Query.artifact`.
pub(super) fn by_id(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    // An id that was never given out is answered like one that is gone: null.
    let Ok(id) = ids::decode("Artifact", ask.required("id")?) else { return Ok(ResolvedValue::null()) };
    match Artifact::get(ask.db(), id) {
        Ok(artifact) => Ok(ask.context.object(ArtifactNode(artifact))),
        Err(Fault::NotFound { .. }) => Ok(ResolvedValue::null()),
        Err(fault) => Err(fault),
    }
}

/// `Query.clientIDMapping`.
pub(super) fn client_id_mapping(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let found = Artifact::by_client_id(ask.db(), ask.required("clientID")?)?;
    let mapping =
        found.map(|artifact| Payload::new("ClientIDMapping").leaf("serverID", ids::encode("Artifact", artifact.id)));
    Ok(ask.context.nullable(mapping))
}

/// An alias as mutations of drafts name it.
#[derive(Debug, Deserialize)]
pub(super) struct AliasInput {
    pub(super) alias: String,
}

/// A tag as mutations name it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TagInput {
    pub(super) tag_name: String,
}
