//! `artifact verify`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wandb_pca::app::artifact::{self as artifacts, Against, Checked, FileState};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::DamageFound;
use crate::cli::render::{Output, printable};

use super::located;

pub(super) async fn run(context: &Context<'_>, args: &args::Verify) -> anyhow::Result<Output> {
    let against = match (&args.root, args.store) {
        (Some(root), _) => Against::Folder(root.clone()),
        (None, true) => Against::Store,
        (None, false) => Against::Default,
    };
    let found = artifacts::verify(&context.session, &located(context, &args.artifact).await?, &against).await?;
    let words = ["ok", "missing", "corrupt", "unverifiable", "extra", "reference"];
    let count = |word: &str| found.count(|state| told(state).0 == word);
    let counts: Vec<_> = words.iter().map(|word| (*word, count(word))).filter(|(_, count)| *count > 0).collect();
    let summary = counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ");
    let summary = if summary.is_empty() { "no files".to_owned() } else { summary };
    let place = printable(&found.place.display().to_string());
    let mut text = String::new();
    for file in found.files.iter().filter(|file| file.state != FileState::Ok) {
        let (word, detail) = told(&file.state);
        let detail = detail.map(|detail| format!(" ({})", printable(detail))).unwrap_or_default();
        writeln!(text, "{word:12} {}{detail}", printable(&file.path))?;
    }
    writeln!(text, "{} in {place}: {summary}", found.artifact.name())?;
    let strict = |file: &Checked| file.state == FileState::Ok;
    let holds = if args.strict { found.files.iter().all(strict) } else { found.holds() };
    let json = json!({
        "artifact": found.artifact.name().to_string(),
        "digest": found.artifact.digest,
        "place": found.place,
        "verified": holds,
        "counts": words.iter().map(|word| ((*word).to_owned(), count(word).into())).collect::<serde_json::Map<_, Value>>(),
        "files": found.files.iter().map(as_json).collect::<Vec<_>>(),
    });
    let output = Output { schema: "artifact-verify/1", json, text };
    if holds {
        return Ok(output);
    }
    output.print(context.json)?;
    let place = found.place.display();
    Err(DamageFound(format!("{} is not what its manifest says: {summary} in {place}", found.artifact.name())).into())
}

fn as_json(file: &Checked) -> Value {
    let (state, detail) = told(&file.state);
    json!({"path": file.path, "size": file.size, "state": state, "detail": detail})
}

fn told(state: &FileState) -> (&'static str, Option<&str>) {
    match state {
        FileState::Ok => ("ok", None),
        FileState::Missing => ("missing", None),
        FileState::Extra => ("extra", None),
        FileState::Corrupt { found } => ("corrupt", Some(found)),
        FileState::Unverifiable { reason } => ("unverifiable", Some(reason)),
        FileState::Reference => ("reference", None),
        _ => ("unverifiable", None),
    }
}
