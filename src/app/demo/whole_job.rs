//! The whole job end to end on the embedded server: make an experiment, upload it, and do with it what a user would.

use std::path::Path;

use crate::app::compare::{CompareOptions, CompareOutcome, compare};
use crate::app::error::AppError;
use crate::app::fit::{FitOptions, FitOutcome, fit};
use crate::app::fit_source::FitSource;
use crate::app::input::{Input, Seeded, expand};
use crate::app::log_compare::log_compare;
use crate::app::log_fit::{LogOptions, Logged, log_fit, log_samples};
use crate::app::sample::{ModelFormat, SampleOptions, Sampled, sample};
use crate::app::session::Session;
use crate::wandb::ArtifactName;

use super::model::{DemoModel, Size};
use super::upload::{DemoCheckpoint, upload};

/// Entity, project and model of the demo.
pub const DEMO_PROJECT: &str = "demo/task-vectors";
const MODEL: &str = "ViT-demo";
const DATASETS: [&str; 2] = ["CIFAR100", "DTD"];
const SEEDS: u64 = 10;
const SIZE: Size = Size { width: 96, blocks: 4, patch: 16, vocabulary: 1024 };

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

/// Makes the experiment, uploads what the server does not have, fits both datasets, compares them, samples a model, logs it
/// all.
///
/// # Errors
/// The first thing that went wrong.
pub async fn demo(session: &Session, folder: &Path) -> Result<DemoOutcome, AppError> {
    let (entity, project) = DEMO_PROJECT.split_once('/').unwrap_or_default();
    let checkpoints = checkpoints();
    let (uploaded, artifacts) = (upload(session, (folder, entity, project), &checkpoints).await?, checkpoints.len());
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

/// The pretrained model, and the seeds of each dataset.
fn checkpoints() -> Vec<DemoCheckpoint> {
    let checkpoint = |name, state| DemoCheckpoint { name, model: MODEL.to_owned(), size: SIZE, state };
    let tuned = (0u64..).zip(DATASETS).flat_map(|(number, dataset)| {
        let name = move |seed| format!("{MODEL}_{dataset}_{seed}");
        (0..SEEDS).map(move |seed| checkpoint(name(seed), DemoModel::FineTuned { dataset: number, seed }))
    });
    std::iter::once(checkpoint(format!("{MODEL}_pt"), DemoModel::Pretrained)).chain(tuned).collect()
}
