//! What `wandb-pca artifact info` takes.

use clap::Args;

/// `artifact info`
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// entity/project/name:alias
    pub(crate) artifact: String,
}
