//! The charts of a fit for W&B: which rows each draws, and as what. The specifications are those of the local report; where
//! W&B keeps no definitions of ours, the nearest of its own draws the same rows. The rows are pure; defining is network I/O.

use crate::digest::Sha256;
use crate::report::input::FitSection;
use crate::report::rows::{Spectrum, cumulative};
use crate::report::vega::{CHARTS, Chart as Specification};
use crate::table::{ColumnKind, Table, TableError};
use crate::wandb::{Chart, ChartDefinition, Run, WandbError};

/// Layers in the charts of single layers: those with the largest total variance.
const LAYERS: usize = 20;

/// One chart with its rows.
#[derive(Debug)]
pub(super) struct FitChart {
    pub(super) key: &'static str,
    pub(super) table: Table,
    specification: Specification,
    /// The nearest of W&B's own charts.
    preset: Chart,
}

/// Every chart of the fit that has something to show.
///
/// # Errors
/// Never for a fit; a [`TableError`] would be a mistake in this file.
pub(super) fn charts(fit: &FitSection) -> Result<Vec<FitChart>, TableError> {
    const RATIO: &str = "explained_variance_ratio";
    const SUM: &str = "cumulative_ratio";
    let mut charts = Vec::new();
    for specification in CHARTS {
        let (key, table, preset) = match specification.name {
            "variance-by-depth" => {
                ("pca/variance_by_depth", by_depth(fit)?, Chart::scatter("depth", "variance_per_parameter"))
            }
            "scree" => {
                let table = spectra(fit, RATIO, <[f64]>::to_vec)?;
                ("pca/scree", table, Chart::line_series("component", "layer", RATIO))
            }
            "cumulative" => {
                let table = spectra(fit, SUM, cumulative)?;
                ("pca/cumulative", table, Chart::line_series("component", "layer", SUM))
            }
            "cosine-similarity" => ("pca/cosine_similarity", cosines(fit)?, Chart::matrix("first", "second", "cosine")),
            "seeds-in-plane" => ("pca/seeds_in_plane", seeds(fit)?, Chart::scatter("component_1", "component_2")),
            _ => continue,
        };
        if !table.rows().is_empty() {
            let preset = preset.with_title(specification.title);
            charts.push(FitChart { key, table, specification, preset });
        }
    }
    Ok(charts)
}

impl FitChart {
    /// What W&B is to keep of it. Another specification has another name, so that runs keep the look that they were logged
    /// with.
    fn definition(&self) -> ChartDefinition {
        let Specification { name, title, .. } = self.specification;
        let specification = self.specification.for_wandb();
        let digest = Sha256::of(specification.as_bytes()).to_hex();
        let name = format!("wandb-pca-{name}-{}", digest.get(..8).unwrap_or(&digest));
        ChartDefinition { name, title: title.to_owned(), specification }
    }
}

/// The panel that draws each in this run.
pub(super) async fn panels(charts: &[FitChart], run: &Run) -> Result<Vec<Chart>, WandbError> {
    let definitions: Vec<ChartDefinition> = charts.iter().map(FitChart::definition).collect();
    let ids = run.define_charts(&definitions).await?;
    let panel = |(chart, id): (&FitChart, Option<String>)| {
        let fields = chart.specification.columns.iter().map(|column| (*column, *column));
        id.map_or_else(|| chart.preset.clone(), |id| Chart::of_definition(id, fields))
    };
    Ok(charts.iter().zip(ids).map(panel).collect())
}

fn by_depth(fit: &FitSection) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Number, Text};
    let columns = [("depth", Integer), ("module", Text), ("variance_per_parameter", Number), ("layer", Text)];
    let mut table = Table::new(columns);
    for row in fit.layers.iter().filter(|row| row.depth.is_some()) {
        let layer = row.layer.as_str().into();
        let depth = row.depth.map(u64::from).into();
        table.push(vec![depth, row.module.as_str().into(), row.variance_per_parameter.into(), layer])?;
    }
    Ok(table)
}

/// One line for each of the layers with the most variance, which are its first rows.
fn spectra(fit: &FitSection, column: &str, values: fn(&[f64]) -> Vec<f64>) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Number, Text};
    let mut table = Table::new([("component", Integer), (column, Number), ("layer", Text)]);
    for spectrum in top(fit) {
        for (at, value) in values(&spectrum.ratios).into_iter().enumerate() {
            table.push(vec![(at + 1).into(), value.into(), spectrum.layer.as_str().into()])?;
        }
    }
    Ok(table)
}

fn top(fit: &FitSection) -> Vec<&Spectrum> {
    let variance = |spectrum: &Spectrum| {
        let row = fit.layers.iter().find(|row| row.layer == spectrum.layer);
        row.and_then(|row| row.total_variance).unwrap_or(0.0)
    };
    let mut spectra: Vec<(f64, &Spectrum)> =
        fit.spectra.iter().map(|spectrum| (variance(spectrum), spectrum)).collect();
    spectra.sort_by(|a, b| b.0.total_cmp(&a.0));
    spectra.into_iter().take(LAYERS).map(|(_, spectrum)| spectrum).collect()
}

fn cosines(fit: &FitSection) -> Result<Table, TableError> {
    use ColumnKind::{Number, Text};
    let mut table = Table::new([("first", Text), ("second", Text), ("cosine", Number)]);
    if let Some(matrix) = &fit.cosine {
        for (first, row) in matrix.labels.iter().zip(&matrix.values) {
            for (second, value) in matrix.labels.iter().zip(row) {
                table.push(vec![first.as_str().into(), second.as_str().into(), (*value).into()])?;
            }
        }
    }
    Ok(table)
}

fn seeds(fit: &FitSection) -> Result<Table, TableError> {
    use ColumnKind::{Number, Text};
    let columns = [("component_1", Number), ("component_2", Number), ("seed", Text), ("dataset", Text)];
    let mut table = Table::new(columns);
    for point in fit.scores.iter().flat_map(|scores| &scores.points) {
        let names = [point.label.as_str().into(), point.group.as_str().into()];
        table.push([point.first.into(), point.second.into()].into_iter().chain(names).collect())?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rows::{LayerRow, Matrix, Score, Scores};
    use crate::table::Cell;

    fn fit() -> FitSection {
        let layer = |at: u32| LayerRow {
            layer: format!("blocks.{at}.w"),
            depth: (at > 0).then_some(at),
            module: "w".to_owned(),
            total_variance: Some(f64::from(at)),
            variance_per_parameter: Some(0.5),
            ..LayerRow::default()
        };
        let layers: Vec<LayerRow> = (0..25).map(layer).collect();
        let spectrum = |row: &LayerRow| Spectrum { layer: row.layer.clone(), ratios: vec![0.75, 0.25] };
        let point = |label: &str| Score { label: label.to_owned(), ..Score::default() };
        FitSection {
            spectra: layers.iter().map(spectrum).collect(),
            layers,
            cosine: Some(Matrix {
                labels: vec!["1".to_owned(), "2".to_owned()],
                values: vec![vec![Some(1.0), None], vec![None, Some(1.0)]],
            }),
            scores: Some(Scores { points: vec![point("1"), point("2")], ratios: [None, None] }),
            ..FitSection::default()
        }
    }

    #[test]
    fn every_specification_has_rows_with_its_columns() {
        let charts = charts(&fit()).unwrap();
        assert_eq!(charts.len(), CHARTS.len());
        for chart in &charts {
            let names: Vec<&str> = chart.table.columns().iter().map(|column| column.name.as_str()).collect();
            assert_eq!(names, chart.specification.columns, "{}", chart.key);
        }
        let rows = |at: usize| charts[at].table.rows();
        assert_eq!([0, 1, 2, 3, 4].map(|at| rows(at).len()), [24, 40, 40, 4, 2]);
        assert_eq!(rows(1)[0], [Cell::Integer(1), 0.75.into(), "blocks.24.w".into()], "the largest first");
        assert_eq!(rows(2)[1][1], Cell::Number(1.0));
        assert_eq!(rows(3)[1], ["1".into(), "2".into(), Cell::Null]);
    }

    #[test]
    fn a_fit_of_nothing_has_no_charts() {
        assert!(charts(&FitSection::default()).unwrap().is_empty());
    }
}
