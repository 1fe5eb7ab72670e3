//! The embedded server in this process, behind a gate that can be closed, and what tests ask it about runs.
#![allow(dead_code, reason = "each test uses its part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use wandb_pca::wandb::{
    ArtifactDraft, Client, ClientOptions, Run, RunOptions, SyncOptions, Synced, WandbError, runs_to_sync,
};

pub const PROJECT: &str = "vectors";

/// A way to a server that can be closed: connections break off and new ones are dropped.
#[derive(Clone)]
pub struct Gate {
    pub base: String,
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

    pub fn open(&self) {
        self.left.store(-1, Ordering::SeqCst);
    }

    pub fn close(&self) {
        self.close_after(0);
    }

    /// Lets so many more bytes through.
    pub fn close_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
        self.cut.send_modify(|count| *count += 1);
    }
}

pub struct Site {
    pub server: Server,
    pub gate: Gate,
    pub root: tempfile::TempDir,
}

impl Site {
    pub async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let server = Server::start(ServerOptions::new(root.path().join("data"))).await.unwrap();
        let gate = Gate::before(&server).await;
        Self { server, gate, root }
    }

    pub fn client(&self) -> Client {
        client(&self.gate.base, self.server.api_key())
    }

    pub fn options(&self) -> RunOptions {
        RunOptions::new(PROJECT).with_root(self.root.path()).with_display_name(Some("a run".to_owned()))
    }

    pub fn offline(&self) -> Run {
        Run::start_offline(self.options(), Progress::silent()).unwrap()
    }

    /// The data of a request's answer.
    pub async fn ask(&self, query: &str, variables: Value) -> Value {
        let url = format!("{}/graphql", self.server.base_url());
        let body = json!({ "query": query, "variables": variables, "operationName": "" });
        let request = reqwest::Client::new().post(url).basic_auth("api", Some(self.server.api_key().expose()));
        let answer: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].clone()
    }

    pub async fn run(&self, id: &str) -> Value {
        let query = "query R($id: String!, $project: String) { project(name: $project) { run(name: $id) {
            id state exitcode config summaryMetrics displayName group jobType tags notes
            historyLineCount eventsLineCount logLineCount
            history(minStep: 0, maxStep: 1000000, samples: 1000000)
            files(first: 100) { edges { node { name } } }
            outputArtifacts(first: 100) { edges { node { artifactSequence { name } } } }
            inputArtifacts(first: 100) { edges { node { artifactSequence { name } } } } } } }";
        self.ask(query, json!({ "id": id, "project": PROJECT })).await["project"]["run"].clone()
    }

    pub async fn delete(&self, id: &str) {
        let query = "mutation D($id: ID!) { deleteRun(input: { id: $id }) { clientMutationId } }";
        self.ask(query, json!({ "id": self.run(id).await["id"] })).await;
    }

    pub async fn stop(&self, id: &str) {
        let query = "mutation S($id: ID!) { stopRun(input: { id: $id }) { success } }";
        self.ask(query, json!({ "id": self.run(id).await["id"] })).await;
    }

    /// The server's own rows for a statement of two columns.
    pub fn rows(&self, sql: &str) -> Vec<(String, String)> {
        let db = rusqlite::Connection::open(self.root.path().join("data/server.db")).unwrap();
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// The lines of a run's stream (`history`, `events` or `output`) on the server, in order.
    pub fn lines(&self, id: &str, stream: &str) -> Vec<String> {
        let sql = format!(
            "SELECT line || '', content FROM run_line JOIN run ON run.id = run_id
             WHERE run.name = '{id}' AND stream = '{stream}' ORDER BY line"
        );
        let rows = self.rows(&sql);
        for (at, (number, _)) in rows.iter().enumerate() {
            assert_eq!(number, &at.to_string(), "no line of {stream} is left out");
        }
        rows.into_iter().map(|(_, content)| content).collect()
    }

    /// The values of `x` in the run's rows, and that there are no other rows.
    pub async fn xs(&self, id: &str) -> Vec<i64> {
        let run = self.run(id).await;
        let rows: Vec<Value> = run["history"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(run["historyLineCount"], rows.len());
        rows.iter().filter_map(|row| row["x"].as_i64()).collect()
    }

    pub async fn sync(&self, folder: &Path) -> Result<Synced, WandbError> {
        self.client().sync(folder, &SyncOptions::default()).await
    }

    pub fn folders(&self) -> Vec<PathBuf> {
        runs_to_sync(self.root.path()).unwrap()
    }
}

pub fn client(base: &str, key: &ApiKey) -> Client {
    let options = ClientOptions::new(base).with_api_key(Some(key.clone()));
    let options = options.with_timeouts(Duration::from_secs(5), Duration::from_secs(10));
    Client::new(options.with_retries(2, Duration::from_millis(5), Duration::from_millis(20))).unwrap()
}

pub fn text(value: &Value) -> Value {
    serde_json::from_str(value.as_str().unwrap()).unwrap()
}

pub fn names(connection: &Value, pick: impl Fn(&Value) -> &Value) -> Vec<String> {
    let edges = connection["edges"].as_array().unwrap();
    let mut names: Vec<String> = edges.iter().map(|edge| pick(&edge["node"]).as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

pub fn row(x: usize) -> Map<String, Value> {
    Map::from_iter([("x".to_owned(), json!(x)), ("half".to_owned(), json!(x as f64 / 2.0))])
}

pub async fn log(run: &Run, xs: std::ops::Range<usize>) {
    for x in xs {
        run.log(row(x)).await.unwrap();
    }
}

pub fn count(xs: std::ops::Range<i64>) -> Vec<i64> {
    xs.collect()
}

pub fn draft(bytes: &[u8]) -> ArtifactDraft {
    ArtifactDraft::new("model", "checkpoint").unwrap().with_file("weights", bytes.to_vec()).unwrap()
}
