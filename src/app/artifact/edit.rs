//! Changes what goes with a version.

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::wandb::{Artifact, ArtifactEdit, ArtifactName};

/// Changes a version and returns it as it is then.
///
/// # Errors
/// [`AppError::Wandb`] naming it.
pub async fn edit(session: &Session, name: &ArtifactName, edit: &ArtifactEdit) -> Result<Artifact, AppError> {
    let client = session.online(name)?;
    let name = session.qualify(name).await?;
    let artifact = client.artifact(&name).await.map_err(AppError::wandb(format!("resolve {name}")))?;
    let name = artifact.name();
    client.edit(&artifact, edit).await.map_err(AppError::wandb(format!("change {name}")))?;
    client.artifact(&name).await.map_err(AppError::wandb(format!("read {name} again")))
}
