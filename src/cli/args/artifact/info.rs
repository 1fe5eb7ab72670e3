//! What `wandb-pca artifact info` takes.

use clap::Args;

/// `artifact info`
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// entity/project/name:alias
    pub(crate) artifact: String,
    /// Only files whose path matches; repeat for several
    #[arg(long, value_name = "GLOB")]
    pub(crate) files: Vec<String>,
    /// Show at most so many files; JSON always has all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
}
