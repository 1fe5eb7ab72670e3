//! What the eigenvalues of a PCA say: how much variance there is, and in how many directions. No I/O.

use crate::analysis::Pca;

/// Summary of the explained variances λ_1 ≥ λ_2 ≥ … of one PCA. With p_k = λ_k / Σ λ. Whatever divides by the total
/// variance is `None` when there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// Σ λ_k: the trace of the covariance, the sum of scikit-learn's `explained_variance_`.
    pub total_variance: f64,
    /// Σ λ_k / d.
    pub variance_per_parameter: f64,
    /// Components with variance.
    pub rank: usize,
    /// p_k.
    pub ratios: Option<Vec<f64>>,
    /// p_1 + … + p_k.
    pub cumulative: Option<Vec<f64>>,
    /// Fewest components that together explain at least 90 %.
    pub components_90: Option<usize>,
    /// Fewest components that together explain at least 95 %.
    pub components_95: Option<usize>,
    /// Fewest components that together explain at least 99 %.
    pub components_99: Option<usize>,
    /// exp(−Σ p_k ln p_k): the exponential of the entropy of the explained variance, from 1 to the rank.
    pub effective_rank: Option<f64>,
    /// exp(−Σ q_k ln q_k) with q_k = σ_k / Σ σ: the effective rank of Roy and Vetterli (EUSIPCO 2007), of singular values.
    pub effective_rank_singular: Option<f64>,
    /// (Σ λ)² / Σ λ².
    pub participation_ratio: Option<f64>,
    /// ‖X_c‖_F² / ‖X_c‖₂² = Σ λ / λ_1.
    pub stable_rank: Option<f64>,
    /// (λ_1 − λ_2) / λ_1: 0 when the two largest are equal, 1 when there is only one.
    pub spectral_gap: Option<f64>,
}

impl Spectrum {
    /// Of a fitted layer.
    pub fn of(pca: &Pca) -> Self {
        Self::of_variances(pca.explained_variance(), pca.parameters())
    }

    /// Of descending explained variances over `parameters` parameters.
    pub fn of_variances(variances: &[f64], parameters: u64) -> Self {
        let total: f64 = variances.iter().sum();
        let first = variances.first().copied().unwrap_or(0.0);
        let ratios: Option<Vec<f64>> = (total > 0.0).then(|| variances.iter().map(|x| x / total).collect());
        let cumulative = ratios.as_deref().map(cumulate);
        let reach = |share: f64| cumulative.as_deref().map(|sums| components_for(sums, share));
        let sigmas: Vec<f64> = variances.iter().map(|x| x.sqrt()).collect();
        // Relative to the largest, so that the squares of tiny variances do not underflow.
        let squares: f64 = variances.iter().map(|x| (x / first) * (x / first)).sum();
        Self {
            total_variance: total,
            variance_per_parameter: if parameters == 0 { 0.0 } else { total / parameters as f64 },
            rank: variances.iter().filter(|&&x| x > 0.0).count(),
            components_90: reach(0.90),
            components_95: reach(0.95),
            components_99: reach(0.99),
            effective_rank: ratios.is_some().then(|| entropy(variances).exp()),
            effective_rank_singular: ratios.is_some().then(|| entropy(&sigmas).exp()),
            participation_ratio: ratios.is_some().then(|| (total / first) * (total / first) / squares),
            stable_rank: ratios.is_some().then(|| total / first),
            spectral_gap: ratios.is_some().then(|| (first - variances.get(1).copied().unwrap_or(0.0)) / first),
            ratios,
            cumulative,
        }
    }
}

fn cumulate(ratios: &[f64]) -> Vec<f64> {
    let sums = ratios.iter().scan(0.0, |sum, ratio| {
        *sum += ratio;
        Some(f64::min(*sum, 1.0))
    });
    sums.collect()
}

/// Rounding may leave the last sum a hair below 1: a share counts as reached within 1e-12.
fn components_for(cumulative: &[f64], share: f64) -> usize {
    cumulative.iter().position(|&sum| sum >= share - 1e-12).map_or(cumulative.len(), |k| k + 1)
}

/// −Σ p ln p of the values divided by their sum.
fn entropy(values: &[f64]) -> f64 {
    let total: f64 = values.iter().sum();
    values.iter().map(|x| x / total).filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-12)
    }

    #[test]
    fn equal_variances_count_themselves() {
        let spectrum = Spectrum::of_variances(&[2.0, 2.0, 2.0, 2.0, 0.0], 4);
        assert_eq!((spectrum.total_variance, spectrum.variance_per_parameter, spectrum.rank), (8.0, 2.0, 4));
        assert!(near(spectrum.effective_rank, 4.0) && near(spectrum.effective_rank_singular, 4.0));
        assert!(near(spectrum.participation_ratio, 4.0) && near(spectrum.stable_rank, 4.0));
        assert!(near(spectrum.spectral_gap, 0.0));
        assert_eq!((spectrum.components_90, spectrum.components_99), (Some(4), Some(4)));
        assert_eq!(spectrum.cumulative.unwrap(), [0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn a_dominant_direction() {
        let spectrum = Spectrum::of_variances(&[9.0, 1.0, 0.0], 10);
        assert_eq!((spectrum.components_90, spectrum.components_95), (Some(1), Some(2)));
        assert!(near(spectrum.effective_rank, (-(0.9 * 0.9f64.ln() + 0.1 * 0.1f64.ln())).exp()));
        assert!(near(spectrum.effective_rank_singular, (-(0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln())).exp()));
        assert!(near(spectrum.participation_ratio, 100.0 / 82.0) && near(spectrum.stable_rank, 10.0 / 9.0));
        assert!(near(spectrum.spectral_gap, 8.0 / 9.0));
    }

    #[test]
    fn tiny_variances_do_not_underflow_and_none_has_no_ratio() {
        let spectrum = Spectrum::of_variances(&[1e-200, 1e-200], 3);
        assert!(near(spectrum.participation_ratio, 2.0));
        let none = Spectrum::of_variances(&[0.0, 0.0], 3);
        assert_eq!((none.total_variance, none.rank), (0.0, 0));
        assert!(none.ratios.is_none() && none.effective_rank.is_none() && none.components_90.is_none());
    }
}
