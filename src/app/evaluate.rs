//! How well weights do: a TorchScript module with the weights of a checkpoint, or of a fit's seeds and of samples at several
//! distances from their mean, run on labelled data by libtorch. The work is that of the feature `tch`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::table::{ColumnKind, Table, TableError};

use super::error::AppError;
#[cfg(feature = "tch")]
use super::evaluate_models;
use super::fit_folder::RECORD_FILE;
use super::fit_source::{FitSource, OpenedFit};
use super::input::{Input, InputError};
use super::session::Session;

/// Whose weights are put into the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// Those of one checkpoint.
    Checkpoint(Input),
    /// Those of a fit's checkpoints, of their mean, and of samples around it.
    Fit(FitSource),
}

impl Weights {
    /// What a text stands for: the folder of a fit, the folder of a model that [`sample`](super::sample()) wrote, a checkpoint,
    /// or an artifact, which is a fit when `artifact_is_fit` says so.
    ///
    /// # Errors
    /// [`InputError`] when it is none of these.
    pub fn parse(text: &str, artifact_is_fit: bool) -> Result<Self, InputError> {
        let folder = Path::new(text);
        if folder.join(RECORD_FILE).exists() {
            return Ok(Self::Fit(FitSource::Folder(folder.to_owned())));
        }
        let sampled = ["trained.ckpt", "trained.safetensors"].map(|file| folder.join(file));
        if let Some(file) = sampled.into_iter().find(|file| file.is_file()) {
            return Ok(Self::Checkpoint(Input::File(file)));
        }
        Ok(match Input::parse(text)? {
            Input::Artifact(name) if artifact_is_fit => Self::Fit(FitSource::Artifact(name)),
            input => Self::Checkpoint(input),
        })
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(input) => input.fmt(f),
            Self::Fit(source) => source.fmt(f),
        }
    }
}

/// What to evaluate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EvaluateOptions {
    /// The TorchScript module, a program that is executed: a file on this machine.
    pub module: PathBuf,
    /// Whose weights it gets.
    pub weights: Weights,
    /// The checkpoint file, such as safetensors, that holds inputs and labels.
    pub data: Input,
    /// Name of the tensor of inputs: samples first.
    pub inputs: String,
    /// Name of the tensor of labels: one class from 0 on for each sample.
    pub labels: String,
    /// Samples that are run at a time.
    pub batch: usize,
    /// How far samples of a fit are from the mean, in the fitted standard deviations. 0 is the mean itself.
    pub scales: Vec<f64>,
    /// How many directions from the mean are drawn; each is followed through all scales.
    pub samples: u64,
    /// Seed of the generator.
    pub random_seed: u64,
    /// Whether module and weights may each have tensors that the other lacks.
    pub partial: bool,
    /// The safetensors file that gets the outputs of every model under its name, where one is wanted.
    pub outputs: Option<PathBuf>,
}

impl EvaluateOptions {
    /// These weights on these data, everything else by default.
    pub fn new(module: impl Into<PathBuf>, weights: Weights, data: Input) -> Self {
        Self {
            module: module.into(),
            weights,
            data,
            inputs: "inputs".to_owned(),
            labels: "labels".to_owned(),
            batch: 256,
            scales: vec![0.0, 0.5, 1.0, 2.0],
            samples: 8,
            random_seed: 0,
            partial: false,
            outputs: None,
        }
    }
}

/// What a model's weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Those of a checkpoint.
    Checkpoint,
    /// The pretrained ones of a fit.
    Pretrained,
    /// Those of one of its seeds.
    Seed,
    /// The mean of its seeds.
    Mean,
    /// A sample around the mean.
    Sample,
}

impl ModelKind {
    /// Its word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Pretrained => "pretrained",
            Self::Seed => "seed",
            Self::Mean => "mean",
            Self::Sample => "sample",
        }
    }
}

/// One model and how it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EvaluatedModel {
    /// What it is called.
    pub model: String,
    /// What its weights are.
    pub kind: ModelKind,
    /// How far from the mean, in standard deviations; of the mean and of samples.
    pub scale: Option<f64>,
    /// Number of the direction from the mean, of samples.
    pub number: Option<u64>,
    /// Distance to the mean of the seeds over all layers of the fit; of the mean and of samples.
    pub distance_to_mean: Option<f64>,
    /// Mean cross entropy in nats; nothing where it is not finite.
    pub loss: Option<f64>,
    /// Share of the samples with their largest output at their label.
    pub accuracy: f64,
}

/// Models that were evaluated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Evaluation {
    /// What was asked for.
    pub options: EvaluateOptions,
    /// Samples of the data.
    pub samples: usize,
    /// What ran the module.
    pub backend: String,
    /// Every model: a checkpoint; or pretrained, seeds, mean, then samples by scale.
    pub models: Vec<EvaluatedModel>,
    /// The fit, where there was one.
    pub fit: Option<OpenedFit>,
    /// Tensors of the module that kept its own values, when that was allowed.
    pub kept: Vec<String>,
    /// Tensors of the weights that the module has not, when that was allowed.
    pub unused: Vec<String>,
    /// Names of the artifact versions that were read, by their full names.
    pub artifacts: Vec<String>,
}

impl Evaluation {
    /// One row a model.
    ///
    /// # Errors
    /// Never; a [`TableError`] would be a mistake in this file.
    pub fn table(&self) -> Result<Table, TableError> {
        use ColumnKind::{Integer, Number, Text};
        let columns = [
            ("model", Text),
            ("kind", Text),
            ("scale", Number),
            ("number", Integer),
            ("distance_to_mean", Number),
            ("loss", Number),
            ("accuracy", Number),
        ];
        let mut table = Table::new(columns);
        for model in &self.models {
            table.push(vec![
                model.model.as_str().into(),
                model.kind.name().into(),
                model.scale.into(),
                model.number.into(),
                model.distance_to_mean.into(),
                model.loss.into(),
                model.accuracy.into(),
            ])?;
        }
        Ok(table)
    }

    /// One line for each direction from the mean: scale, direction, accuracy and loss. All lines start at the mean where it is
    /// among the scales.
    ///
    /// # Errors
    /// As [`Self::table`].
    pub fn lines(&self) -> Result<Table, TableError> {
        use ColumnKind::{Number, Text};
        let mut table = Table::new([("scale", Number), ("sample", Text), ("accuracy", Number), ("loss", Number)]);
        let drawn = self.models.iter().filter(|model| model.scale.is_some());
        for model in drawn {
            let numbers = model.number.map_or(0..self.options.samples, |number| number..number + 1);
            for number in numbers {
                let line = format!("sample {number}");
                table.push(vec![model.scale.into(), line.as_str().into(), model.accuracy.into(), model.loss.into()])?;
            }
        }
        Ok(table)
    }
}

/// Runs the module with each of the weights on all of the data.
///
/// # Errors
/// [`AppError::NoLibtorch`] without the feature `tch`; [`AppError::Libtorch`], [`AppError::OtherTensors`] when module and weights
/// do not belong together, and whatever reading them meets.
#[cfg(feature = "tch")]
pub async fn evaluate(session: &Session, options: EvaluateOptions) -> Result<Evaluation, AppError> {
    session.device.check()?;
    evaluate_models::evaluate(session, options).await
}

/// Says that libtorch is missing.
///
/// # Errors
/// [`AppError::NoLibtorch`], always.
#[cfg(not(feature = "tch"))]
pub async fn evaluate(_: &Session, _: EvaluateOptions) -> Result<Evaluation, AppError> {
    Err(AppError::NoLibtorch { what: "to run a TorchScript module".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_apart_by_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, file) in [("fit", RECORD_FILE), ("sample", "trained.safetensors"), ("bare", "model.pt")] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join(file), "").unwrap();
        }
        let parse = |path: &Path| Weights::parse(path.to_str().unwrap(), false).unwrap();
        assert_eq!(parse(&path("fit")), Weights::Fit(FitSource::Folder(path("fit"))));
        let file = path("sample").join("trained.safetensors");
        assert_eq!(parse(&path("sample")), Weights::Checkpoint(Input::File(file)));
        let file = path("bare").join("model.pt");
        assert_eq!(parse(&file), Weights::Checkpoint(Input::File(file)));
        for (is_fit, expected) in [(true, "Fit"), (false, "Checkpoint")] {
            let weights = Weights::parse("e/p/a:v1", is_fit).unwrap();
            assert!(format!("{weights:?}").starts_with(expected), "{weights:?}");
        }
        assert!(Weights::parse("nowhere/x.pt", false).is_err());
    }
}
