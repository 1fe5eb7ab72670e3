//! What a project holds: types, collections, versions, each list whole, page by page. Network I/O through the client.

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{ArtifactTypes, Collections, Page, Versions};
use super::Artifact;
use super::name::QualifiedName;

const PAGE: usize = 100;
/// What the official client asks for when it lists versions.
const COMMITTED: &str = r#"{"state":"COMMITTED"}"#;

/// A type of artifacts in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactType {
    /// Name, such as `checkpoint`.
    pub name: String,
    /// Description.
    pub description: Option<String>,
}

/// A collection of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collection {
    /// Name.
    pub name: String,
    /// Type of its artifacts.
    pub artifact_type: String,
    /// Whether it holds links to versions logged elsewhere rather than its own.
    pub is_portfolio: bool,
    /// Description.
    pub description: Option<String>,
    /// When it was created (ISO 8601).
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: Option<String>,
}

impl Client {
    /// The artifact types of a project.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] for the project, or what the requests met.
    pub async fn artifact_types(&self, entity: &str, project: &str) -> Result<Vec<ArtifactType>, WandbError> {
        let budget = self.budget();
        let what = format!("project {entity}/{project}");
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let variables = ArtifactTypes { entity, project, page: Page { cursor, per_page: PAGE } };
            let data = execute(self.transport(), &budget, &what, &variables).await?;
            let types = data.project.ok_or_else(|| WandbError::NotFound { what: what.clone() })?.artifact_types;
            let (nodes, next) = types.into_page();
            all.extend(nodes.into_iter().map(|node| ArtifactType { name: node.name, description: node.description }));
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// The collections of one type in a project.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] for the project or type, or what the requests met.
    pub async fn collections(&self, entity: &str, project: &str, kind: &str) -> Result<Vec<Collection>, WandbError> {
        let budget = self.budget();
        let what = format!("artifacts of type {kind} in {entity}/{project}");
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let variables = Collections { entity, project, kind, page: Page { cursor, per_page: PAGE } };
            let data = execute(self.transport(), &budget, &what, &variables).await?;
            let found =
                data.project.and_then(|project| project.artifact_type).and_then(|kind| kind.artifact_collections);
            let (nodes, next) = found.ok_or_else(|| WandbError::NotFound { what: what.clone() })?.into_page();
            all.extend(nodes.into_iter().map(|node| Collection {
                name: node.name,
                artifact_type: kind.to_owned(),
                is_portfolio: node.kind == "ArtifactPortfolio",
                description: node.description.filter(|text| !text.is_empty()),
                created_at: node.created_at,
                updated_at: node.updated_at,
            }));
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// The committed versions of a collection, in the server's order.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] for the collection, or what the requests met.
    pub async fn versions(&self, collection: &QualifiedName, kind: &str) -> Result<Vec<Artifact>, WandbError> {
        let budget = self.budget();
        let QualifiedName { entity, project, collection: name, .. } = collection;
        let what = format!("collection {entity}/{project}/{name} of type {kind}");
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = Page { cursor, per_page: PAGE };
            let variables = Versions { entity, project, kind, collection: name, filters: COMMITTED, page };
            let data = execute(self.transport(), &budget, &what, &variables).await?;
            let found = data.project.and_then(|project| project.artifact_type);
            let found = found.and_then(|kind| kind.artifact_collection).and_then(|collection| collection.artifacts);
            let found = found.ok_or_else(|| WandbError::NotFound { what: what.clone() })?;
            for edge in found.edges {
                let mut artifact = Artifact::from_source(edge.node)?;
                artifact.version = edge.version;
                all.push(artifact);
            }
            match found.page_info.end_cursor.filter(|_| found.page_info.has_next_page) {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }
}
