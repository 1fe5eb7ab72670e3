//! Operations on artifacts: finding, listing files, using.

use serde::{Deserialize, Serialize};

use super::{Connection, Named, operation};

#[derive(Debug, Serialize)]
pub(crate) struct MembershipByName<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    pub(crate) name: &'a str,
}
operation!(MembershipByName<'_>, "ArtifactMembershipByName", "artifact_membership_by_name.graphql", MembershipData);

#[derive(Debug, Deserialize)]
pub(crate) struct MembershipData {
    pub(crate) project: Option<MembershipProject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MembershipProject {
    pub(crate) artifact_collection_membership: Option<MembershipNode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MembershipNode {
    pub(crate) version_index: Option<u64>,
    pub(crate) aliases: Vec<AliasNode>,
    pub(crate) artifact_collection: Option<CollectionNode>,
    pub(crate) artifact: Option<ArtifactNode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AliasNode {
    pub(crate) alias: String,
    pub(crate) artifact_collection: Option<CollectionNode>,
}

/// An alias where its collection is known already.
#[derive(Debug, Deserialize)]
pub(crate) struct AliasText {
    pub(crate) alias: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CollectionNode {
    pub(crate) name: String,
    pub(crate) project: Option<ProjectNode>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ProjectNode {
    pub(crate) name: String,
    pub(crate) entity: Named,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArtifactNode {
    pub(crate) id: String,
    pub(crate) artifact_sequence: CollectionNode,
    pub(crate) version_index: Option<u64>,
    pub(crate) artifact_type: Named,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Option<String>,
    pub(crate) ttl_duration_seconds: Option<i64>,
    #[serde(default)]
    pub(crate) tags: Vec<Named>,
    pub(crate) state: String,
    pub(crate) size: u64,
    pub(crate) digest: String,
    pub(crate) file_count: u64,
    pub(crate) created_at: String,
    pub(crate) updated_at: Option<String>,
    #[serde(default)]
    pub(crate) aliases: Vec<AliasNode>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ArtifactById<'a> {
    pub(crate) id: &'a str,
}
operation!(ArtifactById<'_>, "ArtifactByID", "artifact_by_id.graphql", ArtifactData);

#[derive(Debug, Deserialize)]
pub(crate) struct ArtifactData {
    pub(crate) artifact: Option<ArtifactNode>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FetchManifest<'a> {
    pub(crate) id: &'a str,
}
operation!(FetchManifest<'_>, "FetchArtifactManifest", "fetch_artifact_manifest.graphql", ManifestData);

#[derive(Debug, Deserialize)]
pub(crate) struct ManifestData {
    pub(crate) artifact: Option<ManifestArtifact>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestArtifact {
    pub(crate) current_manifest: Option<ManifestNode>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ManifestNode {
    pub(crate) file: ManifestFile,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestFile {
    pub(crate) direct_url: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MembershipFiles<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    pub(crate) collection: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) names: &'a [String],
    pub(crate) per_page: usize,
}
operation!(MembershipFiles<'_>, "ArtifactMembershipFiles", "artifact_membership_files.graphql", FilesData);

#[derive(Debug, Deserialize)]
pub(crate) struct FilesData {
    pub(crate) project: Option<FilesProject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FilesProject {
    pub(crate) artifact_collection: Option<FilesCollection>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FilesCollection {
    pub(crate) artifact_membership: Option<FilesMembership>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FilesMembership {
    pub(crate) files: Option<Connection<FileNode>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileNode {
    pub(crate) name: String,
    pub(crate) direct_url: String,
}

impl FilesData {
    /// The files, or nothing when any step on the way was null.
    pub(crate) fn into_files(self) -> Option<Vec<FileNode>> {
        let files = self.project?.artifact_collection?.artifact_membership?.files?;
        Some(files.into_page().0)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct UseArtifact<'a> {
    pub(crate) input: UseArtifactInput<'a>,
}
operation!(UseArtifact<'_>, "UseArtifact", "use_artifact.graphql", serde_json::Value);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UseArtifactInput<'a> {
    pub(crate) entity_name: &'a str,
    pub(crate) project_name: &'a str,
    pub(crate) run_name: &'a str,
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
}
