//! Runs a study as a SLURM job array: submits, follows, submits again what ended without a result, and reduces. Runs the
//! programs of SLURM; what is finished is the ledger's to say, never SLURM's.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::app::AppError;
use crate::app::blocking::run_blocking;
use crate::store::write_durable;
use crate::study::Standing;
use crate::study::slurm::{
    ArrayJob, FollowUp, SACCT, SBATCH, SCONTROL, SQUEUE, States, Submitted, follow_up, parse_sacct, parse_scontrol,
    parse_squeue, parse_submitted, script,
};

use super::inputs::{Survey, prefetch};
use super::log::summary_of;
use super::reduce::reduce;
use super::run::{Outcome, TaskFailure};
use super::{Study, StudyError, units};

/// How to run on a cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// This program, as compute nodes find it, and its arguments up to `i/N`.
    pub command: Vec<String>,
    /// How long to wait between questions.
    pub poll: Duration,
}

/// One array task as the submitter sees it.
#[derive(Debug, Clone, Copy, Default)]
struct Attempt {
    job: u64,
    submissions: u32,
}

/// Fetches, submits, follows to the end, and reduces.
///
/// # Errors
/// What concerns the whole study; what ended without a result is in the outcome.
pub async fn submit_and_follow(study: &Study, survey: &Survey, options: &ClusterOptions) -> Result<Outcome, AppError> {
    survey.plan.check()?;
    prefetch(study, survey).await?;
    let tasks: Vec<_> = units(&survey.plan, study.spec.shards).iter().map(super::Unit::ledger_task).collect();
    let mut attempts: BTreeMap<u32, Attempt> = BTreeMap::new();
    let mut states = States::new();
    let given_up = loop {
        let ledger = study.files().ledger()?;
        let done = |at: usize| tasks.get(at).is_some_and(|task| matches!(ledger.standing(task), Standing::Done { .. }));
        let known = |at: usize| attempts.get(&(at as u32)).copied().unwrap_or_default();
        let submitted: Vec<Submitted> = (0..tasks.len())
            .map(|at| Submitted { task: at as u32, done: done(at), submissions: known(at).submissions })
            .collect();
        let FollowUp { waiting, resubmit, given_up } =
            follow_up(&submitted, &states, study.spec.retries.saturating_add(1));
        if !resubmit.is_empty() {
            let job = submit(study, options, &resubmit, tasks.len()).await?;
            study.session.progress.note(&format!("submitted {} array tasks as job {job}", resubmit.len()));
            for task in resubmit {
                let attempt = attempts.entry(task).or_default();
                *attempt = Attempt { job, submissions: attempt.submissions + 1 };
            }
        } else if waiting.is_empty() {
            break given_up;
        }
        tokio::time::sleep(options.poll).await;
        states = ask(&attempts).await?;
    };
    let mut outcome = reduce(study, survey)?;
    let ledger = study.files().ledger()?;
    outcome.failed = given_up
        .iter()
        .filter_map(|&at| {
            let task = tasks.get(at as usize)?;
            let error = match ledger.standing(task) {
                Standing::Failed { error } => error,
                _ => "ended without a result; see the logs in slurm/".to_owned(),
            };
            Some(TaskFailure { task: task.id.clone(), error })
        })
        .collect();
    outcome.summary = Some(summary_of(study, survey).await?);
    Ok(outcome)
}

async fn submit(study: &Study, options: &ClusterOptions, tasks: &[u32], total: usize) -> Result<u64, AppError> {
    let folder = study.files().path("slurm");
    fs::create_dir_all(&folder).map_err(AppError::file("create", &folder))?;
    let folder = std::path::absolute(&folder).map_err(AppError::file("find", &folder))?;
    let cache = study.session.store.root().parent().map(PathBuf::from).unwrap_or_default();
    let cache = std::path::absolute(&cache).map_err(AppError::file("find", &cache))?;
    let (logs, cache) = (folder.display().to_string(), cache.display().to_string());
    let text = script(
        &study.spec.slurm.clone().unwrap_or_default(),
        ArrayJob {
            name: &study.spec.name,
            command: &options.command,
            tasks,
            total: total as u32,
            logs: &logs,
            environment: &[("WANDB_MODE", "offline"), ("WANDB_CACHE_DIR", &cache)],
        },
    );
    let path = folder.join("array.sh");
    write_durable(&path, text.as_bytes()).map_err(AppError::file("write", &path))?;
    let mut arguments: Vec<String> = SBATCH.iter().map(|&option| option.to_owned()).collect();
    arguments.push(path.display().to_string());
    let answer = call("sbatch", arguments).await?;
    Ok(parse_submitted(&answer).map_err(StudyError::from)?)
}

/// Where every array task is, by the job it was last submitted with.
async fn ask(attempts: &BTreeMap<u32, Attempt>) -> Result<States, AppError> {
    let mut jobs: Vec<u64> = attempts.values().map(|attempt| attempt.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let mut states = States::new();
    for job in jobs {
        let of_job = ask_job(job).await?;
        let latest = |task: &u32| attempts.get(task).is_some_and(|attempt| attempt.job == job);
        states.extend(of_job.into_iter().filter(|(task, _)| latest(task)));
    }
    Ok(states)
}

/// The queue knows what waits and runs; accounting, or else the controller, knows what ended a while ago. A job that
/// none of them knows is over.
async fn ask_job(job: u64) -> Result<States, AppError> {
    let with = |options: &[&str]| -> Vec<String> {
        options.iter().map(|&option| option.to_owned()).chain([job.to_string()]).collect()
    };
    let mut states = States::new();
    if let Ok(answer) = call("sacct", with(&SACCT)).await {
        states.extend(parse_sacct(&answer).map_err(StudyError::from)?);
    } else if let Ok(answer) = call("scontrol", with(&SCONTROL)).await {
        states.extend(parse_scontrol(&answer).map_err(StudyError::from)?);
    }
    match call("squeue", with(&SQUEUE)).await {
        Ok(answer) => states.extend(parse_squeue(&answer).map_err(StudyError::from)?),
        Err(AppError::Study(StudyError::Slurm { reason, .. })) if reason.contains("Invalid job id") => {}
        Err(error) => return Err(error),
    }
    Ok(states)
}

async fn call(program: &'static str, arguments: Vec<String>) -> Result<String, AppError> {
    run_blocking("SLURM", move || {
        let fail = |reason: String| StudyError::Slurm { program: program.to_owned(), reason };
        let output = Command::new(program).args(arguments.iter().map(OsStr::new)).output();
        let output = output.map_err(|error| fail(error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(fail(if said.is_empty() { output.status.to_string() } else { said }).into())
    })
    .await
}
