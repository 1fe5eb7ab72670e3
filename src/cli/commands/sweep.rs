//! `sweep`: one short function a verb.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::sync::watch;
use wandb_pca::app::study::{self, AgentEnd, AgentOptions, AgentOutcome, CellEnd, Leave, Study, SweepRun, sweep_url};
use wandb_pca::study::sweep::{Assignment, configuration};

use super::study::{absolute, host, read};
use super::study_outcome::told;
use crate::cli::args::study::File;
use crate::cli::args::sweep as args;
use crate::cli::context::Context;
use crate::cli::env;
use crate::cli::exit::{Interrupted, PartlyDone, UsageError};
use crate::cli::interrupt::interruptions;
use crate::cli::render::{Output, printable};

pub(super) async fn dispatch(context: &Context<'_>, command: &args::Sweep) -> anyhow::Result<Output> {
    match command {
        args::Sweep::Create(file) => create(context, file).await,
        args::Sweep::Agent(agent) => run_agent(context, agent).await,
        args::Sweep::Config(file) => {
            let study = read(context, file)?;
            let text = configured(&study, file)?;
            Ok(Output { schema: "sweep-config/1", json: json!({ "configuration": text }), text })
        }
        args::Sweep::Cell(cell) => run_cell(context, cell).await,
    }
}

/// The configuration of the study's sweep, with this program as what agents start.
fn configured(study: &Study, file: &File) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let [program, file, folder] = [program.as_path(), &file.file, &study.folder].map(absolute);
    let command =
        [program?, "sweep".to_owned(), "cell".to_owned(), file?, "--out".to_owned(), folder?, "--".to_owned()];
    Ok(configuration(&study.spec, &command))
}

async fn create(context: &Context<'_>, file: &File) -> anyhow::Result<Output> {
    let study = read(context, file)?;
    let made = study::create_sweep(&study, &configured(&study, file)?).await?;
    let url = sweep_url(&study.session, &made.path);
    let json = json!({
        "id": made.path.id,
        "sweep": made.path.to_string(),
        "entity": made.path.entity,
        "project": made.path.project,
        "url": url,
        "warnings": made.warnings,
    });
    let path = printable(&made.path.to_string()).to_string();
    let file = printable(&file.file.display().to_string()).to_string();
    let mut text = String::new();
    writeln!(text, "sweep   {path}\nurl     {}", printable(&url))?;
    writeln!(text, "run it  wandb-pca sweep agent {path} {file}")?;
    Ok(Output { schema: "sweep-create/1", json, text })
}

async fn run_agent(context: &Context<'_>, args: &args::Agent) -> anyhow::Result<Output> {
    if !args.heartbeat.is_finite() || !(0.05..=3600.0).contains(&args.heartbeat) {
        return Err(UsageError("--heartbeat is 0.05 to 3600 seconds".to_owned()).into());
    }
    let mut study = read(context, &args.study)?;
    study.spec.retries = args.retries.unwrap_or(study.spec.retries);
    study.spec.max_failures = args.max_failures.or(study.spec.max_failures);
    let options = AgentOptions {
        sweep: args.sweep.clone(),
        host: host(context.environment),
        heartbeat: Duration::from_secs_f64(args.heartbeat),
        count: args.count.map(|count| count as usize),
        retry_failed: args.retry_failed,
    };
    let (sender, leave) = watch::channel(Leave::No);
    let listening = async {
        let mut interruptions = interruptions()?;
        interruptions.next().await;
        context.session.progress.note("leaving after this cell; once more gives the cell up");
        sender.send_replace(Leave::AfterThis);
        interruptions.next().await;
        sender.send_replace(Leave::Now);
        std::future::pending::<std::io::Result<()>>().await
    };
    let outcome = tokio::select! {
        outcome = study::agent(&study, &options, leave) => outcome?,
        failed = listening => return Err(failed.err().map_or_else(|| Interrupted.into(), anyhow::Error::from)),
    };
    told_of(context, &outcome)
}

/// What an agent did; failures make it exit code 7, having been told to leave 130, after the results are out.
fn told_of(context: &Context<'_>, outcome: &AgentOutcome) -> anyhow::Result<Output> {
    let mut text = String::new();
    for cell in &outcome.cells {
        let error = cell.error.as_deref().map(|error| format!("  {}", printable(error))).unwrap_or_default();
        let run = cell.run.rsplit_once('/').map(|(project, id)| format!("{project}/runs/{id}")).unwrap_or_default();
        let url = format!("{}/{run}", context.session.app_url);
        writeln!(text, "{}  {}  {}{error}", printable(&cell.cell), cell.state, printable(&url))?;
    }
    let end = match outcome.end {
        AgentEnd::Over => "the sweep is over",
        AgentEnd::Count => "as many as were asked for",
        AgentEnd::TooManyFailures => "too many failed",
        AgentEnd::Left => "told to leave",
        AgentEnd::Deleted => "the sweep is gone",
    };
    let with = |state: &str| outcome.cells.iter().filter(|cell| cell.state == state).count();
    let (finished, failed) = (with("finished"), with("failed"));
    writeln!(text, "{finished} of {} cells finished: {end}", outcome.cells.len())?;
    let cells: Vec<_> = outcome
        .cells
        .iter()
        .map(|cell| json!({ "cell": cell.cell, "run": cell.run, "state": cell.state, "error": cell.error }))
        .collect();
    let json = json!({
        "sweep": outcome.sweep.to_string(),
        "url": sweep_url(&context.session, &outcome.sweep),
        "cells": cells,
        "finished": finished,
        "failed": failed,
        "end": match outcome.end {
            AgentEnd::Over => "over",
            AgentEnd::Count => "count",
            AgentEnd::TooManyFailures => "failures",
            AgentEnd::Left => "left",
            AgentEnd::Deleted => "deleted",
        },
    });
    let output = Output { schema: "sweep-agent/1", json, text };
    if failed == 0 && outcome.end != AgentEnd::Left {
        return Ok(output);
    }
    output.print(context.json)?;
    match outcome.end {
        AgentEnd::Left => Err(Interrupted.into()),
        _ => Err(PartlyDone(format!("{failed} cells failed; --retry-failed does them again")).into()),
    }
}

async fn run_cell(context: &Context<'_>, cell: &args::Cell) -> anyhow::Result<Output> {
    let mut study = read(context, &cell.study)?;
    let get = |name| context.environment.get(name).map(str::to_owned);
    let assignment = match get(env::SWEEP_PARAM_PATH).filter(|_| cell.parameters.is_empty()) {
        Some(path) => {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            Assignment::from_file(&text)
        }
        None => Assignment::from_arguments(cell.parameters.iter().map(String::as_str)),
    };
    let assignment = assignment.map_err(|error| UsageError(error.to_string()))?;
    study.spec = study.spec.assigned(&assignment).map_err(|error| UsageError(error.to_string()))?;
    // An agent says where its sweep is; the study file may name another project for the checkpoints.
    let of_sweep = |name| get(env::SWEEP_ID).and_then(|_| get(name));
    let sweep = SweepRun {
        entity: of_sweep(env::ENTITY),
        project: of_sweep(env::PROJECT),
        sweep: get(env::SWEEP_ID),
        run: get(env::RUN_ID),
        parameters: assignment.parameters().map(|(name, value)| (name.to_owned(), json!(value))).collect(),
    };
    let mut interruptions = interruptions()?;
    let stop = async { interruptions.next().await };
    match study::run_sweep_cell(&study, &sweep, stop).await?.end {
        CellEnd::Finished(outcome) => told(context, &study, &outcome),
        CellEnd::Failed(error) => Err(error.into()),
        CellEnd::Stopped => Err(Interrupted.into()),
    }
}
