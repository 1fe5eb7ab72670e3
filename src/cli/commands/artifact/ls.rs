//! `artifact ls`.

use serde_json::json;
use wandb_pca::app::artifact::{self as artifacts, ListFilter};
use wandb_pca::report::csv;
use wandb_pca::wandb::{Artifact, Collection};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, columns};

use super::artifact_name;

pub(super) async fn run(context: &Context<'_>, args: &args::Ls) -> anyhow::Result<Output> {
    let filter = filter(args)?;
    let (table, artifacts) = if args.path.split('/').count() == 3 {
        let versions = artifacts::versions(&context.session, &artifact_name(&args.path)?, &filter).await?;
        (artifacts::version_table(&versions)?, versions.iter().map(version).collect::<Vec<_>>())
    } else {
        if args.metadata.is_some() {
            return Err(UsageError("--metadata needs a collection: entity/project/collection".to_owned()).into());
        }
        let collections = artifacts::collections(&context.session, &args.path, &filter).await?;
        (artifacts::collection_table(&collections)?, collections.iter().map(collection).collect())
    };
    let text = if args.csv { csv::write(&table) } else { columns(&table) };
    Ok(Output { schema: "artifact-ls/2", json: json!({"artifacts": artifacts}), text })
}

fn filter(args: &args::Ls) -> anyhow::Result<ListFilter> {
    let mut filter = ListFilter::default().with_name(args.name.as_deref())?;
    filter.kind = args.kind.clone();
    filter.tag = args.tag.clone();
    filter.alias = args.alias.clone();
    filter.older_than = args.older_than;
    filter.limit = args.limit;
    let pair = |text: &String| {
        let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        pair.ok_or_else(|| UsageError(format!("--metadata takes KEY=VALUE, not `{text}`")))
    };
    filter.metadata = args.metadata.as_ref().map(pair).transpose()?;
    Ok(filter)
}

fn collection(collection: &Collection) -> serde_json::Value {
    let newest = collection.newest.as_ref();
    json!({
        "name": collection.name,
        "type": collection.artifact_type,
        "links": collection.is_portfolio,
        "description": collection.description,
        "tags": collection.tags,
        "created_at": collection.created_at,
        "updated_at": collection.updated_at,
        "versions": collection.versions,
        "version": newest.map(|newest| &newest.version),
        "aliases": newest.map(|newest| &newest.aliases),
        "version_tags": newest.map(|newest| &newest.tags),
        "size": newest.map(|newest| newest.size),
        "digest": newest.map(|newest| &newest.digest),
    })
}

fn version(version: &Artifact) -> serde_json::Value {
    json!({
        "name": version.name().to_string(),
        "source": version.source.to_string(),
        "version": version.version,
        "type": version.artifact_type,
        "aliases": version.aliases,
        "tags": version.tags,
        "files": version.file_count,
        "size": version.size,
        "digest": version.digest,
        "description": version.description,
        "metadata": version.metadata,
        "created_at": version.created_at,
        "updated_at": version.updated_at,
        "ttl_seconds": version.ttl_seconds,
    })
}
