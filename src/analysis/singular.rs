//! Singular task interference: how much the singular vectors of different task vectors of one matrix overlap. One singular
//! value decomposition for each task vector, so it is asked for by name. No I/O of its own.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, Par};

use crate::analysis::kernel::{Kernel, Tile};
use crate::analysis::task_vector::Base;
use crate::analysis::{AnalysisError, TaskVectors};

impl TaskVectors<'_> {
    /// STI = ‖(UᵀU − I) Σ (VᵀV − I)‖₁ of this layer as a matrix of `rows` × `columns`: U and V hold the first `rank`
    /// singular vectors of each task vector side by side, Σ their singular values, ‖ ‖₁ is the sum of the sizes of all
    /// entries (Gargiulo et al., Task Singular Vectors, CVPR 2025). 0 when no two task vectors share a direction on both
    /// sides. Of one thread, so that the number of threads changes nothing; holds one task vector and all U and V.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when the layer is of another size, [`AnalysisError::NoConvergence`], errors of reading.
    pub fn singular_interference(&self, (rows, columns): (usize, usize), rank: usize) -> Result<f64, AnalysisError> {
        let found = rows.saturating_mul(columns);
        if found != self.parameters() {
            return Err(AnalysisError::SizeMismatch { what: "parameters", expected: self.parameters(), found });
        }
        let size = rows.min(columns);
        let kept = rank.min(size);
        let total = kept * self.seeds();
        let (mut u, mut v) = (Mat::<f64>::zeros(rows, total), Mat::<f64>::zeros(columns, total));
        let mut sigma = vec![0.0; total];
        for seed in 0..self.seeds() {
            let matrix = self.matrix(seed, (rows, columns))?;
            let (mut left, mut right) = (Mat::<f64>::zeros(rows, size), Mat::<f64>::zeros(columns, size));
            let mut values = Diag::<f64>::zeros(size);
            let thin = ComputeSvdVectors::Thin;
            let scratch = svd_scratch::<f64>(rows, columns, thin, thin, Par::Seq, faer::prelude::default());
            svd(
                matrix.as_ref(),
                values.as_mut(),
                Some(left.as_mut()),
                Some(right.as_mut()),
                Par::Seq,
                MemStack::new(&mut MemBuffer::new(scratch)),
                faer::prelude::default(),
            )
            .map_err(|_| AnalysisError::NoConvergence { rows: size })?;
            for k in 0..kept {
                let column = seed * kept + k;
                u.col_mut(column).copy_from(left.col(k));
                v.col_mut(column).copy_from(right.col(k));
                sigma[column] = values.column_vector()[k];
            }
        }
        Ok(interference(&u, &sigma, &v))
    }

    /// One task vector as a matrix.
    fn matrix(&self, seed: usize, (rows, columns): (usize, usize)) -> Result<Mat<f64>, AnalysisError> {
        const WIDTH: usize = 1024;
        let (kernel, mut tile) = (Kernel::detect(), Tile::new(self.seeds(), WIDTH));
        let (mut base, mut matrix) = (vec![0.0; WIDTH], Mat::<f64>::zeros(rows, columns));
        for start in (0..self.parameters()).step_by(WIDTH) {
            let count = WIDTH.min(self.parameters() - start);
            self.fill(kernel, Base::Pretrained, (start, &mut base[..count], start + WIDTH), &mut tile)?;
            for (at, &x) in tile.row(seed).iter().enumerate() {
                if !x.is_finite() {
                    return Err(self.blame(kernel));
                }
                matrix[((start + at) / columns, (start + at) % columns)] = x;
            }
        }
        Ok(matrix)
    }
}

fn interference(u: &Mat<f64>, sigma: &[f64], v: &Mat<f64>) -> f64 {
    let overlap = |vectors: &Mat<f64>| {
        let mut products = vectors.transpose() * vectors;
        (0..sigma.len()).for_each(|k| products[(k, k)] -= 1.0);
        products
    };
    let (mut left, right) = (overlap(u), overlap(v));
    for (k, &value) in sigma.iter().enumerate() {
        left.col_mut(k).iter_mut().for_each(|x| *x *= value);
    }
    let product = left * right;
    (0..product.ncols()).flat_map(|column| product.col(column).iter()).map(|x| x.abs()).sum()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::tensor::{Dtype, TensorView};

    #[derive(Deserialize)]
    struct Golden {
        name: String,
        shape: [usize; 2],
        rank: usize,
        x: Vec<Vec<f64>>,
        sti: f64,
    }

    fn vectors(rows: &[Vec<f64>]) -> TaskVectors<'static> {
        let view = |values: &[f64]| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            TensorView::contiguous(Dtype::F64, vec![values.len()], bytes).unwrap()
        };
        TaskVectors::new("w", view(&vec![0.0; rows[0].len()]), rows.iter().map(|row| view(row)).collect()).unwrap()
    }

    #[test]
    fn interference_is_that_of_numpy() {
        let cases: Vec<Golden> = serde_json::from_str(include_str!("../../fixtures/golden/sti.json")).unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let found = vectors(&case.x).singular_interference(case.shape.into(), case.rank).unwrap();
            assert!((found - case.sti).abs() <= 1e-9 * (1.0 + case.sti), "{}: {found} is not {}", case.name, case.sti);
        }
    }

    #[test]
    fn matrices_of_another_size_and_values_that_are_not_finite_are_refused() {
        let odd = vectors(&[vec![1.0; 6], vec![2.0; 6]]).singular_interference((2, 2), 1);
        assert!(matches!(odd, Err(AnalysisError::SizeMismatch { expected: 6, found: 4, .. })));
        let nan = vectors(&[vec![1.0; 4], vec![f64::NAN; 4]]).singular_interference((2, 2), 1);
        assert!(matches!(nan, Err(AnalysisError::NonFinite { .. })));
    }
}
