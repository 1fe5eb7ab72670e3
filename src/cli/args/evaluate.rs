//! What was typed after `evaluate`.

use std::path::PathBuf;

use clap::Args;
use wandb_pca::app::Device;

/// `evaluate`
#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// The TorchScript module to run. It is a program, and it is executed: use only one that you trust
    #[arg(long, value_name = "FILE")]
    pub(crate) module: PathBuf,
    /// Whose weights it gets: a checkpoint or a sample (file, folder or artifact), or a fit, of which the seeds, their mean and
    /// samples around it are evaluated (folder, or artifact with --fit)
    #[arg(long, value_name = "SAMPLE|FIT")]
    pub(crate) weights: String,
    /// The artifact of --weights is a fit (of type `pca`)
    #[arg(long)]
    pub(crate) fit: bool,
    /// The data: a safetensors file, or another checkpoint, with one tensor of inputs and one of labels
    #[arg(long, value_name = "FILE")]
    pub(crate) data: String,
    /// Name of the inputs in the data: samples first
    #[arg(long, value_name = "NAME", default_value = "inputs")]
    pub(crate) inputs: String,
    /// Name of the labels in the data: for each sample its class, from 0 on
    #[arg(long, value_name = "NAME", default_value = "labels")]
    pub(crate) labels: String,
    /// Samples of the data that are run at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: u32,
    /// How far samples of a fit are from the mean, in the fitted standard deviations; 0 is the mean itself
    #[arg(long, value_name = "S", value_delimiter = ',', default_values_t = [0.0, 0.5, 1.0, 2.0], value_parser = scale, allow_negative_numbers = true)]
    pub(crate) scales: Vec<f64>,
    /// How many directions from the mean are drawn, each followed through all scales
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) samples: u32,
    /// Seed of the random generator (ChaCha): the samples at scale 1 are those of `sample --random-seed`
    #[arg(long, default_value_t = 0)]
    pub(crate) random_seed: u64,
    /// Let module and weights each have tensors that the other lacks: those of the module keep its own values
    #[arg(long)]
    pub(crate) partial: bool,
    /// Write the outputs of every model to this safetensors file, under its name
    #[arg(long, value_name = "FILE")]
    pub(crate) outputs: Option<PathBuf>,
    /// Run on `cpu` or `cuda:N`, or on the first GPU where there is one (`auto`) [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,
    /// Log the evaluation as a W&B run: a table of all models, charts over the scales
    #[arg(long)]
    pub(crate) log: bool,
}

fn scale(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| "not a finite number".to_owned())
}
