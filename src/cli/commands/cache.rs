//! `cache …`.

use std::fmt::Write as _;
use std::time::SystemTime;

use globset::{Glob, GlobSet, GlobSetBuilder};
use jiff::Timestamp;
use serde_json::{Value, json};
use wandb_pca::app::{self, AppError, CachedObject, Corrupt, PruneMode};
use wandb_pca::store::{PruneRules, Removal, Removed, State, Usage};
use wandb_pca::table::{ColumnKind, Table};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::{DamageFound, PartlyDone, UsageError};
use crate::cli::render::{Output, bytes_text, columns, counted, printable};

pub(super) async fn dispatch(context: &Context<'_>, command: &args::Cache) -> anyhow::Result<Output> {
    match command {
        args::Cache::Info => info(context).await,
        args::Cache::Ls(args) => ls(context, args).await,
        args::Cache::Verify(args) => verify(context, args).await,
        args::Cache::Prune(args) => prune(context, args).await,
    }
}

async fn info(context: &Context<'_>) -> anyhow::Result<Output> {
    let info = app::cache_info(&context.session).await?;
    let folders = info.folders.iter().map(|(folder, usage)| (folder.display().to_string(), usage_json(*usage)));
    let json = json!({
        "root": info.root,
        "objects": usage_json(info.objects),
        "references": usage_json(info.references),
        "unverified": usage_json(info.unverified),
        "pinned": usage_json(info.pinned),
        "partials": usage_json(info.partials),
        "folders": folders.collect::<serde_json::Map<_, _>>(),
        "locks": info.locks,
        "unreadable_locks": info.unreadable_locks,
        "disk": info.space.map(|space| json!({"free": space.free, "total": space.total})),
    });
    let mut text = format!("{}\n", printable(&info.root.display().to_string()));
    let parts = [
        ("objects", info.objects),
        ("references", info.references),
        ("unverified", info.unverified),
        ("pinned", info.pinned),
        ("partial", info.partials),
    ];
    for (name, usage) in parts {
        writeln!(text, "  {name:10}  {:>7}  {:>10}", usage.files, bytes_text(usage.bytes))?;
    }
    if let Some(space) = info.space {
        writeln!(text, "  disk        {} free of {}", bytes_text(space.free), bytes_text(space.total))?;
    }
    for lock in &info.locks {
        writeln!(text, "  pinned by   {}", printable(&lock.display().to_string()))?;
    }
    for why in &info.unreadable_locks {
        writeln!(text, "  unreadable  {}", printable(why))?;
    }
    let mut table =
        Table::new([("folder", ColumnKind::Text), ("files", ColumnKind::Integer), ("size", ColumnKind::Text)]);
    for (folder, usage) in &info.folders {
        table.push(vec![folder.display().to_string().into(), usage.files.into(), bytes_text(usage.bytes).into()])?;
    }
    Ok(Output { schema: "cache-info/1", json, text: format!("{text}\n{}", columns(&table)) })
}

async fn ls(context: &Context<'_>, args: &args::CacheLs) -> anyhow::Result<Output> {
    let globs = globs(&args.globs)?;
    let wanted = |found: &CachedObject| {
        let own = found.object.name.to_string();
        let named = || found.names.iter().any(|name| globs.is_match(name)) || globs.is_match(&own);
        (globs.is_empty() || named())
            && (!args.pinned || !found.locks.is_empty())
            && (!args.unverified || found.object.state != State::Verified)
            && (!args.unnamed || found.names.is_empty())
    };
    let objects: Vec<CachedObject> = app::cache_list(&context.session).await?.into_iter().filter(wanted).collect();
    let mut table = Table::new([
        ("digest", ColumnKind::Text),
        ("size", ColumnKind::Text),
        ("last used", ColumnKind::Text),
        ("state", ColumnKind::Text),
        ("names", ColumnKind::Text),
    ]);
    for found in &objects {
        let pinned = if found.locks.is_empty() { "" } else { ", pinned" };
        let state = format!("{}{pinned}", found.object.state.name());
        table.push(vec![
            found.object.name.to_string().into(),
            bytes_text(found.object.size).into(),
            day(found.object.last_used).into(),
            state.into(),
            found.names.join(", ").into(),
        ])?;
    }
    let bytes: u64 = objects.iter().map(|found| found.object.size).sum();
    let json = json!({"objects": objects.iter().map(object_json).collect::<Vec<_>>(), "bytes": bytes});
    let text = format!("{}{}, {}\n", columns(&table), counted(objects.len(), "object", "objects"), bytes_text(bytes));
    Ok(Output { schema: "cache-ls/1", json, text })
}

async fn verify(context: &Context<'_>, args: &args::CacheVerify) -> anyhow::Result<Output> {
    let then = if args.remove { Corrupt::Remove } else { Corrupt::Leave };
    let found = app::cache_verify(&context.session, then).await?;
    let json = json!({
        "ok": usage_json(found.ok),
        "newly_verified": usage_json(found.newly_verified),
        "corrupt": found.corrupt.iter().map(object_json).collect::<Vec<_>>(),
        "removed": found.removed,
        "unproven": usage_json(found.unproven),
    });
    let mut text = String::new();
    for corrupt in &found.corrupt {
        let names = if corrupt.names.is_empty() { String::new() } else { format!("  {}", corrupt.names.join(", ")) };
        let what = if found.removed { "removed" } else { "corrupt" };
        let path = corrupt.object.path.display().to_string();
        writeln!(text, "{what}  {}{}", printable(&path), printable(&names))?;
    }
    let (ok, new) = (found.ok, found.newly_verified.files);
    let count = counted(ok.files, "object", "objects");
    writeln!(text, "{count} ok ({}), {new} of them not known before", bytes_text(ok.bytes))?;
    if found.unproven.files > 0 {
        writeln!(text, "{} of references, put there by others, with nothing to hold them to", found.unproven.files)?;
    }
    let output = Output { schema: "cache-verify/1", json, text };
    if found.corrupt.is_empty() {
        return Ok(output);
    }
    output.print(context.json)?;
    let count = counted(found.corrupt.len(), "corrupt object", "corrupt objects");
    Err(DamageFound(format!("the store has {count}")).into())
}

async fn prune(context: &Context<'_>, args: &args::CachePrune) -> anyhow::Result<Output> {
    let rules = PruneRules { max_size: args.max_size, older_than: args.older_than, partials: args.partials };
    let mode = if args.dry_run { PruneMode::DryRun } else { PruneMode::Remove };
    let (plan, pruned) = app::cache_prune(&context.session, rules, mode).await?;
    let (removed, in_use) = match &pruned {
        Some(pruned) => (pruned.removed.as_slice(), pruned.in_use.as_slice()),
        None => (plan.removals.as_slice(), [].as_slice()),
    };
    let freed: u64 = removed.iter().map(|removal| removal.size).sum();
    let left = plan.bytes_left + in_use.iter().map(|removal| removal.size).sum::<u64>();
    let json = json!({
        "dry_run": args.dry_run,
        "removed": removed.iter().map(removal_json).collect::<Vec<_>>(),
        "in_use": in_use.iter().map(removal_json).collect::<Vec<_>>(),
        "pinned": plan.pinned,
        "freed": freed,
        "left": left,
    });
    let mut text = String::new();
    for (what, removal) in removed.iter().map(|removal| ("", removal)).chain(in_use.iter().map(|r| ("in use, ", r))) {
        let path = printable(&removal.path.display().to_string());
        writeln!(text, "{what}{}  {}  {path}", removal.why.name(), bytes_text(removal.size))?;
    }
    let verb = if args.dry_run { "would be removed" } else { "removed" };
    let count = counted(removed.len(), "file", "files");
    writeln!(text, "{count} ({}) {verb}, {} left", bytes_text(freed), bytes_text(left))?;
    if plan.pinned > 0 {
        writeln!(text, "{} more are pinned by locks; `wandb-pca cache info` lists these", plan.pinned)?;
    }
    let output = Output { schema: "cache-prune/1", json, text };
    match args.max_size {
        Some(most) if left > most && !args.dry_run => {
            output.print(context.json)?;
            let why = format!("{} are pinned or in use, more than the {} wanted", bytes_text(left), bytes_text(most));
            Err(PartlyDone(why).into())
        }
        _ => Ok(output),
    }
}

fn globs(patterns: &[String]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in patterns {
        let bad = |source| AppError::Glob { glob: glob.clone(), source };
        set.add(Glob::new(glob).map_err(bad)?);
    }
    set.build().map_err(|error| UsageError(error.to_string()).into())
}

fn usage_json(usage: Usage) -> Value {
    json!({"files": usage.files, "bytes": usage.bytes})
}

fn object_json(found: &CachedObject) -> Value {
    json!({
        "digest": found.object.name.to_string(),
        "path": found.object.path,
        "size": found.object.size,
        "last_used": time(found.object.last_used),
        "verified": found.object.state == State::Verified,
        "state": found.object.state.name(),
        "names": found.names,
        "pinned_by": found.locks,
    })
}

fn removal_json(removal: &Removal) -> Value {
    let what = match removal.what {
        Removed::Object(_) => "object",
        _ => "leftover",
    };
    json!({"path": removal.path, "size": removal.size, "why": removal.why.name(), "what": what})
}

fn time(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn day(moment: SystemTime) -> Option<String> {
    Timestamp::try_from(moment).ok().map(|time| time.strftime("%Y-%m-%d").to_string())
}
