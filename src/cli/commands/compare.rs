//! `compare`.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use wandb_pca::app::{self, AppError, CompareOptions, CompareOutcome, Comparison, FitSource, Logged};
use wandb_pca::report::between::{joint_table, pairs_table};
use wandb_pca::table::{Cell, ColumnKind, Table};

use super::fit::file_name;
use super::located::input_text;
use super::logged::{run_json, told, write_run};
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::render::{Output, columns, number_text, objects, printable};
use crate::cli::settings::Mode;

pub(super) async fn compare(context: &Context<'_>, args: &args::Compare) -> anyhow::Result<Output> {
    let mut fits = Vec::with_capacity(args.fits.len());
    for text in &args.fits {
        fits.push(FitSource::parse(&input_text(context, text).await?).map_err(AppError::from)?);
    }
    let from_artifacts = fits.iter().any(|fit| matches!(fit, FitSource::Artifact(_)));
    let folder = args.out.clone().unwrap_or_else(|| default_folder(&fits));
    let mut options = CompareOptions::new(fits, folder);
    options.components = args.components.map(|count| count as usize);
    options.layer_globs = args.layers.clone();
    let outcome = app::compare(&context.session, options).await?;
    if args.csv {
        app::write_csv(&outcome.folder, &outcome.comparison.tables()?)?;
    }
    let opened: Vec<_> = outcome.fits.iter().map(|opened| &opened.fit).collect();
    let page = outcome.folder.join("report.html");
    app::report(&opened, Some(&outcome.comparison), &page, false)?;
    let log = (args.log || (from_artifacts && !args.no_log)) && context.settings.mode != Mode::Disabled;
    let logged = match log {
        true => Some(app::log_compare(&context.session, &outcome, &context.log_options()).await?),
        false => None,
    };
    told(output(&outcome, args.group, logged.as_ref())?, logged.as_ref(), context.json)
}

/// `compare-<name>-<name>`, from what the fits are called.
fn default_folder(fits: &[FitSource]) -> PathBuf {
    let name = |fit: &FitSource| {
        let text = fit.to_string();
        let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        file_name(last.trim_start_matches("fit-"))
    };
    PathBuf::from(format!("compare-{}", fits.iter().map(name).collect::<Vec<_>>().join("-")))
}

fn output(outcome: &CompareOutcome, group: args::GroupArg, logged: Option<&Logged>) -> anyhow::Result<Output> {
    let (record, rows) = (&outcome.comparison.record, &outcome.comparison.rows);
    let label = group.grouping().label();
    let pairs: Vec<_> = rows.pairs.iter().filter(|row| row.grouping == label).cloned().collect();
    let joint: Vec<_> = rows.joint.iter().filter(|row| row.grouping == label).cloned().collect();
    let mut pairs_json = objects(&pairs_table(&pairs)?);
    for (value, row) in pairs_json.as_array_mut().into_iter().flatten().zip(&pairs) {
        value["angles_degrees"] = json!(row.degrees);
    }
    let datasets: Vec<Value> = record
        .datasets
        .iter()
        .map(|fit| {
            let seeds: Vec<String> = fit.finetuned.iter().map(app::InputRecord::label).collect();
            json!({"name": fit.name, "fit": fit.fit, "created_at": fit.created_at, "seeds": seeds})
        })
        .collect();
    let n = record.labels().len();
    let matrix = |value: &dyn Fn(usize) -> Value| -> Vec<Vec<Value>> {
        (0..n).map(|row| (0..n).map(|column| value(row * n + column)).collect()).collect()
    };
    let similar = |at: usize| rows.similarity.get(at);
    let json = json!({
        "folder": outcome.folder,
        "model": record.model,
        "pretrained": record.pretrained,
        "datasets": datasets,
        "layers": record.layers.len(),
        "left_out": record.left_out,
        "components": record.components,
        "checkpoints_read": outcome.read,
        "group": label,
        "pairs": pairs_json,
        "joint": objects(&joint_table(&joint)?),
        "similarity": {
            "labels": record.labels(),
            "cosine": matrix(&|at| json!(similar(at).and_then(|row| row.cosine))),
            "distance": matrix(&|at| json!(similar(at).map(|row| row.distance))),
        },
        "run": run_json(logged),
        "artifact": logged.and_then(|logged| logged.artifacts.first()),
    });
    let mut text = columns(&pairs_text(&outcome.comparison, group)?);
    write_whole(&mut text, outcome)?;
    writeln!(text, "\ncompare {}", printable(&outcome.folder.display().to_string()))?;
    write_run(&mut text, logged)?;
    Ok(Output { schema: "compare/1", json, text })
}

/// One line a group and pair: what a person reads.
pub(super) fn pairs_text(comparison: &Comparison, group: args::GroupArg) -> anyhow::Result<Table> {
    let pairs = comparison.rows.pairs.iter().filter(|row| row.grouping == group.grouping().label());
    use ColumnKind::{Number, Text};
    let mut names = vec![("one", Text), ("other", Text), ("overlap", Number), ("first angle", Text)];
    names.extend([("mean angle", Text), ("one outside other", Text), ("other outside one", Text), ("cosine", Number)]);
    if group != args::GroupArg::Model {
        names.insert(0, (group.grouping().label(), Text));
    }
    let mut table = Table::new(names);
    let degrees = |angle: Option<f64>| Cell::from(angle.map(|angle| format!("{angle:.1}°")));
    let share = |share: Option<f64>| Cell::from(share.map(|share| format!("{:.1} %", 100.0 * share)));
    for row in pairs {
        let mut cells: Vec<Cell> = vec![row.first.as_str().into(), row.second.as_str().into(), row.overlap.into()];
        cells.extend([degrees(row.degrees.first().copied()), degrees(row.mean_angle())]);
        cells.extend([share(row.first_in_second), share(row.second_in_first), row.mean_cosine.into()]);
        if group != args::GroupArg::Model {
            cells.insert(0, row.group.as_str().into());
        }
        table.push(cells)?;
    }
    Ok(table)
}

fn write_whole(text: &mut String, outcome: &CompareOutcome) -> anyhow::Result<()> {
    let record = &outcome.comparison.record;
    let names: Vec<String> =
        record.datasets.iter().map(|fit| format!("{} ({})", fit.name, fit.finetuned.len())).collect();
    writeln!(
        text,
        "\n{}: {} layers of {}",
        printable(&record.model),
        record.layers.len(),
        printable(&names.join(", "))
    )?;
    if let Some(whole) = outcome.comparison.rows.joint.last() {
        let share = whole.dataset_share.map_or_else(|| "none".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        writeln!(
            text,
            "of the scatter of all task vectors, {share} is between datasets, the rest between seeds of one dataset",
        )?;
        let rank = whole.effective_rank.map_or_else(|| "none".to_owned(), number_text);
        writeln!(text, "effective rank of the joint PCA {rank}")?;
    }
    for layer in &record.left_out {
        writeln!(text, "{} is not in every fit, so it is not compared", printable(layer))?;
    }
    if !outcome.read {
        writeln!(text, "no checkpoint was read: the folder has all products")?;
    }
    Ok(())
}
