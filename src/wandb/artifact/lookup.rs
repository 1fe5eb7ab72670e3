//! Many names at once: a few questions for hundreds of names, and one by one where the server wants that.

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::MembershipsByName;
use super::super::retry::Budget;
use super::Artifact;
use super::name::QualifiedName;

/// Names in one question: an answer of some 100 kB, well below what servers refuse as too much.
const BATCH: usize = 50;

impl Client {
    /// The version behind each name, or why there is none, in the order of the names. Asks about fifty names at a time.
    ///
    /// # Errors
    /// What the requests met: nothing is known about any name then. What is wrong with one name is in its place.
    pub async fn artifacts(&self, names: &[QualifiedName]) -> Result<Vec<Result<Artifact, WandbError>>, WandbError> {
        let budget = self.budget();
        // Boxed one by one: a stream of closures over borrowed names would not be `Send` as the compiler sees it.
        let mut work: Vec<BoxFuture<'_, _>> = Vec::new();
        for names in names.chunks(BATCH) {
            work.push(Box::pin(self.look_up(&budget, names)));
        }
        let found: Vec<Vec<_>> = stream::iter(work).buffered(self.concurrency()).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn look_up(
        &self,
        budget: &Budget,
        names: &[QualifiedName],
    ) -> Result<Vec<Result<Artifact, WandbError>>, WandbError> {
        if names.len() > 1 {
            match self.look_up_together(budget, names).await {
                Ok(found) => return Ok(found),
                Err(error) if error.is_network() => return Err(error),
                // A server that does not take such a question, or one name that spoils it for all.
                Err(error) => tracing::debug!(%error, "looking names up one by one"),
            }
        }
        let mut work: Vec<BoxFuture<'_, _>> = Vec::with_capacity(names.len());
        for name in names {
            work.push(Box::pin(async move {
                match self.artifact_with(budget, name).await {
                    Err(error) if error.is_network() => Err(error),
                    told => Ok(told),
                }
            }));
        }
        stream::iter(work).buffered(self.concurrency()).try_collect().await
    }

    async fn look_up_together(
        &self,
        budget: &Budget,
        names: &[QualifiedName],
    ) -> Result<Vec<Result<Artifact, WandbError>>, WandbError> {
        let what = format!("artifact {} and {} more", names[0], names.len() - 1);
        let parts = names.iter().map(|name| (name.entity.as_str(), name.project.as_str(), name.lookup()));
        let data = execute(self.transport(), budget, &what, &MembershipsByName::new(parts)).await?;
        let mut nodes: Vec<_> = names.iter().map(|_| None).collect();
        for (alias, node) in data.into_values().flatten().flatten() {
            let at = alias.strip_prefix('m').and_then(|at| at.parse::<usize>().ok());
            if let Some(place) = at.and_then(|at| nodes.get_mut(at)) {
                *place = node;
            }
        }
        let found = names.iter().zip(nodes).map(|(name, node)| {
            let node = node.ok_or_else(|| WandbError::NotFound { what: format!("artifact {name}") })?;
            Artifact::from_membership(name, node)
        });
        Ok(found.collect())
    }
}
