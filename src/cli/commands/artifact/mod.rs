//! `artifact …`: one verb a file.

mod get;
mod info;
mod ls;
mod put;

use wandb_pca::wandb::ArtifactName;

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::Output;

pub(super) async fn dispatch(context: &Context<'_>, command: &args::Artifact) -> anyhow::Result<Output> {
    match command {
        args::Artifact::Get(args) => get::run(context, args).await,
        args::Artifact::Put(args) => put::run(context, args).await,
        args::Artifact::Ls(args) => ls::run(context, args).await,
        args::Artifact::Info(args) => info::run(context, args).await,
    }
}

fn artifact_name(text: &str) -> anyhow::Result<ArtifactName> {
    ArtifactName::parse(text).map_err(|error| UsageError(error.to_string()).into())
}
