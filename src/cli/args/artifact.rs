//! What `wandb-pca artifact …` takes, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `artifact …`
#[derive(Debug, Subcommand)]
pub(crate) enum Artifact {
    /// Download and verify artifacts
    Get(Get),
    /// Upload files as a new version
    Put(Put),
    /// List types and collections of a project, or the versions of a collection
    Ls(Ls),
    /// Describe one version
    Info(Info),
}

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

/// `artifact ls`
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// [entity/]project, or [entity/]project/collection
    pub(crate) path: String,
    /// Only this type
    #[arg(long = "type", short, value_name = "TYPE")]
    pub(crate) kind: Option<String>,
}

/// `artifact info`
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// entity/project/name:alias
    pub(crate) artifact: String,
}
