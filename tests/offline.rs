//! Runs without a server, or with one that goes away: every row that `log` returned for is on the server exactly once after
//! a sync, whatever was killed, cut or repeated before.
//!
//! The kills are few by default. Many more:
//!
//! ```text
//! WANDB_PCA_KILLS=200 cargo test --test offline killed -- --nocapture
//! ```

#![cfg(feature = "server")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests, with helpers outside of test functions")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wandb_pca::progress::Progress;
use wandb_pca::redact::ApiKey;
use wandb_pca::server::{Server, ServerOptions};
use wandb_pca::table::{ColumnKind, Table};
use wandb_pca::wandb::{
    ArtifactDraft, Client, ClientOptions, Run, RunOptions, SyncOptions, Synced, WandbError, is_synced, runs_to_sync,
};

const PROJECT: &str = "vectors";

/// A way to a server that can be closed: connections break off and new ones are dropped.
#[derive(Clone)]
struct Gate {
    base: String,
    /// Bytes on the way to the server that are still let through; below zero all are.
    left: Arc<AtomicI64>,
    /// Grows when open connections are to break off.
    cut: Arc<watch::Sender<u64>>,
}

impl Gate {
    async fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let gate = Self { base, left: Arc::new(AtomicI64::new(-1)), cut: Arc::new(watch::channel(0).0) };
        let target: SocketAddr = server.base_url().trim_start_matches("http://").parse().unwrap();
        let own = gate.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(own.clone().pass(socket, target));
            }
        });
        gate
    }

    async fn pass(self, mut socket: TcpStream, target: SocketAddr) {
        let mut cut = self.cut.subscribe();
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        let (mut from_client, mut from_server) = (vec![0; 4096], vec![0; 4096]);
        loop {
            let sent = tokio::select! {
                read = socket.read(&mut from_client) => match read {
                    Ok(read) if read > 0 && self.admit(read) => server.write_all(&from_client[..read]).await,
                    _ => return,
                },
                read = server.read(&mut from_server) => match read {
                    Ok(read) if read > 0 => socket.write_all(&from_server[..read]).await,
                    _ => return,
                },
                _ = cut.changed() => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn admit(&self, bytes: usize) -> bool {
        let take = |left: i64| match left {
            ..0 => Some(left),
            0 => None,
            left => Some((left - bytes as i64).max(0)),
        };
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    fn open(&self) {
        self.left.store(-1, Ordering::SeqCst);
    }

    fn close(&self) {
        self.close_after(0);
    }

    /// Lets so many more bytes through.
    fn close_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
        self.cut.send_modify(|count| *count += 1);
    }
}

struct Site {
    server: Server,
    gate: Gate,
    root: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let server = Server::start(ServerOptions::new(root.path().join("data"))).await.unwrap();
        let gate = Gate::before(&server).await;
        Self { server, gate, root }
    }

    fn client(&self) -> Client {
        client(&self.gate.base, self.server.api_key())
    }

    fn options(&self) -> RunOptions {
        RunOptions::new(PROJECT).with_root(self.root.path()).with_display_name(Some("a run".to_owned()))
    }

    fn offline(&self) -> Run {
        Run::start_offline(self.options(), Progress::silent()).unwrap()
    }

    async fn data(&self, query: &str, variables: Value) -> Value {
        let url = format!("{}/graphql", self.server.base_url());
        let body = json!({ "query": query, "variables": variables, "operationName": "" });
        let request = reqwest::Client::new().post(url).basic_auth("api", Some(self.server.api_key().expose()));
        let answer: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"]["project"]["run"].clone()
    }

    async fn run(&self, id: &str) -> Value {
        let query = "query R($id: String!, $project: String) { project(name: $project) { run(name: $id) {
            state exitcode config summaryMetrics historyLineCount displayName group jobType tags notes
            history(minStep: 0, maxStep: 1000000, samples: 1000000)
            files(first: 100) { edges { node { name } } }
            outputArtifacts(first: 100) { edges { node { artifactSequence { name } } } }
            inputArtifacts(first: 100) { edges { node { artifactSequence { name } } } } } } }";
        self.data(query, json!({ "id": id, "project": PROJECT })).await
    }

    async fn delete(&self, id: &str) {
        let query = "query R($id: String!, $project: String) { project(name: $project) { run(name: $id) { id } } }";
        let run = self.data(query, json!({ "id": id, "project": PROJECT })).await;
        let query = "mutation D($id: ID!) { deleteRun(input: { id: $id }) { clientMutationId } }";
        self.data(query, json!({ "id": run["id"] })).await;
    }

    /// The values of `x` in the run's rows, and that there are no other rows.
    async fn xs(&self, id: &str) -> Vec<i64> {
        let run = self.run(id).await;
        let rows: Vec<Value> = run["history"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(run["historyLineCount"], rows.len());
        rows.iter().filter_map(|row| row["x"].as_i64()).collect()
    }

    async fn sync(&self, folder: &Path) -> Result<Synced, WandbError> {
        self.client().sync(folder, &SyncOptions::default()).await
    }

    fn folders(&self) -> Vec<PathBuf> {
        runs_to_sync(self.root.path()).unwrap()
    }
}

fn client(base: &str, key: &ApiKey) -> Client {
    let options = ClientOptions::new(base).with_api_key(Some(key.clone()));
    let options = options.with_timeouts(Duration::from_secs(5), Duration::from_secs(10));
    Client::new(options.with_retries(2, Duration::from_millis(5), Duration::from_millis(20))).unwrap()
}

fn text(value: &Value) -> Value {
    serde_json::from_str(value.as_str().unwrap()).unwrap()
}

fn names(connection: &Value, pick: impl Fn(&Value) -> &Value) -> Vec<String> {
    let edges = connection["edges"].as_array().unwrap();
    let mut names: Vec<String> = edges.iter().map(|edge| pick(&edge["node"]).as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn row(x: usize) -> Map<String, Value> {
    Map::from_iter([("x".to_owned(), json!(x)), ("half".to_owned(), json!(x as f64 / 2.0))])
}

async fn log(run: &Run, xs: std::ops::Range<usize>) {
    for x in xs {
        run.log(row(x)).await.unwrap();
    }
}

fn count(xs: std::ops::Range<i64>) -> Vec<i64> {
    xs.collect()
}

fn draft(bytes: &[u8]) -> ArtifactDraft {
    ArtifactDraft::new("model", "checkpoint").unwrap().with_file("weights", bytes.to_vec()).unwrap()
}

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
async fn a_server_that_is_down_at_the_start_loses_nothing() {
    let site = Site::new().await;
    site.gate.close();
    let run = site.client().start_run(site.options()).await.unwrap();
    assert!(!run.is_online());
    let id = run.id().to_owned();
    log(&run, 0..3).await;
    let Err(WandbError::NotSent { folder, source: Some(cause), .. }) = run.finish(0).await else { panic!() };
    assert!(cause.is_network(), "{cause:?}");
    assert!(folder.file_name().unwrap().to_str().unwrap().starts_with("offline-run-"));
    assert!(matches!(site.sync(&folder).await, Err(error) if error.is_network()));
    assert!(!is_synced(&folder).unwrap());
    site.gate.open();
    site.sync(&folder).await.unwrap();
    assert_eq!(site.xs(&id).await, count(0..3));
    assert_eq!(site.run(&id).await["state"], "finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_in_the_middle_loses_nothing() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    let id = run.id().to_owned();
    log(&run, 0..3).await;
    // Waits until it is on the server, rows before it or not.
    run.log_artifact(&draft(b"1")).await.unwrap();
    site.gate.close();
    log(&run, 3..6).await;
    run.upload_file("notes.txt", b"n".to_vec()).await.unwrap();
    assert_eq!(run.spool_artifact(&draft(b"2")).await.unwrap(), None, "it is kept, not refused");
    assert_eq!(run.spool_artifact(&draft(b"3")).await.unwrap(), None);
    log(&run, 6..8).await;
    let Err(WandbError::NotSent { folder, .. }) = run.finish(0).await else { panic!() };
    assert_eq!(site.folders(), std::slice::from_ref(&folder));
    site.gate.open();
    let synced = site.sync(&folder).await.unwrap();
    assert_eq!((synced.rows, synced.errands), (8, 3), "the first artifact was there");
    assert_eq!(site.xs(&id).await, count(0..8));
    let found = site.run(&id).await;
    assert_eq!(found["outputArtifacts"]["edges"].as_array().unwrap().len(), 3);
    assert!(names(&found["files"], |file| &file["name"]).contains(&"notes.txt".to_owned()));
    assert_eq!(found["state"], "finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_back_at_the_end_gets_everything() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    let id = run.id().to_owned();
    site.gate.close();
    log(&run, 0..4).await;
    assert_eq!(run.spool_artifact(&draft(b"1")).await.unwrap(), None);
    site.gate.open();
    run.finish(0).await.unwrap();
    assert_eq!(site.xs(&id).await, count(0..4));
    assert_eq!(site.run(&id).await["outputArtifacts"]["edges"].as_array().unwrap().len(), 1);
    assert!(site.folders().is_empty());
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
        let options = RunOptions::new(PROJECT).with_root(root);
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
