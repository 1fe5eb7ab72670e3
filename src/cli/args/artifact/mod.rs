//! What `wandb-pca artifact …` takes, as clap reads it: one verb a file.

mod edit;
mod get;
mod info;
mod lineage;
mod ls;
mod put;
mod rm;
mod verify;

use clap::Subcommand;

pub(crate) use edit::{Alias, Edit, LinkTo, Tag, Unlink};
pub(crate) use get::{Get, Link};
pub(crate) use info::Info;
pub(crate) use lineage::Lineage;
pub(crate) use ls::Ls;
pub(crate) use put::{Digest, Put};
pub(crate) use rm::Rm;
pub(crate) use verify::Verify;

/// `artifact …`
#[derive(Debug, Subcommand)]
pub(crate) enum Artifact {
    /// Download and verify artifacts
    Get(Get),
    /// Upload files as a new version
    Put(Box<Put>),
    /// List the collections of a project, or the versions of a collection
    Ls(Ls),
    /// Describe one version
    Info(Info),
    /// Show which run made a version from what, and what came of it
    Lineage(Lineage),
    /// Hash the files of a version again, in a folder or in the store
    Verify(Verify),
    /// Delete versions, or unlink linked ones
    Rm(Rm),
    /// Add or remove aliases of a version
    Alias(Alias),
    /// Add or remove tags of a version
    Tag(Tag),
    /// Change description, metadata or time to live of a version
    Edit(Edit),
    /// Link a version into a collection, such as one of a registry
    Link(LinkTo),
    /// Take a linked version out of its collection; its source stays
    Unlink(Unlink),
}
