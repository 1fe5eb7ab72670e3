//! What a study says as a whole: one row a cell, and every pair of datasets of a model compared in one Gram.
//!
//! Of the Gram G of all seeds of all datasets of a model (the sum over layers): the cosine of two seeds is
//! Gᵢⱼ / √(Gᵢᵢ Gⱼⱼ); the scatter of a set S of seeds about its mean is Σ_S Gᵢᵢ − ΣΣ_S Gᵢⱼ / |S|. The share of variance
//! between datasets is 1 − Σ scatter within each / scatter of all.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::app::AppError;
use crate::app::fit_folder::Fit;
use crate::app::log_fit::object;
use crate::digest::Sha256;
use crate::report::csv;
use crate::store::write_durable;
use crate::study::{Joint, Standing};
use crate::table::{Cell, ColumnKind, Table};

use super::Study;
use super::inputs::Survey;
use super::pages::{self, Finished, ModelPage};

/// The study's tables and pages.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Summary {
    /// One row a finished cell.
    pub cells: Table,
    /// One row a model and pair of its datasets, once all of them are in one Gram.
    pub datasets: Table,
    /// A few numbers of the whole.
    pub aggregates: Map<String, Value>,
    /// SHA-256 over both tables.
    pub digest: String,
    /// One a model with a finished cell.
    pub models: Vec<ModelPage>,
}

/// Gathers what is finished, and writes `cells.csv`, `datasets.csv` and the page of each model where they are not as they
/// should be.
///
/// # Errors
/// [`AppError`] when a fit cannot be read, or a table or page not be written.
pub fn summarise(study: &Study, survey: &Survey) -> Result<Summary, AppError> {
    let files = study.files();
    let ledger = files.ledger()?;
    let done = |id: &str, inputs: &str| {
        let task = crate::study::Task { id: id.to_owned(), inputs: inputs.to_owned() };
        matches!(ledger.standing(&task), Standing::Done { .. })
    };
    let (mut cells, mut finished) = (cell_table(), Vec::new());
    for cell in survey.plan.cells.iter().filter(|cell| done(&cell.id, &cell.inputs)) {
        let fit = Fit::read(&files.fit(&cell.id))?;
        cells.push(cell_row(cell, &fit)?)?;
        finished.push(Finished { task: cell, fit });
    }
    let (mut datasets, mut joints) = (dataset_table(), Vec::new());
    let mut shares = Map::new();
    for joint in survey.plan.joints.iter().filter(|joint| done(&joint.id, &joint.inputs)) {
        let fit = Fit::read(&files.fit(&joint.id))?;
        let share = compare(survey, joint, &fit, &mut datasets)?;
        shares.insert(format!("study/{}/between_datasets", joint.model), json!(share));
        joints.push(Finished { task: joint, fit });
    }
    let mut aggregates = object(json!({ "study/cells": cells.rows().len(), "study/planned": survey.plan.cells.len() }));
    aggregates.extend(shares);
    let models = pages::models(survey, &files, (&finished, &joints))?;
    let texts = [("cells.csv", csv::write(&cells)), ("datasets.csv", csv::write(&datasets))];
    let is_there =
        |(name, text): &(&str, String)| fs::read(files.path(name)).is_ok_and(|bytes| bytes == text.as_bytes());
    if !(texts.iter().all(is_there) && models.iter().all(|model| model.page.is_file())) {
        // The tables come last: while they are not as they should be, the pages are made again.
        models.iter().try_for_each(|model| pages::write(model, &finished))?;
        for (name, text) in &texts {
            let path = files.path(name);
            write_durable(&path, text.as_bytes()).map_err(AppError::file("write", &path))?;
        }
    }
    let digest = Sha256::of(texts.map(|(_, text)| text).concat().as_bytes()).to_string();
    Ok(Summary { cells, datasets, aggregates, digest, models })
}

fn cell_table() -> Table {
    Table::new([
        ("model", ColumnKind::Text),
        ("dataset", ColumnKind::Text),
        ("seeds", ColumnKind::Integer),
        ("layers", ColumnKind::Integer),
        ("degenerate_layers", ColumnKind::Integer),
        ("parameters", ColumnKind::Integer),
        ("total_variance", ColumnKind::Number),
        ("mean_squared_norm", ColumnKind::Number),
        ("first_ratio", ColumnKind::Number),
        ("effective_rank", ColumnKind::Number),
        ("mean_cosine", ColumnKind::Number),
    ])
}

fn cell_row(cell: &crate::study::Cell, fit: &Fit) -> Result<Vec<Cell>, AppError> {
    let totals = &fit.record.totals;
    let whole = fit.rows()?.whole().map(|whole| &whole.row);
    Ok(vec![
        cell.model.clone().into(),
        cell.dataset.clone().into(),
        cell.seeds.len().into(),
        totals.layers.into(),
        totals.degenerate_layers.into(),
        totals.parameters.into(),
        totals.total_variance.into(),
        totals.mean_squared_norm.into(),
        whole.and_then(|whole| whole.first_ratio).into(),
        whole.and_then(|whole| whole.effective_rank).into(),
        whole.and_then(|whole| whole.mean_cosine).into(),
    ])
}

fn dataset_table() -> Table {
    Table::new([
        ("model", ColumnKind::Text),
        ("dataset", ColumnKind::Text),
        ("other_dataset", ColumnKind::Text),
        ("mean_cosine", ColumnKind::Number),
        ("mean_distance", ColumnKind::Number),
    ])
}

/// Adds a row for each pair of datasets and returns the share of variance between them; `None` without variance.
fn compare(survey: &Survey, joint: &Joint, fit: &Fit, table: &mut Table) -> Result<Option<f64>, AppError> {
    let Some(gram) = fit.whole_gram() else { return Ok(None) };
    let mut blocks: BTreeMap<usize, (&str, Range<usize>)> = BTreeMap::new();
    let mut start = 0;
    for (order, cell) in joint.cells.iter().filter_map(|&at| survey.plan.cells.get(at)).enumerate() {
        blocks.insert(order, (&cell.dataset, start..start + cell.seeds.len()));
        start += cell.seeds.len();
    }
    let blocks: Vec<(&str, Range<usize>)> = blocks.into_values().collect();
    let at = |i: usize, j: usize| gram.values().get(i * gram.seeds() + j).copied().unwrap_or(f64::NAN);
    for (number, (name, rows)) in blocks.iter().enumerate() {
        for (other, columns) in blocks.iter().skip(number) {
            let pairs = || rows.clone().flat_map(|i| columns.clone().map(move |j| (i, j))).filter(|(i, j)| i != j);
            let count = pairs().count() as f64;
            let cosine = pairs().map(|(i, j)| at(i, j) / (at(i, i) * at(j, j)).sqrt()).sum::<f64>() / count;
            let distance = |(i, j)| (at(i, i) + at(j, j) - 2.0 * at(i, j)).max(0.0).sqrt();
            let distance = pairs().map(distance).sum::<f64>() / count;
            let names = [joint.model.as_str(), name, other].map(Cell::from);
            table.push(names.into_iter().chain([cosine.into(), distance.into()]).collect())?;
        }
    }
    let scatter = |rows: Range<usize>| {
        let squares: f64 = rows.clone().map(|i| at(i, i)).sum();
        let sum: f64 = rows.clone().flat_map(|i| rows.clone().map(move |j| (i, j))).map(|(i, j)| at(i, j)).sum();
        squares - sum / rows.len() as f64
    };
    let all = scatter(0..gram.seeds());
    let within: f64 = blocks.iter().map(|(_, rows)| scatter(rows.clone())).sum();
    let share = 1.0 - within / all;
    Ok(share.is_finite().then_some(share))
}
