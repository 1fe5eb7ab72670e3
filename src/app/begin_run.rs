//! The run of a fit, begun before the fit is made or after: where it goes, what it is called and configured with; and how it
//! ends when there is no fit.

use serde_json::{Map, Value, json};

use crate::wandb::{AlertLevel, ArtifactName, ConsoleStream, Resume, Run, RunOptions, is_registry};

use super::error::{AppError, FailureKind};
use super::fit::FitOptions;
use super::fit_folder::Fit;
use super::fit_record::{FitRecord, InputRecord};
use super::input::Input;
use super::log_fit::{LogOptions, object};
use super::session::Session;
use super::study::explain;

/// This program, as its runs and fits say.
pub(super) const PROGRAM: &str = concat!("wandb-pca ", env!("CARGO_PKG_VERSION"));

/// What a run is about.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// Its job type.
    pub(super) job: &'static str,
    /// Its display name, unless told otherwise.
    pub(super) name: String,
    /// Entity and project, as far as they are known, unless told otherwise.
    pub(super) home: (Option<String>, Option<String>),
    /// Its configuration, which the options' overrides.
    pub(super) config: Map<String, Value>,
}

impl Subject {
    /// A job on a fit that was made.
    pub(super) fn of(job: &'static str, fit: &Fit) -> Self {
        let name = format!("{job} {}", name_of(&fit.record));
        Self { job, name, home: home_of(fit.record.finetuned.first()), config: config(fit) }
    }

    /// A fit that is still to be made.
    pub(super) fn planned(options: &FitOptions) -> Self {
        let (model, dataset) = options.names();
        let config = object(json!({
            "model": model,
            "dataset": dataset,
            "seeds": options.finetuned.iter().filter_map(|seeded| seeded.seed).collect::<Vec<_>>(),
            "pretrained": options.pretrained.to_string(),
            "finetuned": options.finetuned.iter().map(|seeded| seeded.input.to_string()).collect::<Vec<_>>(),
            "layers": options.layer_globs,
            "program": PROGRAM,
        }));
        let home = match options.finetuned.first().map(|seeded| &seeded.input) {
            Some(Input::Artifact(name)) => home_of_name(name),
            Some(Input::File(_)) | None => (None, None),
        };
        Self { job: "pca", name: format!("pca {}", named(&model, dataset.as_deref())), home, config }
    }

    /// The run of it.
    pub(super) fn run_options(&self, session: &Session, options: &LogOptions) -> RunOptions {
        let (entity, project) = self.home.clone();
        let project = options.project.clone().or(session.project.clone()).or(project);
        let entity = options.entity.clone().or(session.entity.clone()).or(entity);
        let mut config = self.config.clone();
        config.extend(options.config.clone());
        RunOptions::new(project.unwrap_or_else(|| "uncategorized".to_owned()))
            .with_entity(entity)
            .with_display_name(Some(options.name.clone().unwrap_or_else(|| self.name.clone())))
            .with_id(options.id.clone())
            .with_resume(if options.id.is_some() { Resume::Allow } else { Resume::Unasked })
            .with_origin(Some(PROGRAM.to_owned()), None)
            .with_sweep(options.sweep.clone())
            .with_group(options.group.clone())
            .with_job_type(Some(self.job.to_owned()))
            .with_tags(options.tags.clone())
            .with_notes(options.notes.clone())
            .with_config(config)
    }
}

/// `model dataset`, or the model alone.
pub(super) fn name_of(record: &FitRecord) -> String {
    named(&record.model, record.dataset.as_deref())
}

fn named(model: &str, dataset: Option<&str>) -> String {
    dataset.map_or_else(|| model.to_owned(), |dataset| format!("{model} {dataset}"))
}

/// Entity and project of a fine-tuned checkpoint: results live beside them unless told otherwise.
pub(super) fn home_of(input: Option<&InputRecord>) -> (Option<String>, Option<String>) {
    let resolved = input.and_then(|input| input.resolved.as_deref());
    let mut parts = resolved.into_iter().flat_map(|name| name.splitn(3, '/')).map(str::to_owned);
    (parts.next(), parts.next())
}

/// The same by its name; a registry is no place for runs.
fn home_of_name(name: &ArtifactName) -> (Option<String>, Option<String>) {
    let owned = |part: Option<&str>| part.map(str::to_owned);
    if name.project().is_some_and(is_registry) { (None, None) } else { (owned(name.entity()), owned(name.project())) }
}

/// The configuration of a fit's run.
pub(super) fn config(fit: &Fit) -> Map<String, Value> {
    let record = &fit.record;
    let version = |input: &InputRecord| json!(input.resolved.as_ref().unwrap_or(&input.input));
    let seeds: Vec<Value> =
        record.finetuned.iter().map(|input| input.seed.map_or_else(|| version(input), Value::from)).collect();
    object(json!({
        "model": record.model,
        "dataset": record.dataset,
        "seeds": seeds,
        "pretrained": version(&record.pretrained),
        "finetuned": record.finetuned.iter().map(version).collect::<Vec<_>>(),
        "layers": record.layer_globs,
        "inputs_verified": record.verified().name(),
        "program": record.program,
    }))
}

/// Starts the run of a subject, or goes on with the one whose id is given.
///
/// # Errors
/// [`AppError::Wandb`].
pub(super) async fn begin(session: &Session, options: &LogOptions, subject: &Subject) -> Result<Run, AppError> {
    let run = subject.run_options(session, options);
    let project = run.project.clone();
    session.start_run(run).await.map_err(AppError::wandb(format!("start a run in project {project}")))
}

/// Ends a run whose work failed: the run says why, people are told where they want to be, and the error comes back.
pub(super) async fn abandon(run: Run, error: AppError, options: &LogOptions) -> AppError {
    let name = run.display_name().unwrap_or(run.id()).to_owned();
    let stopped = error.kind() == FailureKind::Stopped;
    let text = explain(&error);
    let last_words = async {
        run.console(ConsoleStream::Error, &text)?;
        if options.alert && !stopped {
            run.alert(&format!("{name} failed"), &text, AlertLevel::Error).await?;
        }
        run.finish(if stopped { Run::STOPPED } else { 1 }).await
    };
    if let Err(second) = last_words.await {
        tracing::warn!("run {name} could not be marked failed: {second}");
    }
    error
}
