//! The folder of a study: where things are, and the ledger's files. A record is on disk before its writer goes on; a
//! torn end is cut off before anything follows it. One file and one lock for each task, so that any number of processes
//! can share the folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::app::AppError;
use crate::study::{Ledger, Record, ShardId, Task};

use super::StudyError;

/// Paths of a study.
#[derive(Debug, Clone)]
pub(super) struct StudyFolder {
    root: PathBuf,
}

impl StudyFolder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The fit of a task.
    pub(super) fn fit(&self, task: &str) -> PathBuf {
        self.root.join(task)
    }

    /// The fit of some of a task's layers.
    pub(super) fn shard(&self, task: &str, shard: ShardId) -> PathBuf {
        self.fit(task).join("shards").join(format!("{}-of-{}", shard.index + 1, shard.of))
    }

    fn ledger_dir(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// All that was ever recorded.
    pub(super) fn ledger(&self) -> Result<Ledger, AppError> {
        let mut ledger = Ledger::default();
        let folder = self.ledger_dir();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ledger),
            Err(error) => return Err(AppError::file("read", &folder)(error)),
        };
        for entry in entries {
            let path = entry.map_err(AppError::file("read", &folder))?.path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                let bytes = fs::read(&path).map_err(AppError::file("read", &path))?;
                ledger.replay(&bytes).map_err(|source| StudyError::Ledger { path, source })?;
            }
        }
        Ok(ledger)
    }

    /// Takes a task for this process, until the claim is dropped.
    ///
    /// # Errors
    /// [`StudyError::Busy`] when another process has it.
    pub(super) fn claim(&self, task: &Task, worker: &str) -> Result<Claim, AppError> {
        let folder = self.ledger_dir();
        fs::create_dir_all(&folder).map_err(AppError::file("create", &folder))?;
        let path = folder.join(format!("{}.jsonl", task.id));
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(AppError::file("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StudyError::Busy { task: task.id.clone() }.into()),
            Err(TryLockError::Error(error)) => return Err(AppError::file("lock", &path)(error)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(AppError::file("read", &path))?;
        let mut ledger = Ledger::default();
        let whole = ledger.replay(&bytes).map_err(|source| StudyError::Ledger { path: path.clone(), source })?;
        ledger.begin_round();
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(AppError::file("mend", &path))?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(AppError::file("mend", &path))?;
        #[cfg(unix)]
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(AppError::file("write", &folder))?;
        Ok(Claim { file, path, ledger, task: task.clone(), worker: worker.to_owned(), open: false })
    }
}

/// A task that belongs to this process. Dropped between its beginning and its end, it is given back.
#[derive(Debug)]
pub(super) struct Claim {
    file: File,
    path: PathBuf,
    /// What was recorded of this task alone, with the attempts of this claim.
    pub(super) ledger: Ledger,
    task: Task,
    worker: String,
    open: bool,
}

impl Claim {
    fn write(&mut self, record: &Record) -> Result<(), AppError> {
        self.file.write_all(record.line().as_bytes()).map_err(AppError::file("write", &self.path))?;
        self.file.sync_data().map_err(AppError::file("write", &self.path))?;
        self.ledger.apply(record);
        Ok(())
    }

    fn names(&self) -> (String, String, String) {
        (self.task.id.clone(), self.task.inputs.clone(), Timestamp::now().to_string())
    }

    pub(super) fn begin(&mut self) -> Result<(), AppError> {
        let (task, inputs, at) = self.names();
        self.write(&Record::Claimed { task, inputs, worker: self.worker.clone(), at })?;
        self.open = true;
        Ok(())
    }

    pub(super) fn done(&mut self, result: String, seconds: f64) -> Result<(), AppError> {
        let (task, inputs, at) = self.names();
        self.write(&Record::Done { task, inputs, result, seconds, at })?;
        self.open = false;
        Ok(())
    }

    pub(super) fn failed(&mut self, error: String) -> Result<(), AppError> {
        let (task, inputs, at) = self.names();
        self.write(&Record::Failed { task, inputs, error, at })?;
        self.open = false;
        Ok(())
    }

    pub(super) fn logged(&mut self, run: String) -> Result<(), AppError> {
        let (task, inputs, at) = self.names();
        self.write(&Record::Logged { task, inputs, run, at })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.open {
            let (task, inputs, at) = self.names();
            // Nobody is left to tell; without the record the task counts as interrupted, which comes to the same.
            if let Err(error) = self.write(&Record::Released { task, inputs, at }) {
                tracing::warn!("could not give back {}: {error}", self.task.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Standing;

    #[test]
    fn a_claim_is_exclusive_given_back_and_survives_a_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let files = StudyFolder::new(folder.path());
        let task = Task { id: "m@d".to_owned(), inputs: "i".to_owned() };
        let mut claim = files.claim(&task, "here:1").unwrap();
        claim.begin().unwrap();
        let busy = files.claim(&task, "here:2").unwrap_err();
        assert!(matches!(busy, AppError::Study(StudyError::Busy { .. })));
        assert!(matches!(files.ledger().unwrap().standing(&task), Standing::Interrupted { .. }));
        drop(claim);
        assert_eq!(files.ledger().unwrap().standing(&task), Standing::Missing);
        let path = folder.path().join("ledger/m@d.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"event\":\"done\",\"ta");
        fs::write(&path, &bytes).unwrap();
        let mut claim = files.claim(&task, "here:1").unwrap();
        claim.begin().unwrap();
        claim.done("r".to_owned(), 0.5).unwrap();
        drop(claim);
        assert!(matches!(files.ledger().unwrap().standing(&task), Standing::Done { .. }));
        fs::write(&path, [b"nonsense\n".as_slice(), &bytes].concat()).unwrap();
        assert!(matches!(files.ledger(), Err(AppError::Study(StudyError::Ledger { .. }))));
    }
}
