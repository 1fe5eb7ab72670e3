//! Runs: start, log, finish. A [`Run`] is a handle; rows go out in the background, in order, and `finish` waits for them.
//! Network I/O through the client.
//!
//! A handle dropped without `finish` lets the background task tell the server that the run failed, for a few seconds and
//! only while the runtime lives; nothing ever waits for it.

mod files;
mod options;
mod stream;
mod table;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::Client;
use super::artifact::Artifact;
use super::artifact::draft::ArtifactDraft;
use super::artifact::prepare::PreparedArtifact;
use super::artifact::upload::{Author, LoggedArtifact};
use super::error::WandbError;
use super::graphql::execute;
use super::operations::{Bucket, UpsertBucket, UpsertBucketInput, UseArtifact, UseArtifactInput};
use crate::table::Table;

pub use options::RunOptions;
use options::{identifier, wrap_config};
use stream::{Command, Home, LINE_BYTES, Stream};

/// A run under way.
#[derive(Debug)]
pub struct Run {
    client: Client,
    home: Arc<Home>,
    display_name: Option<String>,
    started: Instant,
    commands: mpsc::Sender<Command>,
    state: Mutex<State>,
}

/// What the next row and the summary depend on.
#[derive(Debug, Default)]
struct State {
    step: u64,
    summary: Map<String, Value>,
}

impl Client {
    /// Starts a run, or goes on with the one whose id is given.
    ///
    /// # Errors
    /// [`WandbError::Option`] for options that W&B refuses, or what the request met.
    pub async fn start_run(&self, options: RunOptions) -> Result<Run, WandbError> {
        options.check()?;
        let id = options.id.clone().unwrap_or_else(|| identifier(8));
        let what = format!("run {}/{id}", options.project);
        let input = UpsertBucketInput {
            name: id,
            model_name: options.project.clone(),
            entity_name: options.entity.clone(),
            group_name: options.group.clone(),
            display_name: options.display_name.clone(),
            notes: options.notes.clone(),
            config: Some(wrap_config(&options.config).to_string()),
            host: options.host.clone(),
            job_program: options.program.clone(),
            job_type: options.job_type.clone(),
            sweep: options.sweep.clone(),
            tags: (!options.tags.is_empty()).then(|| options.tags.clone()),
        };
        let data = execute(self.transport(), &self.budget(), &what, &UpsertBucket { input }).await?;
        let bucket = data.upsert_bucket.and_then(|payload| payload.bucket);
        let malformed = |reason: &str| WandbError::Malformed { what: what.clone(), reason: reason.to_owned() };
        let Bucket { name, display_name, project, history_line_count } =
            bucket.ok_or_else(|| malformed("it is empty"))?;
        let project = project.ok_or_else(|| malformed("it names no project"))?;
        let home = Arc::new(Home { entity: project.entity.name, project: project.name, run: name });
        let lines = history_line_count.unwrap_or(0);
        let commands = Stream::spawn(self.clone(), Arc::clone(&home), lines);
        let state = Mutex::new(State { step: lines, summary: Map::new() });
        Ok(Run { client: self.clone(), home, display_name, started: Instant::now(), commands, state })
    }
}

impl Run {
    /// The entity that the server put it under.
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

    /// Logs one row of history. `_step`, `_runtime` and `_timestamp` are added; the values become the summary's.
    ///
    /// The row is queued when this returns, and on the server at the latest when [`Run::finish`] returns.
    ///
    /// # Errors
    /// [`WandbError::RunFinished`] when the background task is gone, [`WandbError::Option`] for a row that is too long.
    pub async fn log(&self, row: Map<String, Value>) -> Result<(), WandbError> {
        let size = Value::Object(row.clone()).to_string().len();
        if size > LINE_BYTES {
            let reason = format!("{size} bytes where W&B takes {LINE_BYTES}");
            return Err(WandbError::Option { option: "row", reason });
        }
        let (row, summary) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let row = self.dress(row, &mut state);
            (Value::Object(row).to_string(), Value::Object(state.summary.clone()).to_string())
        };
        self.send(Command::Row { row, summary }).await
    }

    /// Sets values of the summary without a row.
    ///
    /// # Errors
    /// As [`Run::log`].
    pub async fn set_summary(&self, values: Map<String, Value>) -> Result<(), WandbError> {
        let summary = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.summary.extend(values.into_iter().filter(|(_, value)| !value.is_null()));
            Value::Object(state.summary.clone()).to_string()
        };
        self.send(Command::Summary(summary)).await
    }

    /// Replaces the configuration.
    ///
    /// # Errors
    /// What the request met.
    pub async fn set_config(&self, config: &Map<String, Value>) -> Result<(), WandbError> {
        let input = UpsertBucketInput {
            name: self.home.run.clone(),
            model_name: self.home.project.clone(),
            entity_name: Some(self.home.entity.clone()),
            config: Some(wrap_config(config).to_string()),
            ..UpsertBucketInput::default()
        };
        let what = format!("the configuration of run {}", self.path());
        execute(self.client.transport(), &self.client.budget(), &what, &UpsertBucket { input }).await.map(|_| ())
    }

    /// Logs a table under `key`: a run file, a `run_table` artifact, and the row that joins them, as the official SDK
    /// does, which reads it back as `wandb.Table`.
    ///
    /// # Errors
    /// What the uploads met.
    pub async fn log_table(&self, key: &str, table: &Table) -> Result<(), WandbError> {
        let value = self.upload_table(key, table).await?;
        self.log(Map::from_iter([(key.to_owned(), value)])).await
    }

    /// Logs a new version of a collection as output of this run. The version with the same content is answered where there
    /// is one.
    ///
    /// # Errors
    /// What the upload met.
    pub async fn log_artifact(&self, draft: &ArtifactDraft) -> Result<Artifact, WandbError> {
        self.log_artifact_as(draft, [&identifier(128), &identifier(128)]).await
    }

    /// As [`Run::log_artifact`], for a draft that was hashed before, in the entity and project of this run.
    ///
    /// # Errors
    /// What the upload met.
    pub async fn log_prepared(&self, prepared: &PreparedArtifact) -> Result<LoggedArtifact, WandbError> {
        self.log_prepared_as(prepared, [&identifier(128), &identifier(128)]).await
    }

    /// Records that this run uses a version.
    ///
    /// # Errors
    /// What the request met.
    pub async fn use_artifact(&self, artifact: &Artifact) -> Result<(), WandbError> {
        let Home { entity, project, run } = self.home.as_ref();
        let input =
            UseArtifactInput { entity_name: entity, project_name: project, run_name: run, artifact_id: &artifact.id };
        let what = format!("using artifact {}", artifact.name());
        execute(self.client.transport(), &self.client.budget(), &what, &UseArtifact { input }).await.map(|_| ())
    }

    /// Sends everything that is queued and ends the run: `finished` for exit code 0, else `failed`.
    ///
    /// # Errors
    /// What the last requests met.
    pub async fn finish(self, exit_code: i32) -> Result<(), WandbError> {
        let summary = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let seconds = self.started.elapsed().as_secs();
            state.summary.insert("_wandb".to_owned(), serde_json::json!({ "runtime": seconds }));
            state.summary.insert("_runtime".to_owned(), seconds.into());
            Value::Object(state.summary.clone()).to_string()
        };
        self.upload_file("wandb-summary.json", summary.clone().into_bytes()).await?;
        self.send(Command::Summary(summary)).await?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.send(Command::Finish { exit_code, reply }).await?;
        let gone = |_| WandbError::Interrupted { what: format!("finishing run {}", self.path()) };
        answer.await.map_err(gone)?
    }

    async fn log_artifact_as(&self, draft: &ArtifactDraft, ids: [&str; 2]) -> Result<Artifact, WandbError> {
        let prepared = self.client.prepare(draft.clone(), &self.home.entity, &self.home.project).await?;
        self.log_prepared_as(&prepared, ids).await.map(|logged| logged.artifact)
    }

    async fn log_prepared_as(
        &self,
        prepared: &PreparedArtifact,
        [client_id, sequence_client_id]: [&str; 2],
    ) -> Result<LoggedArtifact, WandbError> {
        let step = self.state.lock().unwrap_or_else(PoisonError::into_inner).step;
        let Home { entity, project, run } = self.home.as_ref();
        let author = Author { entity, project, run, step: Some(step), client_id, sequence_client_id };
        self.client.upload(author, prepared).await
    }

    /// Adds what every row has and takes its values into the summary.
    fn dress(&self, mut row: Map<String, Value>, state: &mut State) -> Map<String, Value> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        row.insert("_step".to_owned(), state.step.into());
        row.insert("_runtime".to_owned(), self.started.elapsed().as_secs_f64().into());
        row.insert("_timestamp".to_owned(), now.as_secs_f64().into());
        state.step += 1;
        let kept = row.iter().filter(|(_, value)| !value.is_null());
        state.summary.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
        row
    }

    async fn send(&self, command: Command) -> Result<(), WandbError> {
        let over = |_| WandbError::RunFinished { run: self.path() };
        self.commands.send(command).await.map_err(over)
    }
}
