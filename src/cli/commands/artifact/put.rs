//! `artifact put`.

use serde_json::{Map, Value, json};
use wandb_pca::app;

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, bytes_text};

use super::artifact_name;

pub(super) async fn run(context: &Context<'_>, args: &args::Put) -> anyhow::Result<Output> {
    let mut options = app::artifact::PutOptions::new(&args.path, artifact_name(&args.name)?, &args.kind);
    options.aliases = args.alias.clone();
    options.description = args.description.clone();
    if let Some(text) = &args.metadata {
        options.metadata = serde_json::from_str::<Map<String, Value>>(text)
            .map_err(|error| UsageError(format!("--metadata is not a JSON object: {error}")))?;
    }
    let artifact = app::artifact::put(&context.session, &options).await?;
    let text = format!("{} ({} files, {})\n", artifact.name(), artifact.file_count, bytes_text(artifact.size));
    let json = json!({"artifact": artifact.name().to_string(), "version": artifact.version, "digest": artifact.digest});
    Ok(Output { schema: "artifact-put/1", json, text })
}
