//! What a fit says, as rows: one a layer, one a layer and component, one a group of layers, each with how sure it is. Made
//! from Grams and PCAs alone, always the same from the same fit. Pure.

use rayon::prelude::*;

use crate::analysis::{
    AnalysisError, Gram, Grouping, Headline, Interference, Jackknife, LayerFit, NullBand, Pca, Similarity, Spectrum,
    group, jackknife, null_model, null_ratios,
};
use crate::report::rows::{self, Certainty, ComponentRow, GroupRow, LayerRow};

use super::layer_name::{depth, module, shape_text};

/// Draws of the null model, where nobody says how many.
pub const NULL_DRAWS: usize = 100;
/// With more seeds than this the null model is drawn for the whole model alone: each draw of each layer is an eigenproblem, and
/// its cost grows with the third power of their number.
pub const MOST_RESAMPLED: usize = 64;
/// Seed of the null model's generator.
const NULL_SEED: u64 = 0;
/// The numbers that are resampled.
const HEADLINES: [Headline; 4] =
    [Headline::TotalVariance, Headline::FirstRatio, Headline::EffectiveRank, Headline::ParticipationRatio];

/// The rows of a fit.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct FitRows {
    /// One a layer, in the order of the model.
    pub layers: Vec<LayerRow>,
    /// One a layer and component.
    pub components: Vec<ComponentRow>,
    /// One a block, a kind of module, and the whole model, which is last.
    pub groups: Vec<GroupRow>,
    /// Ratios of the whole model under random directions, component by component; empty without draws.
    pub null_ratios: Vec<NullBand>,
}

impl FitRows {
    /// The whole model's row; `None` when no layer was fitted.
    pub fn whole(&self) -> Option<&GroupRow> {
        self.groups.last()
    }
}

/// The rows of these layers, with `draws` draws of the null model.
///
/// # Errors
/// [`AnalysisError::NoConvergence`] when two eigensolvers fail.
pub(super) fn rows(fits: &[LayerFit], draws: usize) -> Result<FitRows, AnalysisError> {
    let layers = fits.par_iter().map(|fit| layer_row(fit, draws)).collect::<Result<Vec<_>, _>>()?;
    let mut groups = Vec::new();
    let mut whole = None;
    for grouping in [Grouping::Block, Grouping::Module, Grouping::Model] {
        let named = || fits.iter().map(|fit| (fit.layer.name.as_str(), &fit.gram));
        let count = |name: &str| named().filter(|(layer, _)| grouping.name(layer) == name).count();
        let of_grouping = group(named(), grouping)?;
        let rows = of_grouping.par_iter().map(|(name, gram)| group_row((grouping, name), gram, draws));
        for (row, (name, _)) in rows.collect::<Vec<_>>().into_iter().zip(&of_grouping) {
            let mut row = GroupRow { layers: small(count(name)), ..row? };
            let members = || fits.iter().filter(|fit| grouping.name(&fit.layer.name) == *name);
            row.row.sign_conflict = conflict(members(), |found| found.sign_conflict);
            row.row.sign_conflict_trimmed = conflict(members(), |found| found.sign_conflict_trimmed);
            groups.push(row);
        }
        whole = of_grouping.into_iter().next_back().map(|(_, gram)| gram);
    }
    let null_ratios = whole.map(|gram| null_ratios(&gram, (draws, NULL_SEED))).transpose()?.unwrap_or_default();
    let components = fits.iter().flat_map(component_rows).collect();
    Ok(FitRows { layers, components, groups, null_ratios })
}

fn layer_row(fit: &LayerFit, draws: usize) -> Result<LayerRow, AnalysisError> {
    let draws = if fit.gram.seeds() <= MOST_RESAMPLED { draws } else { 0 };
    let mut row = numbers(&fit.gram, &fit.pca, draws)?;
    row.layer = fit.layer.name.clone();
    row.module = module(&fit.layer.name).to_owned();
    row.depth = depth(&fit.layer.name);
    row.dtype = fit.layer.dtype.name().to_owned();
    row.shape = shape_text(&fit.layer.shape);
    if let Some(found) = fit.interference {
        row.sign_conflict = Some(found.sign_conflict);
        row.sign_conflict_trimmed = Some(found.sign_conflict_trimmed);
        [row.mass_top_1, row.mass_top_10] = found.mass_top;
        row.singular_interference = found.singular;
    }
    Ok(row)
}

fn group_row((grouping, name): (Grouping, &str), gram: &Gram, draws: usize) -> Result<GroupRow, AnalysisError> {
    let resampled = grouping == Grouping::Model || gram.seeds() <= MOST_RESAMPLED;
    let row = numbers(gram, &Pca::from_gram(gram)?, if resampled { draws } else { 0 })?;
    Ok(GroupRow { grouping: grouping.label().to_owned(), group: name.to_owned(), layers: 0, row })
}

/// The share of a group's parameters with a conflict of signs, from those of its layers; `None` where one is unknown.
fn conflict<'f>(fits: impl Iterator<Item = &'f LayerFit>, of: fn(&Interference) -> f64) -> Option<f64> {
    let (mut conflicts, mut parameters) = (0.0, 0.0);
    for fit in fits {
        conflicts += of(fit.interference.as_ref()?) * fit.layer.parameters as f64;
        parameters += fit.layer.parameters as f64;
    }
    (parameters > 0.0).then(|| conflicts / parameters)
}

/// Everything but the names.
fn numbers(gram: &Gram, pca: &Pca, draws: usize) -> Result<LayerRow, AnalysisError> {
    let spectrum = Spectrum::of(pca);
    let ratio = |k: usize| spectrum.ratios.as_ref().and_then(|ratios| ratios.get(k).copied());
    let (jackknifed, null) = (jackknife(gram, &HEADLINES)?, null_model(gram, &HEADLINES, (draws, NULL_SEED))?);
    let sure = |at: usize| certainty(jackknifed.get(at), null.get(at));
    Ok(LayerRow {
        parameters: gram.parameters(),
        total_variance: Some(spectrum.total_variance),
        variance_per_parameter: Some(spectrum.variance_per_parameter),
        mean_norm: Some(mean(&Similarity::of(gram).norms())),
        mean_cosine: mean_cosine(gram),
        first_ratio: ratio(0),
        second_ratio: ratio(1),
        effective_rank: spectrum.effective_rank,
        participation_ratio: spectrum.participation_ratio,
        stable_rank: spectrum.stable_rank,
        spectral_gap: spectrum.spectral_gap,
        components_90: spectrum.components_90.map(small),
        components_95: spectrum.components_95.map(small),
        components_99: spectrum.components_99.map(small),
        degenerate: pca.is_degenerate(),
        total_variance_error: sure(0).error,
        first_ratio_certainty: sure(1),
        effective_rank_certainty: sure(2),
        participation_ratio_certainty: sure(3),
        ..LayerRow::default()
    })
}

fn certainty(jackknife: Option<&Option<Jackknife>>, null: Option<&Option<NullBand>>) -> Certainty {
    let null = null.and_then(Option::as_ref);
    Certainty {
        error: jackknife.and_then(Option::as_ref).map(|jackknife| jackknife.standard_error),
        null_low: null.map(|band| band.low),
        null_high: null.map(|band| band.high),
    }
}

fn component_rows(fit: &LayerFit) -> Vec<ComponentRow> {
    let ratios = fit.pca.explained_variance_ratio();
    let sums = ratios.as_deref().map(rows::cumulative);
    let at = |values: &Option<Vec<f64>>, k: usize| values.as_ref().and_then(|values| values.get(k).copied());
    let values = fit.pca.explained_variance().iter().zip(fit.pca.singular_values()).enumerate();
    let row = |(k, (variance, sigma)): (usize, (&f64, f64))| ComponentRow {
        layer: fit.layer.name.clone(),
        component: small(k + 1),
        explained_variance: *variance,
        explained_variance_ratio: at(&ratios, k),
        cumulative_ratio: at(&sums, k).map(|sum| sum.min(1.0)),
        singular_value: sigma,
    };
    values.map(row).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean cosine similarity between the task vectors of different seeds; `None` when one of them is zero.
pub(super) fn mean_cosine(gram: &Gram) -> Option<f64> {
    let (cosines, n) = (Similarity::of(gram).cosines(), gram.seeds());
    let pairs: Option<Vec<f64>> =
        (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| cosines[i * n + j]).collect();
    pairs.filter(|pairs| !pairs.is_empty()).map(|pairs| mean(&pairs))
}

/// Counts of layers and components are far below 2³².
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Layer;
    use crate::tensor::Dtype;

    fn fit(name: &str, values: [f64; 9]) -> LayerFit {
        let gram = Gram::from_values(3, 100, values.to_vec()).unwrap();
        let layer = Layer { name: name.to_owned(), dtype: Dtype::F32, shape: vec![100], parameters: 100 };
        LayerFit { pca: Pca::from_gram(&gram).unwrap(), gram, interference: None, layer }
    }

    fn fits() -> Vec<LayerFit> {
        vec![
            fit("h.0.w", [4.0, 1.0, 0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 2.0]),
            fit("h.0.b", [0.0; 9]),
            fit("h.1.w", [9.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.0, 0.5, 1.0]),
        ]
    }

    #[test]
    fn groups_add_their_layers_up_and_the_whole_model_is_last() {
        let rows = rows(&fits(), 20).unwrap();
        let names: Vec<_> =
            rows.groups.iter().map(|row| (row.grouping.as_str(), row.group.as_str(), row.layers)).collect();
        let expected = [
            ("block", "h.0", 2),
            ("block", "h.1", 1),
            ("module", "h.*.w", 2),
            ("module", "h.*.b", 1),
            ("model", "model", 3),
        ];
        assert_eq!(names, expected);
        let total: f64 = rows.layers.iter().filter_map(|row| row.total_variance).sum();
        assert!((rows.whole().unwrap().row.total_variance.unwrap() - total).abs() < 1e-12);
        assert_eq!(rows.whole().unwrap().row.parameters, 300);
        assert_eq!(rows.components.len(), 9);
    }

    #[test]
    fn what_varies_has_an_error_and_a_null_range_and_what_does_not_has_none() {
        let rows = rows(&fits(), 20).unwrap();
        let (varying, frozen) = (&rows.layers[0], &rows.layers[1]);
        let sure = varying.first_ratio_certainty;
        assert_eq!(sure.error, Some(0.0), "two seeds have one component, whichever is left out");
        assert!(sure.null_low.unwrap() < sure.null_high.unwrap());
        assert!(varying.total_variance_error.unwrap() > 0.0);
        assert_eq!(frozen.first_ratio_certainty, Certainty::default());
        assert!(frozen.degenerate && frozen.mean_cosine.is_none());
        assert_eq!(rows.null_ratios.len(), 3);
        assert!(super::rows(&fits(), 0).unwrap().null_ratios.is_empty(), "no draws, no range");
    }
}
