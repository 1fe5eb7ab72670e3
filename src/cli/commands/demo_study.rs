//! `demo --study`.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::json;
use wandb_pca::app::demo::{demo_study, session, start_server};

use super::demo::{data_folder, end};
use super::study::worker;
use super::study_outcome::{as_json, text, unfinished};
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::PartlyDone;
use crate::cli::render::{Output, counted, printable};

pub(super) async fn demo(context: &Context<'_>, args: &args::Demo) -> anyhow::Result<Option<Output>> {
    let started = Instant::now();
    let folder = data_folder(args)?;
    let server = start_server(&folder).await?;
    let session = session(&server, &folder, &context.session.progress)?;
    let made = demo_study(&session, &folder, worker(context.environment)).await?;
    let mut said = text(server.base_url(), &made.study, &made.outcome)?;
    let of_user = |path: &std::path::Path| printable(&path.display().to_string());
    let (file, results) = (of_user(&made.file), of_user(&made.study.folder));
    writeln!(said, "study   {file}")?;
    let artifacts = counted(made.artifacts, "artifact", "artifacts");
    writeln!(said, "{artifacts} on the server, {} of them new", made.uploaded)?;
    writeln!(said, "done in {:.1} s\n", started.elapsed().as_secs_f64())?;
    let data = of_user(&folder);
    let again =
        "run it again, and it finds everything done; or write `seeds: 0..5` in the study file first: one seed more";
    writeln!(said, "next: {again}\nis made up, and only its rows are computed")?;
    writeln!(said, "  wandb-pca demo --study --data {data}")?;
    writeln!(said, "how far it is, asking nobody")?;
    writeln!(said, "  wandb-pca study status {file} --out {results}")?;
    writeln!(said, "serve these results again, paste the two lines that it prints, and go on by hand")?;
    writeln!(said, "  wandb-pca serve --data {}", of_user(&folder.join("server")))?;
    writeln!(said, "  wandb-pca study plan {file} --out {results}")?;
    writeln!(said, "  wandb-pca sweep create {file}")?;
    let mut value = as_json(&made.study, &made.outcome);
    value["data"] = json!(folder);
    value["file"] = json!(made.file);
    value["uploaded"] = json!(made.uploaded);
    value["artifacts"] = json!(made.artifacts);
    value["base_url"] = json!(server.base_url());
    let output = Output { schema: "demo-study/1", json: value, text: said };
    let Some(why) = unfinished(&made.outcome) else { return end(args, server, (output, context.json)).await };
    output.print(context.json)?;
    server.shutdown().await.map_err(wandb_pca::app::AppError::from)?;
    Err(PartlyDone(why).into())
}
