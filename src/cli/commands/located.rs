//! What names, ids and addresses of artifacts on the command line stand for. Asks the server only about ids.

use wandb_pca::app::AppError;
use wandb_pca::wandb::{ArtifactLocator, ArtifactName};

use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::settings::base_url;

/// The artifact that is pointed at by a name, an id or an address; whose id it is, the server says.
pub(super) async fn located(context: &Context<'_>, text: &str) -> anyhow::Result<ArtifactName> {
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

/// The same for what may also be a file: only addresses are looked up.
pub(super) async fn input_text(context: &Context<'_>, text: &str) -> anyhow::Result<String> {
    if ArtifactLocator::is_address(text) { Ok(located(context, text).await?.to_string()) } else { Ok(text.to_owned()) }
}

/// The version of a collection that is pointed at: by its alias, or by an id or address of it.
pub(super) async fn version_of(context: &Context<'_>, name: &ArtifactName, text: &str) -> anyhow::Result<String> {
    if !ArtifactLocator::is_address(text) {
        return Ok(text.to_owned());
    }
    let found = located(context, text).await?;
    if found.collection() != name.collection() {
        let reason = format!("`{text}` is {found}, which is no version of {}", name.collection());
        return Err(UsageError(reason).into());
    }
    Ok(found.alias().to_owned())
}
