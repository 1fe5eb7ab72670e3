//! What `wandb-pca artifact verify` takes.

use std::path::PathBuf;

use clap::Args;

/// `artifact verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// entity/project/name:alias
    pub(crate) artifact: String,
    /// Folder with the files [default: ./artifacts/<name>:<version>]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Check the objects in the store instead of a folder
    #[arg(long, conflicts_with = "root")]
    pub(crate) store: bool,
    /// Fail on extra files and on references that cannot be proven, too
    #[arg(long)]
    pub(crate) strict: bool,
}
