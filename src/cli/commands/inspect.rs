//! `inspect`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wandb_pca::app::{self, AppError, Input, Norms};

use super::located::input_text;
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::render::{Output, bytes_text, columns, objects, printable, verified_text};

pub(super) async fn inspect(context: &Context<'_>, args: &args::Inspect) -> anyhow::Result<Output> {
    if let Some(other) = &args.diff {
        return diff(context, args, other).await;
    }
    let mut options = app::InspectOptions::new(input(context, &args.input).await?);
    options.file = args.file.clone();
    options.key = args.key.clone();
    options.layer_globs = args.layers.clone();
    options.whole = args.whole;
    options.norms = match (args.norms, args.no_norms) {
        (true, _) => Norms::Always,
        (_, true) => Norms::Never,
        _ => Norms::Here,
    };
    let found = app::inspect(&context.session, options).await?;
    let mut text = columns(&found.tensors);
    for (name, reason) in &found.skipped {
        writeln!(text, "{}  not read: {}", printable(name), printable(reason))?;
    }
    let count = found.tensors.rows().len();
    writeln!(text, "{count} tensors, {} parameters, format {}", found.parameters, found.format)?;
    if let Some(artifact) = &found.artifact {
        writeln!(text, "{}: {}", printable(artifact), verified_text(found.verified))?;
    }
    if let Some(parts) = &found.parts {
        let (held, size) = (bytes_text(parts.present.bytes()), bytes_text(found.size));
        writeln!(text, "looked at {held} of {size}, {} fetched now", bytes_text(parts.fetched))?;
    }
    let parts = found.parts.as_ref().map(|parts| {
        json!({"present_bytes": parts.present.bytes(), "fetched_bytes": parts.fetched, "requests": parts.requests})
    });
    let skipped: Vec<Value> =
        found.skipped.iter().map(|(tensor, reason)| json!({"tensor": tensor, "reason": reason})).collect();
    let json = json!({
        "path": found.path,
        "artifact": found.artifact,
        "size": found.size,
        "parts": parts,
        "format": found.format.to_string(),
        "verified": found.verified,
        "parameters": found.parameters,
        "tensors": objects(&found.tensors),
        "skipped": skipped,
    });
    Ok(Output { schema: "inspect/2", json, text })
}

async fn input(context: &Context<'_>, text: &str) -> anyhow::Result<Input> {
    Ok(Input::parse(&input_text(context, text).await?).map_err(AppError::from)?)
}

async fn diff(context: &Context<'_>, args: &args::Inspect, other: &str) -> anyhow::Result<Output> {
    let (one, other) = (input(context, &args.input).await?, input(context, other).await?);
    let mut options = app::DiffOptions::new(one, other);
    options.file = args.file.clone();
    options.key = args.key.clone();
    let found = app::diff(&context.session, options).await?;
    let (equal, different) = (found.equal, found.different);
    let shown = found.differing()?;
    let list = if different == 0 { String::new() } else { columns(&shown) };
    let text = format!("{list}{different} tensors differ, {equal} are equal to the bit\n");
    let json = json!({"equal": equal, "different": different, "tensors": objects(&found.tensors)});
    Ok(Output { schema: "inspect-diff/1", json, text })
}
