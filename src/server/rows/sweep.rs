//! Sweeps, their agents, and the runs that agents were told to start.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::server::clock::{Millis, now};
use crate::server::fault::Fault;

const COLUMNS: &str =
    "id, project_id, name, display_name, description, state, config, created_at, updated_at, heartbeat_at";

/// One sweep.
#[derive(Debug, Clone)]
pub(in crate::server) struct Sweep {
    pub(in crate::server) id: i64,
    pub(in crate::server) project_id: i64,
    pub(in crate::server) name: String,
    pub(in crate::server) display_name: Option<String>,
    pub(in crate::server) description: Option<String>,
    pub(in crate::server) state: String,
    /// YAML text.
    pub(in crate::server) config: String,
    pub(in crate::server) created_at: Millis,
    pub(in crate::server) updated_at: Millis,
    pub(in crate::server) heartbeat_at: Millis,
}

impl Sweep {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            project_id: row.get(1)?,
            name: row.get(2)?,
            display_name: row.get(3)?,
            description: row.get(4)?,
            state: row.get(5)?,
            config: row.get(6)?,
            created_at: row.get(7)?,
            updated_at: row.get(8)?,
            heartbeat_at: row.get(9)?,
        })
    }

    /// The sweep of this row.
    pub(in crate::server) fn get(db: &Connection, id: i64) -> Result<Self, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM sweep WHERE id = ?1");
        let found = db.prepare_cached(&sql)?.query_row([id], Self::from_row).optional()?;
        found.ok_or_else(|| Fault::not_found("sweep", id.to_string()))
    }

    /// The sweep of this short id in a project.
    pub(in crate::server) fn find(db: &Connection, project: i64, name: &str) -> Result<Option<Self>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM sweep WHERE project_id = ?1 AND name = ?2");
        Ok(db.prepare_cached(&sql)?.query_row(params![project, name], Self::from_row).optional()?)
    }

    /// The sweeps of a project, the newest first.
    pub(in crate::server) fn list(db: &Connection, project: i64) -> Result<Vec<Self>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM sweep WHERE project_id = ?1 ORDER BY id DESC");
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map([project], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A new sweep, waiting for its first agent.
    pub(in crate::server) fn insert(db: &Connection, project: i64, name: &str, config: &str) -> Result<i64, Fault> {
        let sql = "INSERT INTO sweep (project_id, name, state, config, created_at, updated_at, heartbeat_at)
                   VALUES (?1, ?2, 'PENDING', ?3, ?4, ?4, ?4)";
        db.execute(sql, params![project, name, config, now()])?;
        Ok(db.last_insert_rowid())
    }

    /// Sets the state.
    pub(in crate::server) fn set_state(&self, db: &Connection, state: &str) -> Result<(), Fault> {
        let sql = "UPDATE sweep SET state = ?2, updated_at = ?3 WHERE id = ?1";
        db.execute(sql, params![self.id, state, now()])?;
        Ok(())
    }

    /// How many runs were handed out.
    pub(in crate::server) fn issued(&self, db: &Connection) -> Result<usize, Fault> {
        let count: i64 =
            db.query_row("SELECT count(*) FROM sweep_run WHERE sweep_id = ?1", [self.id], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Notes that an agent was told to start this run.
    pub(in crate::server) fn issue(&self, db: &Connection, agent: i64, (run, args): (&str, &str)) -> Result<(), Fault> {
        let sql = "INSERT INTO sweep_run (sweep_id, agent_id, run_name, args, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        db.execute(sql, params![self.id, agent, run, args, now()])?;
        Ok(())
    }

    /// Its agents, oldest first.
    pub(in crate::server) fn agents(&self, db: &Connection) -> Result<Vec<Agent>, Fault> {
        let mut statement = db.prepare_cached(
            "SELECT id, sweep_id, host, created_at, heartbeat_at FROM agent WHERE sweep_id = ?1 ORDER BY id",
        )?;
        let rows = statement.query_map([self.id], Agent::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// A process that runs what the sweep plans.
#[derive(Debug, Clone)]
pub(in crate::server) struct Agent {
    pub(in crate::server) id: i64,
    pub(in crate::server) sweep_id: i64,
    pub(in crate::server) host: String,
    pub(in crate::server) created_at: Millis,
    pub(in crate::server) heartbeat_at: Millis,
}

impl Agent {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            sweep_id: row.get(1)?,
            host: row.get(2)?,
            created_at: row.get(3)?,
            heartbeat_at: row.get(4)?,
        })
    }

    /// The agent of this row.
    pub(in crate::server) fn get(db: &Connection, id: i64) -> Result<Self, Fault> {
        let sql = "SELECT id, sweep_id, host, created_at, heartbeat_at FROM agent WHERE id = ?1";
        let found = db.prepare_cached(sql)?.query_row([id], Self::from_row).optional()?;
        found.ok_or_else(|| Fault::not_found("agent", id.to_string()))
    }

    /// A new agent.
    pub(in crate::server) fn insert(db: &Connection, sweep: i64, host: &str) -> Result<Self, Fault> {
        let sql = "INSERT INTO agent (sweep_id, host, created_at, heartbeat_at) VALUES (?1, ?2, ?3, ?3)";
        db.execute(sql, params![sweep, host, now()])?;
        Self::get(db, db.last_insert_rowid())
    }

    /// Notes that it is alive, and its sweep with it.
    pub(in crate::server) fn beat(&self, db: &Connection) -> Result<(), Fault> {
        db.execute("UPDATE agent SET heartbeat_at = ?2 WHERE id = ?1", params![self.id, now()])?;
        db.execute("UPDATE sweep SET heartbeat_at = ?2 WHERE id = ?1", params![self.sweep_id, now()])?;
        Ok(())
    }

    /// The ids of the runs it was told to start, oldest first.
    pub(in crate::server) fn run_names(&self, db: &Connection) -> Result<Vec<String>, Fault> {
        let mut statement = db.prepare_cached("SELECT run_name FROM sweep_run WHERE agent_id = ?1 ORDER BY id")?;
        let rows = statement.query_map([self.id], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
