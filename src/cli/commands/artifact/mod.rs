//! `artifact …`: one verb a file.

mod edit;
mod get;
mod info;
mod lineage;
mod ls;
mod put;
mod rm;
mod verify;

use wandb_pca::app::AppError;
use wandb_pca::wandb::{ArtifactLocator, ArtifactName};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::Output;
use crate::cli::settings::base_url;

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

/// The artifact that is pointed at by a name, an id or an address; whose id it is, the server says.
async fn located(context: &Context<'_>, text: &str) -> anyhow::Result<ArtifactName> {
    let refuse = |reason: &str| UsageError(format!("`{text}` {reason}"));
    match ArtifactLocator::parse(text).map_err(|error| UsageError(error.to_string()))? {
        ArtifactLocator::Name { host: Some(host), .. } if !base_url::same(&host, &context.settings.base_url) => {
            Err(refuse("is on another server; choose it with --base-url").into())
        }
        ArtifactLocator::Name { name, .. } => Ok(name),
        ArtifactLocator::Id(id) => {
            let offline = || AppError::Offline { what: format!("the artifact with id {}", id.as_str()) };
            let client = context.session.client.as_ref().ok_or_else(offline)?;
            let found = client.artifact_by_id(id.as_str()).await;
            let found = found.map_err(|source| AppError::Wandb { action: format!("find {text}"), source })?;
            Ok(ArtifactName::parse(&found.name().to_string())?)
        }
        _ => Err(refuse("is one file of an artifact, not an artifact").into()),
    }
}

fn artifact_name(text: &str) -> anyhow::Result<ArtifactName> {
    ArtifactName::parse(text).map_err(|error| UsageError(error.to_string()).into())
}
