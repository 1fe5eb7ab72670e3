//! Operations that change or delete what is committed.

use serde::{Deserialize, Serialize};

use super::{Identified, TagInput, operation};

#[derive(Debug, Serialize)]
pub(crate) struct CollectionByName<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    pub(crate) collection: &'a str,
}
operation!(CollectionByName<'_>, "ArtifactCollectionByName", "collection_by_name.graphql", CollectionData);

#[derive(Debug, Deserialize)]
pub(crate) struct CollectionData {
    pub(crate) project: Option<CollectionProject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CollectionProject {
    pub(crate) artifact_collection: Option<Identified>,
}

#[derive(Debug, Serialize)]
pub(crate) struct UpdateArtifact<'a> {
    pub(crate) input: UpdateArtifactInput<'a>,
}
operation!(UpdateArtifact<'_>, "UpdateArtifact", "update_artifact.graphql", serde_json::Value);

/// What is absent stays as it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateArtifactInput<'a> {
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<String>,
    /// Seconds; -1 inherits, -2 keeps for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_duration_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags_to_add: Vec<TagInput<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags_to_delete: Vec<TagInput<'a>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DeleteArtifact<'a> {
    pub(crate) input: DeleteArtifactInput<'a>,
}
operation!(DeleteArtifact<'_>, "DeleteArtifact", "delete_artifact.graphql", serde_json::Value);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteArtifactInput<'a> {
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
    pub(crate) delete_aliases: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct UnlinkArtifact<'a> {
    pub(crate) input: UnlinkArtifactInput<'a>,
}
operation!(UnlinkArtifact<'_>, "UnlinkArtifact", "unlink_artifact.graphql", serde_json::Value);

#[derive(Debug, Serialize)]
pub(crate) struct UnlinkArtifactInput<'a> {
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
    #[serde(rename = "artifactPortfolioID")]
    pub(crate) portfolio_id: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct AddAliases<'a> {
    pub(crate) input: AliasesInput<'a>,
}
operation!(AddAliases<'_>, "AddAliases", "add_aliases.graphql", serde_json::Value);

#[derive(Debug, Serialize)]
pub(crate) struct DeleteAliases<'a> {
    pub(crate) input: AliasesInput<'a>,
}
operation!(DeleteAliases<'_>, "DeleteAliases", "delete_aliases.graphql", serde_json::Value);

#[derive(Debug, Serialize)]
pub(crate) struct AliasesInput<'a> {
    #[serde(rename = "artifactID")]
    pub(crate) artifact_id: &'a str,
    pub(crate) aliases: Vec<PlacedAlias<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlacedAlias<'a> {
    pub(crate) entity_name: &'a str,
    pub(crate) project_name: &'a str,
    pub(crate) artifact_collection_name: &'a str,
    pub(crate) alias: &'a str,
}
