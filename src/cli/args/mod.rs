//! What was typed, as clap reads it. Meaning is given elsewhere.

mod artifact;
mod cache;
mod compare;
mod evaluate;
pub(crate) mod study;
pub(crate) mod sweep;
mod sync;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wandb_pca::app::{Device, LockMode};

pub(crate) use artifact::{
    Alias, Artifact, Digest, Edit, Get, Info, Lineage, Link, LinkTo, Ls, Put, Rm, Tag, Unlink, Verify,
};
pub(crate) use cache::{Cache, CacheLs, CachePrune, CacheVerify};
pub(crate) use compare::{Compare, GroupArg};
pub(crate) use evaluate::Evaluate;
pub(crate) use sync::Sync;

/// Task-vector PCA over Weights & Biases artifacts.
#[derive(Debug, Parser)]
#[command(name = "wandb-pca", version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 authentication or permission, \
5 integrity, 6 network or timeout, 7 partly done, 130 interrupted.";

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print machine-readable JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more (-v: what is done; -vv: requests)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How to show progress on standard error
    #[arg(long, global = true, value_enum, default_value_t = ProgressMode::Auto, value_name = "MODE")]
    pub(crate) progress: ProgressMode,
    /// Root of the W&B API [env: WANDB_BASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Entity of names that have none [env: WANDB_ENTITY]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) entity: Option<String>,
    /// Project of names that have none [env: WANDB_PROJECT]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Longest time, in seconds, that one operation (such as downloading the inputs) may take as a whole
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Longest time, in seconds, for a connection [default: 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Longest time, in seconds, without a byte [default: 30]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) idle_timeout: Option<Duration>,
    /// Where to read and log: with the server; with the store, and runs to a folder for `sync`; or log nothing
    /// [env: WANDB_MODE]
    #[arg(long, global = true, value_enum, value_name = "MODE")]
    pub(crate) mode: Option<ModeArg>,
    /// The same as --mode offline
    #[arg(long, global = true, conflicts_with = "mode")]
    pub(crate) offline: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "not a number of seconds above zero".to_owned())
}

/// Where to read and log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// With the server
    Online,
    /// With the store and a folder
    Offline,
    /// Log nothing
    Disabled,
}

impl ModeArg {
    /// The word for it in settings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Disabled => "disabled",
        }
    }
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, nothing elsewhere
    Auto,
    /// One line for each file and each stage
    Plain,
    /// One JSON object a line
    Json,
    /// Nothing
    None,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole job, end to end, on the embedded server
    Demo(Demo),
    /// PCA of the task vectors of fine-tuned checkpoints
    Fit(Fit),
    /// Draw new models from a fit
    Sample(Sample),
    /// How the seeds of several datasets lie to each other: principal angles, overlap, joint PCA
    Compare(Compare),
    /// How well weights do: a TorchScript module with those of a checkpoint, or of a fit's seeds and samples (needs libtorch)
    Evaluate(Evaluate),
    /// Write fits as one self-contained HTML page
    Report(Report),
    /// List the tensors of a checkpoint file or artifact
    Inspect(Inspect),
    /// Fit a whole grid of models, datasets and seeds, resumably
    #[command(subcommand)]
    Study(study::Study),
    /// W&B sweeps over the cells of a study
    #[command(subcommand)]
    Sweep(sweep::Sweep),
    /// Get, put, list, verify, trace, edit and remove artifacts
    #[command(subcommand)]
    Artifact(Artifact),
    /// Look after the store of downloaded files
    #[command(subcommand)]
    Cache(Cache),
    /// Send runs that were logged offline, or did not get through
    Sync(Sync),
    /// Run the embedded W&B-compatible server
    Serve(Serve),
    /// Store an API key for a server
    Login(Login),
    /// Say who the API key belongs to and where it came from
    Whoami,
}

impl Command {
    /// What makes the products of task vectors.
    pub(crate) fn device(&self) -> Device {
        let device = match self {
            Self::Fit(args) => args.device,
            Self::Compare(args) => args.device,
            Self::Evaluate(args) => args.device,
            Self::Study(study::Study::Run(args)) => args.device,
            Self::Study(study::Study::Shard(args)) => args.device,
            _ => None,
        };
        device.unwrap_or_default()
    }

    /// How many times it answers Ctrl-C itself, to end its work in order; the next one ends it.
    pub(crate) fn own_interruptions(&self) -> usize {
        match self {
            Self::Sweep(sweep::Sweep::Agent(_)) => 2,
            Self::Sweep(sweep::Sweep::Cell(_)) => 1,
            _ => 0,
        }
    }
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder of the server's data and of the results
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Run a study of 2 models, 3 datasets and 5 seeds each instead. Killed or changed, it goes on where it was
    #[arg(long)]
    pub(crate) study: bool,
    /// Leave the server running at the end, until Ctrl-C
    #[arg(long)]
    pub(crate) keep_serving: bool,
}

/// `fit`
#[derive(Debug, Args)]
pub(crate) struct Fit {
    /// The pretrained checkpoint: an artifact (entity/project/name:alias) or a file
    #[arg(long, value_name = "INPUT")]
    pub(crate) pretrained: String,
    /// The fine-tuned checkpoints: an artifact or a file with {seed} in its name; repeat for a list without {seed}
    #[arg(long, value_name = "INPUT", required = true)]
    pub(crate) finetuned: Vec<String>,
    /// Seeds for {seed}: ranges (both ends included) and lists, such as 0..9 or 0,3,7
    #[arg(long, value_name = "SEEDS")]
    pub(crate) seeds: Option<String>,
    /// Fit only the layers whose name matches this glob; repeatable
    #[arg(long, value_name = "GLOB")]
    pub(crate) layers: Vec<String>,
    /// Fetch only the bytes of those layers, whatever their share [default: up to 60 % of a file above 1 MiB]
    #[arg(long, requires = "layers", conflicts_with = "whole")]
    pub(crate) partial: bool,
    /// Fetch and verify whole files, however few layers are fitted
    #[arg(long)]
    pub(crate) whole: bool,
    /// Folder for the fit [default: fit-<name>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Which rows to print: of single layers, or of layers put together. The files have all of them
    #[arg(long, value_enum, default_value_t = GroupArg::Layer)]
    pub(crate) group: GroupArg,
    /// How often the null model (same norms, random directions) is drawn for each layer; 0 leaves it out. A hundred draws
    /// cost about a millisecond a layer of ten seeds
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) null_draws: u32,
    /// Write the first K components of every layer as tensors too (components.safetensors, F32): K times the size of the
    /// model, and two more passes
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) components: Option<u32>,
    /// Take layers whose floating-point dtype differs between checkpoints, widened exactly. The rounding of the coarser one then
    /// counts as part of the task vector
    #[arg(long)]
    pub(crate) mixed_dtypes: bool,
    /// Count conflicts of signs and what the largest parameters hold: a second pass, about five times the work of a fit
    #[arg(long)]
    pub(crate) interference: bool,
    /// Singular task interference of every matrix too: a singular value decomposition for each layer and checkpoint, which
    /// takes minutes and a gigabyte of memory for ten seeds of a ViT-B/16. Implies --interference
    #[arg(long)]
    pub(crate) sti: bool,
    /// Multiply by libtorch on `cpu` or `cuda:N`, or on the first GPU where that is expected to be faster (`auto`)
    /// [default: built-in]
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["interference", "sti"])]
    pub(crate) device: Option<Device>,
    /// Write the tables as CSV too
    #[arg(long)]
    pub(crate) csv: bool,
    /// Compute everything. Without it, what an earlier fit in the folder knows of the same checkpoints is taken from there
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Name of the dataset, for the results
    #[arg(long)]
    pub(crate) dataset: Option<String>,
    /// Nested dictionary of the checkpoint that holds the weights, where there are several
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Which file of the artifacts, where they hold several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<String>,
    /// Log the fit as a W&B run (the default when inputs are artifacts)
    #[arg(long, overrides_with = "no_log")]
    pub(crate) log: bool,
    /// Log nothing
    #[arg(long, overrides_with = "log")]
    pub(crate) no_log: bool,
    /// Send a W&B alert when it ends or fails
    #[arg(long)]
    pub(crate) alert: bool,
    #[command(flatten)]
    pub(crate) lock: Locking,
    /// Print what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What to do with a lock that is there. Without these, what it has is used and what it lacks is added.
#[derive(Debug, Args)]
pub(crate) struct Locking {
    /// Refuse whatever the lock does not have, and names that stand for another version by now
    #[arg(long)]
    pub(crate) locked: bool,
    /// Resolve the names anew and rewrite the lock
    #[arg(long, conflicts_with = "locked")]
    pub(crate) update: bool,
}

impl Locking {
    /// As the library has it.
    pub(crate) fn mode(&self) -> LockMode {
        match (self.locked, self.update) {
            (true, _) => LockMode::Locked,
            (false, true) => LockMode::Update,
            (false, false) => LockMode::Keep,
        }
    }
}

/// `sample`
#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// A fit: a folder, or an artifact of type `pca` (entity/project/name:alias)
    pub(crate) fit: String,
    /// How many models
    #[arg(long, default_value_t = 1)]
    pub(crate) count: u32,
    /// Which distribution
    #[arg(long, value_enum, default_value_t = SampleScale::Variance)]
    pub(crate) scale: SampleScale,
    /// Interpolate between these two seeds instead
    #[arg(long, value_name = "SEED,SEED", value_delimiter = ',', num_args = 1, conflicts_with_all = ["coefficients", "scale", "count"])]
    pub(crate) between: Option<Vec<String>>,
    /// Where between them: 0 is the first seed, 1 the second; one model for each
    #[arg(long, value_name = "T", value_delimiter = ',', default_values_t = [0.5], requires = "between", allow_negative_numbers = true)]
    pub(crate) at: Vec<f64>,
    /// Take these coefficients of the components instead of random ones: a JSON file with a list, or with lists by layer.
    /// They count standard deviations, or lengths with --scale unit
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    pub(crate) coefficients: Option<PathBuf>,
    /// Seed of the random generator (ChaCha)
    #[arg(long, default_value_t = 0)]
    pub(crate) random_seed: u64,
    /// Folder for the models [default: <fit>/samples, or <name>-samples for an artifact]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// File formats
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [SampleFormat::Torch])]
    pub(crate) format: Vec<SampleFormat>,
    /// Log the models to W&B as artifacts of type `checkpoint`
    #[arg(long)]
    pub(crate) log: bool,
}

/// Distribution of the coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SampleScale {
    /// The fitted Gaussian: each coefficient has its component's variance
    Variance,
    /// Coefficients of variance 1, as the notebook drew them
    Unit,
    /// Random weights over the seeds, uniform on the simplex: models between them
    Convex,
    /// No randomness: the mean of the seeds
    Mean,
}

/// Format of a written checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SampleFormat {
    /// `.ckpt` that torch.load(weights_only=True) reads
    Torch,
    /// `.safetensors`
    Safetensors,
}

/// `report`
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Fits, and one comparison: folders, or artifacts of type `pca` and `comparison` (entity/project/name:alias)
    #[arg(required = true)]
    pub(crate) fits: Vec<String>,
    /// The page
    #[arg(long, short, default_value = "report.html", value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Write each plot as SVG and PNG too, into <FILE without ending>.plots
    #[arg(long)]
    pub(crate) plots: bool,
}

/// `inspect`
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A checkpoint file, or an artifact (entity/project/name:alias)
    pub(crate) input: String,
    /// Which file of the artifact, where it has several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<String>,
    /// Nested dictionary that holds the weights, where there are several
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// List only the tensors whose name matches this glob; repeatable. Their bytes are fetched, for the norms
    #[arg(long, value_name = "GLOB")]
    pub(crate) layers: Vec<String>,
    /// Compute the norms, fetching the bytes of an artifact that is not in the store
    #[arg(long, conflicts_with = "no_norms")]
    pub(crate) norms: bool,
    /// Compare with this checkpoint, tensor by tensor: what changed from INPUT to OTHER
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["layers", "norms"])]
    pub(crate) diff: Option<String>,
    /// Leave out the norms, which read every byte
    #[arg(long)]
    pub(crate) no_norms: bool,
    /// Fetch and verify the whole file, instead of what is looked at
    #[arg(long)]
    pub(crate) whole: bool,
}

/// `serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Folder of the server's data
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub(crate) address: SocketAddr,
    /// Exchange the identity token (a JWT) in this file for access tokens, as WANDB_IDENTITY_TOKEN_FILE of a client asks
    #[arg(long, value_name = "FILE")]
    pub(crate) identity_token_file: Option<PathBuf>,
    /// How long access tokens hold, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "3600")]
    pub(crate) access_token_lifetime: Duration,
    /// Listen on an address that other machines reach
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

/// `login`
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Read the key from standard input instead of asking for it
    #[arg(long)]
    pub(crate) key_stdin: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
