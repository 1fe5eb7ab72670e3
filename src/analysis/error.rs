//! Why an analysis could not be made. No I/O.

use crate::analysis::Checkpoint;
use crate::tensor::{Dtype, TensorError};

/// What stopped an analysis. Each variant names the layer and the checkpoint it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named and shown by each message")]
pub enum AnalysisError {
    /// A covariance needs at least two seeds.
    #[error("a fit needs at least two fine-tuned checkpoints, got {found}")]
    TooFewSeeds { found: usize },
    /// No tensor of the model is of a floating-point dtype and selected.
    #[error("no layer takes part: {skipped} tensors, none of them both selected and of a floating-point dtype")]
    NoLayers { skipped: usize },
    /// One checkpoint lists a layer twice.
    #[error("layer {layer} occurs twice in the {checkpoint}")]
    DuplicateLayer { layer: String, checkpoint: Checkpoint },
    /// The pretrained model has a layer that this checkpoint lacks.
    #[error("layer {layer} is missing from the {checkpoint}")]
    MissingLayer { layer: String, checkpoint: Checkpoint },
    /// This checkpoint has a layer that the pretrained model lacks.
    #[error("layer {layer} of the {checkpoint} is not in the pretrained checkpoint")]
    ExtraLayer { layer: String, checkpoint: Checkpoint },
    /// A layer's shape differs from that in the pretrained model.
    #[error("layer {layer} has shape {found:?} in the {checkpoint}, but {expected:?} in the pretrained checkpoint")]
    ShapeMismatch { layer: String, checkpoint: Checkpoint, expected: Vec<usize>, found: Vec<usize> },
    /// A layer's dtype differs from that in the pretrained model.
    #[error("layer {layer} has dtype {found} in the {checkpoint}, but {expected} in the pretrained checkpoint")]
    DtypeMismatch { layer: String, checkpoint: Checkpoint, expected: Dtype, found: Dtype },
    /// Only real floating-point tensors have task vectors.
    #[error("layer {layer} has dtype {dtype} in the {checkpoint}, which is not a real floating-point dtype")]
    NotFloat { layer: String, checkpoint: Checkpoint, dtype: Dtype },
    /// A weight is NaN or infinite.
    #[error("layer {layer} of the {checkpoint} has a value that is not finite at element {element}")]
    NonFinite { layer: String, checkpoint: Checkpoint, element: usize },
    /// All weights are finite, but their squares are beyond the range of `f64`.
    #[error("the Gram matrix of layer {layer} overflows: its weights are too large to square in 64 bits")]
    Overflow { layer: String },
    /// A tensor could not be read.
    #[error("layer {layer} of the {checkpoint} cannot be read")]
    Read { layer: String, checkpoint: Checkpoint, source: TensorError },
    /// The bytes of a tensor do not have the CRC-32 that their file states.
    #[error("layer {layer} of the {checkpoint} is damaged: its CRC-32 is {found:08x}, its file says {expected:08x}")]
    Damaged { layer: String, checkpoint: Checkpoint, expected: u32, found: u32 },
    /// A backend other than the built-in one failed.
    #[error("{backend} cannot multiply the task vectors of layer {layer}")]
    Backend { layer: String, backend: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// Values handed in as a Gram matrix are not one.
    #[error("not a Gram matrix of {rows} rows: {reason}")]
    NotAGram { rows: usize, reason: &'static str },
    /// Two things that must agree in size do not.
    #[error("expected {expected} {what}, got {found}")]
    SizeMismatch { what: &'static str, expected: usize, found: usize },
    /// A number that must be finite, or in some range, is not.
    #[error("{what} must be {expected}, got {found}")]
    OutOfRange { what: &'static str, expected: &'static str, found: f64 },
    /// A new model can be written in the dtypes that training uses, not in 8-bit floats or integers.
    #[error("layer {layer} cannot be written as {dtype}: choose F32, F64, F16 or BF16")]
    UnwritableDtype { layer: String, dtype: Dtype },
    /// A value of a new model is beyond the range of its dtype.
    #[error("element {element} of layer {layer} would be {value}, which is beyond the range of {dtype}")]
    Unrepresentable { layer: String, element: usize, value: f64, dtype: Dtype },
    /// Neither eigensolver converged.
    #[error("the eigenvalues of a {rows} × {rows} Gram matrix did not converge")]
    NoConvergence { rows: usize },
    /// Something failed in one layer.
    #[error("layer {layer}")]
    InLayer { layer: String, source: Box<Self> },
}

impl AnalysisError {
    /// The same error, said to be about `layer`.
    pub(crate) fn in_layer(self, layer: &str) -> Self {
        Self::InLayer { layer: layer.to_owned(), source: Box::new(self) }
    }
}
