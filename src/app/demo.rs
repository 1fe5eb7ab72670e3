//! The whole job end to end on the embedded server: make an experiment, upload it, and do with it what a user would.

use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use crate::checkpoint::{NamedTensor, write_torch};
use crate::progress::{Progress, Stage};
use crate::server::{Server, ServerOptions};
use crate::store::{DurableFile, Store};
use crate::tensor::{Dtype, TensorView};
use crate::wandb::{ArtifactDraft, ArtifactName, Client, ClientOptions, RunOptions};

use super::blocking::run_blocking;
use super::compare::{CompareOptions, CompareOutcome, compare};
use super::demo_model::{DemoModel, DemoTensor, state_dict};
use super::device::Device;
use super::error::AppError;
use super::fit::{FitOptions, FitOutcome, fit};
use super::fit_source::FitSource;
use super::input::{Input, Seeded, expand};
use super::log_compare::log_compare;
use super::log_fit::{LogOptions, Logged, log_fit, log_samples};
use super::sample::{ModelFormat, SampleOptions, Sampled, sample};
use super::session::Session;

/// Entity, project and model of the demo.
pub const DEMO_PROJECT: &str = "demo/task-vectors";
const MODEL: &str = "ViT-demo";
const DATASETS: [&str; 2] = ["CIFAR100", "DTD"];
const SEEDS: u64 = 10;
/// Artifacts that are uploaded at the same time.
const UPLOADS: usize = 4;

/// One dataset's results.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DemoFit {
    /// The dataset.
    pub dataset: String,
    /// The fit.
    pub outcome: FitOutcome,
    /// The run it was logged as.
    pub logged: Logged,
}

/// What the demo made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DemoOutcome {
    /// How many artifact versions were new on the server.
    pub uploaded: usize,
    /// How many artifacts there are.
    pub artifacts: usize,
    /// One for each dataset.
    pub fits: Vec<DemoFit>,
    /// What the datasets say about each other.
    pub comparison: CompareOutcome,
    /// The run that was logged as.
    pub compared: Logged,
    /// The sampled model.
    pub model: Sampled,
    /// The run it was logged as.
    pub sample: Logged,
}

/// Starts the embedded server of the demo in its data folder.
///
/// # Errors
/// [`AppError::Server`].
pub async fn start_server(folder: &Path) -> Result<Server, AppError> {
    Ok(Server::start(ServerOptions::new(folder.join("server")).with_entity("demo")).await?)
}

/// A session with that server and a store of the demo's own.
///
/// # Errors
/// [`AppError::Wandb`] when no client can be made.
pub fn session(server: &Server, folder: &Path, progress: &Progress) -> Result<Session, AppError> {
    let options = ClientOptions::new(server.base_url())
        .with_api_key(Some(server.api_key().clone()))
        .with_progress(progress.clone());
    Ok(Session {
        client: Some(Client::new(options).map_err(AppError::wandb("reach the embedded server"))?),
        store: Store::new(folder.join("cache").join("artifacts"), progress.clone()),
        progress: progress.clone(),
        device: Device::default(),
        entity: None,
        project: None,
        app_url: server.base_url().to_owned(),
        runs: folder.to_owned(),
        artifact_dir: "artifacts".into(),
    })
}

/// Makes the experiment, uploads what the server does not have, fits both datasets, compares them, samples a model, logs it
/// all.
///
/// # Errors
/// The first thing that went wrong.
pub async fn demo(session: &Session, folder: &Path) -> Result<DemoOutcome, AppError> {
    let (uploaded, artifacts) = upload_experiment(session, folder).await?;
    let mut fits = Vec::new();
    for dataset in DATASETS {
        let mut options = FitOptions::new(
            parse(&format!("{DEMO_PROJECT}/{MODEL}_pt:latest"))?,
            seeds_of(dataset)?,
            folder.join("results").join(format!("{MODEL}_{dataset}")),
        );
        options.dataset = Some(dataset.to_owned());
        let outcome = fit(session, options).await?;
        let logged = log_fit(session, (&outcome.fit, &outcome.folder), &LogOptions::default()).await?;
        fits.push(DemoFit { dataset: dataset.to_owned(), outcome, logged });
    }
    let sources = fits.iter().map(source).collect();
    let comparison = compare(session, CompareOptions::new(sources, folder.join("results").join("comparison"))).await?;
    let compared = log_compare(session, &comparison, &LogOptions::default()).await?;
    let first = fits.first().ok_or(AppError::Worker { what: "the demo" })?;
    let mut options = SampleOptions::new(source(first));
    options.folder = first.outcome.folder.join("samples");
    options.formats = vec![ModelFormat::Torch, ModelFormat::Safetensors];
    let (fit, models) = sample(session, options).await?;
    let sample = log_samples(session, (&fit, &models), &LogOptions::default()).await?;
    let model = models.into_iter().next().ok_or(AppError::Worker { what: "the demo" })?;
    Ok(DemoOutcome { uploaded, artifacts, fits, comparison, compared, model, sample })
}

/// The fit as it was logged, so that what is made of it has it as lineage; its folder where it did not get to the server.
fn source(fit: &DemoFit) -> FitSource {
    let logged = fit.logged.artifacts.first().filter(|_| fit.logged.unsent.is_none());
    let name = logged.and_then(|name| ArtifactName::parse(name).ok());
    name.map_or_else(|| FitSource::Folder(fit.outcome.folder.clone()), FitSource::Artifact)
}

fn parse(name: &str) -> Result<Input, AppError> {
    let name = ArtifactName::parse(name).map_err(AppError::wandb("name the demo's artifacts"))?;
    Ok(Input::Artifact(name))
}

fn seeds_of(dataset: &str) -> Result<Vec<Seeded>, AppError> {
    let seeds: Vec<u64> = (0..SEEDS).collect();
    Ok(expand(&[format!("{DEMO_PROJECT}/{MODEL}_{dataset}_{{seed}}:latest")], Some(&seeds))?)
}

/// Writes every checkpoint as torch would and logs it as an artifact. Returns how many were new, and how many there are.
async fn upload_experiment(session: &Session, folder: &Path) -> Result<(usize, usize), AppError> {
    use futures_util::{StreamExt as _, TryStreamExt as _, stream};
    let client = session.online("the demo's server")?;
    let mut models = vec![(format!("{MODEL}_pt"), DemoModel::Pretrained)];
    for (number, dataset) in (0u64..).zip(DATASETS) {
        let tuned = |seed| (format!("{MODEL}_{dataset}_{seed}"), DemoModel::FineTuned { dataset: number, seed });
        models.extend((0..SEEDS).map(tuned));
    }
    let (entity, project) = DEMO_PROJECT.split_once('/').unwrap_or_default();
    let mut absent = Vec::new();
    for (name, model) in &models {
        let latest = crate::wandb::QualifiedName::new(entity, project, name, "latest");
        match client.artifact(&latest).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => absent.push((name.clone(), *model)),
            Err(error) => return Err(AppError::wandb(format!("look for {name}"))(error)),
        }
    }
    if absent.is_empty() {
        return Ok((0, models.len()));
    }
    let run = RunOptions::new(project)
        .with_entity(Some(entity.to_owned()))
        .with_display_name(Some("fine-tuning (made by arithmetic)".to_owned()))
        .with_job_type(Some("fine-tune".to_owned()));
    let run = session.start_run(run).await.map_err(AppError::wandb("start the demo's run"))?;
    let task = session.progress.begin(Stage::Upload, "the demo's checkpoints", None);
    let uploads = stream::iter(&absent).map(async |(name, model)| {
        let path = write_model(folder, name, *model).await?;
        let draft = draft(name, &path).map_err(AppError::wandb(format!("describe {name}")))?;
        let artifact = run.log_artifact(&draft).await.map_err(AppError::wandb(format!("upload {name}")))?;
        task.advance(1);
        Ok::<_, AppError>(artifact)
    });
    let uploaded: Result<Vec<_>, AppError> = uploads.buffered(UPLOADS).try_collect().await;
    run.finish(i32::from(uploaded.is_err())).await.map_err(AppError::wandb("finish the demo's run"))?;
    Ok((uploaded?.len(), models.len()))
}

fn draft(name: &str, path: &Path) -> Result<ArtifactDraft, crate::wandb::WandbError> {
    let metadata = Map::from_iter([
        ("model_name".to_owned(), json!(MODEL)),
        ("model_class".to_owned(), json!("open_clip.model.CLIP")),
    ]);
    ArtifactDraft::new(name, "checkpoint")?.with_metadata(metadata)?.with_file("trained.ckpt", path)
}

async fn write_model(folder: &Path, name: &str, model: DemoModel) -> Result<PathBuf, AppError> {
    let path = folder.join("checkpoints").join(name).join("trained.ckpt");
    run_blocking("the demo's models", move || {
        write_state_dict(&path, &state_dict(model))?;
        Ok(path)
    })
    .await
}

fn write_state_dict(path: &Path, tensors: &[DemoTensor]) -> Result<(), AppError> {
    let view = |tensor: &DemoTensor| {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        TensorView::contiguous(Dtype::F32, tensor.shape.clone(), bytes)
    };
    let views = tensors.iter().map(view).collect::<Result<Vec<_>, _>>();
    let views = views.map_err(|error| AppError::file("describe", path)(std::io::Error::other(error)))?;
    let named: Vec<_> = tensors.iter().zip(&views).map(|(tensor, view)| NamedTensor::new(&tensor.name, view)).collect();
    let mut file = DurableFile::create(path).map_err(AppError::file("create", path))?;
    write_torch(&mut file, &named).map_err(|source| AppError::Write { path: path.to_owned(), source })?;
    file.commit().map_err(AppError::file("write", path))
}
