//! What earlier processes left of a run that goes on: logs that did not get through, of a process that was killed or had no
//! server. They are sent first, so that what is logged from now on stands behind them, and so that sending them later does
//! not end the run as they ended. Network and file I/O.

use std::path::Path;

use super::super::Client;
use super::super::error::WandbError;
use super::assembly::Assembly;
use super::folder::{RunFolder, Start, discover};
use super::home::{Home, Renamed, names};
use super::sync::{SyncOptions, beginning};

impl Client {
    /// Sends what is left of a run in the folders below `root`, the oldest log first. What cannot be sent now stays, and is
    /// noted.
    pub(crate) async fn send_left_over(&self, root: &Path, home: &Home) -> Result<(), WandbError> {
        let folders = discover(root)?.into_iter().filter_map(|path| RunFolder::open(&path).ok());
        let unsent = folders.filter(|folder| !folder.is_synced());
        let mut left: Vec<_> = unsent.filter_map(|folder| Some((started(&folder, home)?, folder))).collect();
        left.sort_by_key(|(started, _)| *started);
        for (_, folder) in left {
            match self.sync(folder.path(), &SyncOptions::default()).await {
                Ok(synced) if synced.damages.is_empty() && folder.start() == Start::Online => folder.remove()?,
                Ok(_) => {}
                // The caller meets the same.
                Err(error) if error.is_network() => return Err(error),
                Err(error) => {
                    let (path, run) = (folder.path().display(), home.path());
                    self.transport().progress.note(&format!("what {path} has of run {run} stays there: {error}"));
                }
            }
        }
        Ok(())
    }
}

/// When a log started, in seconds and nanoseconds; nothing for one that is not of the run at `home`, as far as both name it.
fn started(folder: &RunFolder, home: &Home) -> Option<(i64, i32)> {
    // The log of the same run has the same name; that spares to read all others.
    if folder.log().file_name()? != format!("run-{}.wandb", home.run).as_str() {
        return None;
    }
    let (assembly, _) = beginning(folder, Assembly::default()).ok()?;
    let run = assembly.run()?;
    let own = names(run, &Renamed::default());
    let same_entity = own.entity.is_empty() || home.entity.is_empty() || own.entity == home.entity;
    let started = run.start_time.unwrap_or_default();
    (own.run == home.run && own.project == home.project && same_entity).then_some((started.seconds, started.nanos))
}

#[cfg(test)]
mod tests {
    use super::super::record::{Content, RunRecord, Timestamp};
    use super::super::spool::Spool;
    use super::*;

    #[tokio::test]
    async fn a_log_is_left_over_of_its_own_run_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), Start::Online, "r").unwrap();
        let text = str::to_owned;
        let start_time = Some(Timestamp { seconds: 5, nanos: 0 });
        let record =
            RunRecord { run_id: text("r"), project: text("p"), entity: text("e"), start_time, ..RunRecord::default() };
        Spool::create(folder.clone(), vec![Content::Run(Box::new(record))], false).unwrap();
        let home =
            |[entity, project, run]: [&str; 3]| Home { entity: text(entity), project: text(project), run: text(run) };
        for (home, is) in [
            (home(["e", "p", "r"]), true),
            (home(["", "p", "r"]), true),
            (home(["f", "p", "r"]), false),
            (home(["e", "q", "r"]), false),
            (home(["e", "p", "s"]), false),
        ] {
            assert_eq!(started(&folder, &home), is.then_some((5, 0)), "{home:?}");
        }
    }
}
