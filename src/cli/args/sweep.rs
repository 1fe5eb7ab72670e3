//! What `wandb-pca sweep …` takes, as clap reads it.

use clap::{Args, Subcommand};
use wandb_pca::wandb::SweepName;

use super::study::File;

/// `sweep …`
#[derive(Debug, Subcommand)]
pub(crate) enum Sweep {
    /// Make a grid sweep over the cells of a study
    Create(File),
    /// Take cells of a sweep and compute them, one after another, until the sweep is over
    Agent(Agent),
    /// Print the configuration of such a sweep, for `wandb sweep`
    Config(File),
    /// Compute the one cell that an agent assigned: the program of the sweep
    Cell(Cell),
}

/// `sweep agent`
#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// The sweep: [[entity/]project/]id
    pub(crate) sweep: SweepName,
    #[command(flatten)]
    pub(crate) study: File,
    /// Leave after this many cells
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Leave after this many failed cells [default: 5 in a row]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_failures: Option<u32>,
    /// Times to try a failed cell again before its run fails
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// First do again what failed in this sweep and nobody finished since, under the same runs
    #[arg(long)]
    pub(crate) retry_failed: bool,
    /// Seconds between two heartbeats
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub(crate) heartbeat: f64,
}

/// `sweep cell`
#[derive(Debug, Args)]
pub(crate) struct Cell {
    #[command(flatten)]
    pub(crate) study: File,
    /// The parameters as the agent gives them (--model=… --dataset=…) [env: WANDB_SWEEP_PARAM_PATH]
    #[arg(last = true, value_name = "PARAMETERS")]
    pub(crate) parameters: Vec<String>,
}
