//! Proposes a study file from what a W&B project holds.

use crate::app::AppError;
use crate::app::session::Session;
use crate::study::discover;

use super::StudyError;

/// The text of a study file for the grid in a project.
///
/// # Errors
/// [`AppError`] when the project cannot be listed, or [`StudyError::NothingFound`].
pub async fn init(session: &Session, entity: Option<&str>, project: &str) -> Result<String, AppError> {
    let client = session.online(format!("project {project}"))?;
    let entity = session.entity_or_own(entity).await?.unwrap_or_default();
    let listing = AppError::wandb(format!("list {entity}/{project}"));
    let collections = client.collections(&entity, project).await.map_err(listing)?;
    // Tables of runs and sampled models are results, not inputs.
    let results = ["run_table", "wandb-history", "pca", "job", "code"];
    let inputs = collections.into_iter().filter(|found| !results.contains(&found.artifact_type.as_str()));
    let names: Vec<String> = inputs.map(|collection| collection.name).collect();
    let nothing = || StudyError::NothingFound { project: format!("{entity}/{project}"), collections: names.len() };
    let found = discover(names.iter().map(String::as_str));
    Ok(found.render(project, &entity, project).ok_or_else(nothing)?)
}
