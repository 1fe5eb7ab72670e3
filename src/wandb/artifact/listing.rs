//! What a project holds: collections with their newest versions, and all versions of one; each list whole, page by page. Network I/O through the client.

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{AliasNode, Collections, ListedCollection, Named, NewestEdge, Page, Versions};
use super::Artifact;
use super::name::{QualifiedName, version_index};

const PAGE: usize = 100;
/// The type name of collections of links.
pub(super) const PORTFOLIO: &str = "ArtifactPortfolio";
/// What the official client asks for when it lists versions.
const COMMITTED: &str = r#"{"state":"COMMITTED"}"#;

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
    /// Tags of the collection itself.
    pub tags: Vec<String>,
    /// When it was created (ISO 8601).
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: Option<String>,
    /// Number of committed versions.
    pub versions: u64,
    /// The newest committed version, where there is one.
    pub newest: Option<Newest>,
}

/// The newest version of a collection, as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Newest {
    /// `vN`.
    pub version: String,
    /// Aliases in this collection, without the version.
    pub aliases: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Digest of the manifest, lower-case hex.
    pub digest: String,
    /// Bytes of all entries.
    pub size: u64,
    /// When it was created (ISO 8601).
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: Option<String>,
}

impl Client {
    /// The collections of a project, each with its newest version: a hundred in a round trip.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] for the project, or what the requests met.
    pub async fn collections(&self, entity: &str, project: &str) -> Result<Vec<Collection>, WandbError> {
        let budget = self.budget();
        let what = format!("project {entity}/{project}");
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let variables = Collections { entity, project, page: Page { cursor, per_page: PAGE } };
            let data = execute(self.transport(), &budget, &what, &variables).await?;
            let found = data.project.and_then(|project| project.artifact_collections);
            let (nodes, next) = found.ok_or_else(|| WandbError::NotFound { what: what.clone() })?.into_page();
            all.extend(nodes.into_iter().map(|node| Collection::from_node((entity, project), node)));
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// The committed versions of a collection, in the server's order. The alias of the name is not used.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] for the collection, or what the requests met.
    pub async fn versions(&self, collection: &QualifiedName) -> Result<Vec<Artifact>, WandbError> {
        let budget = self.budget();
        let QualifiedName { entity, project, collection: name, .. } = collection;
        let what = format!("collection {entity}/{project}/{name}");
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = Page { cursor, per_page: PAGE };
            let variables = Versions { entity, project, collection: name, filters: COMMITTED, page };
            let data = execute(self.transport(), &budget, &what, &variables).await?;
            let found = data.project.and_then(|project| project.artifact_collection);
            let found = found.ok_or_else(|| WandbError::NotFound { what: what.clone() })?;
            let Some(versions) = found.artifacts else { return Ok(all) };
            for edge in versions.edges {
                all.push(Artifact::from_listed(edge.node, found.collection.clone(), edge.version)?);
            }
            match versions.page_info.end_cursor.filter(|_| versions.page_info.has_next_page) {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }
}

impl Collection {
    fn from_node((entity, project): (&str, &str), node: ListedCollection) -> Self {
        let name = |named: Named| named.name;
        let versions = node.artifacts.as_ref().map_or(0, |page| page.total_count);
        let edge = node.artifacts.and_then(|page| page.edges.into_iter().next());
        let newest = edge.map(|NewestEdge { version, node: newest }| Newest {
            aliases: aliases_in(newest.aliases, [entity, project, &node.name]),
            version,
            tags: newest.tags.into_iter().map(name).collect(),
            digest: newest.digest,
            size: newest.size,
            created_at: newest.created_at,
            updated_at: newest.updated_at,
        });
        Self {
            artifact_type: node.default_artifact_type.name,
            is_portfolio: node.kind == PORTFOLIO,
            description: node.description.filter(|text| !text.is_empty()),
            tags: node.tags.into_page().0.into_iter().map(name).collect(),
            created_at: node.created_at,
            updated_at: node.updated_at,
            name: node.name,
            versions,
            newest,
        }
    }
}

/// Of a version's aliases everywhere, those in one collection, without the version itself.
fn aliases_in(aliases: Vec<AliasNode>, place: [&str; 3]) -> Vec<String> {
    let names = aliases.into_iter().filter(|alias| is_in(alias, place)).map(|alias| alias.alias);
    names.filter(|alias| version_index(alias).is_none()).collect()
}

/// Whether an alias is one of this collection.
pub(super) fn is_in(alias: &AliasNode, [entity, project, collection]: [&str; 3]) -> bool {
    alias.artifact_collection.as_ref().is_some_and(|found| {
        let here = found.project.as_ref().is_none_or(|at| at.name == project && at.entity.name == entity);
        here && found.name == collection
    })
}
