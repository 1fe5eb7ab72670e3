//! A fit as a W&B run: config, summary, tables, the `pca` artifact, and its inputs as lineage.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::wandb::{AlertLevel, Artifact, ArtifactDraft, ArtifactName, QualifiedName, Run, WandbError};

use super::begin_run::{Subject, abandon, begin, config, name_of};
use super::error::AppError;
use super::fit_folder::Fit;
use super::fit_results::Results;
use super::fit_source::OpenedFit;
use super::lock::LOCK_FILE;
use super::report::page_of;
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
    /// Send an alert when everything is logged, or when the fit fails.
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
    let run = begin(session, options, &Subject::of("pca", fit)).await?;
    log_into(session, run, (fit, folder), options).await
}

/// Logs a fit into a run that was begun for it, and ends the run.
///
/// # Errors
/// As [`log_fit`].
pub(super) async fn log_into(
    session: &Session,
    run: Run,
    (fit, folder): (&Fit, &Path),
    options: &LogOptions,
) -> Result<Logged, AppError> {
    let material = || {
        let (results, page, summary) = (Results::of(fit)?, page_of(fit)?, summary(fit)?);
        let draft = pca_draft((fit, &summary), folder, &page).map_err(AppError::wandb("describe the pca artifact"))?;
        Ok((results, page, summary, draft, inputs(fit)?))
    };
    let (results, page, summary, draft, used) = match material() {
        Ok(material) => material,
        Err(error) => return Err(abandon(run, error, options).await),
    };
    let mut own = config(fit);
    own.extend(options.config.clone());
    let work = async {
        run.set_config(&own).await?;
        for name in &used {
            run.use_version(name).await?;
        }
        run.check_stop()?;
        run.log(results.store(&run, &page).await?).await?;
        let mut artifacts = Vec::new();
        if !options.without_artifact {
            artifacts.push(spool(&run, &draft).await?);
        }
        run.set_summary(summary).await?;
        run.check_stop()?;
        if options.alert {
            let text = format!("{} layers of {} seeds", fit.record.totals.layers, fit.record.finetuned.len());
            run.alert(&format!("{} is fitted", name_of(&fit.record)), &text, AlertLevel::Info).await?;
        }
        Ok(artifacts)
    };
    let outcome = work.await;
    finish(session, run, outcome).await
}

/// Logs models drawn from a fit as artifacts of type `checkpoint`, one collection for each model and dataset. The run has
/// used the fit, where that is an artifact, and its inputs.
///
/// # Errors
/// As [`log_fit`].
pub async fn log_samples(
    session: &Session,
    (opened, models): (&OpenedFit, &[Sampled]),
    options: &LogOptions,
) -> Result<Logged, AppError> {
    let fit = &opened.fit;
    let drafts = models.iter().map(|model| sample_draft(fit, model)).collect::<Result<Vec<_>, _>>();
    let drafts = drafts.map_err(AppError::wandb("describe the sampled models"))?;
    let of_fit = opened.artifact.as_ref().map(Artifact::name);
    let used: Vec<QualifiedName> = of_fit.iter().cloned().chain(inputs(fit)?).collect();
    let mut subject = Subject::of("sample", fit);
    if let (Some(of_fit), (None, _)) = (of_fit, &subject.home) {
        subject.home = (Some(of_fit.entity), Some(of_fit.project));
    }
    let run = begin(session, options, &subject).await?;
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
    qualified(fit.record.inputs().filter_map(|record| record.resolved.as_ref()))
}

/// Versions by their full names.
pub(super) fn qualified<'n>(names: impl Iterator<Item = &'n String>) -> Result<Vec<QualifiedName>, AppError> {
    let qualified = |name: &String| ArtifactName::parse(name)?.with_defaults(None, None);
    names.map(qualified).collect::<Result<_, _>>().map_err(AppError::wandb("read the fit's inputs"))
}

/// Logs an artifact; the name of its version, or of its collection where the version is still to be made.
pub(super) async fn spool(run: &Run, draft: &ArtifactDraft) -> Result<String, WandbError> {
    let logged = run.spool_artifact(draft).await?;
    Ok(logged.map_or_else(|| draft.name().to_owned(), |artifact| artifact.name().to_string()))
}

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
            let exit_code = if matches!(error, WandbError::Stopped { .. }) { Run::STOPPED } else { 1 };
            if let Err(second) = run.finish(exit_code).await {
                tracing::warn!("run {path} could not be marked failed: {second}");
            }
            Err(AppError::wandb(format!("log to run {path}"))(error))
        }
    }
}

fn pca_draft(
    (fit, summary): (&Fit, &Map<String, Value>),
    folder: &Path,
    page: &str,
) -> Result<ArtifactDraft, WandbError> {
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
    metadata.extend(summary.clone());
    draft.with_metadata(metadata)
}

fn sample_draft(fit: &Fit, model: &Sampled) -> Result<ArtifactDraft, WandbError> {
    let mut draft = ArtifactDraft::new(collection_name(fit, "sample"), "checkpoint")?;
    for path in &model.files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        draft = draft.with_file(name, path.as_path())?;
    }
    // By its recipe in a word the model is found again: `variance-7-0` is number 0 of random seed 7.
    let name = model.recipe.get("name").and_then(Value::as_str).unwrap_or_default();
    let draft = draft.with_alias(name)?;
    let mut metadata = model.recipe.clone();
    metadata.insert("model_name".to_owned(), json!(fit.record.model));
    metadata.insert("distance_to_mean".to_owned(), json!(model.distance_to_mean));
    metadata.insert("distance_to_nearest".to_owned(), json!(model.distance_to_nearest));
    metadata.insert("weights".to_owned(), Value::Object(model.weights.clone()));
    draft.with_metadata(metadata)
}

/// `<model>_<dataset>_<suffix>`.
fn collection_name(fit: &Fit, suffix: &str) -> String {
    let parts = [Some(fit.record.model.as_str()), fit.record.dataset.as_deref(), Some(suffix)];
    allowed_name(&parts.into_iter().flatten().collect::<Vec<_>>().join("_"))
}

/// The name with only what W&B allows in a collection's.
pub(super) fn allowed_name(name: &str) -> String {
    /// The longest name that W&B takes.
    const LONGEST: usize = 128;
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    let name: Vec<char> = name.chars().map(allowed).collect();
    name[name.len().saturating_sub(LONGEST)..].iter().collect()
}

/// About twenty numbers: W&B allows few keys in a project, so single layers are in the tables.
fn summary(fit: &Fit) -> Result<Map<String, Value>, AppError> {
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
    if let Some(whole) = fit.rows()?.whole() {
        let row = &whole.row;
        summary.extend(object(json!({
            "pca/whole_model/first_ratio": row.first_ratio,
            "pca/whole_model/first_ratio_error": row.first_ratio_certainty.error,
            "pca/whole_model/first_ratio_null_high": row.first_ratio_certainty.null_high,
            "pca/whole_model/effective_rank": row.effective_rank,
            "pca/whole_model/effective_rank_error": row.effective_rank_certainty.error,
            "pca/whole_model/effective_rank_null_low": row.effective_rank_certainty.null_low,
            "pca/whole_model/participation_ratio": row.participation_ratio,
            "pca/whole_model/stable_rank": row.stable_rank,
            "pca/whole_model/spectral_gap": row.spectral_gap,
            "pca/whole_model/components_90": row.components_90,
            "pca/whole_model/components_95": row.components_95,
            "pca/whole_model/components_99": row.components_99,
            "pca/whole_model/mean_cosine": row.mean_cosine,
            "pca/whole_model/total_variance_error": row.total_variance_error,
            "pca/whole_model/sign_conflict": row.sign_conflict,
        })));
    }
    let most = fit.layers.iter().max_by(|a, b| a.pca.total_variance().total_cmp(&b.pca.total_variance()));
    if let Some(layer) = most {
        summary.insert("pca/top_layer".to_owned(), json!(layer.layer.name));
        summary.insert("pca/top_layer_variance".to_owned(), json!(layer.pca.total_variance()));
    }
    Ok(summary)
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
