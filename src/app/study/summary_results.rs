//! What the row of a study's summary run has: tables, charts over the cells, and for each model the plots, tables and page of
//! its comparison. Made before the run is started; kept with the run by network and file I/O.

use std::fs;

use serde_json::{Map, Value};

use crate::app::AppError;
use crate::app::report::{comparison_section, pictures_of_comparison};
use crate::table::{Cell, ColumnKind, Table};
use crate::wandb::{Chart, Image, Run, WandbError};

use super::pages::ModelPage;
use super::summary::Summary;

/// Columns of the table of cells that are drawn as bars, with the titles of the charts.
const BARS: [(&str, &str); 3] = [
    ("total_variance", "Total explained variance"),
    ("first_ratio", "First explained variance ratio"),
    ("effective_rank", "Effective rank"),
];

/// A study's results, ready to be logged.
pub(super) struct SummaryResults {
    tables: Vec<(String, Table)>,
    charts: Vec<(String, Table, Chart)>,
    plots: Vec<(String, Image)>,
    pages: Vec<(String, Vec<u8>)>,
}

impl SummaryResults {
    /// # Errors
    /// [`AppError::Table`], [`AppError::Report`], or a page that cannot be read.
    pub(super) fn of(summary: &Summary) -> Result<Self, AppError> {
        let mut results = Self {
            tables: vec![("study/cells".to_owned(), summary.cells.clone())],
            charts: charts(&summary.cells)?,
            plots: Vec::new(),
            pages: Vec::new(),
        };
        if !summary.datasets.rows().is_empty() {
            results.tables.push(("study/datasets".to_owned(), summary.datasets.clone()));
        }
        summary.models.iter().try_for_each(|model| results.add(model))?;
        Ok(results)
    }

    fn add(&mut self, ModelPage { model, page, comparison }: &ModelPage) -> Result<(), AppError> {
        let key = |name: &str| format!("study/{model}/{name}");
        if let Some(comparison) = comparison {
            self.tables.extend(comparison.tables()?.map(|(name, table)| (key(name), table)));
            for (plot, png) in pictures_of_comparison(&comparison_section(comparison))? {
                let image = Image::png(png).map_err(AppError::wandb(format!("log the plot {plot}")))?;
                let image = image.with_caption(format!("{model}, {plot}"));
                self.plots.push((key(&format!("plots/{}", plot.replace('-', "_"))), image));
            }
        }
        self.pages.push((key("report"), fs::read(page).map_err(AppError::file("read", page))?));
        Ok(())
    }

    /// Keeps everything with the run; the row for it.
    pub(super) async fn store(&self, run: &Run) -> Result<Map<String, Value>, WandbError> {
        let mut row = Map::new();
        for (key, table) in &self.tables {
            row.extend(run.store_table(key, table).await?);
        }
        for (key, table, chart) in &self.charts {
            row.extend(run.store_chart(key, table, chart).await?);
        }
        for (key, image) in &self.plots {
            row.extend(run.store_image(key, image).await?);
        }
        for (key, page) in &self.pages {
            row.extend(run.store_html(key, page.clone()).await?);
        }
        Ok(row)
    }
}

/// A bar for each cell.
fn charts(cells: &Table) -> Result<Vec<(String, Table, Chart)>, AppError> {
    let at = |name: &str| cells.columns().iter().position(|column| column.name == name);
    let (Some(model), Some(dataset)) = (at("model"), at("dataset")) else { return Ok(Vec::new()) };
    let mut charts = Vec::new();
    for (name, title) in BARS {
        let Some(value) = at(name) else { continue };
        let mut table = Table::new([("cell", ColumnKind::Text), (name, ColumnKind::Number)]);
        for row in cells.rows().iter().filter(|row| row[value] != Cell::Null) {
            table.push(vec![format!("{} {}", row[model], row[dataset]).into(), row[value].clone()])?;
        }
        if !table.rows().is_empty() {
            charts.push((format!("study/charts/{name}"), table, Chart::bar("cell", name).with_title(title)));
        }
    }
    Ok(charts)
}
