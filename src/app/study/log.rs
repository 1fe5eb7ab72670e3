//! A study's results as W&B runs: one a cell in the study's group, and one summary. Run ids follow from the study, the
//! task and its inputs, so that logging the same result again goes to the same run.

use std::path::Path;

use serde_json::json;

use crate::app::AppError;
use crate::app::alert::{Alert, send};
use crate::app::begin_run::{PROGRAM, Subject, abandon, begin};
use crate::app::blocking::run_blocking;
use crate::app::fit_folder::Fit;
use crate::app::log_fit::{LogOptions, Logged, finish, log_fit, log_into, object};
use crate::digest::Sha256;
use crate::study::{Log, Standing, Task, run_id};
use crate::wandb::{Run, RunOptions};

use super::inputs::Survey;
use super::run::{Outcome, TaskFailure, explain};
use super::summary::{Summary, summarise};
use super::summary_results::SummaryResults;
use super::{Study, StudyError, Unit};

/// Name of the summary in the ledger.
const SUMMARY: &str = "summary";

/// The run of a cell begun before its fit is made, where cells are logged and there is a server to show it. One that cannot
/// be begun is no reason not to compute: logging the result will meet the same.
pub(super) async fn begin_cell(study: &Study, survey: &Survey, unit: &Unit) -> Option<Run> {
    let cell = survey.plan.cell(&unit.task.id).filter(|_| unit.shard.is_none())?;
    if study.session.client.is_none() || !study.spec.log.contains(&Log::Cells) {
        return None;
    }
    let subject = Subject {
        job: "pca",
        name: unit.task.id.clone(),
        home: (None, None),
        config: object(json!({
            "model": cell.model,
            "dataset": cell.dataset,
            "seeds": cell.seeds,
            "pretrained": cell.pretrained.reference,
            "finetuned": cell.finetuned.iter().map(|input| &input.reference).collect::<Vec<_>>(),
            "program": PROGRAM,
        })),
    };
    let begun = begin(&study.session, &cell_options(study, &unit.task), &subject).await;
    begun.map_err(|error| tracing::debug!("{} has no run yet: {}", unit.task.id, explain(&error))).ok()
}

/// Ends the run of a cell whose fit could not be made.
pub(super) async fn abandon_cell(study: &Study, unit: &Unit, (run, error): (Run, AppError)) -> AppError {
    abandon(run, error, &cell_options(study, &unit.task)).await
}

fn cell_options(study: &Study, task: &Task) -> LogOptions {
    LogOptions {
        entity: study.spec.entity.clone().or_else(|| study.session.entity.clone()),
        project: study.spec.project.clone().or_else(|| study.session.project.clone()),
        group: Some(study.spec.name.clone()),
        name: Some(task.id.replace('@', " ")),
        id: Some(run_id(&study.spec.name, task)),
        without_artifact: !study.spec.log.contains(&Log::Artifacts),
        ..LogOptions::default()
    }
}

/// Logs the finished fit of a cell, into the run that was begun for it where there is one, and returns its run.
pub(super) async fn log_task(study: &Study, task: &Task, begun: Option<Run>) -> Result<String, AppError> {
    let mut claim = study.files().claim(task, &study.worker)?;
    let folder = study.files().fit(&task.id);
    let fit = read(&folder).await?;
    let options = cell_options(study, task);
    let logged = match begun {
        Some(run) => log_into(&study.session, run, (&fit, &folder), &options).await?,
        None => log_fit(&study.session, (&fit, &folder), &options).await?,
    };
    tell(study, &logged);
    claim.logged(logged.path.clone())?;
    Ok(logged.path)
}

/// Logs the finished fit of a cell into the run that a sweep counts, and ends the run.
pub(super) async fn log_for_sweep(
    study: &Study,
    task: &Task,
    (run, options): (Run, &LogOptions),
) -> Result<String, AppError> {
    let folder = study.files().fit(&task.id);
    let fit = match read(&folder).await {
        Ok(fit) => fit,
        Err(error) => return Err(abandon(run, error, options).await),
    };
    let logged = log_into(&study.session, run, (&fit, &folder), options).await?;
    tell(study, &logged);
    match study.files().claim(task, &study.worker) {
        // Whoever has it logs it to a run of its own, and records that one.
        Err(AppError::Study(StudyError::Busy { .. })) => {}
        claim => claim?.logged(logged.path.clone())?,
    }
    Ok(logged.path)
}

async fn read(folder: &Path) -> Result<Fit, AppError> {
    let folder = folder.to_owned();
    run_blocking("the study", move || Fit::read(&folder)).await
}

/// Logs everything that is finished and not logged yet: the step after compute nodes without network.
///
/// # Errors
/// What concerns the whole study; what could not be logged is in the outcome.
pub async fn push(study: &Study, survey: &Survey) -> Result<Outcome, AppError> {
    let tasks = survey.plan.tasks();
    let mut outcome = Outcome { tasks: tasks.len(), ..Outcome::default() };
    let ledger = study.files().ledger()?;
    for task in tasks.iter().filter(|task| survey.plan.cell(&task.id).is_some()) {
        let Standing::Done { logged, .. } = ledger.standing(task) else { continue };
        outcome.before += 1;
        if logged.is_none() && study.spec.log.contains(&Log::Cells) {
            match log_task(study, task, None).await {
                Ok(run) => outcome.logged.push(run),
                Err(error) => outcome.unlogged.push(TaskFailure { task: task.id.clone(), error: explain(&error) }),
            }
        }
    }
    push_summary(study, survey, &mut outcome).await?;
    Ok(outcome)
}

/// What is finished, gathered and written.
pub(super) async fn summary_of(study: &Study, survey: &Survey) -> Result<Summary, AppError> {
    let (study, survey) = (study.clone(), survey.clone());
    run_blocking("the summary", move || summarise(&study, &survey)).await
}

/// Writes the summary, and logs it once for each state of the results.
pub(super) async fn push_summary(study: &Study, survey: &Survey, outcome: &mut Outcome) -> Result<(), AppError> {
    let summary = outcome.summary.insert(summary_of(study, survey).await?);
    if !study.spec.log.contains(&Log::Summary) || summary.cells.rows().is_empty() {
        return Ok(());
    }
    let inputs = survey.plan.tasks().iter().map(|task| format!("{} {}\n", task.id, task.inputs)).collect::<String>();
    let task = Task { id: SUMMARY.to_owned(), inputs: Sha256::of(inputs.as_bytes()).to_string() };
    let mut claim = match study.files().claim(&task, &study.worker) {
        // Another process is at it.
        Err(AppError::Study(StudyError::Busy { .. })) => return Ok(()),
        claim => claim?,
    };
    let result = summary.digest.clone();
    let known = claim.ledger.standing(&task);
    if matches!(known, Standing::Done { result: before, logged: Some(_) } if before == result) {
        return Ok(());
    }
    claim.done(result, 0.0)?;
    match log_summary(study, summary, &task).await {
        Ok(run) => {
            claim.logged(run.clone())?;
            outcome.logged.push(run);
        }
        Err(error) => outcome.unlogged.push(TaskFailure { task: task.id, error: explain(&error) }),
    }
    Ok(())
}

/// Says where a run is that is on no server yet. It counts as logged: its folder has everything.
fn tell(study: &Study, logged: &Logged) {
    let Some(unsent) = &logged.unsent else { return };
    let why = unsent.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let folder = unsent.folder.display();
    study.session.progress.note(&format!("{} is in {folder}{why}; `wandb-pca sync` sends it", logged.path));
}

/// The options of the study's own run of this id.
async fn own_run(study: &Study, id: String) -> Result<RunOptions, AppError> {
    let project = study.spec.project.clone().or_else(|| study.session.project.clone());
    let project = project.unwrap_or_else(|| "uncategorized".to_owned());
    let entity = study.session.entity_or_own(study.spec.entity.as_deref()).await?;
    Ok(RunOptions::new(project)
        .with_entity(entity)
        .with_id(Some(id))
        .with_display_name(Some(format!("{} summary", study.spec.name)))
        .with_group(Some(study.spec.name.clone()))
        .with_job_type(Some("study".to_owned())))
}

/// Tells people how a study ended, through its summary's run where that was logged, else through one made for it.
///
/// # Errors
/// [`AppError::Wandb`].
pub async fn announce(study: &Study, alert: &Alert) -> Result<(), AppError> {
    let ledger = study.files().ledger()?;
    let known = ledger.state(SUMMARY).and_then(|state| state.logged.as_deref());
    let id = known.and_then(|path| path.rsplit('/').next()).map(str::to_owned);
    let id = id.unwrap_or_else(|| run_id(&study.spec.name, &Task { id: SUMMARY.to_owned(), inputs: String::new() }));
    send(&study.session, own_run(study, id).await?, alert).await
}

async fn log_summary(study: &Study, summary: &Summary, task: &Task) -> Result<String, AppError> {
    let config = object(json!({
        "study": study.spec.name,
        "models": study.spec.models,
        "datasets": study.spec.datasets,
        "seeds": study.spec.seeds,
    }));
    let results = SummaryResults::of(summary)?;
    let options = own_run(study, run_id(&study.spec.name, task)).await?.with_config(config);
    let project = options.project.clone();
    let run = study.session.start_run(options).await;
    let run = run.map_err(AppError::wandb(format!("start a run in project {project}")))?;
    let work = async {
        run.log(results.store(&run).await?).await?;
        run.set_summary(summary.aggregates.clone()).await?;
        Ok(Vec::new())
    };
    let outcome = work.await;
    let logged = finish(&study.session, run, outcome).await?;
    tell(study, &logged);
    Ok(logged.path)
}
