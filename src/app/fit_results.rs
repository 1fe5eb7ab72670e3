//! What the row of a fit's run has: tables, charts, plots as images, histograms over layers, the report page. Made before the
//! run is started, so that what cannot be made leaves no run behind; kept with the run by network and file I/O.

use serde_json::{Map, Value};

use crate::report::input::FitSection;
use crate::table::Table;
use crate::wandb::{Histogram, Image, Run, WandbError};

use super::error::AppError;
use super::fit_charts::{FitChart, charts, panels};
use super::fit_folder::Fit;
use super::report::{pictures_of, section};

/// Bins over layers.
const BINS: usize = 32;

/// The results of one fit, ready to be logged.
#[derive(Debug)]
pub(super) struct Results {
    tables: [(String, Table); 3],
    charts: Vec<FitChart>,
    plots: Vec<(String, Image)>,
    histograms: Vec<(&'static str, Histogram)>,
}

impl Results {
    /// The results of a fit.
    ///
    /// # Errors
    /// [`AppError::Table`] and [`AppError::Report`].
    pub(super) fn of(fit: &Fit) -> Result<Self, AppError> {
        let section = section(fit)?;
        let plots = pictures_of(&section)?.into_iter().map(|(plot, png)| {
            let image = Image::png(png).map_err(AppError::wandb(format!("log the plot {plot}")))?;
            let key = format!("pca/plots/{}", plot.replace('-', "_"));
            Ok((key, image.with_caption(format!("{}, {plot}", section.name()))))
        });
        Ok(Self {
            plots: plots.collect::<Result<_, AppError>>()?,
            tables: fit.tables()?.map(|(name, table)| (format!("pca/{name}"), table)),
            charts: charts(&section)?,
            histograms: histograms(&section),
        })
    }

    /// Keeps everything with the run; the row for it.
    pub(super) async fn store(&self, run: &Run, page: &str) -> Result<Map<String, Value>, WandbError> {
        let mut row = Map::new();
        for (key, table) in &self.tables {
            row.extend(run.store_table(key, table).await?);
        }
        for (chart, panel) in self.charts.iter().zip(panels(&self.charts, run).await?) {
            row.extend(run.store_chart(chart.key, &chart.table, &panel).await?);
        }
        for (key, image) in &self.plots {
            row.extend(run.store_image(key, image).await?);
        }
        for (key, histogram) in &self.histograms {
            row.insert((*key).to_owned(), histogram.value());
        }
        row.extend(run.store_html("pca/report", page.as_bytes().to_vec()).await?);
        Ok(row)
    }
}

/// How the layers are spread.
fn histograms(section: &FitSection) -> Vec<(&'static str, Histogram)> {
    let over = |key, value: fn(&crate::report::rows::LayerRow) -> Option<f64>| {
        let values: Vec<f64> = section.layers.iter().filter_map(value).collect();
        Some((key, Histogram::of(&values, BINS)?))
    };
    let first = over("pca/histograms/first_ratio", |row| row.first_ratio);
    let rank = over("pca/histograms/effective_rank", |row| row.effective_rank);
    first.into_iter().chain(rank).collect()
}
