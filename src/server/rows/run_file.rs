//! Files of runs: a name and, once uploaded, content.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::server::clock::{Millis, now};
use crate::server::fault::Fault;

const SELECT: &str = "SELECT run_file.id, run_file.name, run_file.sha256, run_file.updated_at, blob.md5,
    blob.size FROM run_file LEFT JOIN blob ON blob.sha256 = run_file.sha256";

/// One file of one run.
#[derive(Debug, Clone)]
pub(in crate::server) struct RunFile {
    pub(in crate::server) id: i64,
    pub(in crate::server) name: String,
    /// Absent until the first upload.
    pub(in crate::server) sha256: Option<String>,
    pub(in crate::server) updated_at: Millis,
    /// Hex MD5 of the content.
    pub(in crate::server) md5: Option<String>,
    pub(in crate::server) size: Option<i64>,
}

impl RunFile {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            sha256: row.get(2)?,
            updated_at: row.get(3)?,
            md5: row.get(4)?,
            size: row.get(5)?,
        })
    }

    /// The file of this name.
    pub(in crate::server) fn find(db: &Connection, run: i64, name: &str) -> Result<Option<Self>, Fault> {
        let sql = format!("{SELECT} WHERE run_file.run_id = ?1 AND run_file.name = ?2");
        Ok(db.prepare_cached(&sql)?.query_row(params![run, name], Self::from_row).optional()?)
    }

    /// The uploaded files of a run, by name.
    pub(in crate::server) fn list(db: &Connection, run: i64) -> Result<Vec<Self>, Fault> {
        let sql = format!("{SELECT} WHERE run_file.run_id = ?1 AND run_file.sha256 IS NOT NULL ORDER BY run_file.name");
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map([run], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The file of this name, announced when it is new.
    pub(in crate::server) fn ensure(db: &Connection, run: i64, name: &str) -> Result<Self, Fault> {
        let component = |part: &str| part.is_empty() || part == "." || part == "..";
        if name.contains(['\0', '\\']) || name.split('/').any(component) {
            return Err(Fault::invalid(format!("`{name}` is not a relative, normalised path for a run file")));
        }
        let sql = "INSERT INTO run_file (run_id, name, updated_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        db.execute(sql, params![run, name, now()])?;
        Self::find(db, run, name)?.ok_or(Fault::Lost)
    }

    /// Gives the file its content.
    pub(in crate::server) fn fill(db: &Connection, id: i64, sha256: &str) -> Result<(), Fault> {
        let sql = "UPDATE run_file SET sha256 = ?2, updated_at = ?3 WHERE id = ?1";
        if db.execute(sql, params![id, sha256, now()])? == 0 {
            return Err(Fault::not_found("run file", id.to_string()));
        }
        Ok(())
    }
}
