//! How the subspaces that the seeds of several datasets span lie to each other, from the blocks of one Gram over all
//! task vectors (datasets × seeds). No I/O.
//!
//! The first k components of a dataset are v_a = X_Aᵀ a_a with dual coefficients a_a, so the k × l matrix of inner
//! products of two bases is M = Aᵀ G_AB B, with G_AB the block of products between the two datasets' task vectors: no
//! component is ever materialised. The fits of a study made at different times share their pretrained model, so their
//! blocks G_AA and G_BB can be taken from the stored Grams and only G_AB is made ([`TaskVectors::extend_gram`]).
//!
//! [`TaskVectors::extend_gram`]: crate::analysis::TaskVectors::extend_gram

use std::ops::Range;

use crate::analysis::eigen::Eigen;
use crate::analysis::pca::{check_size, product, transpose};
use crate::analysis::{AnalysisError, Gram, Pca, Similarity};

/// How one dataset's leading components lie to another's.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// Cosines of the principal angles, min(k, l) of them, descending, within 0..=1: the singular values of M (Björck and
    /// Golub, Math. Comp. 27, 1973).
    pub cosines: Vec<f64>,
    /// ‖M‖_F² / min(k, l): 1 when the smaller subspace lies in the larger, 0 when they are orthogonal. `None` when either
    /// has no component.
    pub overlap: Option<f64>,
}

impl Overlap {
    /// Principal angles in radians, ascending. Below about 1e-8 an angle is rounding.
    pub fn angles(&self) -> Vec<f64> {
        self.cosines.iter().map(|cosine| cosine.acos()).collect()
    }
}

/// The split of the scatter of all task vectors into what datasets and what seeds explain, as in a one-way analysis of
/// variance. Sums of squares, in the unit of the Gram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VarianceSplit {
    /// Σ_i ‖x_i − x̄‖² over all task vectors.
    pub total: f64,
    /// Σ_D n_D ‖x̄_D − x̄‖²: the effect of the dataset.
    pub between: f64,
    /// Σ_D Σ_{i ∈ D} ‖x_i − x̄_D‖²: the effect of the seed.
    pub within: f64,
}

impl VarianceSplit {
    /// between / total (η²); `None` when there is no scatter.
    pub fn dataset_share(&self) -> Option<f64> {
        (self.total > 0.0).then(|| (self.between / self.total).clamp(0.0, 1.0))
    }
}

/// One Gram over the task vectors of several datasets, each a range of its rows.
#[derive(Debug, Clone)]
pub struct Subspaces<'g> {
    gram: &'g Gram,
    datasets: Vec<Range<usize>>,
    fits: Vec<Pca>,
}

impl<'g> Subspaces<'g> {
    /// `sizes` are the numbers of seeds of the datasets, in the order of the rows.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when the sizes do not add up to the Gram's rows, and those of [`Pca::from_gram`]
    /// for each dataset.
    pub fn of(gram: &'g Gram, sizes: &[usize]) -> Result<Self, AnalysisError> {
        check_size("seeds", gram.seeds(), sizes.iter().sum())?;
        let mut fits = Vec::with_capacity(sizes.len());
        let mut start = 0;
        for &size in sizes {
            let rows: Vec<usize> = (start..start + size).collect();
            fits.push(Pca::from_gram(&gram.select(&rows)?)?);
            start += size;
        }
        Self::of_fits(gram, fits)
    }

    /// With the PCA of each dataset as it was fitted: more accurate than one from the Gram where the layer was read again.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when the fits' seeds do not add up to the Gram's rows.
    pub fn of_fits(gram: &'g Gram, fits: Vec<Pca>) -> Result<Self, AnalysisError> {
        check_size("seeds", gram.seeds(), fits.iter().map(Pca::seeds).sum())?;
        let mut start = 0;
        let datasets = fits.iter().map(|fit| {
            let rows = start..start + fit.seeds();
            start = rows.end;
            rows
        });
        Ok(Self { gram, datasets: datasets.collect(), fits })
    }

    /// Mean cosine similarity between a task vector of dataset `a` and another of dataset `b`; `None` when one of them is
    /// zero, or there is no pair.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] for a dataset that is not there.
    pub fn mean_cosine(&self, a: usize, b: usize) -> Result<Option<f64>, AnalysisError> {
        let (rows, columns) = (self.dataset(a)?.0.clone(), self.dataset(b)?.0.clone());
        let cosines = Similarity::of(self.gram).cosines();
        let pairs = rows.flat_map(|i| columns.clone().map(move |j| (i, j))).filter(|(i, j)| i != j);
        let found: Option<Vec<f64>> = pairs.map(|(i, j)| cosines[i * self.gram.seeds() + j]).collect();
        Ok(found.filter(|found| !found.is_empty()).map(|found| found.iter().sum::<f64>() / found.len() as f64))
    }

    /// The PCA of each dataset by itself.
    pub fn fits(&self) -> &[Pca] {
        &self.fits
    }

    /// The PCA of all task vectors together.
    ///
    /// # Errors
    /// As [`Pca::from_gram`].
    pub fn joint(&self) -> Result<Pca, AnalysisError> {
        Pca::from_gram(self.gram)
    }

    /// Principal angles between the first `components` components of datasets `a` and `b`; fewer where a dataset has
    /// fewer.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] for a dataset that is not there, `NoConvergence`.
    pub fn overlap(&self, a: usize, b: usize, components: usize) -> Result<Overlap, AnalysisError> {
        let (m, k, l) = self.products(a, b, components)?;
        if k == 0 || l == 0 {
            return Ok(Overlap { cosines: Vec::new(), overlap: None });
        }
        // The squared cosines are the eigenvalues of the smaller of M Mᵀ and Mᵀ M.
        let turned = transpose(&m, k, l);
        let (square, size) =
            if k <= l { (product(&m, &turned, (k, l, k)), k) } else { (product(&turned, &m, (l, k, l)), l) };
        let eigen = Eigen::of(&square, size).ok_or(AnalysisError::NoConvergence { rows: size })?;
        let cosines = eigen.values.iter().map(|x| x.clamp(0.0, 1.0).sqrt()).collect();
        let norm: f64 = m.iter().map(|x| x * x).sum();
        Ok(Overlap { cosines, overlap: Some((norm / size as f64).clamp(0.0, 1.0)) })
    }

    /// Share of dataset `a`'s variance that lies outside the first `components` components of dataset `b`:
    /// 1 − Σ_k λ_k ‖M_k‖² / Σ_k λ_k over all components k of `a`. 0 when `b`'s components explain all of it; `None` when
    /// `a` has no variance.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] for a dataset that is not there.
    pub fn residual(&self, a: usize, b: usize, components: usize) -> Result<Option<f64>, AnalysisError> {
        let all = self.dataset(a)?.1.rank();
        let (m, k, l) = self.products_of((a, all), (b, components))?;
        let variance = self.dataset(a)?.1.explained_variance();
        let total: f64 = variance.iter().sum();
        let inside: f64 = (0..k).map(|i| variance[i] * m[i * l..(i + 1) * l].iter().map(|x| x * x).sum::<f64>()).sum();
        Ok((total > 0.0).then(|| (1.0 - inside / total).clamp(0.0, 1.0)))
    }

    /// Scatter between and within datasets.
    pub fn variance_split(&self) -> VarianceSplit {
        let scatter = |rows: &Range<usize>| {
            let trace: f64 = rows.clone().map(|i| self.gram.get(i, i)).sum();
            let sum: f64 = rows.clone().map(|i| rows.clone().map(|j| self.gram.get(i, j)).sum::<f64>()).sum();
            (trace - sum / rows.len().max(1) as f64).max(0.0)
        };
        let total = scatter(&(0..self.gram.seeds()));
        let within = self.datasets.iter().map(scatter).sum::<f64>();
        VarianceSplit { total, between: (total - within).max(0.0), within }
    }

    fn dataset(&self, index: usize) -> Result<(&Range<usize>, &Pca), AnalysisError> {
        let mismatch = AnalysisError::SizeMismatch { what: "datasets", expected: index + 1, found: self.fits.len() };
        self.datasets.get(index).zip(self.fits.get(index)).ok_or(mismatch)
    }

    fn products(&self, a: usize, b: usize, components: usize) -> Result<(Vec<f64>, usize, usize), AnalysisError> {
        self.products_of((a, components), (b, components))
    }

    /// M = Aᵀ G_AB B, and its numbers of rows and columns.
    fn products_of(
        &self,
        (a, first): (usize, usize),
        (b, second): (usize, usize),
    ) -> Result<(Vec<f64>, usize, usize), AnalysisError> {
        let ((rows, left), (columns, right)) = (self.dataset(a)?, self.dataset(b)?);
        let (k, l) = (first.min(left.rank()), second.min(right.rank()));
        let block: Vec<f64> =
            rows.clone().flat_map(|i| columns.clone().map(move |j| (i, j))).map(|(i, j)| self.gram.get(i, j)).collect();
        let (n, m) = (rows.len(), columns.len());
        let half = product(&leading(left, k), &block, (k, n, m));
        Ok((product(&half, &transpose(&leading(right, l), l, m), (k, m, l)), k, l))
    }
}

/// The dual coefficients of the first components, as rows.
fn leading(pca: &Pca, components: usize) -> Vec<f64> {
    let mut rows = transpose(&pca.duals(), pca.seeds(), pca.rank());
    rows.truncate(components * pca.seeds());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gram(rows: &[&[f64]]) -> Gram {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let values = rows.iter().flat_map(|a| rows.iter().map(move |b| dot(a, b))).collect();
        Gram::from_values(rows.len(), rows[0].len() as u64, values).unwrap()
    }

    /// Dataset 0 varies along x; dataset 1 along x turned by `angle` towards y; both lie off the origin.
    fn turned(angle: f64) -> Gram {
        let (s, c) = angle.sin_cos();
        gram(&[&[1.0, 0.0, 5.0], &[-1.0, 0.0, 5.0], &[3.0 + c, s, 0.0], &[3.0 - c, -s, 0.0]])
    }

    #[test]
    fn one_principal_angle_is_the_angle_between_two_directions() {
        for angle in [0.0, 0.3, 1.0, std::f64::consts::FRAC_PI_2] {
            let gram = turned(angle);
            let subspaces = Subspaces::of(&gram, &[2, 2]).unwrap();
            let overlap = subspaces.overlap(0, 1, 5).unwrap();
            assert_eq!(overlap.cosines.len(), 1);
            assert!((overlap.angles()[0] - angle).abs() < 1e-7, "{angle}");
            assert!((overlap.overlap.unwrap() - angle.cos().powi(2)).abs() < 1e-12);
            let residual = subspaces.residual(0, 1, 1).unwrap().unwrap();
            assert!((residual - angle.sin().powi(2)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_dataset_fills_its_own_subspace() {
        let gram = gram(&[&[1.0, 0.0, 2.0], &[0.0, 3.0, 1.0], &[-1.0, 1.0, 0.0], &[4.0, 0.0, 0.0], &[0.0, 0.0, 0.0]]);
        let subspaces = Subspaces::of(&gram, &[3, 2]).unwrap();
        let own = subspaces.overlap(0, 0, 2).unwrap();
        assert!(own.cosines.iter().all(|cosine| (cosine - 1.0).abs() < 1e-12));
        assert!(subspaces.residual(0, 0, 2).unwrap().unwrap() < 1e-12);
        assert!(matches!(subspaces.overlap(0, 2, 1), Err(AnalysisError::SizeMismatch { .. })));
        assert!(Subspaces::of(&gram, &[3, 1]).is_err());
    }

    #[test]
    fn scatter_splits_into_datasets_and_seeds() {
        let gram = gram(&[&[1.0, 0.0], &[-1.0, 0.0], &[1.0, 4.0], &[-1.0, 4.0]]);
        let split = Subspaces::of(&gram, &[2, 2]).unwrap().variance_split();
        assert_eq!((split.total, split.between, split.within), (20.0, 16.0, 4.0));
        assert_eq!(split.dataset_share(), Some(0.8));
        let joint = Subspaces::of(&gram, &[2, 2]).unwrap().joint().unwrap();
        assert!((joint.total_variance() - 20.0 / 3.0).abs() < 1e-12);
    }
}
