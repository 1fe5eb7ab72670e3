//! How sure the headline numbers of a spectrum are with about ten seeds: a jackknife over seeds, and a null model. Both
//! from the Gram alone. No I/O.

use crate::analysis::downdate::downdated;
use crate::analysis::pca::{noise_of, variances};
use crate::analysis::sample::Generator;
use crate::analysis::{AnalysisError, Gram, Pca, Spectrum};

/// Of the scatter at least this much must be left without a seed to be had from that with it; else it is made anew.
const LEFT: f64 = 1e-4;

/// A number with what leaving out one seed at a time does to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Jackknife {
    /// From all n seeds.
    pub estimate: f64,
    /// √((n − 1)/n Σ (θ_(i) − θ̄)²): the standard error (Efron and Stein, Ann. Statist. 9, 1981).
    pub standard_error: f64,
    /// (n − 1)(θ̄ − θ): the bias that the estimate is believed to have.
    pub bias: f64,
    /// θ_(i): the number without seed i, n of them.
    pub left_out: Vec<f64>,
}

/// Where a number would lie if the centred task vectors had random directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NullBand {
    /// Mean over the draws.
    pub mean: f64,
    /// 2.5 % quantile: the lowest draw above the lowest 2.5 %.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
}

/// The headline numbers of a spectrum that are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Headline {
    /// [`Spectrum::total_variance`].
    TotalVariance,
    /// The first of [`Spectrum::ratios`].
    FirstRatio,
    /// [`Spectrum::effective_rank`].
    EffectiveRank,
    /// [`Spectrum::participation_ratio`].
    ParticipationRatio,
    /// [`Spectrum::stable_rank`].
    StableRank,
    /// [`Spectrum::spectral_gap`].
    SpectralGap,
}

impl Headline {
    /// Every headline number.
    pub const ALL: [Self; 6] = [
        Self::TotalVariance,
        Self::FirstRatio,
        Self::EffectiveRank,
        Self::ParticipationRatio,
        Self::StableRank,
        Self::SpectralGap,
    ];

    /// Its value; `None` for a ratio where there is no variance.
    pub fn of(self, spectrum: &Spectrum) -> Option<f64> {
        match self {
            Self::TotalVariance => Some(spectrum.total_variance),
            Self::FirstRatio => spectrum.ratios.as_ref().and_then(|ratios| ratios.first().copied()),
            Self::EffectiveRank => spectrum.effective_rank,
            Self::ParticipationRatio => spectrum.participation_ratio,
            Self::StableRank => spectrum.stable_rank,
            Self::SpectralGap => spectrum.spectral_gap,
        }
    }
}

/// Leaves out one seed at a time: for each of `headlines`, in order, what that does. `None` where the number is not
/// defined with all seeds or without one of them, or where fewer than three seeds leave nothing to leave out.
///
/// One eigenproblem for all: the eigenvalues without a seed are those with it, changed by a matrix of rank one. Its cost is
/// of the order n³.
///
/// # Errors
/// As [`Pca::from_gram`].
pub fn jackknife(gram: &Gram, headlines: &[Headline]) -> Result<Vec<Option<Jackknife>>, AnalysisError> {
    let n = gram.seeds();
    if n < 3 {
        return variances(gram).map(|_| vec![None; headlines.len()]);
    }
    let pca = Pca::from_gram(gram)?;
    let scatter: Vec<f64> = pca.explained_variance()[..pca.rank()].iter().map(|x| x * (n - 1) as f64).collect();
    let scores = pca.scores(false);
    let without = |seed: usize| left_out(gram, (seed, &scores[seed * pca.rank()..(seed + 1) * pca.rank()]), &scatter);
    let spectra: Vec<Spectrum> = (0..n).map(without).collect::<Result<_, AnalysisError>>()?;
    let whole = Spectrum::of(&pca);
    Ok(headlines.iter().map(|&headline| summarise(headline, &whole, &spectra)).collect())
}

/// The spectrum without a seed: leaving out x takes n/(n − 1) (x − x̄)(x − x̄)ᵀ from the scatter, whose eigenvalues `scatter`
/// are, and in whose basis `score` is x − x̄.
fn left_out(gram: &Gram, (seed, score): (usize, &[f64]), scatter: &[f64]) -> Result<Spectrum, AnalysisError> {
    let n = gram.seeds();
    let squares = downdated(scatter, score, n as f64 / (n - 1) as f64);
    if squares.iter().sum::<f64>() < LEFT * scatter.iter().sum::<f64>() {
        let rest: Vec<usize> = (0..n).filter(|&i| i != seed).collect();
        return spectrum(&gram.select(&rest)?);
    }
    let size = (n - 1, gram.parameters());
    let variances = Pca::kept_variances(size, &squares, noise_of(gram.largest_square(), n));
    Ok(Spectrum::of_variances(&variances, gram.parameters()))
}

fn summarise(headline: Headline, whole: &Spectrum, spectra: &[Spectrum]) -> Option<Jackknife> {
    let estimate = headline.of(whole)?;
    let left_out: Vec<f64> = spectra.iter().map(|spectrum| headline.of(spectrum)).collect::<Option<_>>()?;
    let n = left_out.len() as f64;
    let mean = left_out.iter().sum::<f64>() / n;
    let squares: f64 = left_out.iter().map(|x| (x - mean) * (x - mean)).sum();
    Some(Jackknife {
        estimate,
        standard_error: ((n - 1.0) / n * squares).sqrt(),
        bias: (n - 1.0) * (mean - estimate),
        left_out,
    })
}

/// The null model: each seed's deviation from the mean keeps its norm and gets a random direction in R^d, then the
/// deviations are centred again. For each of `headlines`, where `draws` such Grams put it. `None` where there is no
/// variance or no draw.
///
/// A Gram of n isotropic directions in d dimensions is drawn by Bartlett's decomposition (W = L Lᵀ with χ on the diagonal
/// of L and normals below), then scaled to the norms: no vector of length d is made. Deterministic in `seed`.
///
/// # Errors
/// As [`Pca::from_gram`](crate::analysis::Pca::from_gram).
pub fn null_model(
    gram: &Gram,
    headlines: &[Headline],
    draws: (usize, u64),
) -> Result<Vec<Option<NullBand>>, AnalysisError> {
    let spectra = null_spectra(gram, draws)?;
    Ok(headlines.iter().map(|&headline| band(spectra.iter().filter_map(|s| headline.of(s)).collect())).collect())
}

/// Where [`null_model`] puts the explained variance ratio of each component; empty where there is no variance or no draw.
///
/// # Errors
/// As [`null_model`].
pub fn null_ratios(gram: &Gram, draws: (usize, u64)) -> Result<Vec<NullBand>, AnalysisError> {
    let spectra = null_spectra(gram, draws)?;
    let ratio = |k: usize| spectra.iter().filter_map(|s| s.ratios.as_ref()?.get(k).copied()).collect();
    Ok((0..gram.seeds()).map_while(|k| band(ratio(k))).collect())
}

fn null_spectra(gram: &Gram, (draws, seed): (usize, u64)) -> Result<Vec<Spectrum>, AnalysisError> {
    let norms = deviation_norms(gram);
    if norms.iter().all(|&norm| norm == 0.0) {
        return Ok(Vec::new());
    }
    let draw = |draw: u64| {
        let mut generator = Generator::new(seed, draw, "null model");
        let values = random_gram(&norms, gram.parameters(), &mut generator);
        spectrum(&Gram::from_values(gram.seeds(), gram.parameters(), values)?)
    };
    (0..draws as u64).map(draw).collect()
}

/// The spectrum alone: no vectors are made.
fn spectrum(gram: &Gram) -> Result<Spectrum, AnalysisError> {
    Ok(Spectrum::of_variances(&variances(gram)?, gram.parameters()))
}

fn band(mut values: Vec<f64>) -> Option<NullBand> {
    values.sort_by(f64::total_cmp);
    let quantile = |q: f64| values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied();
    Some(NullBand {
        mean: values.iter().sum::<f64>() / values.len() as f64,
        low: quantile(0.025)?,
        high: quantile(0.975)?,
    })
}

/// ‖x_i − x̄‖ from the Gram.
fn deviation_norms(gram: &Gram) -> Vec<f64> {
    let n = gram.seeds();
    let mean: Vec<f64> = (0..n).map(|i| (0..n).map(|j| gram.get(i, j)).sum::<f64>() / n as f64).collect();
    let grand = mean.iter().sum::<f64>() / n as f64;
    (0..n).map(|i| (gram.get(i, i) - 2.0 * mean[i] + grand).max(0.0).sqrt()).collect()
}

/// The Gram of vectors of these norms in random directions of `parameters` dimensions.
fn random_gram(norms: &[f64], parameters: u64, generator: &mut Generator) -> Vec<f64> {
    let n = norms.len();
    let columns = usize::try_from(parameters).unwrap_or(usize::MAX).min(n);
    let mut rows = vec![0.0; n * columns];
    for i in 0..n {
        let row = &mut rows[i * columns..(i + 1) * columns];
        let below = i.min(columns);
        row[..below].copy_from_slice(&generator.normals(below));
        if i < columns {
            row[i] = generator.chi(parameters - i as u64);
        }
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x *= norms[i] / length.max(f64::MIN_POSITIVE));
    }
    let mut gram = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..columns).map(|k| rows[i * columns + k] * rows[j * columns + k]).sum();
            gram[i * n + j] = dot;
            gram[j * n + i] = dot;
        }
    }
    gram
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Pca;

    fn diagonal(squares: &[f64], parameters: u64) -> Gram {
        let n = squares.len();
        let values = (0..n * n).map(|at| if at % (n + 1) == 0 { squares[at / n] } else { 0.0 }).collect();
        Gram::from_values(n, parameters, values).unwrap()
    }

    #[test]
    fn the_jackknife_of_the_total_variance_is_that_of_a_mean() {
        // One parameter: the total variance is the sample variance of 1, 2, 4, 8.
        let x = [1.0, 2.0, 4.0, 8.0];
        let values = x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect();
        let gram = Gram::from_values(4, 1, values).unwrap();
        let found = jackknife(&gram, &[Headline::TotalVariance, Headline::FirstRatio]).unwrap();
        let total = found[0].clone().unwrap();
        let variance = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0)
        };
        let expected = [[2.0, 4.0, 8.0], [1.0, 4.0, 8.0], [1.0, 2.0, 8.0], [1.0, 2.0, 4.0]].map(|x| variance(&x));
        assert!((total.estimate - variance(&x)).abs() < 1e-12);
        for (a, b) in total.left_out.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12);
        }
        assert!(total.bias.abs() < 1e-9, "the sample variance is unbiased: {}", total.bias);
        assert_eq!(found[1].clone().unwrap().standard_error, 0.0);
    }

    #[test]
    fn leaving_out_is_what_it_says() {
        // 2n random numbers a row, some rows alike, one far out, and a mean far from 0.
        let mut state = 3u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        for (n, d) in [(3, 2), (4, 1), (10, 20), (30, 7), (70, 140)] {
            for kind in 0..4 {
                let mut rows: Vec<Vec<f64>> = (0..n).map(|_| (0..d).map(|_| next()).collect()).collect();
                match kind {
                    1 => rows[1] = rows[0].clone(),
                    2 => rows[n - 1].iter_mut().for_each(|x| *x *= 1e4),
                    3 => rows.iter_mut().flatten().for_each(|x| *x += 10.0),
                    _ => {}
                }
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let values = rows.iter().flat_map(|a| rows.iter().map(move |b| dot(a, b))).collect();
                let gram = Gram::from_values(n, d as u64, values).unwrap();
                let without = |seed: usize| {
                    let rest: Vec<usize> = (0..n).filter(|&i| i != seed).collect();
                    spectrum(&gram.select(&rest).unwrap()).unwrap()
                };
                let spectra: Vec<Spectrum> = (0..n).map(without).collect();
                for (headline, found) in Headline::ALL.into_iter().zip(jackknife(&gram, &Headline::ALL).unwrap()) {
                    let expected: Option<Vec<f64>> = spectra.iter().map(|spectrum| headline.of(spectrum)).collect();
                    let about = format!("{n} {d} {kind} {headline:?}");
                    assert_eq!(found.is_some(), expected.is_some(), "{about}");
                    let pairs = found.iter().flat_map(|found| &found.left_out).zip(expected.iter().flatten());
                    for (found, expected) in pairs {
                        let near = (found - expected).abs() <= 1e-9 * expected.abs().max(1e-3);
                        assert!(near, "{about}: {found} is not {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_defined_without_a_seed_has_no_error() {
        // Two alike and one apart: without it nothing varies.
        let gram = Gram::from_values(3, 5, vec![1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 4.0]).unwrap();
        let found = jackknife(&gram, &[Headline::TotalVariance, Headline::FirstRatio]).unwrap();
        assert_eq!(found[0].as_ref().unwrap().left_out[2], 0.0);
        assert_eq!(found[1], None);
    }

    #[test]
    fn two_seeds_cannot_be_left_out_of() {
        let gram = diagonal(&[1.0, 1.0], 10);
        assert_eq!(jackknife(&gram, &[Headline::EffectiveRank]).unwrap(), [None]);
    }

    #[test]
    fn orthogonal_seeds_look_like_the_null_and_a_line_does_not() {
        let gram = diagonal(&[1.0; 8], 1_000_000);
        let effective = |gram: &Gram| Spectrum::of(&Pca::from_gram(gram).unwrap()).effective_rank.unwrap();
        let null = null_model(&gram, &[Headline::EffectiveRank], (200, 3)).unwrap()[0].unwrap();
        assert!(null.low <= null.mean && null.mean <= null.high);
        assert!((effective(&gram) - null.mean).abs() < 0.05, "{null:?}");
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let line = Gram::from_values(8, 1_000_000, x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect());
        let line = line.unwrap();
        let null = null_model(&line, &[Headline::EffectiveRank], (200, 3)).unwrap()[0].unwrap();
        assert!(effective(&line) < null.low, "{null:?}");
        assert_eq!(null_model(&line, &[Headline::EffectiveRank], (200, 3)).unwrap()[0], Some(null));
    }

    #[test]
    fn in_one_dimension_random_directions_are_signs() {
        let gram = Gram::from_values(3, 1, vec![1.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0]).unwrap();
        let null = null_model(&gram, &[Headline::FirstRatio], (50, 1)).unwrap()[0].unwrap();
        assert_eq!((null.low, null.high), (1.0, 1.0));
        assert_eq!(null_model(&diagonal(&[0.0; 3], 5), &[Headline::FirstRatio], (5, 1)).unwrap(), [None]);
    }
}
