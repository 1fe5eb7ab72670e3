//! What `wandb-pca artifact ls` takes.

use std::time::Duration;

use clap::Args;

use crate::cli::duration;

/// `artifact ls`
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// [entity/]project, or entity/project/collection
    pub(crate) path: String,
    /// Only this type
    #[arg(long = "type", short, value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Only what has this tag
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,
    /// Only what has this alias; of a collection the newest version counts
    #[arg(long, value_name = "ALIAS")]
    pub(crate) alias: Option<String>,
    /// Only collections whose name matches, such as 'ViT-B-16_*'
    #[arg(long, value_name = "GLOB")]
    pub(crate) name: Option<String>,
    /// Only versions whose metadata has this value
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) metadata: Option<String>,
    /// Only what was made this long ago or longer, such as 12h, 30d, 2w
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    pub(crate) older_than: Option<Duration>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print a CSV table
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}
