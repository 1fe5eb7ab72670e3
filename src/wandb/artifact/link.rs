//! Links: a version shown in a collection of another project, such as a registry. Network I/O through the client only.

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{AliasInput, LinkArtifact, LinkArtifactInput};
use super::Artifact;
use super::name::QualifiedName;

/// Where a version is linked to; the collection is made when it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkTarget {
    /// User, team, or the entity of an organisation's registries.
    pub entity: String,
    /// Project; a registry is one called `wandb-registry-<name>`.
    pub project: String,
    /// Collection.
    pub collection: String,
    /// Aliases that the link gets beside `latest`.
    pub aliases: Vec<String>,
}

impl LinkTarget {
    /// The collection of a name; its alias goes to the link, unless it is `latest`, which every new link gets.
    pub fn new(name: &QualifiedName) -> Self {
        let aliases = Some(name.alias.clone()).filter(|alias| alias != "latest").into_iter().collect();
        let QualifiedName { entity, project, collection, .. } = name.clone();
        Self { entity, project, collection, aliases }
    }
}

impl Client {
    /// Links a version into another collection and returns the name that it has there. Linking twice moves aliases only.
    ///
    /// # Errors
    /// [`WandbError::Rejected`] with the server's reason, or what the request met.
    pub async fn link_artifact(&self, artifact: &Artifact, target: &LinkTarget) -> Result<QualifiedName, WandbError> {
        let LinkTarget { entity, project, collection, aliases } = target;
        let alias = |alias| AliasInput { artifact_collection_name: collection, alias };
        let input = LinkArtifactInput {
            artifact_id: &artifact.id,
            artifact_portfolio_name: collection,
            entity_name: entity,
            project_name: project,
            aliases: aliases.iter().map(|name| alias(name)).collect(),
        };
        let what = format!("the link of {} in {entity}/{project}/{collection}", artifact.name());
        let data = execute(self.transport(), &self.budget(), &what, &LinkArtifact { input }).await?;
        let index = data.link_artifact.and_then(|payload| payload.version_index);
        let nothing = || WandbError::Malformed { what, reason: "it has no version".to_owned() };
        let version = index.map(|index| format!("v{index}")).ok_or_else(nothing)?;
        Ok(QualifiedName::new(entity, project, collection, &version))
    }
}
