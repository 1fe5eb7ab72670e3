//! Changing what goes with a committed version (aliases, tags, description, metadata, time to live), and deleting it.
//! Network I/O through the client.

use serde_json::{Map, Value};

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{
    AddAliases, AliasesInput, CollectionByName, DeleteAliases, DeleteArtifact, DeleteArtifactInput, PlacedAlias,
    TagInput, UnlinkArtifact, UnlinkArtifactInput, UpdateArtifact, UpdateArtifactInput,
};
use super::Artifact;
use super::draft::Ttl;

/// What the server takes for "as the team says": the SDK's `TTL_INHERIT` on the wire.
const INHERITED: i64 = -1;

/// Changes to a committed version; what is not named stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ArtifactEdit {
    /// Aliases to point at it, in the collection it was found in.
    pub add_aliases: Vec<String>,
    /// Aliases to take away from it.
    pub remove_aliases: Vec<String>,
    /// Tags to add.
    pub add_tags: Vec<String>,
    /// Tags to remove.
    pub remove_tags: Vec<String>,
    /// A new description.
    pub description: Option<String>,
    /// New metadata in place of all the old.
    pub metadata: Option<Map<String, Value>>,
    /// How long it is kept from when it was made.
    pub ttl: Option<Ttl>,
}

impl ArtifactEdit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it changes more than aliases.
    fn updates(&self) -> bool {
        let Self { add_tags, remove_tags, description, metadata, ttl, .. } = self;
        let tags = !add_tags.is_empty() || !remove_tags.is_empty();
        tags || description.is_some() || metadata.is_some() || ttl.is_some()
    }
}

impl Client {
    /// Changes a version: new aliases first, so that it is never without a name, then old ones, then the rest.
    ///
    /// # Errors
    /// What the requests met; the changes before the failing one are made.
    pub async fn edit(&self, artifact: &Artifact, edit: &ArtifactEdit) -> Result<(), WandbError> {
        let budget = self.budget();
        let name = artifact.name().to_string();
        if !edit.add_aliases.is_empty() {
            let what = format!("new aliases of {name}");
            let variables = AddAliases { input: AliasesInput::new(artifact, &edit.add_aliases) };
            execute(self.transport(), &budget, &what, &variables).await?;
        }
        if !edit.remove_aliases.is_empty() {
            let what = format!("aliases to take from {name}");
            let variables = DeleteAliases { input: AliasesInput::new(artifact, &edit.remove_aliases) };
            execute(self.transport(), &budget, &what, &variables).await?;
        }
        if edit.updates() {
            let what = format!("changes to {name}");
            let variables = UpdateArtifact { input: update(artifact, edit)? };
            execute(self.transport(), &budget, &what, &variables).await?;
        }
        Ok(())
    }

    /// Deletes a version and everything that links to it. The server refuses one that has aliases, unless they may go too.
    ///
    /// # Errors
    /// [`WandbError::Rejected`] by the server, or what the request met.
    pub async fn delete(&self, artifact: &Artifact, delete_aliases: bool) -> Result<(), WandbError> {
        let what = format!("the deletion of {}", artifact.name());
        let variables = DeleteArtifact { input: DeleteArtifactInput { artifact_id: &artifact.id, delete_aliases } };
        execute(self.transport(), &self.budget(), &what, &variables).await.map(|_| ())
    }

    /// Takes a linked version out of the collection it was found in; where it was logged it stays.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] for the collection, or what the requests met.
    pub async fn unlink(&self, artifact: &Artifact) -> Result<(), WandbError> {
        let budget = self.budget();
        let Artifact { entity, project, collection, .. } = artifact;
        let what = format!("collection {entity}/{project}/{collection}");
        let data = execute(self.transport(), &budget, &what, &CollectionByName { entity, project, collection }).await?;
        let found = data.project.and_then(|project| project.artifact_collection);
        let portfolio = found.ok_or(WandbError::NotFound { what })?;
        let what = format!("the removal of the link {}", artifact.name());
        let input = UnlinkArtifactInput { artifact_id: &artifact.id, portfolio_id: &portfolio.id };
        execute(self.transport(), &budget, &what, &UnlinkArtifact { input }).await.map(|_| ())
    }
}

impl<'a> AliasesInput<'a> {
    fn new(artifact: &'a Artifact, aliases: &'a [String]) -> Self {
        let placed = |alias: &'a String| PlacedAlias {
            entity_name: &artifact.entity,
            project_name: &artifact.project,
            artifact_collection_name: &artifact.collection,
            alias,
        };
        Self { artifact_id: &artifact.id, aliases: aliases.iter().map(placed).collect() }
    }
}

fn update<'a>(artifact: &'a Artifact, edit: &'a ArtifactEdit) -> Result<UpdateArtifactInput<'a>, WandbError> {
    fn tags(names: &[String]) -> Vec<TagInput<'_>> {
        names.iter().map(|tag_name| TagInput { tag_name }).collect()
    }
    let unfit = |error: serde_json::Error| WandbError::Option { option: "metadata", reason: error.to_string() };
    Ok(UpdateArtifactInput {
        artifact_id: &artifact.id,
        description: edit.description.as_deref(),
        metadata: edit.metadata.as_ref().map(serde_json::to_string).transpose().map_err(unfit)?,
        ttl_duration_seconds: edit.ttl.map(|ttl| ttl.wire().unwrap_or(INHERITED)),
        tags_to_add: tags(&edit.add_tags),
        tags_to_delete: tags(&edit.remove_tags),
    })
}
