//! What `wandb-pca artifact …` takes, as clap reads it: one verb a file.

mod get;
mod info;
mod ls;
mod put;

use clap::Subcommand;

pub(crate) use get::{Get, Link};
pub(crate) use info::Info;
pub(crate) use ls::Ls;
pub(crate) use put::{Digest, Put};

/// `artifact …`
#[derive(Debug, Subcommand)]
pub(crate) enum Artifact {
    /// Download and verify artifacts
    Get(Get),
    /// Upload files as a new version
    Put(Box<Put>),
    /// List types and collections of a project, or the versions of a collection
    Ls(Ls),
    /// Describe one version
    Info(Info),
}
