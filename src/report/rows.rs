//! The plain rows that plots and pages are made of, and their tables.
//!
//! Owns the names and kinds of the columns of the tables that a page shows. Knows nothing of where the numbers come from.
//! Pure.

use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::table::{Cell, ColumnKind, Table};

/// What one layer's fit says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LayerRow {
    /// Name in the state dict.
    pub layer: String,
    /// Index of its block, where it is in one.
    pub depth: Option<u32>,
    /// What it is within its block, for instance `attn.out_proj.weight`.
    pub module: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Sum of the explained variances: trace of the covariance of the task vectors.
    pub total_variance: Option<f64>,
    /// [`Self::total_variance`] by [`Self::parameters`].
    pub variance_per_parameter: Option<f64>,
    /// Explained variance ratio of the first component.
    pub first_ratio: Option<f64>,
    /// Explained variance ratio of the second component.
    pub second_ratio: Option<f64>,
    /// Exponential of the entropy of the ratios.
    pub effective_rank: Option<f64>,
    /// Fewest components that explain 90 % of the variance.
    pub k90: Option<u32>,
    /// Fewest components that explain 95 % of the variance.
    pub k95: Option<u32>,
    /// Fewest components that explain 99 % of the variance.
    pub k99: Option<u32>,
    /// Without variance: the layer is the same in every seed, and has no ratios.
    pub degenerate: bool,
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

const LAYER_COLUMNS: [(&str, ColumnKind); 13] = [
    ("layer", ColumnKind::Text),
    ("depth", ColumnKind::Integer),
    ("module", ColumnKind::Text),
    ("parameters", ColumnKind::Integer),
    ("total_variance", ColumnKind::Number),
    ("variance_per_parameter", ColumnKind::Number),
    ("explained_variance_ratio_1", ColumnKind::Number),
    ("explained_variance_ratio_2", ColumnKind::Number),
    ("effective_rank", ColumnKind::Number),
    ("k90", ColumnKind::Integer),
    ("k95", ColumnKind::Integer),
    ("k99", ColumnKind::Integer),
    ("degenerate", ColumnKind::Boolean),
];

const COMPONENT_COLUMNS: [(&str, ColumnKind); 4] = [
    ("layer", ColumnKind::Text),
    ("component", ColumnKind::Integer),
    ("explained_variance_ratio", ColumnKind::Number),
    ("cumulative_ratio", ColumnKind::Number),
];

/// One row a layer: the stored form of the layers of a fit.
///
/// # Errors
/// [`ReportError::Table`] never for counts below 2⁶³.
pub fn layers_table(layers: &[LayerRow]) -> Result<Table, ReportError> {
    let mut table = Table::new(LAYER_COLUMNS);
    for row in layers {
        table.push(vec![
            row.layer.as_str().into(),
            row.depth.map(u64::from).into(),
            row.module.as_str().into(),
            row.parameters.into(),
            row.total_variance.into(),
            row.variance_per_parameter.into(),
            row.first_ratio.into(),
            row.second_ratio.into(),
            row.effective_rank.into(),
            row.k90.map(u64::from).into(),
            row.k95.map(u64::from).into(),
            row.k99.map(u64::from).into(),
            row.degenerate.into(),
        ])?;
    }
    Ok(table)
}

/// One row for each layer and component, components counted from 1.
///
/// # Errors
/// [`ReportError::Table`] never for counts below 2⁶³.
pub fn components_table(spectra: &[Spectrum]) -> Result<Table, ReportError> {
    let mut table = Table::new(COMPONENT_COLUMNS);
    for spectrum in spectra {
        for (position, (ratio, sum)) in spectrum.ratios.iter().zip(cumulative(&spectrum.ratios)).enumerate() {
            table.push(vec![spectrum.layer.as_str().into(), (position + 1).into(), (*ratio).into(), sum.into()])?;
        }
    }
    Ok(table)
}

/// The layers in a table with at least the columns of [`layers_table`], in any order; other columns are left alone.
///
/// # Errors
/// [`ReportError::MissingColumn`] and [`ReportError::UnexpectedCell`].
pub fn layers_from(table: &Table) -> Result<Vec<LayerRow>, ReportError> {
    let at = places(table, &LAYER_COLUMNS)?;
    let read = |row: &Vec<Cell>| {
        let cells = Cells { row, at: &at, columns: &LAYER_COLUMNS };
        Ok(LayerRow {
            layer: cells.text(0)?,
            depth: cells.small(1)?,
            module: cells.text(2)?,
            parameters: cells.integer(3)?.ok_or_else(|| cells.unexpected(3))?,
            total_variance: cells.number(4)?,
            variance_per_parameter: cells.number(5)?,
            first_ratio: cells.number(6)?,
            second_ratio: cells.number(7)?,
            effective_rank: cells.number(8)?,
            k90: cells.small(9)?,
            k95: cells.small(10)?,
            k99: cells.small(11)?,
            degenerate: cells.get(12) == Some(&Cell::Boolean(true)),
        })
    };
    table.rows().iter().map(read).collect()
}

/// The spectra in a table with at least the columns of [`components_table`]; rows of one layer stand together.
///
/// # Errors
/// [`ReportError::MissingColumn`] and [`ReportError::UnexpectedCell`].
pub fn spectra_from(table: &Table) -> Result<Vec<Spectrum>, ReportError> {
    let at = places(table, &COMPONENT_COLUMNS)?;
    let mut spectra: Vec<Spectrum> = Vec::new();
    for row in table.rows() {
        let cells = Cells { row, at: &at, columns: &COMPONENT_COLUMNS };
        let (layer, ratio) = (cells.text(0)?, cells.number(2)?);
        if spectra.last().is_none_or(|last| last.layer != layer) {
            spectra.push(Spectrum { layer, ratios: Vec::new() });
        }
        if let Some(last) = spectra.last_mut() {
            last.ratios.extend(ratio);
        }
    }
    Ok(spectra)
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

fn places(table: &Table, columns: &[(&'static str, ColumnKind)]) -> Result<Vec<usize>, ReportError> {
    let place = |(name, _): &(&'static str, ColumnKind)| {
        table.column(name).ok_or_else(|| ReportError::MissingColumn { column: (*name).to_owned() })
    };
    columns.iter().map(place).collect()
}

/// A row seen through the places of the columns that are read.
struct Cells<'a> {
    row: &'a [Cell],
    at: &'a [usize],
    columns: &'a [(&'static str, ColumnKind)],
}

impl Cells<'_> {
    fn get(&self, column: usize) -> Option<&Cell> {
        self.row.get(*self.at.get(column)?)
    }

    fn unexpected(&self, column: usize) -> ReportError {
        let name = self.columns.get(column).map(|(name, _)| *name).unwrap_or_default();
        ReportError::UnexpectedCell { column: name.to_owned() }
    }

    fn text(&self, column: usize) -> Result<String, ReportError> {
        match self.get(column) {
            Some(Cell::Text(text)) => Ok(text.clone()),
            Some(Cell::Null) => Ok(String::new()),
            _ => Err(self.unexpected(column)),
        }
    }

    fn number(&self, column: usize) -> Result<Option<f64>, ReportError> {
        match self.get(column) {
            Some(Cell::Number(number)) => Ok(Some(*number)),
            Some(Cell::Integer(number)) => Ok(Some(*number as f64)),
            Some(Cell::Null) => Ok(None),
            _ => Err(self.unexpected(column)),
        }
    }

    fn integer(&self, column: usize) -> Result<Option<u64>, ReportError> {
        match self.get(column) {
            Some(Cell::Integer(number)) => u64::try_from(*number).map(Some).map_err(|_| self.unexpected(column)),
            Some(Cell::Null) => Ok(None),
            _ => Err(self.unexpected(column)),
        }
    }

    fn small(&self, column: usize) -> Result<Option<u32>, ReportError> {
        let number = self.integer(column)?.map(u32::try_from);
        number.transpose().map_err(|_| self.unexpected(column))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::parquet;

    fn shares() -> impl Strategy<Value = Option<f64>> {
        proptest::option::of(0.0..1.0f64)
    }

    fn layer_rows() -> impl Strategy<Value = LayerRow> {
        let names = (any::<String>(), proptest::option::of(any::<u32>()), any::<String>(), 0..u64::MAX / 2);
        let counts = proptest::option::of(any::<u32>());
        (names, shares(), shares(), shares(), counts, any::<bool>()).prop_map(
            |((layer, depth, module, parameters), a, b, c, k, degenerate)| LayerRow {
                layer,
                depth,
                module,
                parameters,
                total_variance: a,
                variance_per_parameter: b,
                first_ratio: c,
                second_ratio: b,
                effective_rank: a,
                k90: k,
                k95: depth,
                k99: k,
                degenerate,
            },
        )
    }

    proptest! {
        #[test]
        fn layers_survive_their_stored_form(layers in proptest::collection::vec(layer_rows(), 0..20)) {
            let bytes = parquet::write(&layers_table(&layers).unwrap(), &[]).unwrap();
            prop_assert_eq!(layers_from(&parquet::read(bytes.into()).unwrap().table).unwrap(), layers);
        }
    }

    #[test]
    fn spectra_survive_their_stored_form() {
        let spectra = [("a", vec![0.75, 0.25]), ("b", vec![1.0])];
        let spectra = spectra.map(|(layer, ratios)| Spectrum { layer: layer.to_owned(), ratios });
        let table = components_table(&spectra).unwrap();
        assert_eq!(table.rows()[1], ["a".into(), Cell::Integer(2), Cell::Number(0.25), Cell::Number(1.0)]);
        assert_eq!(spectra_from(&table).unwrap(), spectra);
    }

    #[test]
    fn foreign_tables_are_refused_by_column() {
        let missing = Table::new([("layer", ColumnKind::Text)]);
        assert!(matches!(layers_from(&missing), Err(ReportError::MissingColumn { column }) if column == "depth"));
        let columns = LAYER_COLUMNS.map(|(name, kind)| (name, if name == "k90" { ColumnKind::Text } else { kind }));
        let mut table = Table::new(columns);
        let mut row = layers_table(&[LayerRow::default()]).unwrap().rows()[0].clone();
        row[9] = "many".into();
        table.push(row).unwrap();
        assert!(matches!(layers_from(&table), Err(ReportError::UnexpectedCell { column }) if column == "k90"));
    }
}
