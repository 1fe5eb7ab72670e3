//! `sync`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wandb_pca::app::{self, AppError, SyncFolder, SyncRequest, SyncState};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::{DamageFound, PartlyDone, UsageError};
use crate::cli::render::{Output, printable};

pub(super) async fn sync(context: &Context<'_>, args: &args::Sync) -> anyhow::Result<Output> {
    let mut request = SyncRequest::default();
    request.folders.clone_from(&args.folders);
    // Only what was typed: the log knows better than the environment where its run belongs.
    [request.options.entity, request.options.project] = context.typed.clone();
    request.options.id.clone_from(&args.id);
    request.options.again = args.include_synced;
    let mut found = app::runs_to_send(&context.session, &request)?;
    if args.id.is_some() && found.len() > 1 {
        return Err(UsageError(format!("--id names one run, and there are {} logs", found.len())).into());
    }
    if !args.dry_run {
        app::sync(&context.session, &request, &mut found).await?;
        if args.clean {
            app::clean(&mut found)?;
        }
    }
    let output = output(context, &found)?;
    let failed = found.iter().filter(|item| matches!(item.state, SyncState::Failed(_))).count();
    let damaged = found.iter().filter(|item| item.is_damaged()).count();
    // The one thing that was asked for went wrong: that is the error.
    if found.len() == 1
        && let Some(SyncFolder { state: SyncState::Failed(error), folder, .. }) = found.pop()
    {
        return Err(AppError::Wandb { action: format!("sync {}", folder.display()), source: error }.into());
    }
    if failed + damaged == 0 {
        return Ok(output);
    }
    output.print(context.json)?;
    Err(match failed {
        0 => DamageFound(format!("{damaged} logs are damaged; what could be read of them was sent")).into(),
        failed => PartlyDone(format!("{failed} of {} runs were not sent", output_count(&output))).into(),
    })
}

fn output_count(output: &Output) -> usize {
    output.json["runs"].as_array().map_or(0, Vec::len)
}

fn output(context: &Context<'_>, found: &[SyncFolder]) -> anyhow::Result<Output> {
    let mut text = String::new();
    let mut runs = Vec::with_capacity(found.len());
    for item in found {
        let folder = printable(&item.folder.display().to_string());
        let (state, detail) = match &item.state {
            SyncState::Waiting => ("would be sent", Value::Null),
            SyncState::Before => ("synced before", Value::Null),
            SyncState::Failed(error) => ("not sent", json!(app::explain_wandb(error))),
            SyncState::Sent(synced) => {
                let url = context.session.run_url([&synced.entity, &synced.project, &synced.run]);
                (
                    "sent",
                    json!({
                        "path": format!("{}/{}/{}", synced.entity, synced.project, synced.run),
                        "url": url, "rows": synced.rows, "torn": synced.torn, "too_long": synced.too_long,
                        "damages": synced.damages.iter().map(|(at, reason)| json!({ "at": at, "reason": reason })).collect::<Vec<_>>(),
                    }),
                )
            }
        };
        writeln!(text, "{state:<13}  {folder}{}", if item.removed { " (removed)" } else { "" })?;
        match &item.state {
            SyncState::Sent(synced) => {
                writeln!(text, "  {} rows  {}", synced.rows, printable(detail["url"].as_str().unwrap_or_default()))?;
                if synced.torn {
                    writeln!(text, "  its program was stopped while it wrote the last record, which was left out")?;
                }
                if synced.too_long > 0 {
                    writeln!(text, "  {} lines are longer than W&B takes and were left out", synced.too_long)?;
                }
                for (at, reason) in &synced.damages {
                    writeln!(text, "  damaged at byte {at}: {reason}; what stood there is lost")?;
                }
            }
            SyncState::Failed(_) => writeln!(text, "  {}", printable(detail.as_str().unwrap_or_default()))?,
            SyncState::Waiting | SyncState::Before => {}
        }
        runs.push(json!({ "folder": item.folder, "state": state.replace(' ', "_"), "removed": item.removed, "detail": detail }));
    }
    if found.is_empty() {
        writeln!(text, "nothing to send")?;
    }
    Ok(Output { schema: "sync/1", json: json!({ "runs": runs }), text })
}
