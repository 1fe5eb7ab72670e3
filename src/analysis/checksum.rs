//! CRC-32 of the tensors of a layer, made from what a pass brings into the cache anyway and compared when it ends. No I/O
//! of its own: it reads mapped pages.

use std::ops::Range;

use crc32fast::Hasher;

use crate::analysis::{AnalysisError, Checkpoint, TaskVectors};
use crate::tensor::TensorView;

/// The CRC-32 of consecutive columns of every checkpoint that has one left to compare.
#[derive(Debug)]
pub(super) struct Checksums(Vec<Hasher>);

impl Checksums {
    /// Of no columns yet.
    pub(super) fn new(vectors: &TaskVectors<'_>) -> Self {
        Self(to_compare(vectors).map(|_| Hasher::new()).collect())
    }

    /// Goes on with these columns.
    pub(super) fn add(&mut self, vectors: &TaskVectors<'_>, columns: Range<usize>) {
        for (hasher, (_, view, _)) in self.0.iter_mut().zip(to_compare(vectors)) {
            let size = view.dtype().size();
            let bytes = view.as_le_bytes().and_then(|all| all.get(columns.start * size..columns.end * size));
            hasher.update(bytes.unwrap_or_default());
        }
    }

    /// Compares those of all columns, of which `pieces` are in order.
    ///
    /// # Errors
    /// [`AnalysisError::Damaged`], naming the checkpoint.
    pub(super) fn compare<'p>(
        vectors: &TaskVectors<'_>,
        pieces: impl Iterator<Item = &'p Self> + Clone,
    ) -> Result<(), AnalysisError> {
        for (at, (checkpoint, _, expected)) in to_compare(vectors).enumerate() {
            let mut whole = Hasher::new();
            pieces.clone().filter_map(|piece| piece.0.get(at)).for_each(|piece| whole.combine(piece));
            let found = whole.finalize();
            if found != expected {
                let layer = vectors.layer().to_owned();
                return Err(AnalysisError::Damaged { layer, checkpoint, expected, found });
            }
        }
        Ok(())
    }
}

impl TaskVectors<'_> {
    /// Compares the CRC-32 of every view that has one left to compare ([`TensorView::crc32_to_compare`]), in a pass of its
    /// own over their bytes: for readers that make none themselves.
    ///
    /// # Errors
    /// [`AnalysisError::Damaged`], naming the checkpoint.
    pub fn compare_crc32(&self) -> Result<(), AnalysisError> {
        let mut whole = Checksums::new(self);
        whole.add(self, 0..self.parameters());
        Checksums::compare(self, std::iter::once(&whole))
    }
}

fn to_compare<'v>(vectors: &'v TaskVectors<'_>) -> impl Iterator<Item = (Checkpoint, &'v TensorView<'v>, u32)> {
    vectors.checkpoints().filter_map(|(checkpoint, view)| Some((checkpoint, view, view.crc32_to_compare()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Progress, Stage};
    use crate::tensor::Dtype;

    /// More than two pieces, the last of them short, and a last tile that is.
    const D: usize = 150_001;

    fn view(seed: u32, dtype: Dtype) -> TensorView<'static> {
        let weights = (0..D as u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20) as f32);
        let bytes: Vec<u8> = match dtype {
            Dtype::F64 => weights.flat_map(|x| f64::from(x).to_le_bytes()).collect(),
            _ => weights.flat_map(f32::to_le_bytes).collect(),
        };
        TensorView::contiguous(dtype, vec![D], bytes).unwrap()
    }

    fn stated(view: TensorView<'static>) -> TensorView<'static> {
        let crc32 = crc32fast::hash(view.as_le_bytes().unwrap());
        view.with_crc32_to_compare(crc32)
    }

    #[test]
    fn what_agrees_passes_and_what_does_not_is_named_before_its_values_are() {
        let task = Progress::silent().begin(Stage::Compute, "test", None);
        let sound = || [stated(view(1, Dtype::F32)), view(2, Dtype::F32), stated(view(3, Dtype::F64))];
        let [pretrained, first, second] = sound();
        let vectors = TaskVectors::new("w", pretrained, vec![first, second]).unwrap();
        let gram = vectors.gram(&task).unwrap();
        assert_eq!(vectors.gram_and_interference(&task).unwrap().0, gram);
        vectors.compare_crc32().unwrap();
        for (at, damaged) in [(0, Checkpoint::Pretrained), (2, Checkpoint::FineTuned(1))] {
            for element in [0, 65_536, D - 1] {
                let mut views = sound();
                let size = views[at].dtype().size();
                let mut bytes = views[at].as_le_bytes().unwrap().to_vec();
                // Not a number, besides.
                bytes[element * size..][..size].fill(0xff);
                let crc32 = views[at].crc32_to_compare().unwrap();
                let shape = vec![D];
                let view = TensorView::contiguous(views[at].dtype(), shape, bytes).unwrap();
                views[at] = view.with_crc32_to_compare(crc32);
                let [pretrained, first, second] = views;
                let vectors = TaskVectors::new("w", pretrained, vec![first, second]).unwrap();
                let found = [
                    vectors.gram(&task).map(drop),
                    vectors.gram_and_interference(&task).map(drop),
                    vectors.compare_crc32(),
                ];
                for found in found {
                    let named = |checkpoint| checkpoint == damaged;
                    assert!(
                        matches!(found, Err(AnalysisError::Damaged { checkpoint, .. }) if named(checkpoint)),
                        "{at} {element}: {found:?}"
                    );
                }
            }
        }
    }
}
