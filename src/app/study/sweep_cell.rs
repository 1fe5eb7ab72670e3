//! One cell of a sweep as a W&B run that is there while the cell is computed, so that the sweep shows what is going on and
//! what went wrong. The cell is the study's like any other: finished before, it is only logged.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use serde_json::json;

use crate::app::fit::PROGRAM;
use crate::app::log_fit::{FAILED, LogOptions, Origin, STOPPED, abandon, begin, object};
use crate::app::{AppError, FailureKind};
use crate::study::Task;
use crate::wandb::{ConsoleStream, Run};

use super::inputs::survey;
use super::log::{log_task_to, own_options};
use super::run::{Outcome, explain, run_unlogged};
use super::{Study, SweepRun};

/// How often the run is asked whether somebody wants it stopped.
const GLANCE: Duration = Duration::from_millis(500);

/// What became of a cell and of its run.
#[derive(Debug)]
#[non_exhaustive]
pub struct CellRun {
    /// `entity/project/id`.
    pub run: String,
    /// How it ended.
    pub end: CellEnd,
}

/// How a cell ended.
#[derive(Debug)]
pub enum CellEnd {
    /// Computed, or found finished, and logged.
    Finished(Outcome),
    /// Something of it went wrong; what is in the outcome.
    Incomplete(Outcome),
    /// It could not be worked on.
    Failed(AppError),
    /// Somebody wanted it to stop.
    Stopped,
}

/// Runs the one cell that a sweep assigned, until `stop` is done, and logs it to the run that the sweep counts. `study` is
/// the study of that cell alone.
///
/// # Errors
/// [`AppError`] when the run cannot be begun; what goes wrong after that is how the cell ended.
pub async fn run_sweep_cell(
    study: &Study,
    sweep: &SweepRun,
    stop: impl Future<Output = ()>,
) -> Result<CellRun, AppError> {
    let run = begin_run(study, sweep).await?;
    let path = run.path();
    let mut stop = pin!(stop);
    let computed = tokio::select! {
        computed = compute(study) => computed,
        () = &mut stop => Ok(Computed::Stopped),
        () = told_to_stop(&run) => Ok(Computed::Stopped),
    };
    let end = match computed {
        Ok(Computed::All(mut outcome, task)) => {
            let mut logging = pin!(log_task_to(study, &task, (run, sweep)));
            let logged = tokio::select! {
                logged = &mut logging => logged,
                // It is finished: stopping would only lose it.
                () = &mut stop => logging.await,
            };
            match logged {
                Ok(run) => {
                    outcome.logged.push(run);
                    CellEnd::Finished(outcome)
                }
                Err(error) if error.kind() == FailureKind::Stopped => CellEnd::Stopped,
                Err(error) => CellEnd::Failed(error),
            }
        }
        Ok(Computed::Some(outcome)) => {
            let lines = outcome.failed.iter().map(|failure| format!("{}: {}", failure.task, failure.error));
            fail(run, lines).await;
            CellEnd::Incomplete(outcome)
        }
        Ok(Computed::Stopped) => {
            abandon(run, STOPPED).await;
            CellEnd::Stopped
        }
        Err(error) => {
            fail(run, [explain(&error)]).await;
            CellEnd::Failed(error)
        }
    };
    Ok(CellRun { run: path, end })
}

enum Computed {
    All(Outcome, Task),
    Some(Outcome),
    Stopped,
}

async fn compute(study: &Study) -> Result<Computed, AppError> {
    let survey = survey(study).await?;
    let outcome = run_unlogged(study, &survey).await?;
    Ok(match survey.plan.tasks().into_iter().next() {
        Some(task) if outcome.is_complete() => Computed::All(outcome, task),
        _ => Computed::Some(outcome),
    })
}

async fn begin_run(study: &Study, sweep: &SweepRun) -> Result<Run, AppError> {
    let (spec, session) = (&study.spec, &study.session);
    let entity = sweep.entity.clone().or_else(|| spec.entity.clone());
    let project = sweep.project.clone().or_else(|| spec.project.clone()).or_else(|| session.project.clone());
    let name = |list: &[String]| list.first().cloned().unwrap_or_default();
    let (model, dataset) = (name(&spec.models), name(&spec.datasets));
    let origin = Origin {
        entity: session.entity_or_own(entity.as_deref()).await?,
        project: project.unwrap_or_else(|| "uncategorized".to_owned()),
        name: format!("{model} {dataset}"),
        program: PROGRAM.to_owned(),
        config: object(json!({ "model": model, "dataset": dataset, "seeds": spec.seeds })),
    };
    let options = LogOptions {
        id: sweep.run.clone(),
        sweep: sweep.sweep.clone(),
        config: sweep.parameters.clone(),
        ..own_options(study)
    };
    begin(session, origin, (&options, "pca")).await
}

/// Done when somebody asked W&B to stop the run.
async fn told_to_stop(run: &Run) {
    while !run.stop_requested() {
        tokio::time::sleep(GLANCE).await;
    }
}

/// Ends the run as failed, with the reason in its log.
async fn fail(run: Run, lines: impl IntoIterator<Item = String>) {
    for line in lines {
        if let Err(error) = run.console(ConsoleStream::Error, &line) {
            tracing::warn!("run {}: {error}", run.path());
        }
    }
    abandon(run, FAILED).await;
}
