//! `demo` and `serve`: the verbs that run the embedded server.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use wandb_pca::app::{self, AppError};
use wandb_pca::progress::Progress;
use wandb_pca::server::{Server, ServerOptions};

use super::compare::pairs_text;
use super::fit::fit_text;
use super::logged::{run_json, write_run};
use crate::cli::args;
use crate::cli::bars::line;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, columns};
use crate::cli::sources;

/// Layers in the demo's table.
const LAYERS_SHOWN: usize = 8;

pub(super) async fn demo(args: &args::Demo, progress: &Progress, json: bool) -> anyhow::Result<Option<Output>> {
    let started = Instant::now();
    let folder = data_folder(args)?;
    let server = app::demo::start_server(&folder).await?;
    let session = app::demo::session(&server, &folder, progress)?;
    let outcome = app::demo::demo(&session, &folder).await?;
    let downloaded: usize = outcome.fits.iter().map(|fit| fit.outcome.downloaded).sum();
    let mut text = String::new();
    for fit in &outcome.fits {
        writeln!(text, "{}", fit_text(&fit.outcome.fit, LAYERS_SHOWN)?)?;
    }
    writeln!(text, "{} artifacts on the server, {} of them new", outcome.artifacts, outcome.uploaded)?;
    writeln!(text, "{downloaded} files downloaded, every byte verified; the rest was in the store")?;
    for fit in &outcome.fits {
        writeln!(text, "fit     {}", fit.outcome.folder.display())?;
        write_run(&mut text, Some(&fit.logged))?;
    }
    writeln!(text, "{}", columns(&pairs_text(&outcome.comparison.comparison, args::GroupArg::Model)?))?;
    writeln!(text, "compare {}", outcome.comparison.folder.display())?;
    write_run(&mut text, Some(&outcome.compared))?;
    for file in &outcome.model.files {
        writeln!(text, "sample  {}", file.display())?;
    }
    write_run(&mut text, Some(&outcome.sample))?;
    writeln!(text, "done in {:.1} s\n", started.elapsed().as_secs_f64())?;
    let data = folder.join("server");
    writeln!(text, "next: serve these results again and look around")?;
    writeln!(text, "  wandb-pca serve --data {}", data.display())?;
    writeln!(text, "  wandb-pca artifact ls {}", app::demo::DEMO_PROJECT)?;
    writeln!(text, "  wandb-pca sample {} --count 3", outcome.fits[0].outcome.folder.display())?;
    let fit_json = |fit: &app::demo::DemoFit| {
        json!({
            "dataset": fit.dataset,
            "folder": fit.outcome.folder,
            "totals": fit.outcome.fit.record.totals,
            "run": run_json(Some(&fit.logged)),
        })
    };
    let value = json!({
        "data": folder,
        "uploaded": outcome.uploaded,
        "downloaded": downloaded,
        "fits": outcome.fits.iter().map(fit_json).collect::<Vec<_>>(),
        "comparison": {
            "folder": outcome.comparison.folder,
            "pairs": outcome.comparison.comparison.rows.pairs.iter().filter(|row| row.grouping == "model").collect::<Vec<_>>(),
            "run": run_json(Some(&outcome.compared)),
        },
        "sample": {"files": outcome.model.files, "run": run_json(Some(&outcome.sample))},
        "base_url": server.base_url(),
    });
    end(args, server, (Output { schema: "demo/1", json: value, text }, json)).await
}

/// Where the demo keeps everything.
pub(super) fn data_folder(args: &args::Demo) -> anyhow::Result<PathBuf> {
    let folder = args.data.clone().map_or_else(|| sources::data_dir().map(|dir| dir.join("demo")), Ok)?;
    Ok(std::path::absolute(folder)?)
}

/// Ends the server, once it was looked at where that is wanted.
pub(super) async fn end(
    args: &args::Demo,
    server: Server,
    (output, json): (Output, bool),
) -> anyhow::Result<Option<Output>> {
    let mut output = Some(output);
    if args.keep_serving {
        output.take().map_or(Ok(()), |output| output.print(json))?;
        announce(&server);
        server.wait().await;
    }
    server.shutdown().await.map_err(AppError::from)?;
    Ok(output)
}

pub(super) async fn serve(args: &args::Serve, json: bool) -> anyhow::Result<Option<Output>> {
    if !args.address.ip().is_loopback() && !args.allow_remote {
        let why = "the server speaks plain HTTP; add --allow-remote if a TLS proxy stands in front of it";
        return Err(UsageError(format!("{} is reached from other machines: {why}", args.address)).into());
    }
    let data = args.data.clone().map_or_else(|| sources::data_dir().map(|dir| dir.join("server")), Ok)?;
    let options = ServerOptions::new(&data)
        .with_address(args.address)
        .with_identity_token_file(args.identity_token_file.clone(), args.access_token_lifetime);
    let server = Server::start(options).await.map_err(AppError::from)?;
    if json {
        let value = json!({
            "base_url": server.base_url(),
            "api_key": server.api_key().expose(),
            "entity": server.entity(),
            "data": data,
        });
        Output { schema: "serve/1", json: value, text: String::new() }.print(true)?;
    } else {
        announce(&server);
    }
    server.wait().await;
    server.shutdown().await.map_err(AppError::from)?;
    Ok(None)
}

/// How to reach the server, ready to paste. The key goes to the terminal of whoever started it, as it is theirs.
fn announce(server: &Server) {
    line(&format!("serving {} for entity {}; Ctrl-C ends", server.base_url(), server.entity()));
    line(&format!("  export WANDB_BASE_URL={}", server.base_url()));
    line(&format!("  export WANDB_API_KEY={}", server.api_key().expose()));
}
