//! Operations that list: who is asking, collections, versions.

use serde::{Deserialize, Serialize};

use super::{AliasNode, ArtifactNode, CollectionNode, Connection, Named, PageInfo, operation};

#[derive(Debug, Serialize)]
pub(crate) struct Viewer {}
operation!(Viewer, "Viewer", "viewer.graphql", ViewerData);

#[derive(Debug, Deserialize)]
pub(crate) struct ViewerData {
    pub(crate) viewer: Option<ViewerNode>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ViewerNode {
    pub(crate) entity: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) teams: Option<Connection<Named>>,
}

/// Where a page begins and how long it is.
#[derive(Debug, Serialize, Clone, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    pub(crate) cursor: Option<String>,
    pub(crate) per_page: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Collections<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    #[serde(flatten)]
    pub(crate) page: Page,
}
operation!(Collections<'_>, "ProjectArtifactCollections", "project_artifact_collections.graphql", CollectionsData);

#[derive(Debug, Deserialize)]
pub(crate) struct CollectionsData {
    pub(crate) project: Option<CollectionsProject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CollectionsProject {
    pub(crate) artifact_collections: Option<Connection<ListedCollection>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedCollection {
    #[serde(rename = "__typename")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) created_at: String,
    pub(crate) updated_at: Option<String>,
    pub(crate) default_artifact_type: Named,
    pub(crate) tags: Connection<Named>,
    /// The newest version, where there is one.
    pub(crate) artifacts: Option<NewestPage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewestPage {
    pub(crate) total_count: u64,
    pub(crate) edges: Vec<NewestEdge>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NewestEdge {
    /// `vN`.
    pub(crate) version: String,
    pub(crate) node: NewestNode,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewestNode {
    pub(crate) size: u64,
    pub(crate) digest: String,
    pub(crate) created_at: String,
    pub(crate) updated_at: Option<String>,
    pub(crate) tags: Vec<Named>,
    pub(crate) aliases: Vec<AliasNode>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Versions<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    pub(crate) collection: &'a str,
    pub(crate) filters: &'static str,
    #[serde(flatten)]
    pub(crate) page: Page,
}
operation!(Versions<'_>, "ProjectArtifacts", "project_artifacts.graphql", VersionsData);

#[derive(Debug, Deserialize)]
pub(crate) struct VersionsData {
    pub(crate) project: Option<VersionsProject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionsProject {
    pub(crate) artifact_collection: Option<VersionsCollection>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VersionsCollection {
    #[serde(flatten)]
    pub(crate) collection: CollectionNode,
    pub(crate) artifacts: Option<VersionsPage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionsPage {
    pub(crate) edges: Vec<VersionEdge>,
    pub(crate) page_info: PageInfo,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VersionEdge {
    /// `vN`.
    pub(crate) version: String,
    pub(crate) node: ArtifactNode,
}
