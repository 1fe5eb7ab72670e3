//! What `wandb-pca artifact put` takes.

use std::path::PathBuf;

use clap::Args;

/// `artifact put`
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// A file or folder
    pub(crate) path: PathBuf,
    /// Where to: [entity/]project/name
    #[arg(long, short, value_name = "NAME")]
    pub(crate) name: String,
    /// Type of the artifact
    #[arg(long = "type", short, default_value = "dataset", value_name = "TYPE")]
    pub(crate) kind: String,
    /// Aliases besides `latest`
    #[arg(long, short, value_name = "ALIAS")]
    pub(crate) alias: Vec<String>,
    /// Description
    #[arg(long, short)]
    pub(crate) description: Option<String>,
    /// Metadata as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) metadata: Option<String>,
}
