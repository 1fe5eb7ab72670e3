//! Projects and artifact types.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::server::clock::{Millis, now};
use crate::server::fault::Fault;

const COLUMNS: &str = "id, entity, name, description, access, views, created_at, updated_at";

/// A project of an entity.
#[derive(Debug, Clone)]
pub(in crate::server) struct Project {
    pub(in crate::server) id: i64,
    pub(in crate::server) entity: String,
    pub(in crate::server) name: String,
    pub(in crate::server) description: Option<String>,
    pub(in crate::server) access: Option<String>,
    pub(in crate::server) views: Option<String>,
    pub(in crate::server) created_at: Millis,
    pub(in crate::server) updated_at: Millis,
}

impl Project {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            entity: row.get(1)?,
            name: row.get(2)?,
            description: row.get(3)?,
            access: row.get(4)?,
            views: row.get(5)?,
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
        })
    }

    /// The project of this name.
    pub(in crate::server) fn find(db: &Connection, entity: &str, name: &str) -> Result<Option<Self>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM project WHERE entity = ?1 AND name = ?2");
        Ok(db.prepare_cached(&sql)?.query_row([entity, name], Self::from_row).optional()?)
    }

    /// The project of this row.
    pub(in crate::server) fn get(db: &Connection, id: i64) -> Result<Self, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM project WHERE id = ?1");
        let found = db.prepare_cached(&sql)?.query_row([id], Self::from_row).optional()?;
        found.ok_or_else(|| Fault::not_found("project", id.to_string()))
    }

    /// All projects of an entity, the newest first.
    pub(in crate::server) fn list(db: &Connection, entity: &str) -> Result<Vec<Self>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM project WHERE entity = ?1 ORDER BY created_at DESC, id DESC");
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map([entity], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The project of this name, made when it is missing: whoever holds the key of this server may use any entity.
    pub(in crate::server) fn ensure(db: &Connection, entity: &str, name: &str) -> Result<Self, Fault> {
        if let Some(project) = Self::find(db, entity, name)? {
            return Ok(project);
        }
        check_segment("entity", entity)?;
        check_segment("project", name)?;
        let sql = "INSERT INTO project (entity, name, created_at, updated_at) VALUES (?1, ?2, ?3, ?3)";
        db.execute(sql, params![entity, name, now()])?;
        Self::get(db, db.last_insert_rowid())
    }
}

/// The rule for entities and projects: they are path segments (`wandb/sdk/artifacts/_validators.py`).
fn check_segment(what: &str, name: &str) -> Result<(), Fault> {
    let forbidden = |c: char| matches!(c, '/' | '\\' | '#' | '?' | '%' | ':') || c.is_control();
    if name.is_empty() || name.chars().count() > 128 || name.chars().any(forbidden) {
        return Err(Fault::invalid(format!(
            "`{name}` is not a name for the {what}: 1 to 128 characters, none of / \\ # ? % :"
        )));
    }
    Ok(())
}

/// A type of artifacts of one project.
#[derive(Debug, Clone)]
pub(in crate::server) struct ArtifactType {
    pub(in crate::server) id: i64,
    pub(in crate::server) project_id: i64,
    pub(in crate::server) name: String,
    pub(in crate::server) description: Option<String>,
    pub(in crate::server) created_at: Millis,
}

impl ArtifactType {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            project_id: row.get(1)?,
            name: row.get(2)?,
            description: row.get(3)?,
            created_at: row.get(4)?,
        })
    }

    /// The type of this row.
    pub(in crate::server) fn get(db: &Connection, id: i64) -> Result<Self, Fault> {
        let sql = "SELECT id, project_id, name, description, created_at FROM artifact_type WHERE id = ?1";
        let found = db.prepare_cached(sql)?.query_row([id], Self::from_row).optional()?;
        found.ok_or_else(|| Fault::not_found("artifact type", id.to_string()))
    }

    /// The type of this name in a project.
    pub(in crate::server) fn find(db: &Connection, project: i64, name: &str) -> Result<Option<Self>, Fault> {
        let sql = "SELECT id, project_id, name, description, created_at FROM artifact_type
                   WHERE project_id = ?1 AND name = ?2";
        Ok(db.prepare_cached(sql)?.query_row(params![project, name], Self::from_row).optional()?)
    }

    /// All types of a project, by name.
    pub(in crate::server) fn list(db: &Connection, project: i64) -> Result<Vec<Self>, Fault> {
        let sql = "SELECT id, project_id, name, description, created_at FROM artifact_type
                   WHERE project_id = ?1 ORDER BY name";
        let mut statement = db.prepare_cached(sql)?;
        let rows = statement.query_map([project], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The type of this name, made when it is missing.
    pub(in crate::server) fn ensure(db: &Connection, project: i64, name: &str) -> Result<Self, Fault> {
        if let Some(found) = Self::find(db, project, name)? {
            return Ok(found);
        }
        let forbidden = |c: char| matches!(c, '/' | ':') || c.is_control();
        if name.is_empty() || name.chars().count() > 128 || name.chars().any(forbidden) {
            return Err(Fault::invalid(format!("`{name}` is not a name for an artifact type")));
        }
        let sql = "INSERT INTO artifact_type (project_id, name, created_at) VALUES (?1, ?2, ?3)";
        db.execute(sql, params![project, name, now()])?;
        Self::get(db, db.last_insert_rowid())
    }
}
