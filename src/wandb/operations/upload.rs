//! Operations of an upload: which digests the server takes, a version, where its files go, its manifest, the commit, links.

use serde::{Deserialize, Serialize};

use super::{Connection, Identified, operation};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage_region: Option<&'a str>,
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
    /// Only for servers that know the feature; others refuse the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest_algorithm: Option<&'static str>,
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
    /// The digest of the manifest entry, when that is not the MD5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
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
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateManifest<'a> {
    pub(crate) input: UpdateManifestInput<'a>,
    pub(crate) include_upload: bool,
}
operation!(UpdateManifest<'_>, "UpdateArtifactManifest", "update_artifact_manifest.graphql", UpdateManifestData);

#[derive(Debug, Serialize)]
pub(crate) struct UpdateManifestInput<'a> {
    #[serde(rename = "artifactManifestID")]
    pub(crate) artifact_manifest_id: &'a str,
    pub(crate) digest: &'a str,
    #[serde(rename = "baseArtifactID", skip_serializing_if = "Option::is_none")]
    pub(crate) base_artifact_id: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateManifestData {
    pub(crate) update_artifact_manifest: Option<CreateManifestPayload>,
}

#[derive(Debug, Serialize)]
pub(crate) struct LinkArtifact<'a> {
    pub(crate) input: LinkArtifactInput<'a>,
}
operation!(LinkArtifact<'_>, "LinkArtifact", "link_artifact.graphql", LinkData);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkArtifactInput<'a> {
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
    pub(crate) artifact_portfolio_name: &'a str,
    pub(crate) entity_name: &'a str,
    pub(crate) project_name: &'a str,
    pub(crate) aliases: Vec<AliasInput<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkData {
    pub(crate) link_artifact: Option<LinkPayload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkPayload {
    pub(crate) version_index: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ServerFeatures {}
operation!(ServerFeatures, "ServerFeaturesQuery", "server_features.graphql", FeaturesData);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FeaturesData {
    pub(crate) server_info: Option<ServerInfo>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ServerInfo {
    pub(crate) features: Option<Vec<Option<ServerFeature>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerFeature {
    pub(crate) name: String,
    pub(crate) is_enabled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct XxhDigestsEnabled<'a> {
    pub(crate) entity_name: &'a str,
}
operation!(XxhDigestsEnabled<'_>, "XXHashDigestsEnabled", "xxhash_digests_enabled.graphql", XxhEnabledData);

#[derive(Debug, Deserialize)]
pub(crate) struct XxhEnabledData {
    pub(crate) entity: Option<XxhEntity>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct XxhEntity {
    pub(crate) xxhash_digests_enabled: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DigestAlgorithm<'a> {
    pub(crate) entity_name: &'a str,
    pub(crate) project_name: &'a str,
    pub(crate) artifact_type_name: &'a str,
    pub(crate) artifact_collection_name: &'a str,
}
operation!(
    DigestAlgorithm<'_>,
    "FetchArtifactDigestAlgorithm",
    "fetch_artifact_digest_algorithm.graphql",
    DigestAlgorithmData
);

#[derive(Debug, Deserialize)]
pub(crate) struct DigestAlgorithmData {
    pub(crate) project: Option<DigestProject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DigestProject {
    pub(crate) artifact_type: Option<DigestType>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DigestType {
    pub(crate) artifact_collection: Option<DigestCollection>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DigestCollection {
    pub(crate) digest_algorithm: Option<String>,
}

impl DigestAlgorithmData {
    /// The collection's algorithm; nothing when there is no such collection yet, or it does not say.
    pub(crate) fn into_name(self) -> Option<String> {
        self.project?.artifact_type?.artifact_collection?.digest_algorithm
    }
}
