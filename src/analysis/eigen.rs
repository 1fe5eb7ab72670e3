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

    /// The eigenvalues alone, descending: by QL on the tridiagonal form, which for tens of rows takes a fraction of what a
    /// solver for large matrices needs to set itself up. Where that does not converge, as [`Self::of`].
    pub(super) fn values(matrix: &[f64], size: usize) -> Option<Vec<f64>> {
        let found = tridiagonal(matrix, size).and_then(|(diagonal, beside)| tridiagonal_values(diagonal, beside));
        let plausible = found.filter(|values| keeps_trace(values, size, matrix));
        plausible.or_else(|| Self::of(matrix, size).map(|eigen| eigen.values))
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

/// Householder reduction of a symmetric matrix to a tridiagonal one with the same eigenvalues: its diagonal, and the entries
/// beside it with a 0 at the end (Golub and Van Loan, Matrix Computations, 8.3.1). `None` for values that are not finite.
fn tridiagonal(matrix: &[f64], n: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    if matrix.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let mut a = matrix.to_vec();
    let mut beside = vec![0.0; n];
    for k in 0..n.saturating_sub(2) {
        let scale = (k + 1..n).map(|i| a[i * n + k].abs()).fold(0.0, f64::max);
        if (k + 2..n).all(|i| a[i * n + k] == 0.0) {
            beside[k] = a[(k + 1) * n + k];
            continue;
        }
        // Scaled, so that squares neither overflow nor vanish.
        let mut v: Vec<f64> = (k + 1..n).map(|i| a[i * n + k] / scale).collect();
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt().copysign(v[0]);
        beside[k] = -length * scale;
        v[0] += length;
        let twice = 2.0 / v.iter().map(|x| x * x).sum::<f64>();
        let dot = |row: &[f64]| row.iter().zip(&v).map(|(x, y)| x * y).sum::<f64>();
        let p: Vec<f64> = (k + 1..n).map(|i| twice * dot(&a[i * n + k + 1..(i + 1) * n])).collect();
        let half = 0.5 * twice * p.iter().zip(&v).map(|(x, y)| x * y).sum::<f64>();
        let w: Vec<f64> = p.iter().zip(&v).map(|(p, v)| p - half * v).collect();
        for (i, (vi, wi)) in v.iter().zip(&w).enumerate() {
            let row = &mut a[(k + 1 + i) * n + k + 1..(k + 2 + i) * n];
            for (x, (vj, wj)) in row.iter_mut().zip(v.iter().zip(&w)) {
                *x -= vi * wj + wi * vj;
            }
        }
    }
    if n >= 2 {
        beside[n - 2] = a[(n - 1) * n + n - 2];
    }
    Some(((0..n).map(|i| a[i * n + i]).collect(), beside))
}

/// Eigenvalues of a tridiagonal matrix, descending, by QL steps with implicit shifts (Golub and Van Loan, 8.3.3). `None`
/// when one does not converge.
fn tridiagonal_values(mut d: Vec<f64>, mut e: Vec<f64>) -> Option<Vec<f64>> {
    const STEPS: usize = 60;
    let n = d.len();
    for l in 0..n {
        for step in 0.. {
            let small = |m: &usize| e[*m].abs() <= f64::EPSILON * (d[*m].abs() + d[*m + 1].abs());
            let m = (l..n - 1).find(small).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if step == STEPS {
                return None;
            }
            let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[m] - d[l] + e[l] / (g + g.hypot(1.0).copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut i = m;
            while i > l {
                i -= 1;
                let (f, b) = (s * e[i], c * e[i]);
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = d[i + 1] - p;
                let r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                if i == l {
                    d[l] -= p;
                    e[l] = g;
                    e[m] = 0.0;
                }
            }
        }
    }
    d.sort_by(|a, b| b.total_cmp(a));
    Some(d)
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

    #[test]
    fn values_alone_are_those_with_vectors() {
        let mut state = 5u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        for (n, scale) in [(1, 1.0), (2, 1.0), (3, 1e-200), (9, 1.0), (9, 1e150), (40, 1e-3)] {
            for kind in 0..4 {
                let x: Vec<f64> = (0..n * n).map(|_| uniform() * scale).collect();
                let entry = |i: usize, j: usize| match kind {
                    0 => x[i * n + j] + x[j * n + i],
                    // Rank one, diagonal with equal values, and nothing.
                    1 => x[i] * x[j] / scale,
                    2 if i == j => scale * (i / 2) as f64,
                    _ => 0.0,
                };
                let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
                let (d, e) = tridiagonal(&matrix, n).unwrap();
                let found = tridiagonal_values(d, e).unwrap();
                let expected = Eigen::of(&matrix, n).unwrap().values;
                let size = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                for (a, b) in found.iter().zip(&expected) {
                    assert!((a - b).abs() <= 1e-13 * n as f64 * size, "{n} {kind}: {a} is not {b}");
                }
                assert_eq!(Eigen::values(&matrix, n).unwrap().len(), n);
            }
        }
        assert!(Eigen::values(&[f64::NAN], 1).is_none() && Eigen::values(&[], 0).is_some());
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
