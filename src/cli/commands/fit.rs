//! `fit`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wandb_pca::app::{self, AppError, Extent, Fit, FitRecord, Input, Logged};
use wandb_pca::report::input::Verified;
use wandb_pca::table::{ColumnKind, Table};

use super::logged::{run_json, told, write_run};
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, columns, number_text, printable, verified_text};
use crate::cli::settings::Mode;

pub(super) async fn fit(context: &Context<'_>, args: &args::Fit) -> anyhow::Result<Output> {
    let seeds = args.seeds.as_deref().map(app::parse_seeds).transpose().map_err(AppError::from)?;
    let pretrained = Input::parse(&args.pretrained).map_err(AppError::from)?;
    let finetuned = app::expand(&args.finetuned, seeds.as_deref()).map_err(AppError::from)?;
    let from_artifacts = finetuned.iter().any(|seeded| matches!(seeded.input, Input::Artifact(_)));
    let mut options = app::FitOptions::new(pretrained, finetuned, PathBuf::new());
    options.dataset = args.dataset.clone();
    options.layer_globs = args.layers.clone();
    options.key = args.key.clone();
    options.file = args.file.clone();
    options.extent = match (args.partial, args.whole) {
        (true, _) => Extent::Parts,
        (_, true) => Extent::Whole,
        _ => Extent::Cheaper,
    };
    options.lock = args.lock.mode();
    let (model, dataset) = options.names();
    let name = dataset.map_or(model.clone(), |dataset| format!("{model}_{dataset}"));
    options.folder = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("fit-{}", file_name(&name))));
    let log = (args.log || (from_artifacts && !args.no_log)) && context.settings.mode != Mode::Disabled;
    if args.dry_run {
        return Ok(plan(&options, log));
    }
    if args.alert && !log {
        return Err(UsageError("--alert needs a run, so --log: W&B sends alerts of runs".to_owned()).into());
    }
    let mut log_options = context.log_options();
    log_options.alert = args.alert;
    let (outcome, logged) = if log {
        let (outcome, logged) = app::fit_in_run(&context.session, options, &log_options).await?;
        (outcome, Some(logged))
    } else {
        (app::fit(&context.session, options).await?, None)
    };
    told(fit_output(&outcome.fit, &outcome.folder, logged.as_ref())?, logged.as_ref(), context.json)
}

/// A name with only what file systems agree on.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "_-.".contains(c) { c } else { '-' }).collect()
}

fn plan(options: &app::FitOptions, log: bool) -> Output {
    let (model, dataset) = options.names();
    let inputs: Vec<String> = options.finetuned.iter().map(|seeded| seeded.input.to_string()).collect();
    let folder = options.folder.display().to_string();
    let mut text = format!("fit {model}{}\n", dataset.as_ref().map(|d| format!(" on {d}")).unwrap_or_default());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  pretrained  {}", options.pretrained);
    for input in &inputs {
        let _ = writeln!(text, "  fine-tuned  {input}");
    }
    let _ = writeln!(text, "  into {folder}{}", if log { ", logged as a W&B run" } else { "" });
    let json = json!({
        "model": model,
        "dataset": dataset,
        "pretrained": options.pretrained.to_string(),
        "finetuned": inputs,
        "folder": folder,
        "log": log,
    });
    Output { schema: "fit-plan/1", json, text }
}

fn fit_output(fit: &Fit, folder: &Path, logged: Option<&Logged>) -> anyhow::Result<Output> {
    let layers: Vec<Value> = fit.layers.iter().map(layer_json).collect();
    let json = json!({
        "fit": folder,
        "model": fit.record.model,
        "dataset": fit.record.dataset,
        "seeds": app::labels(&fit.record),
        "totals": fit.record.totals,
        "verified": fit.record.verified(),
        "inputs": fit.record.inputs().collect::<Vec<_>>(),
        "skipped": fit.record.skipped,
        "layers": layers,
        "run": run_json(logged),
        "artifact": logged.and_then(|logged| logged.artifacts.first()),
    });
    let mut text = fit_text(fit, 10)?;
    writeln!(text, "\nfit     {}", printable(&folder.display().to_string()))?;
    write_run(&mut text, logged)?;
    Ok(Output { schema: "fit/2", json, text })
}

fn layer_json(fit: &wandb_pca::analysis::LayerFit) -> Value {
    json!({
        "layer": fit.layer.name,
        "shape": fit.layer.shape,
        "dtype": fit.layer.dtype.name(),
        "parameters": fit.layer.parameters,
        "total_variance": fit.pca.total_variance(),
        "explained_variance": fit.pca.explained_variance(),
        "explained_variance_ratio": fit.pca.explained_variance_ratio(),
        "degenerate": fit.pca.is_degenerate(),
    })
}

/// The layers of highest variance as a short table, and the totals.
pub(super) fn fit_text(fit: &Fit, most: usize) -> anyhow::Result<String> {
    let mut layers: Vec<_> = fit.layers.iter().collect();
    layers.sort_by(|a, b| b.pca.total_variance().total_cmp(&a.pca.total_variance()));
    let mut table = Table::new([
        ("layer", ColumnKind::Text),
        ("parameters", ColumnKind::Integer),
        ("explained variance", ColumnKind::Number),
        ("first component", ColumnKind::Text),
        ("for 95 %", ColumnKind::Integer),
    ]);
    for fit in layers.iter().take(most) {
        let spectrum = wandb_pca::analysis::Spectrum::of(&fit.pca);
        let first = spectrum.ratios.as_ref().and_then(|ratios| ratios.first());
        table.push(vec![
            fit.layer.name.as_str().into(),
            fit.layer.parameters.into(),
            spectrum.total_variance.into(),
            first.map(|ratio| format!("{:.1} %", 100.0 * ratio)).into(),
            spectrum.components_95.into(),
        ])?;
    }
    let (record, totals) = (&fit.record, &fit.record.totals);
    let dataset = record.dataset.as_ref().map(|dataset| format!(" on {dataset}")).unwrap_or_default();
    let mut text = columns(&table);
    writeln!(
        text,
        "\n{}{}: {} seeds, {} layers, {} parameters, total explained variance {}",
        printable(&record.model),
        printable(&dataset),
        record.finetuned.len(),
        totals.layers,
        totals.parameters,
        number_text(totals.total_variance),
    )?;
    if totals.degenerate_layers > 0 {
        let (layers, parameters) = (totals.degenerate_layers, totals.degenerate_parameters);
        writeln!(text, "{layers} layers ({parameters} parameters) do not vary between the seeds")?;
    }
    writeln!(text, "inputs: {}", inputs_text(record))?;
    for skipped in &record.skipped {
        writeln!(text, "{} takes no part: {}", printable(&skipped.tensor), skipped.reason)?;
    }
    Ok(text)
}

/// How many inputs were verified, and how far.
fn inputs_text(record: &FitRecord) -> String {
    let count = |verified| record.inputs().filter(|input| input.verified == verified).count();
    let kinds = [Verified::Whole, Verified::Partly, Verified::No].map(|verified| (count(verified), verified));
    let texts = kinds.into_iter().filter(|(count, _)| *count > 0);
    texts.map(|(count, verified)| format!("{count} {}", verified_text(verified))).collect::<Vec<_>>().join("; ")
}
