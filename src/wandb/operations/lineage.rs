//! Operations that ask where an artifact came from and where it went.

use serde::{Deserialize, Serialize};

use super::{AliasText, Connection, Named, Page, ProjectNode, operation};

#[derive(Debug, Serialize)]
pub(crate) struct ArtifactLineage<'a> {
    pub(crate) id: &'a str,
    #[serde(flatten)]
    pub(crate) page: Page,
}
operation!(ArtifactLineage<'_>, "ArtifactLineage", "artifact_lineage.graphql", LineageData);

#[derive(Debug, Deserialize)]
pub(crate) struct LineageData {
    pub(crate) artifact: Option<LineageArtifact>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LineageArtifact {
    pub(crate) created_by: Option<Creator>,
    pub(crate) used_by: Connection<RunInfo>,
    pub(crate) artifact_memberships: Connection<PlaceNode>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "__typename")]
pub(crate) enum Creator {
    Run(RunInfo),
    User {
        username: Option<String>,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunInfo {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) display_name: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) job_type: Option<String>,
    pub(crate) created_at: String,
    /// Null when the key may not see the run's project.
    pub(crate) project: Option<ProjectNode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlaceNode {
    pub(crate) version_index: Option<u64>,
    pub(crate) aliases: Vec<AliasText>,
    pub(crate) artifact_collection: Option<PlaceCollection>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PlaceCollection {
    #[serde(rename = "__typename")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) project: Option<ProjectNode>,
}

/// A run's name, and where a page begins.
#[derive(Debug, Serialize, Clone)]
pub(crate) struct RunPage<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    pub(crate) run: &'a str,
    #[serde(flatten)]
    pub(crate) page: Page,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct RunInputs<'a>(pub(crate) RunPage<'a>);
operation!(RunInputs<'_>, "RunInputArtifacts", "run_input_artifacts.graphql", RunArtifactsData);

#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct RunOutputs<'a>(pub(crate) RunPage<'a>);
operation!(RunOutputs<'_>, "RunOutputArtifacts", "run_output_artifacts.graphql", RunArtifactsData);

#[derive(Debug, Deserialize)]
pub(crate) struct RunArtifactsData {
    pub(crate) project: Option<RunArtifactsProject>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RunArtifactsProject {
    pub(crate) run: Option<RunArtifacts>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RunArtifacts {
    pub(crate) artifacts: Option<Connection<BriefNode>>,
}

/// A version as lineage shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BriefNode {
    pub(crate) id: String,
    pub(crate) artifact_sequence: super::CollectionNode,
    pub(crate) version_index: Option<u64>,
    pub(crate) artifact_type: Named,
    pub(crate) state: String,
    pub(crate) size: u64,
    pub(crate) digest: String,
}
