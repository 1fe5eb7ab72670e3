//! Fits every layer of a model, on all threads of the current rayon pool. No I/O of its own.

use rayon::prelude::*;

use crate::analysis::{AnalysisError, Backend, Gram, Interference, Layer, Pca, TaskVectors};
use crate::progress::Task;

/// What a fit knows of one layer. Kilobytes, whatever the size of the layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerFit {
    /// The layer.
    pub layer: Layer,
    /// Inner products of the task vectors.
    pub gram: Gram,
    /// Their principal components.
    pub pca: Pca,
    /// How much they get into each other's way, where that was asked for.
    pub interference: Option<Interference>,
}

/// What is counted in the pass over a layer besides its Gram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Measure {
    /// Nothing.
    #[default]
    Gram,
    /// [`Interference`], which looks at every parameter by itself and takes a second pass: some five times the work. The first
    /// of its passes makes the Gram too, built in, whatever the backend.
    Interference,
    /// The same and its singular part: a singular value decomposition for each matrix of each checkpoint, seconds each for
    /// the larger matrices of a ViT-B/16, minutes for all, and memory for several matrices at a time.
    SingularInterference,
}

/// Fits `layers` in parallel, their Grams made by `backend`, and measures what `measure` says, each from the task vectors
/// that `open` returns for it; results come in the order of `layers` and with [`BuiltIn`](crate::analysis::BuiltIn) do not
/// depend on the number of threads. `progress` advances by the bytes read.
///
/// # Errors
/// What `open` returns, or an [`AnalysisError`]; of several, that of the first layer.
pub fn fit_layers<'a, E>(
    layers: &[Layer],
    open: impl Fn(&Layer) -> Result<TaskVectors<'a>, E> + Sync,
    (backend, measure, progress): (&dyn Backend, Measure, &Task),
) -> Result<Vec<LayerFit>, E>
where
    E: From<AnalysisError> + Send,
{
    let fits: Vec<Result<LayerFit, E>> = layers
        .par_iter()
        .map(|layer| {
            let vectors = open(layer)?;
            let (gram, interference) = match measure {
                Measure::Gram => (vectors.gram_by(backend, progress)?, None),
                Measure::Interference | Measure::SingularInterference => {
                    let (gram, mut interference) = vectors.gram_and_interference(progress)?;
                    if let (Measure::SingularInterference, &[rows, columns]) = (measure, layer.shape.as_slice()) {
                        // The share of a matrix's rank that merging leaves to each of n task vectors.
                        let rank = (rows.min(columns) / vectors.seeds()).max(1);
                        interference.singular = Some(vectors.singular_interference((rows, columns), rank)?);
                    }
                    (gram, Some(interference))
                }
            };
            let pca = vectors.pca(&gram).map_err(|error| error.in_layer(&layer.name))?;
            Ok(LayerFit { layer: layer.clone(), gram, pca, interference })
        })
        .collect();
    fits.into_iter().collect()
}

/// The Grams of `layers` over several fits, in parallel: each from the task vectors that `open` returns for it and the
/// Grams that are known of consecutive groups of them, of which only the products between are made
/// ([`TaskVectors::extend_gram`]). Results come in the order of `layers`; `progress` advances by the bytes read.
///
/// # Errors
/// As [`fit_layers`].
pub fn join_grams<'a, E>(
    layers: &[(&Layer, Vec<&Gram>)],
    open: impl Fn(&Layer) -> Result<TaskVectors<'a>, E> + Sync,
    (backend, progress): (&dyn Backend, &Task),
) -> Result<Vec<Gram>, E>
where
    E: From<AnalysisError> + Send,
{
    let join = |(layer, known): &(&Layer, Vec<&Gram>)| Ok(open(layer)?.extend_gram_by(backend, known, progress)?);
    let grams: Vec<Result<Gram, E>> = layers.par_iter().map(join).collect();
    grams.into_iter().collect()
}
