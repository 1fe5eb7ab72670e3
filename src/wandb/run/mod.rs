//! Runs: start, log, finish. A [`Run`] is a handle. What it logs is in the run's folder when a call returns, and goes to the
//! server from there in the background, in order; `finish` waits for that. Network I/O through the client, file I/O.
//!
//! Without a server ([`Run::start_offline`]), or when none answers, the folder is all there is, and [`Client::sync`] or the
//! official `wandb sync` sends it later. A handle dropped without `finish` lets the background task tell the server that the
//! run failed, for a few seconds and only while the runtime lives; nothing ever waits for it.

mod chart;
mod files;
mod media;
mod options;
mod parting;
mod record;
mod resume;
mod start;
mod table;
mod table_type;
mod tell;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Client;
use super::artifact::Artifact;
use super::artifact::download::blocking;
use super::artifact::draft::ArtifactDraft;
use super::artifact::name::QualifiedName;
use super::artifact::prepare::PreparedArtifact;
use super::artifact::spooled::{Ids, prepare_alone, record as artifact_record};
use super::artifact::upload::LoggedArtifact;
use super::error::WandbError;
use super::offline::{
    ConfigRecord, Content, ExitRecord, Home, Item, LINE_BYTES, Spool, SummaryRecord, UseArtifactRecord, Written,
};
use crate::progress::Progress;
use crate::table::Table;

pub use chart::{Chart, ChartDefinition};
pub use media::{Histogram, Image};
pub use options::RunOptions;
use options::identifier;
pub use parting::runs_parted;
use record::{items, row};
pub use resume::Resume;
pub use tell::{AlertLevel, ConsoleStream};

/// A run under way.
#[derive(Debug)]
pub struct Run {
    home: Home,
    display_name: Option<String>,
    started: Instant,
    /// How long it ran before it was resumed.
    before: Duration,
    resumed: bool,
    finish_limit: Duration,
    spool: Arc<Spool>,
    link: Link,
    progress: Progress,
    state: Mutex<State>,
}

/// Who takes what is logged to the server.
#[derive(Debug)]
enum Link {
    /// A task that reads the log.
    Sending { client: Client, written: watch::Sender<Written>, task: JoinHandle<Result<(), WandbError>> },
    /// Nobody; and why not, when it was not meant so.
    Nobody(Option<Box<WandbError>>),
}

/// What the next row and the summary depend on.
#[derive(Debug, Default)]
struct State {
    step: u64,
    config: Map<String, Value>,
}

impl Run {
    /// The entity that the server put it under; empty for a run without a server for which none was given.
    pub fn entity(&self) -> &str {
        &self.home.entity
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.home.project
    }

    /// The id, unique in the project.
    pub fn id(&self) -> &str {
        &self.home.run
    }

    /// What people see; the server makes one up when none was given.
    pub fn display_name(&self) -> Option<&str> {
        self.display_name.as_deref()
    }

    /// `entity/project/id`.
    pub fn path(&self) -> String {
        self.home.path()
    }

    /// The run's folder. [`Run::finish`] removes that of a run of which everything reached the server.
    pub fn folder(&self) -> &Path {
        self.spool.folder().path()
    }

    /// Whether it goes on with a run that was there.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Step of the next row.
    pub fn step(&self) -> u64 {
        self.state().step
    }

    /// Whether what is logged goes to a server now, as opposed to later.
    pub fn is_online(&self) -> bool {
        matches!(self.link, Link::Sending { .. })
    }

    /// Logs one row of history. `_step`, `_runtime` and `_timestamp` are added; the values become the summary's.
    ///
    /// The row is in the run's folder when this returns, whatever happens to the process from then on, and on the server at
    /// the latest when [`Run::finish`] returns.
    ///
    /// # Errors
    /// [`WandbError::File`] when the disk refuses, [`WandbError::Option`] for a row that is too long.
    pub async fn log(&self, values: Map<String, Value>) -> Result<(), WandbError> {
        let size = Value::Object(values.clone()).to_string().len();
        if size > LINE_BYTES - (1 << 10) {
            let reason = format!("{size} bytes where W&B takes {LINE_BYTES}");
            return Err(WandbError::Option { option: "row", reason });
        }
        let mut state = self.state();
        let values = self.dress(values, state.step);
        // Under the lock, so that rows stand in the log in the order of their steps.
        self.append(row(&values, state.step))?;
        state.step += 1;
        Ok(())
    }

    /// Sets values of the summary without a row.
    ///
    /// # Errors
    /// As [`Run::log`].
    pub async fn set_summary(&self, values: Map<String, Value>) -> Result<(), WandbError> {
        let values = values.into_iter().filter(|(_, value)| !value.is_null()).collect();
        self.append(vec![Content::Summary(SummaryRecord { update: items(&values), remove: Vec::new() })])
    }

    /// Replaces the configuration.
    ///
    /// # Errors
    /// As [`Run::log`].
    pub async fn set_config(&self, config: &Map<String, Value>) -> Result<(), WandbError> {
        let mut state = self.state();
        if state.config == *config {
            return Ok(());
        }
        let gone = state.config.keys().filter(|key| !config.contains_key(*key)).map(|key| Item::new(key.as_str(), ""));
        let record = ConfigRecord { update: items(config), remove: gone.collect() };
        self.append(vec![Content::Config(record)])?;
        state.config.clone_from(config);
        Ok(())
    }

    /// Logs a table under `key`: a run file, a `run_table` artifact, and the row that joins them, as the official SDK
    /// does, which reads it back as `wandb.Table`.
    ///
    /// # Errors
    /// What the server refuses, or as [`Run::log`].
    pub async fn log_table(&self, key: &str, table: &Table) -> Result<(), WandbError> {
        self.log(self.store_table(key, table).await?).await
    }

    /// Logs a new version of a collection as output of this run, and waits until it is on the server.
    ///
    /// # Errors
    /// What the upload met; [`WandbError::NotSent`] where there is no server now: the version is made when the run's folder
    /// is synced. [`Run::spool_artifact`] takes that for a success.
    pub async fn log_artifact(&self, draft: &ArtifactDraft) -> Result<Artifact, WandbError> {
        self.spool_artifact(draft).await?.ok_or_else(|| self.not_sent(None))
    }

    /// Logs a new version of a collection as output of this run. The version, or nothing where there is no server now: it is
    /// in the run's folder then, as are bytes that are in no file. Files stay where they are and must not change until they
    /// were sent.
    ///
    /// # Errors
    /// What the server refuses, or [`WandbError::File`] for a file that cannot be read.
    pub async fn spool_artifact(&self, draft: &ArtifactDraft) -> Result<Option<Artifact>, WandbError> {
        let logged = self.spool_artifact_as(draft, [&identifier(128), &identifier(128)]).await?;
        Ok(logged.map(|logged| logged.artifact))
    }

    /// As [`Run::log_artifact`], for a draft that was hashed before, in the entity and project of this run.
    ///
    /// # Errors
    /// As [`Run::log_artifact`].
    pub async fn log_prepared(&self, prepared: &PreparedArtifact) -> Result<LoggedArtifact, WandbError> {
        let logged = self.spool_prepared(prepared.clone(), [&identifier(128), &identifier(128)]).await?;
        logged.ok_or_else(|| self.not_sent(None))
    }

    /// Records that this run uses a version.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn use_artifact(&self, artifact: &Artifact) -> Result<(), WandbError> {
        let name = artifact.name().to_string();
        let record = UseArtifactRecord { id: artifact.id.clone(), kind: artifact.artifact_type.clone(), name };
        self.errand(Content::UseArtifact(record), None).await.map(|_| ())
    }

    /// Records that this run uses the version of this name, which is looked up when the run reaches the server.
    ///
    /// # Errors
    /// [`WandbError::NotFound`], or what else the server refuses.
    pub async fn use_version(&self, name: &QualifiedName) -> Result<(), WandbError> {
        let record = UseArtifactRecord { name: name.to_string(), ..UseArtifactRecord::default() };
        self.errand(Content::UseArtifact(record), None).await.map(|_| ())
    }

    /// Ends the run: `finished` for exit code 0, else `failed`, or `killed` when somebody asked W&B to stop it. Waits until
    /// everything is on the server, at most [`RunOptions::finish_limit`], and removes the run's folder then. A run without a
    /// server is ended on disk.
    ///
    /// # Errors
    /// [`WandbError::NotSent`] when a run that was meant for a server did not get there entirely; nothing is lost then.
    pub async fn finish(self, exit_code: i32) -> Result<(), WandbError> {
        let seconds = self.runtime().as_secs();
        let runtime = Item {
            nested_key: vec!["_wandb".to_owned(), "runtime".to_owned()],
            value_json: seconds.to_string(),
            ..Item::default()
        };
        let summary =
            SummaryRecord { update: vec![runtime, Item::new("_runtime", seconds.to_string())], remove: Vec::new() };
        let exit = ExitRecord { exit_code, runtime: i32::try_from(seconds).unwrap_or(i32::MAX) };
        let (spool, end) = (Arc::clone(&self.spool), vec![Content::Summary(summary), Content::Exit(exit)]);
        blocking("the end of the run", move || spool.close(end)).await??;
        let folder = self.spool.folder().clone();
        let not_sent = |source| WandbError::NotSent {
            run: self.home.path(),
            folder: folder.path().to_owned(),
            source: Some(source),
        };
        match self.link {
            Link::Nobody(None) => Ok(()),
            Link::Nobody(Some(reason)) => Err(not_sent(reason)),
            Link::Sending { written, task, .. } => {
                written.send_replace(Written::Finished);
                let what = format!("finishing run {}", self.home.path());
                let (seconds, stop) = (self.finish_limit.as_secs(), task.abort_handle());
                let Ok(ended) = tokio::time::timeout(self.finish_limit, task).await else {
                    // What it sent is confirmed on disk; the rest is there, too.
                    stop.abort();
                    return Err(not_sent(Box::new(WandbError::Timeout { what, seconds })));
                };
                let ended = ended.map_err(|_| WandbError::Interrupted { what })?;
                ended.map_err(|error| not_sent(Box::new(error)))
            }
        }
    }

    async fn spool_artifact_as(
        &self,
        draft: &ArtifactDraft,
        ids: [&str; 2],
    ) -> Result<Option<LoggedArtifact>, WandbError> {
        let Home { entity, project, .. } = &self.home;
        let prepared = match &self.link {
            Link::Sending { client, .. } => client.prepare(draft.clone(), entity, project).await?,
            Link::Nobody(_) => {
                let (draft, home, progress) = (draft.clone(), self.home.clone(), self.progress.clone());
                let what = format!("artifact {}", draft.name());
                blocking(&what, move || prepare_alone(draft, &home, &progress)).await??
            }
        };
        self.spool_prepared(prepared, ids).await
    }

    async fn spool_prepared(
        &self,
        prepared: PreparedArtifact,
        [client, sequence]: [&str; 2],
    ) -> Result<Option<LoggedArtifact>, WandbError> {
        let folder = self.spool.folder().clone();
        let ids = [self.home.run.clone(), client.to_owned(), sequence.to_owned()];
        let what = format!("artifact {}", prepared.collection());
        let recording = move || {
            let [run, client, sequence] = &ids;
            let record = artifact_record(&prepared, Ids { run, client, sequence }, &folder)?;
            Ok::<_, WandbError>((record, prepared))
        };
        let (record, prepared) = blocking(&what, recording).await??;
        self.errand(Content::Artifact(Box::new(record)), Some(prepared)).await
    }

    fn runtime(&self) -> Duration {
        self.before + self.started.elapsed()
    }

    /// Adds what every row has.
    fn dress(&self, mut row: Map<String, Value>, step: u64) -> Map<String, Value> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        row.insert("_step".to_owned(), step.into());
        row.insert("_runtime".to_owned(), self.runtime().as_secs_f64().into());
        row.insert("_timestamp".to_owned(), now.as_secs_f64().into());
        row
    }

    /// Appends records together.
    fn append(&self, contents: Vec<Content>) -> Result<(), WandbError> {
        let length = self.spool.append(contents)?;
        self.announce(length);
        Ok(())
    }

    /// Appends a record and waits for what it asks for, where somebody does that now.
    async fn errand(
        &self,
        content: Content,
        prepared: Option<PreparedArtifact>,
    ) -> Result<Option<LoggedArtifact>, WandbError> {
        let (length, answer) = self.spool.append_waiting(content, prepared)?;
        self.announce(length);
        // Whoever would answer gave up: it is left for later.
        answer.await.unwrap_or(Ok(None))
    }

    fn announce(&self, length: u64) {
        if let Link::Sending { written, .. } = &self.link {
            written.send_replace(Written::More(length));
        }
    }

    fn not_sent(&self, source: Option<Box<WandbError>>) -> WandbError {
        WandbError::NotSent { run: self.home.path(), folder: self.folder().to_owned(), source }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> WandbError {
    WandbError::File { action, path: path.to_owned(), source }
}
