//! `artifact alias`, `tag`, `edit`, `link` and `unlink`.

use serde_json::{Map, Value, json};
use wandb_pca::app::artifact as artifacts;
use wandb_pca::wandb::ArtifactEdit;

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, printable};

use super::put::ttl;
use super::{artifact_name, located};

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
    edit.ttl = args.ttl.as_deref().map(ttl).transpose()?;
    run(context, &args.artifact, &edit).await
}

pub(super) async fn link(context: &Context<'_>, args: &args::LinkTo) -> anyhow::Result<Output> {
    let (name, target) = (located(context, &args.artifact).await?, artifact_name(&args.target)?);
    let (artifact, link) = artifacts::link(&context.session, &name, &target).await?;
    let json = json!({"artifact": artifact.name().to_string(), "link": link.to_string()});
    let text = format!("{link} links to {}\n", artifact.source);
    Ok(Output { schema: "artifact-link/1", json, text })
}

pub(super) async fn unlink(context: &Context<'_>, args: &args::Unlink) -> anyhow::Result<Output> {
    let artifact = artifacts::unlink(&context.session, &located(context, &args.artifact).await?).await?;
    let json = json!({"link": artifact.name().to_string(), "source": artifact.source.to_string()});
    let text = format!("unlinked {}; {} stays\n", artifact.name(), artifact.source);
    Ok(Output { schema: "artifact-unlink/1", json, text })
}

async fn run(context: &Context<'_>, name: &str, edit: &ArtifactEdit) -> anyhow::Result<Output> {
    let artifact = artifacts::edit(&context.session, &located(context, name).await?, edit).await?;
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
