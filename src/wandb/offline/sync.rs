//! Sending the log of a run that is over: one that was offline, or one that did not get everything through. Network and
//! file I/O.
//!
//! A log may be sent any number of times, by this client or the official one, wholly or in part: rows are written at their
//! numbers, over the same rows. What numbers they have is decided once: the run's own when the log made the run, and
//! behind what was there when it went on with one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::Client;
use super::super::error::WandbError;
use super::assembly::{Assembly, Step, Stream};
use super::cursor::{Cursor, Destination, First};
use super::errand::Context;
use super::folder::{HOMES, RunFolder, discover};
use super::home::{Renamed, names};
use super::log::{Entry, LogReader};
use super::past::Past;
use super::sender::Sender;

/// How often and how long we wait for a log that is in use.
const TRIES: u32 = 10;
const WAIT: Duration = Duration::from_millis(50);

/// How a log is sent. Start from [`SyncOptions::default`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SyncOptions {
    /// Entity instead of the log's.
    pub entity: Option<String>,
    /// Project instead of the log's.
    pub project: Option<String>,
    /// Run id instead of the log's.
    pub id: Option<String>,
    /// Send what was confirmed before, too.
    pub again: bool,
}

/// A log that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Synced {
    /// Entity of the run.
    pub entity: String,
    /// Project of the run.
    pub project: String,
    /// Id of the run.
    pub run: String,
    /// Rows in the log, all of which are on the server.
    pub rows: u64,
    /// Artifacts, groups of files, inputs and alerts sent now.
    pub errands: u64,
    /// Lines that no server takes for their length.
    pub too_long: u64,
    /// Whether its writer was stopped in the middle of a record, which no call returned for.
    pub torn: bool,
    /// Places of the log that are damaged, in bytes from its beginning, and what is wrong there. What they held is lost.
    pub damages: Vec<(u64, &'static str)>,
}

/// Folders of runs below `root` (where `wandb/` is) with something to send, oldest first.
///
/// # Errors
/// [`WandbError::File`] for a folder that cannot be listed.
pub fn runs_to_sync(root: &Path) -> Result<Vec<PathBuf>, WandbError> {
    discover(root)
}

/// Whether the folder of a run bears the mark that everything is on a server.
///
/// # Errors
/// [`WandbError::NotFound`] for a folder without a log.
pub fn is_synced(folder: &Path) -> Result<bool, WandbError> {
    Ok(RunFolder::open(folder)?.is_synced())
}

/// The runs that a path means: a run's folder or its log, or all with something to send in a folder `wandb` or the folder
/// around it.
///
/// # Errors
/// [`WandbError::NotFound`] when there is none, [`WandbError::File`] for a folder that cannot be listed.
pub fn runs_in(path: &Path) -> Result<Vec<PathBuf>, WandbError> {
    let missing = match RunFolder::open(path) {
        Ok(folder) => return Ok(vec![folder.path().to_owned()]),
        Err(error) => error,
    };
    let is_home = path.file_name().is_some_and(|name| HOMES.iter().any(|home| name == *home));
    let root = if is_home { path.parent().unwrap_or(path) } else { path };
    match discover(root)? {
        found if found.is_empty() => Err(missing),
        found => Ok(found),
    }
}

/// Removes a run's folder that is marked as synced; one that is not stays.
///
/// # Errors
/// [`WandbError::File`] when it cannot be removed.
pub fn remove_synced(folder: &Path) -> Result<(), WandbError> {
    let folder = RunFolder::open(folder)?;
    if folder.is_synced() { folder.remove() } else { Ok(()) }
}

impl Client {
    /// Sends everything in a run's folder, also one of the official SDK, and marks it as synced. Doing it again does no
    /// harm: rows go where they are.
    ///
    /// # Errors
    /// [`WandbError::NotFound`] for a folder without a log, [`WandbError::Busy`] while its run still writes,
    /// [`WandbError::Log`] for a log without a run, or what stood in the way; what was sent till then counts.
    pub async fn sync(&self, folder: &Path, options: &SyncOptions) -> Result<Synced, WandbError> {
        let folder = RunFolder::open(folder)?;
        let reader = open_alone(&folder).await?;
        let (assembly, first) = beginning(&folder, Assembly::default())?;
        let renamed =
            Renamed { entity: options.entity.clone(), project: options.project.clone(), run: options.id.clone() };
        let past = self.past_of_log(&assembly, &renamed).await?;
        let step = past.as_ref().map_or(0, |past| folder.official_step().unwrap_or(past.step));
        let (assembly, first) = match &past {
            Some(past) => beginning(&folder, Assembly::going_on(past, step))?,
            None => (assembly, first),
        };
        let upserted = self.upsert(&assembly, &renamed).await?;
        let home = Arc::new(upserted.home.clone());
        let destination = Destination::of(self, &home);
        // A run that was deleted there since, or lost rows, is sent anew.
        let known =
            Cursor::find(&folder, &destination)?.filter(|cursor| !upserted.is_new && cursor.fits(upserted.rows));
        let cursor = match known {
            Some(mut cursor) => {
                if options.again {
                    cursor.rewind();
                }
                cursor
            }
            None => {
                let lines = self.first_lines(&upserted, first.as_deref(), past.as_ref()).await?;
                Cursor::begin(&folder, destination, First { lines, step })?
            }
        };
        let context = Context { client: self.clone(), home: Arc::clone(&home), folder: folder.clone() };
        let assembly = past.map_or_else(Assembly::default, |past| Assembly::going_on(&past, cursor.step()));
        let mut sender = Sender::new(context, renamed, (reader, assembly), cursor);
        sender.drain().await?;
        let report = sender.report;
        let damages: Vec<_> = report.damages.iter().map(|damage| (damage.at, damage.reason)).collect();
        if damages.is_empty() {
            folder.mark_synced()?;
        }
        Ok(Synced {
            entity: home.entity.clone(),
            project: home.project.clone(),
            run: home.run.clone(),
            rows: report.rows,
            errands: report.errands,
            too_long: report.too_long,
            torn: report.torn,
            damages,
        })
    }
}

impl Client {
    /// What the run had that a log of this beginning is to go on with, if it says that it does.
    async fn past_of_log(&self, assembly: &Assembly, renamed: &Renamed) -> Result<Option<Past>, WandbError> {
        match assembly.run().filter(|run| run.resume) {
            Some(run) => self.past(&names(run, renamed)).await,
            None => Ok(None),
        }
    }
}

/// Opens the log for us alone. One that is in use may be let go of just now: by a process that was killed, or one that is
/// about to become another program.
async fn open_alone(folder: &RunFolder) -> Result<LogReader, WandbError> {
    let mut tries = 0;
    loop {
        match LogReader::open_alone(folder.log()) {
            Err(WandbError::Busy { .. }) if tries < TRIES => tries += 1,
            outcome => return outcome,
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// The log up to and with the record of its run, over what `assembly` is of, and its first row.
pub(super) fn beginning(folder: &RunFolder, mut assembly: Assembly) -> Result<(Assembly, Option<String>), WandbError> {
    let mut reader = LogReader::open(folder.log())?;
    while let Some(entry) = reader.next()? {
        let Entry::Record(record) = entry else { continue };
        for step in assembly.take(record) {
            if let (Step::Line(Stream::History, row), Some(_)) = (step, assembly.run()) {
                return Ok((assembly, Some(row)));
            }
        }
    }
    if assembly.run().is_none() {
        let reason = "it does not say which run it is of".to_owned();
        return Err(WandbError::Log { path: folder.log().to_owned(), reason });
    }
    Ok((assembly, None))
}
