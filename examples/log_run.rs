//! Logs runs with the library: what the interop tests compare with the official SDK, and an example of every kind of value.
//!
//! ```text
//! log_run media PROJECT        a run with charts, images, pages, histograms and tables
//! log_run job PROJECT          a small job of everything, as test_sdk_wire.py has it for the official SDK
//! log_run resume PROJECT ID    goes on with a run for three rows
//! log_run until-stop PROJECT   logs until somebody stops the run, and ends as stopped
//! log_run offline PROJECT ID DIR   logs below DIR alone, as going on with a run, and refers to the folder DIR/data
//! ```
//!
//! The server and its key come from WANDB_BASE_URL and WANDB_API_KEY. Prints the run's path as soon as it is there, or its
//! folder.
#![allow(clippy::print_stdout, reason = "what it prints is its result")]

use std::error::Error;
use std::time::Duration;

use serde_json::{Map, Value, json};
use wandb_pca::progress::Progress;
use wandb_pca::redact::ApiKey;
use wandb_pca::table::{ColumnKind, Table};
use wandb_pca::wandb::{
    AlertLevel, ArtifactDraft, Chart, Checksum, Client, ClientOptions, ConsoleStream, Histogram, Image, Resume, Run,
    RunOptions,
};

/// A picture of one red pixel.
const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\x0cIDATx\x9cc\xf8\xcf\xc0\0\0\x03\x01\x01\0\xc9\xfe\x92\xef\0\0\0\0IEND\xaeB`\x82";

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let server = std::env::var("WANDB_BASE_URL")?;
    let key = ApiKey::parse(&std::env::var("WANDB_API_KEY")?)?;
    let client = Client::new(ClientOptions::new(server).with_api_key(Some(key)))?;
    let folder = tempfile::tempdir()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = |project: &str| RunOptions::new(project).with_root(folder.path());
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["media", project] => media(start(&client, options(project)).await?).await,
        ["job", project] => {
            let config = object(json!({ "lr": 0.5, "layers": [1, 2], "nested": { "name": "x" } }));
            let options = options(project).with_config(config).with_tags(vec!["small".to_owned()]);
            let options = options
                .with_id(Some("wire0001".to_owned()))
                .with_display_name(Some("job".to_owned()))
                .with_group(Some("jobs".to_owned()));
            job(start(&client, options.with_job_type(Some("pca".to_owned()))).await?).await
        }
        ["resume", project, id] => {
            let options = options(project).with_id(Some((*id).to_owned())).with_resume(Resume::Must);
            let options = options.with_config(object(json!({ "second": true })));
            let run = start(&client, options).await?;
            for x in 0..3 {
                run.log(object(json!({ "x": x }))).await?;
            }
            run.console(ConsoleStream::Output, "again")?;
            Ok(run.finish(0).await?)
        }
        ["until-stop", project] => {
            let run = start(&client, options(project)).await?;
            for _ in 0..600 {
                if run.stop_requested() {
                    return Ok(run.finish(255).await?);
                }
                run.log(object(json!({ "x": 1 }))).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err("nobody stopped it".into())
        }
        ["offline", project, id, dir] => {
            let options = options(project).with_root(*dir).with_id(Some((*id).to_owned()));
            let run = Run::start_offline(options.with_resume(Resume::Allow), Progress::silent())?;
            println!("{}", run.folder().display());
            offline(run, dir).await
        }
        _ => Err("usage: log_run media|job|until-stop PROJECT, resume PROJECT ID, offline PROJECT ID DIR".into()),
    }
}

async fn offline(run: Run, dir: &str) -> Outcome {
    for x in 0..2 {
        run.log(object(json!({ "x": x }))).await?;
        run.console(ConsoleStream::Output, &format!("said {x}"))?;
    }
    let draft = ArtifactDraft::new("referring", "dataset")?.with_file("own.txt", b"own".to_vec())?;
    let draft = draft.with_reference("data", format!("file://{dir}/data"), Checksum::Compute)?;
    let draft = draft.with_reference("far.csv", "https://example.org/far.csv", Checksum::Skip)?;
    run.spool_artifact(&draft).await?;
    Ok(run.finish(0).await?)
}

async fn start(client: &Client, options: RunOptions) -> Result<Run, Box<dyn Error>> {
    let run = client.start_run(options).await?;
    println!("{}", run.path());
    Ok(run)
}

async fn media(run: Run) -> Outcome {
    let mut table = Table::new([("x", ColumnKind::Integer), ("y", ColumnKind::Number), ("name", ColumnKind::Text)]);
    for x in 0..4u64 {
        table.push(vec![x.into(), (x as f64 / 2.0).into(), format!("line {}", x % 2).into()])?;
    }
    for (key, chart) in [
        ("charts/line", Chart::line("x", "y", Some("name"))),
        ("charts/bar", Chart::bar("name", "y")),
        ("charts/scatter", Chart::scatter("x", "y")),
        ("charts/series", Chart::line_series("x", "name", "y").with_text("xname", "place")),
    ] {
        run.log_chart(key, &table, &chart.with_title(key)).await?;
    }
    let image = Image::png(PIXEL)?;
    run.log_image("images/one", &image.clone().with_caption("a pixel")).await?;
    run.log_images("images/list", &[image.clone().with_caption("first"), image]).await?;
    run.log_html("page", "<b>bold</b>").await?;
    run.log_histogram("spread", &Histogram::of(&[0.0, 1.0, 1.0, 2.0], 4).ok_or("no values")?).await?;
    run.log_table("typed", &typed()?).await?;
    let mut long = Table::new([("row", ColumnKind::Integer)]);
    for row in 0..200_001u64 {
        long.push(vec![row.into()])?;
    }
    run.log_table("long", &long).await?;
    for (stream, line) in [(ConsoleStream::Output, "said"), (ConsoleStream::Error, "complained")] {
        run.console(stream, line)?;
    }
    run.alert("title", "text", AlertLevel::Warning).await?;
    Ok(run.finish(0).await?)
}

/// Every kind of column.
fn typed() -> Result<Table, Box<dyn Error>> {
    let mut table = Table::new([
        ("text", ColumnKind::Text),
        ("number", ColumnKind::Number),
        ("truth", ColumnKind::Boolean),
        ("nested", ColumnKind::Nested),
        ("mixed", ColumnKind::Mixed),
    ]);
    let rows = json!([
        ["a", 0.5, true, { "list": [1, 2], "name": "n" }, 1],
        [null, null, null, null, "two"],
        ["ü", 2, false, [["deep"], null], [3]],
    ]);
    for row in rows.as_array().into_iter().flatten() {
        table.push(row.as_array().into_iter().flatten().cloned().map(Into::into).collect())?;
    }
    Ok(table)
}

async fn job(run: Run) -> Outcome {
    for (loss, nested) in [(1.0, 0), (0.5, 1), (0.25, 2)] {
        run.log(object(json!({ "loss": loss, "nested": { "x": nested }, "text": "ü" }))).await?;
    }
    let mut table = Table::new([("x", ColumnKind::Integer), ("y", ColumnKind::Number)]);
    table.push(vec![1u64.into(), 4.75.into()])?;
    table.push(vec![3u64.into(), None::<f64>.into()])?;
    run.log_table("table", &table).await?;
    run.log_image("image", &Image::png(PIXEL)?.with_caption("a pixel")).await?;
    let draft = ArtifactDraft::new("weights", "checkpoint")?.with_description("of the job");
    let draft = draft.with_file("weights.bin", b"weights".to_vec())?;
    run.log_artifact(&draft.with_metadata(object(json!({ "seed": 1 })))?).await?;
    run.set_summary(object(json!({ "best": 3 }))).await?;
    Ok(run.finish(0).await?)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
