//! One cell of a sweep as a W&B run that is there while the cell is computed, so that the sweep shows what is going on and
//! what went wrong. The cell is the study's like any other: finished before, it is only logged.

use std::future::Future;
use std::pin::pin;

use serde_json::json;

use crate::app::begin_run::{PROGRAM, Subject, abandon, begin};
use crate::app::log_fit::{LogOptions, object};
use crate::app::{AppError, FailureKind};
use crate::study::{Log, Task};
use crate::wandb::Run;

use super::inputs::survey;
use super::log::log_for_sweep;
use super::run::{Outcome, run_unlogged};
use super::{Study, StudyError, SweepRun};

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
    /// It could not be computed or logged.
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
    let (options, subject) = described(study, sweep).await?;
    let run = begin(&study.session, &options, &subject).await?;
    let path = run.path();
    let mut stop = pin!(stop);
    let computed = tokio::select! {
        computed = run.unless_stopped(compute(study)) => computed.ok(),
        () = &mut stop => None,
    };
    let end = match computed {
        Some(Ok((mut outcome, task))) => {
            let mut logging = pin!(log_for_sweep(study, &task, (run, &options)));
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
        Some(Err(error)) => CellEnd::Failed(abandon(run, error, &options).await),
        None => {
            if let Err(error) = run.finish(Run::STOPPED).await {
                tracing::warn!("run {path} could not be marked stopped: {error}");
            }
            CellEnd::Stopped
        }
    };
    Ok(CellRun { run: path, end })
}

async fn compute(study: &Study) -> Result<(Outcome, Task), AppError> {
    let survey = survey(study).await?;
    let outcome = run_unlogged(study, &survey).await?;
    if let Some(failure) = outcome.failed.first() {
        return Err(StudyError::Cell { task: failure.task.clone(), reason: failure.error.clone() }.into());
    }
    let task = survey.plan.tasks().into_iter().next().ok_or(AppError::Worker { what: "the study" })?;
    Ok((outcome, task))
}

/// How the cell's run is logged, and what is known of it before there is a fit.
async fn described(study: &Study, sweep: &SweepRun) -> Result<(LogOptions, Subject), AppError> {
    let (spec, session) = (&study.spec, &study.session);
    let entity = sweep.entity.as_deref().or(spec.entity.as_deref());
    let name = |list: &[String]| list.first().cloned().unwrap_or_default();
    let (model, dataset) = (name(&spec.models), name(&spec.datasets));
    let options = LogOptions {
        entity: session.entity_or_own(entity).await?,
        project: sweep.project.clone().or_else(|| spec.project.clone()).or_else(|| session.project.clone()),
        group: Some(spec.name.clone()),
        name: Some(format!("{model} {dataset}")),
        id: sweep.run.clone(),
        sweep: sweep.sweep.clone(),
        config: sweep.parameters.clone(),
        without_artifact: !spec.log.contains(&Log::Artifacts),
        ..LogOptions::default()
    };
    let subject = Subject {
        job: "pca",
        name: format!("{model} {dataset}"),
        home: (None, None),
        config: object(json!({ "model": model, "dataset": dataset, "seeds": spec.seeds, "program": PROGRAM })),
    };
    Ok((options, subject))
}
