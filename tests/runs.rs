//! What a run logs besides rows and artifacts, and what it hears, against the embedded server: charts, media, tables, the
//! machine, the console, alerts; going on with a run, stopping, a finish that is bounded.

#![cfg(feature = "server")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests, with helpers outside of test functions"
)]

#[path = "support/site.rs"]
mod site;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use site::{Site, client, text};
use wandb_pca::progress::{Event, Progress, Watch};
use wandb_pca::table::{ColumnKind, Table};
use wandb_pca::wandb::{
    AlertLevel, Chart, ChartDefinition, ConsoleStream, Histogram, Image, Resume, Run, RunOptions, SyncOptions,
    WandbError,
};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn files(run: &Value) -> Vec<&str> {
    run["files"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["name"].as_str().unwrap()).collect()
}

fn points() -> Table {
    let mut table = Table::new([("x", ColumnKind::Integer), ("y", ColumnKind::Number)]);
    table.push(vec![1u64.into(), 0.5.into()]).unwrap();
    table
}

fn pixel() -> Image {
    Image::png(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x03".to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_and_media_are_there() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    let definition = |name: &str| ChartDefinition {
        name: name.to_owned(),
        title: "T".to_owned(),
        specification: r#"{"mark":"bar"}"#.to_owned(),
    };
    let ids = run.define_charts(&[definition("one"), definition("two")]).await.unwrap();
    assert_eq!(ids[0].as_deref(), Some(format!("{}/one", run.entity()).as_str()));
    // Another process finds them made.
    let other = client(site.server.base_url(), site.server.api_key()).start_run(site.options()).await.unwrap();
    assert_eq!(other.define_charts(&[definition("one")]).await.unwrap(), ids[..1]);
    other.finish(0).await.unwrap();
    run.log_chart("plot", &points(), &Chart::scatter("x", "y").with_title("T")).await.unwrap();
    let error = run.log_chart("plot", &points(), &Chart::scatter("x", "z")).await.unwrap_err();
    assert!(matches!(error, WandbError::Option { option: "chart", .. }), "{error:?}");
    run.log_image("image", &pixel().with_caption("c")).await.unwrap();
    run.log_images("images", &[pixel(), pixel()]).await.unwrap();
    assert!(run.log_images("images", &[]).await.is_err());
    run.log_html("page", "<p>").await.unwrap();
    run.log_histogram("spread", &Histogram::of(&[0.0, 1.0], 2).unwrap()).await.unwrap();
    let id = run.id().to_owned();
    run.finish(0).await.unwrap();
    let there = site.run(&id).await;
    let panel = &text(&there["config"])["_wandb"]["value"]["visualize"]["plot"]["panel_config"];
    assert_eq!(panel["panelDefId"], "wandb/scatter/v0");
    assert_eq!(panel["userQuery"]["queryFields"][0]["fields"][3]["args"][0]["value"], "plot_table");
    let summary = text(&there["summaryMetrics"]);
    assert_eq!((&summary["plot_table"]["_type"], summary.get("plot")), (&json!("table-file"), None));
    assert_eq!((&summary["image"]["width"], &summary["image"]["caption"]), (&json!(2), &json!("c")));
    assert_eq!((&summary["images"]["count"], summary["images"].get("captions")), (&json!(2), None));
    assert_eq!(summary["spread"]["values"], json!([1, 1]));
    let files = files(&there);
    for value in [&summary["image"]["path"], &summary["images"]["filenames"][0], &summary["page"]["path"]] {
        assert!(files.contains(&value.as_str().unwrap()), "{value} in {files:?}");
    }
    assert!(summary["image"]["path"].as_str().unwrap().starts_with("media/images/image_1_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_what_made_it_and_what_it_says() {
    let site = Site::new().await;
    let options = site.options().with_origin(Some("program".to_owned()), Some("machine".to_owned()));
    let run = site.client().start_run(options).await.unwrap();
    run.console(ConsoleStream::Output, "said").unwrap();
    run.console(ConsoleStream::Error, "complained").unwrap();
    for _ in 0..2 {
        run.alert("title", "text", AlertLevel::Warning).await.unwrap();
    }
    let id = run.id().to_owned();
    run.finish(0).await.unwrap();
    let there = site.run(&id).await;
    let own = &text(&there["config"])["_wandb"]["value"];
    let environment = own["e"].as_object().unwrap().values().next().unwrap();
    assert_eq!((&environment["program"], &environment["host"]), (&json!("program"), &json!("machine")));
    assert!(environment["cpu_count_logical"].as_u64() >= Some(1) && environment["args"].is_null());
    assert!(own["t"]["12"].as_str().unwrap().starts_with("wandb-pca/"));
    assert_eq!(there["logLineCount"], 2);
    assert!(["wandb-metadata.json", "output.log"].iter().all(|file| files(&there).contains(file)));
    assert_eq!(site.rows("SELECT program, host FROM run"), [("program".to_owned(), "machine".to_owned())]);
    let alerts = site.rows("SELECT title, severity FROM alert");
    assert_eq!(alerts, [("title".to_owned(), "WARN".to_owned())], "the same title is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on() {
    let site = Site::new().await;
    let options =
        |resume, config| site.options().with_id(Some("abc".to_owned())).with_resume(resume).with_config(config);
    let must = site.client().start_run(options(Resume::Must, Map::new())).await.unwrap_err();
    assert!(must.is_not_found(), "{must:?}");
    let first = site.client().start_run(options(Resume::Allow, object(json!({ "a": 1, "b": 1 })))).await.unwrap();
    assert!(!first.is_resumed());
    first.log(object(json!({ "x": 1, "odd": 0.5 }))).await.unwrap();
    first.log_chart("plot", &points(), &Chart::scatter("x", "y")).await.unwrap();
    first.console(ConsoleStream::Output, "one").unwrap();
    first.finish(0).await.unwrap();
    let never = site.client().start_run(options(Resume::Never, Map::new())).await.unwrap_err();
    assert!(matches!(never, WandbError::RunExists { .. }), "{never:?}");
    let second = site.client().start_run(options(Resume::Must, object(json!({ "b": 2 })))).await.unwrap();
    assert_eq!((second.is_resumed(), second.step()), (true, 2));
    second.log(object(json!({ "x": 2 }))).await.unwrap();
    second.console(ConsoleStream::Output, "two").unwrap();
    second.finish(0).await.unwrap();
    let there = site.run("abc").await;
    let rows: Vec<Value> = there["history"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(rows.iter().map(|row| row["_step"].as_i64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(rows[2]["_runtime"].as_f64() >= rows[1]["_runtime"].as_f64().map(f64::floor));
    let (config, summary) = (text(&there["config"]), text(&there["summaryMetrics"]));
    assert_eq!((&config["a"]["value"], &config["b"]["value"]), (&json!(1), &json!(2)));
    assert!(config["_wandb"]["value"]["visualize"]["plot"].is_object());
    assert_eq!((&summary["x"], &summary["odd"]), (&json!(2), &json!(0.5)));
    let said = site.lines("abc", "output");
    assert!(said.len() == 2 && said[0].ends_with(" one") && said[1].ends_with(" two"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_request_is_heard() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    assert!(run.check_stop().is_ok());
    site.stop(run.id()).await;
    run.log(object(json!({ "x": 1 }))).await.unwrap();
    for _ in 0..200 {
        if run.stop_requested() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(matches!(run.check_stop(), Err(WandbError::Stopped { .. })));
    let id = run.id().to_owned();
    run.finish(255).await.unwrap();
    let there = site.run(&id).await;
    assert_eq!((&there["state"], &there["exitcode"]), (&json!("killed"), &json!(255.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_request_is_heard_while_nothing_is_logged() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    assert_eq!(run.unless_stopped(async { 7 }).await.unwrap(), 7);
    site.stop(run.id()).await;
    let work = run.unless_stopped(std::future::pending::<()>());
    let heard = tokio::time::timeout(Duration::from_secs(20), work).await.unwrap();
    assert!(matches!(heard, Err(WandbError::Stopped { .. })));
    let id = run.id().to_owned();
    run.finish(Run::STOPPED).await.unwrap();
    assert_eq!(site.run(&id).await["state"], "killed");
    // What goes on with it is not meant.
    let options = site.options().with_id(Some(id.clone())).with_resume(Resume::Must);
    site.client().start_run(options).await.unwrap().finish(1).await.unwrap();
    assert_eq!(site.run(&id).await["state"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_that_is_dropped_fails_the_run_and_keeps_nobody_waiting() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    run.log(object(json!({ "x": 1 }))).await.unwrap();
    let (id, folder) = (run.id().to_owned(), run.folder().to_owned());
    drop(run);
    tokio::time::timeout(Duration::from_secs(20), async {
        while folder.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let there = site.run(&id).await;
    assert_eq!(
        (&there["state"], &there["exitcode"], &there["historyLineCount"]),
        (&json!("failed"), &json!(1.0), &json!(1))
    );

    // Where no server can be told, its log is kept, to be sent as what it is.
    let run = site.client().start_run(site.options()).await.unwrap();
    run.log(object(json!({ "x": 1 }))).await.unwrap();
    let (id, folder) = (run.id().to_owned(), run.folder().to_owned());
    site.gate.close();
    drop(run);
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.gate.open();
    assert!(folder.exists());
    site.sync(&folder).await.unwrap();
    assert_eq!(site.run(&id).await["state"], "failed");

    // A runtime that ends does not wait for it, either.
    let (base, key, root) = (site.gate.base.clone(), site.server.api_key().clone(), site.root.path().to_owned());
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = RunOptions::new("vectors").with_root(root);
        drop(runtime.block_on(client(&base, &key).start_run(options)).unwrap());
        let started = std::time::Instant::now();
        drop(runtime);
        started.elapsed()
    });
    assert!(tokio::task::spawn_blocking(|| ended.join().unwrap()).await.unwrap() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_deleted_while_it_logs_loses_nothing() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    let id = run.id().to_owned();
    site::log(&run, 0..3).await;
    run.log_artifact(&site::draft(b"1")).await.unwrap();
    // From now on the file stream answers 404.
    site.delete(&id).await;
    site::log(&run, 3..5).await;
    let error = run.finish(0).await.unwrap_err();
    let WandbError::NotSent { folder, source: Some(source), .. } = error else { panic!("{error:?}") };
    assert!(source.is_not_found(), "{source:?}");
    site.sync(&folder).await.unwrap();
    assert_eq!(site.xs(&id).await, site::count(0..5));
    let there = site.run(&id).await;
    assert_eq!((&there["state"], there["outputArtifacts"]["edges"].as_array().unwrap().len()), (&json!("finished"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_server_takes_is_refused_and_the_next_one_stands_in_its_place() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    let id = run.id().to_owned();
    let huge = object(json!({ "x": 0, "text": "x".repeat(11 << 20) }));
    let error = run.log(huge).await.unwrap_err();
    assert!(matches!(error, WandbError::Option { option: "row", .. }), "{error:?}");
    assert_eq!(run.step(), 0);
    // Together they are more than one request carries.
    for x in 0..3 {
        run.log(object(json!({ "x": x, "text": "x".repeat(6 << 20) }))).await.unwrap();
    }
    run.finish(0).await.unwrap();
    assert_eq!(site.xs(&id).await, site::count(0..3));
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Watch for Notes {
    fn on_event(&self, event: Event<'_>) {
        if let Event::Note { message } = event {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_too_long_comes_in_parts_and_says_so() {
    let site = Site::new().await;
    let notes = Arc::new(Notes::default());
    let watcher: Arc<dyn Watch> = Arc::<Notes>::clone(&notes);
    let run = Run::start_offline(site.options(), Progress::new(watcher)).unwrap();
    let folder = run.folder().to_owned();
    let mut table = Table::new([("n", ColumnKind::Integer)]);
    (0..200_001u64).for_each(|n| table.push(vec![n.into()]).unwrap());
    run.log_table("long", &table).await.unwrap();
    run.finish(0).await.unwrap();
    let notes = notes.0.lock().unwrap().join("\n");
    assert!(notes.contains("200000 of its 200001 rows") && notes.contains("long to long-part2"), "{notes}");
    assert!(notes.contains("the first 10000 rows"), "{notes}");
    let synced = site.sync(&folder).await.unwrap();
    let there = site.run(&synced.run).await;
    let summary = text(&there["summaryMetrics"]);
    let rows = ["long", "long-part2"].map(|key| summary[key]["nrows"].as_u64().unwrap());
    assert_eq!((rows, there["outputArtifacts"]["edges"].as_array().unwrap().len()), ([200_000, 1], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn finishing_has_an_end() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options().with_finish_limit(Duration::ZERO)).await.unwrap();
    run.log(object(json!({ "x": 1 }))).await.unwrap();
    let error = run.finish(0).await.unwrap_err();
    let WandbError::NotSent { folder, source: Some(source), .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, WandbError::Timeout { .. }), "{source:?}");
    let synced = site.client().sync(&folder, &SyncOptions::default()).await.unwrap();
    assert_eq!(synced.rows, 1);
    assert_eq!(site.run(&synced.run).await["state"], "finished");
}
