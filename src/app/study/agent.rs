//! An agent of a sweep over a study: asks the server for cells and runs one after another in this process. While a cell
//! runs, heartbeats go on every few seconds, and what they bring back is obeyed: a run to stop, the end of the sweep.
//!
//! The server hands every cell to one agent, so any number of them, on any machines, split a sweep.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::app::AppError;
use crate::study::sweep::Assignment;
use crate::wandb::{AgentCommand, Client, Sweep, SweepAgent, SweepName, SweepPath};

use super::run::explain;
use super::sweep::find;
use super::sweep_cell::{CellEnd, run_sweep_cell};
use super::{Study, StudyError, SweepRun};

/// An agent that sees so many cells fail one after another leaves: the reason is likely here and not with the cells, and
/// every cell it takes is lost to the others.
const MOST_IN_A_ROW: usize = 5;

/// How to take part in a sweep.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Which.
    pub sweep: SweepName,
    /// What the server calls this machine.
    pub host: String,
    /// Between two heartbeats; the official agent's are 5 seconds apart.
    pub heartbeat: Duration,
    /// Leave after so many cells.
    pub count: Option<usize>,
    /// First do again what failed in this sweep and nobody finished since.
    pub retry_failed: bool,
}

/// When this agent is to leave before the sweep is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leave {
    /// Nobody said so.
    #[default]
    No,
    /// After the cell under way.
    AfterThis,
    /// Now: the cell under way is given up.
    Now,
}

/// Why an agent left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentEnd {
    /// The sweep is over: the server said so.
    Over,
    /// It did as many cells as it was to do.
    Count,
    /// Too many cells failed.
    TooManyFailures,
    /// It was told to leave.
    Left,
    /// The sweep was deleted.
    Deleted,
}

/// A cell that an agent took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentCell {
    /// `model@dataset`.
    pub cell: String,
    /// Its run: `entity/project/id`.
    pub run: String,
    /// `finished`, `failed` or `stopped`.
    pub state: &'static str,
    /// What went wrong.
    pub error: Option<String>,
}

/// What an agent did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AgentOutcome {
    /// The sweep.
    pub sweep: SweepPath,
    /// The cells that it took, in order.
    pub cells: Vec<AgentCell>,
    /// Why it left.
    pub end: AgentEnd,
}

/// A run that the server handed out, with its parameters.
#[derive(Debug, Clone)]
struct Job {
    run: String,
    parameters: Vec<(String, Value)>,
}

struct Agent<'s> {
    study: &'s Study,
    client: &'s Client,
    options: &'s AgentOptions,
    sweep: SweepPath,
    known: SweepAgent,
    /// Runs that were handed out and not begun.
    waiting: VecDeque<Job>,
    leave: watch::Receiver<Leave>,
    cells: Vec<AgentCell>,
}

/// Takes part in a sweep until it is over, or `leave` says otherwise.
///
/// # Errors
/// What concerns the sweep as a whole. What went wrong with one cell is in the outcome, and in the cell's run.
pub async fn agent(
    study: &Study,
    options: &AgentOptions,
    leave: watch::Receiver<Leave>,
) -> Result<AgentOutcome, AppError> {
    let client = study.session.online("a sweep")?;
    let sweep = find(study, &options.sweep).await?;
    let varied = study.spec.varied_by(&sweep.config).map_err(StudyError::from)?;
    let known = client.register_agent(&sweep.path, &options.host).await;
    let known = known.map_err(AppError::wandb(format!("join sweep {}", sweep.path)))?;
    study.session.progress.note(&format!("agent of sweep {}", sweep.path));
    let path = sweep.path.clone();
    let (waiting, cells) = (VecDeque::new(), Vec::new());
    let mut agent = Agent { study, client, options, sweep: path, known, waiting, leave, cells };
    let mut end = None;
    if options.retry_failed {
        end = agent.retry(&sweep, &varied).await?;
    }
    let end = match end {
        Some(end) => end,
        None => agent.serve().await?,
    };
    Ok(AgentOutcome { sweep: agent.sweep, cells: agent.cells, end })
}

impl Agent<'_> {
    /// Does what the server says until there is a reason to leave.
    async fn serve(&mut self) -> Result<AgentEnd, AppError> {
        loop {
            if let Some(end) = self.enough() {
                return Ok(end);
            }
            let end = match self.waiting.pop_front() {
                Some(job) => self.take(job).await?,
                None => self.ask().await?,
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// One heartbeat without a run going; waits when it brings nothing.
    async fn ask(&mut self) -> Result<Option<AgentEnd>, AppError> {
        let mut leave = self.leave.clone();
        let asked = tokio::select! {
            asked = self.client.heartbeat(&self.known, &[]) => asked,
            _ = leave.wait_for(|leave| *leave != Leave::No) => return Ok(None),
        };
        match asked {
            Ok(commands) if commands.is_empty() => self.wait().await,
            Ok(commands) => {
                if self.obey(commands, "").is_some() {
                    return Ok(Some(AgentEnd::Over));
                }
            }
            Err(error) if error.is_not_found() => return Ok(Some(AgentEnd::Deleted)),
            // As the official agent: the next heartbeat may get through.
            Err(error) if error.is_network() => {
                self.study.session.progress.note(&error.to_string());
                self.wait().await;
            }
            Err(error) => return Err(AppError::wandb(format!("ask sweep {} for cells", self.sweep))(error)),
        }
        Ok(None)
    }

    async fn wait(&self) {
        let mut leave = self.leave.clone();
        tokio::select! {
            () = tokio::time::sleep(self.options.heartbeat) => {}
            _ = leave.wait_for(|leave| *leave != Leave::No) => {}
        }
    }

    /// Notes what is to run; what the commands mean for the run under way.
    fn obey(&mut self, commands: Vec<AgentCommand>, going: &str) -> Option<Told> {
        let mut told = None;
        for command in commands {
            match command {
                AgentCommand::Run { run, .. } if run == going || self.waiting.iter().any(|job| job.run == run) => {}
                AgentCommand::Run { run, parameters } => self.waiting.push_back(Job { run, parameters }),
                AgentCommand::Stop { run } if run == going => told = told.or(Some(Told::Stop)),
                AgentCommand::Stop { run } => self.waiting.retain(|job| job.run != run),
                AgentCommand::Exit => told = Some(Told::Exit),
                AgentCommand::Unknown { kind } => tracing::warn!("the sweep says `{kind}`, which is not known here"),
            }
        }
        told
    }

    /// Why to leave before asking for more.
    fn enough(&self) -> Option<AgentEnd> {
        let failed = |cell: &&AgentCell| cell.state == "failed";
        let in_a_row = self.cells.iter().rev().take_while(failed).count();
        let failures = self.cells.iter().filter(failed).count();
        let most = self.study.spec.max_failures.map_or(usize::MAX, |most| most as usize);
        if *self.leave.borrow() != Leave::No {
            Some(AgentEnd::Left)
        } else if self.options.count.is_some_and(|count| self.cells.len() >= count) {
            Some(AgentEnd::Count)
        } else if failures >= most || (most == usize::MAX && in_a_row >= MOST_IN_A_ROW) {
            Some(AgentEnd::TooManyFailures)
        } else {
            None
        }
    }

    /// Runs one cell with heartbeats around it.
    async fn take(&mut self, job: Job) -> Result<Option<AgentEnd>, AppError> {
        let assignment = Assignment::from_values(job.parameters).map_err(StudyError::from)?;
        let mut study = self.study.clone();
        study.spec = study.spec.assigned(&assignment).map_err(StudyError::from)?;
        let parameters = assignment.parameters().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let sweep = SweepRun {
            entity: Some(self.sweep.entity.clone()),
            project: Some(self.sweep.project.clone()),
            sweep: Some(self.sweep.id.clone()),
            run: Some(job.run.clone()),
            parameters,
        };
        let cell = format!("{}@{}", assignment.model, assignment.dataset);
        study.session.progress.note(&format!("{cell} is run {}", job.run));
        let mut told = None;
        let ended = run_sweep_cell(&study, &sweep, async { told = Some(self.attend(&job.run).await) }).await?;
        let (state, error) = match &ended.end {
            CellEnd::Finished(_) => ("finished", None),
            CellEnd::Stopped => ("stopped", None),
            CellEnd::Failed(error) => ("failed", Some(explain(error))),
        };
        let why = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        study.session.progress.note(&format!("{cell} {state}{why}"));
        self.cells.push(AgentCell { cell, run: ended.run, state, error });
        Ok(match told {
            Some(Told::Exit) => Some(AgentEnd::Over),
            Some(Told::Leave) => Some(AgentEnd::Left),
            Some(Told::Stop) | None => None,
        })
    }

    /// Sends heartbeats while a run is going, until it is to be stopped.
    async fn attend(&mut self, run: &str) -> Told {
        let mut leave = self.leave.clone();
        let mut deleted = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.options.heartbeat) => {}
                // The sender lives as long as the command does; without it nobody says anything any more.
                Ok(_) = leave.wait_for(|leave| *leave == Leave::Now) => return Told::Leave,
            }
            if deleted {
                continue;
            }
            let waiting: Vec<String> = self.waiting.iter().map(|job| job.run.clone()).collect();
            let going: Vec<&str> = waiting.iter().map(String::as_str).chain([run]).collect();
            match self.client.heartbeat(&self.known, &going).await {
                Ok(commands) => {
                    if let Some(told) = self.obey(commands, run) {
                        return told;
                    }
                }
                // As the official agent: what is going may end.
                Err(error) if error.is_not_found() => deleted = true,
                Err(error) => self.study.session.progress.note(&error.to_string()),
            }
        }
    }

    /// Does again, under the same runs, what failed and nobody finished since.
    async fn retry(&mut self, sweep: &Sweep, varied: &[String]) -> Result<Option<AgentEnd>, AppError> {
        for job in failed(sweep, varied) {
            if let Some(end) = self.enough() {
                return Ok(Some(end));
            }
            if !self.claim(&job, varied).await? {
                continue;
            }
            if let Some(end) = self.take(job).await? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// Whether this agent is the one to do a failed run again. The server hands out new cells, each to one agent; a failed run
    /// it hands to nobody. So every agent that wants it writes its name into the run, waits a heartbeat, and goes on if its name
    /// still stands there and nobody began: the last one that wrote does. Two could only go on if one took longer than a
    /// heartbeat from looking to writing, or to begin.
    async fn claim(&self, job: &Job, varied: &[String]) -> Result<bool, AppError> {
        let open = |sweep: &Sweep| failed(sweep, varied).iter().any(|still| still.run == job.run);
        let of_job = |sweep: &Sweep| sweep.runs.iter().find(|run| run.id == job.run).cloned();
        let sweep = find(self.study, &self.options.sweep).await?;
        // Another agent may have done it meanwhile.
        let Some(run) = of_job(&sweep).filter(|_| open(&sweep)) else { return Ok(false) };
        let claimed = self.client.claim_retry(&self.known, &run).await;
        claimed.map_err(AppError::wandb(format!("claim run {} of sweep {}", job.run, self.sweep)))?;
        self.wait().await;
        if *self.leave.borrow() != Leave::No {
            return Ok(false);
        }
        let sweep = find(self.study, &self.options.sweep).await?;
        let mine = of_job(&sweep).is_some_and(|run| run.retried_by() == Some(self.known.id()));
        Ok(mine && open(&sweep))
    }
}

/// What the run under way is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Stop,
    Exit,
    Leave,
}

/// A failed run of every cell that no run finished or works on.
fn failed(sweep: &Sweep, varied: &[String]) -> Vec<Job> {
    let parameters = |config: &serde_json::Map<String, Value>| -> Option<Vec<(String, Value)>> {
        varied.iter().map(|name| Some((name.clone(), config.get(name)?.clone()))).collect()
    };
    let mut jobs: Vec<Job> = Vec::new();
    for run in &sweep.runs {
        let Some(parameters) = parameters(&run.config) else { continue };
        let same = |other: &&crate::wandb::SweepRun| {
            varied.iter().zip(&parameters).all(|(name, (_, value))| other.config.get(name) == Some(value))
        };
        let open = matches!(run.state.as_str(), "failed" | "crashed" | "killed");
        let mut others = sweep.runs.iter().filter(same);
        let settled = others.any(|other| matches!(other.state.as_str(), "finished" | "running" | "pending"));
        if open && !settled && !jobs.iter().any(|job| job.parameters == parameters) {
            jobs.push(Job { run: run.id.clone(), parameters });
        }
    }
    jobs
}
