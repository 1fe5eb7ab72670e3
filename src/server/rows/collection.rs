//! Collections: sequences of versions and portfolios of links; their memberships and tags.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::server::clock::{Millis, now};
use crate::server::fault::Fault;

use super::project::{ArtifactType, Project};

const COLUMNS: &str = "collection.id, collection.project_id, collection.type_id, collection.name, collection.kind,
    collection.state, collection.description, collection.digest_algorithm, collection.created_at, collection.updated_at";

/// What a collection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Kind {
    /// Versions that were logged under this name.
    Sequence,
    /// Links to versions of sequences.
    Portfolio,
}

impl Kind {
    /// As the database and the enumeration `ArtifactCollectionType` spell it.
    pub(in crate::server) fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "SEQUENCE",
            Self::Portfolio => "PORTFOLIO",
        }
    }
}

/// A named collection of artifacts in a project.
#[derive(Debug, Clone)]
pub(in crate::server) struct Collection {
    pub(in crate::server) id: i64,
    pub(in crate::server) project_id: i64,
    pub(in crate::server) type_id: i64,
    pub(in crate::server) name: String,
    pub(in crate::server) kind: Kind,
    pub(in crate::server) state: String,
    pub(in crate::server) description: Option<String>,
    pub(in crate::server) digest_algorithm: Option<String>,
    pub(in crate::server) created_at: Millis,
    pub(in crate::server) updated_at: Millis,
}

impl Collection {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let kind: String = row.get(4)?;
        Ok(Self {
            id: row.get(0)?,
            project_id: row.get(1)?,
            type_id: row.get(2)?,
            name: row.get(3)?,
            kind: if kind == "PORTFOLIO" { Kind::Portfolio } else { Kind::Sequence },
            state: row.get(5)?,
            description: row.get(6)?,
            digest_algorithm: row.get(7)?,
            created_at: row.get(8)?,
            updated_at: row.get(9)?,
        })
    }

    /// The collection of this row, deleted or not.
    pub(in crate::server) fn get(db: &Connection, id: i64) -> Result<Self, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM collection WHERE id = ?1");
        let found = db.prepare_cached(&sql)?.query_row([id], Self::from_row).optional()?;
        found.ok_or_else(|| Fault::not_found("artifact collection", id.to_string()))
    }

    /// The collection of this name.
    pub(in crate::server) fn find(db: &Connection, project: i64, name: &str) -> Result<Option<Self>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM collection WHERE project_id = ?1 AND name = ?2 AND state = 'READY'");
        Ok(db.prepare_cached(&sql)?.query_row(params![project, name], Self::from_row).optional()?)
    }

    /// All collections of a project, or of one of its types, by name.
    pub(in crate::server) fn list(db: &Connection, project: i64, of_type: Option<i64>) -> Result<Vec<Self>, Fault> {
        let sql = format!(
            "SELECT {COLUMNS} FROM collection WHERE project_id = ?1 AND state = 'READY'
             AND (?2 IS NULL OR type_id = ?2) ORDER BY name"
        );
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map(params![project, of_type], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The collection of this name, made when it is missing.
    ///
    /// One name has one kind and one type for its whole life.
    pub(in crate::server) fn ensure(
        db: &Connection,
        project: &Project,
        (name, kind): (&str, Kind),
        type_name: &str,
    ) -> Result<Self, Fault> {
        if let Some(found) = Self::find(db, project.id, name)? {
            let found_type = ArtifactType::get(db, found.type_id)?.name;
            if found.kind != kind {
                return Err(Fault::conflict(format!(
                    "artifact collection `{name}` of {}/{} is a {}, not a {}",
                    project.entity,
                    project.name,
                    found.kind.as_str().to_lowercase(),
                    kind.as_str().to_lowercase()
                )));
            }
            if found_type != type_name {
                return Err(Fault::conflict(format!(
                    "artifact collection `{name}` of {}/{} has type `{found_type}`, so it cannot hold an artifact of \
                     type `{type_name}`",
                    project.entity, project.name
                )));
            }
            return Ok(found);
        }
        check_name(name)?;
        let of_type = ArtifactType::ensure(db, project.id, type_name)?;
        let sql = "INSERT INTO collection (project_id, type_id, name, kind, created_at, updated_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
        db.execute(sql, params![project.id, of_type.id, name, kind.as_str(), now()])?;
        Self::get(db, db.last_insert_rowid())
    }

    /// Takes the next version number.
    pub(in crate::server) fn next_version(&self, db: &Connection) -> Result<i64, Fault> {
        let sql = "UPDATE collection SET next_version = next_version + 1, updated_at = ?2 WHERE id = ?1
                   RETURNING next_version - 1";
        Ok(db.query_row(sql, params![self.id, now()], |row| row.get(0))?)
    }

    /// Names of the tags, in the order they were given.
    pub(in crate::server) fn tags(&self, db: &Connection) -> Result<Vec<(i64, String)>, Fault> {
        let mut statement =
            db.prepare_cached("SELECT id, name FROM collection_tag WHERE collection_id = ?1 ORDER BY id")?;
        let rows = statement.query_map([self.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// The rule for names of collections (`wandb/sdk/artifacts/_validators.py`).
pub(in crate::server) fn check_name(name: &str) -> Result<(), Fault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 128 || !name.chars().all(allowed) {
        return Err(Fault::invalid(format!(
            "`{name}` is not a name for an artifact collection: 1 to 128 of letters, digits, `_`, `-` and `.`"
        )));
    }
    Ok(())
}

/// One artifact's place in one collection.
#[derive(Debug, Clone)]
pub(in crate::server) struct Membership {
    pub(in crate::server) id: i64,
    pub(in crate::server) collection_id: i64,
    pub(in crate::server) artifact_id: i64,
    pub(in crate::server) version_index: i64,
    pub(in crate::server) created_at: Millis,
}

const MEMBERSHIP: &str =
    "membership.id, membership.collection_id, membership.artifact_id, membership.version_index, membership.created_at";

impl Membership {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            collection_id: row.get(1)?,
            artifact_id: row.get(2)?,
            version_index: row.get(3)?,
            created_at: row.get(4)?,
        })
    }

    /// The place of `artifact` in `collection`.
    pub(in crate::server) fn of(db: &Connection, collection: i64, artifact: i64) -> Result<Option<Self>, Fault> {
        let sql = format!("SELECT {MEMBERSHIP} FROM membership WHERE collection_id = ?1 AND artifact_id = ?2");
        Ok(db.prepare_cached(&sql)?.query_row([collection, artifact], Self::from_row).optional()?)
    }

    /// Every place of an artifact, its sequence first.
    pub(in crate::server) fn of_artifact(db: &Connection, artifact: i64) -> Result<Vec<Self>, Fault> {
        let sql = format!("SELECT {MEMBERSHIP} FROM membership WHERE artifact_id = ?1 ORDER BY id");
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map([artifact], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Every member of a collection, by version.
    pub(in crate::server) fn of_collection(db: &Connection, collection: i64) -> Result<Vec<Self>, Fault> {
        let sql = format!("SELECT {MEMBERSHIP} FROM membership WHERE collection_id = ?1 ORDER BY version_index");
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map([collection], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The member that `name` means: an alias, a version `vN`, or the artifact's digest.
    pub(in crate::server) fn by_alias(db: &Connection, collection: i64, name: &str) -> Result<Option<Self>, Fault> {
        let sql = format!(
            "SELECT {MEMBERSHIP} FROM membership JOIN alias ON alias.membership_id = membership.id
             WHERE alias.collection_id = ?1 AND alias.name = ?2"
        );
        let found = db.prepare_cached(&sql)?.query_row(params![collection, name], Self::from_row).optional()?;
        if found.is_some() {
            return Ok(found);
        }
        if let Some(index) = version_index(name) {
            let sql = format!("SELECT {MEMBERSHIP} FROM membership WHERE collection_id = ?1 AND version_index = ?2");
            return Ok(db.prepare_cached(&sql)?.query_row([collection, index], Self::from_row).optional()?);
        }
        let sql = format!(
            "SELECT {MEMBERSHIP} FROM membership JOIN artifact ON artifact.id = membership.artifact_id
             WHERE membership.collection_id = ?1 AND artifact.digest = ?2 ORDER BY version_index DESC LIMIT 1"
        );
        Ok(db.prepare_cached(&sql)?.query_row(params![collection, name], Self::from_row).optional()?)
    }

    /// The member that `collection:alias` means in a project; without an alias, the latest.
    pub(in crate::server) fn by_path(db: &Connection, project: i64, path: &str) -> Result<Option<Self>, Fault> {
        let (name, alias) = path.split_once(':').unwrap_or((path, "latest"));
        match Collection::find(db, project, name)? {
            Some(collection) => Self::by_alias(db, collection.id, alias),
            None => Ok(None),
        }
    }
}

/// N of `vN`.
pub(in crate::server) fn version_index(alias: &str) -> Option<i64> {
    let digits = alias.strip_prefix('v')?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}
