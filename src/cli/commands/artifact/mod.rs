//! `artifact …`: one verb a file.

mod edit;
mod get;
mod info;
mod lineage;
mod ls;
mod put;
mod rm;
mod verify;

use wandb_pca::wandb::ArtifactName;

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::Output;

use super::located::{located, version_of};

pub(super) async fn dispatch(context: &Context<'_>, command: &args::Artifact) -> anyhow::Result<Output> {
    match command {
        args::Artifact::Get(args) => get::run(context, args).await,
        args::Artifact::Put(args) => put::run(context, args).await,
        args::Artifact::Ls(args) => ls::run(context, args).await,
        args::Artifact::Info(args) => info::run(context, args).await,
        args::Artifact::Lineage(args) => lineage::run(context, args).await,
        args::Artifact::Verify(args) => verify::run(context, args).await,
        args::Artifact::Rm(args) => rm::run(context, args).await,
        args::Artifact::Alias(args) => edit::alias(context, args).await,
        args::Artifact::Tag(args) => edit::tag(context, args).await,
        args::Artifact::Edit(args) => edit::edit(context, args).await,
        args::Artifact::Link(args) => edit::link(context, args).await,
        args::Artifact::Unlink(args) => edit::unlink(context, args).await,
    }
}

fn artifact_name(text: &str) -> anyhow::Result<ArtifactName> {
    ArtifactName::parse(text).map_err(|error| UsageError(error.to_string()).into())
}
