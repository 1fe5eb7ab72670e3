//! The tables of a fit: one row a layer, one row a layer and component.

use crate::analysis::{Gram, LayerFit, Similarity, Spectrum};
use crate::table::{Cell, ColumnKind, Table, TableError};

/// One row a layer, in the order of the model.
///
/// # Errors
/// Never for layers that were fitted; a [`TableError`] would be a mistake in this file.
pub(super) fn layers(fits: &[LayerFit]) -> Result<Table, TableError> {
    use ColumnKind::{Boolean, Integer, Number, Text};
    let mut table = Table::new([
        ("layer", Text),
        ("module", Text),
        ("depth", Integer),
        ("dtype", Text),
        ("shape", Text),
        ("parameters", Integer),
        ("total_variance", Number),
        ("variance_per_parameter", Number),
        ("mean_norm", Number),
        ("mean_cosine", Number),
        ("first_ratio", Number),
        ("effective_rank", Number),
        ("participation_ratio", Number),
        ("stable_rank", Number),
        ("spectral_gap", Number),
        ("components_90", Integer),
        ("components_95", Integer),
        ("components_99", Integer),
        ("degenerate", Boolean),
    ]);
    for fit in fits {
        let spectrum = Spectrum::of(&fit.pca);
        let similarity = Similarity::of(&fit.gram);
        table.push(vec![
            fit.layer.name.as_str().into(),
            module(&fit.layer.name).into(),
            depth(&fit.layer.name).into(),
            fit.layer.dtype.name().into(),
            shape_text(&fit.layer.shape).into(),
            fit.layer.parameters.into(),
            spectrum.total_variance.into(),
            spectrum.variance_per_parameter.into(),
            mean(&similarity.norms()).into(),
            mean_cosine(&fit.gram).into(),
            spectrum.ratios.as_ref().and_then(|ratios| ratios.first().copied()).into(),
            spectrum.effective_rank.into(),
            spectrum.participation_ratio.into(),
            spectrum.stable_rank.into(),
            spectrum.spectral_gap.into(),
            spectrum.components_90.into(),
            spectrum.components_95.into(),
            spectrum.components_99.into(),
            fit.pca.is_degenerate().into(),
        ])?;
    }
    Ok(table)
}

/// One row a layer and component, components from 1.
///
/// # Errors
/// As [`layers`].
pub(super) fn components(fits: &[LayerFit]) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Number, Text};
    let mut table = Table::new([
        ("layer", Text),
        ("component", Integer),
        ("explained_variance", Number),
        ("explained_variance_ratio", Number),
        ("cumulative_ratio", Number),
        ("singular_value", Number),
    ]);
    for fit in fits {
        let spectrum = Spectrum::of(&fit.pca);
        let at = |values: &Option<Vec<f64>>, k: usize| Cell::from(values.as_ref().and_then(|v| v.get(k).copied()));
        for (k, (variance, sigma)) in fit.pca.explained_variance().iter().zip(fit.pca.singular_values()).enumerate() {
            table.push(vec![
                fit.layer.name.as_str().into(),
                (k + 1).into(),
                (*variance).into(),
                at(&spectrum.ratios, k),
                at(&spectrum.cumulative, k),
                sigma.into(),
            ])?;
        }
    }
    Ok(table)
}

/// Which block a layer belongs to: the first number among the parts of its name.
pub(super) fn depth(layer: &str) -> Option<u64> {
    layer.split('.').find_map(|part| part.parse().ok())
}

/// What kind of weight a layer is: its name behind the block's number, or the whole name where there is none.
pub(super) fn module(layer: &str) -> &str {
    let mut rest = layer;
    while let Some((part, behind)) = rest.split_once('.') {
        if part.parse::<u64>().is_ok() {
            return behind;
        }
        rest = behind;
    }
    layer
}

/// `2×3×4`, or `scalar`.
pub(super) fn shape_text(shape: &[usize]) -> String {
    match shape {
        [] => "scalar".to_owned(),
        sizes => sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("×"),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean cosine similarity between the task vectors of different seeds; `None` when one of them is zero.
pub(super) fn mean_cosine(gram: &Gram) -> Option<f64> {
    mean_off_diagonal(&Similarity::of(gram).cosines(), gram.seeds())
}

fn mean_off_diagonal(matrix: &[Option<f64>], n: usize) -> Option<f64> {
    let pairs: Option<Vec<f64>> = (0..n).flat_map(|i| (0..i).map(move |j| matrix[i * n + j])).collect();
    pairs.filter(|pairs| !pairs.is_empty()).map(|pairs| mean(&pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_depth_and_module() {
        let name = "model.visual.transformer.resblocks.11.mlp.c_fc.weight";
        assert_eq!((depth(name), module(name)), (Some(11), "mlp.c_fc.weight"));
        assert_eq!(
            (depth("model.visual.conv1.weight"), module("model.visual.conv1.weight")),
            (None, "model.visual.conv1.weight")
        );
        assert_eq!(shape_text(&[]), "scalar");
        assert_eq!(shape_text(&[2, 3]), "2×3");
    }

    #[test]
    fn cosines_are_averaged_over_pairs() {
        let matrix = [Some(1.0), Some(0.5), Some(0.5), Some(1.0)];
        assert_eq!(mean_off_diagonal(&matrix, 2), Some(0.5));
        assert_eq!(mean_off_diagonal(&[None; 4], 2), None);
    }
}
