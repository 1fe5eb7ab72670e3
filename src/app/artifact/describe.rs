//! One version, its manifest and its entries.

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::table::{ColumnKind, Table};
use crate::wandb::{Artifact, ArtifactName, Entry, Manifest};

/// One version with its manifest.
///
/// # Errors
/// [`AppError::Wandb`] naming it.
pub async fn describe(session: &Session, name: &ArtifactName) -> Result<(Artifact, Manifest), AppError> {
    let client = session.online(name)?;
    let name = session.qualify(name).await?;
    let artifact = client.artifact(&name).await.map_err(AppError::wandb(format!("resolve {name}")))?;
    let reading = format!("read the manifest of {}", artifact.name());
    let manifest = client.manifest(&artifact).await.map_err(AppError::wandb(reading))?;
    Ok((artifact, manifest))
}

/// The entries of a manifest as a table.
///
/// # Errors
/// Never for a manifest that was read.
pub fn entry_table(manifest: &Manifest) -> Result<Table, AppError> {
    let columns = [
        ("path", ColumnKind::Text),
        ("size", ColumnKind::Integer),
        ("digest", ColumnKind::Text),
        ("reference", ColumnKind::Text),
    ];
    let mut table = Table::new(columns);
    for (path, Entry { digest, size, reference, .. }) in &manifest.entries {
        table.push(vec![path.as_str().into(), (*size).into(), digest.as_str().into(), reference.clone().into()])?;
    }
    Ok(table)
}
