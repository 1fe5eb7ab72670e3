//! How a run that was logged is told.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wandb_pca::app::{AppError, Logged};

use crate::cli::context::Context;
use crate::cli::exit::{PartlyDone, message};
use crate::cli::render::{Output, printable};

pub(super) fn run_json(logged: Option<&Logged>) -> Value {
    logged.map_or(Value::Null, |logged| {
        json!({
            "path": logged.path,
            "url": logged.url,
            "artifacts": logged.artifacts,
            "folder": logged.unsent.as_ref().map(|unsent| &unsent.folder),
        })
    })
}

/// An alert that could not be sent is told here, and changes nothing else.
pub(super) fn note_untold(context: &Context<'_>, told: Result<(), AppError>) {
    if let Err(error) = told {
        context.session.progress.note(&message(&error.into()));
    }
}

pub(super) fn write_run(text: &mut String, logged: Option<&Logged>) -> std::fmt::Result {
    let Some(logged) = logged else { return Ok(()) };
    if let Some(url) = &logged.url {
        writeln!(text, "run     {}", printable(url))?;
    }
    logged.artifacts.iter().try_for_each(|artifact| writeln!(text, "logged  {}", printable(artifact)))?;
    if let Some(unsent) = &logged.unsent {
        let folder = printable(&unsent.folder.display().to_string());
        writeln!(text, "run     {folder}\n        wandb-pca sync sends it to the server")?;
    }
    Ok(())
}

/// The output; where a run that was meant for the server did not get there, it is printed here and the command ends as
/// partly done.
pub(super) fn told(output: Output, logged: Option<&Logged>, as_json: bool) -> anyhow::Result<Output> {
    let unsent = logged.and_then(|logged| logged.unsent.as_ref());
    let Some((unsent, reason)) = unsent.and_then(|unsent| Some((unsent, unsent.reason.as_ref()?))) else {
        return Ok(output);
    };
    output.print(as_json)?;
    let folder = unsent.folder.display();
    Err(PartlyDone(format!("{reason}; `wandb-pca sync {folder}` sends what is left")).into())
}
