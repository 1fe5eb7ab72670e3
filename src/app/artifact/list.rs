//! What a project or a collection holds, filtered.

use std::time::Duration;

use globset::{Glob, GlobMatcher};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::table::{ColumnKind, Table};
use crate::wandb::{Artifact, ArtifactName, Collection};

use super::age::is_older;

/// Which collections or versions are wanted; nothing set means all. Filters are applied here, not by the server, so that
/// they mean the same on every server.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ListFilter {
    /// Only artifacts of this type.
    pub kind: Option<String>,
    /// Only those with this tag; a collection's own tags and those of its newest version count.
    pub tag: Option<String>,
    /// Only those with this alias; for a collection, on its newest version.
    pub alias: Option<String>,
    /// Only collections whose name matches.
    pub name: Option<GlobMatcher>,
    /// Only versions whose metadata has this value under this key; a text, or anything written as JSON.
    pub metadata: Option<(String, String)>,
    /// Only those made this long ago or longer; for a collection, its newest version.
    pub older_than: Option<Duration>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl ListFilter {
    /// Only collections whose name matches this glob.
    ///
    /// # Errors
    /// [`AppError::Glob`].
    pub fn with_name(mut self, glob: Option<&str>) -> Result<Self, AppError> {
        let compile = |glob: &str| {
            let refuse = |source| AppError::Glob { glob: glob.to_owned(), source };
            Glob::new(glob).map(|glob| glob.compile_matcher()).map_err(refuse)
        };
        self.name = glob.map(compile).transpose()?;
        Ok(self)
    }

    fn wants_collection(&self, collection: &Collection, now: Timestamp) -> bool {
        let newest = collection.newest.as_ref();
        let tagged =
            |tag: &String| collection.tags.contains(tag) || newest.is_some_and(|newest| newest.tags.contains(tag));
        self.kind.as_ref().is_none_or(|kind| collection.artifact_type == *kind)
            && self.name.as_ref().is_none_or(|name| name.is_match(&collection.name))
            && self.tag.as_ref().is_none_or(tagged)
            && self.alias.as_ref().is_none_or(|alias| newest.is_some_and(|newest| newest.aliases.contains(alias)))
            && self.older_than.is_none_or(|age| newest.is_some_and(|newest| is_older(&newest.created_at, age, now)))
    }

    fn wants_version(&self, version: &Artifact, now: Timestamp) -> bool {
        self.kind.as_ref().is_none_or(|kind| version.artifact_type == *kind)
            && self.name.as_ref().is_none_or(|name| name.is_match(&version.collection))
            && self.tag.as_ref().is_none_or(|tag| version.tags.contains(tag))
            && self.alias.as_ref().is_none_or(|alias| version.aliases.contains(alias) || version.version == *alias)
            && self.metadata.as_ref().is_none_or(|(key, value)| holds(&version.metadata, key, value))
            && self.older_than.is_none_or(|age| is_older(&version.created_at, age, now))
    }

    fn cut<T>(&self, mut all: Vec<T>) -> Vec<T> {
        all.truncate(self.limit.unwrap_or(usize::MAX));
        all
    }
}

fn holds(metadata: &Map<String, Value>, key: &str, value: &str) -> bool {
    match metadata.get(key) {
        Some(Value::String(text)) => text == value,
        Some(found) => serde_json::from_str::<Value>(value).is_ok_and(|wanted| wanted == *found),
        None => false,
    }
}

/// The collections of a project (`[entity/]project`) with their newest versions: one round trip for a hundred.
///
/// # Errors
/// [`AppError::Wandb`] naming the project.
pub async fn collections(session: &Session, path: &str, filter: &ListFilter) -> Result<Vec<Collection>, AppError> {
    let (entity, project) = project(session, path).await?;
    let client = session.online(format!("{entity}/{project}"))?;
    let listing = AppError::wandb(format!("list {entity}/{project}"));
    let mut all = client.collections(&entity, &project).await.map_err(listing)?;
    let now = Timestamp::now();
    all.retain(|collection| filter.wants_collection(collection, now));
    Ok(filter.cut(all))
}

/// The versions of a collection, newest first. The alias of the name is not used.
///
/// # Errors
/// [`AppError::Wandb`] naming the collection.
pub async fn versions(session: &Session, name: &ArtifactName, filter: &ListFilter) -> Result<Vec<Artifact>, AppError> {
    let client = session.online(name)?;
    let name = session.qualify(name).await?;
    let listing = AppError::wandb(format!("list the versions of {}/{}/{}", name.entity, name.project, name.collection));
    let mut all = client.versions(&name).await.map_err(listing)?;
    let now = Timestamp::now();
    all.retain(|version| filter.wants_version(version, now));
    Ok(filter.cut(all))
}

/// Collections as a table.
///
/// # Errors
/// Never for collections that were listed.
pub fn collection_table(collections: &[Collection]) -> Result<Table, AppError> {
    let mut table = Table::new([
        ("name", ColumnKind::Text),
        ("type", ColumnKind::Text),
        ("version", ColumnKind::Text),
        ("versions", ColumnKind::Integer),
        ("size", ColumnKind::Integer),
        ("aliases", ColumnKind::Text),
        ("tags", ColumnKind::Text),
        ("updated_at", ColumnKind::Text),
    ]);
    for collection in collections {
        let newest = collection.newest.as_ref();
        table.push(vec![
            collection.name.as_str().into(),
            collection.artifact_type.as_str().into(),
            newest.map(|newest| newest.version.clone()).into(),
            collection.versions.into(),
            newest.map(|newest| newest.size).into(),
            newest.map(|newest| newest.aliases.join(", ")).into(),
            collection.tags.join(", ").into(),
            collection.updated_at.clone().or_else(|| Some(collection.created_at.clone())).into(),
        ])?;
    }
    Ok(table)
}

/// Versions as a table.
///
/// # Errors
/// Never for versions that were listed.
pub fn version_table(versions: &[Artifact]) -> Result<Table, AppError> {
    let mut table = Table::new([
        ("name", ColumnKind::Text),
        ("aliases", ColumnKind::Text),
        ("tags", ColumnKind::Text),
        ("files", ColumnKind::Integer),
        ("size", ColumnKind::Integer),
        ("digest", ColumnKind::Text),
        ("created_at", ColumnKind::Text),
        ("ttl_seconds", ColumnKind::Integer),
    ]);
    for version in versions {
        table.push(vec![
            format!("{}:{}", version.collection, version.version).into(),
            version.aliases.join(", ").into(),
            version.tags.join(", ").into(),
            version.file_count.into(),
            version.size.into(),
            version.digest.as_str().into(),
            version.created_at.as_str().into(),
            version.ttl_seconds.into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_is_compared_as_text_or_as_json() {
        let metadata = json!({"arch": "ViT-B-16", "seed": 3, "tuned": true, "odd": null});
        let metadata = metadata.as_object().unwrap();
        for (key, value, held) in [
            ("arch", "ViT-B-16", true),
            ("arch", "ViT-L-14", false),
            ("seed", "3", true),
            ("seed", "3.5", false),
            ("seed", "three", false),
            ("tuned", "true", true),
            ("odd", "null", true),
            ("missing", "null", false),
        ] {
            assert_eq!(holds(metadata, key, value), held, "{key}={value}");
        }
    }
}
