//! New models from a fit: weights over the seeds for each layer, and the weighted checkpoints written in one pass.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::analysis::{Distances, Scale};
use crate::checkpoint::{NamedTensor, write_safetensors, write_torch};
use crate::progress::{Progress, Stage, Task};
use crate::store::{DurableFile, write_durable};

use super::blocking::run_blocking;
use super::draw::{Draw, Drawing};
use super::error::AppError;
use super::fit;
use super::fit_folder::Fit;
use super::fit_source::{FitSource, OpenedFit, open_fits};
use super::merged::Seeds;
use super::pull::Pulled;
use super::reopen::reopen;
use super::session::Session;

/// File format of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFormat {
    /// `trained.ckpt`, read by `torch.load(weights_only=True)`.
    Torch,
    /// `trained.safetensors`.
    Safetensors,
}

impl ModelFormat {
    fn file_name(self) -> &'static str {
        match self {
            Self::Torch => "trained.ckpt",
            Self::Safetensors => "trained.safetensors",
        }
    }
}

/// What to draw.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SampleOptions {
    /// The fit.
    pub fit: FitSource,
    /// Folder of the models: one folder each.
    pub folder: PathBuf,
    /// How many.
    pub count: u64,
    /// How they are made.
    pub draw: Draw,
    /// Seed of the generator.
    pub random_seed: u64,
    /// Files of each model.
    pub formats: Vec<ModelFormat>,
}

impl SampleOptions {
    /// One torch checkpoint from the Gaussian of a fit: beside it, or in `<name>-samples` for an artifact.
    pub fn new(fit: FitSource) -> Self {
        let folder = match &fit {
            FitSource::Folder(folder) => folder.join("samples"),
            FitSource::Artifact(name) => PathBuf::from(format!("{}-samples", name.collection())),
        };
        Self {
            fit,
            folder,
            count: 1,
            draw: Draw::Gaussian(Scale::Variance),
            random_seed: 0,
            formats: vec![ModelFormat::Torch],
        }
    }
}

/// A model that was drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sampled {
    /// Its number among the draws of this seed.
    pub number: u64,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Weight of each seed, by layer.
    pub weights: Map<String, Value>,
    /// Distance to the mean of the seeds, over all layers of the fit.
    pub distance_to_mean: f64,
    /// The nearest seed, as the fit calls it.
    pub nearest: Option<String>,
    /// Distance to the nearest seed.
    pub distance_to_nearest: Option<f64>,
    /// Everything needed to draw it again.
    pub recipe: Map<String, Value>,
}

/// Draws models and writes them. Each is written whole or not at all.
///
/// # Errors
/// [`AppError`]: no fit, inputs that are gone or changed, or files that cannot be written.
pub async fn sample(session: &Session, options: SampleOptions) -> Result<(OpenedFit, Vec<Sampled>), AppError> {
    let opened = open_fits(session, std::slice::from_ref(&options.fit)).await?.pop();
    let opened = opened.ok_or(AppError::Worker { what: "the sampling" })?;
    let records: Vec<_> = opened.fit.record.inputs().collect();
    let pulled = reopen(session, &records).await?;
    let progress = session.progress.clone();
    run_blocking("the sampling", move || {
        let models = draw_all(&opened.fit, &pulled, &options, &progress)?;
        Ok((opened, models))
    })
    .await
}

fn draw_all(
    fit: &Fit,
    pulled: &[Pulled],
    options: &SampleOptions,
    progress: &Progress,
) -> Result<Vec<Sampled>, AppError> {
    let checkpoints = fit::open_alike(pulled, fit.record.key.as_deref())?;
    let seeds = Seeds::new(fit, &checkpoints, pulled)?;
    let drawing = Drawing::new(fit, &options.draw, options.random_seed)?;
    (0..drawing.count(options.count))
        .map(|number| {
            let model = Model { seeds: &seeds, drawing: &drawing };
            model.write(options, number, progress)
        })
        .collect()
}

struct Model<'m, 'a> {
    seeds: &'m Seeds<'a>,
    drawing: &'m Drawing<'m>,
}

impl Model<'_, '_> {
    fn write(&self, options: &SampleOptions, number: u64, progress: &Progress) -> Result<Sampled, AppError> {
        let fit = self.seeds.fit;
        let weights = self.seeds.weights(|layer| self.drawing.recipe(layer, number))?;
        let distances = self.seeds.distances(&weights)?;
        let folder = options.folder.join(self.drawing.name(number));
        let mut files = Vec::new();
        for &format in &options.formats {
            let path = folder.join(format.file_name());
            let bytes = self.seeds.pretrained.tensors().iter().map(|info| info.bytes).sum();
            let task = progress.begin(Stage::Write, &path.display().to_string(), Some(bytes));
            self.write_file(&path, format, (&weights, &task))?;
            files.push(path);
        }
        let layers = fit.layers.iter().map(|fit| fit.layer.name.clone());
        let nearest = distances.as_ref().and_then(Distances::nearest);
        let labels = fit::labels(&fit.record);
        let sampled = Sampled {
            number,
            files,
            weights: layers.zip(&weights).map(|(layer, weights)| (layer, json!(weights))).collect(),
            distance_to_mean: distances.as_ref().map_or(0.0, Distances::to_mean),
            nearest: nearest.and_then(|(seed, _)| labels.get(seed).cloned()),
            distance_to_nearest: nearest.map(|(_, distance)| distance),
            recipe: self.drawing.metadata(fit, number),
        };
        let path = folder.join("sample.json");
        let json =
            serde_json::to_vec_pretty(&sampled).map_err(|error| AppError::file("describe", &path)(error.into()))?;
        write_durable(&path, &json).map_err(AppError::file("write", &path))?;
        Ok(sampled)
    }

    fn write_file(
        &self,
        path: &Path,
        format: ModelFormat,
        (weights, task): (&[Vec<f64>], &Task),
    ) -> Result<(), AppError> {
        let sources = self.seeds.sources(weights, task)?;
        let infos = self.seeds.pretrained.tensors();
        let named: Vec<NamedTensor<'_>> = infos
            .iter()
            .zip(&sources)
            .map(|(info, source)| NamedTensor { tied_to: info.tied_to, ..NamedTensor::new(&info.name, source) })
            .collect();
        let file = DurableFile::create(path).map_err(AppError::file("create", path))?;
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        match format {
            ModelFormat::Torch => write_torch(&mut file, &named),
            ModelFormat::Safetensors => write_safetensors(&mut file, &named),
        }
        .map_err(|source| AppError::Write { path: path.to_owned(), source })?;
        let file = file.into_inner().map_err(|error| AppError::file("write", path)(error.into_error()))?;
        file.commit().map_err(AppError::file("write", path))
    }
}
