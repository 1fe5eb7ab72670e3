//! `study`: one short function a verb.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use wandb_pca::app::study::{self, ClusterOptions, Outcome, Study, StudyError, Survey, TaskStatus};
use wandb_pca::app::{Alert, AppError};
use wandb_pca::store::write_durable;
use wandb_pca::study::{self as study_plan, Needs, Rates, Spec};
use wandb_pca::table::{ColumnKind, Table};
use wandb_pca::wandb::AlertLevel;

use super::logged::note_untold;
use super::study_outcome::told;
use crate::cli::args::study::{self as args, Engine};
use crate::cli::context::Context;
use crate::cli::env::{self, Environment};
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, bytes_text, columns, counted, printable};

pub(super) async fn dispatch(context: &Context<'_>, command: &args::Study) -> anyhow::Result<Output> {
    match command {
        args::Study::Init(init) => init_file(context, init).await,
        args::Study::Plan(plan) => show_plan(context, plan).await,
        args::Study::Run(run) => run_study(context, run).await,
        args::Study::Prefetch(file) => {
            let (study, survey) = open(context, file).await?;
            study::prefetch(&study, &survey).await?;
            let needs = needs(&study, &survey).await;
            let bytes = survey.plan.estimate(Rates { download: 0.0, analysis: 0.0 }, &needs).disk_bytes;
            let text = format!("everything is here: {}\n", bytes_text(bytes));
            Ok(Output { schema: "study-prefetch/1", json: json!({ "bytes": bytes }), text })
        }
        args::Study::Shard(shard) => {
            let (study, survey) = open(context, &shard.study).await?;
            let outcome = study::shard(&study, &survey, shard.part).await?;
            told(context, &study, &outcome)
        }
        args::Study::Reduce(file) => {
            let (study, survey) = open(context, file).await?;
            let mut outcome = study::reduce(&study, &survey)?;
            outcome.summary = Some(study::summarise(&study, &survey)?);
            told(context, &study, &outcome)
        }
        args::Study::Push(file) => {
            let (study, survey) = open(context, file).await?;
            let outcome = study::push(&study, &survey).await?;
            told(context, &study, &outcome)
        }
        args::Study::Status(file) => show_status(context, file).await,
    }
}

pub(super) fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}

async fn init_file(context: &Context<'_>, init: &args::Init) -> anyhow::Result<Output> {
    let (entity, project) = match init.project.split_once('/') {
        Some((entity, project)) => (Some(entity), project),
        None => (None, init.project.as_str()),
    };
    let text = study::init(&context.session, entity, project).await?;
    let json = json!({ "study": text, "file": init.out });
    if let Some(path) = &init.out {
        if path.exists() {
            return Err(UsageError(format!("{} exists; choose another name", path.display())).into());
        }
        write_durable(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        let text = format!("{}\n", path.display());
        return Ok(Output { schema: "study-init/1", json, text });
    }
    Ok(Output { schema: "study-init/1", json, text })
}

pub(super) fn read(context: &Context<'_>, file: &args::File) -> anyhow::Result<Study> {
    let text = fs::read_to_string(&file.file).map_err(|source| AppError::File {
        action: "read",
        path: file.file.clone(),
        source,
    })?;
    let spec =
        Spec::parse(&text).map_err(|source| StudyError::Spec { path: file.file.clone(), source: Box::new(source) });
    let mut spec = spec.map_err(AppError::from)?;
    spec.shards = file.shards.unwrap_or(spec.shards);
    spec.entity = spec.entity.or_else(|| context.session.entity.clone());
    spec.project = spec.project.or_else(|| context.session.project.clone());
    let folder = file.out.clone().unwrap_or_else(|| PathBuf::from(format!("study-{}", spec.name)));
    let worker = worker(context.environment);
    Ok(Study { session: context.session.clone(), spec, folder, worker })
}

/// Who works, for the ledger: this machine and process.
pub(super) fn worker(environment: &Environment) -> String {
    format!("{}:{}", host(environment), std::process::id())
}

/// The name of this machine.
pub(super) fn host(environment: &Environment) -> String {
    // Shells set the variable but seldom hand it on.
    let of_kernel = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = environment.get(env::HOSTNAME).map(str::to_owned).or_else(of_kernel);
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

async fn open(context: &Context<'_>, file: &args::File) -> anyhow::Result<(Study, Survey)> {
    let study = read(context, file)?;
    let survey = study::survey(&study).await?;
    Ok((study, survey))
}

/// What is needed of each checkpoint; all of it, where their layers cannot be listed.
async fn needs(study: &Study, survey: &Survey) -> Needs {
    study::needs(study, survey).await.unwrap_or_else(|error| {
        let why = printable(&format!("{:#}", anyhow::Error::from(error)));
        study.session.progress.note(&format!("counting whole files: {why}"));
        Needs::default()
    })
}

async fn show_plan(context: &Context<'_>, args: &args::Plan) -> anyhow::Result<Output> {
    let (study, survey) = open(context, &args.study).await?;
    let plan = &survey.plan;
    let rates = Rates { download: args.download_rate * 1e6, analysis: args.analysis_rate * 1e6 };
    let needs = needs(&study, &survey).await;
    let estimate = plan.estimate(rates, &needs);
    let mut text = String::new();
    let states = study::status(&study, &survey)?;
    if !states.is_empty() {
        write!(text, "{}", columns(&plan_table(plan, &states)?))?;
    }
    for seed in &plan.skipped_seeds {
        writeln!(text, "without seed {} of {}: no {}", seed.seed, seed.cell, printable(&seed.reference))?;
    }
    for skipped in &plan.skipped {
        let what = skipped.missing.first().map(String::as_str).unwrap_or_default();
        let (model, dataset, count) = (&skipped.model, &skipped.dataset, skipped.missing.len());
        writeln!(text, "left out {model}@{dataset}: {count} missing, such as {}", printable(what))?;
    }
    writeln!(
        text,
        "{} cells; fetch {}, store {}, read {}",
        plan.cells.len(),
        bytes_text(estimate.fetch_bytes),
        bytes_text(estimate.disk_bytes),
        bytes_text(estimate.read_bytes)
    )?;
    if let Some(bytes) = estimate.shard_bytes {
        let shards = study.spec.shards;
        writeln!(text, "a shard of {shards} by itself fetches at most {}", bytes_text(bytes))?;
    }
    if let Some(seconds) = estimate.seconds {
        let (download, analysis) = (args.download_rate, args.analysis_rate);
        writeln!(text, "about {seconds:.0} s at {download} MB/s of download and {analysis} MB/s of analysis")?;
    }
    let ledger_todo = states.iter().filter(|task| task.state != "done").count();
    writeln!(text, "{ledger_todo} of {} tasks to do", plan.tasks().len())?;
    if let Err(error) = plan.check() {
        writeln!(text, "cannot run: {error}")?;
    }
    let json = json!({ "plan": plan, "estimate": estimate, "todo": ledger_todo, "runnable": plan.check().is_ok() });
    Ok(Output { schema: "study-plan/1", json, text })
}

/// The tasks of a plan in order, with what each is of and how it stands.
fn plan_table(plan: &study_plan::Plan, states: &[TaskStatus]) -> anyhow::Result<Table> {
    use ColumnKind::{Integer, Text};
    let mut table =
        Table::new([("task", Text), ("datasets", Integer), ("seeds", Integer), ("files", Text), ("state", Text)]);
    for task in states {
        let cells: Vec<_> = match plan.joint(&task.task) {
            Some(joint) => joint.cells.iter().filter_map(|&at| plan.cells.get(at)).collect(),
            None => plan.cell(&task.task).into_iter().collect(),
        };
        let seeds: usize = cells.iter().map(|cell| cell.seeds.len()).sum();
        let files = cells.iter().map(|cell| cell.bytes()).fold(0, u64::saturating_add);
        let row = [task.task.as_str().into(), cells.len().into(), seeds.into(), bytes_text(files).into()];
        table.push(row.into_iter().chain([task.state.into()]).collect())?;
    }
    Ok(table)
}

async fn run_study(context: &Context<'_>, args: &args::Run) -> anyhow::Result<Output> {
    let mut study = read(context, &args.study)?;
    study.spec.retries = args.retries.unwrap_or(study.spec.retries);
    study.spec.max_failures = args.max_failures.or(study.spec.max_failures);
    if args.no_log {
        study.spec.log.clear();
    }
    let outcome = compute(&study, args).await;
    if args.alert {
        note_untold(context, study::announce(&study, &ending(&study, &outcome)).await);
    }
    told(context, &study, &outcome?)
}

/// What people are told of how a study ended.
fn ending(study: &Study, outcome: &anyhow::Result<Outcome>) -> Alert {
    let name = &study.spec.name;
    match outcome {
        Ok(outcome) if outcome.is_complete() => {
            let text = format!("{} tasks, {} of them computed now", outcome.tasks, outcome.computed);
            Alert { title: format!("study {name} is done"), text, level: AlertLevel::Info }
        }
        Ok(outcome) => {
            let wrong = outcome.failed.len() + outcome.unlogged.len();
            let text = format!("{wrong} of {} tasks went wrong", outcome.tasks);
            Alert { title: format!("study {name} is not done"), text, level: AlertLevel::Error }
        }
        Err(error) => {
            let text = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            Alert { title: format!("study {name} failed"), text, level: AlertLevel::Error }
        }
    }
}

async fn compute(study: &Study, args: &args::Run) -> anyhow::Result<Outcome> {
    let survey = study::survey(study).await?;
    match args.engine {
        Engine::Local => Ok(study::run(study, &survey).await?),
        Engine::Slurm => {
            if !args.poll.is_finite() || args.poll < 0.1 {
                return Err(UsageError("--poll is at least 0.1 seconds".to_owned()).into());
            }
            let command = shard_command(study, args)?;
            let options = ClusterOptions { command, poll: Duration::from_secs_f64(args.poll) };
            let mut outcome = study::submit_and_follow(study, &survey, &options).await?;
            if study.session.client.is_some() && outcome.failed.is_empty() && !study.spec.log.is_empty() {
                let pushed = study::push(study, &survey).await?;
                (outcome.logged, outcome.unlogged, outcome.summary) = (pushed.logged, pushed.unlogged, pushed.summary);
            }
            Ok(outcome)
        }
    }
}

/// This program as a compute node starts it, up to `i/N`.
fn shard_command(study: &Study, args: &args::Run) -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let words = ["--offline".to_owned(), "study".to_owned(), "shard".to_owned(), absolute(&args.study.file)?];
    let folder = ["--out".to_owned(), absolute(&study.folder)?, "--shards".to_owned(), study.spec.shards.to_string()];
    let device = args.device.map(|device| ["--device".to_owned(), device.to_string()]);
    let options = folder.into_iter().chain(device.into_iter().flatten());
    Ok(std::iter::once(absolute(&program)?).chain(words).chain(options).collect())
}

async fn show_status(context: &Context<'_>, file: &args::File) -> anyhow::Result<Output> {
    let study = read(context, file)?;
    let survey = study::survey_pinned(&study).await?;
    let tasks = study::status(&study, &survey)?;
    use ColumnKind::{Number, Text};
    let mut names = vec![("task", Text), ("state", Text), ("seconds", Number), ("run or error", Text)];
    if study.spec.shards > 1 {
        names.insert(2, ("shards", Text));
    }
    let mut table = Table::new(names);
    let mut list = Vec::new();
    for task in &tasks {
        let told = task.run.as_ref().or(task.detail.as_ref()).map(String::as_str);
        let mut row = vec![task.task.as_str().into(), task.state.into(), task.seconds.into(), told.into()];
        if study.spec.shards > 1 {
            let shards = (task.state != "done").then(|| format!("{}/{}", task.shards_done, study.spec.shards));
            row.insert(2, shards.into());
        }
        table.push(row)?;
        list.push(json!({
            "task": task.task,
            "state": task.state,
            "detail": task.detail,
            "seconds": task.seconds,
            "shards_done": task.shards_done,
            "run": task.run,
        }));
    }
    let done = tasks.iter().filter(|task| task.state == "done").count();
    let mut text = if tasks.is_empty() { String::new() } else { columns(&table) };
    writeln!(text, "{done} of {} done", counted(tasks.len(), "task", "tasks"))?;
    Ok(Output { schema: "study-status/1", json: json!({ "tasks": list, "done": done }), text })
}
