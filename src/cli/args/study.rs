//! What `wandb-pca study …` takes, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use wandb_pca::app::Device;
use wandb_pca::study::ShardId;

/// `study …`
#[derive(Debug, Subcommand)]
pub(crate) enum Study {
    /// Write a study file from the artifact names in a W&B project
    Init(Init),
    /// Show the grid, what exists, and what running it will cost
    Plan(Plan),
    /// Compute everything that is missing, changed or failed, and log it
    Run(Run),
    /// Fetch everything a study needs, so that its shards need no network
    Prefetch(File),
    /// Compute part i of N, offline or online
    Shard(Shard),
    /// Put the shards together
    Reduce(File),
    /// Log what is finished and not logged yet
    Push(File),
    /// Say how far a study is
    Status(File),
}

/// A study file and its folder.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// The study file (YAML)
    pub(crate) file: PathBuf,
    /// Folder of the study's results [default: study-<name>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Split each cell into this many shards of layers, in place of what the file says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) shards: Option<u32>,
}

/// `study init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The project: [entity/]project
    pub(crate) project: String,
    /// Where the study file goes [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `study plan`
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) study: File,
    /// Download rate to estimate with, in MB a second
    #[arg(long, default_value_t = 100.0, value_name = "MB")]
    pub(crate) download_rate: f64,
    /// Analysis rate to estimate with, in MB of checkpoints a second
    #[arg(long, default_value_t = 5000.0, value_name = "MB")]
    pub(crate) analysis_rate: f64,
}

/// `study run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) study: File,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = Engine::Local)]
    pub(crate) engine: Engine,
    /// Multiply by libtorch on `cpu` or `cuda:N`, or on the first GPU where that is expected to be faster (`auto`)
    /// [default: built-in]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,
    /// Give up after this many failed cells
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_failures: Option<u32>,
    /// Times to try a failed cell again
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// Log nothing to W&B; `study push` does it later
    #[arg(long)]
    pub(crate) no_log: bool,
    /// Send a W&B alert when it ends or fails
    #[arg(long)]
    pub(crate) alert: bool,
    /// Seconds between questions to SLURM
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub(crate) poll: f64,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// In this process
    Local,
    /// As a SLURM job array, through sbatch
    Slurm,
}

/// `study shard`
#[derive(Debug, Args)]
pub(crate) struct Shard {
    #[command(flatten)]
    pub(crate) study: File,
    /// Which part, from 1: `3/16` is the third of sixteen
    #[arg(value_name = "I/N")]
    pub(crate) part: ShardId,
    /// Multiply by libtorch on `cpu` or `cuda:N`, or on the first GPU where that is expected to be faster (`auto`)
    /// [default: built-in]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,
}
