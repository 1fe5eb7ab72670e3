//! The SQLite database: one writer behind a lock, readers from a pool, schema brought up to date on opening.
//!
//! Every write is one immediate transaction and on disk when it returns. Blocking I/O: call from a blocking thread.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::fault::Fault;
use super::migrations::MIGRATIONS;

/// Readers kept for the next request; more are opened when more requests read at once.
const POOLED_READERS: usize = 8;

/// The database of one server.
#[derive(Debug)]
pub(super) struct Db {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Db {
    /// Opens the file, making it and applying migrations as needed.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut writer = Connection::open(path)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        // A finished request survives a power cut, not only a crash of this process.
        writer.pragma_update(None, "synchronous", "FULL")?;
        prepare(&writer)?;
        migrate(&mut writer)?;
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    /// Runs `work` in one transaction; nothing of it stays when it fails.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outcome = work(&transaction)?;
        transaction.commit()?;
        Ok(outcome)
    }

    /// Runs `work` on a connection that sees everything committed before each of its statements.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let pooled = lock(&self.readers).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                prepare(&connection)?;
                connection
            }
        };
        let outcome = work(&connection);
        let mut pool = lock(&self.readers);
        if connection.is_autocommit() && pool.len() < POOLED_READERS {
            pool.push(connection);
        }
        outcome
    }

    /// Moves the write-ahead log into the database file, so that a stopped server leaves one file.
    pub(super) fn checkpoint(&self) -> Result<(), Fault> {
        lock(&self.readers).clear();
        lock(&self.writer).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let done: usize = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", index as u32 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// A panic while holding the lock rolled its transaction back: the connection behind it is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_and_data_survive_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.db");
        let insert = "INSERT INTO project (entity, name, created_at, updated_at) VALUES ('e', ?1, 0, 0)";
        {
            let db = Db::open(&path).unwrap();
            db.write(|t| Ok(t.execute(insert, ["kept"])?)).unwrap();
            let failed = db.write(|t| {
                t.execute(insert, ["lost"])?;
                Err::<(), _>(Fault::invalid("no"))
            });
            assert!(failed.is_err());
        }
        let db = Db::open(&path).unwrap();
        let names: String =
            db.read(|c| Ok(c.query_row("SELECT group_concat(name) FROM project", [], |row| row.get(0))?)).unwrap();
        assert_eq!(names, "kept");
    }
}
