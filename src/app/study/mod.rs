//! Studies: the grid of a study file computed cell by cell, resumably. Joins the pure `study` room with store, server and
//! file system; each verb of `wandb-pca study` is a file here.
//!
//! ```text
//! <folder>/
//!   inputs.json            what every reference stood for: version, digest, size; what offline shards read
//!   ledger/<task>.jsonl    what happened to each task; its lock makes a task one process's at a time
//!   <task>/                the fit of a cell (model@dataset) or of all datasets of a model (model+joint)
//!   <task>/shards/i-of-N/  the fit of some of its layers, until they are reduced
//!   slurm/                 job scripts and logs
//!   cells.csv, datasets.csv  the summary
//!   report-<model>.html    a page for each model: its cells, and what its datasets say about each other
//! ```

mod agent;
mod cluster;
mod compute;
mod error;
mod folder;
mod init;
mod inputs;
mod log;
mod needs;
mod pages;
mod reduce;
mod run;
mod status;
mod summary;
mod summary_results;
mod sweep;
mod sweep_cell;

use std::path::PathBuf;

pub use agent::{AgentCell, AgentEnd, AgentOptions, AgentOutcome, Leave, agent};
pub use cluster::{ClusterOptions, submit_and_follow};
pub use error::StudyError;
pub use init::init;
pub use inputs::{Survey, prefetch, survey, survey_pinned};
pub use log::{announce, push};
pub use needs::needs;
pub use pages::ModelPage;
pub use reduce::reduce;
pub(super) use run::explain;
pub use run::{Outcome, TaskFailure, run, shard};
pub use status::{TaskStatus, status};
pub use summary::{Summary, summarise};
pub use sweep::{create_sweep, sweep_url};
pub use sweep_cell::{CellEnd, CellRun, run_sweep_cell};

use crate::study::{Plan, ShardId, Spec, Task};

use super::session::Session;
use folder::StudyFolder;

/// A study on this machine.
#[derive(Debug, Clone)]
pub struct Study {
    /// Client, store, watcher.
    pub session: Session,
    /// The study file.
    pub spec: Spec,
    /// Where everything of the study goes.
    pub folder: PathBuf,
    /// Who works, for the ledger: host and process.
    pub worker: String,
}

/// What a sweep's agent gives the run of one cell.
#[derive(Debug, Clone, Default)]
pub struct SweepRun {
    /// Entity of the sweep; the study's otherwise.
    pub entity: Option<String>,
    /// Project of the sweep; the study's otherwise.
    pub project: Option<String>,
    /// The sweep.
    pub sweep: Option<String>,
    /// Id that the run must have.
    pub run: Option<String>,
    /// The parameters, as they must appear in the run's configuration.
    pub parameters: serde_json::Map<String, serde_json::Value>,
}

impl Study {
    fn files(&self) -> StudyFolder {
        StudyFolder::new(&self.folder)
    }
}

/// The part of a task that one worker does: all of it, or one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The whole task.
    pub task: Task,
    /// Which part of it.
    pub shard: Option<ShardId>,
}

impl Unit {
    /// What the ledger calls it.
    fn ledger_task(&self) -> Task {
        match self.shard {
            None => self.task.clone(),
            Some(shard) => {
                let id = format!("{}.{}-of-{}", self.task.id, shard.index + 1, shard.of);
                Task { id, inputs: self.task.inputs.clone() }
            }
        }
    }
}

/// Every unit of a plan with each task in `shards` parts, in order.
pub fn units(plan: &Plan, shards: u32) -> Vec<Unit> {
    let parts = |task: Task| {
        (0..shards).map(move |index| Unit { task: task.clone(), shard: Some(ShardId { index, of: shards }) })
    };
    plan.tasks().into_iter().flat_map(parts).collect()
}
