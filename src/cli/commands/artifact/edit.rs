//! `artifact alias`, `tag` and `edit`.

use serde_json::{Map, Value, json};
use wandb_pca::app::artifact as artifacts;
use wandb_pca::wandb::ArtifactEdit;

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::duration;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, printable};

use super::artifact_name;

/// What keeps a version for good.
const FOREVER: &str = "never-expires";

pub(super) async fn alias(context: &Context<'_>, args: &args::Alias) -> anyhow::Result<Output> {
    let mut edit = ArtifactEdit::default();
    edit.add_aliases = args.add.clone();
    edit.remove_aliases = args.remove.clone();
    run(context, &args.artifact, &edit).await
}

pub(super) async fn tag(context: &Context<'_>, args: &args::Tag) -> anyhow::Result<Output> {
    let mut edit = ArtifactEdit::default();
    edit.add_tags = args.add.clone();
    edit.remove_tags = args.remove.clone();
    run(context, &args.artifact, &edit).await
}

pub(super) async fn edit(context: &Context<'_>, args: &args::Edit) -> anyhow::Result<Output> {
    let mut edit = ArtifactEdit::default();
    edit.description = args.description.clone();
    let object = |text: &String| {
        serde_json::from_str::<Map<String, Value>>(text)
            .map_err(|error| UsageError(format!("--metadata is not a JSON object: {error}")))
    };
    edit.metadata = args.metadata.as_ref().map(object).transpose()?;
    let ttl = |text: &String| match text.as_str() {
        FOREVER => Ok(None),
        text => match duration::parse(text).map(|length| length.as_secs()) {
            Ok(0) => Err(UsageError(format!("--ttl of nothing would delete it; `{FOREVER}` keeps it"))),
            Ok(seconds) => Ok(Some(seconds)),
            Err(reason) => Err(UsageError(format!("--ttl: {reason}, or `{FOREVER}`"))),
        },
    };
    edit.ttl_seconds = args.ttl.as_ref().map(ttl).transpose()?;
    run(context, &args.artifact, &edit).await
}

async fn run(context: &Context<'_>, name: &str, edit: &ArtifactEdit) -> anyhow::Result<Output> {
    let artifact = artifacts::edit(&context.session, &artifact_name(name)?, edit).await?;
    let name = artifact.name().to_string();
    let json = json!({
        "artifact": name,
        "aliases": artifact.aliases,
        "tags": artifact.tags,
        "description": artifact.description,
        "metadata": artifact.metadata,
        "ttl_seconds": artifact.ttl_seconds,
    });
    let list = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let text = format!("{name}: aliases {}; tags {}\n", list(&artifact.aliases), list(&artifact.tags));
    Ok(Output { schema: "artifact-edit/1", json, text: printable(text.trim_end()) + "\n" })
}
