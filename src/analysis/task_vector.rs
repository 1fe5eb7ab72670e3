//! One layer of every checkpoint: the task vectors, read block by block and never held as a whole. Refuses tensors that
//! differ in shape or are not real floating point. No I/O of its own: reading a view may touch mapped pages.

use std::ops::Range;

use crate::analysis::kernel::{self, Kernel, Tile};
use crate::analysis::weights::Weights;
use crate::analysis::{AnalysisError, Checkpoint};
use crate::tensor::TensorView;

/// One layer of the pretrained model and of the n fine-tuned checkpoints.
///
/// Row i of X (n × d) is task vector i: fine-tuned i − pretrained, subtracted in `f64`.
#[derive(Debug)]
pub struct TaskVectors<'a> {
    layer: String,
    parameters: usize,
    pretrained: TensorView<'a>,
    fine_tuned: Vec<TensorView<'a>>,
}

/// What the rows of a pass are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// The pretrained model: rows are the task vectors.
    Pretrained,
    /// The first seed: rows span the same centred space, without the mean's size.
    FirstSeed,
}

impl<'a> TaskVectors<'a> {
    /// Checks that all views have one shape and are real floating point; dtypes may differ.
    ///
    /// # Errors
    /// [`AnalysisError::ShapeMismatch`] or [`AnalysisError::NotFloat`], naming the checkpoint.
    pub fn new(
        layer: impl Into<String>,
        pretrained: TensorView<'a>,
        fine_tuned: Vec<TensorView<'a>>,
    ) -> Result<Self, AnalysisError> {
        let vectors = Self { layer: layer.into(), parameters: pretrained.len(), pretrained, fine_tuned };
        for (checkpoint, view) in vectors.checkpoints() {
            let layer = || vectors.layer.clone();
            if view.shape() != vectors.pretrained.shape() {
                let (expected, found) = (vectors.pretrained.shape().to_vec(), view.shape().to_vec());
                return Err(AnalysisError::ShapeMismatch { layer: layer(), checkpoint, expected, found });
            }
            if !view.dtype().is_float() {
                return Err(AnalysisError::NotFloat { layer: layer(), checkpoint, dtype: view.dtype() });
            }
        }
        Ok(vectors)
    }

    /// Name of the layer.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// Number of seeds n.
    pub fn seeds(&self) -> usize {
        self.fine_tuned.len()
    }

    /// Number of parameters d.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The layer in the pretrained model.
    pub fn pretrained(&self) -> &TensorView<'a> {
        &self.pretrained
    }

    /// The layer in the fine-tuned checkpoints, in the order of the rows.
    pub fn fine_tuned(&self) -> &[TensorView<'a>] {
        &self.fine_tuned
    }

    /// Bytes that one pass over all checkpoints reads.
    pub fn bytes(&self) -> u64 {
        self.checkpoints().map(|(_, view)| (view.len() * view.dtype().size()) as u64).sum()
    }

    /// The same task vectors with the seeds in this order, each once.
    pub(super) fn in_order(&self, seeds: &[usize]) -> Self {
        let fine_tuned = seeds.iter().filter_map(|&seed| self.fine_tuned.get(seed).cloned()).collect();
        let (layer, pretrained) = (self.layer.clone(), self.pretrained.clone());
        Self { layer, parameters: self.parameters, pretrained, fine_tuned }
    }

    /// Columns of which all checkpoints together hold this many bytes.
    pub(super) fn columns_in(&self, bytes: usize) -> usize {
        bytes * self.parameters / (self.bytes().max(1) as usize)
    }

    pub(super) fn checkpoints(&self) -> impl Iterator<Item = (Checkpoint, &TensorView<'a>)> {
        let seeds = self.fine_tuned.iter().enumerate().map(|(i, view)| (Checkpoint::FineTuned(i), view));
        std::iter::once((Checkpoint::Pretrained, &self.pretrained)).chain(seeds)
    }

    /// Fills rows `0..n` of `tile` with columns `start..start + base.len()` of fine-tuned − base, and asks for as many
    /// columns from `ahead` on to be brought into the cache meanwhile, row by row: all at once would have to wait.
    pub(super) fn fill(
        &self,
        kernel: Kernel,
        relative_to: Base,
        (start, base, ahead): (usize, &mut [f64], usize),
        tile: &mut Tile,
    ) -> Result<(), AnalysisError> {
        let (checkpoint, view) = match (relative_to, self.fine_tuned.first()) {
            (Base::FirstSeed, Some(seed)) => (Checkpoint::FineTuned(0), seed),
            _ => (Checkpoint::Pretrained, &self.pretrained),
        };
        let later = ahead.min(self.parameters)..(ahead + base.len()).min(self.parameters);
        prefetch(&self.pretrained, &later);
        self.widen(kernel, (checkpoint, view), start, base)?;
        tile.set_width(base.len());
        for (row, view) in self.fine_tuned.iter().enumerate() {
            prefetch(view, &later);
            let out = tile.row_mut(row);
            if let Some(x) = Weights::of(view, start, base.len()) {
                let same = kernel.subtract(x, base, out);
                tile.set_zero(row, same);
            } else {
                self.widen(kernel, (Checkpoint::FineTuned(row), view), start, out)?;
                kernel.add_scaled(base, -1.0, out);
            }
        }
        Ok(())
    }

    /// Fills `out` with elements `start..` of the pretrained model.
    pub(super) fn fill_pretrained(&self, kernel: Kernel, start: usize, out: &mut [f64]) -> Result<(), AnalysisError> {
        self.widen(kernel, (Checkpoint::Pretrained, &self.pretrained), start, out)
    }

    fn widen(
        &self,
        kernel: Kernel,
        (checkpoint, view): (Checkpoint, &TensorView<'a>),
        start: usize,
        out: &mut [f64],
    ) -> Result<(), AnalysisError> {
        if let Some(x) = Weights::of(view, start, out.len()) {
            kernel.widen(x, out);
            return Ok(());
        }
        view.read_f64(start, out).map_err(|source| AnalysisError::Read {
            layer: self.layer.clone(),
            checkpoint,
            source,
        })
    }

    /// Which value made a product not finite: the first one that is NaN or infinite, or else their size.
    pub(super) fn blame(&self, kernel: Kernel) -> AnalysisError {
        let mut block = [0.0; 4096];
        for checkpoint in self.checkpoints() {
            for start in (0..self.parameters).step_by(block.len()) {
                let count = block.len().min(self.parameters - start);
                let values = &mut block[..count];
                if let Err(error) = self.widen(kernel, checkpoint, start, values) {
                    return error;
                }
                if let Some(at) = values.iter().position(|x| !x.is_finite()) {
                    let (layer, element) = (self.layer.clone(), start + at);
                    return AnalysisError::NonFinite { layer, checkpoint: checkpoint.0, element };
                }
            }
        }
        AnalysisError::Overflow { layer: self.layer.clone() }
    }
}

fn prefetch(view: &TensorView<'_>, elements: &Range<usize>) {
    let size = view.dtype().size();
    let bytes = view.as_le_bytes().and_then(|all| all.get(elements.start * size..elements.end * size));
    kernel::prefetch(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    fn f32s(shape: Vec<usize>, values: &[f32]) -> TensorView<'static> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        TensorView::contiguous(Dtype::F32, shape, bytes).unwrap()
    }

    #[test]
    fn shapes_and_dtypes_are_checked_by_checkpoint() {
        let pretrained = f32s(vec![2], &[0.0; 2]);
        let odd = TaskVectors::new("w", pretrained.clone(), vec![pretrained.clone(), f32s(vec![1, 2], &[0.0; 2])]);
        assert!(matches!(odd, Err(AnalysisError::ShapeMismatch { checkpoint: Checkpoint::FineTuned(1), .. })));
        let counter = TensorView::contiguous(Dtype::I32, vec![2], vec![0u8; 8]).unwrap();
        let odd = TaskVectors::new("w", counter, vec![]);
        assert!(matches!(odd, Err(AnalysisError::NotFloat { checkpoint: Checkpoint::Pretrained, .. })));
    }

    #[test]
    fn mixed_dtypes_are_widened_exactly_and_subtracted_in_f64() {
        let pretrained = f32s(vec![3], &[1.0, 2.0, 3.0]);
        let halves: Vec<u8> = [1.5f32, 2.25, -3.0].iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
        let doubles: Vec<u8> = [1.0f64 + 1e-15, 2.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let vectors = TaskVectors::new(
            "w",
            pretrained,
            vec![
                TensorView::contiguous(Dtype::F16, vec![3], halves).unwrap(),
                TensorView::contiguous(Dtype::F64, vec![3], doubles).unwrap(),
            ],
        )
        .unwrap();
        let mut tile = Tile::new(2, 8);
        vectors.fill(Kernel::detect(), Base::Pretrained, (0, &mut [0.0; 3], 3), &mut tile).unwrap();
        assert_eq!(tile.row(0), [0.5, 0.25, -6.0]);
        assert_eq!(tile.row(1), [1.0f64 + 1e-15 - 1.0, 0.0, 1.0]);
        assert_eq!(vectors.bytes(), 12 + 6 + 24);
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        let pretrained = f32s(vec![3], &[0.0; 3]);
        let seeds = vec![pretrained.clone(), f32s(vec![3], &[0.0, f32::NAN, f32::INFINITY])];
        let error = TaskVectors::new("w", pretrained, seeds).unwrap().blame(Kernel::detect());
        assert_eq!(
            error.to_string(),
            "layer w of the fine-tuned checkpoint 1 has a value that is not finite at element 1"
        );
    }
}
