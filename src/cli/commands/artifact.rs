//! `artifact …`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use wandb_pca::app::artifact::GotFile;
use wandb_pca::app::{self, LockMode};
use wandb_pca::wandb::{ArtifactName, LinkMode, Placed};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, bytes_text, columns, objects, printable};

pub(super) async fn dispatch(context: &Context<'_>, command: &args::Artifact) -> anyhow::Result<Output> {
    match command {
        args::Artifact::Get(args) => get(context, args).await,
        args::Artifact::Put(args) => put(context, args).await,
        args::Artifact::Ls(args) => ls(context, args).await,
        args::Artifact::Info(args) => info(context, args).await,
    }
}

async fn get(context: &Context<'_>, args: &args::Get) -> anyhow::Result<Output> {
    let names = args.artifacts.iter().map(|text| artifact_name(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let destination = match (&args.root, args.store_only) {
        (Some(_), _) if names.len() > 1 => {
            return Err(UsageError("--root takes one artifact; several would mix their files".to_owned()).into());
        }
        (Some(root), _) => app::artifact::Destination::Folder(root.clone()),
        (None, true) => app::artifact::Destination::Store,
        (None, false) => app::artifact::Destination::Default,
    };
    let mut options = app::artifact::GetOptions::new(destination);
    options.link = match args.link {
        args::Link::Auto => LinkMode::Auto,
        args::Link::Reflink => LinkMode::Reflink,
        args::Link::Hardlink => LinkMode::Hardlink,
        args::Link::Copy => LinkMode::Copy,
    };
    options.lock = match (&args.lock, args.locking.mode()) {
        (Some(path), mode) => Some((path.clone(), mode)),
        (None, LockMode::Keep) => None,
        (None, _) => return Err(UsageError("--locked and --update need --lock FILE".to_owned()).into()),
    };
    let got = app::artifact::get(&context.session, &names, &options).await?;
    let mut text = String::new();
    let mut list = Vec::new();
    for got in &got {
        let fetched: u64 = got.files.iter().filter(|file| file.downloaded).map(|file| file.size).sum();
        let total: u64 = got.files.iter().map(|file| file.size).sum();
        for file in &got.files {
            writeln!(text, "{}", printable(&file.place.display().to_string()))?;
        }
        let (files, name) = (got.files.len(), got.artifact.name());
        writeln!(text, "  {name}: {files} files, {} verified, {} downloaded", bytes_text(total), bytes_text(fetched))?;
        let shared = got.files.iter().filter(|file| file.placed == Some(Placed::Hardlinked)).count();
        if shared > 0 {
            writeln!(text, "  {shared} are hard links to the store: whoever writes to one alters the store's object")?;
        }
        let file = |file: &GotFile| {
            json!({
                "path": file.path,
                "place": file.place,
                "size": file.size,
                "downloaded": file.downloaded,
                "placed": file.placed.map(Placed::name),
            })
        };
        list.push(json!({
            "artifact": name.to_string(),
            "version": got.artifact.version,
            "digest": got.artifact.digest,
            "folder": got.folder,
            "verified": true,
            "files": got.files.iter().map(file).collect::<Vec<_>>(),
        }));
    }
    Ok(Output { schema: "artifact-get/1", json: json!({"artifacts": list}), text })
}

async fn put(context: &Context<'_>, args: &args::Put) -> anyhow::Result<Output> {
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

async fn ls(context: &Context<'_>, args: &args::Ls) -> anyhow::Result<Output> {
    let table = match args.path.split('/').count() {
        3 => app::artifact::versions(&context.session, &artifact_name(&args.path)?).await?,
        _ => app::artifact::collections(&context.session, &args.path, args.kind.as_deref()).await?,
    };
    Ok(Output { schema: "artifact-ls/1", json: json!({"artifacts": objects(&table)}), text: columns(&table) })
}

async fn info(context: &Context<'_>, args: &args::Info) -> anyhow::Result<Output> {
    let (artifact, manifest) = app::artifact::describe(&context.session, &artifact_name(&args.artifact)?).await?;
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

fn artifact_name(text: &str) -> anyhow::Result<ArtifactName> {
    ArtifactName::parse(text).map_err(|error| UsageError(error.to_string()).into())
}
