//! Alignment: which tensors of a set of checkpoints take part in an analysis, and in what order. Refuses checkpoints of
//! different models by naming the layer and the checkpoint. No I/O.

use std::collections::HashMap;
use std::fmt;

use crate::analysis::AnalysisError;
use crate::tensor::{Dtype, element_count};

/// Which checkpoint of a fit, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Checkpoint {
    /// The model that all seeds started from.
    Pretrained,
    /// The fine-tuned checkpoint at this index, from 0, in the order given.
    FineTuned(usize),
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pretrained => f.write_str("pretrained checkpoint"),
            Self::FineTuned(index) => write!(f, "fine-tuned checkpoint {index}"),
        }
    }
}

/// What a checkpoint says of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Name in the state dict.
    pub name: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Logical shape.
    pub shape: &'a [usize],
}

/// A tensor that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Name in the state dict.
    pub name: String,
    /// Element type in the pretrained model.
    pub dtype: Dtype,
    /// Logical shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Number of parameters d: the product of the shape.
    pub parameters: usize,
}

/// A tensor that does not take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Name in the state dict.
    pub name: String,
    /// Element type in the pretrained model.
    pub dtype: Dtype,
    /// Logical shape.
    pub shape: Vec<usize>,
    /// Why.
    pub reason: SkipReason,
}

/// Why a tensor does not take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// Integers are counters and indices, not weights.
    Integer,
    /// Booleans are masks.
    Bool,
    /// Complex numbers have no real task vector.
    Complex,
    /// No elements.
    Empty,
    /// Left out by the caller's selection.
    NotSelected,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "integer",
            Self::Bool => "boolean",
            Self::Complex => "complex",
            Self::Empty => "empty",
            Self::NotSelected => "not selected",
        })
    }
}

/// How strictly dtypes must agree between the checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtypeRule {
    /// Each layer has one dtype in all checkpoints.
    #[default]
    Same,
    /// Any mix of floating-point dtypes: every value is widened to `f64` exactly.
    AnyFloat,
}

/// The outcome of [`align`]: every tensor of the pretrained model is in exactly one of the two lists, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layers {
    /// What takes part.
    pub layers: Vec<Layer>,
    /// What does not, and why.
    pub skipped: Vec<Skipped>,
}

impl Layers {
    /// Keeps the layers for which `keep` holds; the others are skipped as [`SkipReason::NotSelected`].
    ///
    /// # Errors
    /// [`AnalysisError::NoLayers`] when none is left.
    pub fn select(mut self, keep: impl Fn(&Layer) -> bool) -> Result<Self, AnalysisError> {
        let (kept, dropped): (Vec<_>, Vec<_>) = self.layers.into_iter().partition(keep);
        self.skipped.extend(dropped.into_iter().map(|layer| Skipped {
            name: layer.name,
            dtype: layer.dtype,
            shape: layer.shape,
            reason: SkipReason::NotSelected,
        }));
        self.layers = kept;
        self.require_some()
    }

    /// Parameters of all layers together.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(|layer| layer.parameters as u64).sum()
    }

    fn require_some(self) -> Result<Self, AnalysisError> {
        if self.layers.is_empty() {
            return Err(AnalysisError::NoLayers { skipped: self.skipped.len() });
        }
        Ok(self)
    }
}

/// Aligns the tensor lists of a pretrained model and its fine-tuned checkpoints, by name.
///
/// The order of the pretrained list is kept. Tensors that take no part must agree too: a checkpoint with another set of
/// buffers is another model.
///
/// # Errors
/// [`AnalysisError::TooFewSeeds`], `DuplicateLayer`, `MissingLayer`, `ExtraLayer`, `ShapeMismatch`, `DtypeMismatch` or
/// `NoLayers`; the first in the order of checkpoints, then of layers.
pub fn align(
    pretrained: &[TensorInfo<'_>],
    fine_tuned: &[Vec<TensorInfo<'_>>],
    rule: DtypeRule,
) -> Result<Layers, AnalysisError> {
    if fine_tuned.len() < 2 {
        return Err(AnalysisError::TooFewSeeds { found: fine_tuned.len() });
    }
    let reference = by_name(pretrained, Checkpoint::Pretrained)?;
    for (index, tensors) in fine_tuned.iter().enumerate() {
        check(pretrained, &reference, tensors, (Checkpoint::FineTuned(index), rule))?;
    }
    let mut outcome = Layers::default();
    for tensor in pretrained {
        let (name, dtype, shape) = (tensor.name.to_owned(), tensor.dtype, tensor.shape.to_vec());
        match skip_reason(tensor) {
            Some(reason) => outcome.skipped.push(Skipped { name, dtype, shape, reason }),
            None => outcome.layers.push(Layer { parameters: parameters(tensor), name, dtype, shape }),
        }
    }
    outcome.require_some()
}

fn by_name<'l, 'a>(
    tensors: &'l [TensorInfo<'a>],
    checkpoint: Checkpoint,
) -> Result<HashMap<&'a str, &'l TensorInfo<'a>>, AnalysisError> {
    let mut names = HashMap::with_capacity(tensors.len());
    for tensor in tensors {
        if names.insert(tensor.name, tensor).is_some() {
            return Err(AnalysisError::DuplicateLayer { layer: tensor.name.to_owned(), checkpoint });
        }
    }
    Ok(names)
}

fn check(
    pretrained: &[TensorInfo<'_>],
    reference: &HashMap<&str, &TensorInfo<'_>>,
    tensors: &[TensorInfo<'_>],
    (checkpoint, rule): (Checkpoint, DtypeRule),
) -> Result<(), AnalysisError> {
    let found = by_name(tensors, checkpoint)?;
    for expected in pretrained {
        let layer = || expected.name.to_owned();
        let Some(tensor) = found.get(expected.name) else {
            return Err(AnalysisError::MissingLayer { layer: layer(), checkpoint });
        };
        if tensor.shape != expected.shape {
            let (expected, found) = (expected.shape.to_vec(), tensor.shape.to_vec());
            return Err(AnalysisError::ShapeMismatch { layer: layer(), checkpoint, expected, found });
        }
        let mixed = rule == DtypeRule::AnyFloat && tensor.dtype.is_float() && expected.dtype.is_float();
        if tensor.dtype != expected.dtype && !mixed {
            let (expected, found) = (expected.dtype, tensor.dtype);
            return Err(AnalysisError::DtypeMismatch { layer: layer(), checkpoint, expected, found });
        }
    }
    match tensors.iter().find(|tensor| !reference.contains_key(tensor.name)) {
        Some(extra) => Err(AnalysisError::ExtraLayer { layer: extra.name.to_owned(), checkpoint }),
        None => Ok(()),
    }
}

fn parameters(tensor: &TensorInfo<'_>) -> usize {
    // A tensor whose size overflows cannot have been opened as a view; saturating keeps the sum meaningful.
    element_count(tensor.shape).unwrap_or(usize::MAX)
}

fn skip_reason(tensor: &TensorInfo<'_>) -> Option<SkipReason> {
    if tensor.dtype == Dtype::Bool {
        Some(SkipReason::Bool)
    } else if tensor.dtype.is_complex() {
        Some(SkipReason::Complex)
    } else if !tensor.dtype.is_float() {
        Some(SkipReason::Integer)
    } else {
        (parameters(tensor) == 0).then_some(SkipReason::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info<'a>(name: &'a str, dtype: Dtype, shape: &'a [usize]) -> TensorInfo<'a> {
        TensorInfo { name, dtype, shape }
    }

    fn model() -> Vec<TensorInfo<'static>> {
        vec![
            info("b.weight", Dtype::F32, &[2, 3]),
            info("a.count", Dtype::I64, &[]),
            info("a.mask", Dtype::Bool, &[4]),
            info("a.freqs", Dtype::C64, &[4]),
            info("a.none", Dtype::F32, &[0, 3]),
            info("scale", Dtype::F32, &[]),
        ]
    }

    #[test]
    fn floats_take_part_in_the_order_of_the_pretrained_model() {
        let mut other = model();
        other.reverse();
        let aligned = align(&model(), &[model(), other], DtypeRule::Same).unwrap();
        let names: Vec<_> = aligned.layers.iter().map(|l| (l.name.as_str(), l.parameters)).collect();
        assert_eq!(names, [("b.weight", 6), ("scale", 1)]);
        let reasons: Vec<_> = aligned.skipped.iter().map(|s| s.reason).collect();
        assert_eq!(reasons, [SkipReason::Integer, SkipReason::Bool, SkipReason::Complex, SkipReason::Empty]);
        assert_eq!(aligned.parameters(), 7);
        let selected = aligned.clone().select(|layer| layer.name == "scale").unwrap();
        assert_eq!((selected.layers.len(), selected.skipped.len()), (1, 5));
        assert!(matches!(aligned.select(|_| false), Err(AnalysisError::NoLayers { skipped: 6 })));
    }

    #[test]
    fn every_disagreement_names_layer_and_checkpoint() {
        let message = |change: &dyn Fn(&mut Vec<TensorInfo<'static>>)| {
            let mut odd = model();
            change(&mut odd);
            align(&model(), &[model(), odd], DtypeRule::AnyFloat).unwrap_err().to_string()
        };
        assert_eq!(
            message(&|m| m.retain(|tensor| tensor.name != "b.weight")),
            "layer b.weight is missing from the fine-tuned checkpoint 1"
        );
        assert_eq!(
            message(&|m| m.push(info("head", Dtype::F32, &[1]))),
            "layer head of the fine-tuned checkpoint 1 is not in the pretrained checkpoint"
        );
        assert_eq!(
            message(&|m| m[0].shape = &[3, 2]),
            "layer b.weight has shape [3, 2] in the fine-tuned checkpoint 1, but [2, 3] in the pretrained checkpoint"
        );
        assert_eq!(
            message(&|m| m[0].dtype = Dtype::I32),
            "layer b.weight has dtype I32 in the fine-tuned checkpoint 1, but F32 in the pretrained checkpoint"
        );
        assert_eq!(
            message(&|m| m.push(info("scale", Dtype::F32, &[]))),
            "layer scale occurs twice in the fine-tuned checkpoint 1"
        );
    }

    #[test]
    fn mixed_floats_only_when_asked_for() {
        let mut half = model();
        half[0].dtype = Dtype::Bf16;
        let seeds = [model(), half];
        assert!(matches!(align(&model(), &seeds, DtypeRule::Same), Err(AnalysisError::DtypeMismatch { .. })));
        assert!(align(&model(), &seeds, DtypeRule::AnyFloat).is_ok());
    }

    #[test]
    fn one_seed_is_too_few_and_no_floats_are_no_layers() {
        assert!(matches!(align(&model(), &[model()], DtypeRule::Same), Err(AnalysisError::TooFewSeeds { found: 1 })));
        let counters = vec![info("n", Dtype::I64, &[])];
        let seeds = [counters.clone(), counters.clone()];
        assert!(matches!(align(&counters, &seeds, DtypeRule::Same), Err(AnalysisError::NoLayers { skipped: 1 })));
    }
}
