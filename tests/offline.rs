//! Runs without a server, sent later: every row that `log` returned for is on the server exactly once after a sync, whatever
//! was killed, cut or repeated before.
//!
//! The kills are few by default. Many more:
//!
//! ```text
//! WANDB_PCA_KILLS=200 cargo test --test offline killed -- --nocapture
//! ```

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

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};
use site::{PROJECT, Site, client, count, draft, log, names, row, text};
use wandb_pca::progress::Progress;
use wandb_pca::redact::ApiKey;
use wandb_pca::table::{ColumnKind, Table};
use wandb_pca::wandb::{
    ArtifactDraft, ConsoleStream, Resume, Run, RunOptions, SyncOptions, WandbError, is_synced, runs_to_sync,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_server_is_all_there_after_a_sync() {
    let site = Site::new().await;
    let input = site.client().start_run(site.options()).await.unwrap();
    let used =
        input.log_artifact(&ArtifactDraft::new("in", "checkpoint").unwrap().with_file("a", vec![1]).unwrap()).await;
    let used = used.unwrap();
    input.finish(0).await.unwrap();
    assert!(site.folders().is_empty(), "what reached the server leaves nothing behind");

    let config = Map::from_iter([("lr".to_owned(), json!(0.25)), ("gone".to_owned(), json!(1))]);
    let options = site.options().with_config(config).with_tags(vec!["t".to_owned()]).with_notes(Some("n".to_owned()));
    let options = options.with_group(Some("g".to_owned())).with_job_type(Some("j".to_owned()));
    let run = Run::start_offline(options, Progress::silent()).unwrap();
    let (id, folder) = (run.id().to_owned(), run.folder().to_owned());
    assert!(!run.is_online());
    log(&run, 0..5).await;
    run.set_config(&Map::from_iter([("lr".to_owned(), json!(0.5))])).await.unwrap();
    run.set_summary(Map::from_iter([("best".to_owned(), json!(7))])).await.unwrap();
    let mut table = Table::new([("layer", ColumnKind::Text), ("variance", ColumnKind::Number)]);
    table.push(vec!["conv1".into(), 0.5.into()]).unwrap();
    run.log_table("layers", &table).await.unwrap();
    run.upload_file("report.html", b"<p>".to_vec()).await.unwrap();
    assert_eq!(run.spool_artifact(&draft(b"1")).await.unwrap(), None);
    assert!(matches!(run.log_artifact(&draft(b"2")).await, Err(WandbError::NotSent { .. })));
    run.use_version(&used.name()).await.unwrap();
    assert!(matches!(site.sync(&folder).await, Err(WandbError::Busy { .. })), "it is still written to");
    run.finish(3).await.unwrap();

    assert_eq!(site.folders(), std::slice::from_ref(&folder));
    let synced = site.sync(&folder).await.unwrap();
    assert_eq!((synced.rows, synced.torn, synced.damages.len(), synced.run.as_str()), (6, false, 0, id.as_str()));
    assert!(is_synced(&folder).unwrap());
    let found = site.run(&id).await;
    assert_eq!((&found["state"], found["exitcode"].as_f64()), (&json!("failed"), Some(3.0)));
    assert_eq!(found["displayName"], "a run");
    assert_eq!((&found["group"], &found["jobType"], &found["notes"]), (&json!("g"), &json!("j"), &json!("n")));
    assert_eq!(found["tags"], json!(["t"]));
    let config = text(&found["config"]);
    assert_eq!((&config["lr"]["value"], config.get("gone")), (&json!(0.5), None));
    let summary = text(&found["summaryMetrics"]);
    assert_eq!((&summary["x"], &summary["best"], &summary["_step"]), (&json!(4), &json!(7), &json!(5)));
    assert_eq!((&summary["layers"]["_type"], &summary["layers"]["nrows"]), (&json!("table-file"), &json!(1)));
    assert!(summary["_wandb"]["runtime"].is_u64());
    assert_eq!(site.xs(&id).await, count(0..5).as_slice()[..5]);
    let files = names(&found["files"], |file| &file["name"]);
    for file in ["report.html", "config.yaml", "wandb-summary.json"] {
        assert!(files.contains(&file.to_owned()), "{file} of {files:?}");
    }
    let artifact = |node: &Value| node["artifactSequence"]["name"].clone();
    let of = |connection: &Value| {
        let edges = connection["edges"].as_array().unwrap();
        let mut names: Vec<String> =
            edges.iter().map(|edge| artifact(&edge["node"]).as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(of(&found["outputArtifacts"]), ["model".to_owned(), "model".to_owned(), format!("run-{id}-layers")]);
    assert_eq!(of(&found["inputArtifacts"]), ["in"]);

    // Again, and again with everything sent anew: nothing changes.
    for again in [false, true] {
        let mut options = SyncOptions::default();
        options.again = again;
        site.client().sync(&folder, &options).await.unwrap();
        let same = site.run(&id).await;
        for key in ["history", "summaryMetrics", "config", "state", "files", "outputArtifacts", "inputArtifacts"] {
            assert_eq!(same[key], found[key], "{key}");
        }
    }
    // A run that is deleted there comes back whole.
    site.delete(&id).await;
    site.sync(&folder).await.unwrap();
    let same = site.run(&id).await;
    for key in ["history", "summaryMetrics", "config", "state"] {
        assert_eq!(same[key], found[key], "{key}");
    }
    // Under another name it is another run.
    let mut options = SyncOptions::default();
    options.id = Some("copy0001".to_owned());
    site.client().sync(&folder, &options).await.unwrap();
    assert_eq!(site.xs("copy0001").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_cut_anywhere_goes_on() {
    let site = Site::new().await;
    let run = site.offline();
    let (id, folder) = (run.id().to_owned(), run.folder().to_owned());
    for part in 0..4 {
        log(&run, part * 3..part * 3 + 3).await;
        run.spool_artifact(&draft(&[part as u8])).await.unwrap();
        run.upload_file(&format!("file-{part}"), vec![1]).await.unwrap();
    }
    run.finish(0).await.unwrap();
    // A little more gets through each time.
    let mut cuts = 0;
    while let Err(error) = {
        site.gate.close_after(cuts * 1500);
        site.sync(&folder).await
    } {
        assert!(error.is_network(), "{error:?}");
        assert!(!is_synced(&folder).unwrap());
        cuts += 1;
    }
    assert!(cuts > 5, "{cuts} cuts");
    site.gate.open();
    assert_eq!(site.xs(&id).await, count(0..12));
    let found = site.run(&id).await;
    assert_eq!(found["outputArtifacts"]["edges"].as_array().unwrap().len(), 4);
    assert_eq!(found["state"], "finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_another_client_sent_are_recognised() {
    let site = Site::new().await;
    let run = site.offline();
    let (id, folder) = (run.id().to_owned(), run.folder().to_owned());
    log(&run, 0..5).await;
    run.finish(0).await.unwrap();
    site.sync(&folder).await.unwrap();
    // As after the official client's sync: rows are there, and nothing beside the log says who sent them.
    let forget = |folder: &Path| {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "sent" || ending == "synced") {
                std::fs::remove_file(path).unwrap();
            }
        }
    };
    forget(&folder);
    site.sync(&folder).await.unwrap();
    assert_eq!(site.xs(&id).await, count(0..5));
    // Another log of the same run goes behind it, once.
    let more = Run::start_offline(site.options().with_id(Some(id.clone())), Progress::silent()).unwrap();
    let second = more.folder().to_owned();
    log(&more, 5..7).await;
    more.finish(0).await.unwrap();
    for _ in 0..2 {
        site.sync(&second).await.unwrap();
        let run = site.run(&id).await;
        assert_eq!(run["historyLineCount"], 7);
    }
}

/// What a run printed, without the times, by the lines on the server.
fn printed(site: &Site, id: &str) -> Vec<String> {
    let lines = site.lines(id, "output");
    lines.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

async fn steps(site: &Site, id: &str) -> Vec<i64> {
    let rows = site.lines(id, "history");
    rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["_step"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_run_stand_one_behind_the_other() {
    let site = Site::new().await;
    for (id, resume) in [("asked", Resume::Allow), ("unasked", Resume::Unasked)] {
        let session = async |xs: std::ops::Range<usize>| {
            let config = Map::from_iter([(format!("from {}", xs.start), json!(1))]);
            let options = site.options().with_id(Some(id.to_owned())).with_resume(resume).with_config(config);
            let run = Run::start_offline(options, Progress::silent()).unwrap();
            let folder = run.folder().to_owned();
            for x in xs {
                run.log(row(x)).await.unwrap();
                run.console(ConsoleStream::Output, &format!("said {x}")).unwrap();
            }
            run.finish(0).await.unwrap();
            folder
        };
        let (first, second) = (session(0..3).await, session(3..5).await);
        for folder in [&first, &first, &second, &second] {
            site.sync(folder).await.unwrap();
        }
        let mut xs = site.xs(id).await;
        xs.sort_unstable();
        assert_eq!(xs, count(0..5));
        let said = |xs: std::ops::Range<usize>| xs.map(|x| format!("said {x}")).collect::<Vec<_>>();
        assert_eq!(printed(&site, id), said(0..5), "{id}");
        let there = site.run(id).await;
        let (config, summary) = (text(&there["config"]), text(&there["summaryMetrics"]));
        if resume == Resume::Unasked {
            assert_eq!(steps(&site, id).await, [0, 1, 2, 0, 1], "as the official client has it");
            continue;
        }
        // One that asked to go on goes on in everything.
        assert_eq!(steps(&site, id).await, [0, 1, 2, 3, 4]);
        assert_eq!((&config["from 0"]["value"], &config["from 3"]["value"]), (&json!(1), &json!(1)));
        assert_eq!((&summary["_step"], &summary["x"]), (&json!(4), &json!(4)));
        let mut options = SyncOptions::default();
        options.again = true;
        site.client().sync(&second, &options).await.unwrap();
        assert_eq!((steps(&site, id).await, printed(&site, id)), (vec![0, 1, 2, 3, 4], said(0..5)));
        // And so does one with a server.
        let options = site.options().with_id(Some(id.to_owned())).with_resume(resume);
        let third = site.client().start_run(options).await.unwrap();
        assert_eq!((third.is_resumed(), third.step()), (true, 5));
        third.log(row(5)).await.unwrap();
        third.console(ConsoleStream::Output, "said 5").unwrap();
        third.finish(0).await.unwrap();
        assert_eq!((steps(&site, id).await, printed(&site, id)), (vec![0, 1, 2, 3, 4, 5], said(0..6)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_log_gives_what_is_whole() {
    let site = Site::new().await;
    let run = site.offline();
    let folder = run.folder().to_owned();
    log(&run, 0..6).await;
    run.finish(0).await.unwrap();
    let log = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let log = log.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "wandb")).unwrap();
    let whole = std::fs::read(&log).unwrap();
    for (at, cut) in (0..12).map(|part| whole.len() * part / 12).enumerate() {
        let torn = site.root.path().join(format!("torn-{at}"));
        std::fs::create_dir(&torn).unwrap();
        std::fs::write(torn.join("run-torn.wandb"), &whole[..cut]).unwrap();
        let mut options = SyncOptions::default();
        options.id = Some(format!("torn{at}"));
        match site.client().sync(&torn, &options).await {
            Err(WandbError::Log { .. }) => assert!(at < 4, "cut at {cut} of {}", whole.len()),
            synced => {
                let synced = synced.unwrap();
                let xs = site.xs(&synced.run).await;
                assert_eq!(xs, count(0..synced.rows as i64));
                assert!(synced.damages.is_empty());
                assert_eq!(site.run(&synced.run).await["state"], "failed", "nobody knows how it ended");
            }
        }
    }
    // A damaged place costs what it held, is said, and keeps the mark away.
    let damaged = site.root.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    let mut bytes = whole.clone();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(damaged.join("run-damaged.wandb"), bytes).unwrap();
    let mut options = SyncOptions::default();
    options.id = Some("damaged".to_owned());
    let synced = site.client().sync(&damaged, &options).await.unwrap();
    assert_eq!((synced.rows, synced.damages.len()), (6, 1));
    assert!(!is_synced(&damaged).unwrap());
}

/// How many times the tests that kill do so.
fn kills() -> usize {
    std::env::var("WANDB_PCA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// This test binary again, running one of the children below.
fn child(name: &str, environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Reads what a child says until `enough` rows are logged, kills it, and returns how many rows were logged.
fn kill_after(mut child: Child, enough: usize) -> usize {
    let mut rows = 0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref().map_while(Result::ok) {
        // The first one stands behind what the test harness says.
        if let Some((_, number)) = line.split_once("logged ") {
            rows = number.parse::<usize>().unwrap() + 1;
            if rows == enough {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    rows
}

#[test]
#[ignore = "a child that the tests below start and kill"]
fn child_that_logs() {
    let Ok(root) = std::env::var("CHILD_ROOT") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let id = std::env::var("CHILD_ID").ok();
        let resume = if id.is_some() { Resume::Allow } else { Resume::Unasked };
        let options = RunOptions::new(PROJECT).with_root(root).with_id(id).with_resume(resume);
        let run = match std::env::var("CHILD_SERVER") {
            Ok(base) => {
                let key = ApiKey::parse(&std::env::var("CHILD_KEY").unwrap()).unwrap();
                client(&base, &key).start_run(options).await.unwrap()
            }
            Err(_) => Run::start_offline(options, Progress::silent()).unwrap(),
        };
        for x in 0.. {
            run.log(row(x)).await.unwrap();
            // What the parent has read was logged.
            println!("logged {x}");
            if x % 50 == 10 {
                run.upload_file(&format!("file-{x}"), vec![1; 10]).await.unwrap();
            }
        }
    });
}

#[test]
#[ignore = "a child that the tests below start and kill"]
fn child_that_syncs() {
    let Ok(folder) = std::env::var("CHILD_FOLDER") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let key = ApiKey::parse(&std::env::var("CHILD_KEY").unwrap()).unwrap();
    let client = client(&std::env::var("CHILD_SERVER").unwrap(), &key);
    runtime.block_on(client.sync(Path::new(&folder), &SyncOptions::default())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_logs_every_row_arrives_once() {
    let site = Site::new().await;
    for number in 0..kills() {
        let root = site.root.path().join(format!("kill-{number}"));
        std::fs::create_dir(&root).unwrap();
        let mut environment = vec![("CHILD_ROOT", root.to_str().unwrap())];
        if number % 2 == 1 {
            environment
                .extend([("CHILD_SERVER", site.server.base_url()), ("CHILD_KEY", site.server.api_key().expose())]);
        }
        let child = child("child_that_logs", &environment);
        let enough = 1 + number * 37 % 400;
        let logged = tokio::task::spawn_blocking(move || kill_after(child, enough)).await.unwrap();
        assert!(logged >= enough, "{logged}");
        let folders = runs_to_sync(&root).unwrap();
        assert_eq!(folders.len(), 1, "kill {number}");
        for _ in 0..2 {
            let synced = site.sync(&folders[0]).await.unwrap();
            let xs = site.xs(&synced.run).await;
            // A row may be on disk whose `log` did not return any more.
            assert!(xs.len() >= logged && xs == count(0..xs.len() as i64), "kill {number}: {} of {logged}", xs.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_gone_on_with_every_row_arrives_once() {
    let site = Site::new().await;
    let root = site.root.path().join("killed");
    std::fs::create_dir(&root).unwrap();
    let server = [("CHILD_SERVER", site.server.base_url()), ("CHILD_KEY", site.server.api_key().expose())];
    let mut logged = Vec::new();
    for online in [true, false, true] {
        let mut environment = vec![("CHILD_ROOT", root.to_str().unwrap()), ("CHILD_ID", "again")];
        environment.extend(server.iter().filter(|_| online));
        let child = child("child_that_logs", &environment);
        logged.push(tokio::task::spawn_blocking(move || kill_after(child, 30)).await.unwrap() as i64);
    }
    // Whoever goes on sends what the killed ones left, first.
    let options = site.options().with_root(&root).with_id(Some("again".to_owned())).with_resume(Resume::Must);
    let run = site.client().start_run(options).await.unwrap();
    run.log(row(1_000_000)).await.unwrap();
    run.finish(0).await.unwrap();
    let steps = steps(&site, "again").await;
    assert_eq!(steps, count(0..steps.len() as i64));
    let xs = site.xs("again").await;
    let starts: Vec<usize> = (0..xs.len()).filter(|&at| xs[at] == 0).collect();
    assert_eq!((starts.len(), xs[xs.len() - 1]), (3, 1_000_000), "{xs:?}");
    for (at, (&start, logged)) in starts.iter().zip(&logged).enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(xs.len() - 1);
        let own = &xs[start..end];
        assert!(own.len() as i64 >= *logged && own == count(0..own.len() as i64), "session {at}: {} rows", own.len());
    }
    assert_eq!(site.run("again").await["state"], "finished");
    // The folder of the one that was offline stays, marked; nothing is to be sent.
    let left = runs_to_sync(&root).unwrap();
    assert!(left.iter().all(|folder| is_synced(folder).unwrap()), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_syncs_every_row_arrives_once() {
    let site = Site::new().await;
    let run = site.offline();
    let (id, folder) = (run.id().to_owned(), run.folder().to_owned());
    for part in 0..20 {
        log(&run, part * 10..part * 10 + 10).await;
        run.upload_file(&format!("file-{part}"), vec![1]).await.unwrap();
        run.spool_artifact(&draft(&[part as u8])).await.unwrap();
    }
    run.finish(0).await.unwrap();
    for number in 0..kills() {
        let key = site.server.api_key().expose().to_owned();
        let environment =
            [("CHILD_FOLDER", folder.to_str().unwrap()), ("CHILD_SERVER", site.server.base_url()), ("CHILD_KEY", &key)];
        let mut child = child("child_that_syncs", &environment);
        tokio::time::sleep(Duration::from_millis(20 + 60 * (number as u64 % 12))).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    site.sync(&folder).await.unwrap();
    assert_eq!(site.xs(&id).await, count(0..200));
    let found = site.run(&id).await;
    assert_eq!(found["outputArtifacts"]["edges"].as_array().unwrap().len(), 20);
    assert_eq!(found["state"], "finished");
}
