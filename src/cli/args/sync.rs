//! `sync`.

use std::path::PathBuf;

use clap::Args;

/// `sync`
#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// Folders of runs, their logs (run-….wandb), or a folder `wandb` with runs [default: all unsent runs in wandb/]
    #[arg(value_name = "DIR")]
    pub(crate) folders: Vec<PathBuf>,
    /// Send to this run instead of the one in the log
    #[arg(long, value_name = "RUN")]
    pub(crate) id: Option<String>,
    /// Send again what is marked as synced, over what is there
    #[arg(long)]
    pub(crate) include_synced: bool,
    /// Remove the folders of which everything is on the server
    #[arg(long)]
    pub(crate) clean: bool,
    /// Print what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}
