//! What `wandb-pca artifact ls` takes.

use clap::Args;

/// `artifact ls`
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// [entity/]project, or [entity/]project/collection
    pub(crate) path: String,
    /// Only this type
    #[arg(long = "type", short, value_name = "TYPE")]
    pub(crate) kind: Option<String>,
}
