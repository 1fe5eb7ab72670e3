//! `fit`.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use wandb_pca::analysis::{DtypeRule, Measure};
use wandb_pca::app::{self, AppError, Extent, Fit, FitRecord, Input, Logged};
use wandb_pca::report::input::Verified;
use wandb_pca::report::rows::{GroupRow, LayerRow, groups_table};
use wandb_pca::table::{ColumnKind, Table};

use super::located::input_text;
use super::logged::{run_json, told, write_run};
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, columns, number_text, objects, printable, verified_text};
use crate::cli::settings::Mode;

pub(super) async fn fit(context: &Context<'_>, args: &args::Fit) -> anyhow::Result<Output> {
    let seeds = args.seeds.as_deref().map(app::parse_seeds).transpose().map_err(AppError::from)?;
    let pretrained = Input::parse(&input_text(context, &args.pretrained).await?).map_err(AppError::from)?;
    let mut templates = Vec::with_capacity(args.finetuned.len());
    for text in &args.finetuned {
        templates.push(input_text(context, text).await?);
    }
    let finetuned = app::expand(&templates, seeds.as_deref()).map_err(AppError::from)?;
    let from_artifacts = finetuned.iter().any(|seeded| matches!(seeded.input, Input::Artifact(_)));
    let mut options = app::FitOptions::new(pretrained, finetuned, PathBuf::new());
    options.dataset = args.dataset.clone();
    options.layer_globs = args.layers.clone();
    options.key = args.key.clone();
    options.file = args.file.clone();
    options.null_draws = args.null_draws as usize;
    options.components = args.components.map(|count| count as usize);
    if args.mixed_dtypes {
        options.dtypes = DtypeRule::AnyFloat;
    }
    options.measure = match (args.sti, args.interference) {
        (true, _) => Measure::SingularInterference,
        (false, true) => Measure::Interference,
        (false, false) => Measure::Gram,
    };
    options.extent = match (args.partial, args.whole) {
        (true, _) => Extent::Parts,
        (_, true) => Extent::Whole,
        _ => Extent::Cheaper,
    };
    options.lock = args.lock.mode();
    options.csv = args.csv;
    options.fresh = args.fresh;
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
    told(fit_output((&outcome, args.group), logged.as_ref())?, logged.as_ref(), context.json)
}

/// A name with only what file systems agree on.
pub(super) fn file_name(name: &str) -> String {
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

fn fit_output((outcome, group): (&app::FitOutcome, args::GroupArg), logged: Option<&Logged>) -> anyhow::Result<Output> {
    let (fit, folder) = (&outcome.fit, &outcome.folder);
    let layers: Vec<Value> = fit.layers.iter().zip(&fit.rows()?.layers).map(layer_json).collect();
    let groups: Vec<GroupRow> = groups_of(fit, group)?.cloned().collect();
    let json = json!({
        "fit": folder,
        "model": fit.record.model,
        "dataset": fit.record.dataset,
        "seeds": app::labels(&fit.record),
        "known_seeds": outcome.known,
        "totals": fit.record.totals,
        "verified": fit.record.verified(),
        "inputs": fit.record.inputs().collect::<Vec<_>>(),
        "skipped": fit.record.skipped,
        "layers": layers,
        "components": outcome.components,
        "groups": objects(&groups_table(&groups)?),
        "whole_model": fit.rows()?.whole().map(|whole| &whole.row),
        "run": run_json(logged),
        "artifact": logged.and_then(|logged| logged.artifacts.first()),
    });
    let mut text = match group {
        args::GroupArg::Layer => fit_text(fit, 10)?,
        _ => columns(&group_table(&groups)?) + &totals_text(fit)?,
    };
    writeln!(text, "\nfit     {}", printable(&folder.display().to_string()))?;
    if let Some(components) = &outcome.components {
        writeln!(text, "tensors {}", printable(&components.file.display().to_string()))?;
    }
    write_run(&mut text, logged)?;
    Ok(Output { schema: "fit/2", json, text })
}

/// The groups that `--group` asks for; none for single layers, which are in the other list.
fn groups_of(fit: &Fit, group: args::GroupArg) -> Result<impl Iterator<Item = &GroupRow>, AppError> {
    let label = group.grouping().label();
    Ok(fit.rows()?.groups.iter().filter(move |row| row.grouping == label))
}

fn group_table(groups: &[GroupRow]) -> anyhow::Result<Table> {
    let mut table = Table::new([
        ("group", ColumnKind::Text),
        ("layers", ColumnKind::Integer),
        ("parameters", ColumnKind::Integer),
        ("explained variance", ColumnKind::Number),
        ("first component", ColumnKind::Text),
        ("effective rank", ColumnKind::Number),
        ("for 95 %", ColumnKind::Integer),
    ]);
    for group in groups {
        table.push(vec![
            group.group.as_str().into(),
            u64::from(group.layers).into(),
            group.row.parameters.into(),
            group.row.total_variance.into(),
            group.row.first_ratio.map(|ratio| format!("{:.1} %", 100.0 * ratio)).into(),
            group.row.effective_rank.into(),
            group.row.components_95.map(u64::from).into(),
        ])?;
    }
    Ok(table)
}

fn layer_json((fit, row): (&wandb_pca::analysis::LayerFit, &LayerRow)) -> Value {
    json!({
        "layer": fit.layer.name,
        "shape": fit.layer.shape,
        "dtype": fit.layer.dtype.name(),
        "parameters": fit.layer.parameters,
        "total_variance": fit.pca.total_variance(),
        "explained_variance": fit.pca.explained_variance(),
        "explained_variance_ratio": fit.pca.explained_variance_ratio(),
        "degenerate": fit.pca.is_degenerate(),
        "mean_norm": row.mean_norm,
        "mean_cosine": row.mean_cosine,
        "effective_rank": row.effective_rank,
        "participation_ratio": row.participation_ratio,
        "stable_rank": row.stable_rank,
        "spectral_gap": row.spectral_gap,
        "components_90": row.components_90,
        "components_95": row.components_95,
        "components_99": row.components_99,
        "total_variance_error": row.total_variance_error,
        "sign_conflict": row.sign_conflict,
        "sign_conflict_trimmed": row.sign_conflict_trimmed,
        "mass_top_1": row.mass_top_1,
        "mass_top_10": row.mass_top_10,
        "singular_interference": row.singular_interference,
        "first_ratio_certainty": row.first_ratio_certainty,
        "effective_rank_certainty": row.effective_rank_certainty,
        "participation_ratio_certainty": row.participation_ratio_certainty,
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
    Ok(columns(&table) + &totals_text(fit)?)
}

fn totals_text(fit: &Fit) -> anyhow::Result<String> {
    let (record, totals) = (&fit.record, &fit.record.totals);
    let dataset = record.dataset.as_ref().map(|dataset| format!(" on {dataset}")).unwrap_or_default();
    let mut text = String::new();
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
    if let Some(whole) = fit.rows()?.whole() {
        writeln!(text, "{}", certainty_text(&whole.row))?;
    }
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

/// How sure the first component of the whole model is.
fn certainty_text(row: &LayerRow) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut text =
        format!("whole model: first component {}", row.first_ratio.map_or_else(|| "none".to_owned(), percent));
    let sure = row.first_ratio_certainty;
    if let Some(error) = sure.error {
        text += &format!(" ± {} (jackknife over seeds)", percent(error));
    }
    if let (Some(low), Some(high)) = (sure.null_low, sure.null_high) {
        text += &format!("; {} to {} if directions were random", percent(low), percent(high));
    }
    if let Some(conflict) = row.sign_conflict {
        text += &format!("\nsigns conflict in {} of the parameters", percent(conflict));
    }
    text
}

/// How many inputs were verified, and how far.
fn inputs_text(record: &FitRecord) -> String {
    let count = |verified| record.inputs().filter(|input| input.verified == verified).count();
    let kinds = [Verified::Whole, Verified::Partly, Verified::No].map(|verified| (count(verified), verified));
    let texts = kinds.into_iter().filter(|(count, _)| *count > 0);
    texts.map(|(count, verified)| format!("{count} {}", verified_text(verified))).collect::<Vec<_>>().join("; ")
}
