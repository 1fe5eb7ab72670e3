//! Operations on artifacts: finding, listing files, uploading, using.

use serde::{Deserialize, Serialize};

use super::{Connection, Identified, Named, operation};

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
pub(crate) struct CreateArtifact<'a> {
    pub(crate) input: CreateArtifactInput<'a>,
}
operation!(CreateArtifact<'_>, "CreateArtifact", "create_artifact.graphql", CreateArtifactData);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateArtifactInput<'a> {
    pub(crate) entity_name: &'a str,
    pub(crate) project_name: &'a str,
    pub(crate) artifact_type_name: &'a str,
    pub(crate) artifact_collection_name: &'a str,
    pub(crate) run_name: &'a str,
    pub(crate) digest: String,
    pub(crate) digest_algorithm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<String>,
    pub(crate) aliases: Vec<AliasInput<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<TagInput<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_duration_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) history_step: Option<u64>,
    #[serde(rename = "clientID")]
    pub(crate) client_id: &'a str,
    #[serde(rename = "sequenceClientID")]
    pub(crate) sequence_client_id: &'a str,
    pub(crate) enable_digest_deduplication: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AliasInput<'a> {
    pub(crate) artifact_collection_name: &'a str,
    pub(crate) alias: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TagInput<'a> {
    pub(crate) tag_name: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateArtifactData {
    pub(crate) create_artifact: Option<CreateArtifactPayload>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateArtifactPayload {
    pub(crate) artifact: CreatedArtifact,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedArtifact {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) artifact_sequence: CreatedSequence,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedSequence {
    pub(crate) latest_artifact: Option<Identified>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateManifest<'a> {
    pub(crate) input: CreateManifestInput<'a>,
    pub(crate) include_upload: bool,
}
operation!(CreateManifest<'_>, "CreateArtifactManifest", "create_artifact_manifest.graphql", CreateManifestData);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateManifestInput<'a> {
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
    #[serde(rename = "baseArtifactID", skip_serializing_if = "Option::is_none")]
    pub(crate) base_artifact_id: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) entity_name: &'a str,
    pub(crate) project_name: &'a str,
    pub(crate) run_name: &'a str,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateManifestData {
    pub(crate) create_artifact_manifest: Option<CreateManifestPayload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateManifestPayload {
    pub(crate) artifact_manifest: CreatedManifest,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreatedManifest {
    pub(crate) id: String,
    pub(crate) file: CreatedManifestFile,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedManifestFile {
    pub(crate) upload_url: Option<String>,
    #[serde(default)]
    pub(crate) upload_headers: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CreateFiles<'a> {
    pub(crate) input: CreateFilesInput<'a>,
}
operation!(CreateFiles<'_>, "CreateArtifactFiles", "create_artifact_files.graphql", CreateFilesData);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateFilesInput<'a> {
    pub(crate) artifact_files: Vec<FileSpec<'a>>,
    pub(crate) storage_layout: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileSpec<'a> {
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
    #[serde(rename = "artifactManifestID")]
    pub(crate) artifact_manifest_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) md5: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upload_parts_input: Option<Vec<PartInput>>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartInput {
    pub(crate) part_number: u64,
    #[serde(rename = "hexMD5")]
    pub(crate) hex_md5: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateFilesData {
    pub(crate) create_artifact_files: Option<CreateFilesPayload>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateFilesPayload {
    pub(crate) files: Connection<CreatedFile>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedFile {
    pub(crate) storage_path: Option<String>,
    pub(crate) upload_url: Option<String>,
    #[serde(default)]
    pub(crate) upload_headers: Option<Vec<String>>,
    pub(crate) upload_multipart_urls: Option<MultipartUrls>,
    pub(crate) artifact: Option<Identified>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MultipartUrls {
    #[serde(rename = "uploadID")]
    pub(crate) upload_id: String,
    pub(crate) upload_url_parts: Vec<PartUrl>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartUrl {
    pub(crate) part_number: u64,
    pub(crate) upload_url: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct CompleteMultipart<'a> {
    pub(crate) input: CompleteMultipartInput<'a>,
}
operation!(
    CompleteMultipart<'_>,
    "CompleteMultipartUploadArtifact",
    "complete_multipart_upload_artifact.graphql",
    serde_json::Value
);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompleteMultipartInput<'a> {
    pub(crate) complete_multipart_action: &'static str,
    pub(crate) completed_parts: Vec<PartInput>,
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
    pub(crate) storage_path: &'a str,
    #[serde(rename = "uploadID")]
    pub(crate) upload_id: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct CommitArtifact<'a> {
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
}
operation!(CommitArtifact<'_>, "CommitArtifact", "commit_artifact.graphql", serde_json::Value);

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
