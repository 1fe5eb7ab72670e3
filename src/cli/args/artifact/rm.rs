//! What `wandb-pca artifact rm` takes.

use std::time::Duration;

use clap::Args;

use crate::cli::duration;

/// `artifact rm`
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Versions: entity/project/name:alias; of a linked one the link goes, not the source
    #[arg(required_unless_present = "collection")]
    pub(crate) artifacts: Vec<String>,
    /// Versions of this collection, as the rules below say
    #[arg(long, value_name = "NAME", conflicts_with = "artifacts")]
    pub(crate) collection: Option<String>,
    /// Only versions made this long ago or longer, such as 12h, 30d, 2w
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    pub(crate) older_than: Option<Duration>,
    /// Keep the newest N versions
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<usize>,
    /// Keep versions that have aliases
    #[arg(long, conflicts_with = "delete_aliases")]
    pub(crate) keep_aliases: bool,
    /// Remove versions that have aliases, and the aliases with them
    #[arg(long)]
    pub(crate) delete_aliases: bool,
    /// Print what would go, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}
