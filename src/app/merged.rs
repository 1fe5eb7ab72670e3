//! Models merged from the checkpoints of a fit: weights over the seeds for each layer of the fit, every other tensor as the
//! pretrained model has it. Reads mapped files; writes nothing.

use crate::analysis::{AnalysisError, Combination, Distances, SampleRecipe, TaskVectors};
use crate::checkpoint::{Checkpoint, SourceError, TensorInfo, TensorSource};
use crate::progress::Task;
use crate::tensor::{Dtype, TensorView};

use super::error::AppError;
use super::fit::{self, Trouble};
use super::fit_folder::Fit;
use super::pull::Pulled;

/// The checkpoints of a fit, opened.
pub(super) struct Seeds<'a> {
    pub(super) fit: &'a Fit,
    pub(super) pretrained: &'a Checkpoint,
    /// In the order of the fit's layers.
    vectors: Vec<TaskVectors<'a>>,
}

impl<'a> Seeds<'a> {
    /// From what was opened, the pretrained one first.
    pub(super) fn new(fit: &'a Fit, checkpoints: &'a [Checkpoint], pulled: &[Pulled]) -> Result<Self, AppError> {
        let vectors =
            fit.layers.iter().map(|layer| fit::task_vectors(checkpoints, pulled, (&layer.layer, Checkpoint::tensor)));
        let vectors = vectors.collect::<Result<Vec<_>, _>>().map_err(|trouble| match trouble {
            Trouble::Read(error) => error,
            Trouble::Numbers(source) => AppError::Analysis { subject: fit.record.model.clone(), source },
        })?;
        let Some(pretrained) = checkpoints.first() else { return Err(AppError::Worker { what: "the checkpoints" }) };
        Ok(Self { fit, pretrained, vectors })
    }

    fn numerics(&self) -> impl Fn(AnalysisError) -> AppError {
        |source| AppError::Analysis { subject: self.fit.record.model.clone(), source }
    }

    /// The weights over the seeds that a recipe makes for each layer.
    pub(super) fn weights(&self, recipe: impl Fn(&str) -> SampleRecipe) -> Result<Vec<Vec<f64>>, AppError> {
        let layers = self.fit.layers.iter();
        let weights = layers.map(|fit| recipe(&fit.layer.name).weights(&fit.layer.name, &fit.pca));
        weights.collect::<Result<_, _>>().map_err(self.numerics())
    }

    /// How far a model of these weights is from the seeds and their mean, over all layers of the fit.
    pub(super) fn distances(&self, weights: &[Vec<f64>]) -> Result<Option<Distances>, AppError> {
        let mut total: Option<Distances> = None;
        for (fit, weights) in self.fit.layers.iter().zip(weights) {
            let of_layer = Distances::of(&fit.gram, weights).map_err(self.numerics())?;
            match &mut total {
                Some(total) => total.merge(&of_layer).map_err(self.numerics())?,
                None => total = Some(of_layer),
            }
        }
        Ok(total)
    }

    /// Every tensor of the pretrained model, in its order: layers of the fit as combinations, the others as they are.
    pub(super) fn sources<'s>(&'s self, weights: &[Vec<f64>], task: &'s Task) -> Result<Vec<Merged<'s>>, AppError> {
        let tensors = self.pretrained.tensors().iter();
        tensors.map(|info| self.source(info, info.dtype, (weights, task))).collect()
    }

    /// One tensor of the pretrained model, in the dtype that is wanted; only layers of the fit come in another than their
    /// own.
    pub(super) fn source<'s>(
        &'s self,
        info: &'s TensorInfo,
        dtype: Dtype,
        (weights, task): (&[Vec<f64>], &'s Task),
    ) -> Result<Merged<'s>, AppError> {
        let at = self.fit.layers.iter().position(|fit| fit.layer.name == info.name);
        let (dtype, values) = match at.and_then(|at| Some((self.vectors.get(at)?, weights.get(at)?))) {
            Some((vectors, weights)) => {
                let combination = Combination::new(vectors, weights.clone(), dtype).map_err(self.numerics())?;
                (dtype, Values::Combined(combination))
            }
            None => {
                let read = AppError::checkpoint("read", &self.fit.record.pretrained.input);
                (info.dtype, Values::Pretrained(self.pretrained.tensor(&info.name).map_err(read)?))
            }
        };
        Ok(Merged { dtype, shape: &info.shape, values, task })
    }
}

/// A tensor of a merged model as writers want it.
pub(super) struct Merged<'s> {
    dtype: Dtype,
    shape: &'s [usize],
    values: Values<'s>,
    task: &'s Task,
}

enum Values<'s> {
    Combined(Combination<'s, 's>),
    Pretrained(TensorView<'s>),
}

impl TensorSource for Merged<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), SourceError> {
        self.task.advance(out.len() as u64);
        match &self.values {
            Values::Combined(combination) => Ok(combination.fill(start, out)?),
            Values::Pretrained(view) => Ok(view.read_le_bytes(start, out)?),
        }
    }
}
