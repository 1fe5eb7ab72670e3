//! What a log asks for besides lines: files of the run, artifacts, inputs, alerts. Each may be done again without harm.
//! Network and file I/O.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::Client;
use super::super::artifact::draft::Source;
use super::super::artifact::manifest::check_path;
use super::super::artifact::name::ArtifactName;
use super::super::artifact::prepare::PreparedArtifact;
use super::super::artifact::send::Slot;
use super::super::artifact::upload::{Author, LoggedArtifact};
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{CreateRunFiles, NotifyAlert, NotifyAlertInput, UseArtifact, UseArtifactInput};
use super::assembly::Errand;
use super::folder::RunFolder;
use super::home::Home;
use super::record::{AlertRecord, ArtifactRecord, FilesItem, UseArtifactRecord};

/// Files in one request for addresses.
const BATCH: usize = 100;

/// What an errand needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) home: Arc<Home>,
    pub(crate) folder: RunFolder,
}

/// What came of an errand.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The version that was logged.
    pub(crate) artifact: Option<LoggedArtifact>,
    /// Files of the run that were uploaded.
    pub(crate) uploaded: Vec<String>,
}

impl Context {
    /// Runs an errand; an artifact that is not prepared is prepared from its record.
    pub(crate) async fn perform(
        self,
        errand: Errand,
        prepared: Option<PreparedArtifact>,
    ) -> Result<Outcome, WandbError> {
        match errand {
            Errand::Files(items) => {
                let uploaded = self.upload(self.present(&items)?).await?;
                Ok(Outcome { uploaded, artifact: None })
            }
            Errand::Artifact(record, step) => {
                let logged = self.log_artifact(&record, step, prepared).await?;
                if record.use_after_commit {
                    self.make_input(&logged.artifact.id, &record.name).await?;
                }
                Ok(Outcome { artifact: Some(logged), uploaded: Vec::new() })
            }
            Errand::Use(record) => self.use_artifact(&record).await.map(|()| Outcome::default()),
            Errand::Alert(record) => self.alert(&record).await.map(|()| Outcome::default()),
        }
    }

    /// Uploads files of the run, each a path and its bytes; the paths.
    pub(crate) async fn upload(&self, files: Vec<(String, Source)>) -> Result<Vec<String>, WandbError> {
        let mut uploaded = Vec::with_capacity(files.len());
        for batch in files.chunks(BATCH) {
            uploaded.extend(self.upload_batch(batch).await?);
        }
        Ok(uploaded)
    }

    async fn upload_batch(&self, files: &[(String, Source)]) -> Result<Vec<String>, WandbError> {
        let Home { entity, project, run } = self.home.as_ref();
        let what = format!("the files of run {}", self.home.path());
        let budget = self.client.budget();
        let variables =
            CreateRunFiles { entity, project, run, files: files.iter().map(|(path, _)| path.as_str()).collect() };
        let data = execute(self.client.transport(), &budget, &what, &variables).await?;
        let malformed = |reason: String| WandbError::Malformed { what: what.clone(), reason };
        let payload = data.create_run_files.ok_or_else(|| malformed("it is empty".to_owned()))?;
        let (budget, headers) = (&budget, &payload.upload_headers);
        let send = |(path, source): &(String, Source)| {
            let file = payload.files.iter().find(|file| file.name == *path);
            let url = file.and_then(|file| file.upload_url.clone());
            let url = url.ok_or_else(|| malformed(format!("no address for `{path}`")));
            let (path, source) = (path.clone(), source.clone());
            let what = format!("file {path} of run {}", self.home.path());
            async move {
                let slot = Slot { url: &url?, headers, what: &what };
                self.client.send_source(budget, slot, source).await?;
                Ok(path)
            }
        };
        stream::iter(files.iter().map(send)).buffer_unordered(self.client.concurrency()).try_collect().await
    }

    /// The files that are there: a log may name files that were never written, and the official client passes over them.
    fn present(&self, items: &[FilesItem]) -> Result<Vec<(String, Source)>, WandbError> {
        let folder = self.folder.files();
        let mut present = Vec::new();
        for item in items {
            let path = item.path.as_str();
            let unsafe_path =
                |reason| WandbError::EntryPath { artifact: self.home.path(), path: path.to_owned(), reason };
            check_path(path).map_err(unsafe_path)?;
            let file = folder.join(path);
            if file.is_file() {
                present.push((path.to_owned(), Source::File(file)));
            } else {
                self.note(&format!("{} is not there and was not uploaded", file.display()));
            }
        }
        Ok(present)
    }

    async fn log_artifact(
        &self,
        record: &ArtifactRecord,
        step: Option<u64>,
        prepared: Option<PreparedArtifact>,
    ) -> Result<LoggedArtifact, WandbError> {
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => self.client.prepare_record(record, &self.home, &self.folder).await?,
        };
        let Home { entity, project, run } = self.home.as_ref();
        let (client_id, sequence_client_id) = (record.client_id.as_str(), record.sequence_client_id.as_str());
        let author = Author { entity, project, run, step, client_id, sequence_client_id };
        self.client.upload(author, &prepared).await
    }

    async fn use_artifact(&self, record: &UseArtifactRecord) -> Result<(), WandbError> {
        if !record.id.is_empty() {
            return self.make_input(&record.id, &record.name).await;
        }
        let name = ArtifactName::parse(&record.name)?;
        let name = name.with_defaults(Some(&self.home.entity), Some(&self.home.project))?;
        let artifact = self.client.artifact(&name).await?;
        self.make_input(&artifact.id, &record.name).await
    }

    async fn make_input(&self, id: &str, name: &str) -> Result<(), WandbError> {
        let Home { entity, project, run } = self.home.as_ref();
        let input = UseArtifactInput { entity_name: entity, project_name: project, run_name: run, artifact_id: id };
        let what = format!("using artifact {name}");
        execute(self.client.transport(), &self.client.budget(), &what, &UseArtifact { input }).await.map(|_| ())
    }

    async fn alert(&self, record: &AlertRecord) -> Result<(), WandbError> {
        let Home { entity, project, run } = self.home.as_ref();
        let severity = match record.level.as_str() {
            level @ ("INFO" | "WARN" | "ERROR") => level,
            _ => "INFO",
        };
        let input = NotifyAlertInput {
            entity_name: entity,
            project_name: project,
            run_name: run,
            title: &record.title,
            text: &record.text,
            severity,
            wait_duration: record.wait_duration,
        };
        let what = format!("the alert `{}`", record.title);
        execute(self.client.transport(), &self.client.budget(), &what, &NotifyAlert { input }).await.map(|_| ())
    }

    fn note(&self, text: &str) {
        self.client.transport().progress.note(text);
    }
}
