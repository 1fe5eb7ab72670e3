//! What `wandb-pca artifact get` takes.

use std::path::PathBuf;

use clap::Args;

/// `artifact get`
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Artifacts: entity/project/name:alias
    #[arg(required = true)]
    pub(crate) artifacts: Vec<String>,
    /// Folder for the files [default: ./artifacts/<name>:<version>]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Keep the files in the store only and print where they are
    #[arg(long, conflicts_with = "root")]
    pub(crate) store_only: bool,
}
