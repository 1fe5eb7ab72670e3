//! What `wandb-pca artifact get` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::Locking;

/// `artifact get`
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Artifacts: entity/project/name:alias, or wandb-artifact://_id/<id>
    #[arg(required = true)]
    pub(crate) artifacts: Vec<String>,
    /// Folder for the files [default: <name>:<version> in WANDB_ARTIFACT_DIR, or in ./artifacts]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Keep the files in the store only and print where they are
    #[arg(long, conflicts_with_all = ["root", "link"])]
    pub(crate) store_only: bool,
    /// Leave out references whose target is gone, and say so
    #[arg(long)]
    pub(crate) allow_missing_references: bool,
    /// How files get from the store to the folder
    #[arg(long, value_enum, default_value_t = Link::Auto, value_name = "HOW")]
    pub(crate) link: Link,
    /// Only files whose path matches this glob; repeatable. `*` stops at `/`, `**` does not
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// No files whose path matches this glob; repeatable
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
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
