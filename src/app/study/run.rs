//! Runs a study on this machine: task after task in the plan's order, the downloads of the next one while this one
//! computes. Everything that is finished is in the ledger; a rerun does the rest.

use std::time::{Duration, Instant};

use crate::app::{AppError, FailureKind};
use crate::study::{Ledger, Limits, Log, ShardId, Standing, Task};
use crate::wandb::Run;

use super::compute::{Material, Order, compute, finished};
use super::inputs::Survey;
use super::log::{abandon_cell, begin_cell, log_task, push_summary, summary_of};
use super::summary::Summary;
use super::{Study, StudyError, Unit, units};

/// How long to wait before asking again for a task that another process has.
const PATIENCE: Duration = Duration::from_millis(300);

/// What became of a study's tasks.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Tasks in all.
    pub tasks: usize,
    /// Finished before.
    pub before: usize,
    /// Finished now.
    pub computed: usize,
    /// Found finished on disk without a record, left by a crash.
    pub adopted: usize,
    /// Left to another process that works on them.
    pub elsewhere: usize,
    /// What went wrong, with no attempt left.
    pub failed: Vec<TaskFailure>,
    /// Whether there were so many failures that the rest was not tried.
    pub too_many_failures: bool,
    /// Runs that were logged now.
    pub logged: Vec<String>,
    /// Results that could not be logged, and why.
    pub unlogged: Vec<TaskFailure>,
    /// What the study says as a whole by now; nothing where only parts of it were worked on.
    pub summary: Option<Summary>,
}

impl Outcome {
    /// Tasks that are finished, now or before.
    pub fn finished(&self) -> usize {
        self.before + self.computed + self.adopted
    }

    /// Whether everything was done.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.unlogged.is_empty() && self.elsewhere == 0 && !self.too_many_failures
    }
}

/// A task and what went wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    /// The task.
    pub task: String,
    /// The error with its causes.
    pub error: String,
}

/// Runs everything that is missing, changed or failed.
///
/// # Errors
/// What concerns the whole study; what concerns one task is in the outcome.
pub async fn run(study: &Study, survey: &Survey) -> Result<Outcome, AppError> {
    survey.plan.check()?;
    study.session.device.check()?;
    let whole = |task| Unit { task, shard: None };
    let units: Vec<Unit> = survey.plan.tasks().into_iter().map(whole).collect();
    let mut outcome = work(study, survey, &units).await?;
    if outcome.failed.is_empty() && !outcome.too_many_failures {
        push_summary(study, survey, &mut outcome).await?;
    } else {
        outcome.summary = Some(summary_of(study, survey).await?);
    }
    Ok(outcome)
}

/// Runs every task of the plan and logs nothing; what was finished before counts.
pub(super) async fn run_unlogged(study: &Study, survey: &Survey) -> Result<Outcome, AppError> {
    survey.plan.check()?;
    let mut quiet = study.clone();
    quiet.spec.log.clear();
    let units: Vec<Unit> = survey.plan.tasks().into_iter().map(|task| Unit { task, shard: None }).collect();
    work(&quiet, survey, &units).await
}

/// Runs part `i` of N of the study's units, each task being split into as many shards as the study says. Needs no
/// network when everything was fetched before.
///
/// # Errors
/// As [`run`].
pub async fn shard(study: &Study, survey: &Survey, part: ShardId) -> Result<Outcome, AppError> {
    survey.plan.check()?;
    let all = units(&survey.plan, study.spec.shards);
    let bytes: Vec<u64> = all
        .iter()
        .map(|unit| {
            let material = Material::of(&survey.plan, &unit.task.id);
            let bytes = material.map_or(0, |m| m.inputs().iter().map(|(input, _)| input.found.bytes).sum::<u64>());
            bytes / u64::from(study.spec.shards)
        })
        .collect();
    // With one part a unit, as SLURM arrays have it, part i is unit i whatever the sizes.
    let range = if part.of as usize == all.len() {
        part.index as usize..part.index as usize + 1
    } else {
        crate::study::split(&bytes, part.of).into_iter().nth(part.index as usize).unwrap_or(0..0)
    };
    let no_such = || StudyError::NoSuchUnit { shard: part.to_string(), units: all.len() };
    let mine = all.get(range).ok_or_else(no_such)?;
    work(study, survey, mine).await
}

async fn work(study: &Study, survey: &Survey, units: &[Unit]) -> Result<Outcome, AppError> {
    let files = study.files();
    let mut ledger = files.ledger()?;
    ledger.begin_round();
    let tasks: Vec<Task> = units.iter().map(Unit::ledger_task).collect();
    let limits = Limits { attempts: study.spec.retries.saturating_add(1), max_failures: study.spec.max_failures };
    let mut outcome = Outcome { tasks: tasks.len(), ..Outcome::default() };
    outcome.before = ledger.todo(&tasks, limits).done;
    let mut elsewhere = vec![false; units.len()];
    // Logging what was finished before but not logged comes first: it costs no computing.
    for (unit, task) in units.iter().zip(&tasks) {
        if let Standing::Done { logged: None, .. } = ledger.standing(task) {
            log_unit(study, unit, None, &mut outcome).await?;
        }
    }
    loop {
        let todo = ledger.todo(&tasks, limits);
        let mut open = todo.next.iter().map(|(at, _)| *at).filter(|&at| !elsewhere.get(at).is_some_and(|busy| *busy));
        let Some((at, unit, task)) = open.next().and_then(|at| Some((at, units.get(at)?, tasks.get(at)?))) else {
            if elsewhere.contains(&true) && !todo.too_many_failures {
                // Another process has the rest. It may fail or be killed, so look again until everything is settled.
                tokio::time::sleep(PATIENCE).await;
                elsewhere.fill(false);
                continue;
            }
            outcome.too_many_failures = todo.too_many_failures;
            outcome.failed = todo.given_up.iter().filter_map(|&at| failure(&ledger, tasks.get(at)?)).collect();
            return Ok(outcome);
        };
        let mut claim = match files.claim(task, &study.worker) {
            Ok(claim) => claim,
            Err(AppError::Study(StudyError::Busy { .. })) => {
                if let Some(busy) = elsewhere.get_mut(at) {
                    *busy = true;
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut run = None;
        if let Standing::Done { .. } = claim.ledger.standing(task) {
            // Another process finished it since we read the ledger.
            outcome.before += 1;
        } else if let Some(result) = finished(study, unit) {
            claim.done(result, 0.0)?;
            outcome.adopted += 1;
        } else {
            claim.begin()?;
            let started = Instant::now();
            let (order, next) = (Order::of(unit, units), open.next().and_then(|at| units.get(at)));
            let next = next.map(|next| Order::of(next, units));
            let computed;
            (computed, run) = compute_in_run(study, survey, (order, next)).await?;
            match computed {
                Ok(result) => {
                    let seconds = started.elapsed().as_secs_f64();
                    claim.done(result, seconds)?;
                    outcome.computed += 1;
                    let (done, all) = (outcome.finished(), outcome.tasks);
                    study.session.progress.note(&format!("{} is done in {seconds:.1} s: {done} of {all}", task.id));
                }
                Err(error) => {
                    let error = explain(&error);
                    study.session.progress.note(&format!("{} failed: {error}", task.id));
                    claim.failed(error)?;
                }
            }
        }
        let standing = claim.ledger.standing(task);
        if let Some(state) = claim.ledger.state(&task.id) {
            ledger.absorb(&task.id, state.clone());
        }
        drop(claim);
        if let Standing::Done { logged: None, .. } = standing {
            log_unit(study, unit, run, &mut outcome).await?;
        }
    }
}

/// What came of a unit, and the run that was begun for it and is to be logged to.
type Computed = (Result<String, AppError>, Option<Run>);

/// Computes a unit and fetches what the next one needs, within the run of the unit where it has one. The error is that
/// somebody wants the study to stop.
async fn compute_in_run(
    study: &Study,
    survey: &Survey,
    (order, next): (Order<'_>, Option<Order<'_>>),
) -> Result<Computed, AppError> {
    let unit = order.unit;
    let ahead = async {
        if let Some(next) = next {
            next.fetch_ahead(study, survey).await;
        }
    };
    let work = async { tokio::join!(compute(study, survey, order), ahead).0 };
    let Some(run) = begin_cell(study, survey, unit).await else { return Ok((work.await, None)) };
    match run.unless_stopped(work).await {
        Ok(Ok(result)) => Ok((Ok(result), Some(run))),
        Ok(Err(error)) => Ok((Err(abandon_cell(study, unit, (run, error)).await), None)),
        Err(stopped) => {
            let stopped = AppError::wandb(format!("finish {}", unit.task.id))(stopped);
            Err(abandon_cell(study, unit, (run, stopped)).await)
        }
    }
}

fn failure(ledger: &Ledger, task: &Task) -> Option<TaskFailure> {
    match ledger.standing(task) {
        Standing::Failed { error } => Some(TaskFailure { task: task.id.clone(), error }),
        Standing::Interrupted { worker } => {
            Some(TaskFailure { task: task.id.clone(), error: format!("interrupted on {worker}") })
        }
        _ => None,
    }
}

/// Logs a cell. What went wrong with it is in the outcome; the error is that somebody wants the study to stop.
async fn log_unit(study: &Study, unit: &Unit, begun: Option<Run>, outcome: &mut Outcome) -> Result<(), AppError> {
    let is_cell = unit.shard.is_none() && unit.task.id.contains('@');
    if !is_cell || !study.spec.log.contains(&Log::Cells) {
        return Ok(());
    }
    match log_task(study, &unit.task, begun).await {
        Ok(run) => outcome.logged.push(run),
        Err(error) if error.kind() == FailureKind::Stopped => return Err(error),
        Err(error) => {
            let error = explain(&error);
            study.session.progress.note(&format!("{} could not be logged: {error}", unit.task.id));
            outcome.unlogged.push(TaskFailure { task: unit.task.id.clone(), error });
        }
    }
    Ok(())
}

/// An error with its causes, on one line.
pub(in crate::app) fn explain(error: &AppError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
