//! Folders of runs, laid out as the official SDK lays them out. File I/O.
//!
//! ```text
//! <root>/wandb/                                 (.wandb where that is there already)
//!   offline-run-YYYYMMDD_hhmmss-<id>/           run-… for a run that started online
//!     run-<id>.wandb                            the log
//!     run-<id>.wandb.synced                     empty: everything is on the server
//!     run-<id>.wandb.sent                       ours: what the server confirmed (see `cursor`)
//!     files/                                    files of the run
//!     artifacts/                                ours: bytes of artifacts that are nowhere else, by their MD5
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Zoned};

use super::super::error::WandbError;

/// Where the official SDK keeps runs below its root.
pub(crate) const HOMES: [&str; 2] = [".wandb", "wandb"];
const OFFLINE: &str = "offline-run-";
const ONLINE: &str = "run-";

/// How a run started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With a server.
    Online,
    /// Without.
    Offline,
}

/// The folder of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFolder {
    path: PathBuf,
    log: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run below `root`.
    pub(crate) fn create(root: &Path, start: Start, id: &str) -> Result<Self, WandbError> {
        let [hidden, plain] = HOMES.map(|home| root.join(home));
        let home = if hidden.is_dir() { hidden } else { plain };
        let prefix = if start == Start::Online { ONLINE } else { OFFLINE };
        let mut now = Zoned::now();
        let path = loop {
            let path = home.join(format!("{prefix}{}-{id}", now.strftime("%Y%m%d_%H%M%S")));
            make(&home)?;
            match fs::create_dir(&path) {
                Ok(()) => break path,
                // The same run in the same second: the next second is free or will be tried, too.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => now += SignedDuration::from_secs(1),
                // The last other run there was over just now and removed the folder around it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("create", &path, error)),
            }
        };
        let path = fs::canonicalize(&path).map_err(|source| failed("create", &path, source))?;
        let folder = Self { log: path.join(format!("run-{id}.wandb")), path };
        make(&folder.files())?;
        Ok(folder)
    }

    /// The folder at a path, which may be that of its log, too.
    pub(crate) fn open(folder: &Path) -> Result<Self, WandbError> {
        let path = folder;
        let not_found =
            || WandbError::NotFound { what: format!("a log of a run (run-….wandb) in {}", path.display()) };
        let path = match fs::canonicalize(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
            path => path.map_err(|source| failed("open", folder, source))?,
        };
        if is_log(&path) && path.is_file() {
            let folder = path.parent().ok_or_else(not_found)?.to_owned();
            return Ok(Self { path: folder, log: path });
        }
        let mut logs: Vec<PathBuf> = entries(&path)?.into_iter().filter(|entry| is_log(entry)).collect();
        logs.sort();
        Ok(Self { log: logs.pop().ok_or_else(not_found)?, path })
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How its run started.
    pub(crate) fn start(&self) -> Start {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(ONLINE) { Start::Online } else { Start::Offline }
    }

    /// The log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Where the run's files are.
    pub(crate) fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// Where bytes of artifacts are that are nowhere else.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// What the server confirmed.
    pub(crate) fn sent(&self) -> PathBuf {
        self.beside("sent")
    }

    /// Whether everything is on a server, by the mark that the official client makes and heeds.
    pub(crate) fn is_synced(&self) -> bool {
        self.beside("synced").exists()
    }

    /// The step of the log's step 0 that the official client decided on when it sent a log that goes on with a run
    /// (`core/internal/runsyncstate`); nothing where it did not send it.
    pub(crate) fn official_step(&self) -> Option<u64> {
        let state: serde_json::Value = serde_json::from_slice(&fs::read(self.beside("syncstate")).ok()?).ok()?;
        state.get("starting_step")?.as_u64()
    }

    /// Makes that mark.
    pub(crate) fn mark_synced(&self) -> Result<(), WandbError> {
        let mark = self.beside("synced");
        fs::write(&mark, "").map_err(|source| failed("write", &mark, source))
    }

    /// Removes the folder, and the one around it when that is empty.
    pub(crate) fn remove(&self) -> Result<(), WandbError> {
        fs::remove_dir_all(&self.path).map_err(|source| failed("remove", &self.path, source))?;
        if let Some(home) = self.path.parent() {
            // It stays where other runs are in it.
            let _ = fs::remove_dir(home);
        }
        Ok(())
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.log.clone().into_os_string();
        name.push(".");
        name.push(ending);
        name.into()
    }
}

/// Folders of runs below `root` that are to be sent: those that started offline, and those that started online and did not
/// get everything through. Oldest first. A folder of the official SDK that started online is not taken: the SDK sent it.
pub(crate) fn discover(root: &Path) -> Result<Vec<PathBuf>, WandbError> {
    let mut found = Vec::new();
    for home in HOMES.map(|home| root.join(home)).into_iter().filter(|home| home.is_dir()) {
        for path in entries(&home)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = || RunFolder::open(&path).is_ok_and(|folder| folder.sent().exists());
            if path.is_dir() && (name.starts_with(OFFLINE) || (name.starts_with(ONLINE) && ours())) {
                found.push((name.trim_start_matches("offline-").to_owned(), path));
            }
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "wandb")
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, WandbError> {
    let list = || fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    list().map_err(|source| failed("list", folder, source))
}

fn make(folder: &Path) -> Result<(), WandbError> {
    fs::create_dir_all(folder).map_err(|source| failed("create", folder, source))
}

/// The error of a file operation.
pub(crate) fn failed(action: &'static str, path: &Path, source: io::Error) -> WandbError {
    WandbError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_where_the_sdk_puts_them() {
        let root = tempfile::tempdir().unwrap();
        let first = RunFolder::create(root.path(), Start::Offline, "ab12cd34").unwrap();
        let second = RunFolder::create(root.path(), Start::Offline, "ab12cd34").unwrap();
        let name = first.path().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("offline-run-20") && name.ends_with("-ab12cd34") && name.len() == 36, "{name}");
        assert!(first.path().parent().unwrap().ends_with("wandb") && first.path() != second.path());
        let online = RunFolder::create(&root.path().join("other"), Start::Online, "ab12cd34").unwrap();
        assert_eq!((first.start(), online.start()), (Start::Offline, Start::Online));
        assert!(first.log().ends_with("run-ab12cd34.wandb") && first.files().is_dir());
        // A folder without a log is none; with one it is found by either.
        assert!(matches!(RunFolder::open(first.path()), Err(WandbError::NotFound { .. })));
        fs::write(first.log(), "").unwrap();
        assert_eq!(RunFolder::open(first.path()).unwrap(), first);
        assert_eq!(RunFolder::open(first.log()).unwrap(), first);
        assert_eq!((first.is_synced(), first.official_step()), (false, None));
        fs::write(first.beside("syncstate"), r#"{"starting_step":3,"starting_runtime":2171}"#).unwrap();
        assert_eq!(first.official_step(), Some(3));
        first.mark_synced().unwrap();
        assert!(first.is_synced() && first.path().join("run-ab12cd34.wandb.synced").exists());
        first.remove().unwrap();
        assert!(second.path().exists());
        second.remove().unwrap();
        assert!(!root.path().join("wandb").exists());
    }

    #[test]
    fn only_runs_with_something_to_send_are_found() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(discover(root.path()).unwrap(), Vec::<PathBuf>::new());
        fs::create_dir(root.path().join(".wandb")).unwrap();
        let make = |start, id| {
            let folder = RunFolder::create(root.path(), start, id).unwrap();
            fs::write(folder.log(), "").unwrap();
            folder
        };
        let offline = make(Start::Offline, "b");
        let (ours, sdk) = (make(Start::Online, "a"), make(Start::Online, "c"));
        fs::write(ours.sent(), "").unwrap();
        assert!(offline.path().parent().unwrap().ends_with(".wandb"));
        let name = |path: &Path| path.file_name().unwrap().to_owned();
        let found: Vec<_> = discover(root.path()).unwrap().iter().map(|path| name(path)).collect();
        assert_eq!(found.len(), 2);
        assert!(found.contains(&name(ours.path())) && found.contains(&name(offline.path())));
        assert!(!found.contains(&name(sdk.path())));
    }
}
