//! The numbers: task vectors, Gram matrices, PCA, similarity and sampling. Synchronous, pure, deterministic.
//!
//! Everything reported about one layer follows from its **Gram** G = X Xᵀ, where row i of X (n × d) is the task vector
//! of seed i: fine-tuned − pretrained. One streaming pass makes G in `f64`; all else is linear algebra on n × n numbers.
//!
//! - [`align`] decides which tensors take part; [`TaskVectors`] holds one layer of every checkpoint and makes its [`Gram`]
//! - a [`Backend`] makes the products: [`BuiltIn`], or another library behind the same seam
//! - [`Pca`] is scikit-learn's PCA with components kept as dual coefficients; [`Spectrum`] reads its eigenvalues
//! - [`Similarity`] reads norms, cosines and distances off a Gram
//! - [`Subspaces`] compares datasets, [`jackknife`] and [`null_model`] say how sure a number is, [`group`] adds layers up
//! - [`Interference`] counts conflicts of signs and what the largest parameters hold
//! - [`SampleRecipe`] makes weights over the seeds, [`Combination`] turns weights into the bytes of a new tensor
//! - [`fit_layers`] does it for every layer of a model on all threads of the current rayon pool
//!
//! No files, no network, no clock: tensors come in as [`crate::tensor::TensorView`], bytes go out through slices. The
//! formulas, their sources and their tolerances are in `docs/numerics.md`.

mod backend;
mod certainty;
mod checksum;
mod downdate;
mod eigen;
mod error;
mod fit;
mod gram;
mod group;
mod interference;
mod kernel;
mod known;
mod largest;
mod layer;
mod pca;
mod sample;
mod scan;
mod similarity;
mod singular;
mod spectrum;
mod subspace;
mod task_vector;
mod weights;

pub use backend::{Backend, BuiltIn};
pub use certainty::{Headline, Jackknife, NullBand, jackknife, null_model, null_ratios};
pub use error::AnalysisError;
pub use fit::{LayerFit, Measure, fit_layers, join_grams};
pub use gram::Gram;
pub use group::{Grouping, depth, group};
pub use interference::{Interference, KEPT, TOP};
pub use kernel::Block;
pub use known::{Known, complete_layers};
pub use layer::{Checkpoint, DtypeRule, Layer, Layers, SkipReason, Skipped, TensorInfo, align};
pub use pca::{Pca, SignRule};
pub use sample::{Combination, Distances, GENERATOR, SampleRecipe, Scale};
pub use similarity::Similarity;
pub use spectrum::Spectrum;
pub use subspace::{Overlap, Subspaces, VarianceSplit};
pub use task_vector::TaskVectors;

#[cfg(test)]
mod tests;
