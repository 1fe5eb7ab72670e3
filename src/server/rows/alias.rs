//! Aliases: names within a collection that point at one member and move.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::server::fault::Fault;

use super::collection::{Membership, version_index};

/// The alias that follows the newest version.
pub(in crate::server) const LATEST: &str = "latest";

/// One alias as clients see it.
#[derive(Debug, Clone)]
pub(in crate::server) struct Alias {
    pub(in crate::server) id: i64,
    pub(in crate::server) collection_id: i64,
    pub(in crate::server) name: String,
}

/// Points `name` at a member, away from whichever had it. A version `vN` of its own is nothing to do.
pub(in crate::server) fn point(db: &Connection, membership: &Membership, name: &str) -> Result<(), Fault> {
    if let Some(index) = version_index(name) {
        return if index == membership.version_index {
            Ok(())
        } else {
            Err(Fault::invalid(format!("`{name}` names a version and cannot be an alias")))
        };
    }
    let forbidden = |c: char| matches!(c, '/' | ':') || c.is_control();
    if name.is_empty() || name.chars().count() > 128 || name.chars().any(forbidden) {
        return Err(Fault::invalid(format!("`{name}` is not an alias: 1 to 128 characters, neither / nor :")));
    }
    let sql = "INSERT INTO alias (collection_id, membership_id, name) VALUES (?1, ?2, ?3)
               ON CONFLICT (collection_id, name) DO UPDATE SET membership_id = excluded.membership_id";
    db.prepare_cached(sql)?.execute(params![membership.collection_id, membership.id, name])?;
    Ok(())
}

/// Takes `name` away from a member that has it.
pub(in crate::server) fn remove(db: &Connection, membership: &Membership, name: &str) -> Result<(), Fault> {
    db.execute("DELETE FROM alias WHERE membership_id = ?1 AND name = ?2", params![membership.id, name])?;
    Ok(())
}

/// The aliases of one member, oldest first.
pub(in crate::server) fn of_membership(db: &Connection, membership: i64) -> Result<Vec<Alias>, Fault> {
    list(db, "SELECT id, collection_id, name FROM alias WHERE membership_id = ?1 ORDER BY id", membership)
}

/// The aliases of an artifact in all its collections.
pub(in crate::server) fn of_artifact(db: &Connection, artifact: i64) -> Result<Vec<Alias>, Fault> {
    let sql = "SELECT alias.id, alias.collection_id, alias.name FROM alias
               JOIN membership ON membership.id = alias.membership_id
               WHERE membership.artifact_id = ?1 ORDER BY alias.id";
    list(db, sql, artifact)
}

/// All aliases of a collection.
pub(in crate::server) fn of_collection(db: &Connection, collection: i64) -> Result<Vec<Alias>, Fault> {
    list(db, "SELECT id, collection_id, name FROM alias WHERE collection_id = ?1 ORDER BY id", collection)
}

fn list(db: &Connection, sql: &str, key: i64) -> Result<Vec<Alias>, Fault> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement
        .query_map([key], |row| Ok(Alias { id: row.get(0)?, collection_id: row.get(1)?, name: row.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Takes a member out of its collection. When it was the latest, the newest that remains is.
pub(in crate::server) fn expel(db: &Connection, membership: &Membership) -> Result<(), Fault> {
    db.execute("DELETE FROM membership WHERE id = ?1", [membership.id])?;
    let has_latest = "SELECT 1 FROM alias WHERE collection_id = ?1 AND name = ?2";
    let held = db.query_row(has_latest, params![membership.collection_id, LATEST], |_| Ok(())).optional()?.is_some();
    if !held && let Some(newest) = Membership::of_collection(db, membership.collection_id)?.last() {
        point(db, newest, LATEST)?;
    }
    Ok(())
}
