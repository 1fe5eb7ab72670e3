//! How a run that was logged is told.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wandb_pca::app::Logged;

use crate::cli::render::printable;

pub(super) fn run_json(logged: Option<&Logged>) -> Value {
    logged.map_or(Value::Null, |logged| json!({"path": logged.path, "url": logged.url, "artifacts": logged.artifacts}))
}

pub(super) fn write_run(text: &mut String, logged: Option<&Logged>) -> std::fmt::Result {
    let Some(logged) = logged else { return Ok(()) };
    writeln!(text, "run     {}", printable(&logged.url))?;
    logged.artifacts.iter().try_for_each(|artifact| writeln!(text, "logged  {}", printable(artifact)))
}
