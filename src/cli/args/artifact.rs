//! What `wandb-pca artifact …` takes, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Locking;

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
    #[arg(long, conflicts_with_all = ["root", "link"])]
    pub(crate) store_only: bool,
    /// How files get from the store to the folder
    #[arg(long, value_enum, default_value_t = Link::Auto, value_name = "HOW")]
    pub(crate) link: Link,
    /// Take the versions pinned in this lock, and pin in it what it lacks
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) locking: Locking,
}

/// How a file gets from the store into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Link {
    /// A reflink where the file system can, else a copy
    Auto,
    /// Blocks shared with the store until one side is written to; fails where the file system cannot
    Reflink,
    /// The store's own object under another name: writing to the file alters the store
    Hardlink,
    /// A copy
    Copy,
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
