//! Artifacts: one version each, its entries, manifests, tags and lineage.

use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use crate::server::clock::{Millis, now};
use crate::server::fault::Fault;

use super::collection::Collection;

const COLUMNS: &str = "artifact.id, artifact.sequence_id, artifact.state, artifact.digest, artifact.requested_digest,
    artifact.digest_algorithm, artifact.description, artifact.metadata, artifact.ttl_seconds, artifact.history_step,
    artifact.created_by_run, artifact.pending_aliases, artifact.manifest_sha256, artifact.size, artifact.file_count,
    artifact.created_at, artifact.updated_at";

/// One version, pending, committed or deleted.
#[derive(Debug, Clone)]
pub(in crate::server) struct Artifact {
    pub(in crate::server) id: i64,
    pub(in crate::server) sequence_id: i64,
    pub(in crate::server) state: String,
    pub(in crate::server) digest: String,
    pub(in crate::server) requested_digest: String,
    pub(in crate::server) digest_algorithm: String,
    pub(in crate::server) description: Option<String>,
    pub(in crate::server) metadata: Option<String>,
    pub(in crate::server) ttl_seconds: Option<i64>,
    pub(in crate::server) history_step: Option<i64>,
    pub(in crate::server) created_by_run: Option<i64>,
    pub(in crate::server) pending_aliases: String,
    pub(in crate::server) manifest_sha256: Option<String>,
    pub(in crate::server) size: i64,
    pub(in crate::server) file_count: i64,
    pub(in crate::server) created_at: Millis,
    pub(in crate::server) updated_at: Millis,
}

impl Artifact {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            sequence_id: row.get(1)?,
            state: row.get(2)?,
            digest: row.get(3)?,
            requested_digest: row.get(4)?,
            digest_algorithm: row.get(5)?,
            description: row.get(6)?,
            metadata: row.get(7)?,
            ttl_seconds: row.get(8)?,
            history_step: row.get(9)?,
            created_by_run: row.get(10)?,
            pending_aliases: row.get(11)?,
            manifest_sha256: row.get(12)?,
            size: row.get(13)?,
            file_count: row.get(14)?,
            created_at: row.get(15)?,
            updated_at: row.get(16)?,
        })
    }

    pub(in crate::server) fn is_committed(&self) -> bool {
        self.state == "COMMITTED"
    }

    /// The artifact of this row.
    pub(in crate::server) fn get(db: &Connection, id: i64) -> Result<Self, Fault> {
        Self::first(db, "WHERE artifact.id = ?1", [id])?.ok_or_else(|| Fault::not_found("artifact", id.to_string()))
    }

    /// The artifact that a client made under this id of its own.
    pub(in crate::server) fn by_client_id(db: &Connection, client_id: &str) -> Result<Option<Self>, Fault> {
        Self::first(db, "WHERE client_id = ?1 AND state != 'DELETED' ORDER BY id DESC", [client_id])
    }

    /// A committed version of a sequence with this digest, the newest first.
    pub(in crate::server) fn by_digest(db: &Connection, sequence: i64, digest: &str) -> Result<Option<Self>, Fault> {
        let filter = "WHERE sequence_id = ?1 AND digest = ?2 AND state = 'COMMITTED' ORDER BY id DESC";
        Self::first(db, filter, params![sequence, digest])
    }

    /// The pending version that several workers fill together.
    pub(in crate::server) fn distributed(db: &Connection, sequence: i64, key: &str) -> Result<Option<Self>, Fault> {
        let filter = "WHERE sequence_id = ?1 AND distributed_id = ?2 AND state = 'PENDING' ORDER BY id DESC";
        Self::first(db, filter, params![sequence, key])
    }

    /// The newest committed version of a sequence.
    pub(in crate::server) fn latest(db: &Connection, sequence: i64) -> Result<Option<Self>, Fault> {
        let filter = "JOIN membership ON membership.artifact_id = artifact.id AND membership.collection_id = ?1
                      WHERE state = 'COMMITTED' ORDER BY membership.version_index DESC";
        Self::first(db, filter, [sequence])
    }

    /// What a run wrote or read, in the order of the first time.
    pub(in crate::server) fn of_run(db: &Connection, run: i64, direction: Direction) -> Result<Vec<Self>, Fault> {
        let sql = format!(
            "SELECT {COLUMNS} FROM artifact JOIN lineage ON lineage.artifact_id = artifact.id
             WHERE lineage.run_id = ?1 AND lineage.direction = ?2 AND artifact.state = 'COMMITTED' ORDER BY lineage.id"
        );
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map(params![run, direction.as_str()], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn first(db: &Connection, filter: &str, values: impl Params) -> Result<Option<Self>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM artifact {filter} LIMIT 1");
        Ok(db.prepare_cached(&sql)?.query_row(values, Self::from_row).optional()?)
    }

    /// The sequence it was logged to.
    pub(in crate::server) fn sequence(&self, db: &Connection) -> Result<Collection, Fault> {
        Collection::get(db, self.sequence_id)
    }

    /// Its tags, in the order they were given.
    pub(in crate::server) fn tags(&self, db: &Connection) -> Result<Vec<(i64, String)>, Fault> {
        let mut statement =
            db.prepare_cached("SELECT id, name FROM artifact_tag WHERE artifact_id = ?1 ORDER BY id")?;
        let rows = statement.query_map([self.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Adds tags that it does not have yet.
    pub(in crate::server) fn add_tags<'t>(
        &self,
        db: &Connection,
        tags: impl IntoIterator<Item = &'t str>,
    ) -> Result<(), Fault> {
        for tag in tags {
            let sql = "INSERT INTO artifact_tag (artifact_id, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            db.execute(sql, params![self.id, tag])?;
        }
        Ok(())
    }
}

/// Which way an artifact went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Direction {
    /// A run read it.
    Input,
    /// A run wrote it.
    Output,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Input => "INPUT",
            Self::Output => "OUTPUT",
        }
    }

    /// Records that a run read or wrote an artifact; once is enough.
    pub(in crate::server) fn record(
        self,
        db: &Connection,
        (run, artifact): (i64, i64),
        used_as: Option<&str>,
    ) -> Result<(), Fault> {
        let sql =
            "INSERT INTO lineage (run_id, artifact_id, direction, used_as, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO NOTHING";
        db.execute(sql, params![run, artifact, self.as_str(), used_as, now()])?;
        Ok(())
    }
}

/// The runs that read an artifact, in the order of the first time.
pub(in crate::server) fn users(db: &Connection, artifact: i64) -> Result<Vec<i64>, Fault> {
    let sql = "SELECT run_id FROM lineage WHERE artifact_id = ?1 AND direction = 'INPUT' ORDER BY id";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([artifact], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One entry of a committed artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Entry {
    pub(in crate::server) path: String,
    /// As in the manifest: base64 for files, anything for references.
    pub(in crate::server) digest: String,
    pub(in crate::server) size: i64,
    pub(in crate::server) reference: Option<String>,
    pub(in crate::server) birth_artifact: Option<String>,
    /// JSON text of `extra`.
    pub(in crate::server) extra: Option<String>,
    /// Where the content is; none for references.
    pub(in crate::server) sha256: Option<String>,
}

const ENTRY: &str = "path, digest, size, ref, birth_artifact, extra, sha256";

impl Entry {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            path: row.get(0)?,
            digest: row.get(1)?,
            size: row.get(2)?,
            reference: row.get(3)?,
            birth_artifact: row.get(4)?,
            extra: row.get(5)?,
            sha256: row.get(6)?,
        })
    }

    /// The entry of this path.
    pub(in crate::server) fn find(db: &Connection, artifact: i64, path: &str) -> Result<Option<Self>, Fault> {
        let sql = format!("SELECT {ENTRY} FROM entry WHERE artifact_id = ?1 AND path = ?2");
        Ok(db.prepare_cached(&sql)?.query_row(params![artifact, path], Self::from_row).optional()?)
    }

    /// Up to `count` entries after the path `after`, by path.
    pub(in crate::server) fn page(
        db: &Connection,
        artifact: i64,
        (after, count): (&str, usize),
    ) -> Result<Vec<Self>, Fault> {
        let sql = format!("SELECT {ENTRY} FROM entry WHERE artifact_id = ?1 AND path > ?2 ORDER BY path LIMIT ?3");
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map(params![artifact, after, count as i64], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All entries, by path.
    pub(in crate::server) fn all(db: &Connection, artifact: i64) -> Result<Vec<Self>, Fault> {
        Self::page(db, artifact, ("", i64::MAX as usize))
    }

    /// Records the entry.
    pub(in crate::server) fn insert(&self, db: &Connection, artifact: i64) -> Result<(), Fault> {
        let sql = "INSERT INTO entry (artifact_id, path, digest, size, ref, birth_artifact, extra, sha256)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        db.prepare_cached(sql)?.execute(params![
            artifact,
            self.path,
            self.digest,
            self.size,
            self.reference,
            self.birth_artifact,
            self.extra,
            self.sha256
        ])?;
        Ok(())
    }
}

/// A manifest that was announced for an artifact.
#[derive(Debug, Clone)]
pub(in crate::server) struct Manifest {
    pub(in crate::server) id: i64,
    pub(in crate::server) artifact_id: i64,
    pub(in crate::server) name: String,
    pub(in crate::server) kind: String,
    /// Base64 MD5 of its bytes; empty while it only serves as a name.
    pub(in crate::server) digest: String,
    pub(in crate::server) base_artifact: Option<i64>,
}

const MANIFEST: &str = "id, artifact_id, name, kind, digest, base_artifact";

impl Manifest {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            artifact_id: row.get(1)?,
            name: row.get(2)?,
            kind: row.get(3)?,
            digest: row.get(4)?,
            base_artifact: row.get(5)?,
        })
    }

    /// The manifest of this row.
    pub(in crate::server) fn get(db: &Connection, id: i64) -> Result<Self, Fault> {
        let sql = format!("SELECT {MANIFEST} FROM manifest WHERE id = ?1");
        let found = db.prepare_cached(&sql)?.query_row([id], Self::from_row).optional()?;
        found.ok_or_else(|| Fault::not_found("artifact manifest", id.to_string()))
    }

    /// The manifests of an artifact that say what their bytes are, oldest first.
    pub(in crate::server) fn announced(db: &Connection, artifact: i64) -> Result<Vec<Self>, Fault> {
        let sql = format!("SELECT {MANIFEST} FROM manifest WHERE artifact_id = ?1 AND digest != '' ORDER BY id");
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map([artifact], Self::from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
