//! `artifact info`.

use std::fmt::Write as _;

use serde_json::json;
use wandb_pca::app;

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::render::{Output, bytes_text, columns, objects, printable};

use super::located;

pub(super) async fn run(context: &Context<'_>, args: &args::Info) -> anyhow::Result<Output> {
    let (artifact, manifest) =
        app::artifact::describe(&context.session, &located(context, &args.artifact).await?).await?;
    let entries = app::artifact::entry_table(&manifest)?;
    let json = json!({
        "artifact": artifact.name().to_string(),
        "type": artifact.artifact_type,
        "digest": artifact.digest,
        "size": artifact.size,
        "aliases": artifact.aliases,
        "tags": artifact.tags,
        "description": artifact.description,
        "metadata": artifact.metadata,
        "created_at": artifact.created_at,
        "entries": objects(&entries),
    });
    let mut text = format!("{}\n", artifact.name());
    let described = [
        ("type", artifact.artifact_type.clone()),
        ("aliases", artifact.aliases.join(", ")),
        ("created", artifact.created_at.clone()),
        ("digest", artifact.digest.clone()),
        ("size", bytes_text(artifact.size)),
        ("about", artifact.description.clone().unwrap_or_default()),
    ];
    for (name, value) in described.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(text, "  {name:8} {}", printable(value))?;
    }
    for (key, value) in &artifact.metadata {
        writeln!(text, "  {} = {}", printable(key), printable(&value.to_string()))?;
    }
    Ok(Output { schema: "artifact-info/1", json, text: format!("{text}\n{}", columns(&entries)) })
}
