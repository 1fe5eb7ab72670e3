//! A fit as a W&B run: config, summary, tables, the `pca` artifact, and its inputs as lineage.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::wandb::{AlertLevel, ArtifactDraft, ArtifactName, QualifiedName, Resume, Run, RunOptions, WandbError};

use super::error::AppError;
use super::fit_folder::Fit;
use super::fit_results::Results;
use super::lock::LOCK_FILE;
use super::report::{page_of, section};
use super::sample::Sampled;
use super::session::Session;
use super::sync::explain_wandb;

/// Where a run goes and what it is called.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LogOptions {
    /// Entity; the session's or the key's owner's otherwise.
    pub entity: Option<String>,
    /// Project; the session's otherwise.
    pub project: Option<String>,
    /// Group of the run.
    pub group: Option<String>,
    /// Display name; made from model and dataset otherwise.
    pub name: Option<String>,
    /// Notes.
    pub notes: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Id of the run, to log the same fit to the same run again; made up otherwise.
    pub id: Option<String>,
    /// Sweep that the run belongs to.
    pub sweep: Option<String>,
    /// Configuration besides the fit's own, which it overrides: the parameters of a sweep.
    pub config: Map<String, Value>,
    /// Leave out the `pca` artifact.
    pub without_artifact: bool,
    /// Send an alert when everything is logged.
    pub alert: bool,
}

/// A run that was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logged {
    /// `entity/project/id`.
    pub path: String,
    /// Where a person looks at it; nothing while it is on no server.
    pub url: Option<String>,
    /// Names of the artifact versions it made, in order; of their collections where the versions are not made yet.
    pub artifacts: Vec<String>,
    /// What is left to be sent.
    pub unsent: Option<Unsent>,
}

/// A run that is in its folder and not, or not entirely, on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsent {
    /// The folder.
    pub folder: PathBuf,
    /// What stood in the way; nothing when the run was meant to be offline.
    pub reason: Option<String>,
}

/// Logs a fit that was written to `folder`.
///
/// # Errors
/// [`AppError::Wandb`]; the run is marked failed then, and the fit on disk is as it was.
pub async fn log_fit(
    session: &Session,
    (fit, folder): (&Fit, &Path),
    options: &LogOptions,
) -> Result<Logged, AppError> {
    let ready = Ready::of(fit, folder)?;
    let run = start(session, fit, (options, "pca")).await?;
    ready.log(session, run, options).await
}

/// Logs a fit to a run that was begun for it, whose configuration is completed, and ends the run.
///
/// # Errors
/// As [`log_fit`].
pub(super) async fn log_fit_to(
    session: &Session,
    run: Run,
    (fit, folder): (&Fit, &Path),
    options: &LogOptions,
) -> Result<Logged, AppError> {
    let ready = match Ready::of(fit, folder) {
        Ok(ready) => ready,
        Err(error) => {
            abandon(run, FAILED).await;
            return Err(error);
        }
    };
    let mut config = config(fit);
    config.extend(options.config.clone());
    if let Err(error) = run.set_config(&config).await {
        return finish(session, run, Err(error)).await;
    }
    ready.log(session, run, options).await
}

/// Everything that a run of a fit will hold, made before it is logged, so that what cannot be made starts no run.
struct Ready<'f> {
    fit: &'f Fit,
    results: Results,
    page: String,
    draft: ArtifactDraft,
    used: Vec<QualifiedName>,
}

impl<'f> Ready<'f> {
    fn of(fit: &'f Fit, folder: &Path) -> Result<Self, AppError> {
        let results = Results::of(fit)?;
        let page = page_of(fit)?;
        let draft = pca_draft(fit, folder, &page).map_err(AppError::wandb("describe the pca artifact"))?;
        Ok(Self { fit, results, page, draft, used: inputs(fit)? })
    }

    async fn log(self, session: &Session, run: Run, options: &LogOptions) -> Result<Logged, AppError> {
        let Self { fit, results, page, draft, used } = self;
        let work = async {
            for name in &used {
                run.use_version(name).await?;
            }
            run.check_stop()?;
            run.log(results.store(&run, &page).await?).await?;
            let mut artifacts = Vec::new();
            if !options.without_artifact {
                artifacts.push(spool(&run, &draft).await?);
            }
            run.set_summary(summary(fit)).await?;
            run.check_stop()?;
            if options.alert {
                let text = format!("{} layers of {} seeds", fit.record.totals.layers, fit.record.finetuned.len());
                run.alert(&format!("{} is fitted", section(fit).name()), &text, AlertLevel::Info).await?;
            }
            Ok(artifacts)
        };
        let outcome = work.await;
        finish(session, run, outcome).await
    }
}

/// Logs models drawn from a fit as artifacts of type `checkpoint`, one collection for each model and dataset.
///
/// # Errors
/// As [`log_fit`].
pub async fn log_samples(
    session: &Session,
    (fit, models): (&Fit, &[Sampled]),
    options: &LogOptions,
) -> Result<Logged, AppError> {
    let drafts = models.iter().map(|model| sample_draft(fit, model)).collect::<Result<Vec<_>, _>>();
    let drafts = drafts.map_err(AppError::wandb("describe the sampled models"))?;
    let used = inputs(fit)?;
    let run = start(session, fit, (options, "sample")).await?;
    let work = async {
        for name in &used {
            run.use_version(name).await?;
        }
        let mut names = Vec::with_capacity(drafts.len());
        for (draft, model) in drafts.iter().zip(models) {
            run.check_stop()?;
            names.push(spool(&run, draft).await?);
            let row = json!({
                "sample/number": model.number,
                "sample/distance_to_mean": model.distance_to_mean,
                "sample/distance_to_nearest": model.distance_to_nearest,
            });
            run.log(object(row)).await?;
        }
        Ok(names)
    };
    let outcome = work.await;
    finish(session, run, outcome).await
}

/// Names of the artifact versions that the fit was made from.
fn inputs(fit: &Fit) -> Result<Vec<QualifiedName>, AppError> {
    let records = std::iter::once(&fit.record.pretrained).chain(&fit.record.finetuned);
    let qualified = |name: &String| ArtifactName::parse(name)?.with_defaults(None, None);
    let names = records.filter_map(|record| record.resolved.as_ref()).map(qualified).collect::<Result<_, _>>();
    names.map_err(AppError::wandb("read the fit's inputs"))
}

/// Logs an artifact; the name of its version, or of its collection where the version is still to be made.
async fn spool(run: &Run, draft: &ArtifactDraft) -> Result<String, WandbError> {
    let logged = run.spool_artifact(draft).await?;
    Ok(logged.map_or_else(|| draft.name().to_owned(), |artifact| artifact.name().to_string()))
}

async fn start(session: &Session, fit: &Fit, (options, job): (&LogOptions, &str)) -> Result<Run, AppError> {
    let own = inferred_home(fit);
    let project = options.project.clone().or(session.project.clone()).or(own.as_ref().map(|(_, p)| p.clone()));
    let entity = options.entity.clone().or(session.entity.clone()).or(own.map(|(entity, _)| entity));
    let project = project.unwrap_or_else(|| "uncategorized".to_owned());
    let record = &fit.record;
    let name = options.name.clone().unwrap_or_else(|| match &record.dataset {
        Some(dataset) => format!("{job} {} {dataset}", record.model),
        None => format!("{job} {}", record.model),
    });
    let origin = Origin { entity, project, name, program: record.program.clone(), config: config(fit) };
    begin(session, origin, (options, job)).await
}

/// What a run is told of where it comes from.
pub(super) struct Origin {
    pub(super) entity: Option<String>,
    pub(super) project: String,
    pub(super) name: String,
    pub(super) program: String,
    pub(super) config: Map<String, Value>,
}

/// Starts a run of this job, or goes on with the one whose id is given.
pub(super) async fn begin(
    session: &Session,
    origin: Origin,
    (options, job): (&LogOptions, &str),
) -> Result<Run, AppError> {
    let Origin { entity, project, name, program, mut config } = origin;
    config.extend(options.config.clone());
    let run = RunOptions::new(project.clone())
        .with_entity(entity)
        .with_display_name(Some(name))
        .with_id(options.id.clone())
        .with_resume(if options.id.is_some() { Resume::Allow } else { Resume::Unasked })
        .with_origin(Some(program), None)
        .with_sweep(options.sweep.clone())
        .with_group(options.group.clone())
        .with_job_type(Some(job.to_owned()))
        .with_tags(options.tags.clone())
        .with_notes(options.notes.clone())
        .with_config(config);
    session.start_run(run).await.map_err(AppError::wandb(format!("start a run in project {project}")))
}

/// Entity and project of the fine-tuned checkpoints: results live beside them unless told otherwise.
fn inferred_home(fit: &Fit) -> Option<(String, String)> {
    let name = fit.record.finetuned.first()?.resolved.as_deref()?;
    let mut parts = name.splitn(3, '/');
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}

/// The official client's exit code of a run that was stopped.
pub(super) const STOPPED: i32 = 255;
/// That of a run whose work went wrong.
pub(super) const FAILED: i32 = 1;

/// Ends the run as its work ended.
pub(super) async fn finish(
    session: &Session,
    run: Run,
    outcome: Result<Vec<String>, WandbError>,
) -> Result<Logged, AppError> {
    let path = run.path();
    let url = run.is_online().then(|| session.run_url([run.entity(), run.project(), run.id()]));
    let offline = (!run.is_online()).then(|| Unsent { folder: run.folder().to_owned(), reason: None });
    match outcome {
        Ok(artifacts) => match run.finish(0).await {
            Ok(()) => Ok(Logged { path, url, artifacts, unsent: offline }),
            Err(WandbError::NotSent { folder, source: Some(source), .. }) => {
                let reason = Some(explain_wandb(&source));
                Ok(Logged { path, url, artifacts, unsent: Some(Unsent { folder, reason }) })
            }
            Err(error) => Err(AppError::wandb(format!("finish run {path}"))(error)),
        },
        Err(error) => {
            abandon(run, if matches!(error, WandbError::Stopped { .. }) { STOPPED } else { FAILED }).await;
            Err(AppError::wandb(format!("log to run {path}"))(error))
        }
    }
}

/// Ends a run whose work went wrong or was stopped. That it cannot be told is no further failure.
pub(super) async fn abandon(run: Run, exit_code: i32) {
    let path = run.path();
    if let Err(second) = run.finish(exit_code).await {
        tracing::warn!("run {path} could not be marked failed: {second}");
    }
}

fn pca_draft(fit: &Fit, folder: &Path, page: &str) -> Result<ArtifactDraft, WandbError> {
    let name = collection_name(fit, "pca");
    let mut draft = ArtifactDraft::new(name, "pca")?.with_description("PCA of task vectors, by layer");
    for (file, path) in Fit::files(folder) {
        draft = draft.with_file(file, path)?;
    }
    if !fit.lock.artifacts.is_empty() {
        draft = draft.with_file(LOCK_FILE, folder.join(LOCK_FILE))?;
    }
    draft = draft.with_file("report.html", page.as_bytes().to_vec())?;
    let mut metadata = config(fit);
    metadata.extend(summary(fit));
    draft.with_metadata(metadata)
}

fn sample_draft(fit: &Fit, model: &Sampled) -> Result<ArtifactDraft, WandbError> {
    let mut draft = ArtifactDraft::new(collection_name(fit, "sample"), "checkpoint")?;
    for path in &model.files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        draft = draft.with_file(name, path.as_path())?;
    }
    let draft = draft.with_alias(recipe_alias(&model.recipe))?;
    let mut metadata = model.recipe.clone();
    metadata.insert("model_name".to_owned(), json!(fit.record.model));
    metadata.insert("distance_to_mean".to_owned(), json!(model.distance_to_mean));
    metadata.insert("distance_to_nearest".to_owned(), json!(model.distance_to_nearest));
    metadata.insert("weights".to_owned(), Value::Object(model.weights.clone()));
    draft.with_metadata(metadata)
}

/// The recipe in a word, by which the model is found again: `variance-7-0` is number 0 of random seed 7.
fn recipe_alias(recipe: &Map<String, Value>) -> String {
    let part =
        |name: &str| recipe.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let parts = match part("scale").as_deref() {
        Some("mean") => vec![part("scale")],
        _ => vec![part("scale"), part("random_seed"), part("number")],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}

/// `<model>_<dataset>_<suffix>` with only what W&B allows in a collection's name.
fn collection_name(fit: &Fit, suffix: &str) -> String {
    /// The longest name that W&B takes.
    const LONGEST: usize = 128;
    let parts = [Some(fit.record.model.as_str()), fit.record.dataset.as_deref(), Some(suffix)];
    let name = parts.into_iter().flatten().collect::<Vec<_>>().join("_");
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    let name: Vec<char> = name.chars().map(allowed).collect();
    name[name.len().saturating_sub(LONGEST)..].iter().collect()
}

fn config(fit: &Fit) -> Map<String, Value> {
    let record = &fit.record;
    let version = |input: &super::fit_record::InputRecord| json!(input.resolved.as_ref().unwrap_or(&input.input));
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

/// About twenty numbers: W&B allows few keys in a project, so single layers are in the tables.
fn summary(fit: &Fit) -> Map<String, Value> {
    let totals = &fit.record.totals;
    let mut summary = object(json!({
        "pca/layers_fitted": totals.layers,
        "pca/parameters": totals.parameters,
        "pca/degenerate_layers": totals.degenerate_layers,
        "pca/degenerate_parameters": totals.degenerate_parameters,
        "pca/total_variance": totals.total_variance,
        "pca/mean_squared_norm": totals.mean_squared_norm,
        "pca/seeds": fit.record.finetuned.len(),
        "pca/skipped_tensors": fit.record.skipped.len(),
        "pca/inputs_verified": fit.record.verified().name(),
    }));
    if let Some(whole) = fit.whole_model() {
        summary.extend(object(json!({
            "pca/whole_model/first_ratio": whole.spectrum.ratios.as_ref().and_then(|ratios| ratios.first().copied()),
            "pca/whole_model/effective_rank": whole.spectrum.effective_rank,
            "pca/whole_model/participation_ratio": whole.spectrum.participation_ratio,
            "pca/whole_model/stable_rank": whole.spectrum.stable_rank,
            "pca/whole_model/spectral_gap": whole.spectrum.spectral_gap,
            "pca/whole_model/components_90": whole.spectrum.components_90,
            "pca/whole_model/components_95": whole.spectrum.components_95,
            "pca/whole_model/components_99": whole.spectrum.components_99,
            "pca/whole_model/mean_cosine": whole.mean_cosine,
        })));
    }
    let most = fit.layers.iter().max_by(|a, b| a.pca.total_variance().total_cmp(&b.pca.total_variance()));
    if let Some(layer) = most {
        summary.insert("pca/top_layer".to_owned(), json!(layer.layer.name));
        summary.insert("pca/top_layer_variance".to_owned(), json!(layer.pca.total_variance()));
    }
    summary
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_aliases() {
        let alias = |recipe: Value| recipe_alias(&object(recipe));
        assert_eq!(alias(json!({ "scale": "variance", "random_seed": 7, "number": 0 })), "variance-7-0");
        assert_eq!(alias(json!({ "scale": "mean", "random_seed": 7, "number": 0 })), "mean");
    }
}
