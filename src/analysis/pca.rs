//! Principal component analysis from a Gram matrix, with the definitions of scikit-learn's `PCA`. Components are kept as
//! dual coefficients: n numbers each, not d. No I/O.

use crate::analysis::eigen::Eigen;
use crate::analysis::gram::{Pass, Rotation};
use crate::analysis::kernel::{Block, Kernel};
use crate::analysis::task_vector::Base;
use crate::analysis::{AnalysisError, Gram, TaskVectors};
use crate::progress::{Progress, Stage};

/// Which way round a component points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum SignRule {
    /// The seed with the largest absolute score has a positive score; the first of equals. Needs no further pass.
    /// (scikit-learn's `svd_flip(u_based_decision=True)`, its rule before 1.5.)
    #[default]
    Seeds,
    /// The largest absolute entry of the component is positive; the first of equals. One more pass over the layer.
    /// (scikit-learn's `svd_flip(u_based_decision=False)`.)
    Parameters,
}

/// The PCA of one layer: n task vectors of d parameters.
///
/// X_c = U diag(σ) Vᵀ with X_c the task vectors less their mean. Component k, row k of scikit-learn's `components_`, is
/// v_k = Xᵀ a_k with **dual coefficients** a_k = u_k / σ_k, which sum to 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    seeds: usize,
    parameters: u64,
    /// λ_k, min(n, d) of them, descending; exactly 0 from `rank` on.
    variance: Vec<f64>,
    rank: usize,
    /// n × rank, row-major.
    left: Vec<f64>,
}

/// Relative accuracy demanded of every explained variance above [`SMALLEST`] of the total, with a margin of ten.
const WANTED: f64 = 1e-10;
/// Share of the total variance below which accuracy is not demanded, with a margin of ten.
const SMALLEST: f64 = 1e-13;

impl Pca {
    /// The PCA of the seeds whose Gram this is.
    ///
    /// Rounding in the Gram is of the size ε n max Gᵢᵢ. Explained variances below that are set to 0; the others are off
    /// by up to that. When the mean of the task vectors dwarfs their differences, or the spectrum spans more than five
    /// orders of magnitude, [`TaskVectors::pca`] is more accurate, since it can read the layer again.
    ///
    /// # Errors
    /// [`AnalysisError::TooFewSeeds`] below two seeds, `NoConvergence` when two eigensolvers fail.
    pub fn from_gram(gram: &Gram) -> Result<Self, AnalysisError> {
        let noise = noise_of(gram.largest_square(), gram.seeds());
        Self::from_products(gram.values(), (gram.seeds(), gram.parameters()), noise)
    }

    fn from_products(products: &[f64], (seeds, parameters): (usize, u64), noise: f64) -> Result<Self, AnalysisError> {
        if seeds < 2 {
            return Err(AnalysisError::TooFewSeeds { found: seeds });
        }
        let inner = seeds - 1;
        let basis = helmert(seeds);
        let centred = congruence(&basis, products, (inner, seeds));
        let eigen = Eigen::of(&centred, inner).ok_or(AnalysisError::NoConvergence { rows: seeds })?;
        let left = product(&transpose(&basis, inner, seeds), &eigen.vectors, (seeds, inner, inner));
        Ok(Self::assemble((seeds, parameters), &eigen.values, &left, noise))
    }

    /// From all n − 1 squared singular values, descending, and their left vectors (n × (n − 1)).
    fn assemble((seeds, parameters): (usize, u64), squares: &[f64], left: &[f64], noise: f64) -> Self {
        let inner = seeds - 1;
        let variance = Self::kept_variances((seeds, parameters), squares, noise);
        let rank = variance.iter().take_while(|&&variance| variance > 0.0).count();
        let mut kept = Vec::with_capacity(seeds * rank);
        for row in left.chunks_exact(inner) {
            kept.extend_from_slice(&row[..rank]);
        }
        let mut pca = Self { seeds, parameters, variance, rank, left: kept };
        pca.point_at_seeds();
        pca
    }

    /// λ_k from all squared singular values, exactly 0 for those that are rounding.
    pub(super) fn kept_variances((seeds, parameters): (usize, u64), squares: &[f64], noise: f64) -> Vec<f64> {
        let inner = seeds - 1;
        let most = inner.min(usize::try_from(parameters).unwrap_or(usize::MAX));
        let rank = squares.iter().take(most).take_while(|&&square| square > noise && square > 0.0).count();
        let mut variance = vec![0.0; seeds.min(usize::try_from(parameters).unwrap_or(usize::MAX))];
        for (value, square) in variance.iter_mut().zip(&squares[..rank]) {
            *value = square / inner as f64;
        }
        variance
    }

    fn point_at_seeds(&mut self) {
        for k in 0..self.rank {
            let column = self.left.iter().skip(k).step_by(self.rank);
            let largest = column.fold(0.0, |best: f64, &u| if u.abs() > best.abs() { u } else { best });
            if largest < 0.0 {
                self.flip(k);
            }
        }
    }

    fn flip(&mut self, component: usize) {
        for row in self.left.chunks_exact_mut(self.rank) {
            row[component] = -row[component];
        }
    }

    /// Whether this PCA, made from products with rounding errors up to `noise`, is as accurate as one from the singular
    /// values of the centred rows in `f64`.
    fn is_accurate(&self, noise: f64) -> bool {
        let resolved = self.squares().all(|square| noise <= WANTED * square);
        // What was cut off as rounding must be nothing, or beneath notice.
        let complete = self.is_full_rank() || noise <= SMALLEST * self.squares().sum::<f64>();
        noise == 0.0 || (self.rank > 0 && resolved && complete)
    }

    fn is_full_rank(&self) -> bool {
        self.rank as u64 == self.parameters.min(self.seeds as u64 - 1)
    }

    fn squares(&self) -> impl Iterator<Item = f64> {
        let scale = self.seeds as f64 - 1.0;
        self.variance[..self.rank].iter().map(move |variance| variance * scale)
    }

    /// A PCA from what a fit stored: `explained_variance` in full, and the left vectors of those that are not 0
    /// (n × rank, row-major).
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] or [`AnalysisError::OutOfRange`] when these are not the parts of one PCA.
    pub fn from_parts(
        (seeds, parameters): (usize, u64),
        explained_variance: Vec<f64>,
        left_vectors: Vec<f64>,
    ) -> Result<Self, AnalysisError> {
        if seeds < 2 {
            return Err(AnalysisError::TooFewSeeds { found: seeds });
        }
        let expected = seeds.min(usize::try_from(parameters).unwrap_or(usize::MAX));
        check_size("explained variances", expected, explained_variance.len())?;
        for (k, &found) in explained_variance.iter().enumerate() {
            if !(found.is_finite() && found >= 0.0 && (k == 0 || found <= explained_variance[k - 1])) {
                let expected = "finite, not negative and descending";
                return Err(AnalysisError::OutOfRange { what: "an explained variance", expected, found });
            }
        }
        let rank = explained_variance.iter().take_while(|&&variance| variance > 0.0).count();
        check_size("left vector entries", seeds * rank, left_vectors.len())?;
        if let Some(&found) = left_vectors.iter().find(|x| !x.is_finite()) {
            return Err(AnalysisError::OutOfRange { what: "a left vector entry", expected: "finite", found });
        }
        Ok(Self { seeds, parameters, variance: explained_variance, rank, left: left_vectors })
    }

    /// Number of seeds n.
    pub fn seeds(&self) -> usize {
        self.seeds
    }

    /// Number of parameters d.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Number of components with variance, at most min(n − 1, d). Only these are determined by the data.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// No variance at all: a frozen layer, or identical seeds.
    pub fn is_degenerate(&self) -> bool {
        self.rank == 0
    }

    /// `explained_variance_`: λ_k = σ_k² / (n − 1), min(n, d) of them, descending, exactly 0 from [`Self::rank`] on.
    pub fn explained_variance(&self) -> &[f64] {
        &self.variance
    }

    /// Sum of all explained variances: the trace of the covariance.
    pub fn total_variance(&self) -> f64 {
        self.variance.iter().sum()
    }

    /// `explained_variance_ratio_`: λ_k / Σ λ. `None` where scikit-learn divides 0 by 0: when degenerate.
    pub fn explained_variance_ratio(&self) -> Option<Vec<f64>> {
        let total = self.total_variance();
        (!self.is_degenerate()).then(|| self.variance.iter().map(|variance| variance / total).collect())
    }

    /// `singular_values_`: σ_k of the centred task vectors, min(n, d) of them.
    pub fn singular_values(&self) -> Vec<f64> {
        self.variance.iter().map(|variance| (variance * (self.seeds as f64 - 1.0)).sqrt()).collect()
    }

    /// `noise_variance_` of a model that keeps `components` components: the mean of the explained variances left out, 0
    /// when none is.
    pub fn noise_variance(&self, components: usize) -> f64 {
        match self.variance.get(components..) {
            Some(rest) if !rest.is_empty() => rest.iter().sum::<f64>() / rest.len() as f64,
            _ => 0.0,
        }
    }

    /// U: n × rank, row-major; column k is the unit vector u_k of component k.
    pub fn left_vectors(&self) -> &[f64] {
        &self.left
    }

    /// Dual coefficients: n × rank, row-major; column k is a_k = u_k / σ_k, with v_k = Xᵀ a_k.
    pub fn duals(&self) -> Vec<f64> {
        let sigma = self.singular_values();
        self.by_column(|k, u| u / sigma[k])
    }

    /// `transform` of the seeds themselves: n × rank scores U σ, row-major; divided by √λ_k when `whiten`.
    pub fn scores(&self, whiten: bool) -> Vec<f64> {
        let sigma = self.singular_values();
        let unit = (self.seeds as f64 - 1.0).sqrt();
        self.by_column(|k, u| if whiten { u * unit } else { u * sigma[k] })
    }

    fn by_column(&self, scale: impl Fn(usize, f64) -> f64) -> Vec<f64> {
        let rows = self.left.chunks_exact(self.rank.max(1));
        rows.flat_map(|row| row.iter().enumerate().map(|(k, &u)| scale(k, u)).collect::<Vec<_>>()).collect()
    }

    /// `transform` of other task vectors y: m × rank scores (y − mean) · v_k, from their inner products with the seeds'
    /// task vectors (`cross`, m × n, row-major) and the Gram of these.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when `gram` is not of these seeds or `cross` not of whole rows.
    pub fn transform(&self, gram: &Gram, cross: &[f64], whiten: bool) -> Result<Vec<f64>, AnalysisError> {
        check_size("seeds", self.seeds, gram.seeds())?;
        check_size("cross products", cross.len().next_multiple_of(self.seeds), cross.len())?;
        let n = self.seeds;
        let mean: Vec<f64> = (0..n).map(|j| (0..n).map(|i| gram.get(i, j)).sum::<f64>() / n as f64).collect();
        let duals = self.duals();
        let mut scores = Vec::with_capacity(cross.len() / n * self.rank);
        for row in cross.chunks_exact(n) {
            for k in 0..self.rank {
                let score: f64 = (0..n).map(|i| (row[i] - mean[i]) * duals[i * self.rank + k]).sum();
                scores.push(if whiten { score / self.variance[k].sqrt() } else { score });
            }
        }
        Ok(scores)
    }

    /// `inverse_transform`: the weights w over the seeds with mean + Σ z_k v_k = Xᵀ w. They sum to 1, so the same
    /// weights over the fine-tuned checkpoints give the model itself. `scores` holds at most rank numbers z_k, counted
    /// in √λ_k when `whiten`.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when there are more scores than components with variance.
    pub fn inverse_transform(&self, scores: &[f64], whiten: bool) -> Result<Vec<f64>, AnalysisError> {
        if scores.len() > self.rank {
            return Err(AnalysisError::SizeMismatch { what: "scores", expected: self.rank, found: scores.len() });
        }
        let sigma = self.singular_values();
        let unit = (self.seeds as f64 - 1.0).sqrt();
        let coefficients: Vec<f64> =
            scores.iter().zip(&sigma).map(|(z, sigma)| if whiten { z / unit } else { z / sigma }).collect();
        let mean = 1.0 / self.seeds as f64;
        let weights = (0..self.seeds).map(|i| {
            let row = &self.left[i * self.rank..][..self.rank];
            mean + row.iter().zip(&coefficients).map(|(u, c)| u * c).sum::<f64>()
        });
        Ok(weights.collect())
    }
}

/// The explained variances of [`Pca::from_gram`], without vectors.
pub(super) fn variances(gram: &Gram) -> Result<Vec<f64>, AnalysisError> {
    let seeds = gram.seeds();
    if seeds < 2 {
        return Err(AnalysisError::TooFewSeeds { found: seeds });
    }
    let inner = seeds - 1;
    let centred = congruence(&helmert(seeds), gram.values(), (inner, seeds));
    let squares = Eigen::values(&centred, inner).ok_or(AnalysisError::NoConvergence { rows: seeds })?;
    Ok(Pca::kept_variances((seeds, gram.parameters()), &squares, noise_of(gram.largest_square(), seeds)))
}

/// Whether [`Pca::from_gram`] of this Gram is all that [`TaskVectors::pca`] would be.
pub(super) fn is_accurate_for(pca: &Pca, gram: &Gram) -> bool {
    pca.is_accurate(noise_of(gram.largest_square(), gram.seeds()))
}

impl TaskVectors<'_> {
    /// The PCA of this layer, as accurate as one from the singular values of the centred task vectors in `f64`.
    ///
    /// Mostly this is [`Pca::from_gram`]. Where rounding in `gram` would show (see there), the layer is read again: first
    /// relative to the first seed, which takes the mean's size away, then, if the spectrum asks for it, rotated into the
    /// components found so far, which makes the products nearly diagonal and every eigenvalue relatively accurate.
    ///
    /// # Errors
    /// As [`Pca::from_gram`], and those of reading the layer.
    pub fn pca(&self, gram: &Gram) -> Result<Pca, AnalysisError> {
        check_size("seeds", self.seeds(), gram.seeds())?;
        let rough = Pca::from_gram(gram)?;
        if is_accurate_for(&rough, gram) { Ok(rough) } else { self.refined_pca() }
    }

    fn refined_pca(&self) -> Result<Pca, AnalysisError> {
        let (n, inner, size) = (self.seeds(), self.seeds() - 1, (self.seeds(), self.parameters() as u64));
        let products = self.pass(None)?;
        let largest = (0..n).map(|i| products[i * n + i]).fold(0.0, f64::max);
        let noise = noise_of(largest, n);
        let pca = Pca::from_products(&products, size, noise)?;
        if pca.is_accurate(noise) {
            return Ok(pca);
        }
        let mut rows = left_rows(&products, n)?;
        let mut squares = Vec::new();
        for _ in 0..ROTATIONS {
            let rotation = Rotation { rows: inner, weights: rows };
            let products = self.pass(Some(&rotation))?;
            let eigen = Eigen::by_jacobi(&products, inner).ok_or(AnalysisError::NoConvergence { rows: n })?;
            rows = product(&transpose(&eigen.vectors, inner, inner), &rotation.weights, (inner, inner, n));
            squares = eigen.values;
            if is_nearly_diagonal(&products, inner, floor_of(&squares, n)) {
                break;
            }
        }
        let floor = floor_of(&squares, n);
        Ok(Pca::assemble(size, &squares, &transpose(&rows, inner, n), floor))
    }

    fn pass(&self, rotation: Option<&Rotation>) -> Result<Vec<f64>, AnalysisError> {
        let unseen = Progress::silent().begin(Stage::Compute, "", None);
        let blocks = Block::all(rotation.map_or(self.seeds(), |rotation| rotation.rows));
        let pass =
            Pass { vectors: self, kernel: Kernel::detect(), base: Base::FirstSeed, rotation, blocks, first: false };
        pass.products(&unseen)
    }

    /// Turns the components of `pca` to follow `rule`.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when `pca` is of another number of seeds, and those of reading the layer.
    pub fn orient(&self, pca: &mut Pca, rule: SignRule) -> Result<(), AnalysisError> {
        check_size("seeds", self.seeds(), pca.seeds)?;
        match rule {
            SignRule::Seeds => pca.point_at_seeds(),
            SignRule::Parameters => {
                for (k, largest) in self.largest_entries(pca)?.into_iter().enumerate() {
                    if largest < 0.0 {
                        pca.flip(k);
                    }
                }
            }
        }
        Ok(())
    }

    /// How far the first `count` components are from orthonormal: the largest deviation of v_j · v_k from 1 or 0. One pass.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when `pca` is of another number of seeds, and those of reading the layer.
    pub fn orthonormality(&self, pca: &Pca, count: usize) -> Result<f64, AnalysisError> {
        check_size("seeds", self.seeds(), pca.seeds)?;
        let rows = count.min(pca.rank);
        let mut weights = transpose(&pca.duals(), self.seeds(), pca.rank);
        weights.truncate(rows * self.seeds());
        let products = self.pass(Some(&Rotation { rows, weights }))?;
        let off = |at: usize| (products[at] - if at / rows == at % rows { 1.0 } else { 0.0 }).abs();
        Ok((0..rows * rows).map(off).fold(0.0, f64::max))
    }

    /// The entry of largest absolute value of each component; the first of equals.
    fn largest_entries(&self, pca: &Pca) -> Result<Vec<f64>, AnalysisError> {
        let rotation = Rotation { rows: pca.rank, weights: transpose(&pca.duals(), self.seeds(), pca.rank) };
        let pass = Pass {
            vectors: self,
            kernel: Kernel::detect(),
            base: Base::FirstSeed,
            rotation: Some(&rotation),
            blocks: Vec::new(),
            first: false,
        };
        let larger = |mut best: Vec<f64>, found: Vec<f64>| {
            for (best, found) in best.iter_mut().zip(found) {
                if found.abs() > best.abs() {
                    *best = found;
                }
            }
            best
        };
        let none = || vec![0.0f64; pca.rank];
        let partials = pass.map_pieces(none, |best, tile| {
            for (k, best) in best.iter_mut().enumerate() {
                for &x in tile.row(k) {
                    if x.abs() > best.abs() {
                        *best = x;
                    }
                }
            }
        })?;
        Ok(partials.into_iter().fold(none(), larger))
    }
}

/// Rotations into ever better components; two are enough unless the seeds are all but identical.
const ROTATIONS: usize = 4;

/// Rounding to be expected in the products of `rows` rows of largest square `largest`.
pub(super) fn noise_of(largest: f64, rows: usize) -> f64 {
    f64::EPSILON * rows as f64 * largest
}

/// Squares below this are rounding of the rotated rows themselves: (4 n ε σ₁)².
fn floor_of(squares: &[f64], seeds: usize) -> f64 {
    let relative = 4.0 * seeds as f64 * f64::EPSILON;
    relative * relative * squares.first().copied().unwrap_or(0.0)
}

/// Whether, scaled to a unit diagonal, the off-diagonal entries of each row stay below ½ in sum: then each eigenvalue
/// has come out relatively accurate.
fn is_nearly_diagonal(matrix: &[f64], n: usize, floor: f64) -> bool {
    let kept: Vec<usize> = (0..n).filter(|&i| matrix[i * n + i] > floor).collect();
    kept.iter().all(|&i| {
        let others = kept.iter().filter(|&&j| j != i);
        others.map(|&j| matrix[i * n + j].abs() / (matrix[i * n + i] * matrix[j * n + j]).sqrt()).sum::<f64>() < 0.5
    })
}

/// All n − 1 left vectors of the centred products, as rows.
fn left_rows(products: &[f64], n: usize) -> Result<Vec<f64>, AnalysisError> {
    let basis = helmert(n);
    let centred = congruence(&basis, products, (n - 1, n));
    let eigen = Eigen::of(&centred, n - 1).ok_or(AnalysisError::NoConvergence { rows: n })?;
    Ok(product(&transpose(&eigen.vectors, n - 1, n - 1), &basis, (n - 1, n - 1, n)))
}

/// An orthonormal basis of the vectors of length n that sum to 0, as n − 1 rows. Products in this basis are the centred
/// ones, without the eigenvalue that is 0 because of centring, and vectors made from it stay centred.
fn helmert(n: usize) -> Vec<f64> {
    let mut basis = vec![0.0; (n - 1) * n];
    for (row, entries) in basis.chunks_exact_mut(n).enumerate() {
        let before = row as f64 + 1.0;
        let norm = (before * (before + 1.0)).sqrt();
        entries[..=row].fill(1.0 / norm);
        entries[row + 1] = -before / norm;
    }
    basis
}

/// B A Bᵀ for B of `rows` × n and symmetric A, symmetric to the bit.
fn congruence(b: &[f64], a: &[f64], (rows, n): (usize, usize)) -> Vec<f64> {
    let half = product(b, a, (rows, n, n));
    let mut full = product(&half, &transpose(b, rows, n), (rows, n, rows));
    for i in 0..rows {
        for j in 0..i {
            full[j * rows + i] = full[i * rows + j];
        }
    }
    full
}

/// Row-major product of (m × k) and (k × n).
pub(super) fn product(a: &[f64], b: &[f64], (m, k, n): (usize, usize, usize)) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for i in 0..m {
        for l in 0..k {
            let x = a[i * k + l];
            for (sum, y) in out[i * n..(i + 1) * n].iter_mut().zip(&b[l * n..(l + 1) * n]) {
                *sum += x * y;
            }
        }
    }
    out
}

/// Transpose of a row-major m × n matrix.
pub(super) fn transpose(a: &[f64], m: usize, n: usize) -> Vec<f64> {
    (0..n).flat_map(|j| (0..m).map(move |i| (i, j))).map(|(i, j)| a[i * n + j]).collect()
}

pub(super) fn check_size(what: &'static str, expected: usize, found: usize) -> Result<(), AnalysisError> {
    if expected == found { Ok(()) } else { Err(AnalysisError::SizeMismatch { what, expected, found }) }
}
