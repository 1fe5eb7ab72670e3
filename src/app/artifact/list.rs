//! What a project or a collection holds.

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::table::{ColumnKind, Table};
use crate::wandb::{ArtifactName, QualifiedName};

use super::describe::describe;

/// The collections of a project, one row each with its newest version.
///
/// # Errors
/// [`AppError::Wandb`] naming the project.
pub async fn collections(session: &Session, path: &str, only: Option<&str>) -> Result<Table, AppError> {
    let (entity, project) = project(session, path).await?;
    let client = session.online(format!("{entity}/{project}"))?;
    let listing = || AppError::wandb(format!("list {entity}/{project}"));
    let types = client.artifact_types(&entity, &project).await.map_err(listing())?;
    let mut table = Table::new([
        ("name", ColumnKind::Text),
        ("type", ColumnKind::Text),
        ("version", ColumnKind::Text),
        ("size", ColumnKind::Integer),
        ("updated_at", ColumnKind::Text),
    ]);
    for kind in types.iter().filter(|kind| only.is_none_or(|only| kind.name == only)) {
        let collections = client.collections(&entity, &project, &kind.name).await.map_err(listing())?;
        for collection in collections {
            let name = QualifiedName::new(&entity, &project, &collection.name, "latest");
            let latest = match client.artifact(&name).await {
                Ok(artifact) => Some(artifact),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(listing()(error)),
            };
            let row = vec![
                collection.name.into(),
                kind.name.as_str().into(),
                latest.as_ref().map(|latest| latest.version.clone()).into(),
                latest.as_ref().map(|latest| latest.size).into(),
                collection.updated_at.or(Some(collection.created_at)).into(),
            ];
            table.push(row)?;
        }
    }
    Ok(table)
}

/// The versions of a collection, one row each.
///
/// # Errors
/// [`AppError::Wandb`] naming the collection.
pub async fn versions(session: &Session, name: &ArtifactName) -> Result<Table, AppError> {
    let (newest, _) = describe(session, name).await?;
    let client = session.online(name)?;
    let listing = AppError::wandb(format!("list the versions of {name}"));
    let versions = client.versions(&newest.name(), &newest.artifact_type).await.map_err(listing)?;
    let mut table = Table::new([
        ("name", ColumnKind::Text),
        ("aliases", ColumnKind::Text),
        ("files", ColumnKind::Integer),
        ("size", ColumnKind::Integer),
        ("digest", ColumnKind::Text),
        ("created_at", ColumnKind::Text),
    ]);
    for version in versions {
        table.push(vec![
            format!("{}:{}", version.collection, version.version).into(),
            version.aliases.join(", ").into(),
            version.file_count.into(),
            version.size.into(),
            version.digest.into(),
            version.created_at.into(),
        ])?;
    }
    Ok(table)
}

async fn project(session: &Session, path: &str) -> Result<(String, String), AppError> {
    // A project is named like a collection of it, with a placeholder where the collection stands.
    let name = ArtifactName::parse(&format!("{path}/_")).map_err(AppError::wandb("read the name"))?;
    let name = session.qualify(&name).await?;
    Ok((name.entity, name.project))
}
