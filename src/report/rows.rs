//! The plain rows that plots and pages are made of, and their tables.
//!
//! Owns the names and kinds of the columns of the tables that a page shows. Knows nothing of where the numbers come from.
//! Pure.

use serde::{Deserialize, Serialize};

use crate::table::{Cell, ColumnKind, Table, TableError};

/// What one layer's fit says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerRow {
    /// Name in the state dict.
    pub layer: String,
    /// What it is within its block, for instance `attn.out_proj.weight`.
    pub module: String,
    /// Index of its block, where it is in one.
    pub depth: Option<u32>,
    /// Element type in the pretrained model, by its safetensors name.
    pub dtype: String,
    /// `2×3×4`, or `scalar`.
    pub shape: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Sum of the explained variances: trace of the covariance of the task vectors.
    pub total_variance: Option<f64>,
    /// [`Self::total_variance`] by [`Self::parameters`].
    pub variance_per_parameter: Option<f64>,
    /// Mean norm of the task vectors.
    pub mean_norm: Option<f64>,
    /// Mean cosine between the task vectors of different seeds.
    pub mean_cosine: Option<f64>,
    /// Explained variance ratio of the first component.
    pub first_ratio: Option<f64>,
    /// Explained variance ratio of the second component.
    pub second_ratio: Option<f64>,
    /// Exponential of the entropy of the ratios.
    pub effective_rank: Option<f64>,
    /// (Σ λ)² / Σ λ².
    pub participation_ratio: Option<f64>,
    /// Σ λ / λ_1.
    pub stable_rank: Option<f64>,
    /// (λ_1 − λ_2) / λ_1.
    pub spectral_gap: Option<f64>,
    /// Fewest components that explain 90 % of the variance.
    pub components_90: Option<u32>,
    /// Fewest components that explain 95 % of the variance.
    pub components_95: Option<u32>,
    /// Fewest components that explain 99 % of the variance.
    pub components_99: Option<u32>,
    /// Without variance: the layer is the same in every seed, and has no ratios.
    pub degenerate: bool,
    /// How sure [`Self::first_ratio`] is.
    pub first_ratio_certainty: Certainty,
    /// How sure [`Self::effective_rank`] is.
    pub effective_rank_certainty: Certainty,
    /// How sure [`Self::participation_ratio`] is.
    pub participation_ratio_certainty: Certainty,
    /// Standard error of [`Self::total_variance`] by the jackknife over seeds.
    pub total_variance_error: Option<f64>,
    /// Share of the parameters for which task vectors have both signs.
    pub sign_conflict: Option<f64>,
    /// The same among the largest fifth of each task vector, of all parameters.
    pub sign_conflict_trimmed: Option<f64>,
    /// Share of the squared norm in the largest 1 % of the parameters.
    pub mass_top_1: Option<f64>,
    /// In the largest 10 %.
    pub mass_top_10: Option<f64>,
    /// Singular task interference of a layer that is a matrix.
    pub singular_interference: Option<f64>,
}

/// How sure a number is, with the few seeds there are.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Certainty {
    /// Standard error by the jackknife over seeds.
    pub error: Option<f64>,
    /// Lower end of the range in which it would lie if the task vectors had random directions.
    pub null_low: Option<f64>,
    /// Upper end.
    pub null_high: Option<f64>,
}

/// What the layers of a group say together: their concatenation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GroupRow {
    /// How layers were put together: `block`, `module` or `model`.
    pub grouping: String,
    /// Which group.
    pub group: String,
    /// Layers in it.
    pub layers: u32,
    /// Its numbers; names, shape and dtype are those of no layer and stay empty.
    pub row: LayerRow,
}

/// The singular values and explained variances of one layer, component 1 first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ComponentRow {
    /// Name in the state dict.
    pub layer: String,
    /// Which component, from 1.
    pub component: u32,
    /// λ_k.
    pub explained_variance: f64,
    /// λ_k / Σ λ; nothing where there is no variance.
    pub explained_variance_ratio: Option<f64>,
    /// Sum of the ratios up to this one.
    pub cumulative_ratio: Option<f64>,
    /// σ_k.
    pub singular_value: f64,
}

/// The explained variance ratios of one layer, falling; component 1 first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Spectrum {
    /// Name in the state dict.
    pub layer: String,
    /// Explained variance ratio of each component.
    pub ratios: Vec<f64>,
}

/// The range in which ratios fall when directions are random, component by component.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NullBand {
    /// Lower end.
    pub low: Vec<f64>,
    /// Upper end.
    pub high: Vec<f64>,
}

/// A square matrix between named things, row by row.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Matrix {
    /// What rows and columns stand for.
    pub labels: Vec<String>,
    /// One row for each label; a value that is undefined is null.
    pub values: Vec<Vec<Option<f64>>>,
}

/// A seed in the plane of the first two components.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// The seed.
    pub label: String,
    /// What it is grouped by, for instance its dataset; empty for none.
    pub group: String,
    /// Coordinate on the first component.
    pub first: f64,
    /// Coordinate on the second component.
    pub second: f64,
}

/// Where the seeds lie.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Scores {
    /// The seeds.
    pub points: Vec<Score>,
    /// Share of the variance that the two axes explain.
    pub ratios: [Option<f64>; 2],
}

/// Principal angles between the seed subspaces of two datasets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PairAngles {
    /// One dataset.
    pub first: String,
    /// The other.
    pub second: String,
    /// Angles in degrees, rising, from 0 to 90.
    pub degrees: Vec<f64>,
}

const NUMBERS: [(&str, ColumnKind); 30] = {
    use ColumnKind::{Boolean, Integer, Number};
    [
        ("parameters", Integer),
        ("total_variance", Number),
        ("variance_per_parameter", Number),
        ("mean_norm", Number),
        ("mean_cosine", Number),
        ("first_ratio", Number),
        ("second_ratio", Number),
        ("effective_rank", Number),
        ("participation_ratio", Number),
        ("stable_rank", Number),
        ("spectral_gap", Number),
        ("components_90", Integer),
        ("components_95", Integer),
        ("components_99", Integer),
        ("degenerate", Boolean),
        ("total_variance_error", Number),
        ("first_ratio_error", Number),
        ("first_ratio_null_low", Number),
        ("first_ratio_null_high", Number),
        ("effective_rank_error", Number),
        ("effective_rank_null_low", Number),
        ("effective_rank_null_high", Number),
        ("participation_ratio_error", Number),
        ("participation_ratio_null_low", Number),
        ("participation_ratio_null_high", Number),
        ("sign_conflict", Number),
        ("sign_conflict_trimmed", Number),
        ("mass_top_1", Number),
        ("mass_top_10", Number),
        ("singular_interference", Number),
    ]
};

impl LayerRow {
    /// The cells of [`NUMBERS`].
    fn numbers(&self) -> Vec<Cell> {
        let mut cells = vec![self.parameters.into()];
        let numbers = [
            self.total_variance,
            self.variance_per_parameter,
            self.mean_norm,
            self.mean_cosine,
            self.first_ratio,
            self.second_ratio,
            self.effective_rank,
            self.participation_ratio,
            self.stable_rank,
            self.spectral_gap,
        ];
        cells.extend(numbers.map(Cell::from));
        let counts = [self.components_90, self.components_95, self.components_99];
        cells.extend(counts.map(|count| Cell::from(count.map(u64::from))));
        cells.push(self.degenerate.into());
        cells.push(self.total_variance_error.into());
        let sure = [self.first_ratio_certainty, self.effective_rank_certainty, self.participation_ratio_certainty];
        cells.extend(sure.iter().flat_map(|sure| [sure.error, sure.null_low, sure.null_high]).map(Cell::from));
        let interference = [
            self.sign_conflict,
            self.sign_conflict_trimmed,
            self.mass_top_1,
            self.mass_top_10,
            self.singular_interference,
        ];
        cells.extend(interference.map(Cell::from));
        cells
    }
}

/// One row a layer: the stored form of the layers of a fit.
///
/// # Errors
/// Never; a [`TableError`] would be a mistake in this file.
pub fn layers_table(layers: &[LayerRow]) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Text};
    let names = [("layer", Text), ("module", Text), ("depth", Integer), ("dtype", Text), ("shape", Text)];
    let mut table = Table::new(names.into_iter().chain(NUMBERS));
    for row in layers {
        let depth = row.depth.map(u64::from);
        let mut cells: Vec<Cell> = vec![row.layer.as_str().into(), row.module.as_str().into(), depth.into()];
        cells.extend([row.dtype.as_str().into(), row.shape.as_str().into()]);
        cells.extend(row.numbers());
        table.push(cells)?;
    }
    Ok(table)
}

/// One row a group of layers.
///
/// # Errors
/// As [`layers_table`].
pub fn groups_table(groups: &[GroupRow]) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Text};
    let mut table = Table::new([("grouping", Text), ("group", Text), ("layers", Integer)].into_iter().chain(NUMBERS));
    for group in groups {
        let layers = u64::from(group.layers);
        let mut cells: Vec<Cell> = vec![group.grouping.as_str().into(), group.group.as_str().into(), layers.into()];
        cells.extend(group.row.numbers());
        table.push(cells)?;
    }
    Ok(table)
}

/// One row for each layer and component.
///
/// # Errors
/// As [`layers_table`].
pub fn components_table(components: &[ComponentRow]) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Number, Text};
    let mut table = Table::new([
        ("layer", Text),
        ("component", Integer),
        ("explained_variance", Number),
        ("explained_variance_ratio", Number),
        ("cumulative_ratio", Number),
        ("singular_value", Number),
    ]);
    for row in components {
        table.push(vec![
            row.layer.as_str().into(),
            u64::from(row.component).into(),
            row.explained_variance.into(),
            row.explained_variance_ratio.into(),
            row.cumulative_ratio.into(),
            row.singular_value.into(),
        ])?;
    }
    Ok(table)
}

/// Running sums of the ratios.
pub fn cumulative(ratios: &[f64]) -> Vec<f64> {
    ratios
        .iter()
        .scan(0.0, |sum, ratio| {
            *sum += ratio;
            Some(*sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_column() {
        let sure = |at: f64| Certainty { error: Some(at), null_low: Some(at + 1.0), null_high: Some(at + 2.0) };
        let row = LayerRow {
            layer: "h.0.w".to_owned(),
            depth: Some(0),
            first_ratio: Some(0.5),
            components_95: Some(4),
            total_variance_error: Some(0.25),
            first_ratio_certainty: sure(10.0),
            effective_rank_certainty: sure(20.0),
            participation_ratio_certainty: sure(30.0),
            sign_conflict: Some(0.75),
            mass_top_10: Some(0.875),
            ..LayerRow::default()
        };
        let table = layers_table(std::slice::from_ref(&row)).unwrap();
        let at = |name: &str| table.rows()[0][table.column(name).unwrap()].clone();
        assert_eq!((at("layer"), at("depth"), at("dtype")), ("h.0.w".into(), Cell::Integer(0), "".into()));
        assert_eq!((at("first_ratio"), at("second_ratio")), (Cell::Number(0.5), Cell::Null));
        assert_eq!((at("components_95"), at("degenerate")), (Cell::Integer(4), Cell::Boolean(false)));
        assert_eq!((at("total_variance_error"), at("first_ratio_error")), (Cell::Number(0.25), Cell::Number(10.0)));
        assert_eq!(at("effective_rank_null_low"), Cell::Number(21.0));
        assert_eq!(at("participation_ratio_null_high"), Cell::Number(32.0));
        assert_eq!((at("sign_conflict"), at("mass_top_10")), (Cell::Number(0.75), Cell::Number(0.875)));
        let group = GroupRow { grouping: "block".to_owned(), group: "h.0".to_owned(), layers: 2, row };
        let table = groups_table(&[group]).unwrap();
        assert_eq!(table.rows()[0][..3], ["block".into(), "h.0".into(), Cell::Integer(2)]);
        assert_eq!(table.rows()[0][table.column("first_ratio_error").unwrap()], Cell::Number(10.0));
    }
}
