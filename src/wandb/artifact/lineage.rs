//! Where a version came from, which runs used it, and where it is linked; and what a run read and wrote. Network I/O
//! through the client.

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{
    ArtifactLineage, BriefNode, Connection, Creator, Operation, Page, PlaceNode, RunArtifactsData, RunInfo, RunInputs,
    RunOutputs, RunPage,
};
use super::listing::PORTFOLIO;
use super::name::{QualifiedName, version_index};
use super::{Artifact, qualified};

const PAGE: usize = 100;

/// What is around one version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lineage {
    /// Who made it; nothing when the server does not say.
    pub made_by: Option<Maker>,
    /// The runs that used it.
    pub used_by: Vec<LineageRun>,
    /// The collections it is linked into.
    pub links: Vec<Place>,
}

/// Who made a version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Maker {
    /// A run logged it.
    Run(LineageRun),
    /// A person, outside of any run.
    User(Option<String>),
}

/// A run as lineage shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineageRun {
    /// The server's id.
    pub id: String,
    /// Entity and project, unless the key may not see them.
    pub project: Option<(String, String)>,
    /// Its short id, such as `1a2b3c4d`.
    pub name: String,
    /// The name people read.
    pub display_name: Option<String>,
    /// Job type.
    pub job_type: Option<String>,
    /// `running`, `finished`, `failed`, …
    pub state: Option<String>,
    /// When it started (ISO 8601).
    pub created_at: String,
}

/// A collection that a version is linked into.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The name it has there, with the version.
    pub name: QualifiedName,
    /// Aliases there, without the version.
    pub aliases: Vec<String>,
}

/// A version as the lists of a run show it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Brief {
    /// The server's id.
    pub id: String,
    /// Where it was logged.
    pub name: QualifiedName,
    /// Type.
    pub artifact_type: String,
    /// Whether it is committed: neither pending nor deleted.
    pub committed: bool,
    /// Digest of the manifest.
    pub digest: String,
    /// Bytes of all entries.
    pub size: u64,
}

impl LineageRun {
    fn from_node(node: RunInfo) -> Self {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            id: node.id,
            project: node.project.map(|project| (project.entity.name, project.name)),
            name: node.name,
            display_name: filled(node.display_name),
            job_type: filled(node.job_type),
            state: filled(node.state),
            created_at: node.created_at,
        }
    }

    /// `entity/project/1a2b3c4d`, or the short id alone where the project is not visible.
    pub fn path(&self) -> String {
        match &self.project {
            Some((entity, project)) => format!("{entity}/{project}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Place {
    /// Only links: the sequence that a version was logged to is no link.
    fn from_node(node: PlaceNode) -> Option<Self> {
        let collection = node.artifact_collection.filter(|collection| collection.kind == PORTFOLIO)?;
        let project = collection.project?;
        let version = format!("v{}", node.version_index?);
        let aliases = node.aliases.into_iter().map(|alias| alias.alias);
        Some(Self {
            name: QualifiedName::new(&project.entity.name, &project.name, &collection.name, &version),
            aliases: aliases.filter(|alias| version_index(alias).is_none()).collect(),
        })
    }
}

impl From<&Artifact> for Brief {
    fn from(artifact: &Artifact) -> Self {
        Self {
            id: artifact.id.clone(),
            name: artifact.source.clone(),
            artifact_type: artifact.artifact_type.clone(),
            committed: true,
            digest: artifact.digest.clone(),
            size: artifact.size,
        }
    }
}

impl Brief {
    /// Nothing for a version that the key may not see.
    fn from_node(node: BriefNode) -> Option<Self> {
        let version = format!("v{}", node.version_index?);
        Some(Self {
            name: qualified(&node.artifact_sequence, &version)?,
            id: node.id,
            artifact_type: node.artifact_type.name,
            committed: node.state == "COMMITTED",
            digest: node.digest,
            size: node.size,
        })
    }
}

impl Client {
    /// Who made a version, who used it, and where it is linked.
    ///
    /// # Errors
    /// [`WandbError::NotFound`], or what the requests met.
    pub async fn lineage(&self, id: &str) -> Result<Lineage, WandbError> {
        let budget = self.budget();
        let what = format!("the lineage of artifact {id}");
        let (mut lineage, mut cursor) = (Lineage { made_by: None, used_by: Vec::new(), links: Vec::new() }, None);
        loop {
            let variables = ArtifactLineage { id, page: Page { cursor, per_page: PAGE } };
            let data = execute(self.transport(), &budget, &what, &variables).await?;
            let found = data.artifact.ok_or_else(|| WandbError::NotFound { what: what.clone() })?;
            lineage.made_by = match found.created_by {
                Some(Creator::Run(run)) => Some(Maker::Run(LineageRun::from_node(run))),
                Some(Creator::User { username }) => Some(Maker::User(username)),
                Some(Creator::Other) | None => None,
            };
            lineage.links = found.artifact_memberships.into_page().0.into_iter().filter_map(Place::from_node).collect();
            let (runs, next) = found.used_by.into_page();
            lineage.used_by.extend(runs.into_iter().map(LineageRun::from_node));
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(lineage),
            }
        }
    }

    /// The versions that a run used.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] for the run, or what the requests met.
    pub async fn run_inputs(&self, run: &LineageRun) -> Result<Vec<Brief>, WandbError> {
        self.run_artifacts(run, "what was used by", RunInputs).await
    }

    /// The versions that a run logged.
    ///
    /// # Errors
    /// As [`Client::run_inputs`].
    pub async fn run_outputs(&self, run: &LineageRun) -> Result<Vec<Brief>, WandbError> {
        self.run_artifacts(run, "what was logged by", RunOutputs).await
    }

    async fn run_artifacts<'r, O: Operation<Data = RunArtifactsData>>(
        &self,
        run: &'r LineageRun,
        relation: &str,
        operation: impl Fn(RunPage<'r>) -> O,
    ) -> Result<Vec<Brief>, WandbError> {
        let Some((entity, project)) = &run.project else { return Ok(Vec::new()) };
        let budget = self.budget();
        let what = format!("{relation} run {}", run.path());
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = RunPage { entity, project, run: &run.name, page: Page { cursor, per_page: PAGE } };
            let data = execute(self.transport(), &budget, &what, &operation(page)).await?;
            let found = data.project.and_then(|project| project.run);
            let found = found.ok_or_else(|| WandbError::NotFound { what: what.clone() })?;
            let (nodes, next) = found.artifacts.map_or((Vec::new(), None), Connection::into_page);
            all.extend(nodes.into_iter().filter_map(Brief::from_node));
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }
}
