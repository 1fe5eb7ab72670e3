//! `artifact info`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wandb_pca::app::artifact::{self as artifacts, Description};
use wandb_pca::table::{ColumnKind, Table};
use wandb_pca::wandb::{Entry, Filter, Lineage, Maker};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, bytes_text, columns, counted, printable};

use super::located;

pub(super) async fn run(context: &Context<'_>, args: &args::Info) -> anyhow::Result<Output> {
    let filter = Filter::new(&args.files, &[]).map_err(|error| UsageError(error.to_string()))?;
    let found = artifacts::info(&context.session, &located(context, &args.artifact).await?).await?;
    let entries: Vec<_> = found.manifest.entries.iter().filter(|(path, _)| filter.wants(path)).collect();
    let mut text = heading(&found)?;
    let mut table = Table::new([
        ("path", ColumnKind::Text),
        ("size", ColumnKind::Integer),
        ("digest", ColumnKind::Text),
        ("stored", ColumnKind::Text),
        ("reference", ColumnKind::Text),
    ]);
    for (path, entry) in entries.iter().take(args.limit) {
        let stored = if found.presence.stored.contains(*path) { "yes" } else { "no" };
        let reference = entry.reference.clone();
        let digest = entry.digest.as_str();
        table.push(vec![path.as_str().into(), entry.size.into(), digest.into(), stored.into(), reference.into()])?;
    }
    write!(text, "\n{}", columns(&table))?;
    if let Some(more) = entries.len().checked_sub(args.limit).filter(|more| *more > 0) {
        writeln!(text, "… and {more} files more; --limit or --files shows others, --json all")?;
    }
    Ok(Output { schema: "artifact-info/2", json: as_json(&found, &entries), text })
}

fn as_json(found: &Description, entries: &[(&String, &Entry)]) -> Value {
    let artifact = &found.artifact;
    let entry = |(path, entry): &(&String, &Entry)| {
        json!({
            "path": path,
            "size": entry.size,
            "digest": entry.digest,
            "reference": entry.reference,
            "stored": found.presence.stored.contains(*path),
            "extra": entry.extra,
        })
    };
    json!({
        "artifact": artifact.name().to_string(),
        "source": artifact.source.to_string(),
        "id": artifact.id,
        "version": artifact.version,
        "type": artifact.artifact_type,
        "digest": artifact.digest,
        "digest_algorithm": found.manifest.algorithm.folder(),
        "size": artifact.size,
        "files": artifact.file_count,
        "aliases": artifact.aliases,
        "tags": artifact.tags,
        "description": artifact.description,
        "metadata": artifact.metadata,
        "created_at": artifact.created_at,
        "updated_at": artifact.updated_at,
        "ttl_seconds": artifact.ttl_seconds,
        "made_by": found.lineage.as_ref().and_then(|lineage| lineage.made_by.as_ref()).map(maker),
        "links": found.lineage.as_ref().map(links),
        "bytes_stored": found.presence.bytes_stored,
        "bytes_to_fetch": found.presence.bytes_to_fetch,
        "entries": entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn maker(maker: &Maker) -> Value {
    match maker {
        Maker::Run(run) => json!({"kind": "run", "run": run.path(), "name": run.display_name}),
        Maker::User(name) => json!({"kind": "user", "name": name}),
        _ => Value::Null,
    }
}

fn links(lineage: &Lineage) -> Vec<String> {
    lineage.links.iter().map(|place| place.name.to_string()).collect()
}

fn heading(found: &Description) -> anyhow::Result<String> {
    let artifact = &found.artifact;
    let made_by = match found.lineage.as_ref().and_then(|lineage| lineage.made_by.as_ref()) {
        Some(Maker::Run(run)) => format!("run {} ({})", run.path(), run.display_name.as_deref().unwrap_or("-")),
        Some(Maker::User(Some(name))) => name.clone(),
        _ => String::new(),
    };
    let source = Some(&artifact.source).filter(|source| **source != artifact.name());
    let presence = &found.presence;
    let lines = [
        ("type", artifact.artifact_type.clone()),
        ("link to", source.map(ToString::to_string).unwrap_or_default()),
        ("aliases", artifact.aliases.join(", ")),
        ("tags", artifact.tags.join(", ")),
        ("created", artifact.created_at.clone()),
        ("made by", made_by),
        ("links", found.lineage.as_ref().map(links).unwrap_or_default().join(", ")),
        ("kept", artifact.ttl_seconds.map(|ttl| format!("{} days", ttl.div_ceil(86_400))).unwrap_or_default()),
        ("digest", format!("{} ({})", artifact.digest, found.manifest.algorithm.folder())),
        ("size", format!("{} in {}", bytes_text(artifact.size), counted(artifact.file_count, "file", "files"))),
        (
            "store",
            format!("{} here, {} to fetch", bytes_text(presence.bytes_stored), bytes_text(presence.bytes_to_fetch)),
        ),
        ("about", artifact.description.clone().unwrap_or_default()),
    ];
    let mut text = format!("{}\n", artifact.name());
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(text, "  {name:8} {}", printable(value))?;
    }
    for (key, value) in &artifact.metadata {
        writeln!(text, "  {} = {}", printable(key), printable(&value.to_string()))?;
    }
    Ok(text)
}
