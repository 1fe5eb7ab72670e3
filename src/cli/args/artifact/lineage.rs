//! What `wandb-pca artifact lineage` takes.

use clap::Args;

/// `artifact lineage`
#[derive(Debug, Args)]
pub(crate) struct Lineage {
    /// entity/project/name:alias
    pub(crate) artifact: String,
    /// Runs between the artifact and the farthest one, in each direction
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) depth: usize,
    /// Artifacts and runs at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) limit: usize,
}
