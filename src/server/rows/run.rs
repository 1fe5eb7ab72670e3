//! Runs: the row, its state, and the lines of its streams.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::server::clock::{Millis, now};
use crate::server::fault::Fault;

/// A running run that was silent for so long has crashed. Clients send a heartbeat every 30 seconds.
const SILENCE: Millis = 5 * 60 * 1000;

const COLUMNS: &str = "id, project_id, name, display_name, group_name, job_type, notes, description, state, exit_code,
    config, summary, tags, commit_hash, host, sweep_id, stop_requested, created_at, updated_at,
    heartbeat_at";

/// One run.
#[derive(Debug, Clone)]
pub(in crate::server) struct Run {
    pub(in crate::server) id: i64,
    pub(in crate::server) project_id: i64,
    /// The run id of the SDK, unique in its project.
    pub(in crate::server) name: String,
    pub(in crate::server) display_name: String,
    pub(in crate::server) group_name: Option<String>,
    pub(in crate::server) job_type: Option<String>,
    pub(in crate::server) notes: Option<String>,
    pub(in crate::server) description: Option<String>,
    stored_state: String,
    pub(in crate::server) exit_code: Option<i64>,
    /// JSON text, `{key: {"value": …}}`.
    pub(in crate::server) config: String,
    /// JSON text; may hold bare `NaN`.
    pub(in crate::server) summary: String,
    /// JSON text of a list.
    pub(in crate::server) tags: String,
    pub(in crate::server) commit_hash: Option<String>,
    pub(in crate::server) host: Option<String>,
    pub(in crate::server) sweep_id: Option<i64>,
    pub(in crate::server) stop_requested: bool,
    pub(in crate::server) created_at: Millis,
    pub(in crate::server) updated_at: Millis,
    pub(in crate::server) heartbeat_at: Millis,
}

impl Run {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            project_id: row.get(1)?,
            name: row.get(2)?,
            display_name: row.get(3)?,
            group_name: row.get(4)?,
            job_type: row.get(5)?,
            notes: row.get(6)?,
            description: row.get(7)?,
            stored_state: row.get(8)?,
            exit_code: row.get(9)?,
            config: row.get(10)?,
            summary: row.get(11)?,
            tags: row.get(12)?,
            commit_hash: row.get(13)?,
            host: row.get(14)?,
            sweep_id: row.get(15)?,
            stop_requested: row.get(16)?,
            created_at: row.get(17)?,
            updated_at: row.get(18)?,
            heartbeat_at: row.get(19)?,
        })
    }

    /// The run of this row.
    pub(in crate::server) fn get(db: &Connection, id: i64) -> Result<Self, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM run WHERE id = ?1");
        let found = db.prepare_cached(&sql)?.query_row([id], Self::from_row).optional()?;
        found.ok_or_else(|| Fault::not_found("run", id.to_string()))
    }

    /// The run of this id in a project.
    pub(in crate::server) fn find(db: &Connection, project: i64, name: &str) -> Result<Option<Self>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM run WHERE project_id = ?1 AND name = ?2");
        Ok(db.prepare_cached(&sql)?.query_row(params![project, name], Self::from_row).optional()?)
    }

    /// The run that these three names mean.
    pub(in crate::server) fn by_path(db: &Connection, [entity, project, name]: [&str; 3]) -> Result<Self, Fault> {
        let sql = format!(
            "SELECT {COLUMNS} FROM run WHERE name = ?3
             AND project_id = (SELECT id FROM project WHERE entity = ?1 AND name = ?2)"
        );
        let found = db.prepare_cached(&sql)?.query_row([entity, project, name], Self::from_row).optional()?;
        found.ok_or_else(|| Fault::not_found("run", format!("{entity}/{project}/{name}")))
    }

    /// All runs of a project, oldest first.
    pub(in crate::server) fn list(db: &Connection, project: i64) -> Result<Vec<Self>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM run WHERE project_id = ?1 ORDER BY created_at, id");
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map([project], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A new, running run.
    pub(in crate::server) fn insert(db: &Connection, project: i64, name: &str) -> Result<i64, Fault> {
        let forbidden = |c: char| matches!(c, ':' | ';' | ',' | '#' | '?' | '/' | '\'') || c.is_control();
        if name.trim() != name || name.is_empty() || name.len() > 128 || name.chars().any(forbidden) {
            return Err(Fault::invalid(format!("`{name}` is not a run id: no : ; , # ? / ' and no outer whitespace")));
        }
        let sql = "INSERT INTO run (project_id, name, display_name, state, created_at, updated_at, heartbeat_at)
                   VALUES (?1, ?2, ?2, 'running', ?3, ?3, ?3)";
        db.execute(sql, params![project, name, now()])?;
        Ok(db.last_insert_rowid())
    }

    /// The state as clients see it: a run that fell silent while running has crashed.
    pub(in crate::server) fn state(&self) -> &str {
        let silent = now().saturating_sub(self.heartbeat_at) > SILENCE;
        if self.stored_state == "running" && silent { "crashed" } else { &self.stored_state }
    }

    /// How many lines of a stream there are.
    pub(in crate::server) fn line_count(&self, db: &Connection, stream: Stream) -> Result<i64, Fault> {
        let sql = "SELECT coalesce(max(line) + 1, 0) FROM run_line WHERE run_id = ?1 AND stream = ?2";
        Ok(db.prepare_cached(sql)?.query_row(params![self.id, stream.as_str()], |row| row.get(0))?)
    }

    /// The lines of a stream whose step is in `steps` (the end is not), in the order of steps.
    pub(in crate::server) fn lines(
        &self,
        db: &Connection,
        stream: Stream,
        steps: std::ops::Range<i64>,
    ) -> Result<Vec<Line>, Fault> {
        let sql = "SELECT line, step, content FROM run_line
                   WHERE run_id = ?1 AND stream = ?2 AND step >= ?3 AND step < ?4 ORDER BY step, line";
        let mut statement = db.prepare_cached(sql)?;
        let rows = statement.query_map(params![self.id, stream.as_str(), steps.start, steps.end], |row| {
            Ok(Line { number: row.get(0)?, step: row.get(1)?, content: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The last line of a stream.
    pub(in crate::server) fn last_line(&self, db: &Connection, stream: Stream) -> Result<Option<String>, Fault> {
        let sql = "SELECT content FROM run_line WHERE run_id = ?1 AND stream = ?2 ORDER BY line DESC LIMIT 1";
        Ok(db.prepare_cached(sql)?.query_row(params![self.id, stream.as_str()], |row| row.get(0)).optional()?)
    }

    /// Writes a line at its number, over what was there: clients repeat requests whose answer they did not see.
    pub(in crate::server) fn put_line(db: &Connection, run: i64, stream: Stream, line: &Line) -> Result<(), Fault> {
        let sql = "INSERT INTO run_line (run_id, stream, line, step, content) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO UPDATE SET step = excluded.step, content = excluded.content";
        db.prepare_cached(sql)?.execute(params![run, stream.as_str(), line.number, line.step, line.content])?;
        Ok(())
    }

    /// Notes that the run is alive. A finished run that logs again is running again.
    pub(in crate::server) fn beat(db: &Connection, run: i64) -> Result<(), Fault> {
        db.prepare_cached("UPDATE run SET heartbeat_at = ?2 WHERE id = ?1")?.execute(params![run, now()])?;
        Ok(())
    }

    /// Sets the state.
    pub(in crate::server) fn set_state(db: &Connection, run: i64, state: &str) -> Result<(), Fault> {
        db.execute("UPDATE run SET state = ?2, updated_at = ?3 WHERE id = ?1", params![run, state, now()])?;
        Ok(())
    }
}

/// A stream of lines of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Stream {
    /// Rows of metrics.
    History,
    /// Rows of system metrics.
    Events,
    /// Console output.
    Output,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Events => "events",
            Self::Output => "output",
        }
    }
}

/// One line of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Line {
    pub(in crate::server) number: i64,
    /// `_step` of a history row; the number elsewhere.
    pub(in crate::server) step: i64,
    pub(in crate::server) content: String,
}
