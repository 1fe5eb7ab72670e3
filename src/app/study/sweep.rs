//! A study as a W&B sweep: making it, finding it, and where a person looks at it.

use crate::app::AppError;
use crate::app::session::Session;
use crate::wandb::{CreatedSweep, Sweep, SweepName, SweepPath};

use super::{Study, StudyError};

/// Makes a sweep of this configuration in the study's entity and project.
///
/// # Errors
/// [`AppError`] when we are offline or the server refuses.
pub async fn create_sweep(study: &Study, configuration: &str) -> Result<CreatedSweep, AppError> {
    let client = study.session.online("a sweep")?;
    let entity = study.session.entity_or_own(study.spec.entity.as_deref()).await?;
    let project = study.spec.project.as_deref().or(study.session.project.as_deref());
    let made = client.create_sweep([entity.as_deref(), project], configuration).await;
    let made = made.map_err(AppError::wandb(format!("make a sweep of study {}", study.spec.name)))?;
    for warning in &made.warnings {
        study.session.progress.note(&format!("the server warns: {warning}"));
    }
    Ok(made)
}

/// Where a person looks at a sweep.
pub fn sweep_url(session: &Session, SweepPath { entity, project, id }: &SweepPath) -> String {
    format!("{}/{entity}/{project}/sweeps/{id}", session.app_url)
}

/// The sweep of this name, with the study's entity and project where the name has none.
pub(super) async fn find(study: &Study, name: &SweepName) -> Result<Sweep, AppError> {
    let client = study.session.online("a sweep")?;
    let entity = name.entity.as_deref().or(study.spec.entity.as_deref());
    let entity = study.session.entity_or_own(entity).await?;
    let project = name.project.as_deref().or(study.spec.project.as_deref()).or(study.session.project.as_deref());
    let project = project.ok_or_else(|| StudyError::NoProject { sweep: name.id.clone() })?;
    let found = client.sweep(entity.as_deref(), (project, &name.id)).await;
    found.map_err(AppError::wandb(format!("find sweep {}", name.id)))
}
