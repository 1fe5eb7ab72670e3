//! What became of a study, as text and JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wandb_pca::app::study::{Outcome, Study, Summary, TaskFailure};
use wandb_pca::table::{ColumnKind, Table};

use super::compare::pairs_text;
use crate::cli::args::GroupArg;
use crate::cli::context::Context;
use crate::cli::exit::PartlyDone;
use crate::cli::render::{Output, columns, counted, objects, printable};

/// Most rows of a table that are printed; the files have all.
const MOST_ROWS: usize = 40;

/// What was done; what was not makes it exit code 7, after the results are out.
pub(super) fn told(context: &Context<'_>, study: &Study, outcome: &Outcome) -> anyhow::Result<Output> {
    let text = text(&context.session.app_url, study, outcome)?;
    let output = Output { schema: "study/1", json: as_json(study, outcome), text };
    let Some(why) = unfinished(outcome) else { return Ok(output) };
    output.print(context.json)?;
    Err(PartlyDone(why).into())
}

/// What is not done; nothing when everything is.
pub(super) fn unfinished(outcome: &Outcome) -> Option<String> {
    let wrong = outcome.failed.len() + outcome.unlogged.len();
    match wrong {
        _ if outcome.is_complete() => None,
        0 => Some(format!("{} with other processes", counted(outcome.elsewhere, "task is", "tasks are"))),
        count => Some(format!("{} wrong", counted(count, "task went", "tasks went"))),
    }
}

pub(super) fn text(app_url: &str, study: &Study, outcome: &Outcome) -> anyhow::Result<String> {
    let mut text = String::new();
    if let Some(summary) = &outcome.summary {
        write_summary(&mut text, summary)?;
    }
    writeln!(
        text,
        "{}: {} computed, {} found finished, {} done before",
        counted(outcome.tasks, "task", "tasks"),
        outcome.computed,
        outcome.adopted,
        outcome.before
    )?;
    for run in &outcome.logged {
        writeln!(text, "run     {}", run_url(app_url, run))?;
    }
    for failure in outcome.failed.iter().chain(&outcome.unlogged) {
        writeln!(text, "failed  {}: {}", printable(&failure.task), printable(&failure.error))?;
    }
    for model in outcome.summary.iter().flat_map(|summary| &summary.models) {
        writeln!(text, "report  {}", printable(&model.page.display().to_string()))?;
    }
    writeln!(text, "results {}", printable(&study.folder.display().to_string()))?;
    Ok(text)
}

/// Where a person looks at a run that is told as `entity/project/id`.
pub(super) fn run_url(app_url: &str, run: &str) -> String {
    let (project, id) = run.rsplit_once('/').unwrap_or_default();
    format!("{app_url}/{}/runs/{}", printable(project), printable(id))
}

/// The cells, and how the datasets of each model lie to each other.
fn write_summary(text: &mut String, summary: &Summary) -> anyhow::Result<()> {
    if !summary.cells.rows().is_empty() {
        writeln!(text, "{}", columns(&first_rows(&summary.cells)?))?;
    }
    for model in &summary.models {
        let Some(comparison) = &model.comparison else { continue };
        let pairs = first_rows(&pairs_text(comparison, GroupArg::Model)?)?;
        writeln!(text, "{}: all datasets in one Gram\n{}", printable(&model.model), columns(&pairs))?;
    }
    Ok(())
}

/// The table's first rows, and a last one that says that there are more.
fn first_rows(table: &Table) -> anyhow::Result<Table> {
    let names: Vec<_> = table.columns().iter().map(|column| (column.name.replace('_', " "), column.kind)).collect();
    let mut first = Table::new(names.iter().map(|(name, kind)| (name.as_str(), *kind)));
    for row in table.rows().iter().take(MOST_ROWS) {
        first.push(row.clone())?;
    }
    if table.rows().len() > MOST_ROWS {
        let more = format!("… {} more", table.rows().len() - MOST_ROWS);
        let of = |kind: ColumnKind| if kind == ColumnKind::Text { "…".into() } else { wandb_pca::table::Cell::Null };
        let mut row: Vec<_> = table.columns().iter().map(|column| of(column.kind)).collect();
        if let Some(cell) = row.first_mut() {
            *cell = more.into();
        }
        first.push(row)?;
    }
    Ok(first)
}

pub(super) fn as_json(study: &Study, outcome: &Outcome) -> Value {
    let failed = |list: &[TaskFailure]| -> Vec<Value> {
        list.iter().map(|failure| json!({ "task": failure.task, "error": failure.error })).collect()
    };
    let mut json = json!({
        "folder": study.folder,
        "tasks": outcome.tasks,
        "computed": outcome.computed,
        "adopted": outcome.adopted,
        "before": outcome.before,
        "elsewhere": outcome.elsewhere,
        "failed": failed(&outcome.failed),
        "unlogged": failed(&outcome.unlogged),
        "too_many_failures": outcome.too_many_failures,
        "runs": outcome.logged,
    });
    if let Some(summary) = &outcome.summary {
        json["cells"] = objects(&summary.cells);
        json["datasets"] = objects(&summary.datasets);
        json["reports"] = summary.models.iter().map(|model| json!(model.page)).collect();
    }
    json
}
