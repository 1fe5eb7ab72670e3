//! The seam between what is asked of a layer and who multiplies: the loops of this crate, or another library. No I/O.

use std::fmt;

use crate::analysis::gram::Pass;
use crate::analysis::kernel::{Block, Kernel};
use crate::analysis::task_vector::Base;
use crate::analysis::{AnalysisError, TaskVectors};
use crate::progress::Task;

/// Makes the products of task vectors, for [`TaskVectors::gram_by`] and all that is built on it. Everything else about a
/// layer (its PCA, which may read it again; interference; samples) is always made by this crate.
///
/// A backend is called for several layers at the same time, from the threads of a rayon pool. One that takes layers one
/// after another waits; it must not start work in the pool while it holds what the others wait for.
pub trait Backend: fmt::Debug + Send + Sync {
    /// What a fit's record calls it: who multiplies, on what.
    fn name(&self) -> String;

    /// The products of the rows of X, n × n row-major, that `blocks` name: X is what `vectors` holds, subtracted and
    /// summed in `f64`. Other entries, and those above the diagonal, may be anything. `progress` advances by the bytes
    /// read. Weights that are not finite make products that are not; the caller looks for them. Views may have a CRC-32
    /// left to compare: whoever does not in its own pass calls [`TaskVectors::compare_crc32`].
    ///
    /// # Errors
    /// [`AnalysisError::Read`], [`AnalysisError::Damaged`], or [`AnalysisError::Backend`] with what the library says.
    fn products(&self, vectors: &TaskVectors<'_>, blocks: &[Block], progress: &Task)
    -> Result<Vec<f64>, AnalysisError>;
}

/// The loops of this crate: vectorised, on the threads of the rayon pool, in an order that n and d alone fix.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltIn;

impl Backend for BuiltIn {
    fn name(&self) -> String {
        "built-in".to_owned()
    }

    fn products(
        &self,
        vectors: &TaskVectors<'_>,
        blocks: &[Block],
        progress: &Task,
    ) -> Result<Vec<f64>, AnalysisError> {
        let (kernel, blocks) = (Kernel::detect(), blocks.to_vec());
        Pass { vectors, kernel, base: Base::Pretrained, rotation: None, blocks, first: true }.products(progress)
    }
}
