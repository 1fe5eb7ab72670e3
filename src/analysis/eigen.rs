//! Eigenvalues and eigenvectors of small symmetric matrices: faer's solver, and Jacobi rotations where faer fails or
//! where small eigenvalues must keep their relative accuracy. No I/O.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par};

/// A = V diag(values) Vᵀ with the values descending.
#[derive(Debug, Clone)]
pub(super) struct Eigen {
    pub(super) size: usize,
    pub(super) values: Vec<f64>,
    /// Vector k is column k of this size × size row-major matrix.
    pub(super) vectors: Vec<f64>,
}

impl Eigen {
    /// Of a symmetric row-major matrix: by faer, or by Jacobi where faer does not converge. `None` when neither does.
    pub(super) fn of(matrix: &[f64], size: usize) -> Option<Self> {
        Self::by_faer(matrix, size).or_else(|| Self::by_jacobi(matrix, size))
    }

    /// The eigenvalues alone, descending.
    pub(super) fn values(matrix: &[f64], size: usize) -> Option<Vec<f64>> {
        if size == 0 || matrix.iter().any(|x| !x.is_finite()) {
            return Self::of(matrix, size).map(|eigen| eigen.values);
        }
        let mut values = Diag::<f64>::zeros(size);
        let scratch =
            self_adjoint_evd_scratch::<f64>(size, ComputeEigenvectors::No, Par::Seq, faer::prelude::default());
        let outcome = self_adjoint_evd(
            MatRef::from_row_major_slice(matrix, size, size),
            values.as_mut(),
            None,
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            faer::prelude::default(),
        );
        let mut values: Vec<f64> = values.column_vector().iter().copied().collect();
        values.sort_by(|a, b| b.total_cmp(a));
        let plausible = outcome.is_ok() && keeps_trace(&values, size, matrix);
        if plausible { Some(values) } else { Self::of(matrix, size).map(|eigen| eigen.values) }
    }

    /// On one thread, so that the result does not depend on how many there are.
    fn by_faer(matrix: &[f64], size: usize) -> Option<Self> {
        if size == 0 || matrix.iter().any(|x| !x.is_finite()) {
            return (size == 0).then(|| Self { size, values: Vec::new(), vectors: Vec::new() });
        }
        let mut vectors = Mat::<f64>::zeros(size, size);
        let mut values = Diag::<f64>::zeros(size);
        let scratch =
            self_adjoint_evd_scratch::<f64>(size, ComputeEigenvectors::Yes, Par::Seq, faer::prelude::default());
        self_adjoint_evd(
            MatRef::from_row_major_slice(matrix, size, size),
            values.as_mut(),
            Some(vectors.as_mut()),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            faer::prelude::default(),
        )
        .ok()?;
        let values: Vec<f64> = values.column_vector().iter().copied().collect();
        let eigen = Self::sorted(size, &values, |row, column| vectors[(row, column)]);
        eigen.is_plausible(matrix).then_some(eigen)
    }

    /// Cyclic Jacobi rotations until each off-diagonal entry is negligible beside its own two diagonal entries. On a
    /// positive matrix that is well conditioned after scaling its diagonal to 1, small eigenvalues come out to high
    /// relative accuracy (Demmel and Veselić, SIAM J. Matrix Anal. Appl. 13, 1992), which a solver that works to the
    /// size of the largest cannot give.
    pub(super) fn by_jacobi(matrix: &[f64], size: usize) -> Option<Self> {
        const SWEEPS: usize = 60;
        if matrix.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let mut a = matrix.to_vec();
        let mut vectors = vec![0.0; size * size];
        for i in 0..size {
            vectors[i * size + i] = 1.0;
        }
        let scale = (0..size).map(|i| a[i * size + i].abs()).fold(0.0, f64::max);
        for _ in 0..SWEEPS {
            let mut rotated = false;
            for p in 0..size {
                for q in p + 1..size {
                    rotated |= rotate(&mut a, &mut vectors, (size, p, q), scale);
                }
            }
            if !rotated {
                let values: Vec<f64> = (0..size).map(|i| a[i * size + i]).collect();
                return Some(Self::sorted(size, &values, |row, column| vectors[row * size + column]));
            }
        }
        None
    }

    fn sorted(size: usize, values: &[f64], vector: impl Fn(usize, usize) -> f64) -> Self {
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        Self {
            size,
            values: order.iter().map(|&k| values[k]).collect(),
            vectors: (0..size)
                .flat_map(|row| order.iter().map(move |&k| (row, k)))
                .map(|(r, k)| vector(r, k))
                .collect(),
        }
    }

    /// Finite, and the trace is kept.
    fn is_plausible(&self, matrix: &[f64]) -> bool {
        self.vectors.iter().all(|x| x.is_finite()) && keeps_trace(&self.values, self.size, matrix)
    }
}

/// Whether these can be the eigenvalues of the matrix: finite, and of its trace.
fn keeps_trace(values: &[f64], n: usize, matrix: &[f64]) -> bool {
    let trace: f64 = (0..n).map(|i| matrix[i * n + i]).sum();
    let size: f64 = (0..n).map(|i| matrix[i * n + i].abs()).sum();
    let sum: f64 = values.iter().sum();
    values.iter().all(|x| x.is_finite()) && (sum - trace).abs() <= 1e-12 * (1.0 + n as f64) * size.max(sum.abs())
}

/// Makes entry (p, q) zero by a rotation of rows and columns p and q; false when it was negligible.
fn rotate(a: &mut [f64], vectors: &mut [f64], (n, p, q): (usize, usize, usize), scale: f64) -> bool {
    let (app, aqq, apq) = (a[p * n + p], a[q * n + q], a[p * n + q]);
    let negligible = f64::EPSILON * (app.abs() * aqq.abs()).sqrt();
    if apq.abs() <= negligible.max(scale * f64::MIN_POSITIVE) || apq.abs() <= scale * 1e-40 {
        return false;
    }
    let theta = (aqq - app) / (2.0 * apq);
    let t = if theta.abs() > 1e150 { 0.5 / theta } else { theta.signum() / (theta.abs() + theta.hypot(1.0)) };
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
    }
    // The rotated pair in its accurate form: the loops above would lose the small one to cancellation.
    (a[p * n + p], a[q * n + q]) = (app - t * apq, aqq + t * apq);
    (a[p * n + q], a[q * n + p]) = (0.0, 0.0);
    for k in 0..n {
        let (x, y) = (vectors[k * n + p], vectors[k * n + q]);
        vectors[k * n + p] = c * x - s * y;
        vectors[k * n + q] = s * x + c * y;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn symmetric(size: usize, entries: &[f64]) -> Vec<f64> {
        let mut matrix = vec![0.0; size * size];
        for i in 0..size {
            for j in 0..=i {
                matrix[i * size + j] = entries[i * size + j];
                matrix[j * size + i] = entries[i * size + j];
            }
        }
        matrix
    }

    fn residual(matrix: &[f64], eigen: &Eigen) -> f64 {
        let n = eigen.size;
        let mut worst = 0.0f64;
        for i in 0..n {
            for j in 0..n {
                let rebuilt: f64 =
                    (0..n).map(|k| eigen.vectors[i * n + k] * eigen.values[k] * eigen.vectors[j * n + k]).sum();
                worst = worst.max((rebuilt - matrix[i * n + j]).abs());
            }
        }
        worst
    }

    proptest! {
        #[test]
        fn faer_and_jacobi_rebuild_the_matrix_and_agree(
            size in 1usize..9,
            entries in proptest::collection::vec(-10.0..10.0f64, 64),
        ) {
            let matrix = symmetric(size, &entries);
            let (one, other) = (Eigen::by_faer(&matrix, size).unwrap(), Eigen::by_jacobi(&matrix, size).unwrap());
            prop_assert!(residual(&matrix, &one) < 1e-12);
            prop_assert!(residual(&matrix, &other) < 1e-12);
            for (a, b) in one.values.iter().zip(&other.values) {
                prop_assert!((a - b).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn jacobi_keeps_the_relative_accuracy_of_a_scaled_matrix() {
        // D A D with A = [[1, ½], [½, 1]] and D = diag(1, 1e-9): the small eigenvalue is ¾·1e-18 up to 1e-18.
        let matrix = [1.0, 0.5e-9, 0.5e-9, 1e-18];
        let eigen = Eigen::by_jacobi(&matrix, 2).unwrap();
        assert!((eigen.values[1] / 0.75e-18 - 1.0).abs() < 1e-12, "{}", eigen.values[1]);
    }

    #[test]
    fn values_that_are_not_finite_have_no_eigenvalues() {
        assert!(Eigen::of(&[f64::NAN], 1).is_none());
        assert!(Eigen::of(&[], 0).unwrap().values.is_empty());
    }
}
