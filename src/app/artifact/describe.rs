//! One version, its manifest and its entries.

use crate::app::error::AppError;
use crate::app::resolve::resolve;
use crate::app::session::Session;
use crate::table::{ColumnKind, Table};
use crate::wandb::{Artifact, ArtifactName, Entry, Manifest};

/// One version with its manifest.
///
/// # Errors
/// [`AppError::Wandb`] naming it.
pub async fn describe(session: &Session, name: &ArtifactName) -> Result<(Artifact, Manifest), AppError> {
    let resolved = resolve(session, std::slice::from_ref(name)).await?.pop();
    let resolved = resolved.ok_or(AppError::Worker { what: "the lookup" })?;
    Ok((resolved.artifact, resolved.manifest))
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
