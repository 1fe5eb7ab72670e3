//! Operations about names: what exists near one, and which organisation an entity belongs to.

use serde::{Deserialize, Serialize};

use super::{AliasNode, Connection, Named, operation};

#[derive(Debug, Serialize)]
pub(crate) struct NamesNear<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    pub(crate) collection: &'a str,
    pub(crate) most: usize,
}
operation!(NamesNear<'_>, "NamesNear", "names_near.graphql", NamesNearData);

#[derive(Debug, Deserialize)]
pub(crate) struct NamesNearData {
    pub(crate) project: Option<NearProject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NearProject {
    pub(crate) artifact_collection: Option<NearCollection>,
    pub(crate) artifact_collections: Option<Connection<Named>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NearCollection {
    pub(crate) aliases: Option<Connection<AliasNode>>,
    pub(crate) artifacts: Option<NearVersions>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NearVersions {
    pub(crate) edges: Vec<NearVersion>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NearVersion {
    /// `vN`.
    pub(crate) version: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct EntityProjects<'a> {
    pub(crate) entity: &'a str,
    pub(crate) most: usize,
}
operation!(EntityProjects<'_>, "EntityProjects", "entity_projects.graphql", ProjectsData);

#[derive(Debug, Deserialize)]
pub(crate) struct ProjectsData {
    pub(crate) models: Option<Connection<Named>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct OrgInfo<'a> {
    pub(crate) entity: &'a str,
}
operation!(OrgInfo<'_>, "FetchOrgInfoFromEntity", "fetch_org_info_from_entity.graphql", OrgInfoData);

#[derive(Debug, Deserialize)]
pub(crate) struct OrgInfoData {
    pub(crate) entity: Option<OrgEntityNode>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OrgEntityNode {
    pub(crate) organization: Option<OrgNode>,
    pub(crate) user: Option<OrgUser>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OrgUser {
    pub(crate) organizations: Option<Vec<Option<OrgNode>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrgNode {
    pub(crate) name: String,
    pub(crate) org_entity: Option<Named>,
}
