//! Tensors that were cut into a grid of pieces, each in a place of its own: the check that the pieces are exactly the
//! whole, and the copy that joins them. No I/O of its own.

use std::collections::HashSet;

use super::error::CheckpointError;
use super::parts::{Crc32, Part};
use super::torch::TensorLayout;
use crate::tensor::{Dtype, TensorView, element_count, row_major_strides};

/// A tensor in several pieces, joined when it is asked for.
#[derive(Debug)]
pub(super) struct Pieces {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) pieces: Vec<Piece>,
}

/// One piece, and where in the whole its first element is.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) part: Part,
    pub(super) layout: TensorLayout,
    pub(super) at: Vec<usize>,
}

impl Pieces {
    /// Bytes of the files' parts that hold the pieces.
    pub(super) fn held(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.part.held()).sum()
    }

    /// Whether the file states a checksum for every piece.
    pub(super) fn has_checksum(&self) -> bool {
        self.pieces.iter().all(|piece| piece.part.has_checksum(piece.layout.storage))
    }

    /// Joins the pieces to a copy in memory.
    pub(super) fn view(&self, name: &str, crc32: Crc32) -> Result<TensorView<'_>, CheckpointError> {
        // The copy passes over everything, and the reader of the whole knows nothing of the pieces.
        let crc32 = if crc32 == Crc32::Left { Crc32::Compared } else { crc32 };
        let size = self.dtype.size();
        // Cannot overflow: checked against the length of the files when the checkpoint was opened.
        let mut whole = vec![0; element_count(&self.shape).unwrap_or(0) * size];
        let strides = row_major_strides(&self.shape);
        for piece in &self.pieces {
            let view = piece.part.view(name, &piece.layout, crc32)?;
            let misfit =
                |source| CheckpointError::Layout { file: piece.part.file.clone(), tensor: name.to_owned(), source };
            let run = run_length(view.shape(), &self.shape);
            for start in (0..view.len()).step_by(run) {
                let to = place_of(start, (view.shape(), &piece.at), &strides) * size;
                if let Some(out) = whole.get_mut(to..to + run * size) {
                    view.read_le_bytes(start, out).map_err(misfit)?;
                }
            }
        }
        TensorView::contiguous(self.dtype, self.shape.clone(), whole).map_err(|source| CheckpointError::Layout {
            file: self.pieces.first().map(|piece| piece.part.file.clone()).unwrap_or_default(),
            tensor: name.to_owned(),
            source,
        })
    }
}

/// How many elements of a piece lie side by side in the whole: its last dimension, and as many before it as it spans.
fn run_length(piece: &[usize], whole: &[usize]) -> usize {
    let mut run = 1;
    for (&extent, &full) in piece.iter().zip(whole).rev() {
        run *= extent;
        if extent != full {
            break;
        }
    }
    run
}

/// Where in the whole the element `index` of a piece lies.
fn place_of(index: usize, (shape, at): (&[usize], &[usize]), strides: &[usize]) -> usize {
    let mut rest = index;
    let mut place = 0;
    for ((&extent, &first), &stride) in shape.iter().zip(at).zip(strides).rev() {
        place += (first + rest % extent) * stride;
        rest /= extent;
    }
    place
}

/// Whether boxes, each with its first index and its extents, fill a whole of this shape exactly once. Only grids pass:
/// every dimension is cut at certain places, and there is one box for each cell.
pub(super) fn is_grid<'b>(whole: &[usize], boxes: impl Iterator<Item = (&'b [usize], &'b [usize])> + Clone) -> bool {
    let count = boxes.clone().count();
    let mut cells = 1usize;
    for (axis, &extent) in whole.iter().enumerate() {
        let along = boxes.clone().map(|(at, shape)| (at.get(axis).copied(), shape.get(axis).copied()));
        let Some(mut spans) = along.map(|(at, extent)| at.zip(extent)).collect::<Option<Vec<_>>>() else {
            return false;
        };
        spans.sort_unstable();
        spans.dedup();
        let mut next = 0usize;
        for &(at, extent) in &spans {
            if at != next || extent == 0 {
                return false;
            }
            let Some(end) = at.checked_add(extent) else { return false };
            next = end;
        }
        if next != extent {
            return false;
        }
        cells = cells.saturating_mul(spans.len());
    }
    let mut seen = HashSet::new();
    cells == count && boxes.map(|(at, _)| at).all(|at| seen.insert(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Box<'a> = (&'a [usize], &'a [usize]);

    fn grid(whole: &[usize], boxes: &[Box<'_>]) -> bool {
        is_grid(whole, boxes.iter().copied())
    }

    #[test]
    fn only_boxes_that_fill_the_whole_once_are_a_grid() {
        assert!(grid(&[], &[(&[], &[])]), "a scalar in one piece");
        assert!(grid(&[5], &[(&[0], &[3]), (&[3], &[2])]));
        assert!(grid(&[2, 4], &[(&[1, 3], &[1, 1]), (&[0, 0], &[1, 3]), (&[1, 0], &[1, 3]), (&[0, 3], &[1, 1])]));
        let wrong: [(&[usize], &[Box<'_>]); 8] = [
            (&[5], &[]),
            (&[], &[(&[], &[]), (&[], &[])]),
            (&[5], &[(&[0], &[3])]),
            (&[5], &[(&[0], &[3]), (&[4], &[1])]),
            (&[5], &[(&[0], &[3]), (&[2], &[3])]),
            (&[5], &[(&[0], &[3]), (&[3], &[3])]),
            (&[2, 2], &[(&[0, 0], &[2, 1]), (&[0, 1], &[1, 1]), (&[1, 1], &[1, 1])]),
            (&[2, 2], &[(&[0, 0], &[1, 2]), (&[0, 0], &[1, 2])]),
        ];
        for (whole, boxes) in wrong {
            assert!(!grid(whole, boxes), "{whole:?} {boxes:?}");
        }
    }

    #[test]
    fn runs_are_as_long_as_they_can_be() {
        assert_eq!(run_length(&[], &[]), 1);
        assert_eq!(run_length(&[2, 3, 4], &[8, 3, 4]), 24);
        assert_eq!(run_length(&[2, 2, 4], &[2, 3, 4]), 8);
        assert_eq!(run_length(&[2, 3, 1], &[2, 3, 4]), 1);
        assert_eq!(place_of(3, (&[2, 2], &[1, 1]), &[4, 1]), 10);
    }
}
