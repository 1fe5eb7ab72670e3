//! `artifact rm`.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use serde_json::{Value, json};
use wandb_pca::app::AppError;
use wandb_pca::app::artifact::{
    self as artifacts, AliasRule, Fate, KeepReason, Planned, Removal, RemovalRules, Selection,
};

use crate::cli::args;
use crate::cli::bars;
use crate::cli::context::Context;
use crate::cli::exit::{PartlyDone, UsageError};
use crate::cli::render::{Output, bytes_text, printable};

use super::located;

pub(super) async fn run(context: &Context<'_>, args: &args::Rm) -> anyhow::Result<Output> {
    let (selection, rules) = request(context, args).await?;
    let planned = artifacts::select(&context.session, &selection, &rules).await?;
    if let Some(refused) = refusal(&planned) {
        return Err(UsageError(refused).into());
    }
    let text = plan_text(&planned)?;
    if args.dry_run || !planned.iter().any(|planned| planned.fate.goes()) {
        return Ok(Output { schema: "artifact-rm/1", json: as_json(&planned, &[], args.dry_run), text });
    }
    if !args.yes {
        agree(&text)?;
    }
    let done = artifacts::remove(&context.session, &planned, rules.aliases).await?;
    outcome(context, &planned, done)
}

async fn request(context: &Context<'_>, args: &args::Rm) -> anyhow::Result<(Selection, RemovalRules)> {
    let selection = match &args.collection {
        Some(_) if args.older_than.is_none() && args.keep_last.is_none() => {
            let reason = "--collection needs --older-than or --keep-last; --keep-last 0 means every version";
            return Err(UsageError(reason.to_owned()).into());
        }
        Some(name) => Selection::Collection(located(context, name).await?),
        None => {
            let mut names = Vec::with_capacity(args.artifacts.len());
            for text in &args.artifacts {
                names.push(located(context, text).await?);
            }
            Selection::Names(names)
        }
    };
    let mut rules = RemovalRules::default();
    rules.older_than = args.older_than;
    rules.keep_last = args.keep_last.unwrap_or(0);
    rules.aliases = match (args.keep_aliases, args.delete_aliases) {
        (true, _) => AliasRule::Keep,
        (_, true) => AliasRule::Delete,
        _ => AliasRule::Refuse,
    };
    Ok((selection, rules))
}

/// Versions with aliases stop everything until somebody says what is to happen to them.
fn refusal(planned: &[Planned]) -> Option<String> {
    let refused: Vec<_> = planned.iter().filter(|planned| planned.fate == Fate::Refuse).collect();
    let first = &refused.first()?.artifact;
    let more = if refused.len() > 1 { format!(", and {} more have some", refused.len() - 1) } else { String::new() };
    Some(format!(
        "{} has aliases ({}){more}; --delete-aliases removes them too, --keep-aliases keeps the version; nothing was removed",
        first.name(),
        first.aliases.join(", ")
    ))
}

fn plan_text(planned: &[Planned]) -> anyhow::Result<String> {
    let mut text = String::new();
    for Planned { artifact, fate, .. } in planned {
        let aliases =
            if artifact.aliases.is_empty() { String::new() } else { format!(" [{}]", artifact.aliases.join(", ")) };
        let name = printable(&format!("{}{aliases}", artifact.name()));
        writeln!(
            text,
            "{:7} {name}, {}, {}{}",
            word(*fate),
            bytes_text(artifact.size),
            artifact.created_at,
            why(*fate)
        )?;
    }
    let going = planned.iter().filter(|planned| planned.fate.goes());
    let (count, size) =
        going.fold((0, 0u64), |(count, size), going| (count + 1, size.saturating_add(going.artifact.size)));
    writeln!(text, "{count} of {} go, {}", planned.len(), bytes_text(size))?;
    Ok(text)
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Delete => "delete",
        Fate::Unlink => "unlink",
        _ => "keep",
    }
}

fn why(fate: Fate) -> &'static str {
    match fate {
        Fate::Keep(KeepReason::Newest) => ": among the newest",
        Fate::Keep(KeepReason::Young) => ": too young",
        Fate::Keep(KeepReason::Aliases) => ": has aliases",
        _ => "",
    }
}

/// Asks on the terminal; where there is none, nobody can agree.
fn agree(plan: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(UsageError("nothing was removed: say --yes, or --dry-run to see what would go".to_owned()).into());
    }
    bars::line(&format!("{plan}Remove? [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    anyhow::bail!("nothing was removed")
}

fn outcome(context: &Context<'_>, planned: &[Planned], done: Vec<Removal>) -> anyhow::Result<Output> {
    let mut text = String::new();
    for removal in &done {
        match &removal.failure {
            None => writeln!(text, "removed {}", printable(&removal.artifact.name().to_string()))?,
            Some(failure) => writeln!(text, "failed  {}", printable(&failure.to_string()))?,
        }
    }
    let json = as_json(planned, &done, false);
    let output = Output { schema: "artifact-rm/1", json, text };
    let (all, failed) = (done.len(), done.iter().filter(|removal| removal.failure.is_some()).count());
    let Some((artifact, source)) = done.into_iter().find_map(|removal| Some((removal.artifact, removal.failure?)))
    else {
        return Ok(output);
    };
    if failed == all {
        return Err(AppError::Wandb { action: format!("remove {}", artifact.name()), source }.into());
    }
    output.print(context.json)?;
    let message = format!("{failed} of {all} could not be removed, {} first: {source}", artifact.name());
    Err(PartlyDone(message).into())
}

fn as_json(planned: &[Planned], done: &[Removal], dry_run: bool) -> Value {
    let became = |planned: &Planned| {
        let removal = done.iter().find(|removal| removal.artifact.name() == planned.artifact.name())?;
        Some(
            removal
                .failure
                .as_ref()
                .map_or(json!({"removed": true}), |failure| json!({"removed": false, "error": failure.to_string()})),
        )
    };
    let version = |planned: &Planned| {
        let mut version = json!({
            "artifact": planned.artifact.name().to_string(),
            "action": word(planned.fate),
            "reason": Some(why(planned.fate).trim_start_matches(": ")).filter(|reason| !reason.is_empty()),
            "aliases": planned.artifact.aliases,
            "size": planned.artifact.size,
            "created_at": planned.artifact.created_at,
            "removed": false,
        });
        if let (Some(version), Some(Value::Object(became))) = (version.as_object_mut(), became(planned)) {
            version.extend(became);
        }
        version
    };
    json!({"dry_run": dry_run, "versions": planned.iter().map(version).collect::<Vec<_>>()})
}
