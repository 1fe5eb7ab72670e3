//! Changes what goes with a version, and where it is linked.

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::wandb::{Artifact, ArtifactEdit, ArtifactName, LinkTarget, QualifiedName};

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

/// Links a version into a collection; returns the version and its name there.
///
/// # Errors
/// [`AppError::Wandb`] naming it.
pub async fn link(
    session: &Session,
    name: &ArtifactName,
    target: &ArtifactName,
) -> Result<(Artifact, QualifiedName), AppError> {
    let client = session.online(name)?;
    let name = session.qualify(name).await?;
    let artifact = client.artifact(&name).await.map_err(AppError::wandb(format!("resolve {name}")))?;
    let target = session.qualify_link(target, &artifact.source.entity).await?;
    let linking = AppError::wandb(format!("link {} as {target}", artifact.name()));
    let link = client.link_artifact(&artifact, &LinkTarget::new(&target)).await.map_err(linking)?;
    Ok((artifact, link))
}

/// Takes a linked version out of the collection that it was found in.
///
/// # Errors
/// [`AppError::NotALink`], or [`AppError::Wandb`] naming it.
pub async fn unlink(session: &Session, name: &ArtifactName) -> Result<Artifact, AppError> {
    let client = session.online(name)?;
    let name = session.qualify(name).await?;
    let artifact = client.artifact(&name).await.map_err(AppError::wandb(format!("resolve {name}")))?;
    if artifact.name() == artifact.source {
        return Err(AppError::NotALink { artifact: artifact.name().to_string() });
    }
    client.unlink(&artifact).await.map_err(AppError::wandb(format!("unlink {}", artifact.name())))?;
    Ok(artifact)
}
